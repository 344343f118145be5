//! Frames as clients read them.

use std::borrow::Cow;

use herald_protocol::{Cursor, Epoch};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A frame as it comes. Its payload is left as it is.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// Its name.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// What it carries.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// Stream sequence; control frames have none.
    pub seq: Option<u64>,
    /// When it was stored, ms since 1970.
    pub ts: Option<u64>,
    /// Sequence of the one before.
    pub prev: Option<u64>,
    /// Whether it is part of a snapshot.
    #[serde(default)]
    pub snapshot: bool,
}

/// A control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The life of the stream.
    Hello {
        /// Its name.
        epoch: Epoch,
        /// Its last sequence.
        head: u64,
        /// How often something is heard from the door, ms; 0 where it does not say.
        heartbeat_ms: u64,
    },
    /// What can't be delivered.
    Gap {
        /// Its first sequence.
        from: u64,
        /// Its last sequence.
        to: u64,
    },
    /// A snapshot is complete.
    Live {
        /// Everything behind that comes.
        after: u64,
    },
    /// The connection is about to end.
    Bye {
        /// Where to come back.
        after: Cursor,
        /// After how long, ms.
        retry_ms: u64,
    },
}

/// A control frame that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum OddControl {
    /// No JSON object, or fields of another type.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Without a field that it always has.
    #[error("a field is missing")]
    Missing,
    /// With a cursor that is none.
    #[error(transparent)]
    Cursor(#[from] herald_protocol::cursor::InvalidCursor),
}

impl Control {
    /// Reads what a control frame of that name carries; `None` for a name that is not known here.
    ///
    /// # Errors
    /// [`OddControl`].
    pub fn read(name: &str, data: &str) -> Result<Option<Self>, OddControl> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            epoch: Option<Epoch>,
            head: Option<u64>,
            heartbeat_ms: Option<u64>,
            from: Option<u64>,
            to: Option<u64>,
            #[serde(borrow)]
            after: Option<&'a RawValue>,
            retry_ms: Option<u64>,
        }
        let fields: Fields<'_> = serde_json::from_str(data)?;
        let after = || fields.after.ok_or(OddControl::Missing);
        let needed = |field: Option<u64>| field.ok_or(OddControl::Missing);
        Ok(Some(match name {
            "herald.hello" => Self::Hello {
                epoch: fields.epoch.ok_or(OddControl::Missing)?,
                head: needed(fields.head)?,
                heartbeat_ms: fields.heartbeat_ms.unwrap_or(0),
            },
            "herald.gap" => Self::Gap { from: needed(fields.from)?, to: needed(fields.to)? },
            "herald.live" => Self::Live { after: serde_json::from_str(after()?.get())? },
            "herald.bye" => Self::Bye {
                after: serde_json::from_str::<&str>(after()?.get())?.parse()?,
                retry_ms: needed(fields.retry_ms)?,
            },
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::frame;

    use super::*;

    #[test]
    fn control_frames_are_read_as_they_are_written() {
        let (epoch, after) = (Epoch::new(7), Cursor { epoch: Epoch::new(7), seq: 9 });
        let written = [
            frame::Control::Hello { epoch, head: 9, heartbeat_ms: 25_000 },
            frame::Control::Gap { from: 1, to: 9, reason: "trimmed" },
            frame::Control::Live { after: 9 },
            frame::Control::Bye { after: after.to_string(), retry_ms: 50 },
        ];
        let read = [
            Control::Hello { epoch, head: 9, heartbeat_ms: 25_000 },
            Control::Gap { from: 1, to: 9 },
            Control::Live { after: 9 },
            Control::Bye { after, retry_ms: 50 },
        ];
        for (written, read) in written.into_iter().zip(read) {
            assert_eq!(Control::read(written.name(), &written.data()).unwrap(), Some(read));
        }
        assert_eq!(Control::read("herald.news", "{}").unwrap(), None);
        for (name, bad) in [("herald.hello", "{}"), ("herald.gap", r#"{"from":1}"#), ("herald.bye", r#"{"after":3}"#)] {
            assert!(Control::read(name, bad).is_err(), "{bad}");
        }
    }
}
