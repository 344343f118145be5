//! The only public door: sockets, and HTTP forwarded over NATS. Knows no game.

#![forbid(unsafe_code)]

pub mod connection;
pub mod dialect;
pub mod drain;
pub mod event;
pub mod feed;
pub mod history;
pub mod intake;
pub mod log;
pub mod sessions;
pub mod sse;
pub mod view;
pub mod websocket;
