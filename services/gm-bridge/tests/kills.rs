//! A bridge killed at each message that it sends: a program of its own beside `failover`, as it takes its time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stdout, reason = "figures are for people")]
#![allow(dead_code, reason = "these are also used by `failover`")]

#[path = "failover/kills.rs"]
mod kills;
#[path = "failover/log.rs"]
mod log;
#[path = "failover/master.rs"]
mod master;
#[path = "failover/wire.rs"]
mod wire;
#[path = "failover/world.rs"]
mod world;
