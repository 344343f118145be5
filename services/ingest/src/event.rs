//! What a request brings: one event, or a line for each (NDJSON). All of it is read before anything is stored.

use std::{borrow::Cow, collections::HashSet, fmt};

use bytes::Bytes;
use herald_protocol::{SessionId, Topic};
use http::{HeaderMap, header};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
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
        let mut parts = kind.to_str().unwrap_or_default().split(';').map(str::trim);
        let form = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "application/json" => Self::One,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Self::Lines,
            _ => {
                return Err(Refusal::unsupported(
                    "Expected Content-Type application/json for one event, or application/x-ndjson for one on each line",
                ));
            }
        };
        let charsets = parts.filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
        // JSON is UTF-8 (RFC 8259, 8.1); ASCII is, too.
        let foreign = |charset: &str| !["utf-8", "utf8", "us-ascii"].iter().any(|it| charset.eq_ignore_ascii_case(it));
        if charsets.into_iter().any(foreign) {
            return Err(Refusal::unsupported("Expected a body in UTF-8"));
        }
        Ok(form)
    }
}

/// Refuses a body whose bytes stand for others.
pub(crate) fn as_it_is(headers: &HeaderMap) -> Result<(), Refusal> {
    let plain = |value: &http::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        Ok(())
    } else {
        Err(Refusal::unsupported("Expected a body without a Content-Encoding"))
    }
}

impl Event {
    /// The answer to a request with this event, which is too large.
    pub(crate) fn too_large(&self, limit: impl std::fmt::Display) -> Refusal {
        Refusal::too_large(placed(self.line, &format!("data is larger than {limit}")))
    }
}

/// The events of a body, one at least.
pub(crate) fn read(
    form: Form,
    body: &Bytes,
    session: &SessionId,
    limits: &LimitsConfig,
) -> Result<Vec<Event>, Refusal> {
    let one = |text, line| one(text, line, body, session, limits);
    let events = match form {
        Form::One => vec![one(body, None)?],
        Form::Lines => {
            let lines = body.split(|byte| *byte == b'\n').enumerate();
            let mut events = Vec::new();
            for (at, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
                if events.len() == limits.max_events {
                    return Err(Refusal::too_large(format!("more than {} events in one request", limits.max_events)));
                }
                events.push(one(line, Some(at + 1))?);
            }
            events
        }
    };
    if events.is_empty() { Err(Refusal::bad("the body has no event")) } else { Ok(events) }
}

fn one(
    text: &[u8],
    line: Option<usize>,
    body: &Bytes,
    session: &SessionId,
    limits: &LimitsConfig,
) -> Result<Event, Refusal> {
    let bad = |text: &str| Refusal::bad(placed(line, text));
    let read = serde_json::from_slice::<Fields<'_>>(text);
    let fields = read.map_err(|error| match error.classify() {
        Category::Data => bad("no JSON object with topic and data"),
        Category::Io | Category::Syntax | Category::Eof => bad("no valid JSON"),
    })?;
    if let Some(fault) = fields.fault {
        return Err(bad(fault));
    }
    let topic = fields.topic.ok_or_else(|| bad("topic is missing"))?;
    let data = fields.data.ok_or_else(|| bad("data is missing"))?;
    let topic = serde_json::from_str::<String>(topic.get()).map_err(|_| bad("topic is no string"))?;
    let topic = Topic::new(&topic).map_err(|error| bad(&error.to_string()))?;
    if is_subject(&topic, session) {
        return Err(bad("topic is a whole subject: leave out root and session; all that comes here is app.<topic>"));
    }
    let event = Event { topic, data: body.slice_ref(data.get().as_bytes()), line };
    if event.data.len() > limits.max_event.as_usize() {
        return Err(event.too_large(limits.max_event));
    }
    match look_into(&event.data, limits.max_depth) {
        Ok(()) => Ok(event),
        Err(Odd::Deep) => Err(bad(&format!("data is nested deeper than {}", limits.max_depth))),
        Err(Odd::Twice(name)) => Err(bad(&format!("data has the name {name} twice in one object"))),
    }
}

/// What an object of a body holds, and the first thing that is wrong about its names.
#[derive(Default)]
struct Fields<'a> {
    topic: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    fault: Option<&'static str>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value()?;
                    let fault = match name.as_str() {
                        "topic" => fields.topic.replace(value).map(|_| "topic stands there twice"),
                        "data" => fields.data.replace(value).map(|_| "data stands there twice"),
                        other => Some(no_field(other)),
                    };
                    fields.fault = fields.fault.or(fault);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// What to say of a field that an event has not: most of those are meant to say where it goes.
