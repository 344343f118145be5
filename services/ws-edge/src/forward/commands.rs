//! Which session a command is in, as far as that can be told without knowing the service.

use std::{borrow::Cow, collections::HashMap};

use herald_protocol::SessionId;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

/// The session that a segment of a path is, percent-encoded as it came.
pub(super) fn session_in_path(segment: &str) -> Option<SessionId> {
    SessionId::new(&percent_decode_str(segment).decode_utf8().ok()?).ok()
}

/// The session that the parameter `name` of a query gives. What is none is the service's to refuse.
pub(super) fn session_in_query(query: &str, name: &str) -> Option<SessionId> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| percent_decode_str(key).decode_utf8().is_ok_and(|key| key == name))?;
    SessionId::new(&percent_decode_str(value).decode_utf8().ok()?).ok()
}

/// The session that the field `name` of a JSON object gives.
pub(super) fn session_in_body(body: &[u8], name: &str) -> Option<SessionId> {
    #[derive(serde::Deserialize)]
    struct Object<'a>(#[serde(borrow)] HashMap<Cow<'a, str>, &'a RawValue>);
    let Object(fields) = serde_json::from_slice(body).ok()?;
    let value: String = serde_json::from_str(fields.get(name)?.get()).ok()?;
    SessionId::new(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_where_the_service_finds_it() {
        let query = |query| session_in_query(query, "session_id").map(|session| session.to_string());
        assert_eq!(query("lang=fr&session_id=abc&x"), Some("abc".to_owned()));
        assert_eq!(query("session%5Fid=a%62c"), Some("abc".to_owned()));
        for none in ["", "session_id", "session_id=", "session_id=a.b", "session_id=%ff", "xsession_id=abc"] {
            assert_eq!(query(none), None, "{none}");
        }
        let path = |segment| session_in_path(segment).map(|session| session.to_string());
        assert_eq!((path("a%62c"), path("a%2Fc"), path("")), (Some("abc".to_owned()), None, None));
        let body = |body: &str| session_in_body(body.as_bytes(), "session_id").map(|session| session.to_string());
        assert_eq!(body(r#"{"content":["x",{"session_id":"no"}],"session_id":"abc"}"#), Some("abc".to_owned()));
        assert_eq!(body(r#"{"session\u005fid":"a\u0062c"}"#), Some("abc".to_owned()));
        assert_eq!(body(r#"{"session_id":"first","session_id":"last"}"#), Some("last".to_owned()));
        for none in ["", "[]", "{", r#"{"session_id":5}"#, r#"{"session_id":"a.b"}"#, r#"{"session":"abc"}"#, "\u{1}"] {
            assert_eq!(body(none), None, "{none}");
        }
    }
}
