//! The past played again: its own times, divided by a speed, until it is now.

use std::time::{Duration, Instant};

use herald_testkit::{Edge, Nats, Service, eventually, http, sse, within, ws};
use serde_json::{Value, json};

use crate::{sockets::edge, support::Engine};

const MINUTES: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(30);
/// What is stored with so much time between its parts.
const GAP: Duration = Duration::from_millis(600);

/// Three events at once, and two each a gap later; their sequences.
async fn publish(engine: &Engine) -> Vec<u64> {
    let mut all = Vec::new();
    for n in 1..=5 {
        if n > 3 {
            // What is measured is time itself.
            tokio::time::sleep(GAP).await;
        }
        all.push(engine.publish("gm.S.phase", json!({ "n": n }).to_string()).await);
    }
    all
}

fn replay(data: &Value) -> String {
    json!({ "event": "herald.replay", "data": data }).to_string()
}

fn is_state(frame: &ws::Frame, state: &str) -> bool {
    frame.event() == "herald.replay" && frame.data()["state"] == state
}

/// Waits for so many frames of that name; the last of them.
async fn told(client: &ws::Client, name: &str, count: usize) -> Value {
    let told = async || {
        let frames = client.frames().into_iter().filter(|frame| frame.event() == name);
        let all: Vec<_> = frames.map(|frame| frame.data().clone()).collect();
        if all.len() >= count { Ok(all[count - 1].clone()) } else { Err(all) }
    };
    eventually(name, BOUND, told).await
}

