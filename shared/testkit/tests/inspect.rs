//! What an operator sees of a running bridge at its operations port: actions that run, streams of Game Masters, and who plays.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use herald_testkit::{
    Bridge, Edge, Nats, Service, eventually,
    game_master::{Answer, Gate, PROPOSE, Scripted, sse},
    http, within,
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);

/// What the bridge shows there, once `is` holds.
async fn shown(bridge: &Service, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    let url = format!("http://{}/inspect{path}", bridge.operations());
    eventually(path, SOON, async || {
        let shown = http::get(&url).await.expect_status(200).json();
        if is(&shown) { Ok(shown) } else { Err(shown) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_action_is_shown_with_its_stream_and_their_ages() {
    within(LIMIT, async {
        let (nats, gm, gate) = (Nats::start().await, Scripted::start().await, Gate::new());
        let events = sse([json!({ "type": "phase", "phase": "x" }), json!({ "type": "llm_text", "text": "secret" })]);
        let end = sse([json!({ "type": "result", "data": "ok" })]);
        gm.on(PROPOSE, [Answer::sse().send(events).until(&gate).send(end)]);
        // Whoever knows the address must not learn what else stands in it.
        let url = gm.url().replace("http://", "http://user:password@");
        let bridge = Bridge::new(&nats).gm(&url).start().await;
        let edge = Edge::new(&nats).start().await;
        assert_eq!(shown(&bridge, "/actions", |_| true).await, json!({ "actions": [], "actions_open": 0 }));
        let masters = shown(&bridge, "/game-masters", |_| true).await;
        assert_eq!(
            (&masters["game_masters"][0]["state"], &masters["game_masters"][0]["number"]),
            (&"free".into(), &1.into())
        );

        edge.get("/api/start?session_id=s1").await.expect_status(200);
        edge.get("/api/propose?session_id=s1").await.expect_status(202);
        let runs = |shown: &Value| shown["actions"][0]["stream"]["events"] == 2 && shown["actions_open"] == 1;
        let shown_now = shown(&bridge, "/actions", runs).await;
        let action = &shown_now["actions"][0];
        assert_eq!(
            (&action["session"], &action["kind"], &action["superseded"]),
            (&"s1".into(), &"propose".into(), &false.into())
        );
        let (age, stream) = (action["age_s"].as_f64().unwrap(), &action["stream"]);
        let asked = stream["asked_s"].as_f64().unwrap();
        let (open, last) = (stream["open_s"].as_f64().unwrap(), stream["last_event_s"].as_f64().unwrap());
        assert!(age >= asked && asked >= open && open >= last && last >= 0.0, "{action}");
        assert_eq!(stream["game_master"], gm.address().to_string());
        let playing = shown(&bridge, "/game-masters", |shown| shown["game_masters"][0]["state"] == "playing").await;
        assert_eq!(
            (&playing["game_masters"][0]["session"], &playing["game_masters"][0]["up"]),
            (&"s1".into(), &true.into())
        );
        for text in [shown_now.to_string(), playing.to_string()] {
            assert!(!text.contains("secret") && !text.contains("password"), "{text}");
        }
        gate.open();
        let over = |shown: &Value| shown["actions"] == json!([]) && shown["actions_open"] == 0;
        shown(&bridge, "/actions", over).await;
        let index = shown(&bridge, "", |_| true).await;
        assert_eq!((&index["service"], &index["actions"]), (&"gm-bridge".into(), &0.into()));
        let nothing = http::get(&format!("http://{}/inspect/nothing", bridge.operations())).await;
        assert_eq!(nothing.status, 404);
    })
    .await;
}
