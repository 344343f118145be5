//! Intake and history on a real nats-server: what is taken in once, what is read back whole, whatever happens in between.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed step is a failed test")]

#[path = "stream/cluster.rs"]
mod cluster;
#[path = "stream/history.rs"]
mod history;
#[path = "stream/intake.rs"]
mod intake;
#[path = "stream/rewritten.rs"]
mod rewritten;
#[path = "stream/world.rs"]
mod world;
