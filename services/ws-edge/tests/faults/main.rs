//! What must not go wrong, over a whole edge: ends planned and not, clients that are slow or dead, cursors that make no
//! sense, streams that are not what they were.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cursors;
mod drain;
mod limits;
mod slow;
mod streams;
#[path = "../edge/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole edge")]
mod support;
mod watch;
