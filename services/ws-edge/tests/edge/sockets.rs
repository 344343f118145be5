//! What watches a session, over a whole edge: dialects, aliases, odd input of engines and clients, and the planned end.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use herald_testkit::{
    Edge, Nats, Service, eventually,
    http::{self, Raw},
    sse, within, ws,
};
use serde_json::{Value, json, value::RawValue};
use tokio_tungstenite::tungstenite::Message;

use crate::support::Engine;

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);
const ARENA: &str = include_str!("../../../../shared/testkit/fixtures/traces/arena.ndjson");
const ODD: &str = include_str!("../../../../shared/testkit/fixtures/traces/arena-edge-payloads.ndjson");
const BODIES: [&str; 4] = [
    include_str!("../../../../shared/testkit/fixtures/traces/gm-propose.turn1.sse"),
    include_str!("../../../../shared/testkit/fixtures/traces/gm-choose.turn1.sse"),
    include_str!("../../../../shared/testkit/fixtures/traces/gm-propose.turn2.sse"),
    include_str!("../../../../shared/testkit/fixtures/traces/gm-choose.turn2.sse"),
];

pub(crate) async fn edge() -> (Nats, Engine, Service) {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    let edge = Edge::new(&nats).start().await;
    (nats, engine, edge)
}

/// Topic and payload of the recorded events: two turns of the Game Master, then the arena's game.
pub(crate) fn recording() -> Vec<(String, String)> {
    #[derive(serde::Deserialize)]
    struct Recorded<'a> {
        subject: String,
        #[serde(borrow)]
        payload: &'a RawValue,
    }
    let gm =
        BODIES.iter().flat_map(|body| body.lines()).filter_map(|line| line.strip_prefix("data: ")).filter_map(|text| {
            let event: Value = serde_json::from_str(text).unwrap();
            let kind = event["type"].as_str().unwrap();
            (kind != "heartbeat").then(|| (format!("gm.S.{kind}"), text.to_owned()))
        });
    let arena = ARENA.lines().filter_map(|line| {
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        let topic = recorded.subject.splitn(3, '.').nth(2)?.to_owned();
        Some((format!("arena.S.{topic}"), recorded.payload.get().to_owned()))
    });
    gm.chain(arena).collect()
}