async fn plays(edge: &Service) -> f64 {
    edge.metric("herald_timed_replays_count", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_their_own_time_divided_by_the_speed_and_then_live() {
    within(MINUTES, async {
        let (_nats, engine, edge) = edge().await;
        let stored = publish(&engine).await;
        for (speed, most) in [("0.5", None), ("2", None), ("1", Some("0.05"))] {
            let cap = most.map(|most| format!("&max_gap={most}")).unwrap_or_default();
            let query = format!("?after=0&speed={speed}{cap}");
            let begun = Instant::now();
            let sockets = [
                ws::Client::connect(&edge.ws(&format!("/ws/S{query}")), ws::V1).await,
                ws::Client::connect(&edge.ws(&format!("/ws/S{query}")), ws::PLAIN).await,
            ];
            let stream = sse::Client::connect(&edge.http(&format!("/sse/S{query}")), None).await;
            let speed: f64 = speed.parse().unwrap();
            let gap = most.map_or(GAP.div_f64(speed), |_| Duration::from_millis(50));
            sockets[0].wait_events(3, BOUND).await;
            let first = begun.elapsed();
            sockets[0].wait_events(5, BOUND).await;
            let took = begun.elapsed();
            // Never too early; how late is the machine's to say.
            assert!(took >= gap * 2 - Duration::from_millis(20), "{speed} {cap}: {took:?} after {first:?}");
            for socket in &sockets {
                socket.wait_events(5, BOUND).await;
                socket.check_order();
            }
            stream.wait_events(5, BOUND).await;
            let live = sockets[0].wait_for("live", BOUND, |frame| frame.event() == "herald.live").await;
            assert!(live.data()["after"].as_u64() >= stored.last().copied());
            stream.wait_for("live", BOUND, |event| event.event == "herald.live").await;
            let next = engine.publish("gm.S.live", "{}").await;
            for socket in &sockets {
                socket.wait_for("what happens", BOUND, |frame| frame.seq() == Some(next)).await;
                socket.check_order();
            }
            stream.wait_for("what happens", BOUND, |event| event.json()["seq"] == next).await;
            drop((sockets, stream));
            herald_runtime::jetstream::purge_below(&engine.nats, "EVENTS", "gm.S.live", next + 1).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_that_is_in_memory_is_played_in_its_own_time_too() {
    within(MINUTES, async {
        let (_nats, engine, edge) = edge().await;
        publish(&engine).await;
        // Who has read all of it back leaves it in the ring of their view.
        let stream = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
        stream.wait_events(5, BOUND).await;
        let plain = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
        plain.wait_events(5, BOUND).await;
        let begun = Instant::now();
        let played = sse::Client::connect(&edge.http("/sse/S?after=0&speed=1"), None).await;
        let socket = ws::Client::connect(&edge.ws("/ws/S?after=0&speed=1"), ws::PLAIN).await;
        played.wait_events(5, BOUND).await;
        assert!(begun.elapsed() >= GAP * 2 - Duration::from_millis(20), "{:?}", begun.elapsed());
        played.wait_for("live", BOUND, |event| event.event == "herald.live").await;
        socket.wait_events(5, BOUND).await;
        assert!(begun.elapsed() >= GAP * 2 - Duration::from_millis(20), "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_halts_goes_on_faster_elsewhere_and_to_what_happens() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // Pages of two events or so.
        let edge = Edge::new(&nats).set("history.page", "64B").set("history.shelf", "0B").start().await;
        let stored = publish(&engine).await;
        // A crawl: the fourth event is six seconds away.
        let client = ws::Client::connect(&edge.ws("/ws/S?after=0&speed=0.1"), ws::V1).await;
        let first = told(&client, "herald.replay", 1).await;
        assert_eq!((&first["state"], &first["speed"], &first["after"]), (&json!("playing"), &json!(0.1), &json!(0)));
        client.wait_events(3, BOUND).await;
        client.send_text(replay(&json!({ "pause": true }))).await;
        let paused = told(&client, "herald.replay", 2).await;
        assert_eq!((&paused["state"], &paused["after"]), (&json!("paused"), &json!(stored[2])));
        client.send_text(replay(&json!({ "pause": false, "speed": 64 }))).await;
        assert_eq!(told(&client, "herald.replay", 3).await["speed"], 64.0);
        client.wait_events(5, BOUND).await;
        client.wait_for("live", BOUND, |frame| frame.event() == "herald.live").await;
        client.check_order();
        // Back to the second, from where it is now.
        client.send_text(replay(&json!({ "seek": stored[0], "speed": 64 }))).await;
        let back = told(&client, "herald.replay", 4).await;
        assert_eq!((&back["state"], &back["after"]), (&json!("playing"), &json!(stored[0])));
        client.wait_events(9, BOUND).await;
        let seqs: Vec<_> = client.events().iter().filter_map(ws::Frame::seq).collect();
        assert_eq!(seqs[5..], stored[1..]);
        told(&client, "herald.live", 2).await;
        // To the beginning, and on to now without what lies between.
        client.send_text(replay(&json!({ "seek": "0", "speed": 0.1 }))).await;
        client.wait_events(12, BOUND).await;
        client.send_text(replay(&json!({ "live": true }))).await;
        told(&client, "herald.live", 3).await;
        let next = engine.publish("gm.S.live", "{}").await;
        client.wait_for("what happens", BOUND, |frame| frame.seq() == Some(next)).await;
        assert_eq!(client.events().len(), 13);
        // Halted while it happens: nothing of it is lost.
        client.send_text(replay(&json!({ "pause": true }))).await;
        client.wait_for("a halt", BOUND, |frame| is_state(frame, "paused") && frame.data()["after"] == next).await;
        let later = engine.publish("gm.S.live", "{}").await;
        client.send_text(replay(&json!({ "pause": false }))).await;
        client.wait_for("what happened", BOUND, |frame| frame.seq() == Some(later)).await;
        // What can't be done is said, and changes nothing.
        for (data, reason) in [
            (json!({ "seek": 999_999 }), "beyond"),
            (json!({ "seek": "deadbeef-1" }), "epoch"),
            (json!({ "speed": 65 }), "malformed"),
            (json!({}), "malformed"),
        ] {
            client.send_text(replay(&data)).await;
            client
                .wait_for(reason, BOUND, |frame| is_state(frame, "refused") && frame.data()["reason"] == reason)
                .await;
        }
        assert_eq!((client.ended(), plays(&edge).await), (None, 1.0));
        let last = engine.publish("gm.S.live", "{}").await;
        client.wait_for("it goes on", BOUND, |frame| frame.seq() == Some(last)).await;
        engine.publish("gm.S._over", "{}").await;
        assert_eq!(client.wait_end(BOUND).await.code(), 4411);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drops_out_of_a_replay_comes_back_by_cursor() {
    within(MINUTES, async {
        let (_nats, engine, edge) = edge().await;
        let stored = publish(&engine).await;
        let url = edge.http("/sse/S?after=0&speed=64");
        let mut seen = Vec::new();
        let mut id = None::<String>;
        while seen.len() < stored.len() {
            let stream = sse::Client::connect(&url, id.as_deref()).await;
            let events = stream.wait_events(1, BOUND).await;
            seen.extend(events.iter().filter_map(|event| event.json()["seq"].as_u64()));
            id = events.last().and_then(|event| event.id.clone());
        }
        assert_eq!(seen, stored);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_are_counted_and_what_makes_none_is_refused() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        publish(&engine).await;
        let edge = Edge::new(&nats).set("replay.max_timed", 1).start().await;
        let one = ws::Client::connect(&edge.ws("/ws/S?speed=0.1"), ws::V1).await;
        one.wait_events(3, BOUND).await;
        let other = ws::Client::connect(&edge.ws("/ws/S?speed=1"), ws::V1).await;
        assert_eq!(other.wait_end(BOUND).await.code(), 1013);
        edge.get("/sse/S?speed=1").await.expect_status(503);
        one.cut().await;
        eventually("its place is free", BOUND, async || match plays(&edge).await {
            0.0 => Ok(()),
            count => Err(count),
        })
        .await;
        for (path, error) in [
            ("/sse/S?speed=0", "speed: expected a number from 0.1 to 64"),
            ("/sse/S?speed=1&snapshot=1", "speed and snapshot exclude each other"),
            ("/sse/S?max_gap=1", "max_gap: expected seconds from 0.01 to 3600, beside speed"),
            ("/sessions/S/events?speed=1", "speed: nothing is played on this path"),
            ("/gm/sse/S?speed=1", "speed: nothing is played on this path"),
        ] {
            assert_eq!(http::get(&edge.http(path)).await.expect_status(400).error(), error, "{path}");
        }
        // Who plays nothing says nothing: it is ignored, as ever.
        let plain = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        plain.wait_events(5, BOUND).await;
        plain.send_text(replay(&json!({ "seek": 0 }))).await;
        let next = engine.publish("gm.S.live", "{}").await;
        plain.wait_for("what happens", BOUND, |frame| frame.seq() == Some(next)).await;
        assert_eq!(plain.events().len(), 6);
    })
    .await;
}
