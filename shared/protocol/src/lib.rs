//! The words every Herald service shares: ids, subjects, cursors, records, frames, close codes, header names.
//!
//! Nothing here does I/O or waits. Whatever comes from outside (a session id in a URL, an event type in a stream, a
//! cursor in a query) becomes a type of this crate before anything is done with it, and only these types can build a
//! NATS subject: a token that could reach into another session's subjects can't be constructed.

#![forbid(unsafe_code)]

pub mod close;
pub mod cursor;
pub mod frame;
pub mod grant;
pub mod headers;
pub mod id;
pub mod presence;
pub mod record;
pub mod subject;
pub mod trace;
pub mod user;

#[cfg(test)]
mod fuzz;

pub use close::Close;
pub use cursor::{Cursor, Epoch, Position};
pub use grant::Grant;
pub use id::{EventType, InstanceId, Name, Segment, SessionId, Topic};
pub use subject::{EventSubject, TopicPattern, UplinkKind};
pub use trace::TraceContext;
pub use user::UserToken;
