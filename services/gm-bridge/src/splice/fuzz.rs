//! Fuzzing target: a Game Master's answer to a start.

use bytes::Bytes;
use herald_fuzz::Target;
use herald_protocol::SessionId;
use herald_testkit::traces;
use serde_json::{Value, value::RawValue};

use super::splice;

#[test]
fn answers() {
    let session = SessionId::new("S-1").expect("an id");
    Target::new("answers")
        .seeds(["gm-start.json", "gm-state.json"].map(traces::read))
        .seeds([
            r#"{ "a" : 1e2 , "session_id" : "G" }"#,
            r#"{"session\u005fid":"G","session_id":{"x":[1]},"gm_session_id":"other"}"#,
            r#"{"turn":1,"é":"\u00e9"}"#,
        ])
        .tokens([
            "\"session_id\":",
            "\"session\\u005fid\":",
            "\"gm_session_id\":",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"G\"",
            "\\ud800",
            "1e999",
            "null",
            "\\\"",
            " ",
        ])
        .longest(1500)
        .run(|input| {
            // Nothing else is taken from a Game Master.
            serde_json::from_slice::<&RawValue>(input).ok()?;
            let spliced = splice(&Bytes::copy_from_slice(input), &session).ok()?;
            // Whoever asked is sent JSON, or an error.
            assert!(serde_json::from_slice::<&RawValue>(&spliced.body).is_ok(), "what goes on is JSON");
            let changed = spliced.body != input;
            assert!(spliced.body.len() <= input.len() + 40);
            let (Ok(theirs), Ok(ours)) =
                (serde_json::from_slice::<Value>(input), serde_json::from_slice::<Value>(&spliced.body))
            else {
                return Some((changed, spliced.gm_session_id.is_some(), false));
            };
            assert_eq!(changed, theirs.get("session_id").is_some());
            if changed {
                assert_eq!(ours["session_id"], "S-1");
                assert_eq!(theirs["session_id"].as_str(), spliced.gm_session_id.as_deref());
            }
            let rest = |value: &Value| {
                let mut members = value.as_object().expect("an object").clone();
                members.retain(|name, _| name != "session_id" && name != "gm_session_id");
                members
            };
            assert_eq!(rest(&theirs), rest(&ours), "nothing else is touched");
            Some((changed, spliced.gm_session_id.is_some(), true))
        });
}
