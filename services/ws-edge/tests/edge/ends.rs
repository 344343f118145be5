//! Sessions that are over: their clients have everything, are told so, and stay away.

use std::time::Duration;

use herald_testkit::{Edge, Nats, eventually, http, sse, within, ws};
use serde_json::json;

use crate::{sockets::edge, support::Engine};

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(30);

fn phase(number: u64) -> impl Fn(&ws::Frame) -> bool {
    move |frame| frame.data()["n"] == number
}

async fn publish(engine: &Engine, session: &str, numbers: std::ops::RangeInclusive<u64>) -> u64 {
    let mut last = 0;
    for number in numbers {
        last = engine.publish(&format!("gm.{session}.phase"), json!({ "n": number }).to_string()).await;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_that_it_is_over_once_they_have_everything() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        let (mut plain, mut v1) = (Vec::new(), Vec::new());
        for path in ["/ws/S", "/ws/S?after=0", "/app/ws/S"] {
            plain.push(ws::Client::connect(&edge.ws(path), ws::PLAIN).await);
            v1.push(ws::Client::connect(&edge.ws(path), ws::V1).await);
        }
        let stream = sse::Client::connect(&edge.http("/sse/S"), None).await;
        let other = ws::Client::connect(&edge.ws("/ws/other"), ws::V1).await;
        engine.publish("gm.S._action", r#"{"n":1,"kind":"propose"}"#).await;
        publish(&engine, "S", 1..=50).await;
        let over = engine.publish("gm.S._over", "{}").await;
        for client in plain.iter().chain(&v1) {
            let end = client.wait_end(BOUND).await;
            assert_eq!(end.code(), 4411);
            assert!(end.reason().starts_with("over after=") && end.reason().ends_with(&format!("-{over}")), "{end:?}");
            assert_eq!(client.events().len(), 50);
            client.check_order();
        }
        for client in &v1 {
            let frames = client.frames();
            let bye = frames.last().unwrap();
            assert_eq!((bye.event(), &bye.data()["over"]), ("herald.bye", &json!(true)));
            assert!(bye.data()["after"].as_str().unwrap().ends_with(&format!("-{over}")), "{}", bye.text);
            assert!(bye.data().get("retry_ms").is_none(), "{}", bye.text);
        }
        assert!(plain.iter().all(|client| client.frames().len() == 50), "nothing that the originals don't know");
        stream.wait_end(BOUND).await;
        let bye = stream.events().into_iter().find(|event| event.event == "herald.bye").unwrap();
        assert_eq!((&bye.json()["over"], stream.retry()), (&json!(true), None));
        publish(&engine, "other", 1..=1).await;
        other.wait_for("another session goes on", BOUND, phase(1)).await;
        assert_eq!(other.ended(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_an_ended_session_can_be_read_at_any_edge_and_then_it_is_over() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        publish(&engine, "S", 1..=600).await;
        engine.publish("arena.S._over", "{}").await;
        // What comes late is shown, and ends nothing and begins nothing.
        let last = engine.publish("arena.S.state.global", r#"{"n":601}"#).await;
        // None of these edges has seen it end.
        for shelf in ["0B", "64MiB"] {
            let edge = Edge::new(&nats).set("history.shelf", shelf).start().await;
            for (path, count) in [("/ws/S?after=0", 601), ("/ws/S?after=590", 11), ("/ws/S", 0)] {
                for protocols in [ws::PLAIN, ws::V1] {
                    let client = ws::Client::connect(&edge.ws(path), protocols).await;
                    assert_eq!(client.wait_end(BOUND).await.code(), 4411, "{path}");
                    assert_eq!(client.events().len(), count, "{path}");
                    client.check_order();
                }
            }
            let snapshot = ws::Client::connect(&edge.ws("/ws/S?snapshot=1"), ws::V1).await;
            snapshot.wait_end(BOUND).await;
            assert!(snapshot.frames().iter().any(|frame| frame.event() == "herald.live"));
            let stream = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
            stream.wait_end(BOUND).await;
            let events = stream.events();
            let shown: Vec<_> = events.iter().filter(|event| event.event == "message").collect();
            assert_eq!(shown.len(), 601);
            assert!(shown[600].id.as_ref().unwrap().ends_with(&format!("-{last}")));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_that_has_everything_is_answered_204_and_others_get_the_rest() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let first = publish(&engine, "S", 1..=1).await;
        let last = publish(&engine, "S", 2..=5).await;
        let over = engine.publish("gm.S._over", "{}").await;
        publish(&engine, "alive", 1..=1).await;
        let edge = Edge::new(&nats).start().await;
        let url = edge.http("/sse/S?after=0");
        let whole = sse::Client::connect(&url, None).await;
        whole.wait_end(BOUND).await;
        let id = whole.last_id().unwrap();
        assert!(id.ends_with(&format!("-{over}")), "{id}");
        let epoch = id.split_once('-').unwrap().0;
        // Also at an edge that has never heard of it, and for one whose connection broke before it was told.
        let another = Edge::new(&nats).start().await;
        for (url, id) in [url.clone(), another.http("/sse/S")].iter().zip([id.clone(), format!("{epoch}-{last}")]) {
            let again = http::send(::http::Method::GET, url, &[("last-event-id", &id)], "").await;
            assert_eq!((again.status, again.text()), (204, String::new()));
        }
        let behind = sse::Client::connect(&url, Some(&format!("{epoch}-{first}"))).await;
        behind.wait_end(BOUND).await;
        assert_eq!(behind.events().iter().filter(|event| event.event == "message").count(), 4);
        let foreign = sse::Client::connect(&url, Some(&format!("deadbeef-{last}"))).await;
        foreign.wait_for("a gap", BOUND, |event| event.event == "herald.gap").await;
        let alive = sse::Client::connect(&edge.http("/sse/alive"), Some(&id)).await;
        publish(&engine, "alive", 2..=2).await;
        alive.wait_for("what comes next", BOUND, |event| event.json()["data"]["n"] == 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_makes_a_session_alive_again() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let seen = Edge::new(&nats).start().await;
        publish(&engine, "S", 1..=3).await;
        engine.publish("gm.S._over", "{}").await;
        let over = ws::Client::connect(&seen.ws("/ws/S?after=0"), ws::V1).await;
        assert_eq!(over.wait_end(BOUND).await.code(), 4411);
        engine.publish("gm.S._action", r#"{"n":2,"kind":"start"}"#).await;
        publish(&engine, "S", 4..=4).await;
        let fresh = Edge::new(&nats).start().await;
        for edge in [&seen, &fresh] {
            let client = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
            client.wait_for("the latest", BOUND, phase(4)).await;
            let next = 5 + u64::from(std::ptr::eq(edge, &fresh));
            publish(&engine, "S", next..=next).await;
            client.wait_for("the next one", BOUND, phase(next)).await;
            assert_eq!(client.ended(), None);
            client.check_order();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_an_alias_waits_for_the_next_session() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge().await;
        engine.alias("G", "one", 0).await;
        let gm = ws::Client::connect(&edge.ws("/gm/ws/G"), ws::PLAIN).await;
        engine.publish("arena.one.x", "1").await;
        gm.wait_for("the first session", BOUND, |frame| frame.json["data"] == 1).await;
        engine.publish("gm.one._over", "{}").await;
        let player = ws::Client::connect(&edge.ws("/ws/one"), ws::PLAIN).await;
        assert_eq!(player.wait_end(BOUND).await.code(), 4411);
        engine.alias("G", "two", 0).await;
        engine.publish("arena.two.x", "2").await;
        gm.wait_for("the second session", BOUND, |frame| frame.json["data"] == 2).await;
        assert_eq!(gm.ended(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_said_while_nats_was_away_is_found_out_afterwards() {
    within(MINUTE, async {
        let (mut nats, engine, mut edge) = edge().await;
        publish(&engine, "S", 1..=2).await;
        let client = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        client.wait_for("the last one", BOUND, phase(2)).await;
        nats.stop().await;
        edge.wait_not_ready(BOUND).await;
        nats.resume().await;
        edge.wait_ready(BOUND).await;
        let back = async || if engine.nats.connected() { Ok(()) } else { Err("away") };
        eventually("the engine is back too", BOUND, back).await;
        engine.publish("gm.S._over", "{}").await;
        assert_eq!(client.wait_end(BOUND).await.code(), 4411);
    })
    .await;
}
