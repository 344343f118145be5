//! gm-bridge: the only service that knows the Game Master.
//!
//! The way of the data, in order: a request arrives over NATS (`http.gm`) at [`routes`], which looks up the session
//! ([`sessions`]) and the Game Master it plays on ([`pool`]), claims the session's running action ([`action`]), opens
//! the Game Master's stream ([`game_master`], [`sse`]), cuts out what must not be shown ([`redact`]) and publishes every event,
//! acknowledged and fenced, on `gm.<session>.<type>` ([`publisher`]). Commands for the arena engine leave through
//! [`arena`].

pub mod action;
mod arena;
pub mod config;
pub mod game_master;
mod health;
mod images;
mod metrics;
mod pool;
mod publisher;
pub mod redact;
mod routes;
mod sessions;
mod splice;
pub mod sse;
