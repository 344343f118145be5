//! The lobby, from a door to the sockets: real processes, a real nats-server, three instances.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

mod answers;
mod crashes;
mod crowds;
mod inputs;
mod outages;
mod viewers;
mod world;
