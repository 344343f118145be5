//! The starters and clients on the whole system: one turn of a game over two bridges and two edges.

use std::time::Duration;

use herald_testkit::{Plan, System, sse, within, ws};

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
