//! Cutting out what a browser must not see: `<event type>:<JSON pointer>`, by default the Game Master's secret plan.
//!
//! The event stays as received, byte for byte, but for the member itself and its comma: nothing is parsed into a tree
//! and written anew, so numbers, spaces, key order and escapes of everything else survive. A key counts as what it
//! decodes to (`gm\u005fsecret` is `gm_secret`), and every member of that name goes where a sloppy writer repeated it:
//! which of two a browser takes is not to be relied on.

use std::{collections::HashMap, fmt, ops::Range, str::FromStr};

use bytes::Bytes;
use herald_protocol::EventType;
use serde::{Deserialize, Serialize};

/// One rule of the configuration: where events of a type hold something that is cut out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Redaction {
    event_type: EventType,
    pointer: Vec<String>,
}

/// A rule that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedaction {
    /// There is no colon.
    #[error("invalid redaction: expected <event type>:<JSON pointer>")]
    NoPointer,
    /// What stands before the colon is no event type.
    #[error("invalid redaction: no event type before the colon")]
    EventType,
    /// What stands behind the colon is no pointer to a member or element.
    #[error("invalid redaction: a JSON pointer starts with '/', and '~' stands in it only as '~0' or '~1'")]
    Pointer,
}

impl FromStr for Redaction {
    type Err = InvalidRedaction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (event_type, pointer) = text.split_once(':').ok_or(InvalidRedaction::NoPointer)?;
        let event_type = EventType::new(event_type).map_err(|_| InvalidRedaction::EventType)?;
        let pointer = pointer.strip_prefix('/').ok_or(InvalidRedaction::Pointer)?;
        let pointer = pointer.split('/').map(unescape).collect::<Option<_>>().ok_or(InvalidRedaction::Pointer)?;
        Ok(Self { event_type, pointer })
    }
}

/// RFC 6901: `~1` is a slash, `~0` a tilde, nothing else follows a tilde.
fn unescape(token: &str) -> Option<String> {
    let mut pieces = token.split('~');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        text.push(match piece.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        text.push_str(&piece[1..]);
    }
    Some(text)
}

impl fmt::Display for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.event_type)?;
        self.pointer.iter().try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

impl TryFrom<String> for Redaction {
    type Error = InvalidRedaction;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Redaction> for String {
    fn from(rule: Redaction) -> Self {
        rule.to_string()
    }
}

/// All rules, ready for use.
#[derive(Debug, Default)]
pub struct Redactor {
    pointers: HashMap<EventType, Vec<Vec<String>>>,
}

impl Redactor {
    /// Sorts the rules by event type.
    #[must_use]
    pub fn new(rules: &[Redaction]) -> Self {
        let mut pointers: HashMap<EventType, Vec<Vec<String>>> = HashMap::new();
        for rule in rules {
            pointers.entry(rule.event_type.clone()).or_default().push(rule.pointer.clone());
        }
        Self { pointers }
    }

    /// The event without what its rules name; the same bytes where they name nothing in it.
    ///
    /// # Errors
    /// [`Malformed`] where `json` is not JSON: it can't be said what of it is secret, so it must not be published.
    pub fn apply(&self, event_type: &EventType, json: Bytes) -> Result<Bytes, Malformed> {
        let Some(pointers) = self.pointers.get(event_type) else { return Ok(json) };
        pointers.iter().try_fold(json, |json, pointer| Ok(cut(&json, pointer)?.map_or(json, Bytes::from)))
    }
}

/// Text that was to be cut and is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at byte {0}")]
pub struct Malformed(usize);

/// Cuts every member (or element) that `pointer` leads to. `None` where there is none.
fn cut(json: &[u8], pointer: &[String]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut scanner = Scanner { json, at: 0, cuts: Vec::new() };
    scanner.search(pointer)?;
    if scanner.cuts.is_empty() {
        return Ok(None);
    }
    let mut rest = Vec::with_capacity(json.len());
    let mut from = 0;
    for Range { start, end } in scanner.cuts {
        rest.extend_from_slice(&json[from..start]);
        from = end;
    }
    rest.extend_from_slice(&json[from..]);
    Ok(Some(rest))
}

/// Walks over JSON text without building anything. It checks only what it needs to find its way.
struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
    /// What to leave out, ascending and apart from each other.
    cuts: Vec<Range<usize>>,
}