fn without_seq(frame: &ws::Frame) -> Value {
    let mut json = frame.json.clone();
    let object = json.as_object_mut().unwrap();
    assert!(object.remove("seq").is_some() && object.remove("ts").is_some(), "{}", frame.text);
    json
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_game_reaches_all_three_doors_in_their_dialects() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        engine.alias("G", "S", 0).await;
        let event = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        let v1 = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        let app = ws::Client::connect(&edge.ws("/app/ws/S?after=0"), ws::PLAIN).await;
        let gm = ws::Client::connect(&edge.ws("/gm/ws/G"), ws::PLAIN).await;
        let asked = ws::Client::connect(&edge.ws("/ws/S?after=0&dialect=app"), ws::PLAIN).await;
        let stream = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
        let recording = recording();
        engine.publish("gm.S._action", r#"{"n":1,"kind":"propose"}"#).await;
        for (subject, payload) in &recording {
            engine.publish(subject, payload.clone()).await;
        }
        let shown: Vec<_> = recording
            .iter()
            .filter(|(subject, _)| subject != "arena.S.input.fakenews")
            .map(|(subject, payload)| (subject.replacen(".S.", ".", 1), payload))
            .collect();
        let frames = event.wait_events(shown.len(), BOUND).await;
        assert_eq!(frames.len(), shown.len());
        for (frame, (name, payload)) in frames.iter().zip(&shown) {
            let head = format!(r#"{{"event":"{name}","data":{payload},"seq":"#);
            assert!(frame.text.starts_with(&head), "{} is not {head}", frame.text);
        }
        event.check_order();
        let of_v1 = v1.wait_events(shown.len(), BOUND).await;
        assert!(of_v1.iter().zip(&frames).all(|(one, other)| one.json["data"] == other.json["data"]));
        v1.check_order();
        let events = stream.wait_events(shown.len(), BOUND).await;
        assert!(events.iter().zip(&frames).all(|(one, other)| one.json() == other.json));

        let of_app = app.wait_events(shown.len(), BOUND).await;
        for (frame, (name, payload)) in of_app.iter().zip(&shown) {
            let (root, topic) = name.split_once('.').unwrap();
            let event: Value = serde_json::from_str(payload).unwrap();
            let mut expected = json!({"event": name, "data": event});
            if root == "arena" {
                expected["subject"] = json!(topic);
            } else if event["data"].is_object() && !["reactions", "proposal", "images"].contains(&topic) {
                expected["data"] = event["data"].clone();
                expected["data"].as_object_mut().unwrap().entry("type").or_insert(json!(topic));
            }
            assert_eq!(without_seq(frame), expected);
        }
        let of_asked = asked.wait_events(shown.len(), BOUND).await;
        assert!(of_asked.iter().zip(&of_app).all(|(one, other)| one.text == other.text));

        let heard: Vec<_> = shown
            .iter()
            .filter_map(|(name, payload)| Some((name.strip_prefix("arena.")?, *payload)))
            .filter(|(topic, _)| !(topic.starts_with("agent.") && topic.ends_with(".status")))
            .collect();
        let of_gm = gm.wait_events(heard.len(), BOUND).await;
        for (frame, (topic, payload)) in of_gm.iter().zip(&heard) {
            let mut data: Value = serde_json::from_str(payload).unwrap();
            let mut subject = *topic;
            if topic.starts_with("agent.") {
                subject = "agent.status";
                data["take"] = data["content"].clone();
            }
            assert_eq!(frame.json, json!({"subject": subject, "data": data}));
        }
        assert_eq!(of_gm.len(), heard.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_payloads_are_shown_turned_into_text_or_skipped_and_nobody_is_dropped() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        let plain = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        let v1 = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        let app = ws::Client::connect(&edge.ws("/app/ws/S?after=0"), ws::PLAIN).await;
        let mut expected = Vec::new();
        for line in ODD.lines() {
            let odd: Value = serde_json::from_str(line).unwrap();
            let topic = odd["subject"].as_str().unwrap().strip_prefix("arena.edge-payloads.").unwrap();
            let latin1 = odd["payload_latin1"].as_str().unwrap();
            let payload: Vec<u8> = latin1.chars().map(|byte| u8::try_from(byte).unwrap()).collect();
            let text = String::from_utf8(payload.clone()).ok();
            expected.extend(text.map(|text| (format!("arena.{topic}"), text)));
            engine.publish(&format!("arena.S.{topic}"), payload).await;
        }
        let huge = format!("{{\"huge\":\"{}\"}}", "x".repeat(5_000_000));
        for (topic, payload) in [
            ("agent.a\"b\\c.status", "{\"state\":\"odd\"}".to_owned()),
            ("agent.\u{1F47E}.output", "{}".to_owned()),
            ("NaN", "NaN".to_owned()),
            ("huge", huge),
            ("last", "{\"at\":\"last\"}".to_owned()),
        ] {
            engine.publish(&format!("arena.S.{topic}"), payload.clone()).await;
            expected.push((format!("arena.{topic}"), payload));
        }
        for client in [&plain, &v1, &app] {
            let frames = client.wait_events(expected.len(), BOUND).await;
            for (frame, (name, payload)) in frames.iter().zip(&expected) {
                let frame: std::collections::HashMap<String, &RawValue> = serde_json::from_str(&frame.text).unwrap();
                assert_eq!(serde_json::from_str::<String>(frame["event"].get()).unwrap(), *name);
                let data = frame["data"].get();
                let text = serde_json::from_str::<String>(data);
                assert!(data == payload.trim() || text.is_ok_and(|text| text == *payload), "{name}: {data:.200}");
            }
            assert_eq!(frames.len(), expected.len());
            assert_eq!(client.ended(), None);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_waited_for_followed_and_counts_for_nobody() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        engine.publish("arena.one.round.start", "{\"round\":0}").await;
        let early = ws::Client::connect(&edge.ws("/gm/ws/G"), ws::PLAIN).await;
        let first = engine.publish("arena.one.round.start", "{\"round\":1}").await;
        engine.publish("arena.one.round.start", "{\"round\":2}").await;
        engine.alias("G", "one", first).await;
        let round = |number: u64| move |frame: &ws::Frame| frame.data()["round"] == number;
        early.wait_for("what is behind the alias' position", BOUND, round(2)).await;
        engine.publish("arena.one.round.start", "{\"round\":3}").await;
        early.wait_for("the next one", BOUND, round(3)).await;

        let other = engine.publish("arena.two.round.start", "{\"round\":20}").await;
        engine.publish("arena.two.round.start", "{\"round\":21}").await;
        engine.alias("G", "two", other).await;
        early.wait_for("the other session, from its position on", BOUND, round(21)).await;
        engine.publish("arena.one.round.start", "{\"round\":4}").await;
        engine.publish("arena.two.round.start", "{\"round\":22}").await;
        early.wait_for("the other session", BOUND, round(22)).await;
        let late = ws::Client::connect(&edge.ws("/gm/ws/G"), ws::PLAIN).await;
        engine.publish("arena.two.round.start", "{\"round\":23}").await;
        late.wait_for("live", BOUND, round(23)).await;
        early.wait_for("live", BOUND, round(23)).await;
        let rounds: Vec<_> = early.events().iter().map(|frame| frame.data()["round"].as_u64().unwrap()).collect();
        assert_eq!(rounds, [2, 3, 21, 22, 23], "nothing twice, nothing of before, nothing of the session it left");

        let player = ws::Client::connect(&edge.ws("/ws/two"), ws::PLAIN).await;
        let reader = sse::Client::connect(&edge.http("/sse/two"), None).await;
        eventually("players count, the Game Master's sockets don't", BOUND, async || {
            let answers = engine.watching("two", Duration::from_millis(300)).await;
            match &answers[..] {
                [answer] if answer["count"] == 2 && answer["edge"].is_string() => Ok(()),
                _ => Err(answers),
            }
        })
        .await;
        drop((player, reader));
        eventually("who has left does not count, and nobody is an answer too", BOUND, async || {
            let answers = engine.watching("two", Duration::from_millis(300)).await;
            if answers.len() == 1 && answers[0]["count"] == 0 { Ok(()) } else { Err(answers) }
        })
        .await;
        assert_eq!(engine.watching("never-seen", Duration::from_millis(300)).await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_survives_a_restart_of_nats() {
    within(MINUTE, async {
        let (mut nats, engine, mut edge) = edge().await;
        engine.alias("G", "one", 0).await;
        let gm = ws::Client::connect(&edge.ws("/gm/ws/G"), ws::PLAIN).await;
        engine.publish("arena.one.x", "1").await;
        gm.wait_for("the first session", BOUND, |frame| frame.json["data"] == 1).await;
        nats.stop().await;
        edge.wait_not_ready(BOUND).await;
        nats.resume().await;
        edge.wait_ready(BOUND).await;
        eventually(
            "the engine is back too",
            BOUND,
            async || {
                if engine.nats.connected() { Ok(()) } else { Err("away") }
            },
        )
        .await;
        let before = engine.publish("arena.two.x", "2").await;
        engine.alias("G", "two", before - 1).await;
        gm.wait_for("the second session", BOUND, |frame| frame.json["data"] == 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_life_is_answered_with_a_gap() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        engine.publish("gm.S.phase", "1").await;
        engine.publish("gm.S.phase", "2").await;
        let plain = ws::Client::connect(&edge.ws("/ws/S?after=deadbeef-1"), ws::PLAIN).await;
        let end = plain.wait_end(BOUND).await;
        assert_eq!(end.code(), 4410, "{end:?}");
        let after = end.reason().strip_prefix("after=").unwrap().to_owned();
        assert!(plain.events().is_empty(), "nothing that could be misread");
        let back = ws::Client::connect(&edge.ws(&format!("/ws/S?after={after}")), ws::PLAIN).await;
        let frames = back.wait_events(2, BOUND).await;
        assert_eq!(frames.iter().map(|frame| frame.json["data"].clone()).collect::<Vec<_>>(), [json!(1), json!(2)]);

        for path in ["/ws/S?after=deadbeef-1", "/ws/S?after=999999"] {
            let v1 = ws::Client::connect(&edge.ws(path), ws::V1).await;
            let gap = v1.wait_for("the gap", BOUND, |frame| frame.event() == "herald.gap").await;
            assert!(gap.data()["from"].is_u64() && gap.data()["to"].is_u64() && gap.data()["reason"].is_string());
            v1.wait_events(2, BOUND).await;
            v1.check_order();
        }
        let stream = sse::Client::connect(&edge.http("/sse/S"), Some("deadbeef-1")).await;
        stream.wait_for("the gap", BOUND, |event| event.event == "herald.gap").await;
        stream.wait_for("the last event", BOUND, |event| event.json()["data"] == 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_alone_with_it() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.write_timeout", "2s").set("socket.send_buffer", "64KiB").start().await;
        let narrow = ws::Options { receive_buffer: Some(4096), ..ws::Options::default() };
        let asleep = ws::Client::open(&edge.ws("/ws/S?after=0"), narrow).await.unwrap();
        asleep.stall(true).await;
        let awake = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        let elsewhere = ws::Client::connect(&edge.ws("/ws/other?after=0"), ws::PLAIN).await;
        let text = format!("\"{}\"", "x".repeat(50_000));
        for _ in 0..40 {
            engine.publish("gm.S.llm_text", text.clone()).await;
        }
        engine.publish("gm.other.phase", "1").await;
        awake.wait_events(40, BOUND).await;
        elsewhere.wait_events(1, BOUND).await;
        eventually("the sleeper is given up", BOUND, async || {
            let answers = engine.watching("S", Duration::from_millis(300)).await;
            if answers.first().is_some_and(|answer| answer["count"] == 1) { Ok(()) } else { Err(answers) }
        })
        .await;
        asleep.stall(false).await;
        let end = asleep.wait_end(BOUND).await;
        assert_eq!(end.code(), 4408, "{end:?}");
        let after = end.reason().strip_prefix("resume after=").unwrap().to_owned();
        assert!(after.ends_with(&format!("-{}", asleep.last_seq())), "{after} is not what it has seen");
        asleep.check_order();
        let back = ws::Client::connect(&edge.ws(&format!("/ws/S?after={after}")), ws::PLAIN).await;
        back.wait_for("the last event", BOUND, |frame| frame.seq() == Some(awake.last_seq())).await;
        assert_eq!(asleep.events().len() + back.events().len(), 40);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_send_is_ignored_within_its_limits() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        let chatty = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        for message in [
            Message::text("{\"type\":\"subscribe\"}"),
            Message::binary(vec![0xFF; 60_000]),
            Message::text("x".repeat(65_536)),
            Message::Ping("are you there".into()),
        ] {
            chatty.send(message).await;
        }
        engine.publish("gm.S.phase", "1").await;
        chatty.wait_events(1, BOUND).await;
        chatty.send(Message::binary(vec![0; 65_537])).await;
        assert_eq!(chatty.wait_end(BOUND).await.code(), 1009);
        let polite = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        assert_eq!(polite.close().await.code(), 1000);

        let mut rude = Raw::connect(edge.address()).await;
        rude.write(UPGRADE).await;
        rude.read_until(b"\r\n\r\n", BOUND).await;
        rude.write([0x81, 0x01, b'x']).await;
        let rest = rude.read_to_end(BOUND).await;
        assert_eq!(rest[..4], [0x88, rest[1], 0x03, 0xEA], "1002 for an unmasked frame");
    })
    .await;
}

const UPGRADE: &str = "GET /ws/S HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn bytes_sent_right_behind_the_handshake_are_not_lost() {
    within(MINUTE, async {
        let (_nats, _engine, edge) = edge().await;
        let mut eager = Raw::connect(edge.address()).await;
        // A masked ping with the payload "now", in one segment with the handshake.
        eager.write([UPGRADE.as_bytes(), &[0x89, 0x83, 0, 0, 0, 0, b'n', b'o', b'w']].concat()).await;
        eager.read_until(b"\x8A\x03now", BOUND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_to_come_later() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.max_connections", 2).start().await;
        let one = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        let _two = sse::Client::connect(&edge.http("/sse/S"), None).await;
        let three = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        assert_eq!(three.wait_end(BOUND).await.code(), 1013);
        http::get(&edge.http("/sse/S")).await.expect_status(503);
        one.close().await;
        eventually("the place is free again", BOUND, async || {
            let client = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
            // Greeted, or sent away once more.
            eventually("an answer", BOUND, async || {
                let greeted = client.frames().iter().any(|frame| frame.event() == "herald.hello");
                match client.ended() {
                    Some(end) => Ok(Err(end)),
                    None if greeted => Ok(Ok(())),
                    None => Err(client.frames()),
                }
            })
            .await
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_end_sends_everybody_away_in_turn() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut edge = Edge::new(&nats).set("drain.period", "3s").start().await;
        let successor = Edge::new(&nats).start().await;
        let path = edge.ws("/ws/S?after=0");
        let clients =
            join_all((0..20).map(|at| ws::Client::connect(&path, if at % 2 == 0 { ws::V1 } else { ws::PLAIN }))).await;
        let stream = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
        engine.publish("gm.S.phase", "1").await;
        for client in &clients {
            client.wait_events(1, BOUND).await;
        }
        stream.wait_events(1, BOUND).await;
        let begun = std::time::Instant::now();
        edge.process().signal(rustix::process::Signal::TERM);
        // Those who are not yet gone are still served.
        let second = engine.publish("gm.S.phase", "2").await;
        let mut ends = Vec::new();
        for client in &clients {
            let end = client.wait_end(BOUND).await;
            ends.push(begun.elapsed());
            assert_eq!(end.code(), 1012, "{end:?}");
            client.check_order();
            if client.protocol().is_some() {
                let bye = client.wait_for("bye", BOUND, |frame| frame.event() == "herald.bye").await;
                assert!(bye.data()["retry_ms"].is_u64());
                let after = bye.data()["after"].as_str().unwrap();
                let back = ws::Client::connect(&successor.ws(&format!("/ws/S?after={after}")), ws::V1).await;
                if client.last_seq() < second {
                    back.wait_for("what was missed", BOUND, |frame| frame.seq() == Some(second)).await;
                }
            }
        }
        stream.wait_end(BOUND).await;
        assert_eq!(edge.process().wait(Duration::from_secs(27)).await.code(), Some(0));
        let spread: HashSet<_> = ends.iter().map(Duration::as_millis).collect();
        assert!(begun.elapsed() > Duration::from_secs(1) && !spread.is_empty(), "{ends:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_written_in_pieces_arrive_whole_with_pings_and_pongs_between_them() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // Buffers so small that hardly a frame is written at once, and rings that are left behind all the time.
        let settings = [("socket.send_buffer", "4KiB"), ("socket.heartbeat", "100ms"), ("ring.frames", "3")];
        let edge = settings.iter().fold(Edge::new(&nats), |edge, (key, value)| edge.set(key, *value));
        let edge = edge.start().await;
        let url = edge.ws("/ws/S?after=0");
        let narrow = async |protocols| {
            let options = ws::Options { protocols, receive_buffer: Some(4096), ..Default::default() };
            ws::Client::open(&url, options).await.unwrap()
        };
        let (v1, plain, leaving) = tokio::join!(narrow(ws::V1), narrow(ws::PLAIN), narrow(ws::PLAIN));
        v1.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        let payload =
            |number: usize| format!("[{number},\"{}\"]", "x".repeat([1, 124, 3000, 40_000, 70_000][number % 5]));
        for number in 0..200 {
            let ping = Message::Ping(number.to_string().into());
            tokio::join!(engine.publish("gm.S.phase", payload(number)), v1.send(ping.clone()), plain.send(ping));
        }
        assert_eq!(leaving.close().await.code(), 1000, "also in the middle of a frame");
        for client in [&v1, &plain] {
            let events = client.wait_events(200, BOUND).await;
            assert_eq!(events.len(), 200);
            for (number, event) in events.iter().enumerate() {
                let data: Value = serde_json::from_str(&payload(number)).unwrap();
                assert_eq!(*event.data(), data);
            }
            client.check_order();
            client.send(Message::Ping("last".into())).await;
            eventually("the last pong", BOUND, async || {
                let pongs = client.pongs();
                if pongs.last().is_some_and(|pong| **pong == *b"last") { Ok(()) } else { Err(pongs.len()) }
            })
            .await;
            // Where several wait for the end of a frame, the latest is answered.
            let answered: Vec<usize> =
                client.pongs().iter().filter_map(|pong| std::str::from_utf8(pong).unwrap().parse().ok()).collect();
            assert!(answered.is_sorted_by(|one, other| one < other), "{answered:?}");
            eventually("a ping", BOUND, async || if client.pings().is_empty() { Err(0) } else { Ok(()) }).await;
        }
    })
    .await;
}
