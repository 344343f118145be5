//! Replaces the Game Master's session id in its JSON by ours, as bytes: everything else stays as the Game Master wrote it.

use std::{fmt, ops::Range};

use bytes::Bytes;
use herald_protocol::SessionId;
use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The Game Master's answer as a client of ours sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spliced {
    /// The JSON with our session id.
    pub(crate) body: Bytes,
    /// The Game Master's own id, if the answer had one.
    pub(crate) gm_session_id: Option<String>,
}

/// An answer that is no JSON object.
#[derive(Debug, thiserror::Error)]
#[error("the game master's answer is no json object")]
pub(crate) struct NotAnObject(#[source] serde_json::Error);

/// Puts `session` in the place of the object's own `session_id` and adds that one as `gm_session_id`. An object without
/// `session_id` is left as it is.
pub(crate) fn splice(json: &Bytes, session: &SessionId) -> Result<Spliced, NotAnObject> {
    let Some(found) = find(json)? else {
        return Ok(Spliced { body: json.clone(), gm_session_id: None });
    };
    let theirs = &json[found.clone()];
    let mut body = Vec::with_capacity(json.len() + session.as_str().len() + theirs.len() + 24);
    body.extend_from_slice(&json[..found.start]);
    // A session id needs no escapes.
    body.extend_from_slice(format!("\"{session}\",\"gm_session_id\":").as_bytes());
    body.extend_from_slice(theirs);
    body.extend_from_slice(&json[found.end..]);
    let gm_session_id = serde_json::from_slice(theirs).ok();
    Ok(Spliced { body: body.into(), gm_session_id })
}

/// Where the value of the top-level `session_id` stands. Of several the last one, as every parser takes that.
fn find(json: &[u8]) -> Result<Option<Range<usize>>, NotAnObject> {
    let mut parser = serde_json::Deserializer::from_slice(json);
    let found = parser.deserialize_map(Finder { json }).map_err(NotAnObject)?;
    parser.end().map_err(NotAnObject)?;
    Ok(found)
}

struct Finder<'a> {
    json: &'a [u8],
}

impl<'de> Visitor<'de> for Finder<'de> {
    type Value = Option<Range<usize>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == "session_id" {
                let value: &'de RawValue = map.next_value()?;
                // The value is borrowed from `json`: its address tells where in it.
                let start = value.get().as_ptr().addr() - self.json.as_ptr().addr();
                found = Some(start..start + value.get().len());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spliced(json: &str) -> (String, Option<String>) {
        let session = SessionId::new("S-1").unwrap();
        let spliced = splice(&Bytes::copy_from_slice(json.as_bytes()), &session).unwrap();
        (String::from_utf8(spliced.body.to_vec()).unwrap(), spliced.gm_session_id)
    }

    #[test]
    fn nothing_but_the_id_is_touched() {
        let table = [
            (r#"{"session_id":"G","turn":1.0}"#, r#"{"session_id":"S-1","gm_session_id":"G","turn":1.0}"#),
            (
                "{ \"a\" : 1e2 , \"session_id\" : \"G\" }\n",
                "{ \"a\" : 1e2 , \"session_id\" : \"S-1\",\"gm_session_id\":\"G\" }\n",
            ),
            (r#"{"session\u005fid":"G"}"#, r#"{"session\u005fid":"S-1","gm_session_id":"G"}"#),
            (
                r#"{"x":{"session_id":"in"},"session_id":"G"}"#,
                r#"{"x":{"session_id":"in"},"session_id":"S-1","gm_session_id":"G"}"#,
            ),
        ];
        for (json, expected) in table {
            assert_eq!(spliced(json), (expected.to_owned(), Some("G".to_owned())), "{json}");
        }
        assert_eq!(spliced(r#"{"turn":1,"é":"\u00e9"}"#), (r#"{"turn":1,"é":"\u00e9"}"#.to_owned(), None));
        assert_eq!(spliced(r#"{"session_id":5}"#), (r#"{"session_id":"S-1","gm_session_id":5}"#.to_owned(), None));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let session = SessionId::new("S").unwrap();
        for odd in ["", "[]", "null", "\"x\"", "{", "<html>", "{\"session_id\":\"G\"} x", "{\"session_id\":}"] {
            assert!(splice(&Bytes::copy_from_slice(odd.as_bytes()), &session).is_err(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_object_holds_survives(before in "[a-z]{0,5}", id in "\\PC{0,20}", number: i64) {
            let json = serde_json::json!({ before: number, "session_id": id, "z": [number, null] });
            let (body, gm) = spliced(&json.to_string());
            let mut read: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(gm.as_deref(), Some(id.as_str()));
            prop_assert_eq!(read["session_id"].take(), "S-1");
            prop_assert_eq!(read["gm_session_id"].as_str(), Some(id.as_str()));
            prop_assert_eq!(&read["z"], &json["z"]);
        }
    }
}
