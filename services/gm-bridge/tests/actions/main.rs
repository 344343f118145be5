//! Actions, on a real nats-server: several bridges, a scripted Game Master, kills, outages.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod bursts;
mod chaos;
mod claims;
mod cluster;
mod harness;
#[allow(dead_code, reason = "only its reading of a story is used here")]
#[path = "../failover/log.rs"]
mod log;
mod lost;
mod outages;
mod queue;
mod streams;
