//! Fuzzing targets: what is read from outside becomes a word of this crate or is refused, and reads back as it is written.

use std::fmt::Debug;

use herald_fuzz::{Target, line};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Close, Cursor, Epoch, EventSubject, EventType, Grant, InstanceId, Name, Position, Segment, SessionId, TopicPattern,
    frame::{Control, data_json},
    id::MAX_TOKEN,
    record::{ActionEvent, ActionRecord, AliasTarget, SessionRecord, WaitingCommand},
    subject::{self, GM},
};

/// A subject on the first line, a pattern on the second.
#[test]
fn subjects() {
    Target::new("subjects")
        .seeds([
            "arena.5e551040-0000-4000-8000-00000000000a.agent.agent-3.output\nagent.*.output",
            "gm.s-1._action\n_action",
            "arena.s.input.fakenews\ninput.>",
            "edge.watching.s1\n*.*.>",
            "gm.s.llm_text\n>",
            "a,b,*\nproposal",
            "real.png\nx",
        ])
        .tokens([
            ".",
            "*",
            ">",
            "_",
            "-",
            "arena.",
            "gm.",
            ".input.fakenews",
            "edge.watching.",
            "\n",
            " ",
            "\r\n",
            "..",
            ".>",
            ".*",
            "é",
        ])
        .longest(300)
        .run(|input| {
            let text = std::str::from_utf8(input).ok()?;
            let (text, pattern) = text.split_once('\n').unwrap_or((text, ""));
            let parsed = EventSubject::parse(text);
            if let Some(EventSubject { root, session, topic }) = parsed {
                assert_eq!(format!("{root}.{session}.{topic}"), text);
                assert!(is_token(session) && !root.is_empty() && !root.contains('.') && !topic.is_empty());
            }
            let shown = parsed.is_some_and(|subject| subject.is_shown());
            assert!(!shown || parsed.is_some_and(|subject| !subject.topic.starts_with('_')));
            if let Some(session) = subject::parse_watching(text) {
                assert_eq!(subject::watching(&session), text);
            }
            let matched = patterns(pattern, parsed.map_or(text, |subject| subject.topic));
            Some((parsed.is_some(), shown, matched, ids(text), grants(text)))
        });
}

/// Whether a pattern is one, and matches as NATS does.
fn patterns(text: &str, topic: &str) -> Option<bool> {
    let pattern = TopicPattern::parse(text).ok()?;
    assert_eq!(pattern.as_str(), text);
    let tokens: Vec<_> = text.split('.').collect();
    assert!(tokens.iter().all(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())));
    let session = SessionId::new("s").expect("an id");
    let subject = subject::session_topics(GM, &session, &pattern);
    assert_eq!(subject, format!("gm.s.{text}"));
    let matches = pattern.matches(topic);
    assert_eq!(matches, as_nats(&tokens, &topic.split('.').collect::<Vec<_>>()), "{text} {topic}");
    Some(matches)
}

fn as_nats(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, topic @ ..]) => as_nats(pattern, topic),
        ([one, pattern @ ..], [other, topic @ ..]) => one == other && as_nats(pattern, topic),
        _ => false,
    }
}

/// Which of the words a text is.
fn ids(text: &str) -> [bool; 5] {
    let session = SessionId::new(text);
    if let Ok(session) = &session {
        assert!(is_token(session.as_str()) && session.as_str() == text);
        assert_eq!(serde_json::to_string(session).expect("JSON"), format!("\"{text}\""), "nothing to be escaped");
    }
    let kind = EventType::from_wire(text);
    let own = SessionId::new("own").expect("an id");
    let subject = subject::gm_event(&own, &kind);
    let parsed = EventSubject::parse(&subject).expect("a subject");
    assert!(parsed.session == "own" && parsed.is_shown() && is_token(kind.as_str()));
    let segment = Segment::new(text).is_ok();
    assert!(!segment || !text.contains(['/', '\\', '%', '\0', '\n']) && !text.starts_with('.'));
    let (name, instance) = (Name::new(text).is_ok(), InstanceId::new(text).is_ok());
    assert!(!(name || instance) || !text.contains(['.', '*', '>', ' ', '\r', '\n']));
    [session.is_ok(), kind.as_str() == text, segment, name, instance]
}

fn is_token(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with(['_', '-'])
}

fn grants(text: &str) -> Option<usize> {
    let grant: Grant = text.parse().ok()?;
    assert_eq!(grant.to_string().parse(), Ok(grant.clone()));
    assert!(grant.covers(&grant) && Grant::All.covers(&grant));
    let named = text.split(',').filter_map(|id| SessionId::new(id).ok());
    assert!(named.into_iter().all(|session| grant.allows(&session)));
    let stranger = SessionId::new("a-stranger-that-nobody-names").expect("an id");
    assert!(grant == Grant::All || !grant.allows(&stranger) || text.contains(stranger.as_str()));
    assert_eq!(grant == Grant::All, text.split(',').any(|id| id == "*"), "all is only ever meant by a star");
    Some(match grant {
        Grant::All => 0,
        Grant::Sessions(sessions) => 1 + sessions.len().min(4),
    })
}

