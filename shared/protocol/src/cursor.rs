//! Cursors: where a connection stands in a log, and in which life of that log.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of a stream's life: 8 lower-case hex digits in its metadata. A stream that was recreated or rolled back
/// gets another one, so that an old cursor is never misread as a place in the new log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Epoch(u32);

impl Epoch {
    /// An epoch from its number.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The epoch of a stream that was created at `created` (as the server writes it) and whose last common sequence
    /// with its former life is `seq`. A hash (FNV-1a folded to 32 bits), so that two owners write the same.
    #[must_use]
    pub fn of(created: &str, seq: u64) -> Self {
        // FNV-1a, 64 bit: offset basis and prime of the published algorithm.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in created.bytes().chain(seq.to_be_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let bytes = hash.to_be_bytes();
        let (high, low) = (&bytes[..4], &bytes[4..]);
        Self(u32::from_be_bytes([high[0] ^ low[0], high[1] ^ low[1], high[2] ^ low[2], high[3] ^ low[3]]))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid cursor: expected '<epoch>-<sequence>' (8 hex digits, a number) or a sequence alone")]
pub struct InvalidCursor;

impl FromStr for Epoch {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex {
            return Err(InvalidCursor);
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| InvalidCursor)
    }
}

impl TryFrom<String> for Epoch {
    type Error = InvalidCursor;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.to_string()
    }
}

/// A place in a log: everything up to and including `seq` is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Which life of the stream.
    pub epoch: Epoch,
    /// The stream sequence of the last event behind it, 0 before the first.
    pub seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, seq) = text.split_once('-').ok_or(InvalidCursor)?;
        Ok(Self { epoch: epoch.parse()?, seq: sequence(seq)? })
    }
}

/// Where a client says it stands, in `after=` or `Last-Event-ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// A whole cursor: its epoch is checked.
    Cursor(Cursor),
    /// A sequence alone, for people: the epoch is not checked.
    Seq(u64),
}

impl Position {
    /// The sequence in it.
    #[must_use]
    pub const fn seq(self) -> u64 {
        match self {
            Self::Cursor(cursor) => cursor.seq,
            Self::Seq(seq) => seq,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cursor(cursor) => cursor.fmt(f),
            Self::Seq(seq) => seq.fmt(f),
        }
    }
}

impl FromStr for Position {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('-') { text.parse().map(Self::Cursor) } else { sequence(text).map(Self::Seq) }
    }
}

/// Digits of the longest sequence: more of them are zeros that mean nothing.
const LONGEST: usize = 20;

/// Digits only: `parse::<u64>` alone would also take `+5`.
fn sequence(text: &str) -> Result<u64, InvalidCursor> {
    let long = text.len() > LONGEST;
    if text.is_empty() || long || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidCursor);
    }
    text.parse().map_err(|_| InvalidCursor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positions_are_cursors_or_bare_sequences() {
        assert_eq!("0".parse(), Ok(Position::Seq(0)));
        let cursor = Cursor { epoch: Epoch::new(0xdead_beef), seq: 7 };
        assert_eq!("deadbeef-7".parse(), Ok(Position::Cursor(cursor)));
        for bad in
            ["", "-1", "x", "+5", "1.5", "deadbeef-", "deadbee-1", "DEADBEEF-1", "deadbeef--1", "deadbeef-1-2", " 1"]
        {
            assert_eq!(bad.parse::<Position>(), Err(InvalidCursor), "{bad:?}");
        }
        assert!("18446744073709551616".parse::<Position>().is_err(), "beyond u64");
        assert!("000000000000000000001".parse::<Position>().is_err(), "too long");
    }

    #[test]
    fn an_epoch_depends_on_creation_and_sequence_alone() {
        let epoch = Epoch::of("2026-11-21T10:00:00.123456789Z", 0);
        assert_eq!(epoch, Epoch::of("2026-11-21T10:00:00.123456789Z", 0));
        assert_ne!(epoch, Epoch::of("2026-11-21T10:00:00.123456788Z", 0));
        assert_ne!(epoch, Epoch::of("2026-11-21T10:00:00.123456789Z", 1));
    }

    proptest! {
        #[test]
        fn cursors_read_back_what_they_write(epoch: u32, seq: u64) {
            let cursor = Cursor { epoch: Epoch::new(epoch), seq };
            prop_assert_eq!(cursor.to_string().parse(), Ok(Position::Cursor(cursor)));
            prop_assert_eq!(seq.to_string().parse(), Ok(Position::Seq(seq)));
        }
    }
}
