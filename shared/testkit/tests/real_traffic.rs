//! The recorded game, through bridge, NATS and edge: what a client sees is what the original programs said.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{cell::Cell, time::Duration};

use herald_testkit::{
    Bridge, Edge, Nats, Service,
    game_master::{Answer, CHOOSE, PROPOSE, Scripted},
    sse, traces, within, ws,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// The recording lasts 280 s; a choose of it waits two minutes for the arena.
const LIMIT: Duration = Duration::from_secs(400);
/// The streams of two turns, in the order in which they were played.
const STREAMS: [&str; 4] = ["gm-propose.turn1", "gm-choose.turn1", "gm-propose.turn2", "gm-choose.turn2"];

/// How the Game Master writes its streams.
#[derive(Clone, Copy)]
enum Pace {
    /// Event by event, with the recorded pauses divided by this.
    Recorded(f64),
    /// All at once.
    AtOnce,
    /// Each byte in a write of its own.
    Bytes,
}

impl Pace {
    fn answer(self, stream: &str) -> Answer {
        let body = traces::text(&format!("{stream}.sse"));
        match self {
            Self::Recorded(speed) => {
                Answer::sse().recorded(&body, &traces::text(&format!("{stream}.timing.ndjson")), speed)
            }
            Self::AtOnce => Answer::sse().send(body),
            Self::Bytes => Answer::sse().split(body, 1),
        }
    }
}

/// The Game Master's frames as the original relay sent them to its player, without the secret.
fn original() -> Vec<Value> {
    let frames = traces::lines("ws-client.ndjson").into_iter().filter_map(|line| {
        let mut frame: Value = serde_json::from_str(line["frame"].as_str()?).expect("a frame");
        if let Some(secretive) = frame.pointer_mut("/data/data").and_then(Value::as_object_mut) {
            secretive.remove("gm_secret");
        }
        frame["event"].as_str()?.starts_with("gm.").then_some(frame)
    });
    frames.collect()
}

/// Topic and payload of every event of the arena in the recording, whichever id it was said under.
fn debate() -> Vec<(String, String)> {
    let events = traces::arena().into_iter().filter_map(|message| {
        let (_, topic) = message.subject.strip_prefix("arena.")?.split_once('.')?;
        Some((topic.to_owned(), message.payload))
    });
    events.collect()
}

struct House {
    gm: Scripted,
    nats: Nats,
    _bridge: Service,
    edge: Service,
}

async fn play(pace: Pace) -> (House, ws::Client) {
    let nats = Nats::start().await;
    let gm = Scripted::start().await;
    let bridge = Bridge::new(&nats).gm(&gm.url()).start().await;
    let edge = Edge::new(&nats).start().await;
    let house = House { gm, nats, _bridge: bridge, edge };
    let session = traces::SESSION;
    let socket = ws::Client::connect(&house.edge.ws(&format!("/ws/{session}?after=0")), ws::V1).await;
    house.gm.on(PROPOSE, [pace.answer(STREAMS[0]), pace.answer(STREAMS[2])]);
    house.gm.on(CHOOSE, [pace.answer(STREAMS[1]), pace.answer(STREAMS[3])]);
    house.edge.get(&format!("/api/start?session_id={session}&lang=fr")).await.expect_status(200);

    let publisher = house.nats.client().await;
    let mut debate = debate().into_iter();
    for (turn, kind) in ["propose", "choose&kind=fake", "propose", "choose&kind=real"].into_iter().enumerate() {
        let (command, choice) = kind.split_once('&').unwrap_or((kind, ""));
        let command = format!("/api/{command}?session_id={session}&lang=fr&{choice}");
        house.edge.get(&command).await.expect_status(202);
        // The arena's half of the recording, while the Game Master speaks.
        for (topic, payload) in debate.by_ref().take(50) {
            publisher.publish(format!("arena.{session}.{topic}"), payload.into()).await.unwrap();
        }
        publisher.flush().await.unwrap();
        let results = Cell::new(0);
        let is_next = |frame: &ws::Frame| {
            results.set(results.get() + usize::from(frame.event() == "gm.result"));
            results.get() > turn
        };
        socket.wait_for("the result", SOON * 4, is_next).await;
    }
    assert_eq!(debate.next(), None, "all of the debate was published");
    (house, socket)
}

/// What the client saw is what was recorded.
async fn judge(house: &House, socket: &ws::Client) {
    let shown: Vec<_> = debate().into_iter().filter(|(topic, _)| topic != "input.fakenews").collect();
    // The recorded player saw three turns; two of their streams were kept.
    let original: Vec<_> = original().into_iter().take(336).collect();
    let frames = socket.wait_events(original.len() + shown.len(), SOON).await;
    let (gm, arena): (Vec<_>, Vec<_>) = frames.iter().partition(|frame| frame.event().starts_with("gm."));
    assert_eq!((gm.len(), arena.len()), (original.len(), shown.len()));
    for (frame, original) in gm.iter().zip(&original) {
        assert_eq!((frame.event(), frame.data()), (original["event"].as_str().unwrap(), &original["data"]));
        assert!(!frame.text.contains("gm_secret"));
    }
    for (frame, (topic, payload)) in arena.iter().zip(&shown) {
        let head = format!(r#"{{"event":"arena.{topic}","data":{payload},"seq":"#);
        assert!(frame.text.starts_with(&head), "{} is not {head}", frame.text);
    }
    socket.check_order();
    assert_eq!((house.gm.asked(PROPOSE).len(), house.gm.asked(CHOOSE).len()), (2, 2), "each was asked for once");

    // Who comes after the game sees the same.
    let url = format!("/ws/{}?after=0", traces::SESSION);
    let late = ws::Client::connect(&house.edge.ws(&url), ws::PLAIN).await;
    let again = late.wait_events(frames.len(), SOON).await;
    let reader = sse::Client::connect(&house.edge.http(&format!("/sse/{}?after=0", traces::SESSION)), None).await;
    let events = reader.wait_events(frames.len(), SOON).await;
    for ((frame, late), event) in frames.iter().zip(&again).zip(&events) {
        assert_eq!((frame.seq(), frame.data()), (late.seq(), late.data()));
        assert_eq!(late.json, event.json());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_game_arrives_whole_at_twenty_times_its_speed() {
    within(LIMIT, async {
        let full = std::env::var_os("HERALD_TEST_FULL").is_some();
        let (house, socket) = play(Pace::Recorded(if full { 1.0 } else { 20.0 })).await;
        judge(&house, &socket).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_game_arrives_whole_at_full_speed() {
    within(LIMIT, async {
        let (house, socket) = play(Pace::AtOnce).await;
        judge(&house, &socket).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_game_arrives_whole_in_single_bytes() {
    within(LIMIT, async {
        let (house, socket) = play(Pace::Bytes).await;
        judge(&house, &socket).await;
    })
    .await;
}
