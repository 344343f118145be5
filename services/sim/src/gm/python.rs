//! JSON as Python's `json.dumps` writes it: with spaces behind colons and commas. The original's bytes look like this,
//! and whoever cuts in these bytes has to cope with it.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Appends a value to a text, on one line.
pub(super) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    // Everything said here is strings, numbers and JSON already: writing it into a Vec can't fail.
    let _ = value.serialize(&mut Serializer::with_formatter(out, Spaced));
}

/// A value as text, on one line.
pub(super) fn json(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    write(value, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
