//! Two bridges, two edges, one NATS: it does not matter which of them a player meets.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use herald_testkit::{
    Bridge, Edge, Nats,
    game_master::{Answer, PROPOSE, Scripted},
    http, within, ws,
};

const SOON: Duration = Duration::from_secs(30);
const TRIALS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_times_nothing_of_the_old_action_follows_the_first_event_of_the_new_one() {
    within(Duration::from_secs(180), async {
        let nats = Nats::start().await;
        let gm = Scripted::start().await;
        // It never stops by itself, and says in each event which request it answers.
        let endless = |trial: usize| {
            let event = format!("data: {{\"type\":\"llm_text\",\"trial\":{trial}}}\n\n");
            Answer::sse().endless(event)
        };
        gm.on(PROPOSE, (0..=TRIALS).map(endless));
        let bridges = [Bridge::new(&nats).gm(&gm.url()).start().await, Bridge::new(&nats).gm(&gm.url()).start().await];
        let edges = [Edge::new(&nats).start().await, Edge::new(&nats).start().await];
        let sockets = [
            ws::Client::connect(&edges[0].ws("/ws/S?after=0"), ws::V1).await,
            ws::Client::connect(&edges[1].ws("/ws/S?after=0"), ws::V1).await,
        ];
        edges[0].get("/api/start?session_id=S").await.expect_status(200);
        for trial in 0..=TRIALS {
            edges[trial % 2].get("/api/propose?session_id=S").await.expect_status(202);
            let there = |frame: &ws::Frame| frame.data()["trial"] == trial;
            sockets[(trial + 1) % 2].wait_for("an event of the new action", SOON, there).await;
        }
        http::post(&edges[0].http("/api/cancel?session_id=S")).await.expect_status(200);
        for socket in &sockets {
            let over = |frame: &ws::Frame| frame.event() == "gm.error" && frame.data()["detail"].is_null();
            socket.wait_for("the cancelled action's end", SOON, over).await;
            socket.check_order();
            let (mut trial, mut superseded) = (0, 0);
            for frame in socket.events() {
                match (frame.event(), frame.data()["trial"].as_u64()) {
                    ("gm.llm_text", Some(of)) => {
                        assert_eq!(of, trial, "an event of {of} after {superseded} actions had ended");
                    }
                    ("gm.error", None) if frame.data()["detail"] == "superseded" => {
                        assert_eq!(frame.data()["error"], "Cancelled");
                        (trial, superseded) = (trial + 1, superseded + 1);
                    }
                    _ => assert_eq!(frame.event(), "gm.error", "{}", frame.text),
                }
            }
            assert_eq!(superseded, TRIALS, "each action but the last was superseded once");
        }
        let asked = gm.asked(PROPOSE);
        assert_eq!(asked.len(), TRIALS + 1, "no request was repeated");
        for index in 0..asked.len() {
            gm.wait_hung_up(PROPOSE, index, SOON).await;
        }
        // Both have had their share: the queue group spreads requests.
        for bridge in &bridges {
            assert!(bridge.metric("herald_actions_total", &[]).await > 0.0, "{}", bridge.metrics().await);
        }
    })
    .await;
}
