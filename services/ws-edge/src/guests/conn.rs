//! What a connection is called.

use std::{fmt, str::FromStr};

use rand::RngExt as _;
use serde::{Serialize, Serializer};

/// How long a name is.
const LONG: usize = 16;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The name of a live connection: 16 random letters and digits, 82 bits. Who knows it may send to it: it is for edges, engines
/// and operators, and for no other client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conn([u8; LONG]);

/// A text that is the name of no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 16 lower-case letters and digits")]
pub struct InvalidConn;

impl Conn {
    /// A fresh one.
    #[must_use]
    pub fn random() -> Self {
        let mut random = rand::rng();
        Self(std::array::from_fn(|_| ALPHABET[random.random_range(0..ALPHABET.len())]))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Its letters are those of the alphabet.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Conn {
    type Err = InvalidConn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; LONG] = text.as_bytes().try_into().map_err(|_| InvalidConn)?;
        if bytes.iter().all(|byte| ALPHABET.contains(byte)) { Ok(Self(bytes)) } else { Err(InvalidConn) }
    }
}

impl fmt::Display for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({self})")
    }
}

impl Serialize for Conn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_no_two_are_the_same() {
        let (one, other) = (Conn::random(), Conn::random());
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one));
        for bad in ["", "abc", "ABCDEFGHIJKLMNOP", "abcdefghijklmno.", "abcdefghijklmnopq", "abcdefghijklmné"] {
            assert_eq!(bad.parse::<Conn>(), Err(InvalidConn), "{bad}");
        }
    }
}
