//! The starters and clients on the whole system: one turn of a game over two bridges and two edges.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use herald_testkit::{
    Bridge, Edge, Nats, Plan, System,
    game_master::{Answer, PROPOSE, Scripted},
    sse, within, ws,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);
const SESSION: &str = "5e551040-0000-4000-8000-00000000000b";

#[tokio::test]
async fn a_turn_is_seen_whole_at_either_edge() {
    within(Duration::from_secs(90), async {
        let system = System::start_with(Plan { edges: 2, bridges: 2, ..Plan::default() }).await;
        let (here, there) = (&system.edges[0], &system.edges[1]);
        let socket = ws::Client::connect(&there.ws(&format!("/ws/{SESSION}?after=0")), ws::V1).await;
        here.get(&format!("/api/start?session_id={SESSION}")).await.expect_status(200);
        here.get(&format!("/api/propose?session_id={SESSION}")).await.expect_status(202);
        socket.wait_for("the proposal", SOON, |frame| frame.event() == "gm.proposal").await;
        socket.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        here.get(&format!("/api/choose?session_id={SESSION}&kind=fake")).await.expect_status(202);
        socket.wait_for("the debate", SOON, |frame| frame.event() == "arena.round.start").await;
        socket.wait_for("the turn", SOON, |frame| frame.event() == "gm.turn_update").await;
        socket.check_order();

        let again = sse::Client::connect(&here.http(&format!("/sse/{SESSION}?after=0")), None).await;
        let events = socket.events();
        let same = again.wait_events(events.len(), SOON).await;
        let pairs = events.iter().zip(&same);
        pairs.for_each(|(frame, event)| assert_eq!(frame.seq(), event.json()["seq"].as_u64(), "{event:?}"));
        assert_eq!(socket.close().await.code(), 1000);
    })
    .await;
}

#[tokio::test]
async fn a_burst_that_is_stored_as_batches_is_seen_as_single_events_by_all() {
    within(Duration::from_secs(90), async {
        let (nats, gm) = (Nats::start().await, Scripted::start().await);
        let burst = sse_burst(1500);
        gm.on(PROPOSE, [Answer::sse().send(burst)]);
        let (edge, _bridge) = tokio::join!(
            Edge::new(&nats).start(),
            Bridge::new(&nats).gm(&gm.url()).set("action.batch", "always").start()
        );
        edge.get(&format!("/api/start?session_id={SESSION}")).await.expect_status(200);
        let url = edge.ws(&format!("/ws/{SESSION}?after=0"));
        let (proving, plain) = tokio::join!(ws::Client::connect(&url, ws::V1), ws::Client::connect(&url, &[]));
        edge.get(&format!("/api/propose?session_id={SESSION}")).await.expect_status(202);
        proving.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        plain.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        // Read back from history, in pages.
        let late = ws::Client::connect(&url, ws::V1).await;
        late.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        proving.check_order();
        late.check_order();
        for socket in [&proving, &plain, &late] {
            let events = socket.events();
            let numbers: Vec<_> = events.iter().filter_map(|frame| frame.data()["i"].as_u64()).collect();
            assert_eq!(numbers, (0..1500).collect::<Vec<_>>());
            let sequences: Vec<_> = events.iter().filter_map(ws::Frame::seq).collect();
            assert!(sequences.is_sorted_by(|one, next| one < next));
        }
        let batches = gm_batches(&nats).await;
        assert!(batches > 1000, "{batches} events went in batches");
    })
    .await;
}

fn sse_burst(events: u64) -> bytes::Bytes {
    let numbered = (0..events).map(|i| json!({"type": "llm_text", "i": i}));
    herald_testkit::game_master::sse(numbered.chain([json!({"type": "result"})]))
}

/// How many events of the Game Master were stored as parts of batches.
async fn gm_batches(nats: &Nats) -> usize {
    let stream = nats.jetstream().await.get_stream("EVENTS").await.expect("the stream");
    let last = stream.cached_info().state.last_sequence;
    let mut batched = 0;
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.expect("a message");
        batched += usize::from(message.headers.get("Nats-Batch-Id").is_some());
    }
    batched
}
