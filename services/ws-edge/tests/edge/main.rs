//! A whole edge: the real binary, a real nats-server, real clients, and an engine of our own behind it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod aliases;
mod attacks;
mod auth;
mod cursors;
mod door;
mod ends;
mod files;
mod floods;
#[path = "../../src/identity/forge.rs"]
mod forge;
mod inspect;
mod keys;
mod limits;
mod options;
mod page;
mod presence;
mod proxies;
mod removals;
mod replay;
mod selftest;
mod shelf;
mod sockets;
mod support;
mod uplink;
