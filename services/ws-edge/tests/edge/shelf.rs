//! What an edge keeps on its disk: as good as the stream, and never better.

use std::time::Duration;

use herald_testkit::{Edge, Nats, Service, eventually, within, ws};

use crate::support::Engine;

const MINUTES: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(30);

/// Publishes to five sessions by turns.
async fn publish(engine: &Engine, rounds: usize) -> u64 {
    let mut last = 0;
    for round in 0..rounds {
        for session in 0..5 {
            last = engine.publish(&format!("gm.s{session}.phase"), format!("{{\"round\":{round}}}")).await;
        }
    }
    last
}

/// Waits until the edge has everything up to `last` on its shelf.
async fn holds(edge: &Service, last: u64) {
    eventually("the shelf holds the stream", BOUND, async || {
        let held = edge.metric("herald_shelf_messages", &[]).await;
        if held == last as f64 { Ok(()) } else { Err(held) }
    })
    .await;
}

/// Reads from a session until the event `last` is there.
async fn read(edge: &Service, session: u64, after: u64, last: u64) -> Vec<u64> {
    let client = ws::Client::connect(&edge.ws(&format!("/ws/s{session}?after={after}")), ws::V1).await;
    client.wait_for("the last one", BOUND, |frame| frame.seq() == Some(last)).await;
    client.check_order();
    client.events().iter().filter_map(ws::Frame::seq).collect()
}

async fn reads(edge: &Service, kind: &str) -> f64 {
    edge.metric("herald_history_read_seconds_count", &[&format!("kind=\"{kind}\"")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_begins_late_has_the_past_on_its_shelf() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        publish(&engine, 100).await;
        let edge = Edge::new(&nats).start().await;
        let last = publish(&engine, 20).await;
        holds(&edge, last).await;
        assert_eq!(read(&edge, 0, 0, last - 4).await, (1..=last).step_by(5).collect::<Vec<_>>());
        assert_eq!(read(&edge, 1, 302, last - 3).await, (307..=last).step_by(5).collect::<Vec<_>>());
        let shown = ws::Client::connect(&edge.ws("/ws/s2?snapshot=1"), ws::V1).await;
        shown.wait_for("the end of the snapshot", BOUND, |frame| frame.event() == "herald.live").await;
        assert!(reads(&edge, "shelf").await >= 3.0);
        for kind in ["page", "before", "snapshot"] {
            assert_eq!(reads(&edge, kind).await, 0.0, "{kind}: nothing was asked of the stream");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_deleted_from_the_stream_is_not_shown_from_the_shelf() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let last = publish(&engine, 40).await;
        holds(&edge, last).await;
        let stream = engine.nats.jetstream().get_stream("EVENTS").await.unwrap();
        stream.delete_message(53).await.unwrap();
        let expected: Vec<_> = (3..=last).step_by(5).filter(|seq| *seq != 53).collect();
        assert_eq!(read(&edge, 2, 0, last - 2).await, expected);
        // What was trimmed from its beginning leaves no hole, and the shelf serves again.
        stream.purge().sequence(101).await.unwrap();
        assert_eq!(read(&edge, 3, 0, last - 1).await, (104..=last).step_by(5).collect::<Vec<_>>());
    })
    .await;
}
