//! Messages in a stream that the NATS library can't read.

use herald_testkit::{Edge, Nats, eventually, nats_wire, within, ws};

use super::{BOUND, MINUTE};
use crate::support::Engine;

/// What an engine whose library checks nothing may publish, as it stands on the wire: some of it ends the reader's connection,
/// a bare CR the reader itself, and a status makes of an event what it is not.
pub(crate) fn odd_ones(subject: &str) -> Vec<Vec<u8>> {
    let headers: [&[u8]; 7] = [
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nA: b\rc\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\r\n\r\n",
        b"NATS/1.0\r\nA b: c\r\n\r\n",
        b"NATS/1.0 what\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
    ];
    let mut all: Vec<_> = headers.iter().map(|headers| nats_wire::hpub(subject, headers, b"0")).collect();
    all.push([b"PUB ", subject.as_bytes(), b".\xff 1\r\n0\r\n"].concat());
    all
}

/// Shows the session on a new socket until `last` is there; what it showed, without the control frames.
async fn shown(url: &str, last: u64) -> Vec<String> {
    let client = ws::Client::connect(url, ws::V1).await;
    client.wait_for("the last event", BOUND, |frame| frame.seq() == Some(last)).await;
    client.events().iter().map(|frame| format!("{} {}", frame.event(), frame.data())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_library_can_read_keeps_nobody_from_reading_on() {
    within(3 * MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let socket = ws::Client::connect(&edge.ws("/ws/s1"), ws::V1).await;
        engine.publish("gm.s1.phase", "0").await;
        socket.wait_events(1, BOUND).await;
        let mut last = 0;
        for (number, odd) in (1..).zip(odd_ones("arena.s1.x")) {
            nats_wire::send(&nats, "arena", &odd).await;
            last = engine.publish("gm.s1.phase", number.to_string()).await;
            eventually("the next event", BOUND, async || {
                let found = socket.events().iter().any(|event| event.seq() == Some(last));
                if found { Ok(()) } else { Err((odd.escape_ascii().to_string(), edge.log())) }
            })
            .await;
        }
        let phases: Vec<_> = socket.events().iter().filter(|frame| frame.event() == "gm.phase").cloned().collect();
        assert_eq!(phases.len(), 9, "each once");
        // Live, from history, and at an edge that finds all of it in the past.
        let whole = shown(&edge.ws("/ws/s1?after=0"), last).await;
        assert_eq!(whole.iter().filter(|shown| shown.starts_with("gm.phase")).count(), 9, "{whole:?}");
        let late = Edge::new(&nats).start().await;
        assert_eq!(shown(&late.ws("/ws/s1?after=0"), last).await, whole);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_while_nobody_read_is_found_in_the_past_and_does_not_stay() {
    within(3 * MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        engine.publish("gm.s1.phase", "0").await;
        for odd in odd_ones("arena.s1.x") {
            nats_wire::send(&nats, "arena", &odd).await;
        }
        engine.publish("gm.s1.phase", "1").await;
        let mut edge = Edge::new(&nats).start().await;
        let client = ws::Client::connect(&edge.ws("/ws/s1?snapshot=1"), ws::V1).await;
        client.wait_for("the snapshot", BOUND, |frame| frame.event() == "herald.live").await;
        let last = engine.publish("gm.s1.phase", "2").await;
        let whole = shown(&edge.ws("/ws/s1?after=0"), last).await;
        assert_eq!(whole.iter().filter(|shown| shown.starts_with("gm.phase")).count(), 3, "{whole:?}");
        edge.wait_ready(BOUND).await;
    })
    .await;
}