impl Scanner<'_> {
    /// Walks over the value at the current position and notes what `pointer` leads to in it. The recursion is as deep
    /// as the pointer is long, however deep the value.
    fn search(&mut self, pointer: &[String]) -> Result<(), Malformed> {
        let (Some((wanted, rest)), Some(open)) = (pointer.split_first(), self.peek()) else { return self.skip() };
        let close = match open {
            b'{' => b'}',
            b'[' => b']',
            _ => return self.skip(),
        };
        self.at += 1;
        let mut kept_before = false;
        let mut comma = self.at;
        for index in 0_usize.. {
            let start = match self.peek() {
                Some(byte) if byte == close && index == 0 => break,
                Some(_) => self.at,
                None => return Err(Malformed(self.at)),
            };
            let found = if open == b'{' { self.key_is(wanted)? } else { index_is(wanted, index) };
            match (found, rest.is_empty()) {
                (false, _) | (true, true) => self.skip()?,
                (true, false) => self.search(rest)?,
            }
            let end = self.at;
            let separator = self.peek().ok_or(Malformed(self.at))?;
            let next_comma = self.at;
            self.at += 1;
            let last = separator == close;
            if !last && separator != b',' {
                return Err(Malformed(next_comma));
            }
            match found && rest.is_empty() {
                false => kept_before = true,
                // With a neighbour left of it, its left comma goes; else what separates it from the right one.
                true if kept_before => self.cuts.push(comma..end),
                true if last => self.cuts.push(start..end),
                true => {
                    self.peek();
                    self.cuts.push(start..self.at);
                }
            }
            comma = next_comma;
            if last {
                return Ok(());
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a key and its colon, and says whether it decodes to `wanted`.
    fn key_is(&mut self, wanted: &str) -> Result<bool, Malformed> {
        let start = self.at;
        self.string()?;
        let raw = &self.json[start..self.at];
        let same = if raw.contains(&b'\\') {
            serde_json::from_slice::<String>(raw).is_ok_and(|key| key == wanted)
        } else {
            &raw[1..raw.len() - 1] == wanted.as_bytes()
        };
        if self.peek() != Some(b':') {
            return Err(Malformed(self.at));
        }
        self.at += 1;
        Ok(same)
    }

    /// Walks over one value of any depth.
    fn skip(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or(Malformed(self.at))? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                _ => self.scalar()?,
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Walks over a number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.json.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)) {
            self.at += 1;
        }
        if self.at == start { Err(Malformed(start)) } else { Ok(()) }
    }

    /// Walks over a string, whose opening quote is next.
    fn string(&mut self) -> Result<(), Malformed> {
        if self.json.get(self.at) != Some(&b'"') {
            return Err(Malformed(self.at));
        }
        self.at += 1;
        loop {
            match self.json.get(self.at).ok_or(Malformed(self.at))? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is no white space; stays on it.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.json.get(self.at) {
            self.at += 1;
        }
        self.json.get(self.at).copied()
    }
}

/// Whether a pointer's token is this index: decimal, without leading zeros.
fn index_is(token: &str, index: usize) -> bool {
    (token == "0" || !token.starts_with(['0', '+'])) && token.parse() == Ok(index)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn cut_text(json: &str, rule: &str) -> String {
        let rule: Redaction = rule.parse().unwrap();
        let redactor = Redactor::new(std::slice::from_ref(&rule));
        let rest = redactor.apply(&rule.event_type, Bytes::copy_from_slice(json.as_bytes())).unwrap();
        String::from_utf8(rest.to_vec()).unwrap()
    }

    #[test]
    fn the_member_goes_with_its_comma_and_nothing_else_moves() {
        for (json, expected) in [
            (r#"{"data": {"a": 1, "s": [{}], "b": 2}}"#, r#"{"data": {"a": 1, "b": 2}}"#),
            (r#"{"data": {"s": "x", "b": 1.0e0}}"#, r#"{"data": {"b": 1.0e0}}"#),
            (r#"{"data": {"b": 1, "s": {"s": 2}}}"#, r#"{"data": {"b": 1}}"#),
            (r#"{"data": {"s": null} }"#, r#"{"data": {} }"#),
            (r#"{"data":{"s":1,"s":2,"a":3,"s":4}}"#, r#"{"data":{"a":3}}"#),
            (r#"{"data":{"s":1},"data":{"s":2,"t":3}}"#, r#"{"data":{},"data":{"t":3}}"#),
            (r#"{"data":{"\u0073":"}\"]","a":"\\"}}"#, r#"{"data":{"a":"\\"}}"#),
            (r#"{"data":["s",{"s":1}]}"#, r#"{"data":["s",{"s":1}]}"#),
            (r#"{"data":"s"}"#, r#"{"data":"s"}"#),
            (r#"{"s":1}"#, r#"{"s":1}"#),
            ("[]", "[]"),
            ("5", "5"),
        ] {
            assert_eq!(cut_text(json, "proposal:/data/s"), expected, "{json}");
        }
    }

    #[test]
    fn elements_and_odd_keys_can_be_named_too() {
        assert_eq!(cut_text(r#"{"a":[1, 2, 3]}"#, "x:/a/1"), r#"{"a":[1, 3]}"#);
        assert_eq!(cut_text(r#"{"a":[1, 2, 3]}"#, "x:/a/0"), r#"{"a":[2, 3]}"#);
        assert_eq!(cut_text(r#"{"a":[1]}"#, "x:/a/0"), r#"{"a":[]}"#);
        assert_eq!(cut_text(r#"{"a":[1]}"#, "x:/a/00"), r#"{"a":[1]}"#);
        assert_eq!(cut_text(r#"{"a/b":{"~":1}}"#, "x:/a~1b/~0"), r#"{"a/b":{}}"#);
        assert_eq!(cut_text(r#"{"":1}"#, "x:/"), "{}");
    }

    #[test]
    fn rules_are_read_and_shown_alike_and_bad_ones_are_refused() {
        for good in ["proposal:/data/gm_secret", "x:/", "x:/a~1b/~0/0"] {
            assert_eq!(good.parse::<Redaction>().unwrap().to_string(), good);
        }
        for bad in ["", "proposal", "proposal:", "proposal:data", "_action:/n", "a.b:/x", "x:/~", "x:/~2"] {
            assert!(bad.parse::<Redaction>().is_err(), "{bad}");
        }
    }

    #[test]
    fn other_types_pass_untouched_and_broken_text_is_never_passed() {
        let redactor = Redactor::new(&["proposal:/a".parse().unwrap()]);
        let other = EventType::new("images").unwrap();
        assert_eq!(redactor.apply(&other, Bytes::from_static(b"{\"a\":1}")).unwrap(), "{\"a\":1}");
        let proposal = EventType::new("proposal").unwrap();
        for broken in ["", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1;}", "{\"", "{\"\\", "[1", "{,}", "{\"a\":}"]
        {
            assert!(redactor.apply(&proposal, Bytes::from_static(broken.as_bytes())).is_err(), "{broken}");
        }
    }

    /// Any JSON, with a few keys that come up often enough for the pointer to meet them.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c\"\\\\{}\\[\\],: é🎲\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab/~\"é]{1,2}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// Every pointer into a value.
    fn pointers(value: &Value, prefix: &[String], all: &mut Vec<Vec<String>>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(elements) => {
                elements.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (token, child) in children {
            let path = [prefix, &[token]].concat();
            pointers(child, &path, all);
            all.push(path);
        }
    }

    fn without(value: &mut Value, path: &[String]) {
        let Some((last, parents)) = path.split_last() else { return };
        let parent = parents.iter().fold(value, |value, token| match value {
            Value::Array(elements) => &mut elements[token.parse::<usize>().unwrap()],
            other => &mut other[token.as_str()],
        });
        match parent {
            Value::Object(members) => drop(members.remove(last)),
            Value::Array(elements) => drop(elements.remove(last.parse().unwrap())),
            _ => unreachable!(),
        }
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_a_parser_would_have_left(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut all = Vec::new();
            pointers(&value, &[], &mut all);
            for path in all {
                let mut expected = value.clone();
                without(&mut expected, &path);
                let rest = cut(text.as_bytes(), &path).unwrap().unwrap();
                prop_assert_eq!(serde_json::from_slice::<Value>(&rest).unwrap(), expected);
                prop_assert!(rest.len() < text.len());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}|[\\[\\]{}\",:\\\\a0 ]{0,40}") {
            let _ = cut(text.as_bytes(), &["a".to_owned(), "0".to_owned()]);
        }
    }
}
