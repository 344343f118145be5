//! Dialects: how an event becomes the text of a frame. Pure functions on bytes.
//!
//! Payloads are cut and spliced, never rebuilt: numbers that no double holds, repeated keys and the order of members
//! reach the client as the engine wrote them. What every dialect has in common: control events are never shown, a
//! payload that is JSON passes, other text becomes a JSON string (`raw` leaves it as it is), and what is not UTF-8 is no
//! frame at all.

mod app;
mod gm;
mod json;

use std::{fmt, str::FromStr, sync::Arc};

use herald_protocol::{
    frame::{Tail, data_json, event_head},
    subject::is_control,
};
use serde::{Deserialize, Serialize};

pub(crate) use app::AS_THEY_ARE;
pub use app::Avatars;

/// A dialect by its name in configuration and in `?dialect=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DialectName {
    /// `{"event":"<root>.<topic>","data":<payload>,"seq":N,"ts":MS}`.
    #[default]
    Event,
    /// The published React frontend, which misreads the frames of its own relay.
    App,
    /// The Game Master's own socket.
    Gm,
    /// The payload is the frame, whatever text it is.
    Raw,
}

/// A name that is no dialect's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown dialect: expected event, app, gm or raw")]
pub struct UnknownDialect;

impl FromStr for DialectName {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "event" => Ok(Self::Event),
            "app" => Ok(Self::App),
            "gm" => Ok(Self::Gm),
            "raw" => Ok(Self::Raw),
            _ => Err(UnknownDialect),
        }
    }
}

impl fmt::Display for DialectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event => "event",
            Self::App => "app",
            Self::Gm => "gm",
            Self::Raw => "raw",
        })
    }
}

/// A dialect with what it needs to know. Views are interned by it, so it is cheap to clone and to compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// [`DialectName::Event`].
    #[default]
    Event,
    /// [`DialectName::App`], with pictures of the agents if the listener has some.
    App(Option<Arc<Avatars>>),
    /// [`DialectName::Gm`].
    Gm,
    /// [`DialectName::Raw`].
    Raw,
}

/// A frame without its end: an open JSON object, encoded once, which [`Head::finish`] numbers for each kind of reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    open: Vec<u8>,
    end: End,
}

/// What a frame ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// `seq` and `ts`, for every client.
    Numbers,
    /// A brace; numbers for clients of `herald.v1` alone.
    Brace,
    /// Nothing: it is whole.
    Nothing,
}

impl Head {
    /// The whole text. A [`Tail`] with `prev` or `snapshot` makes the frame of a `herald.v1` client.
    #[must_use]
    pub fn finish(mut self, tail: Tail) -> Vec<u8> {
        Self::end(self.end, tail, &mut self.open);
        self.open
    }

    /// Appends the whole text to `out`, for a head that serves several readers.
    pub fn write(&self, tail: Tail, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.open);
        Self::end(self.end, tail, out);
    }

    /// Appends the whole text of a message that is no event: it has no numbers.
    pub fn write_bare(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.open);
        if self.end != End::Nothing {
            out.push(b'}');
        }
    }

    /// How long the whole text is at most.
    #[must_use]
    pub const fn longest(&self) -> usize {
        match self.end {
            End::Nothing => self.open.len(),
            End::Numbers | End::Brace => self.open.len() + Tail::LONGEST,
        }
    }

    fn end(end: End, tail: Tail, out: &mut Vec<u8>) {
        match end {
            End::Numbers => tail.append(out),
            End::Brace if tail.prev.is_some() || tail.snapshot => tail.append(out),
            End::Brace => out.push(b'}'),
            End::Nothing => {}
        }
    }
}

impl Dialect {
    /// The dialect of that name; `avatars` are used where the dialect shows pictures.
    #[must_use]
    pub fn new(name: DialectName, avatars: Option<&Arc<Avatars>>) -> Self {
        match name {
            DialectName::Event => Self::Event,
            DialectName::App => Self::App(avatars.cloned()),
            DialectName::Gm => Self::Gm,
            DialectName::Raw => Self::Raw,
        }
    }

    /// Whether clients of this dialect see such events, as far as the subject tells.
    #[must_use]
    pub fn shows(&self, root: &str, topic: &str) -> bool {
        !is_control(topic)
            && match self {
                Self::Event | Self::App(_) | Self::Raw => true,
                Self::Gm => gm::shows(root, topic),
            }
    }

    /// The frame of an event, up to its numbers. `None`: the payload is not UTF-8, the event is to be skipped and
    /// counted. Ask [`Dialect::shows`] first.
    #[must_use]
    pub fn head(&self, root: &str, topic: &str, payload: &[u8]) -> Option<Head> {
        if *self == Self::Raw {
            return std::str::from_utf8(payload).ok().map(|text| Head { open: text.into(), end: End::Nothing });
        }
        let data = data_json(payload)?;
        Some(match self {
            Self::App(avatars) => Head { open: app::head(root, topic, &data, avatars.as_deref()), end: End::Numbers },
            Self::Gm => Head { open: gm::head(topic, &data), end: End::Brace },
            Self::Event | Self::Raw => Head { open: event_head(root, topic, &data), end: End::Numbers },
        })
    }
}

#[cfg(test)]
mod fuzz;
