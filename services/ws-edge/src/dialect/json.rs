//! Finding the members of JSON text that is known to be valid, as byte ranges: enough to cut and splice.

use std::ops::Range;

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its key, with quotes.
    pub(super) key: Range<usize>,
    /// Its value.
    pub(super) value: Range<usize>,
}

impl Member {
    /// Whether this is the member called `name`, however its key is escaped.
    pub(super) fn is(&self, text: &[u8], name: &str) -> bool {
        let key = &text[self.key.clone()];
        let Some(plain) = key.get(1..key.len().saturating_sub(1)) else { return false };
        if plain.contains(&b'\\') {
            serde_json::from_slice::<String>(key).is_ok_and(|key| key == name)
        } else {
            plain == name.as_bytes()
        }
    }
}

/// The members of the object that `range` of `text` is. `None` where it is no object.
pub(super) fn members(text: &[u8], range: Range<usize>) -> Option<Vec<Member>> {
    let mut scan = Scan { text, at: range.start };
    let mut members = Vec::new();
    scan.enter(b'{')?;
    while !scan.leave(b'}') {
        let key = scan.value();
        scan.skip(b':');
        let value = scan.value();
        members.push(Member { key, value });
        scan.skip(b',');
    }
    Some(members)
}

/// The elements of the array that `range` of `text` is. `None` where it is no array.
pub(super) fn elements(text: &[u8], range: Range<usize>) -> Option<Vec<Range<usize>>> {
    let mut scan = Scan { text, at: range.start };
    let mut elements = Vec::new();
    scan.enter(b'[')?;
    while !scan.leave(b']') {
        elements.push(scan.value());
        scan.skip(b',');
    }
    Some(elements)
}

/// The member called `name`; of several the last one, which is the one JavaScript and Python see.
pub(super) fn last<'a>(text: &[u8], members: &'a [Member], name: &str) -> Option<&'a Member> {
    members.iter().rev().find(|member| member.is(text, name))
}

/// The string that `range` of `text` is, decoded. `None` where it is no string or holds half a surrogate pair.
pub(super) fn string(text: &[u8], range: Range<usize>) -> Option<String> {
    serde_json::from_slice(&text[range]).ok()
}

/// Appends `text` as a JSON string.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else if let Ok(quoted) = serde_json::to_vec(text) {
        out.extend_from_slice(&quoted);
    }
}

/// A text and the pieces to put into it.
pub(super) struct Splice<'a> {
    text: &'a [u8],
    /// In whatever order they were found: position and what goes there, replacing the bytes up to the second position.
    pieces: Vec<(Range<usize>, Vec<u8>)>,
}

impl<'a> Splice<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, pieces: Vec::new() }
    }

    pub(super) fn insert(&mut self, at: usize, piece: Vec<u8>) {
        self.pieces.push((at..at, piece));
    }

    pub(super) fn replace(&mut self, range: Range<usize>, piece: Vec<u8>) {
        self.pieces.push((range, piece));
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.pieces.sort_by_key(|(range, _)| range.start);
        let more: usize = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
        let mut out = Vec::with_capacity(self.text.len() + more);
        let mut done = 0;
        for (range, piece) in &self.pieces {
            out.extend_from_slice(&self.text[done..range.start]);
            out.extend_from_slice(piece);
            done = range.end;
        }
        out.extend_from_slice(&self.text[done..]);
        out
    }
}

/// A walk over valid JSON. On anything else it stays within the text and ends, with ranges that mean nothing.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn skip(&mut self, wanted: u8) {
        if self.peek() == Some(wanted) {
            self.at += 1;
        }
    }

    fn enter(&mut self, open: u8) -> Option<()> {
        (self.peek()? == open).then(|| self.at += 1)
    }

    fn leave(&mut self, close: u8) -> bool {
        self.peek().is_none_or(|byte| byte == close)
    }

    /// Steps over one value and says where it was.
    fn value(&mut self) -> Range<usize> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') => self.nested(),
            _ => {
                let rest = self.text.get(start..).unwrap_or_default();
                let len =
                    rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'));
                self.at = start + len.unwrap_or(rest.len()).max(usize::from(!rest.is_empty()));
            }
        }
        start..self.at
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => return,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        self.at = self.text.len();
    }

    fn nested(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}
