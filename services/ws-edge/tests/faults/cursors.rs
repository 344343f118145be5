//! Cursors that make no sense: refused before anything is opened, or answered with a gap, never misread.

use std::time::Duration;

use futures_util::future::join_all;
use herald_testkit::{Edge, Nats, Service, http, sse, within, ws};
use hyper::Method;

use crate::{
    support::Engine,
    watch::{BOUND, KINDS, Kind, Watch},
};

const MINUTE: Duration = Duration::from_secs(90);

async fn edge() -> (Nats, Engine, Service) {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    let edge = Edge::new(&nats).start().await;
    (nats, engine, edge)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cursor_is_refused_before_anything_is_opened() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        let first = engine.publish("gm.S.phase", "1").await;
        let long = "0".repeat(5_000) + "1";
        let bad = [
            "-1",
            "x",
            "+1",
            "%2B1",
            "1.0",
            "1e3",
            "0x10",
            "%201",
            "1%00",
            "%D9%A1",
            "%ff",
            "18446744073709551616",
            &"9".repeat(400),
            &long,
            "deadbeef-",
            "deadbeef--1",
            "deadbeef-18446744073709551616",
            "deadbeef-1-2",
            "DEADBEEF-1",
            "deadbee-1",
            "0deadbeef-1",
            "-deadbeef-1",
        ];
        for text in bad {
            for prefix in ["/ws", "/app/ws", "/gm/ws", "/sse"] {
                let path = format!("{prefix}/S?after={text}");
                let reply = edge.get(&path).await.expect_status(400);
                assert!(reply.error().starts_with("after: "), "{path:.60}: {}", reply.text());
                if !prefix.ends_with("sse") {
                    for protocols in [ws::PLAIN, ws::V1] {
                        let options = ws::Options { protocols, ..ws::Options::default() };
                        let opened = ws::Client::open(&edge.ws(&path), options).await;
                        assert!(matches!(opened, Err(ws::Refused::Status { status: 400, .. })), "{path:.60}");
                    }
                }
            }
            if text.contains('%') || text.is_empty() {
                continue;
            }
            let headers = [("last-event-id", text)];
            let reply = http::send(Method::GET, &edge.http("/sse/S"), &headers, "").await.expect_status(400);
            assert!(reply.error().starts_with("Last-Event-ID: "), "{text:.60}: {}", reply.text());
        }
        for query in ["after=", "after", "after=1&after=1", "after=0&after=deadbeef-1", "%61fter=1&after=1"] {
            for prefix in ["/ws", "/sse"] {
                let reply = edge.get(&format!("{prefix}/S?{query}")).await.expect_status(400);
                assert!(reply.error().starts_with("after: "), "{query}: {}", reply.text());
            }
        }
        for query in ["after=1&snapshot=1", "snapshot=1&snapshot=0", "snapshot=1&snapshot=1", "dialect=app&dialect=gm"]
        {
            edge.get(&format!("/ws/S?{query}")).await.expect_status(400);
        }
        let twice = [("last-event-id", "1"), ("last-event-id", "0")];
        http::send(Method::GET, &edge.http("/sse/S"), &twice, "").await.expect_status(400);
        // An empty header is what a browser means by none.
        let fresh = sse::Client::connect(&edge.http("/sse/S?after=0"), Some("")).await;
        fresh.wait_for("the event", BOUND, |event| event.json()["seq"] == first).await;
        assert_eq!(edge.metric("herald_feed_starts_total", &[]).await, 1.0, "nobody else began anything");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_no_place_of_this_log_is_answered_with_a_gap_and_what_is_kept() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        let mut seqs = Vec::new();
        for number in 0..6 {
            seqs.push(engine.publish("gm.S.phase", number.to_string()).await);
        }
        // The first is trimmed: what is kept begins behind it.
        let stream = engine.nats.jetstream().get_stream("EVENTS").await.unwrap();
        stream.purge().sequence(seqs[1]).await.unwrap();
        let (kept, last) = (&seqs[1..], seqs[5]);
        let hello = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let hello = hello.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        let epoch = hello.data()["epoch"].as_str().unwrap().to_owned();
        let here = format!("{epoch}-{}", seqs[0]);
        let max = u64::MAX;
        let cursors = [
            format!("{max}"),
            format!("{epoch}-{max}"),
            format!("{epoch}-{}", last + 1),
            format!("{}", last + 1000),
            "deadbeef-3".to_owned(),
            format!("deadbeef-{max}"),
            "deadbeef-0".to_owned(),
        ];
        let check = async |cursor: &str, kind: Kind| {
            let watch = Watch::open(edge.address(), kind, Some(cursor)).await.unwrap();
            let gap = watch.wait_gap().await;
            match &watch {
                Watch::Socket(client) if kind == Kind::Plain => {
                    assert!(client.events().is_empty(), "nothing that could be misread");
                    let told = watch.told().await.cursor.unwrap();
                    assert_eq!(told, here, "{cursor}");
                    let back = Watch::open(edge.address(), kind, Some(&told)).await.unwrap();
                    back.wait_seq(last).await;
                    assert_eq!(back.seqs(), kept);
                    return;
                }
                Watch::Socket(client) => {
                    watch.wait_seq(last).await;
                    // First the gap: who is cut off behind it has a place of no life, not one of this.
                    let frames = client.frames();
                    let names: Vec<_> = frames.iter().take(2).map(ws::Frame::event).collect();
                    assert_eq!(names, ["herald.gap", "herald.hello"], "{cursor}");
                    assert_eq!(frames[1].data()["epoch"], *epoch);
                    client.check_order();
                }
                Watch::Stream(client) => {
                    watch.wait_seq(last).await;
                    let events = client.events();
                    assert_eq!((&*events[0].event, events[0].id.as_deref()), ("herald.gap", Some(&*here)), "{cursor}");
                    assert_eq!(
                        (&*events[1].event, events[1].id.as_deref()),
                        ("herald.hello", Some(&*here)),
                        "{cursor}"
                    );
                }
            }
            assert_eq!((gap, watch.seqs().as_slice()), (Some((1, seqs[0])), kept), "{cursor} as {kind:?}");
        };
        join_all(cursors.iter().flat_map(|cursor| KINDS.map(|kind| check(cursor, kind)))).await;
        // The same by the query of an event stream.
        let stream = sse::Client::connect(&edge.http("/sse/S?after=deadbeef-3"), None).await;
        stream.wait_for("the gap", BOUND, |event| event.event == "herald.gap").await;
        stream.wait_for("the last", BOUND, |event| event.json()["seq"] == last).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sessions_cursor_is_a_place_in_the_same_log() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // Out of the ring as well as out of history.
        for frames in ["1000", "2"] {
            let edge = Edge::new(&nats).set("ring.frames", frames).start().await;
            let (mut mine, mut others) = (Vec::new(), Vec::new());
            for number in 0..20 {
                mine.push(engine.publish("gm.S.phase", number.to_string()).await);
                others.push(engine.publish("gm.T.phase", number.to_string()).await);
            }
            let watch = Watch::open(edge.address(), Kind::V1, Some("0")).await.unwrap();
            watch.wait_seq(mine[19]).await;
            let Watch::Socket(client) = &watch else { unreachable!() };
            let epoch = client.cursor().unwrap().split_once('-').unwrap().0.to_owned();
            for kind in KINDS {
                let last = *mine.last().unwrap();
                for other in [others[0], others[9], others[18]] {
                    let cursor = format!("{epoch}-{other}");
                    let watch = Watch::open(edge.address(), kind, Some(&cursor)).await.unwrap();
                    watch.wait_seq(last).await;
                    let behind: Vec<_> = mine.iter().copied().filter(|seq| *seq > other).collect();
                    assert_eq!((watch.seqs(), watch.gaps()), (behind, vec![]), "{kind:?} behind {cursor}");
                }
                // Of the last event of the log, which is the other's: nothing is missing, and what comes is shown.
                let other = engine.publish("gm.T.phase", "1").await;
                let watch = Watch::open(edge.address(), kind, Some(&format!("{epoch}-{other}"))).await.unwrap();
                let next = engine.publish("gm.S.phase", "\"next\"").await;
                watch.wait_seq(next).await;
                assert_eq!((watch.seqs(), watch.gaps()), (vec![next], vec![]), "{kind:?}");
                mine.push(next);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_payloads_are_the_same_out_of_ring_history_and_snapshot() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let early = join_all(KINDS.map(|kind| Watch::open(edge.address(), kind, Some("0")))).await;
        let mut shown = Vec::new();
        for (topic, payload) in [
            ("phase", &b"{\"fine\":1}"[..]),
            ("phase", b"no json"),
            ("proposal", b"\xff\xfe"),
            ("phase", b"\"\xed\xa0\x80\""),
            ("strategy", b""),
            ("images", b"NaN"),
            ("end", b"{\"type\":\"end\"}"),
        ] {
            let seq = engine.publish(&format!("gm.S.{topic}"), payload.to_vec()).await;
            shown.extend(std::str::from_utf8(payload).is_ok().then_some(seq));
        }
        let last = *shown.last().unwrap();
        // One with an empty ring: history.
        let other = Edge::new(&nats).start().await;
        let late = join_all(KINDS.map(|kind| Watch::open(other.address(), kind, Some("0")))).await;
        for watch in early.into_iter().chain(late).flatten() {
            watch.wait_seq(last).await;
            assert_eq!(watch.seqs(), shown);
            if let Watch::Socket(client) = &watch {
                client.check_order();
            }
            assert!(!watch.ended());
        }
        let snapshot = ws::Client::connect(&edge.ws("/ws/S?snapshot=1"), ws::V1).await;
        snapshot.wait_for("live", BOUND, |frame| frame.event() == "herald.live").await;
        let names: Vec<_> = snapshot.events().iter().map(|frame| frame.event().to_owned()).collect();
        assert_eq!(names, ["gm.strategy", "gm.images", "gm.end"], "the one that can't be shown is left out");
    })
    .await;
}
