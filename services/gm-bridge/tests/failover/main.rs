//! Bridges that die, halt, or are stopped, as processes of their own: what becomes of their actions.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stdout, reason = "figures are for people")]
#![allow(dead_code, reason = "these are also used by `kills`")]

mod log;
mod master;
mod masters;
mod outages;
mod pauses;
mod random;
mod removals;
mod rolling;
mod wire;
mod world;
