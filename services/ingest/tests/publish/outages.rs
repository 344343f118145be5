//! NATS goes away, or says nothing: what is answered is true, and sending again is safe.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use herald_testkit::{eventually, within, ws};

use crate::world::{LINES, ONE, World, event};

const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);
const KEY: (&str, &str) = ("idempotency-key", "k");

#[tokio::test(flavor = "multi_thread")]
async fn while_nats_is_away_nothing_is_stored_and_then_everything_goes_on() {
    within(LIMIT, async {
        let mut world = World::start(|ingest| ingest).await;
        let socket = ws::Client::connect(&world.edge.ws("/ws/s1?after=0"), ws::V1).await;
        world.post("s1", &[ONE], &event("before", "1")).await.expect_status(201);
        socket.wait_events(1, SOON).await;
        world.nats.stop().await;
        for service in world.ingests.iter_mut().chain([&mut world.edge]) {
            let reasons = service.wait_not_ready(SOON).await;
            assert_ne!(reasons["conditions"]["nats"], "ok", "{reasons}");
        }
        let refused = world.post("s1", &[ONE, KEY], &event("during", "1")).await.expect_status(503);
        assert_eq!((&*refused.error(), refused.header("retry-after")), ("NATS is not connected", "1"));
        world.nats.resume().await;
        for service in world.ingests.iter_mut().chain([&mut world.edge]) {
            service.wait_ready(SOON).await;
        }
        let seq = world.post("s1", &[ONE, KEY], &event("during", "1")).await.expect_status(201).json();
        assert_eq!(seq["seq"], world.head().await);
        socket.wait_for("the event", SOON, |frame| frame.event() == "app.during").await;
        socket.check_order();
        assert_eq!(socket.events().len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_instance_the_door_says_so() {
    within(LIMIT, async {
        let mut world = World::start(|ingest| ingest).await;
        for ingest in &mut world.ingests {
            assert!(ingest.stop().await.success(), "a planned end");
        }
        let refused = world.post("s1", &[ONE], &event("a", "1")).await.expect_status(503);
        assert_eq!((&*refused.error(), refused.header("retry-after")), ("ingest is not available", "1"));
    })
    .await;
}

/// Lets the stream store and say nothing, or speak again.
async fn acknowledges(world: &World, yes: bool) {
    let mut config: Config = world.stream().await.cached_info().config.clone();
    config.no_ack = !yes;
    world.nats.jetstream().await.update_stream(config).await.expect("changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_said_to_be_one_and_sending_again_is_safe() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest.set("publish.wait", "2s")).await;
        world.post("s1", &[ONE], &event("before", "1")).await.expect_status(201);
        let head = world.head().await;
        acknowledges(&world, false).await;
        let reply = world.post("s1", &[ONE, KEY], &event("a", "1")).await.expect_status(504);
        let safe =
            "It is not known whether this was stored; send it again with the same Idempotency-Key, which is safe";
        assert_eq!((&*reply.error(), reply.header("retry-after")), (safe, "1"));
        let reply = world.post("s2", &[ONE], &event("b", "1")).await.expect_status(504);
        assert!(reply.error().ends_with("with an Idempotency-Key it could safely be sent again"), "{reply:?}");
        acknowledges(&world, true).await;
        let seq = world.post("s1", &[ONE, KEY], &event("a", "1")).await.expect_status(201).json();
        assert_eq!(seq["seq"], head + 1, "it was stored at once");
        assert_eq!(world.head().await, head + 2, "each of the two once, however often it was sent");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_gone_takes_nothing_until_its_owner_has_made_it_again() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest).await;
        world.post("s1", &[ONE], &event("before", "1")).await.expect_status(201);
        let socket = ws::Client::connect(&world.edge.ws("/ws/s1"), ws::V1).await;
        socket.wait_for("hello", SOON, |frame| frame.event() == "herald.hello").await;
        world.nats.jetstream().await.delete_stream("APP").await.unwrap();
        let lines = [event("a", "1"), event("b", "2")].concat();
        eventually("the stream is back", SOON, async || {
            let reply = world.post("s1", &[LINES, KEY], &lines).await;
            match reply.status {
                201 => Ok(()),
                503 => Err(reply.error()),
                other => panic!("{other}: {}", reply.text()),
            }
        })
        .await;
        assert_eq!(world.head().await, 3, "a note and two events");
        socket.wait_for("the second", SOON, |frame| frame.event() == "app.b").await;
    })
    .await;
}
