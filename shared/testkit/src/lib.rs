//! Whole-system tests: a real nats-server, real processes, real clients.
//!
//! ```no_run
//! use std::time::Duration;
//! use herald_testkit::{System, within, ws};
//!
//! #[tokio::test]
//! async fn a_player_sees_the_game() {
//!     within(Duration::from_secs(60), async {
//!         let system = System::start().await; // nats-server, ws-edge, gm-bridge, stand-ins for Game Master and arena
//!         let edge = &system.edges[0];
//!         let socket = ws::Client::connect(&edge.ws("/ws/s1?after=0"), ws::V1).await;
//!         edge.get("/api/start?session_id=s1").await.expect_status(200);
//!         edge.get("/api/propose?session_id=s1").await.expect_status(202);
//!         socket.wait_for("the proposal", Duration::from_secs(30), |frame| frame.event() == "gm.proposal").await;
//!         socket.check_order();
//!     })
//!     .await;
//! }
//! ```
//!
//! Parts by themselves: [`Nats`], [`NatsCluster`], [`Edge`], [`Bridge`], [`Ingest`], [`Lobby`], [`SimGm`], [`SimArena`], any other program by
//! [`Launch`]. An edge is ready only when a bridge has made the streams: start the bridge first, or [`Edge::spawn`] it.
//! Every server has the users of `nats/users.conf`: each service connects as its own, the tests as `operator` ([`users`]). A
//! test fails where one of them was refused something, unless it is about that ([`NatsOptions::refuses`]).
//! Clients: [`ws`], [`sse`], [`http`]. What upstreams and networks do wrong: [`game_master`], [`proxy`]. Recorded traffic:
//! [`traces`]. Who is sent spans: [`collector`]. What documents say of all that: [`schema`].
//!
//! The rules of the house:
//! * Every test stands in [`within`]: it has a time limit of its own, and everything it started is ended with it.
//! * Every wait has a bound and, when it is over, panics with the last status. Nothing sleeps to wait for something.
//! * A failed step panics, so that dropping what was started knows of it: processes then print the end of their logs. Use
//!   `expect`, not `?`, in tests.
//! * Ports: our services bind port 0 and write a ports file. A nats-server is stopped and started on the same port, so it
//!   gets one outside of the range that the system hands out, locked against other tests ([`port::Reserved`]).
//! * A process dies with the handle to it; a watchdog ends it, with its process group, if the test program is killed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test, a failed step is a failed test, and its output is for people"
)]

pub mod chaos;
pub mod collector;
pub mod dice;
pub mod faults;
pub mod game_master;
pub mod house;
pub mod http;
pub mod logs;
pub mod nats_wire;
pub mod port;
pub mod process;
pub mod proxy;
pub mod schema;
pub mod service;
pub mod sse;
pub mod traces;
pub mod users;
pub mod ws;

mod cluster;
mod folder;
mod nats;
mod services;
mod system;
mod wait;

pub use cluster::NatsCluster;
pub use nats::{Nats, NatsOptions};
pub use service::{Launch, Service};
pub use services::{Bridge, Edge, Ingest, Lobby, Sim, SimArena, SimGm};
pub use system::{Plan, System};
pub use wait::{eventually, within};
