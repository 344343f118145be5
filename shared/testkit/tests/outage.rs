//! NATS goes away in mid-game: both services say so, and nothing that was acknowledged is missed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::{Duration, Instant};

use herald_testkit::{
    Bridge, Edge, Nats,
    game_master::{Answer, PROPOSE, Scripted},
    traces, within, ws,
};

const SOON: Duration = Duration::from_secs(30);
const AWAY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn twenty_seconds_without_nats_cost_an_open_socket_nothing() {
    within(Duration::from_secs(120), async {
        let mut nats = Nats::start().await;
        let gm = Scripted::start().await;
        let mut bridge = Bridge::new(&nats).gm(&gm.url()).start().await;
        let mut edge = Edge::new(&nats).start().await;
        let (body, timing) = (traces::text("gm-propose.turn1.sse"), traces::text("gm-propose.turn1.timing.ndjson"));
        // Thirteen seconds long: the outage falls into it.
        gm.on(PROPOSE, [Answer::sse().recorded(&body, &timing, 1.0)]);
        let socket = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        edge.get("/api/start?session_id=S").await.expect_status(200);
        edge.get("/api/propose?session_id=S").await.expect_status(202);
        socket.wait_events(40, SOON).await;

        let stopped = Instant::now();
        nats.stop().await;
        for service in [&mut bridge, &mut edge] {
            let reasons = service.wait_not_ready(SOON).await;
            assert_ne!(reasons["conditions"]["nats"], "ok", "{reasons}");
        }
        let refused = edge.get("/api/propose?session_id=S").await.expect_status(503);
        assert_eq!(refused.error(), "NATS is not connected");
        let health = edge.get("/health").await.expect_status(200).json();
        assert_eq!((&health["status"], &health["nats_connected"]), (&"degraded".into(), &false.into()));
        tokio::time::sleep(AWAY.saturating_sub(stopped.elapsed())).await;
        nats.resume().await;
        bridge.wait_ready(SOON).await;
        edge.wait_ready(SOON).await;

        socket.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        let expected =
            body.lines().filter(|line| line.starts_with("data: ") && !line.contains("\"heartbeat\"")).count();
        let events = socket.events();
        assert_eq!(events.len(), expected, "all of the stream, and no gm.error");
        assert!(socket.ended().is_none(), "the socket stayed open");
        socket.check_order();
        assert_eq!(gm.asked(PROPOSE).len(), 1, "no request was repeated");
    })
    .await;
}
