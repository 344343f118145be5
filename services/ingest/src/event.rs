//! What a request brings: one event, or a line for each (NDJSON). All of it is read before anything is stored.

use std::collections::HashMap;

use bytes::Bytes;
use herald_protocol::Topic;
use http::{HeaderMap, header};
use serde_json::{error::Category, value::RawValue};

use crate::{config::LimitsConfig, refusal::Refusal};

/// The shape of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One event, as a JSON object.
    One,
    /// A JSON object on each line.
    Lines,
}

/// One event: `{"topic":"chat.message","data":...}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) topic: Topic,
    /// Any JSON, byte for byte as it was sent.
    pub(crate) data: Bytes,
    /// Where it stood, where there were several.
    line: Option<usize>,
}

impl Form {
    /// The shape that `Content-Type` names.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::One) };
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::One),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Self::Lines),
            _ => Err(Refusal::unsupported(
                "Expected Content-Type application/json for one event, or application/x-ndjson for one on each line",
            )),
        }
    }
}

impl Event {
    /// The answer to a request with this event, which is too large.
    pub(crate) fn too_large(&self, limit: impl std::fmt::Display) -> Refusal {
        Refusal::too_large(placed(self.line, &format!("data is larger than {limit}")))
    }
}

/// The events of a body, one at least.
pub(crate) fn read(form: Form, body: &Bytes, limits: &LimitsConfig) -> Result<Vec<Event>, Refusal> {
    let events = match form {
        Form::One => vec![one(body, None, body, limits)?],
        Form::Lines => {
            let lines = body.split(|byte| *byte == b'\n').enumerate();
            let mut events = Vec::new();
            for (at, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
                if events.len() == limits.max_events {
                    return Err(Refusal::too_large(format!("more than {} events in one request", limits.max_events)));
                }
                events.push(one(line, Some(at + 1), body, limits)?);
            }
            events
        }
    };
    if events.is_empty() { Err(Refusal::bad("the body has no event")) } else { Ok(events) }
}

fn one(text: &[u8], line: Option<usize>, body: &Bytes, limits: &LimitsConfig) -> Result<Event, Refusal> {
    let bad = |text: &str| Refusal::bad(placed(line, text));
    let read = serde_json::from_slice::<HashMap<String, &RawValue>>(text);
    let mut fields = read.map_err(|error| match error.classify() {
        Category::Data => bad("no JSON object with topic and data"),
        Category::Io | Category::Syntax | Category::Eof => bad("no valid JSON"),
    })?;
    let topic = fields.remove("topic").ok_or_else(|| bad("topic is missing"))?;
    let data = fields.remove("data").ok_or_else(|| bad("data is missing"))?;
    if !fields.is_empty() {
        return Err(bad("an event has topic and data, and nothing else"));
    }
    let topic = serde_json::from_str::<String>(topic.get()).map_err(|_| bad("topic is no string"))?;
    let topic = Topic::new(&topic).map_err(|error| bad(&error.to_string()))?;
    let event = Event { topic, data: body.slice_ref(data.get().as_bytes()), line };
    if event.data.len() > limits.max_event.as_usize() {
        return Err(event.too_large(limits.max_event));
    }
    Ok(event)
}

fn placed(line: Option<usize>, text: &str) -> String {
    line.map_or_else(|| text.to_owned(), |line| format!("line {line}: {text}"))
}

#[cfg(test)]
mod tests {
    use herald_runtime::config::ByteSize;
    use http::{HeaderValue, StatusCode};
    use proptest::prelude::*;

    use super::*;

    const LIMITS: LimitsConfig = LimitsConfig { max_events: 3, max_event: ByteSize::from_bytes(20) };

