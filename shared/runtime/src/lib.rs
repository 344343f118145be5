//! What every Herald service needs once: configuration, logs, metrics, a NATS connection, health, ordered shutdown.
//!
//! The way of a process, in order:
//!
//! 1. [`service::main`] parses the flags, loads the configuration ([`config`]; exit 64 with every fault named), starts
//!    logs ([`telemetry`]), metrics ([`metrics`]) and traces ([`traces`]), opens the operations port ([`operations`]) and calls the service's
//!    `start` with its configuration and a [`Context`].
//! 2. The service connects ([`nats::connect`]: waits for a server that is not there yet), opens its listeners
//!    ([`Context::listen`]) and says that it is up ([`health::Health::started`]).
//! 3. SIGTERM or SIGINT cancels [`shutdown::Shutdown::token`]; `start` drains and returns; exit 0. A second signal, or
//!    the end of the shutdown's time, forces exit 1.
//!
//! Invariants: the environment is read by [`config`] alone; a secret is in no log and in no printed configuration; a
//! process that cannot reach NATS stays alive, says so in `/readyz`, and recovers by itself.

pub mod bucket;
pub mod config;
pub mod health;
pub mod http_over_nats;
pub mod jetstream;
pub mod metrics;
pub mod nats;
pub mod operations;
pub mod planted;
pub mod questions;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod traces;

mod context;

pub use context::{Context, ListenError};