/// A cursor, or a sequence.
#[test]
fn cursors() {
    Target::new("cursors")
        .seeds([
            "0",
            "7",
            "deadbeef-7",
            "00000000-0",
            "ffffffff-18446744073709551615",
            "18446744073709551616",
            "deadbeef--1",
        ])
        .tokens(["-", "deadbeef", "DEADBEEF", "+", "0x", "\u{661}", "_", " ", "e", "\0"])
        .longest(80)
        .run(|input| {
            let text = std::str::from_utf8(input).ok()?;
            let position = text.parse::<Position>();
            if let Ok(position) = position {
                let written = position.to_string();
                assert_eq!(written.parse(), Ok(position));
                let (epoch, digits) = text.split_once('-').map_or((None, text), |(epoch, seq)| (Some(epoch), seq));
                assert!(digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit()));
                assert_eq!(digits.parse::<u128>().expect("digits"), u128::from(position.seq()));
                assert_eq!(matches!(position, Position::Cursor(_)), epoch.is_some());
                if let (Position::Cursor(cursor), Some(epoch)) = (position, epoch) {
                    assert_eq!(cursor.epoch.to_string(), epoch);
                    for close in [Close::TooSlow { after: cursor }, Close::Gap { after: cursor }] {
                        assert!(close.reason().len() <= 123 && close.reason().ends_with(&cursor.to_string()));
                    }
                }
            }
            assert_eq!(text.parse::<Cursor>().is_ok(), matches!(position, Ok(Position::Cursor(_))));
            let epoch = text.parse::<Epoch>();
            assert!(!epoch.as_ref().is_ok_and(|epoch| epoch.to_string() != text));
            assert_eq!(Epoch::of(text, 7), Epoch::of(text, 7));
            Some((position.ok().map(|position| (position.to_string().len(), text.len())), epoch.is_ok()))
        });
}

/// What lies in the buckets and in control events.
#[test]
fn records() {
    Target::new("records")
        .seeds([
            r#"{"init":"initialising","arena":"sent","lang":"en","gm":"gm-1"}"#,
            r#"{"session":"s-1","after":18446744073709551615}"#,
            r#"{"n":4,"kind":"lost","before":{"action":7,"last":9}}"#,
            r#"{"n":1,"seq":2,"kind":"propose","bridge":"b-1","next":{"kind":"choose","lang":"fr","news":"fake"},"beat":3,"released":true,"left":7}"#,
            r#"{"kind":"propose","lang":"fr"}"#,
            "plain text",
            "",
        ])
        .tokens([
            "{", "}", "[", "]", ",", ":", "\"", "null", "true", "false", "\"session\":", "\"after\":", "\"kind\":", "\"n\":",
            "\"init\":", "\"ready\"", "\"bridge\":", "\"next\":", "\"left\":", "\"beat\":", "\\u0000", "\\ud800", "NaN",
        ])
        .longest(600)
        .run(|input| {
            if let Some(read) = kept::<AliasTarget>(input) {
                assert!(is_token(read.session.as_str()));
            }
            // Whatever it is, a browser gets JSON of it, or nothing.
            let data = data_json(input);
            assert_eq!(data.is_some(), std::str::from_utf8(input).is_ok());
            if let Some(data) = &data {
                assert!(serde_json::from_slice::<&serde_json::value::RawValue>(data).is_ok());
                assert!(data.len() <= 2 + 6 * input.len().max(1), "an escape has 6 bytes at most");
            }
            let text = String::from_utf8_lossy(input);
            let bye = Control::Bye { after: text.clone().into_owned(), retry_ms: 1 };
            let said: serde_json::Value = serde_json::from_str(&bye.frame()).expect("JSON");
            assert_eq!(said["data"]["after"], *text);
            (
                kept::<SessionRecord>(input).is_some(),
                kept::<AliasTarget>(input).is_some(),
                kept::<ActionEvent>(input).is_some(),
                kept::<ActionRecord>(input).map(|record| (record.next.is_some(), record.left.is_some())),
                kept::<WaitingCommand>(input).is_some(),
                data.map(|data| data.first() == Some(&b'"')),
            )
        });
}

/// A record that reads back as it is written.
fn kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(input: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(input).ok()?;
    let written = serde_json::to_vec(&read).expect("JSON");
    assert_eq!(serde_json::from_slice::<T>(&written).ok().as_ref(), Some(&read));
    Some(read)
}

/// A root and a topic on the first line, data behind it: the frame says the same.
#[test]
fn frames_of_events() {
    use crate::frame::{Tail, event_head};

    Target::new("frames_of_events")
        .seeds([
            "gm.phase\n{\"type\": \"phase\", \"x\": 1.0e0}",
            "arena.agent.\"7\\.output\n{\"content\":\"\\u00e9\"}",
            "arena.x\nplain",
            "arena.x\n",
        ])
        .tokens(["\"", "\\", "\\\"", "{", "}", "\u{2028}", "\u{0}", "\u{1f}", "NaN", "\\ud800", "1e999", "\n", "[[[["])
        .longest(500)
        .run(|input| {
            let (name, payload) = line(input)?;
            let (root, topic) = name.split_once('.').unwrap_or((name, ""));
            let data = data_json(payload)?;
            let mut frame = event_head(root, topic, &data);
            let room = frame.capacity();
            Tail { prev: Some(u64::MAX), snapshot: true, ..Tail::plain(u64::MAX, u64::MAX) }.append(&mut frame);
            assert!(frame.capacity() == room || escaped(name), "the longest end moves nothing");
            #[derive(serde::Deserialize)]
            struct Frame<'a> {
                event: String,
                #[serde(borrow)]
                data: &'a serde_json::value::RawValue,
                seq: u64,
                prev: u64,
                snapshot: bool,
            }
            let read: Frame<'_> = serde_json::from_slice(&frame).expect("a frame");
            assert_eq!(read.event, format!("{root}.{topic}"));
            assert_eq!((read.seq, read.prev, read.snapshot), (u64::MAX, u64::MAX, true));
            assert_eq!(read.data.get(), std::str::from_utf8(&data).expect("text").trim_ascii());
            Some((escaped(name), data.first().copied(), data.len() == payload.len()))
        });
}

fn escaped(text: &str) -> bool {
    format!("{text:?}").len() != text.len() + 2
}
