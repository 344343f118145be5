//! What a route may be told for a game of its own, over a whole edge: each option, and all of them as a lobby has them.

use std::{ops::RangeInclusive, time::Duration};

use herald_testkit::{Edge, Nats, Service, eventually, http::send, sse, within, ws};
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    admission::Keeper,
    forge::{SECRET, claims, hs256},
    support::Engine,
};

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);

/// A door with these routes: path and options of each.
fn door(nats: &Nats, routes: &[(&str, &str)]) -> Edge {
    listener(nats, "", routes)
}

fn listener(nats: &Nats, listener: &str, routes: &[(&str, &str)]) -> Edge {
    let mut config = format!("[[ws-edge.listeners]]\nname = \"table\"\n{listener}\n");
    for (path, options) in routes {
        let transport = if path.starts_with("/sse") { "transport = \"sse\"\n" } else { "" };
        config += &format!(
            "[[ws-edge.listeners.routes]]\npath = {path:?}\nroots = [\"gm\", \"arena\"]\n{transport}{options}\n"
        );
    }
    Edge::new(nats).config(config)
}

async fn house(routes: &[(&str, &str)]) -> (Nats, Engine, Service) {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    let edge = door(&nats, routes).start().await;
    (nats, engine, edge)
}

fn number(value: u64) -> String {
    json!({ "n": value }).to_string()
}

/// Publishes these numbers; the sequence of the last.
async fn numbers(engine: &Engine, subject: &str, numbers: RangeInclusive<u64>) -> u64 {
    let mut last = 0;
    for value in numbers {
        last = engine.publish(subject, number(value)).await;
    }
    last
}

/// The numbers that a raw socket was shown.
fn shown(client: &ws::Client) -> Vec<u64> {
    client.frames().iter().filter_map(|frame| frame.json["n"].as_u64()).collect()
}