fn no_field(name: &str) -> &'static str {
    match name {
        "root" | "stream" => {
            "nobody chooses the root: an event has topic and data, and all that comes here is app.<topic>"
        }
        "event" | "subject" => "an event has topic and data; what it is called follows from them: app.<topic>",
        "session" | "session_id" | "sid" => "the session stands in the path; an event has topic and data",
        _ => "an event has topic and data, and nothing else",
    }
}

/// Whether a topic begins as a subject does, with a root and this session: it would be shown, under a name that nobody means.
fn is_subject(topic: &Topic, session: &SessionId) -> bool {
    let mut words = topic.as_str().splitn(3, '.').skip(1);
    words.next() == Some(session.as_str()) && words.next().is_some()
}

/// What is odd about data although it is valid JSON.
#[derive(Debug, PartialEq, Eq)]
enum Odd {
    /// Arrays and objects in each other, deeper than readers follow.
    Deep,
    /// A name stands in an object twice: one reader takes the first value, another one the last. It is cut where it is long.
    Twice(String),
}

/// So much of a name is said again.
const NAME_SHOWN: usize = 64;

/// Looks for what is odd about valid JSON.
fn look_into(json: &[u8], max_depth: usize) -> Result<(), Odd> {
    let mut inside: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    // A string is a name where an object has just begun, or gone on behind a comma.
    let (mut at, mut names) = (0, false);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                if inside.len() == max_depth {
                    return Err(Odd::Deep);
                }
                names = *byte == b'{';
                inside.push(names.then(HashSet::new));
            }
            b']' | b'}' => {
                inside.pop();
            }
            b',' => names = inside.last().is_some_and(Option::is_some),
            b'"' => {
                let text = string_at(json, at);
                at += text.len() + 1;
                if let (true, Some(Some(known))) = (std::mem::take(&mut names), inside.last_mut()) {
                    let name = unescaped(text);
                    if known.contains(&name) {
                        return Err(Odd::Twice(format!("{:?}", name.chars().take(NAME_SHOWN).collect::<String>())));
                    }
                    known.insert(name);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The string whose text begins there, without its quotes.
fn string_at(json: &[u8], begin: usize) -> &[u8] {
    let mut end = begin;
    while let Some(byte) = json.get(end).filter(|byte| **byte != b'"') {
        end += if *byte == b'\\' { 2 } else { 1 };
    }
    json.get(begin..end).unwrap_or_default()
}

/// What a string between quotes says. Half of a pair of surrogates says nothing: it stands for itself.
fn unescaped(text: &[u8]) -> Cow<'_, str> {
    let plain = String::from_utf8_lossy(text);
    if !text.contains(&b'\\') {
        return plain;
    }
    serde_json::from_str(&format!("\"{plain}\"")).map_or(plain, Cow::Owned)
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

    const LIMITS: LimitsConfig = LimitsConfig { max_events: 3, max_event: ByteSize::from_bytes(20), max_depth: 4 };

    fn session() -> SessionId {
        SessionId::new("s1").unwrap()
    }

    fn events(form: Form, body: &str) -> Result<Vec<(String, String)>, Refusal> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let events = read(form, &Bytes::copy_from_slice(body.as_bytes()), &session(), &LIMITS)?;
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
        let not_text =
            read(Form::One, &Bytes::from_static(b"{\"topic\":\"a\",\"data\":\"\xff\"}"), &session(), &LIMITS);
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
        for fine in ["Application/JSON; charset=utf-8", "application/json;charset=\"UTF-8\"", "application/json; v=1"] {
            assert_eq!(form(fine), Ok(Form::One), "{fine}");
        }
        assert_eq!((form("application/x-ndjson"), form("application/jsonl")), (Ok(Form::Lines), Ok(Form::Lines)));
        let strange = ["application/json; charset=latin1", "application/x-ndjson;Charset=\"utf-16\""];
        let others = ["text/plain", "", "application/x-www-form-urlencoded", "application/json2"];
        for other in others.into_iter().chain(strange) {
            assert_eq!(form(other).unwrap_err().status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{other}");
        }
    }

    #[test]
    fn bytes_that_stand_for_others_are_refused() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            as_it_is(&headers)
        };
        for fine in [&[][..], &["identity"], &["Identity", " identity"]] {
            assert_eq!(read(fine), Ok(()), "{fine:?}");
        }
        for coded in [&["gzip"][..], &["identity", "br"], &["identity, gzip"], &[""]] {
            assert_eq!(read(coded).unwrap_err().status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{coded:?}");
        }
    }

    #[test]
    fn a_field_stands_once_and_says_nothing_of_where_it_goes() {
        let said = |body: &str| events(Form::One, body).unwrap_err().text;
        assert_eq!(said(r#"{"topic":"a","data":1,"t\u006fpic":"b"}"#), "topic stands there twice");
        assert_eq!(said(r#"{"topic":"a","data":1,"data":1}"#), "data stands there twice");
        for (body, text) in [
            (r#"{"root":"gm","topic":"a","data":1}"#, "nobody chooses the root"),
            (r#"{"event":"gm.x","data":1}"#, "an event has topic and data; what it is called"),
            (r#"{"subject":"gm.s1.x","data":1}"#, "an event has topic and data; what it is called"),
            (r#"{"session_id":"s2","topic":"a","data":1}"#, "the session stands in the path"),
            (r#"{"topic":"gm.s1.text","data":1}"#, "topic is a whole subject"),
            (r#"{"topic":"app.s1.a.b","data":1}"#, "topic is a whole subject"),
        ] {
            assert!(said(body).starts_with(text), "{body}: {}", said(body));
        }
        for fine in ["gm.s1", "s1.gm.text", "gm.s2.text", "s1.s2"] {
            assert!(events(Form::One, &format!("{{\"topic\":\"{fine}\",\"data\":1}}")).is_ok(), "{fine}");
        }
    }

    #[test]
    fn data_is_nested_as_deep_as_readers_follow() {
        let of = |data: &str| events(Form::One, &format!("{{\"topic\":\"a\",\"data\":{data}}}"));
        for fine in ["[[[[]]]]", "{\"a\":[{\"b\":[]}]}", "\"[[[[[[\"", "\"\\\"[[[[[[\"", "[[[[]],[]],[[[]]]]"] {
            assert!(of(fine).is_ok(), "{fine}");
        }
        for deep in ["[[[[[]]]]]", "[\"]\",[[[{}]]]]", "[\"\\\\\",[[[{}]]]]"] {
            assert_eq!(of(deep).unwrap_err().text, "data is nested deeper than 4", "{deep}");
        }
    }

    #[test]
    fn a_name_stands_in_an_object_of_data_once() {
        let look = |data: &str| look_into(data.as_bytes(), 9);
        for fine in [
            r#"{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}],"d":"a"}"#,
            r#"["a","a",{"a":"a"}]"#,
            r#"{"a":{},"A":[],"":"","a\\":"b\",\"a"}"#,
            r#"{"\ud800":1,"\ud801":2}"#,
            r#""a""#,
        ] {
            assert_eq!(look(fine), Ok(()), "{fine}");
        }
        for (odd, name) in [
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"a":[1,2],"b":{"x":",","x":2}}"#, "x"),
            (r#"[{"a":{"b":1}, "c" : [] ,"\u0061" :2}]"#, "a"),
            (r#"{"":1,"b":{},"":2}"#, ""),
        ] {
            assert_eq!(look(odd), Err(Odd::Twice(format!("{name:?}"))), "{odd}");
        }
        let body = r#"{"topic":"a","data":{"k":1,"k":2}}"#;
        let refusal = events(Form::One, body).unwrap_err();
        assert_eq!(
            (refusal.status, &*refusal.text),
            (StatusCode::BAD_REQUEST, "data has the name \"k\" twice in one object")
        );
    }

    proptest! {
        #[test]
        fn no_body_breaks_the_reader(body in proptest::collection::vec(any::<u8>(), 0..200), lines: bool) {
            let form = if lines { Form::Lines } else { Form::One };
            let _ = read(form, &body.into(), &session(), &LIMITS);
        }

        /// As many names as a reader that keeps the last of each has left: none was there twice.
        #[test]
        fn a_name_twice_is_found_wherever_it_stands(data in r#"\{("[ab]":(\{("[ab]":[0-9],){0,2}"c":"x,"\}|\["a","b"\]|1),){0,3}"d":1\}"#) {
            let kept = serde_json::from_str::<serde_json::Value>(&data).unwrap().to_string();
            let names = |text: &str| text.matches("\":").count();
            prop_assert_eq!(look_into(data.as_bytes(), 9).is_ok(), names(&data) == names(&kept), "{}", data);
        }

        #[test]
        fn what_is_read_is_what_was_written(topics in proptest::collection::vec("[a-z]{1,9}(\\.[A-Z0-9]{1,3}){0,2}", 1..4)) {
            let body: String = topics.iter().map(|topic| format!("{{\"topic\":\"{topic}\",\"data\":[]}}\n")).collect();
            let read: Vec<String> = events(Form::Lines, &body).unwrap().into_iter().map(|(topic, _)| topic).collect();
            prop_assert_eq!(read, topics);
        }
    }
}
