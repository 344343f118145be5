//! A connection is a cursor: wherever and however often it begins, falls behind or breaks off, nothing is lost or doubled,
//! or it is told.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use herald_testkit::{Edge, Nats, Service, eventually, http, sse, within, ws};
use serde_json::{Value, json};

use crate::{
    sockets::{edge, recording},
    support::Engine,
};

const MINUTES: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(30);

/// Publishes events of session `S` until it is dropped, now and then in a burst; how many, it says.
async fn keep_publishing(engine: &Engine, count: &AtomicU64) {
    loop {
        let number = count.load(Ordering::Relaxed);
        engine.publish(&format!("gm.S.{}", ["phase", "llm_text", "_action"][number as usize % 3]), "{\"x\":1}").await;
        engine.publish("gm.other.phase", "{}").await;
        count.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(20) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What was shown of `S`, read by one who was never disconnected.
async fn truth(edge: &Service, last: u64) -> Vec<u64> {
    let whole = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
    whole.wait_for("the last one", BOUND, |frame| frame.seq() == Some(last)).await;
    whole.check_order();
    whole.events().iter().filter_map(ws::Frame::seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_disconnects_in_mid_game_cost_nobody_an_event() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // Small rings: some come back into the ring, some into history. Two edges, one without a shelf: some come back elsewhere,
        // and some of the past is read from the stream.
        let edges = [
            Edge::new(&nats).set("ring.frames", 30).start().await,
            Edge::new(&nats).set("ring.frames", 8).set("ring.linger", "100ms").set("history.shelf", "0B").start().await,
        ];
        let count = AtomicU64::new(0);
        let sockets = async |protocols: &'static [&'static str]| {
            let (mut seen, mut after) = (Vec::new(), "0".to_owned());
            for round in 0..50 {
                let path = format!("/ws/S?after={after}");
                let client = ws::Client::connect(&edges[round % 2].ws(&path), protocols).await;
                client.wait_events(1 + round % 7, BOUND).await;
                client.check_order();
                // What it has now; more comes while we look.
                let frames = client.frames();
                seen.extend(frames.iter().filter_map(ws::Frame::seq));
                let hello = frames.iter().find(|frame| frame.event() == "herald.hello");
                let epoch = hello.map(|hello| format!("{}-", hello.data()["epoch"].as_str().unwrap()));
                after = format!("{}{}", epoch.unwrap_or_default(), seen[seen.len() - 1]);
                client.cut().await;
            }
            seen
        };
        let streams = async || {
            let (mut seen, mut id) = (Vec::new(), None::<String>);
            for round in 0..50 {
                let client = sse::Client::connect(&edges[round % 2].http("/sse/S?after=0"), id.as_deref()).await;
                let events = client.wait_events(1 + round % 7, BOUND).await;
                seen.extend(events.iter().filter_map(|event| event.json()["seq"].as_u64()));
                id = events.last().and_then(|event| event.id.clone());
            }
            seen
        };
        let (plain, v1, sse) = tokio::select! {
            () = keep_publishing(&engine, &count) => unreachable!("it never ends"),
            all = async { tokio::join!(sockets(ws::PLAIN), sockets(ws::V1), streams()) } => all,
        };
        let last = engine.publish("gm.S.end", "{}").await;
        let truth = truth(&edges[0], last).await;
        for seen in [plain, v1, sse] {
            assert!(seen.len() >= 50 && truth.starts_with(&seen), "{seen:?} is not the beginning of {truth:?}");
        }
    })
    .await;
}

/// The last event of each snapshot topic: what a page that shows the game is made of.
#[derive(Debug, Default, PartialEq)]
struct Shown(BTreeMap<String, Value>);

