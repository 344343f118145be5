//! The only public door: sockets, and HTTP forwarded over NATS. Knows no game.

#![forbid(unsafe_code)]

pub mod dialect;
pub mod event;
pub mod history;
pub mod intake;
pub mod websocket;
