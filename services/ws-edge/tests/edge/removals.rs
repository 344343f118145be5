//! Sessions that are removed from the stream: no edge shows anything of them afterwards, and nobody else misses anything.

use std::time::Duration;

use herald_runtime::jetstream::purge_below;
use herald_testkit::{Edge, Nats, Service, eventually, http, sse, within, ws};
use serde_json::json;

use crate::support::Engine;

const MINUTES: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(30);

/// Events of two sessions by turns, `count` of each; the sequences of both.
async fn publish(engine: &Engine, count: u64) -> [Vec<u64>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    for n in 1..=count {
        for (of, session) in all.iter_mut().zip(["S", "other"]) {
            of.push(engine.publish(&format!("gm.{session}.phase"), json!({ "n": n }).to_string()).await);
        }
    }
    all
}

/// Removes `S` as the owner of its roots does.
async fn remove(engine: &Engine, events: u64) {
    let action = engine.publish("gm.S._action", r#"{"n":9,"kind":"cancel"}"#).await;
    let word = json!({ "session": "S", "upto": action - 1, "events": events });
    engine.publish("gm._purged", word.to_string()).await;
    assert_eq!(purge_below(&engine.nats, "EVENTS", "*.S.>", action).await.unwrap(), events);
    engine.publish("gm.S._over", "{}").await;
}

async fn edges(nats: &Nats) -> [Service; 3] {
    [
        // Its rings are gone with their last client.
        Edge::new(nats).set("ring.linger", "50ms").start().await,
        Edge::new(nats).set("history.shelf", "0B").start().await,
        // Its rings hold next to nothing.
        Edge::new(nats).set("ring.frames", 4).start().await,
    ]
}

async fn epoch(engine: &Engine) -> String {
    let stream = engine.nats.jetstream().get_stream("EVENTS").await.unwrap();
    stream.cached_info().config.metadata["herald.epoch"].clone()
}

/// What a client is shown before it is sent away.
async fn shown(edge: &Service, path: &str, protocols: &[&str]) -> (Vec<String>, u16) {
    let client = ws::Client::connect(&edge.ws(path), protocols).await;
    let end = client.wait_end(BOUND).await;
    let names = client.frames().iter().map(|frame| frame.event().to_owned()).collect();
    (names, end.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_ring_nor_shelf_nor_history_shows_what_was_removed() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edges = edges(&nats).await;
        let mut live = Vec::new();
        for edge in &edges {
            for protocols in [ws::PLAIN, ws::V1] {
                live.push(ws::Client::connect(&edge.ws("/ws/S?after=0"), protocols).await);
            }
        }
        let [removed, _] = publish(&engine, 100).await;
        for client in &live {
            client.wait_events(100, BOUND).await;
        }
        // Some of it is in the rings because it was read back.
        for edge in &edges {
            let reader = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
            reader.wait_events(100, BOUND).await;
        }
        remove(&engine, 100).await;
        for client in &live {
            assert_eq!(client.wait_end(BOUND).await.code(), 4411, "who has everything is told that it is over");
            assert_eq!(client.events().len(), 100);
            client.check_order();
        }
        let epoch = epoch(&engine).await;
        let late = Edge::new(&nats).start().await;
        for edge in edges.iter().chain([&late]) {
            for path in ["/ws/S", "/ws/S?after=0"] {
                assert_eq!(shown(edge, path, ws::PLAIN).await, (vec![], 4411), "{path}");
                let (names, code) = shown(edge, path, ws::V1).await;
                assert!(names.iter().all(|name| name.starts_with("herald.")), "{path}: {names:?}");
                assert_eq!((names.last().unwrap().as_str(), code), ("herald.bye", 4411));
            }
            for cursor in [removed[0], removed[50]] {
                let path = format!("/ws/S?after={epoch}-{cursor}");
                assert_eq!(shown(edge, &path, ws::PLAIN).await, (vec![], 4410), "who has missed something is told");
                assert_eq!(
                    shown(edge, &path, ws::V1).await,
                    (["herald.hello", "herald.gap", "herald.bye"].map(str::to_owned).to_vec(), 4411)
                );
                let id = format!("{epoch}-{cursor}");
                let stream = sse::Client::connect(&edge.http("/sse/S"), Some(&id)).await;
                stream.wait_end(BOUND).await;
                let events = stream.events();
                let names: Vec<_> = events.iter().map(|event| event.event.as_str()).collect();
                assert_eq!(names, ["herald.hello", "herald.gap", "herald.bye"]);
                let again = stream.last_id().unwrap();
                let told =
                    http::send(::http::Method::GET, &edge.http("/sse/S"), &[("last-event-id", &again)], "").await;
                assert_eq!(told.status, 204, "{again}");
            }
            let (names, _) = shown(edge, "/ws/S?snapshot=1", ws::V1).await;
            assert_eq!(names, ["herald.hello", "herald.live", "herald.bye"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_session_is_no_gap_for_any_other() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edges = edges(&nats).await;
        let live = ws::Client::connect(&edges[0].ws("/ws/other"), ws::V1).await;
        let [_, others] = publish(&engine, 300).await;
        live.wait_events(300, BOUND).await;
        remove(&engine, 300).await;
        let next = engine.publish("gm.other.phase", r#"{"n":301}"#).await;
        // One that begins with the holes: what it finds on its way back is whole.
        let late = Edge::new(&nats).set("ring.linger", "50ms").start().await;
        for edge in edges.iter().chain([&late]) {
            for (after, count) in [(0, 301), (others[0], 300), (others[150], 150)] {
                for protocols in [ws::PLAIN, ws::V1] {
                    let path = format!("/ws/other?after={after}");
                    let client = ws::Client::connect(&edge.ws(&path), protocols).await;
                    client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(next)).await;
                    client.check_order();
                    assert_eq!(client.events().len(), count, "{path}");
                    assert!(client.frames().iter().all(|frame| frame.event() != "herald.gap"), "{path}");
                    assert_eq!(client.ended(), None);
                }
            }
            assert_eq!(edge.metric("herald_gaps_total", &[]).await, 0.0);
        }
        live.wait_for("the last one", BOUND, |frame| frame.seq() == Some(next)).await;
        assert_eq!(live.events().len(), 301);
        live.check_order();
        drop(live);
        // The shelves go on, the late one's with what was there before it.
        for edge in [&edges[0], &late] {
            let reads = async |kind| edge.metric("herald_history_read_seconds_count", &[kind]).await;
            eventually("the shelf answers", BOUND, async || {
                let watched = edge.metric("herald_watched_sessions", &[]).await;
                if watched > 0.0 {
                    return Err(format!("{watched} rings"));
                }
                let (pages, shelf) = (reads("kind=\"page\"").await, reads("kind=\"shelf\"").await);
                let path = format!("/ws/other?after={}", others[20]);
                let client = ws::Client::connect(&edge.ws(&path), ws::PLAIN).await;
                client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(next)).await;
                let now = (reads("kind=\"page\"").await, reads("kind=\"shelf\"").await);
                if now.0 == pages && now.1 > shelf { Ok(()) } else { Err(format!("{pages} {shelf} {now:?}")) }
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_deletes_is_still_told() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // So that no hole is at the beginning, where it is none.
        engine.publish("gm.other.phase", "{}").await;
        let [_, others] = publish(&engine, 20).await;
        remove(&engine, 20).await;
        let stream = engine.nats.jetstream().get_stream("EVENTS").await.unwrap();
        stream.delete_message(others[10]).await.unwrap();
        let edge = Edge::new(&nats).start().await;
        let client = ws::Client::connect(&edge.ws(&format!("/ws/other?after={}", others[5])), ws::V1).await;
        client.wait_for("a gap", BOUND, |frame| frame.event() == "herald.gap").await;
        client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(others[19])).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_session_may_begin_anew_under_its_name() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edges = edges(&nats).await;
        let [removed, _] = publish(&engine, 30).await;
        let before = ws::Client::connect(&edges[0].ws("/ws/S?after=0"), ws::V1).await;
        before.wait_events(30, BOUND).await;
        remove(&engine, 30).await;
        before.wait_end(BOUND).await;
        engine.publish("gm.S._action", r#"{"n":10,"kind":"start"}"#).await;
        let mut anew = Vec::new();
        for n in 1..=10 {
            anew.push(engine.publish("gm.S.phase", json!({ "n": n }).to_string()).await);
        }
        let epoch = epoch(&engine).await;
        for edge in &edges {
            for path in ["/ws/S?after=0".to_owned(), format!("/ws/S?after={epoch}-{}", removed[29])] {
                let client = ws::Client::connect(&edge.ws(&path), ws::V1).await;
                client.wait_for("the last one", BOUND, |frame| frame.seq() == anew.last().copied()).await;
                client.check_order();
                let seqs: Vec<_> = client.events().iter().filter_map(ws::Frame::seq).collect();
                assert_eq!(seqs, anew, "{path}");
                assert_eq!(client.ended(), None);
            }
        }
        // Removed once more: both words count.
        remove(&engine, 10 + 3).await;
        assert_eq!(shown(&edges[1], "/ws/S?after=0", ws::PLAIN).await, (vec![], 4411));
    })
    .await;
}
