use async_nats::HeaderMap;
use bytes::Bytes;

use super::*;

fn log() -> SessionLog {
    SessionLog::new(SessionId::new("s").unwrap(), Epoch::new(1))
}

fn stored(sequence: u64, payload: &str, ends: Option<&str>) -> Stored {
    let mut headers = HeaderMap::new();
    if let Some(ends) = ends {
        headers.insert(ENDS, ends);
    }
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Stored { subject: "unused".into(), sequence, time_ns: sequence * 1_000_000, headers, payload }
}

#[test]
fn what_is_hidden_is_not_due() {
    let mut log = log();
    let events = [
        ("gm", "_action"),
        ("gm", "phase"),
        ("arena", "input.fakenews"),
        ("gm", "input.fakenews"),
        ("arena", "input.waiting"),
        ("gm", "_done"),
        ("lobby", "chat"),
    ];
    for (seq, (root, topic)) in (1..).zip(events) {
        log.take(root, topic, &stored(seq, "{}", None));
    }
    let mut not_utf8 = stored(8, "", None);
    not_utf8.payload = Bytes::from_static(b"\xff");
    log.take("gm", "phase", &not_utf8);
    let shown: Vec<_> = log.life().shown.iter().map(|event| event.seq).collect();
    assert_eq!(shown, [2, 4, 5]);
    assert_eq!(log.life().last_shown(), 5);
}

#[test]
fn a_payload_is_known_as_the_frame_carries_it() {
    for (payload, carried) in [
        ("{\"a\": 1}", "{\"a\": 1}"),
        (" 5 \n", "5"),
        ("", "\"\""),
        ("NaN", "\"NaN\""),
        ("say \"hi\"", "\"say \\\"hi\\\"\""),
        ("{} {}", "\"{} {}\""),
    ] {
        assert_eq!(shown_hash(payload.as_bytes()), Some(hash(carried.as_bytes())), "{payload}");
    }
    assert_eq!(shown_hash(b"\xff"), None);
}

#[test]
fn snapshot_topics_are_told_apart() {
    let mut log = log();
    let topics = [
        ("gm", "proposal"),
        ("arena", "agent.a.status"),
        ("arena", "agent.b.status"),
        ("gm", "llm_text"),
        ("arena", "agent.a.status"),
        ("arena", "agent.a.b.status"),
        ("arena", "event.death"),
    ];
    for (seq, (root, topic)) in (1..).zip(topics) {
        log.take(root, topic, &stored(seq, "1", None));
    }
    let found: Vec<_> = log.life().shown.iter().map(|event| event.topic).collect();
    assert_eq!(found, [Some(0), Some(1), Some(2), None, Some(1), None, None]);
}

#[test]
fn numbers_are_read_and_checked() {
    let mut log = log();
    let (own, other) = (log.session.clone(), SessionId::new("other").unwrap());
    for (seq, whose) in [(1, &own), (2, &other)] {
        let event = serde_json::to_string(&ArenaEvent::new(whose, 7, "pad")).unwrap();
        log.take("arena", "state.global", &stored(seq, &event, None));
    }
    assert_eq!(log.life().arena, [ArenaEntry { seq: 1, n: Some(7) }, ArenaEntry { seq: 2, n: None }]);
    let event = CallEvent::new("result", ("c", "g"), (0, 1), "pad");
    for (seq, event) in
        [(3, event.clone()), (4, CallEvent { k: 1, ..event.clone() }), (5, CallEvent { g: "x".into(), ..event })]
    {
        log.take("gm", "result", &stored(seq, &serde_json::to_string(&event).unwrap(), None));
    }
    let sound: Vec<_> = log.life().game.iter().map(|entry| entry.call.unwrap().sound).collect();
    assert_eq!(sound, [true, false, false]);
    assert_eq!(log.calls.len(), 1);
}

#[test]
fn an_action_is_open_until_its_own_end() {
    let mut log = log();
    let mut seq = 0;
    let mut say = |log: &mut SessionLog, topic: &str, payload: &str, ends: Option<&str>| {
        seq += 1;
        log.take("gm", topic, &stored(seq, payload, ends));
        log.is_quiet()
    };
    assert!(log.is_quiet());
    assert!(!say(&mut log, "_action", r#"{"n":4,"kind":"propose"}"#, None));
    assert!(!say(&mut log, "llm_text", "{}", None));
    assert!(!say(&mut log, "_action", r#"{"n":5,"kind":"choose"}"#, None));
    assert!(!say(&mut log, "error", r#"{"error":"Cancelled","detail":"superseded"}"#, Some("4")));
    assert!(say(&mut log, "error", r#"{"error":"Choose stream failed","detail":"bridge lost"}"#, Some("5")));
    assert_eq!(log.life().game.last().unwrap().step, Step::Error { ends: Some(5), why: Why::Lost });
    assert!(!say(&mut log, "_action", "nonsense", None));
    assert!(say(&mut log, "error", r#"{"error":"Game taken over"}"#, Some("0")));
    assert_eq!(log.life().game.last().unwrap().step, Step::Error { ends: Some(0), why: Why::TakenOver });
}
