//! Fuzzing target: what asks for the past: a frame that leads a timed replay, a speed, the query of a page.

use std::time::Duration;

use herald_fuzz::Target;
use serde_json::{Value, json};

use super::{Command, Pace, PageQuery};

/// Events of a page where the query does not say, and at most.
const LIMITS: (usize, usize) = (500, 5000);

fn speed_of(pace: Pace) -> f64 {
    f64::from(pace.speed()) / 1000.0
}

/// What is read of a frame is what a plain reader of JSON sees, and reads the same once written again.
fn frame(input: &[u8]) -> Option<bool> {
    let read = Command::in_frame(input)?;
    // Numbers that no float holds are no JSON to the plain reader, and no command.
    let Ok(plain) = serde_json::from_slice::<Value>(input) else {
        assert!(read.is_err());
        return Some(false);
    };
    assert_eq!(plain["event"], "herald.replay");
    let Ok(command) = read else { return Some(false) };
    let data = &plain["data"];
    assert_eq!(command.live, data["live"] == true);
    assert_eq!(command.pause, data["pause"].as_bool());
    let speed = command.speed.map(speed_of);
    assert!(speed.is_none_or(|speed| (0.1..=64.0).contains(&speed)));
    assert_eq!(speed.is_some(), data["speed"].is_number());
    assert!(!(command.live && command.seek.is_some()), "one place at a time");
    let seek = command.seek.map(|place| place.to_string());
    let again = json!({"event": "herald.replay", "data": {
        "pause": command.pause, "speed": speed, "seek": seek, "live": command.live,
    }});
    assert_eq!(Command::in_frame(again.to_string().as_bytes()), Some(Ok(command)));
    Some(true)
}

/// A pause takes as long as its speed says, and what is played in that time is that pause.
fn pace(text: &str) -> Option<u32> {
    let pace = Pace::parse(text)?;
    for ms in [0, 1, 999, 40_000, 86_400_000, u64::MAX] {
        let pause = pace.pause(ms, Duration::ZERO);
        assert!(pause <= pace.pause(ms.saturating_add(1), Duration::ZERO));
        if ms < 1 << 40 {
            let played = pace.played(pause);
            assert!(played <= ms && ms - played <= 1, "{played} of {ms}");
        }
        let capped = pace.capped("2.5").expect("a cap");
        assert_eq!(capped.pause(ms, Duration::ZERO), pause.min(Duration::from_millis(2500)));
    }
    assert_eq!(Pace::parse(&speed_of(pace).to_string()), Some(pace));
    Some(pace.speed())
}

/// A page is never larger than may be, shows nothing but what is shown, and its patterns read the same once written again.
fn page(query: &str) -> Option<usize> {
    let roots = ["gm".into(), "arena".into()];
    let asked = PageQuery::read(query, LIMITS, &roots).ok()?;
    assert!((1..=LIMITS.1).contains(&asked.limit) && asked.types.len() <= 32);
    assert!(asked.types.iter().all(|topics| ["gm", "arena"].contains(&topics.root.as_str())));
    let types: Vec<_> = asked.types.iter().map(ToString::to_string).collect();
    let mut again = format!("limit={}", asked.limit);
    if !types.is_empty() {
        let types =
            percent_encoding::utf8_percent_encode(&types.join(","), percent_encoding::NON_ALPHANUMERIC).to_string();
        again = format!("{again}&types={types}");
    }
    let types = asked.types.len();
    assert_eq!(PageQuery::read(&again, LIMITS, &roots), Ok(asked));
    Some(types)
}

#[test]
fn replays() {
    Target::new("replays")
        .seeds([
            r#"{"event":"herald.replay","data":{"pause":true}}"#,
            r#"{"event":"herald.replay","data":{"pause":false,"speed":4}}"#,
            r#"{"event":"herald.replay","data":{"speed":0.5,"seek":120}}"#,
            r#"{"event":"herald.replay","data":{"seek":"1750000000000000:7"}}"#,
            r#"{"event":"herald.replay","data":{"live":true}}"#,
            "0.25",
            "limit=20&types=gm.proposal,arena.agent.*.output&after=7",
            "types=gm.%3E&limit=5001",
        ])
        .tokens([
            "herald.replay",
            "\"pause\":",
            "\"speed\":",
            "\"seek\":",
            "\"live\":",
            "null",
            "true",
            "1e999",
            "1E-3",
            "64",
            "64.001",
            "0.0999",
            "18446744073709551615",
            "18446744073709551616",
            "\\u0061",
            "types=",
            "limit=",
            "%2e",
            "%00",
            "arena.",
            "gm.>",
            ",",
            "&",
        ])
        .longest(600)
        .run(|input| {
            let text = std::str::from_utf8(input);
            // Text that is no UTF-8 ends a connection before anybody reads it.
            let frame = text.ok().and_then(|text| frame(text.as_bytes()));
            (frame, text.ok().and_then(pace).is_some(), text.ok().and_then(page))
        });
}
