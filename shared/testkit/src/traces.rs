//! The recorded game: see `fixtures/traces/README.md`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// The frontend's session id in the recording.
pub const SESSION: &str = "5e551040-0000-4000-8000-00000000000a";
/// The Game Master's own session id in the recording.
pub const GM_SESSION: &str = "9e503b5a-e433-4072-a9be-74994edee0e0";

/// One recorded NATS message.
#[derive(Clone, Debug)]
pub struct Message {
    /// When, in ms from the recording's begin.
    pub t_ms: f64,
    /// Its subject.
    pub subject: String,
    /// Its payload, as its sender wrote it.
    pub payload: String,
}

/// The recorded NATS messages of the game.
///
/// # Panics
/// If the recording is damaged.
#[must_use]
pub fn arena() -> Vec<Message> {
    #[derive(Deserialize)]
    struct Line<'a> {
        t_ms: f64,
        subject: String,
        #[serde(borrow)]
        payload: &'a RawValue,
        size: usize,
    }

    let message = |line: &str| {
        let Line { t_ms, subject, payload, size } = serde_json::from_str(line).expect("a recorded message");
        // The recording put blanks between the tokens; the engine writes none, as the size shows.
        let compact = without_blanks(payload.get());
        let payload = if compact.len() == size { compact } else { payload.get().to_owned() };
        Message { t_ms, subject, payload }
    };
    text("arena.ndjson").lines().map(message).collect()
}

/// JSON without the blanks between its tokens.
fn without_blanks(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let keep = |c: &char| {
        let blank = !inside && c.is_ascii_whitespace();
        inside ^= *c == '"' && !escaped;
        escaped = inside && *c == '\\' && !escaped;
        !blank
    };
    json.chars().filter(keep).collect()
}

/// A recorded file, as it is.
///
/// # Panics
/// If there is none of that name.
#[must_use]
pub fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/traces").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A recorded file as text.
///
/// # Panics
/// If there is none of that name.
#[must_use]
pub fn text(name: &str) -> String {
    String::from_utf8(read(name)).expect("UTF-8")
}

/// The lines of a recorded `.ndjson`.
///
/// # Panics
/// If there is none of that name.
#[must_use]
pub fn lines(name: &str) -> Vec<Value> {
    text(name).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_the_engine_have_the_recorded_size() {
        let messages = arena();
        let sizes = lines("arena.ndjson");
        assert_eq!((messages.len(), sizes.len()), (179, 179));
        for (message, line) in messages.iter().zip(&sizes) {
            let value: Value = serde_json::from_str(&message.payload).expect("JSON");
            assert_eq!(value, line["payload"]);
            // The Game Master escapes what is not ASCII in its news; the recording does not.
            let exact =
                Some(message.payload.len()) == line["size"].as_u64().and_then(|size| usize::try_from(size).ok());
            assert!(exact || message.subject.ends_with(".input.fakenews"), "{message:?}");
        }
    }

    #[test]
    fn blanks_in_texts_stay() {
        assert_eq!(without_blanks(r#"{ "a b" : "c\" d\\" , "e": [ 1 ] }"#), r#"{"a b":"c\" d\\","e":[1]}"#);
    }
}