async fn wait_number(client: &ws::Client, value: u64) {
    client.wait_for(&format!("number {value}"), BOUND, |frame| frame.json["n"] == value).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_frame_is_the_payload_on_a_socket_and_on_an_event_stream() {
    within(MINUTE, async {
        let raw = "dialect = \"raw\"";
        let (nats, engine, edge) = house(&[("/ws/{sid}", raw), ("/sse/{sid}", raw)]).await;
        let live = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        let first = engine.publish("gm.S.phase", r#"{"type":"phase", "n":1}"#).await;
        for payload in [&b"NaN"[..], b"", b"\xff\xfe", "\"é\u{2028}\"".as_bytes()] {
            engine.publish("arena.S.odd", payload.to_vec()).await;
        }
        engine.publish("gm.S._action", "{}").await;
        let last = engine.publish("arena.S.state", "{\n\"n\":2}").await;
        let texts = [r#"{"type":"phase", "n":1}"#, "NaN", "", "\"é\u{2028}\"", "{\n\"n\":2}"];
        let replay = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        let resumed = ws::Client::connect(&edge.ws(&format!("/ws/S?after={first}")), ws::PLAIN).await;
        for (client, expected) in [(&live, &texts[..]), (&replay, &texts), (&resumed, &texts[1..])] {
            wait_number(client, 2).await;
            let frames: Vec<_> = client.frames().into_iter().map(|frame| frame.text).collect();
            assert_eq!(frames, expected, "every payload, nothing else, nothing of it changed");
        }
        let skipped = edge.metric("herald_skipped_events_total", &["reason=\"not_utf8\""]).await;
        assert!(skipped >= 1.0, "{skipped}");

        // There is no room for proofs: it speaks no protocol that promises any.
        let either = ws::Client::connect(&edge.ws("/ws/S"), &["herald.v1", "herald.plain"]).await;
        assert_eq!(either.protocol(), Some("herald.plain"));
        let only = ws::Options { protocols: ws::V1, ..ws::Options::default() };
        assert!(matches!(ws::Client::open(&edge.ws("/ws/S"), only).await, Err(ws::Refused::Failed(_))));
        // A client that would rather have envelopes, and proofs, asks for them.
        let event = ws::Client::connect(&edge.ws("/ws/S?after=0&dialect=event"), ws::V1).await;
        event.wait_for("the last", BOUND, |frame| frame.seq() == Some(last)).await;
        event.check_order();

        let stream = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
        let events = stream.wait_events(5, BOUND).await;
        assert_eq!(events.iter().map(|event| &*event.data).collect::<Vec<_>>(), texts);
        let at = events[1].id.clone().unwrap();
        // The edge is killed: another one goes on behind the same place.
        let another = door(&nats, &[("/sse/{sid}", raw)]).start().await;
        drop(edge);
        let back = sse::Client::connect(&another.http("/sse/S"), Some(&at)).await;
        let rest: Vec<_> = back.wait_events(3, BOUND).await.into_iter().map(|event| event.data).collect();
        assert_eq!(rest, texts[2..]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_what_is_shown_and_proven_and_a_snapshot_may_have_others() {
    within(MINUTE, async {
        let options = "topics = [\"gm.status\", \"arena.agent.*.status\"]\nhidden = [\"arena.agent.7.status\"]\n\
                       snapshot = [\"gm.whole\", \"gm.status\"]\nstart = \"snapshot\"";
        let (nats, engine, mut edge) = house(&[("/ws/{sid}", options), ("/sse/{sid}", options)]).await;
        let empty = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        empty.wait_for("the end of nothing", BOUND, |frame| frame.event() == "herald.live").await;
        for (subject, value) in [
            ("gm.S.whole", 1),
            ("gm.S.status", 2),
            ("gm.S.noise", 3),
            ("arena.S.agent.1.status", 4),
            ("arena.S.agent.7.status", 5),
            ("arena.S.status", 6),
            ("gm.S.whole", 7),
            ("gm.S.status", 8),
        ] {
            engine.publish(subject, number(value)).await;
        }
        let values = |client: &ws::Client| -> Vec<u64> {
            client.events().iter().filter_map(|frame| frame.data()["n"].as_u64()).collect()
        };
        empty.wait_for("the last", BOUND, |frame| frame.data()["n"] == 8).await;
        assert_eq!(values(&empty), [2, 4, 8]);
        empty.check_order();
        let replay = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        replay.wait_for("the last", BOUND, |frame| frame.data()["n"] == 8).await;
        assert_eq!(values(&replay), [2, 4, 8], "a snapshot is for who brings no cursor");
        replay.check_order();
        let late = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        late.wait_for("the snapshot", BOUND, |frame| frame.event() == "herald.live").await;
        assert_eq!(values(&late), [7, 8]);
        assert!(late.events().iter().all(ws::Frame::snapshot));
        let stream = sse::Client::connect(&edge.http("/sse/S"), None).await;
        stream.wait_for("the snapshot", BOUND, |event| event.event == "herald.live").await;
        let cursor = late.frames().iter().rev().find_map(|frame| frame.data()["after"].as_u64()).unwrap();
        let epoch = empty.cursor().unwrap();
        let (epoch, _) = epoch.split_once('-').unwrap();

        edge.kill().await;
        numbers(&engine, "gm.S.whole", 9..=9).await;
        numbers(&engine, "arena.S.agent.7.status", 10..=10).await;
        numbers(&engine, "gm.S.status", 11..=12).await;
        let another = door(&nats, &[("/ws/{sid}", options), ("/sse/{sid}", options)]).start().await;
        let back = ws::Client::connect(&another.ws(&format!("/ws/S?after={epoch}-{cursor}")), ws::V1).await;
        back.wait_for("the last", BOUND, |frame| frame.data()["n"] == 12).await;
        assert_eq!(values(&back), [11, 12]);
        back.check_order();
        let stream = sse::Client::connect(&another.http("/sse/S"), stream.last_id().as_deref()).await;
        let events = stream.wait_events(2, BOUND).await;
        assert_eq!(events.iter().map(|event| event.json()["data"]["n"].clone()).collect::<Vec<_>>(), [11, 12]);
    })
    .await;
}

fn big(value: u64) -> String {
    json!({ "n": value, "text": "x".repeat(20_000) }).to_string()
}

async fn sleeper(url: &str) -> ws::Client {
    let options = ws::Options { receive_buffer: Some(4096), ..ws::Options::default() };
    let client = ws::Client::open(url, options).await.unwrap();
    client.stall(true).await;
    client
}

async fn closed(edge: &Service, reason: &str) -> f64 {
    edge.metric("herald_closed_connections_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_viewer_gets_the_newest_of_each_topic_and_is_never_too_slow() {
    const EVENTS: u64 = 300;
    within(MINUTE * 2, async {
        let latest = "dialect = \"raw\"\ntopics = [\"gm.status\", \"arena.status\"]\n\
                      snapshot = [\"arena.status\"]\ndelivery = \"latest\"";
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let routes = [("/ws/{sid}", latest), ("/sse/{sid}", latest)];
        // By far less than what they miss.
        let edge = door(&nats, &routes).set("socket.max_lag_frames", 20).set("socket.max_lag", "1MiB").start().await;
        let awake = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        numbers(&engine, "arena.S.status", 1..=1).await;
        wait_number(&awake, 1).await;
        let mut sleepers = Vec::new();
        for at in 0..20 {
            let path = ["/ws/S", "/ws/S?after=0", "/ws/S?snapshot=1"][at % 3];
            sleepers.push((path, sleeper(&edge.ws(path)).await));
        }
        for value in 2..=EVENTS {
            let subject = if value == EVENTS / 2 { "arena.S.status" } else { "gm.S.status" };
            engine.publish(subject, big(value)).await;
            if value % 7 == 0 {
                engine.publish("gm.S.noise", number(1_000_000)).await;
            }
            // As fast as they come: else it would be a slow one, too.
            wait_number(&awake, value).await;
        }
        assert_eq!(shown(&awake), (1..=EVENTS).collect::<Vec<_>>(), "who reads gets every frame");
        for (_, client) in &sleepers {
            client.stall(false).await;
            wait_number(client, EVENTS).await;
        }
        // What is said now comes to all, whatever became of what was before.
        numbers(&engine, "gm.S.status", EVENTS + 1..=EVENTS + 1).await;
        for (path, client) in &sleepers {
            wait_number(client, EVENTS + 1).await;
            let mut shown = shown(client);
            shown.retain(|value| *value <= EVENTS + 1);
            assert!(shown.is_sorted() && shown.len() < 200, "{path}: {} frames, in order", shown.len());
            assert!(shown.contains(&(EVENTS / 2)), "{path}: the other topic's newest, too");
            assert_eq!(client.ended(), None, "{path}");
        }
        assert!(edge.metric("herald_conflated_frames_total", &[]).await > 1000.0);
        assert_eq!(closed(&edge, "too_slow").await, 0.0);
        let stream = sse::Client::connect(&edge.http("/sse/S"), None).await;
        numbers(&engine, "gm.S.status", EVENTS + 2..=EVENTS + 2).await;
        stream.wait_for("the newest", BOUND, |event| event.json()["n"] == EVENTS + 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_the_newest_of_what_it_lacks_from_any_edge() {
    within(MINUTE, async {
        let latest = "dialect = \"raw\"\ntopics = [\"gm.*\"]\ndelivery = \"latest\"";
        let routes = [("/ws/{sid}", latest), ("/sse/{sid}", latest)];
        let (nats, engine, mut edge) = house(&routes).await;
        let first = numbers(&engine, "gm.S.a", 1..=5).await;
        let stream = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
        stream.wait_for("the newest", BOUND, |event| event.json()["n"] == 5).await;
        let id = stream.last_id().unwrap();
        assert!(id.ends_with(&format!("-{first}")), "{id}");
        edge.kill().await;
        numbers(&engine, "gm.S.a", 6..=400).await;
        numbers(&engine, "gm.S.b", 401..=700).await;
        numbers(&engine, "arena.S.a", 701..=710).await;
        numbers(&engine, "gm.S.c", 711..=711).await;
        for shelf in ["0B", "64MiB"] {
            let another = door(&nats, &routes).set("history.shelf", shelf).start().await;
            for (path, expected) in [
                ("/ws/S?after=0", vec![400, 700, 711]),
                (&*format!("/ws/S?after={first}"), vec![400, 700, 711]),
                // Another life's: what counts is the newest.
                ("/ws/S?after=deadbeef-3", vec![400, 700, 711]),
            ] {
                let client = ws::Client::connect(&another.ws(path), ws::PLAIN).await;
                wait_number(&client, 711).await;
                assert_eq!(shown(&client), expected, "{path}");
            }
            let back = sse::Client::connect(&another.http("/sse/S"), Some(&id)).await;
            let events = back.wait_events(3, BOUND).await;
            assert_eq!(events.iter().map(|event| event.json()["n"].clone()).collect::<Vec<_>>(), [400, 700, 711]);
            assert!(
                back.events().iter().all(|event| event.event != "herald.gap"),
                "nothing that it is to have is missing"
            );
            let at = events[1].id.clone().unwrap();
            let further = sse::Client::connect(&another.http("/sse/S"), Some(&at)).await;
            assert_eq!(further.wait_events(1, BOUND).await[0].json()["n"], 711);
        }
        let another = door(&nats, &routes).start().await;
        let live = ws::Client::connect(&another.ws("/ws/S"), ws::PLAIN).await;
        numbers(&engine, "gm.S.d", 712..=712).await;
        wait_number(&live, 712).await;
        assert_eq!(shown(&live), [712]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_at_all_of_the_newest_is_gone() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let routes = [("/ws/{sid}", "delivery = \"latest\""), ("/sse/{sid}", "delivery = \"latest\"")];
        let edge = door(&nats, &routes).set("socket.write_timeout", "1s").start().await;
        let asleep = sleeper(&edge.ws("/ws/S")).await;
        let near = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        eventually("it is given up", BOUND, async || {
            engine.publish("gm.S.status", big(1)).await;
            if closed(&edge, "dead").await == 1.0 { Ok(()) } else { Err(closed(&edge, "dead").await) }
        })
        .await;
        assert_eq!(closed(&edge, "too_slow").await, 0.0);
        numbers(&engine, "gm.S.status", 2..=2).await;
        near.wait_for("the other one goes on", BOUND, |frame| frame.data()["n"] == 2).await;
        asleep.stall(false).await;
        assert_ne!(asleep.wait_end(BOUND).await.code(), 4408);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_an_event_that_closes_everybody_is_sent_away_with_its_code() {
    within(MINUTE, async {
        let shown_one = "close_on = [\"gm.over:4001:Thank you\", \"arena.gone:1001\"]";
        let unseen = "dialect = \"raw\"\ntopics = [\"gm.status\"]\nclose_on = [\"gm.destroyed:1001:destroyed\"]";
        let newest = format!("{unseen}\ndelivery = \"latest\"");
        let routes = [
            ("/ws/{sid}", shown_one),
            ("/lobby/{sid}", unseen),
            ("/latest/{sid}", &*newest),
            ("/sse/{sid}", unseen),
            ("/sse-event/{sid}", shown_one),
        ];
        let (nats, engine, edge) = house(&routes).await;
        let v1 = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let plain = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        let lobby = ws::Client::connect(&edge.ws("/lobby/S"), ws::PLAIN).await;
        let asleep = [sleeper(&edge.ws("/lobby/S")).await, sleeper(&edge.ws("/latest/S")).await];
        let stream = sse::Client::connect(&edge.http("/sse/S"), None).await;
        let events = sse::Client::connect(&edge.http("/sse-event/S"), None).await;
        let elsewhere = ws::Client::connect(&edge.ws("/lobby/other"), ws::PLAIN).await;
        for value in 1..=40 {
            engine.publish("gm.S.status", big(value)).await;
        }
        let destroyed = engine.publish("gm.S.destroyed", "{}").await;
        let over = engine.publish("gm.S.over", number(41)).await;
        numbers(&engine, "gm.S.status", 42..=43).await;
        for client in [&v1, &plain] {
            let end = client.wait_end(BOUND).await;
            assert_eq!((end.code(), end.reason()), (4001, "Thank you"));
            let seqs: Vec<_> = client.frames().iter().filter_map(ws::Frame::seq).collect();
            assert_eq!((seqs.len(), seqs.last()), (42, Some(&over)), "the event itself, and nothing behind it");
            client.check_order();
        }
        let bye = v1.frames().pop().unwrap();
        assert_eq!(bye.event(), "herald.bye");
        assert!(bye.data()["after"].as_str().unwrap().ends_with(&format!("-{over}")), "{}", bye.text);
        for client in [&lobby, &asleep[0], &asleep[1]] {
            client.stall(false).await;
            let end = client.wait_end(BOUND).await;
            assert_eq!((end.code(), end.reason()), (1001, "destroyed"));
            assert_eq!(shown(client).last(), Some(&40), "all before it, and nothing behind it");
        }
        assert_eq!(shown(&lobby), (1..=40).collect::<Vec<_>>());
        stream.wait_end(BOUND).await;
        events.wait_end(BOUND).await;
        assert!(
            stream.last_id().unwrap().ends_with(&format!("-{destroyed}")),
            "the place behind what it was not shown"
        );
        for (stream, code, reason) in [(&stream, 1001, "destroyed"), (&events, 4001, "Thank you")] {
            let end = stream.events().pop().unwrap();
            assert_eq!((&*end.event, end.json()), ("herald.closed", json!({ "code": code, "reason": reason })));
        }
        assert_eq!(closed(&edge, "by_event").await, 7.0);

        // Who comes later reads the past up to there, at the same edge and at another; who begins behind it stays.
        let another = door(&nats, &routes).start().await;
        for edge in [&edge, &another] {
            for (path, code, last) in [
                ("/lobby/S?after=0", 1001, 40),
                // In memory is what was the newest then; in the stream there is nothing before that is the newest of its topic.
                ("/latest/S?after=0", 1001, if std::ptr::eq(edge, &another) { 0 } else { 40 }),
                (&*format!("/lobby/S?after={}", destroyed - 1), 1001, 0),
                ("/ws/S?after=0", 4001, 41),
            ] {
                let client = ws::Client::connect(&edge.ws(path), ws::PLAIN).await;
                assert_eq!(client.wait_end(BOUND).await.code(), code, "{path}");
                let value = |frame: &ws::Frame| frame.json["n"].as_u64().or(frame.data()["n"].as_u64());
                assert_eq!(client.frames().last().and_then(value).unwrap_or(0), last, "{path}");
            }
            let back = sse::Client::connect(&edge.http("/sse/S"), stream.last_id().as_deref()).await;
            let rest: Vec<_> = back.wait_events(2, BOUND).await.iter().map(|event| event.json()["n"].clone()).collect();
            assert_eq!(rest[..2], [42, 43]);
            let behind = ws::Client::connect(&edge.ws(&format!("/lobby/S?after={destroyed}")), ws::PLAIN).await;
            wait_number(&behind, 43).await;
            let live = ws::Client::connect(&edge.ws("/lobby/S"), ws::PLAIN).await;
            let next = 44 + u64::from(std::ptr::eq(edge, &another));
            numbers(&engine, "gm.S.status", next..=next).await;
            wait_number(&live, next).await;
            assert_eq!((behind.ended(), live.ended(), back.ended()), (None, None, false));
        }
        assert_eq!(elsewhere.ended(), None, "another session's is nobody's");
        engine.publish("arena.other.gone", "{}").await;
        let other = ws::Client::connect(&edge.ws("/ws/other?after=0"), ws::PLAIN).await;
        let end = other.wait_end(BOUND).await;
        assert_eq!(end.code(), 1001);
        assert!(end.reason().starts_with("closed after="), "{end:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_heartbeats_of_its_own_that_say_when_nats_is_away() {
    within(MINUTE, async {
        let beats = "dialect = \"raw\"\nheartbeat = { every = \"200ms\", \
                     frame = '{\"type\":\"heartbeat\",\"timestamp\":\"{ts}\",\"campaign_id\":\"{sid}\"}', \
                     degraded = '{\"type\":\"heartbeat\",\"degraded\":true}' }";
        let alias = format!("{beats}\nalias = \"ALIASES\"");
        let routes = [("/ws/{sid}", beats), ("/sse/{sid}", beats), ("/alias/{sid}", &*alias)];
        let (mut nats, engine, edge) = house(&routes).await;
        let socket = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        let stream = sse::Client::connect(&edge.http("/sse/S"), None).await;
        let waiting = ws::Client::connect(&edge.ws("/alias/G"), ws::PLAIN).await;
        let v1 = ws::Client::connect(&edge.ws("/ws/S?dialect=event"), ws::V1).await;
        let is_beat = |value: &Value| value["type"] == "heartbeat";
        let count = |client: &ws::Client| client.frames().iter().filter(|frame| is_beat(&frame.json)).count();
        eventually("some beats", BOUND, async || if count(&socket) > 2 { Ok(()) } else { Err(count(&socket)) }).await;
        let beat = socket.frames().remove(0).json;
        assert_eq!(beat["campaign_id"], "S");
        let time = beat["timestamp"].as_str().unwrap();
        assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        waiting.wait_for("one without a session", BOUND, |frame| frame.json["campaign_id"] == "").await;
        let beat = stream.wait_for("one as an event", BOUND, |event| is_beat(&event.json())).await;
        assert_eq!(beat.event, "message");
        // Between the frames of events, whole, and no part of the log.
        for value in 1..=200 {
            engine.publish("gm.S.status", if value % 20 == 0 { big(value) } else { number(value) }).await;
        }
        wait_number(&socket, 200).await;
        assert_eq!(shown(&socket), (1..=200).collect::<Vec<_>>());
        v1.wait_for("the last", BOUND, |frame| frame.data()["n"] == 200).await;
        v1.check_order();
        assert_eq!(count(&v1), 0, "it has a beat of its own");
        let events = stream.wait_for("the last", BOUND, |event| event.json()["n"] == 200).await;
        assert!(events.id.is_some());

        nats.stop().await;
        socket.wait_for("a degraded one", BOUND, |frame| frame.json["degraded"] == true).await;
        stream.wait_for("a degraded one", BOUND, |event| event.json()["degraded"] == true).await;
        nats.resume().await;
        let before = socket.frames().len();
        eventually("all is well again", BOUND, async || {
            let frames = socket.frames();
            if frames[before..].iter().any(|frame| frame.json["campaign_id"] == "S") {
                Ok(())
            } else {
                Err(frames.len())
            }
        })
        .await;
        assert_eq!(socket.ended(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_refuse_by_a_status_before_there_is_a_socket() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let asks = "admit = \"dice\"\nrefuse = \"answer\"";
        let edge = listener(&nats, "", &[("/ws/{sid}", asks), ("/told/{sid}", "admit = \"dice\"")]).start().await;
        let status = async |url: &str| match ws::Client::open(url, ws::Options::default()).await {
            Err(ws::Refused::Status { status, body }) => (status, body),
            other => panic!("{url}: {other:?}"),
        };
        assert_eq!(status(&edge.ws("/ws/S")).await.0, 503, "nobody says who may come in");
        let keeper = Keeper::start(&nats, |asked| {
            let allow = asked["sid"] == "S";
            json!({ "allow": allow, "code": 4404, "reason": "There is no such room" }).to_string().into_bytes()
        })
        .await;
        let (code, body) = status(&edge.ws("/ws/T")).await;
        assert_eq!(
            (code, serde_json::from_str::<Value>(&body).unwrap()["error"].as_str()),
            (404, Some("There is no such room"))
        );
        assert_eq!(status(&edge.ws("/ws/a.b")).await.0, 404);
        let told = ws::Client::connect(&edge.ws("/told/T"), ws::PLAIN).await;
        assert_eq!(told.wait_end(BOUND).await.code(), 4404, "as without it");
        let socket = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        numbers(&engine, "gm.S.status", 1..=1).await;
        socket.wait_for("the event", BOUND, |frame| frame.data()["n"] == 1).await;
        keeper.end().await;

        let secret = format!("[ws-edge.jwt]\nsecret = \"{SECRET}\"\n");
        let config = "[[ws-edge.listeners]]\nauth = \"jwt\"\n[[ws-edge.listeners.routes]]\npath = \"/ws/{sid}\"\n\
                      roots = [\"gm\"]\nrefuse = \"answer\"\n";
        let edge = Edge::new(&nats).config(format!("{secret}{config}")).start().await;
        assert_eq!(status(&edge.ws("/ws/S")).await.0, 401, "a token is not waited for");
        let bearer = format!("Bearer {}", hs256(&claims("ann", &["S"])));
        let headers = [("authorization", bearer.as_str())];
        let options = |headers| ws::Options { headers, ..ws::Options::default() };
        let other = ws::Client::open(&edge.ws("/ws/other"), options(&headers)).await;
        assert!(matches!(other, Err(ws::Refused::Status { status: 403, .. })), "{other:?}");
        assert!(ws::Client::open(&edge.ws("/ws/S"), options(&headers)).await.is_ok());
    })
    .await;
}

/// As contracts have it for a lobby: the state at once, then each change, the last of it before the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_lobby_is_configuration() {
    within(MINUTE, async {
        let pages = tempfile::tempdir().unwrap();
        std::fs::write(pages.path().join("index.html"), "<h1>Lobby</h1>").unwrap();
        let options = "admit = \"dice\"\nrefuse = \"answer\"\ndialect = \"raw\"\ntopics = [\"gm.status\"]\n\
                       snapshot = [\"gm.status\"]\nstart = \"snapshot\"\ndelivery = \"latest\"\n\
                       close_on = [\"gm.session.destroyed:1001:session destroyed\"]";
        let more = format!(
            "static = {:?}\nerror_body = \"detail\"\nhealth = {{ ok = '{{\"status\":\"healthy\"}}' }}",
            pages.path()
        );
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edges = [
            listener(&nats, &more, &[("/ws/{sid}", options)]).start().await,
            listener(&nats, &more, &[("/ws/{sid}", options)]).start().await,
        ];
        let _keeper = Keeper::start(&nats, |asked| {
            json!({ "allow": asked["sid"] != "none", "code": 4404 }).to_string().into_bytes()
        })
        .await;
        let status =
            |ready: bool| json!({ "players": [{ "client_id": "a", "ready": ready }], "all_ready": ready }).to_string();
        let watch = async |edge: &Service| ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        let texts = |client: &ws::Client| client.frames().into_iter().map(|frame| frame.text).collect::<Vec<_>>();
        engine.publish("gm.S.player.joined", r#"{"client_id":"a"}"#).await;
        engine.publish("gm.S.status", status(false)).await;
        let viewers = [watch(&edges[0]).await, watch(&edges[1]).await];
        for viewer in &viewers {
            viewer.wait_events(1, BOUND).await;
            assert_eq!(texts(viewer), [status(false)], "the present state at once");
        }
        engine.publish("gm.S.status", status(true)).await;
        for viewer in &viewers {
            viewer.wait_events(2, BOUND).await;
        }
        let empty = r#"{"players":[],"all_ready":false}"#;
        engine.publish("gm.S.status", empty).await;
        engine.publish("gm.S.session.destroyed", "{}").await;
        for viewer in &viewers {
            let end = viewer.wait_end(BOUND).await;
            assert_eq!((end.code(), end.reason()), (1001, "session destroyed"));
            assert_eq!(texts(viewer), [status(false), status(true), empty.to_owned()]);
        }
        let none = ws::Client::open(&edges[0].ws("/ws/none"), ws::Options::default()).await;
        let Err(ws::Refused::Status { status: 404, body }) = none else { panic!("{none:?}") };
        assert!(body.contains("\"detail\":\"No such session\""), "{body}");
        let page = edges[0].get("/").await.expect_status(200);
        assert_eq!(
            (page.header("content-type"), page.text()),
            ("text/html; charset=utf-8", "<h1>Lobby</h1>".to_owned())
        );
        assert_eq!(edges[0].get("/health").await.json(), json!({ "status": "healthy" }));
        let missing = send(Method::GET, &edges[0].http("/tiles/none.png"), &[], "").await.expect_status(404);
        assert_eq!(missing.json(), json!({ "detail": "Not Found" }));
    })
    .await;
}
