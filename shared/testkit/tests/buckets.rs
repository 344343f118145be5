//! A bucket is deleted under running services: the bridge makes it again, and what was in it is lost and nothing else.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::{Duration, Instant};

use herald_testkit::{
    Bridge, Edge, Nats, eventually,
    game_master::{Answer, Gate, PROPOSE, Scripted, sse},
    within, ws,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(100);
/// The longest that an action may go on in the name of a dead bridge.
const LOST_WITHIN: Duration = Duration::from_secs(10);

/// Deletes a bucket and waits until it is there again.
async fn delete(nats: &Nats, bucket: &str) {
    let jetstream = nats.jetstream().await;
    jetstream.delete_key_value(bucket).await.expect("deleted");
    eventually(&format!("{bucket} is there again"), SOON, async || {
        jetstream.get_key_value(bucket).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_record_an_action_goes_on_and_is_still_watched_over() {
    within(LIMIT, async {
        let (nats, gm) = (Nats::start().await, Scripted::start().await);
        let mut bridges = vec![Bridge::new(&nats).gm(&gm.url()).start().await];
        let edge = Edge::new(&nats).start().await;
        let gate = Gate::new();
        let (phase, result) = (sse([json!({"type": "phase"})]), sse([json!({"type": "result"})]));
        gm.on(
            PROPOSE,
            [Answer::sse().send(phase.clone()).until(&gate).send(result), Answer::sse().send(phase.clone()).hang()],
        );
        edge.get("/api/start?session_id=S").await.expect_status(200);
        let socket = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        edge.get("/api/propose?session_id=S").await.expect_status(202);
        socket.wait_for("the phase", SOON, |frame| frame.event() == "gm.phase").await;
        bridges.push(Bridge::new(&nats).gm(&gm.url()).start().await);

        delete(&nats, "ACTIONS").await;
        // The record is written anew, as the action's bridge lives.
        let records = nats.jetstream().await.get_key_value("ACTIONS").await.expect("the bucket");
        eventually("the action's record", SOON, async || {
            let entry = records.get("S").await.map_err(|error| error.to_string())?;
            entry.map(drop).ok_or_else(|| "none".to_owned())
        })
        .await;
        gate.open();
        let end = socket.wait_for("the end", SOON, |frame| ["gm.result", "gm.error"].contains(&frame.event())).await;
        assert_eq!(end.event(), "gm.result", "{}", end.text);

        // Who watches over the others' actions watches the new bucket: the bridge that runs the next one dies.
        edge.get("/api/propose?session_id=S").await.expect_status(202);
        eventually("the second phase", SOON, async || {
            let phases = socket.events().iter().filter(|frame| frame.event() == "gm.phase").count();
            if phases == 2 { Ok(()) } else { Err(phases) }
        })
        .await;
        let mut runs = Vec::new();
        for bridge in &bridges {
            runs.push(bridge.metric("herald_actions_total", &["kind=\"propose\""]).await);
        }
        // The first one ran the first propose, before there was another.
        let runner = if runs[1] > 0.0 { 1 } else { 0 };
        bridges[runner].kill().await;
        let killed = Instant::now();
        let end = socket.wait_for("the end", SOON, |frame| frame.event() == "gm.error").await;
        assert_eq!(end.data()["detail"], "bridge lost", "{}", end.text);
        assert!(killed.elapsed() < LOST_WITHIN, "{:?}", killed.elapsed());
        socket.check_order();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_their_records_sessions_begin_anew() {
    within(LIMIT, async {
        let (nats, gm) = (Nats::start().await, Scripted::start().await);
        let mut bridge = Bridge::new(&nats).gm(&gm.url()).start().await;
        let mut edge = Edge::new(&nats).start().await;
        gm.on(PROPOSE, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let socket = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        // What a session that is not known any more is answered, and one whose Game Master is not.
        let cases = [("SESSIONS", 404, "Session not found"), ("ALIASES", 400, "No game started")];
        for (results, (bucket, status, error)) in (1..).zip(cases) {
            edge.get("/api/start?session_id=S").await.expect_status(200);
            delete(&nats, bucket).await;
            assert_eq!(edge.get("/api/propose?session_id=S").await.expect_status(status).error(), error, "{bucket}");
            // A second start of a session within two seconds gets the first one's answer.
            tokio::time::sleep(Duration::from_millis(2100)).await;
            edge.get("/api/start?session_id=S").await.expect_status(200);
            edge.get("/api/propose?session_id=S").await.expect_status(202);
            eventually("the result", SOON, async || {
                let seen = socket.events().iter().filter(|frame| frame.event() == "gm.result").count();
                if seen == results { Ok(()) } else { Err(seen) }
            })
            .await;
            tokio::time::sleep(Duration::from_millis(2100)).await;
        }
        assert!(bridge.log().contains("bucket was deleted"), "{}", bridge.log());
        socket.check_order();
        bridge.wait_ready(SOON).await;
        edge.wait_ready(SOON).await;
    })
    .await;
}
