//! How much one address, user or session may have and ask for.

use herald_runtime::config::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

/// How much one address, user or session may have and ask for. A limit of 0 is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LimitsConfig {
    /// Connections of one address at a time, those that watch included; an IPv6 address counts as its /64. Further ones are
    /// answered 429, or closed with 1013. Default: 256, but none for loopback; what is set holds for loopback too.
    pub connections_per_address: Option<usize>,
    /// Connections of one user that watch at a time; further ones are closed with 1013, or answered 429. Default 32.
    pub connections_per_user: usize,
    /// Connections that watch one session at a time; further ones likewise. Default 0.
    pub connections_per_session: usize,
    /// Handshakes a second: requests for a socket or an event stream; further ones are answered 503. Default 5000: two cores
    /// bring back some 2500 connections a second by their cursors, and open 20000 that have nothing to catch up with.
    pub handshakes: u32,
    /// Handshakes at once, where there were none for a while; 0: as many as in a second. Default 0.
    pub handshakes_burst: u32,
    /// Handshakes of one address a second, and as many at once; further ones are answered 429. Default: 100, but none for
    /// loopback; what is set holds for loopback too.
    pub handshakes_per_address: Option<u32>,
    /// Connections at a time whose first request is still to come. With each further one the one that came first is closed, if
    /// it had `opening_grace`; else the further one is answered 503. Default 8192.
    pub max_opening: usize,
    /// How long a connection may always take to send the head of its first request (where there are not too many:
    /// `http.header_timeout`). Default 2s.
    pub opening_grace: HumanDuration,
    /// Requests of one address a minute on forwards marked `commands`, and as many at once; further ones are answered 429.
    /// Default: 120, but none for loopback and on listeners on loopback without identity; what is set holds there too.
    pub commands_per_address: Option<u32>,
    /// Such requests of one user a minute. Default 60.
    pub commands_per_user: u32,
    /// Such requests in one session a minute. Default: 30, but none on listeners on loopback without identity; what is set
    /// holds there too.
    pub commands_per_session: Option<u32>,
    /// Frames a second that a client may send up its socket, and as many at once; its socket is read no faster. Default 50.
    pub inbound_frames: u32,
    /// Bytes a second that a client may send up its socket, and as many at once; its socket is read no faster. Default 256KiB.
    pub inbound_bytes: ByteSize,
    /// How long a client may have sent more than that without a pause before it is closed with 1008. Default 20s.
    pub inbound_patience: HumanDuration,
    /// Addresses, users and sessions that each of these rates tells apart; further ones share places. Default 65536.
    pub max_keys: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections_per_address: None,
            connections_per_user: 32,
            connections_per_session: 0,
            handshakes: 5_000,
            handshakes_burst: 0,
            handshakes_per_address: None,
            max_opening: 8192,
            opening_grace: HumanDuration::from_secs(2),
            commands_per_address: None,
            commands_per_user: 60,
            commands_per_session: None,
            inbound_frames: 50,
            inbound_bytes: ByteSize::from_kib(256),
            inbound_patience: HumanDuration::from_secs(20),
            max_keys: 65_536,
        }
    }
}
