//! What goes over NATS, against a real server: JetStream requests, the life of a stream, HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed step is a failed test")]

mod batch;
mod cluster;
mod connection;
mod ensure;
mod epoch;
mod http;
mod http_format;
mod http_lifecycle;
mod jetstream;
mod pair;
mod questions;
mod replaced;
