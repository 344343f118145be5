//! How the services begin and end, and what they say where they can't begin.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use herald_testkit::{
    Bridge, Edge, Launch, Nats, NatsOptions,
    game_master::{Answer, PROPOSE, Scripted},
    http, sse, within, ws,
};

const SOON: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn services_started_before_nats_wait_and_come_up() {
    within(LIMIT, async {
        let mut nats = Nats::reserve(NatsOptions::default());
        let gm = Scripted::start().await;
        let mut edge = Edge::new(&nats).spawn();
        let mut bridge = Bridge::new(&nats).gm(&gm.url()).spawn();
        for service in [&mut edge, &mut bridge] {
            let reasons = service.wait_not_ready(SOON).await;
            assert_ne!(reasons["conditions"]["nats"], "ok", "{reasons}");
        }
        nats.resume().await;
        bridge.wait_ready(SOON).await;
        edge.wait_ready(SOON).await;
        edge.get("/api/start?session_id=S").await.expect_status(200);
        assert_eq!(edge.get("/health").await.json()["status"], "ok");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_edge_sends_its_clients_away_with_a_cursor_and_exits_0() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let gm = Scripted::start().await;
        let _bridge = Bridge::new(&nats).gm(&gm.url()).start().await;
        let mut edge = Edge::new(&nats).set("drain.period", "2s").start().await;
        gm.on(PROPOSE, [Answer::sse().send("data: {\"type\":\"phase\"}\n\ndata: {\"type\":\"result\"}\n\n")]);
        let plain = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        let v1 = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        let reader = sse::Client::connect(&edge.http("/sse/S?after=0"), None).await;
        edge.get("/api/start?session_id=S").await.expect_status(200);
        edge.get("/api/propose?session_id=S").await.expect_status(202);
        let result = |frame: &ws::Frame| frame.event() == "gm.result";
        plain.wait_for("the result", SOON, result).await;
        let last = v1.wait_for("the result", SOON, result).await.seq().unwrap();
        reader.wait_events(2, SOON).await;

        assert!(edge.stop().await.success());
        for client in [&plain, &v1] {
            let end = client.wait_end(SOON).await;
            assert_eq!(end.code(), 1012);
            assert!(end.reason().ends_with(&format!("-{last}")), "{end:?}");
        }
        let bye = v1.wait_for("herald.bye", SOON, |frame| frame.event() == "herald.bye").await;
        assert!(bye.data()["after"].as_str().unwrap().ends_with(&format!("-{last}")), "{}", bye.text);
        assert!(bye.data()["retry_ms"].is_u64());
        reader.wait_end(SOON).await;
        assert!(reader.retry().is_some(), "an event stream ends with its retry time");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_bridge_ends_what_it_runs_and_exits_0() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let gm = Scripted::start().await;
        let mut bridge = Bridge::new(&nats).gm(&gm.url()).set("action.drain", "1s").start().await;
        let edge = Edge::new(&nats).start().await;
        gm.on(PROPOSE, [Answer::sse().send("data: {\"type\":\"phase\"}\n\n").hang()]);
        let socket = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        edge.get("/api/start?session_id=S").await.expect_status(200);
        edge.get("/api/propose?session_id=S").await.expect_status(202);
        socket.wait_for("the phase", SOON, |frame| frame.event() == "gm.phase").await;
        assert!(bridge.stop().await.success());
        let error = socket.wait_for("the end", SOON, |frame| frame.event() == "gm.error").await;
        assert_eq!(error.data()["error"], "Propose stream failed", "{}", error.text);
        let refused = edge.get("/api/propose?session_id=S").await.expect_status(503);
        assert_eq!(refused.error(), "gm-bridge is not available");
        assert_eq!(edge.get("/health").await.expect_status(200).json()["status"], "degraded");
        assert!(socket.ended().is_none(), "the socket stays open");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_told_whole_with_exit_64() {
    within(LIMIT, async {
        let nats = Nats::reserve(NatsOptions::default());
        let broken = "[ws-edge]\nno_such_key = 1\n[ws-edge.ring]\nframes = \"many\"\n\
                      [gm-bridge]\nno_such_key = 1\n[gm-bridge.gm]\nwhen_busy = \"never\"\n";
        for (binary, second) in [("ws-edge", "ring.frames"), ("gm-bridge", "gm.when_busy")] {
            let mut service = Launch::new(binary).env("NATS_URL", nats.url()).config(broken).spawn();
            let status = service.process().wait(SOON).await;
            assert_eq!(status.code(), Some(64), "{}", service.log());
            for fault in ["no_such_key", second] {
                assert!(service.log().contains(fault), "{fault} is not in: {}", service.log());
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_and_a_port_in_use_are_named() {
    within(LIMIT, async {
        let nats = Nats::start_with(NatsOptions { jetstream: false, ..NatsOptions::default() }).await;
        let mut bridge = Bridge::new(&nats).spawn();
        assert_eq!(bridge.process().wait(SOON).await.code(), Some(1));
        assert!(bridge.log().contains("JetStream"), "{}", bridge.log());
        let mut edge = Edge::new(&nats).spawn();
        assert_eq!(edge.process().wait(SOON).await.code(), Some(1));
        assert!(edge.log().contains("JetStream"), "{}", edge.log());

        let nats = Nats::start().await;
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let mut edge = Edge::new(&nats).env("PORT", &port).spawn();
        assert_eq!(edge.process().wait(SOON).await.code(), Some(1));
        assert!(edge.log().contains(&port) && edge.log().contains("in use"), "{}", edge.log());
        drop(taken);
        assert_eq!(
            http::try_send("GET".parse().unwrap(), &format!("http://127.0.0.1:{port}/"), &[], "")
                .await
                .ok()
                .map(|reply| reply.status),
            None
        );
    })
    .await;
}
