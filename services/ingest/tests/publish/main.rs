//! Publishing by HTTP, from a door to the sockets: real processes, a real nats-server.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

mod callers;
mod events;
mod outages;
mod repeats;
mod world;
