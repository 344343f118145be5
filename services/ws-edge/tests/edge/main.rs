//! A whole edge: the real binary, a real nats-server, real clients, and an engine of our own behind it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aliases;
mod cursors;
mod door;
mod proxies;
mod selftest;
mod shelf;
mod sockets;
mod support;
