//! Fuzzing target: rules of the configuration, and JSON of any kind to cut by them.

use std::borrow::Cow;

use bytes::Bytes;
use herald_fuzz::{Target, line};
use herald_testkit::traces;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Redaction, Redactor};

/// How deep trees are.
const DEEPEST: usize = 64;

/// JSON with everything in it that text has: members that come twice, numbers as they are written.
#[derive(Debug, PartialEq)]
enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Else(String),
}

impl Tree {
    /// `None` where a key is no text at all (half a surrogate pair), which no rule can name, and where it is deeper than a test's
    /// stack.
    fn of(json: &RawValue, deepest: usize) -> Option<Self> {
        struct Members(Vec<(String, Box<RawValue>)>);
        impl<'de> Deserialize<'de> for Members {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Pairs;
                impl<'de> Visitor<'de> for Pairs {
                    type Value = Members;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                        let mut all = Vec::new();
                        while let Some(pair) = map.next_entry::<Cow<'de, str>, Box<RawValue>>()? {
                            all.push((pair.0.into_owned(), pair.1));
                        }
                        Ok(Members(all))
                    }
                }
                deserializer.deserialize_map(Pairs)
            }
        }
        struct Elements(Vec<Box<RawValue>>);
        impl<'de> Deserialize<'de> for Elements {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct List;
                impl<'de> Visitor<'de> for List {
                    type Value = Elements;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an array")
                    }
                    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Elements, A::Error> {
                        let mut all = Vec::new();
                        while let Some(element) = list.next_element()? {
                            all.push(element);
                        }
                        Ok(Elements(all))
                    }
                }
                deserializer.deserialize_seq(List)
            }
        }
        let (text, below) = (json.get(), deepest.checked_sub(1)?);
        Some(match text.as_bytes().first()? {
            b'{' => {
                let Members(members) = serde_json::from_str(text).ok()?;
                let members = members.into_iter().map(|(key, value)| Some((key, Self::of(&value, below)?)));
                Self::Object(members.collect::<Option<_>>()?)
            }
            b'[' => {
                let Elements(elements) = serde_json::from_str(text).ok()?;
                Self::Array(elements.iter().map(|element| Self::of(element, below)).collect::<Option<_>>()?)
            }
            _ => Self::Else(text.to_owned()),
        })
    }

    fn without(self, pointer: &[String]) -> Self {
        let Some((wanted, rest)) = pointer.split_first() else { return self };
        let index = if wanted == "0" || !wanted.starts_with(['0', '+']) { wanted.parse().ok() } else { None };
        match self {
            Self::Object(members) => Self::Object(
                members
                    .into_iter()
                    .filter(|(key, _)| !rest.is_empty() || key != wanted)
                    .map(|(key, value)| if key == *wanted { (key, value.without(rest)) } else { (key, value) })
                    .collect(),
            ),
            Self::Array(elements) => Self::Array(
                elements
                    .into_iter()
                    .enumerate()
                    .filter(|(at, _)| !rest.is_empty() || Some(*at) != index)
                    .map(|(at, value)| if Some(at) == index { value.without(rest) } else { value })
                    .collect(),
            ),
            other => other,
        }
    }
}

#[test]
fn redactions() {
    let recorded = traces::text("gm-propose.turn1.sse");
    let proposal =
        recorded.lines().find_map(|line| line.strip_prefix("data: ").filter(|it| it.contains("\"proposal\"")));
    let proposal = format!("proposal:/data/gm_secret\n{}", proposal.expect("a proposal"));
    Target::new("redactions")
        .seeds([proposal.as_str()])
        .seeds([
            "proposal:/data/s\n{\"data\": {\"a\": 1, \"s\": [{}], \"b\": 2}}",
            "x:/a~1b/~0/0\n{\"a/b\":{\"~\":[1, 2]}}",
            "x:/a/1\n{\"a\":[1, 2, 3], \"a\":[4,5]}",
            "x:/\n{\"\":1,\"\\u0073\":\"}\\\"]\",\"s\":\"\\\\\"}",
            "x:/s\n{\"s\":1,\"s\":2,\"a\":3,\"s\":4}",
        ])
        .tokens([
            "/",
            "~0",
            "~1",
            "x:/",
            "\n",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"s\":",
            "\"s\"",
            "\"\\u0073\":",
            "\"a\":",
            "\"data\":",
            "\"\":",
            "\\",
            "\\\"",
            "\\ud800",
            "\\ud83c\\udfb2",
            "null",
            "1e999",
            "é",
            " ",
            "\t",
            "/0",
            "/1",
            "/a",
        ])
        .longest(1500)
        .run(|input| {
            let (rule, json) = line(input)?;
            let rule: Redaction = rule.parse().ok()?;
            assert_eq!(rule.to_string().parse(), Ok(rule.clone()));
            let redactor = Redactor::new(std::slice::from_ref(&rule));
            let cut = redactor.apply(&rule.event_type, Bytes::copy_from_slice(json));
            let Ok(value) = serde_json::from_slice::<&RawValue>(json) else { return Some((false, cut.is_ok(), 0)) };
            let cut = cut.expect("what is JSON can be cut");
            let left: &RawValue = serde_json::from_slice(&cut).expect("what is left is JSON");
            if let Some(tree) = Tree::of(value, DEEPEST) {
                assert_eq!(Tree::of(left, DEEPEST), Some(tree.without(&rule.pointer)));
            }
            Some((true, true, (json.len() - cut.len()).min(24) + 100 * rule.pointer.len().min(3)))
        });
}