impl Shown {
    fn of(frames: &[ws::Frame]) -> Self {
        const TOPICS: [&str; 13] = [
            "gm.proposal",
            "gm.images",
            "gm.choice_resolved",
            "gm.reactions",
            "gm.indices_update",
            "gm.strategy",
            "gm.turn_update",
            "gm.game_over_reveal",
            "gm.end",
            "arena.input.waiting",
            "arena.round.start",
            "arena.phase.start",
            "arena.state.global",
        ];
        let mut shown = Self::default();
        for frame in frames.iter().filter(|frame| !frame.is_control()) {
            let name = frame.event();
            let agent = name.starts_with("arena.agent.") && (name.ends_with(".status") || name.ends_with(".output"));
            if agent || TOPICS.contains(&name) || name == "arena.event.end" {
                shown.0.insert(name.to_owned(), json!([frame.data(), frame.seq()]));
            }
        }
        shown
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_late_ends_in_the_same_state_at_every_cut_of_the_game() {
    within(MINUTES, async {
        let (_nats, engine, edge) = edge().await;
        let first = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        let mut late = Vec::new();
        for (subject, payload) in recording() {
            // Opened while the next events are on their way: the cut lies wherever it happens to lie.
            let (snapshot, replay) = (edge.ws("/ws/S?snapshot=1"), edge.ws("/ws/S?after=0"));
            let (snapshot, replay, _) = tokio::join!(
                ws::Client::connect(&snapshot, ws::V1),
                ws::Client::connect(&replay, ws::PLAIN),
                engine.publish(&subject, payload),
            );
            late.push((snapshot, replay));
        }
        let last = engine.publish("gm.S.end", "{\"type\":\"end\"}").await;
        let is_last = |frame: &ws::Frame| frame.seq() == Some(last);
        first.wait_for("the end", BOUND, is_last).await;
        first.check_order();
        let (all, state) = (first.events(), Shown::of(&first.frames()));
        assert!(late.len() >= 500 && state.0.len() > 15, "{} cuts, {} topics", late.len(), state.0.len());
        for (cut, (snapshot, replay)) in late.iter().enumerate() {
            snapshot.wait_for("the end", BOUND, is_last).await;
            snapshot.check_order();
            assert_eq!(Shown::of(&snapshot.frames()), state, "snapshot at cut {cut}");
            let lives = snapshot.frames().iter().filter(|frame| frame.event() == "herald.live").count();
            assert_eq!(lives, 1);
            replay.wait_for("the end", BOUND, is_last).await;
            let same = |(one, other): (&ws::Frame, &ws::Frame)| {
                one.json["data"] == other.json["data"] && one.seq() == other.seq()
            };
            let frames = replay.events();
            assert!(frames.len() == all.len() && frames.iter().zip(&all).all(same), "replay at cut {cut}");
        }
    })
    .await;
}

/// A client that does not read, with as little room as the system allows.
async fn sleeper(edge: &Service, path: &str) -> ws::Client {
    let options = ws::Options { protocols: ws::V1, receive_buffer: Some(4096), ..Default::default() };
    let client = ws::Client::open(&edge.ws(path), options).await.unwrap();
    client.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
    client.stall(true).await;
    client
}

fn big(number: usize) -> String {
    format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(20_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_never_delays_a_fast_one_and_comes_back_by_cursor() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.write_timeout", "1s").set("socket.close_timeout", "20s").start().await;
        let slow = sleeper(&edge, "/ws/S?after=0").await;
        let fast = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        let mut delays = Vec::new();
        for number in 0..200 {
            let seq = engine.publish("gm.S.phase", big(number)).await;
            let published = Instant::now();
            let frame = fast.wait_for("the event", BOUND, |frame| frame.seq() == Some(seq)).await;
            delays.push(frame.at.saturating_duration_since(published));
        }
        delays.sort();
        assert!(delays[190] < Duration::from_millis(200), "19 of 20 events within {:?}", delays[190]);
        eventually("the slow one is given up", BOUND, async || {
            match edge.metric("herald_closed_connections_total", &["reason=\"too_slow\""]).await {
                1.0 => Ok(()),
                count => Err(count),
            }
        })
        .await;
        slow.stall(false).await;
        let end = slow.wait_end(BOUND).await;
        assert_eq!(end.code(), 4408, "{end:?}");
        let after = end.reason().strip_prefix("resume after=").unwrap().to_owned();
        assert_eq!(Some(&after), slow.cursor().as_ref(), "what it was given is what it has got");
        slow.check_order();
        let back = ws::Client::connect(&edge.ws(&format!("/ws/S?after={after}")), ws::V1).await;
        back.wait_for("the last one", BOUND, |frame| frame.seq() == Some(fast.last_seq())).await;
        let seen: Vec<_> = [slow.events(), back.events()].concat().iter().filter_map(ws::Frame::seq).collect();
        assert_eq!(seen, fast.events().iter().filter_map(ws::Frame::seq).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_falls_off_the_ring_is_read_back_from_history() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("ring.frames", 10).start().await;
        let slow = sleeper(&edge, "/ws/S").await;
        for number in 0..150 {
            engine.publish("gm.S.phase", big(number)).await;
        }
        slow.stall(false).await;
        let events = slow.wait_events(150, BOUND).await;
        assert!(events.iter().enumerate().all(|(number, frame)| frame.data()["n"] == number));
        slow.check_order();
        let live = engine.publish("gm.S.phase", "{\"n\":150}").await;
        slow.wait_for("live again", BOUND, |frame| frame.seq() == Some(live)).await;
        assert!(edge.metric("herald_frames_delivered_total", &["way=\"direct\""]).await >= 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lags_more_than_is_allowed_is_closed_with_its_cursor() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.max_lag_frames", 50).set("socket.close_timeout", "20s").start().await;
        // What was there before the connection is no lag.
        for number in 0..100 {
            engine.publish("gm.S.phase", big(number)).await;
        }
        let slow = sleeper(&edge, "/ws/S?after=0").await;
        for number in 100..300 {
            engine.publish("gm.S.phase", big(number)).await;
        }
        eventually("it is given up", BOUND, async || {
            let count = edge.metric("herald_closed_connections_total", &["reason=\"too_slow\""]).await;
            if count == 1.0 { Ok(()) } else { Err(count) }
        })
        .await;
        slow.stall(false).await;
        let end = slow.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason().strip_prefix("resume after=")), (4408, slow.cursor().as_deref()));
        slow.check_order();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_past_is_a_gap_that_everybody_is_told() {
    within(MINUTES, async {
        let (_nats, engine, edge) = edge().await;
        let mut seqs = Vec::new();
        for number in 0..10 {
            seqs.push(engine.publish("gm.S.phase", number.to_string()).await);
        }
        // A ring that is opened before the edge has taken in all of them knows what came before its first one.
        let streams = format!("http://{}/inspect/streams", edge.operations());
        eventually("the edge has all of it", BOUND, async || {
            let stream = http::get(&streams).await.json()["streams"][0].take();
            if stream["seq"] == seqs[9] { Ok(()) } else { Err(stream) }
        })
        .await;
        let epoch = {
            let client = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
            let hello = client.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
            hello.data()["epoch"].as_str().unwrap().to_owned()
        };
        let stream = engine.nats.jetstream().get_stream("EVENTS").await.unwrap();
        stream.purge().sequence(seqs[6]).await.unwrap();
        let after = format!("after={epoch}-{}", seqs[1]);

        let v1 = ws::Client::connect(&edge.ws(&format!("/ws/S?{after}")), ws::V1).await;
        let gap = v1.wait_for("the gap", BOUND, |frame| frame.event() == "herald.gap").await;
        assert_eq!(*gap.data(), json!({"from": seqs[1] + 1, "to": seqs[6] - 1, "reason": "trimmed"}));
        let events = v1.wait_events(4, BOUND).await;
        assert_eq!((events[0].seq(), events[0].prev()), (Some(seqs[6]), Some(0)), "none is kept before it");
        v1.check_order();

        let plain = ws::Client::connect(&edge.ws(&format!("/ws/S?{after}")), ws::PLAIN).await;
        let end = plain.wait_end(BOUND).await;
        let kept = format!("after={epoch}-{}", seqs[6] - 1);
        assert_eq!((end.code(), end.reason(), plain.events().len()), (4410, kept.as_str(), 0));
        let back = ws::Client::connect(&edge.ws(&format!("/ws/S?{kept}")), ws::PLAIN).await;
        assert_eq!(back.wait_events(4, BOUND).await[0].seq(), Some(seqs[6]));

        let stream = sse::Client::connect(&edge.http("/sse/S"), Some(&after[6..])).await;
        let gap = stream.wait_for("the gap", BOUND, |event| event.event == "herald.gap").await;
        assert_eq!(gap.id.as_deref(), Some(&kept[6..]), "after a gap it goes on");
        assert_eq!(stream.wait_events(4, BOUND).await[0].json()["seq"], seqs[6]);

        // Who asks for what there is has no gap; nor has who stands just before the first kept event.
        for query in ["after=0".to_owned(), kept] {
            let client = ws::Client::connect(&edge.ws(&format!("/ws/S?{query}")), ws::V1).await;
            assert_eq!(client.wait_events(4, BOUND).await[0].prev(), Some(0));
            assert!(!client.frames().iter().any(|frame| frame.event() == "herald.gap"), "{query}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_nats_costs_an_open_socket_nothing() {
    within(MINUTES, async {
        let (mut nats, engine, mut edge) = edge().await;
        let clients = join_all([ws::PLAIN, ws::V1].map(|protocols| {
            let url = edge.ws("/ws/S");
            async move { ws::Client::connect(&url, protocols).await }
        }))
        .await;
        clients[1].wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        let stream = sse::Client::connect(&edge.http("/sse/S"), None).await;
        stream.wait_for("hello", BOUND, |event| event.event == "herald.hello").await;
        let first = engine.publish("gm.S.phase", "1").await;
        nats.stop().await;
        edge.wait_not_ready(BOUND).await;
        let during = ws::Client::connect(&edge.ws(&format!("/ws/S?after={}", first - 1)), ws::V1).await;
        nats.resume().await;
        edge.wait_ready(BOUND).await;
        let second = eventually("publishing works again", BOUND, async || {
            let sent =
                engine.nats.jetstream().publish("gm.S.phase", "2".into()).await.map_err(|error| error.to_string())?;
            sent.await.map(|ack| ack.sequence).map_err(|error| error.to_string())
        })
        .await;
        for client in clients.iter().chain([&during]) {
            client.wait_for("the event after", BOUND, |frame| frame.seq() == Some(second)).await;
            client.check_order();
            assert_eq!(client.events()[0].seq(), Some(first));
            assert!(!client.frames().iter().any(|frame| frame.event() == "herald.gap"));
        }
        stream.wait_for("the event after", BOUND, |event| event.json()["seq"] == second).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_anew_is_announced_to_everybody_who_watches() {
    within(MINUTES, async {
        let (_nats, engine, edge) = edge().await;
        for number in 0..5 {
            engine.publish("gm.S.phase", number.to_string()).await;
        }
        let v1 = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        let plain = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        let stream = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
        v1.wait_events(5, BOUND).await;
        plain.wait_events(5, BOUND).await;
        stream.wait_events(5, BOUND).await;
        let old = v1.cursor().unwrap();
        engine.nats.jetstream().delete_stream("EVENTS").await.unwrap();
        let end = plain.wait_end(BOUND).await;
        assert_eq!(end.code(), 4410, "{end:?}");
        let hello = |frame: &ws::Frame| {
            frame.event() == "herald.hello" && !old.starts_with(frame.data()["epoch"].as_str().unwrap())
        };
        let fresh = v1.wait_for("a fresh hello", BOUND, hello).await;
        v1.wait_for("the gap", BOUND, |frame| frame.event() == "herald.gap").await;
        let epoch = fresh.data()["epoch"].as_str().unwrap();
        assert!(end.reason().starts_with(&format!("after={epoch}-")), "{end:?} is not of {epoch}");
        let first = engine.publish("gm.S.phase", "\"new\"").await;
        let new = |frame: &ws::Frame| frame.json["data"] == "new";
        assert_eq!(v1.wait_for("the new log", BOUND, new).await.seq(), Some(first));
        stream.wait_for("the new log", BOUND, |event| event.json()["data"] == "new").await;
        assert!(stream.last_id().unwrap().starts_with(epoch));
        let back = ws::Client::connect(&edge.ws(&format!("/ws/S?{}", end.reason())), ws::PLAIN).await;
        back.wait_for("the new log", BOUND, new).await;
        let late = ws::Client::connect(&edge.ws(&format!("/ws/S?after={old}")), ws::V1).await;
        late.wait_for("a gap", BOUND, |frame| frame.event() == "herald.gap").await;
        late.wait_for("the new log", BOUND, new).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_ping_is_dropped_and_one_that_does_stays() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge =
            Edge::new(&nats).set("socket.heartbeat", "200ms").set("socket.heartbeat_timeout", "300ms").start().await;
        let dead = sleeper(&edge, "/ws/S").await;
        let alive = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        let reader = sse::Client::connect(&edge.http("/sse/S"), None).await;
        eventually("the dead one is found out", BOUND, async || {
            let count = edge.metric("herald_closed_connections_total", &["reason=\"dead\""]).await;
            if count == 1.0 { Ok(()) } else { Err(count) }
        })
        .await;
        eventually("the other is asked again and again", BOUND, async || {
            let pings = alive.pings().len();
            if pings >= 5 { Ok(()) } else { Err(pings) }
        })
        .await;
        assert_eq!((alive.ended(), reader.events().len()), (None, 1));
        dead.stall(false).await;
        dead.wait_end(BOUND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_that_its_silent_connection_lives() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.heartbeat", "200ms").start().await;
        let page = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let plain = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        for client in [&page, &plain] {
            eventually("pings", BOUND, async || {
                let pings = client.pings().len();
                if pings >= 5 { Ok(()) } else { Err(pings) }
            })
            .await;
        }
        eventually("a beat with each ping", BOUND, async || {
            let beats = page.beats().len();
            if beats >= 5 { Ok(()) } else { Err(beats) }
        })
        .await;
        let seq = engine.publish("gm.S.phase", "1").await;
        for client in [&page, &plain] {
            client.wait_for("the event", BOUND, |frame| frame.seq() == Some(seq)).await;
            client.check_order();
        }
        // The contract of the originals knows nothing of it.
        assert_eq!((plain.frames().len(), plain.beats().len()), (1, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_has_the_headers_ids_and_comments_it_needs() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("sse.heartbeat", "100ms").start().await;
        let broken = engine.publish("gm.S.phase", "{\"type\":\"phase\",\r\n \"data\":[1,\n2]\r}").await;
        let stream = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
        for (name, value) in [("cache-control", "no-cache, no-transform"), ("x-accel-buffering", "no")] {
            assert_eq!(stream.headers()[name], value);
        }
        let event = &stream.wait_events(1, BOUND).await[0];
        assert_eq!((&event.json()["seq"], &event.json()["data"]["data"]), (&json!(broken), &json!([1, 2])));
        let epoch = stream.events()[0].json()["epoch"].as_str().unwrap().to_owned();
        assert_eq!(event.id, Some(format!("{epoch}-{broken}")));
        eventually("comments come while nothing happens", BOUND, async || {
            let comments = stream.comments().len();
            if comments >= 4 { Ok(()) } else { Err(comments) }
        })
        .await;
        let snapshot = sse::Client::connect(&edge.http("/sse/S?snapshot=1"), None).await;
        let live = snapshot.wait_for("live", BOUND, |event| event.event == "herald.live").await;
        assert_eq!(live.id, Some(format!("{epoch}-{}", live.json()["after"])));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_events_that_does_not_read_is_cut_off_and_comes_back() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.write_timeout", "500ms").start().await;
        let mut asleep = herald_testkit::http::Raw::connect(edge.address()).await;
        asleep.write("GET /sse/S?after=0 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        asleep.read_until(b"herald.hello", BOUND).await;
        // More than the kernel's buffers on both sides take.
        let mut last = 0;
        for number in 0..600 {
            last = engine.publish("gm.S.phase", big(number)).await;
        }
        eventually("it is given up", BOUND, async || {
            let labels = ["reason=\"too_slow\"", "transport=\"sse\""];
            let count = edge.metric("herald_closed_connections_total", &labels).await;
            if count == 1.0 { Ok(()) } else { Err(count) }
        })
        .await;
        let got = String::from_utf8(asleep.read_to_end(BOUND).await).unwrap();
        let id = got.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap();
        let back = sse::Client::connect(&edge.http("/sse/S?after=0"), Some(id)).await;
        back.wait_for("the last one", BOUND, |event| event.json()["seq"] == last).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_does_not_answer_is_waited_for_but_not_for_ever() {
    within(MINUTES, async {
        let mut nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("history.timeout", "200ms").set("socket.history_patience", "1s").start().await;
        let first = engine.publish("gm.S.phase", "1").await;
        // Up to date: it needs no history.
        let live = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        live.wait_events(1, BOUND).await;
        nats.freeze().await;
        let replay = ws::Client::connect(&edge.ws("/ws/T?after=1"), ws::V1).await;
        let end = replay.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (1013, "history is not available"));
        let patient = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        nats.thaw();
        patient.wait_for("what there is", BOUND, |frame| frame.seq() == Some(first)).await;
        let second = engine.publish("gm.S.phase", "2").await;
        live.wait_for("what comes", BOUND, |frame| frame.seq() == Some(second)).await;
        live.check_order();
    })
    .await;
}
