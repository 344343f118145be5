//! HTTP over NATS: an axum [`Router`](axum::Router) served on `http.<service>` ([`serve`]), and requests to it ([`Client`]).
//!
//! The format is public; engines in any language may speak it. Every message is a NATS message with headers; names are
//! written exactly as here, values are text.
//!
//! # Request
//!
//! Published on `http.<service>` with a reply subject; services subscribe with the queue group `<service>`.
//!
//! | header | |
//! |---|---|
//! | `Herald-Method` | `GET`, `POST` ... |
//! | `Herald-Path` | begins with `/`; percent-encoded as the client sent it |
//! | `Herald-Query` | without `?`; absent where there is none |
//! | `Herald-H-<name>` | a header of the request, name in lower case; only [`REQUEST_HEADERS`] travel; repeated where the header is |
//! | `Herald-Deadline` | milliseconds until the caller gives up (30,000 where absent) |
//! | `Herald-Door` | the configured name of the door the request came through (`event` where absent) |
//! | `Herald-User` | who sent it: verified by the door; absent where the door asks nobody |
//! | `Herald-Role` | what they are; absent where their token does not say it |
//! | `Herald-Sessions` | the sessions they may open, separated by commas, `*` for all; there where `Herald-User` is |
//! | `Herald-Body` | a subject to fetch the body from; then the message's payload is empty |
//!
//! A small body is the payload. A larger one, and any body of a request that must not be executed after its caller has gone,
//! is **fetched**: the receiver sends an empty message with `Herald-Part: N` and a reply subject to the subject named in
//! `Herald-Body`, N counting from 0, the next one only after the last one was answered. The answer carries `Herald-Part: N`,
//! the bytes, and `Herald-End: 1` if they are the last ones, or `Herald-Abort: <reason>` alone if there will be no more. A
//! part may be asked for again until the next one is. **A receiver executes such a request only after it has part 0**: a
//! caller that has given up does not hand it out, so a request that lay somewhere for too long is never executed. Whether
//! or not there is a body to fetch, a request found past its deadline is dropped without an answer.
//!
//! A message without a reply subject is ignored, and so is one whose reply subject is not below `_INBOX`: who asks names where
//! others publish, which `Herald-Body` does, too. (An instance that ends its subscription sends itself empty ones, and the
//! queue group hands some of them to its like.)
//!
//! # Who sent it
//!
//! A door that asks for tokens says who sent a request in `Herald-User`, `Herald-Role` and `Herald-Sessions`. **Nothing from
//! outside gets into them**: the headers of the HTTP request travel under `Herald-H-`, and only if they are listed, which no
//! `Herald-*` is; who may publish on `http.<service>` is a matter of NATS' permissions. The token itself stays at the door. A
//! service refuses with 403 what concerns a session that is not among them. A request without `Herald-User` came through a
//! door that is open to everybody, and is served as such. In Rust this is an extension of the request, [`Caller`], on both sides.
//!
//! # Response
//!
//! Published on the request's reply subject, in parts, `Herald-Part` counting from 0. That subject is a secret between the two
//! (128 random bits): no service can answer what another one was asked.
//!
//! | header | in | |
//! |---|---|---|
//! | `Herald-Status` | part 0 | the HTTP status, 200 to 599 |
//! | `Herald-H-<name>` | part 0 | a header of the response; hop-by-hop headers do not travel |
//! | `Herald-Part` | every part | its number |
//! | `Herald-End` | the last part | `1`; the body is complete with this part's bytes |
//! | `Herald-Abort` | instead of the last part | why the body breaks off; the client's connection is then cut, as HTTP demands |
//!
//! Most responses are one message with `Herald-Part: 0` and `Herald-End: 1`. A part that is not the last has a reply
//! subject; the receiver answers there with `Herald-Ack: N` when it has taken all parts up to N, or `Herald-Abort` when it
//! wants no more. **At most 8 parts** may be on the way: part N is sent after the acknowledgement of part N - 8. Parts
//! arrive in order; one that is missing ends the response. 15 s without a part or an acknowledgement end it too.
//!
//! # What never travels
//!
//! `Connection` and what it names, `Keep-Alive`, `Proxy-*`, `TE`, `Trailer`, `Transfer-Encoding`, `Upgrade`, 1xx responses,
//! and request headers that are not listed. `Content-Length` of a response travels: it is what a HEAD answer says, and it
//! is compared with the bytes that come. It is said once, in digits. `Access-Control-*` and `Herald-*` of a response end at the
//! door, which says itself whose pages may read an answer.
//!
//! # Discovery
//!
//! A service answers `PING`, `INFO` and `STATS` on `$SRV.<verb>`, `$SRV.<verb>.<service>` and `$SRV.<verb>.<service>.<id>`
//! as NATS' service API (ADR-32) asks for: `nats micro ls` lists it.

mod caller;
mod client;
mod fetch;
pub(crate) mod inbox;
mod micro;
mod parts;
mod respond;
mod response;
mod server;
mod wire;

#[cfg(test)]
mod fuzz;

use std::time::Duration;

pub use caller::Caller;
pub use client::{Client, ForwardError, RequestMeta};
pub use herald_protocol::headers::REQUEST_HEADERS;
pub use server::{Deadline, Door, ServeError, ServerHandle, serve};

/// So many parts of a body may be on the way unacknowledged. Part of the format.
pub const WINDOW: u64 = 8;

/// What bounds a request and its response. Both sides have their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body of a request or response, in bytes (32 MiB).
    pub max_body: u64,
    /// The largest part of a body, in bytes; a body up to this size travels in one message (128 KiB). Never more than the
    /// NATS server's `max_payload` has room for.
    pub part: usize,
    /// The longest wait for the next part, or for the acknowledgement of one (15 s).
    pub idle: Duration,
    /// Server: so many requests are executed at once (256) ...
    pub concurrent: usize,
    /// ... and so many more wait for their turn, or for their responses to be taken (1,024); beyond, the answer is 503 at
    /// once.
    pub waiting: usize,
    /// Server: a handler that has no response after this long is dropped, the answer is 500 (120 s).
    pub handler: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 32 << 20,
            part: 128 << 10,
            idle: Duration::from_secs(15),
            concurrent: 256,
            waiting: 1024,
            handler: Duration::from_secs(120),
        }
    }
}

impl Limits {
    /// What a part may hold on a connection whose server takes messages of `max_payload` bytes, headers included.
    fn part_on(&self, max_payload: usize) -> usize {
        self.part.min(max_payload.saturating_sub(HEAD_ROOM)).max(1024)
    }
}

/// What the headers of a message may take: a head beyond it is refused, a part leaves room for it.
const HEAD_ROOM: usize = 64 << 10;
