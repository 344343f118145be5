//! NATS goes away, or says nothing: what is answered is true, and sending again is safe.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream::stream::Config};
use herald_testkit::{
    Ingest, Nats, eventually,
    proxy::{Network, Proxy},
    within, ws,
};

use crate::world::{LINES, ONE, World, event, impatient_door_at, publish};

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
async fn acknowledges(nats: &Nats, yes: bool) {
    let jetstream = nats.jetstream().await;
    let mut config: Config = jetstream.get_stream("APP").await.expect("the stream").cached_info().config.clone();
    config.no_ack = !yes;
    jetstream.update_stream(config).await.expect("changed");
}

/// The stream's last sequence.
async fn head(nats: &Nats) -> u64 {
    let stream = nats.jetstream().await.get_stream("APP").await.expect("the stream");
    stream.cached_info().state.last_sequence
}

async fn stored(nats: &Nats, sequence: u64) {
    eventually("it is stored", SOON, async || {
        let last = head(nats).await;
        if last >= sequence { Ok(()) } else { Err(last) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_said_to_be_one_and_sending_again_is_safe() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest.set("publish.wait", "2s")).await;
        world.post("s1", &[ONE], &event("before", "1")).await.expect_status(201);
        let head = world.head().await;
        acknowledges(&world.nats, false).await;
        let reply = world.post("s1", &[ONE, KEY], &event("a", "1")).await.expect_status(504);
        let safe =
            "It is not known whether this was stored; send it again with the same Idempotency-Key, which is safe";
        assert_eq!((&*reply.error(), reply.header("retry-after")), (safe, "1"));
        let reply = world.post("s2", &[ONE], &event("b", "1")).await.expect_status(504);
        assert!(reply.error().ends_with("with an Idempotency-Key it could safely be sent again"), "{reply:?}");
        acknowledges(&world.nats, true).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_with_nats_does_not_say_that_nothing_was_stored() {
    within(LIMIT, async {
        let mut nats = Nats::start().await;
        let proxy = Proxy::start(nats.address()).await;
        let mut ingest = Ingest::new(&nats).start().await;
        let mut edge = impatient_door_at(&proxy.nats_url()).start().await;
        publish(&edge, "s1", &[ONE], &event("before", "1")).await.expect_status(201);
        // The door loses its NATS; all do.
        for (key, all) in [("door", false), ("all", true)] {
            let (headers, body) = ([ONE, ("idempotency-key", key)], event(key, "1"));
            let before = head(&nats).await;
            acknowledges(&nats, false).await;
            let (reply, ()) = tokio::join!(publish(&edge, "s1", &headers, &body), async {
                stored(&nats, before + 1).await;
                if all {
                    nats.stop().await;
                } else {
                    proxy.set(Network::Down);
                }
            });
            assert_eq!(reply.expect_status(504).error(), "NATS was lost before ingest answered", "{key}");
            if all {
                nats.resume().await;
                ingest.wait_ready(SOON).await;
            } else {
                proxy.set(Network::Works);
            }
            acknowledges(&nats, true).await;
            edge.wait_ready(SOON).await;
            let seq = publish(&edge, "s1", &headers, &body).await.expect_status(201).json();
            assert_eq!((seq["seq"].as_u64(), head(&nats).await), (Some(before + 1), before + 1), "{key}: stored once");
        }
        assert_eq!(edge.metric("herald_forward_failures_total", &["reason=\"lost\""]).await, 2.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_answered_at_the_second_attempt_has_repeated_nothing() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest).await;
        world.post("s1", &[ONE], &event("before", "1")).await.expect_status(201);
        for (form, body, count) in [(ONE, event("a", "1"), 1), (LINES, [event("a", "1"), event("b", "2")].concat(), 3)]
        {
            let session = if count == 1 { "s1" } else { "s2" };
            let (headers, before) = ([form, KEY], world.head().await);
            acknowledges(&world.nats, false).await;
            let (reply, ()) = tokio::join!(world.post(session, &headers, &body), async {
                stored(&world.nats, before + count).await;
                acknowledges(&world.nats, true).await;
            });
            reply.expect_status(201);
            assert_eq!(world.head().await, before + count, "stored once");
        }
        let (mut published, mut repeated) = (0.0, 0.0);
        for ingest in &world.ingests {
            published += ingest.metric("herald_events_published_total", &[]).await;
            repeated += ingest.metric("herald_requests_repeated_total", &[]).await;
        }
        assert_eq!((published, repeated), (4.0, 0.0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_found_no_place_in_time_is_known_not_to_be_stored() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest.set("publish.wait", "2s")).await;
        world.post("s1", &[ONE], &event("before", "1")).await.expect_status(201);
        // As many batches as NATS has open at once on a stream, which nobody completes: it forgets them after 10 s.
        let client = world.nats.client().await;
        for number in 0..50 {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Batch-Id", format!("open-{number}"));
            headers.insert("Nats-Batch-Sequence", "1");
            client.publish_with_headers("app.s2.open", headers, "1".into()).await.expect("published");
        }
        client.flush().await.expect("sent");
        let (head, lines) = (world.head().await, [event("a", "1"), event("b", "2")].concat());
        let busy = "Too many requests are stored at a time; nothing was stored";
        for key in [None, Some(KEY)] {
            let headers: Vec<_> = [LINES].into_iter().chain(key).collect();
            // Time may be up in the middle of an attempt, and of that one nothing is known.
            eventually("it is known", SOON, async || {
                let reply = world.post("s1", &headers, &lines).await;
                if reply.status == 503 {
                    assert_eq!((&*reply.error(), reply.header("retry-after")), (busy, "1"));
                    return Ok(());
                }
                Err(reply.expect_status(504))
            })
            .await;
        }
        assert_eq!(world.head().await, head, "nothing was stored");
        let answer = eventually("there is a place", SOON, async || {
            let reply = world.post("s1", &[LINES, KEY], &lines).await;
            if reply.status == 201 { Ok(reply.json()) } else { Err(reply.error()) }
        })
        .await;
        assert_eq!(answer["last"].as_u64(), Some(head + 3), "a note and two events");
    })
    .await;
}