    fn events(form: Form, body: &str) -> Result<Vec<(String, String)>, Refusal> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let events = read(form, &Bytes::copy_from_slice(body.as_bytes()), &LIMITS)?;
        Ok(events.iter().map(|event| (event.topic.to_string(), text(&event.data))).collect())
    }

    fn owned(events: &[(&str, &str)]) -> Vec<(String, String)> {
        events.iter().map(|(topic, data)| ((*topic).to_owned(), (*data).to_owned())).collect()
    }

    #[test]
    fn data_is_kept_byte_for_byte() {
        for data in [r#"{"b": 1.0,"a":[ ]}"#, "null", "\"\\u00e9\"", "1e400", "\"é\""] {
            let body = format!("{{ \"topic\" : \"chat.message\", \"data\" : {data} }}\n");
            assert_eq!(events(Form::One, &body), Ok(owned(&[("chat.message", data)])), "{data}");
        }
        assert_eq!(events(Form::One, r#"{"data":1,"t\u006fpic":"\u0061"}"#), Ok(owned(&[("a", "1")])));
    }

    #[test]
    fn lines_are_events_and_blank_ones_are_none() {
        let body = "\n{\"topic\":\"a\",\"data\":1}\r\n   \n{\"topic\":\"b\",\"data\":2}";
        assert_eq!(events(Form::Lines, body), Ok(owned(&[("a", "1"), ("b", "2")])));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let table = [
            ("", "no valid JSON"),
            ("{", "no valid JSON"),
            ("{\"topic\":\"a\",\"data\":NaN}", "no valid JSON"),
            ("{\"topic\":\"a\",\"data\":1} x", "no valid JSON"),
            ("[]", "no JSON object with topic and data"),
            ("5", "no JSON object with topic and data"),
            ("{}", "topic is missing"),
            ("{\"topic\":\"a\"}", "data is missing"),
            ("{\"topic\":5,\"data\":1}", "topic is no string"),
            ("{\"topic\":null,\"data\":1}", "topic is no string"),
            ("{\"topic\":\"a\",\"data\":1,\"seq\":1}", "an event has topic and data, and nothing else"),
            ("{\"topic\":\"a\",\"data\":\"0123456789012345678\"}", "data is larger than 20B"),
        ];
        for (body, text) in table {
            assert_eq!(events(Form::One, body).unwrap_err().text, text, "{body}");
            if !body.is_empty() {
                let lines = format!("{{\"topic\":\"a\",\"data\":1}}\n\n{body}\n");
                assert_eq!(events(Form::Lines, &lines).unwrap_err().text, format!("line 3: {text}"), "{body}");
            }
        }
        for topic in ["", "_key.x", "a._b", "a..b", "*", "a.>", "a b", "a\\n", "\\u0000", "é"] {
            let body = format!("{{\"topic\":\"{topic}\",\"data\":1}}");
            let refusal = events(Form::One, &body).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{topic}");
            assert!(refusal.text.starts_with("invalid topic: expected words"), "{topic}: {refusal:?}");
        }
        let not_text = read(Form::One, &Bytes::from_static(b"{\"topic\":\"a\",\"data\":\"\xff\"}"), &LIMITS);
        assert_eq!(not_text.unwrap_err().text, "no valid JSON");
    }

    #[test]
    fn there_must_be_an_event_and_not_too_many() {
        assert_eq!(events(Form::Lines, " \n\r\n").unwrap_err().text, "the body has no event");
        let line = "{\"topic\":\"a\",\"data\":1}\n";
        assert_eq!(events(Form::Lines, &line.repeat(3)).unwrap().len(), 3);
        let refusal = events(Form::Lines, &line.repeat(4)).unwrap_err();
        assert_eq!(
            (refusal.status, &*refusal.text),
            (StatusCode::PAYLOAD_TOO_LARGE, "more than 3 events in one request")
        );
    }

    #[test]
    fn the_content_type_says_the_form() {
        let form = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            Form::of(&headers)
        };
        assert_eq!(Form::of(&HeaderMap::new()), Ok(Form::One));
        assert_eq!(form("Application/JSON; charset=utf-8"), Ok(Form::One));
        assert_eq!((form("application/x-ndjson"), form("application/jsonl")), (Ok(Form::Lines), Ok(Form::Lines)));
        for other in ["text/plain", "", "application/x-www-form-urlencoded", "application/json2"] {
            assert_eq!(form(other).unwrap_err().status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_body_breaks_the_reader(body in proptest::collection::vec(any::<u8>(), 0..200), lines: bool) {
            let form = if lines { Form::Lines } else { Form::One };
            let _ = read(form, &body.into(), &LIMITS);
        }

        #[test]
        fn what_is_read_is_what_was_written(topics in proptest::collection::vec("[a-z]{1,9}(\\.[A-Z0-9]{1,3}){0,2}", 1..4)) {
            let body: String = topics.iter().map(|topic| format!("{{\"topic\":\"{topic}\",\"data\":[]}}\n")).collect();
            let read: Vec<String> = events(Form::Lines, &body).unwrap().into_iter().map(|(topic, _)| topic).collect();
            prop_assert_eq!(read, topics);
        }
    }
}
