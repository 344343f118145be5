//! The only public door: sockets, and HTTP forwarded over NATS. Knows no game.

#![forbid(unsafe_code)]

pub mod alias;
pub mod answer;
pub mod config;
pub mod connection;
pub mod dialect;
pub mod door;
pub mod drain;
pub mod edge;
pub mod event;
pub mod feed;
pub mod forward;
pub mod handshake;
pub mod history;
pub mod intake;
pub mod listener;
pub mod log;
pub mod path;
pub mod pictures;
pub mod route;
pub mod sessions;
pub mod sse;
pub mod view;
pub mod watching;
pub mod websocket;
