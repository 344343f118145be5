//! A request that is sent again stores nothing twice, and is answered alike: whichever instance gets it, and whoever died.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream::stream::Stream};
use futures_util::future::join_all;
use herald_testkit::{
    Ingest, Nats, NatsCluster, Service, eventually,
    http::Reply,
    proxy::{Direction, Network, Proxy},
    within,
};
use serde_json::{Value, json};

use crate::world::{Header, LINES, ONE, World, door, door_at, event, events, publish};

const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);
const KEY: Header = ("idempotency-key", "order-4711");
const GONE: &str = "This Idempotency-Key was used, and what was stored under it is kept no more: whether it was this request \
                    can't be told; nothing was stored now";

fn three() -> String {
    [event("a", "1"), event("b", "2"), event("c", "3")].concat()
}

/// Both kinds of requests, with the number of messages that each stores.
fn requests() -> [(Header, String, u64); 2] {
    [(ONE, event("order", "{\"n\":1}"), 1), (LINES, three(), 4)]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_the_same_from_each_instance_and_after_their_end() {
    within(LIMIT, async {
        let mut world = World::start(|ingest| ingest).await;
        for (form, body, stored) in requests() {
            let session = if stored == 1 { "s1" } else { "s2" };
            let first = world.post(session, &[form, KEY], &body).await.expect_status(201).json();
            let head = world.head().await;
            // Each of the two gets some of them.
            for _ in 0..10 {
                assert_eq!(world.post(session, &[form, KEY], &body).await.expect_status(201).json(), first);
            }
            world.ingests[0].kill().await;
            assert_eq!(world.post(session, &[form, KEY], &body).await.expect_status(201).json(), first);
            world.ingests[0].restart().await;
            assert!(world.ingests[1].stop().await.success());
            assert_eq!(world.post(session, &[form, KEY], &body).await.expect_status(201).json(), first);
            world.ingests[1].restart().await;
            world.nats.stop().await;
            world.nats.resume().await;
            let again = eventually("nats is back", SOON, async || {
                let reply = world.post(session, &[form, KEY], &body).await;
                if reply.status == 201 { Ok(reply.json()) } else { Err(reply.text()) }
            })
            .await;
            assert_eq!(again, first, "the stream remembers");

            // Another body, or form, is another request; it is refused and stores nothing.
            let others = [
                (form, event("order", "{\"n\":2}")),
                (form, body.replace('1', "9")),
                (LINES, event("x", "1")),
                (ONE, event("x", "1")),
            ];
            for (form, other) in others {
                let reply = world.post(session, &[form, KEY], &other).await.expect_status(422);
                assert_eq!(reply.error(), "This Idempotency-Key was used for another request");
            }
            let reply = world.post(session, &[LINES, KEY], &[three(), three()].concat()).await.expect_status(422);
            assert!(!reply.error().is_empty());
            assert_eq!(world.head().await, head, "stored once: {stored} messages");

            // Another session, or another key, is another matter.
            let elsewhere =
                world.post(&format!("{session}-other"), &[form, KEY], &body).await.expect_status(201).json();
            let next = world.post(session, &[form, ("idempotency-key", "next")], &body).await.expect_status(201).json();
            assert!(elsewhere != first && next != first && next != elsewhere);
            assert_eq!(world.head().await, head + 2 * stored);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_stored() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest).await;
        for (form, body, stored) in requests() {
            let session = if stored == 1 { "s1" } else { "s2" };
            let (head, headers) = (world.head().await, [form, KEY]);
            let answers = join_all((0..24).map(|_| world.post(session, &headers, &body))).await;
            let answers: Vec<Value> = answers.into_iter().map(|reply| reply.expect_status(201).json()).collect();
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            assert_eq!(world.head().await, head + stored);
        }
        // Where the requests differ, one of them is stored and the others are told so.
        let bodies: Vec<_> = (0..12).map(|number| event("n", &number.to_string())).collect();
        let head = world.head().await;
        let replies = join_all(bodies.iter().map(|body| world.post("s3", &[ONE, KEY], body))).await;
        let (stored, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 201);
        assert_eq!((stored.len(), world.head().await), (1, head + 1));
        assert!(refused.iter().all(|reply: &Reply| reply.status == 422), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_it_holds_when_the_leader_dies() {
    within(LIMIT, async {
        let mut cluster = NatsCluster::start().await;
        let mut ingests = Vec::new();
        for _ in 0..2 {
            ingests.push(Ingest::at(&cluster.url()).start().await);
        }
        let edge = door_at(&cluster.url(), "").start().await;
        for (form, body, stored) in requests() {
            let session = if stored == 1 { "s1" } else { "s2" };
            let headers = [form, KEY];
            let ask = async || publish(&edge, session, &headers, &body).await;
            let answers = join_all((0..12).map(|_| ask())).await;
            let answers: Vec<Value> = answers.into_iter().map(|reply| reply.expect_status(201).json()).collect();
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            let leader = cluster.wait_leader("APP").await;
            cluster.servers[leader].kill().await;
            let again = eventually("another leader answers", SOON, async || {
                let reply = ask().await;
                match reply.status {
                    201 => Ok(reply.json()),
                    503 | 504 => Err(reply.error()),
                    other => panic!("{other}: {}", reply.text()),
                }
            })
            .await;
            assert_eq!(again, answers[0], "the next leader knows it, too");
            cluster.servers[leader].resume().await;
            cluster.wait_healthy(SOON).await;
            let jetstream = async_nats::jetstream::new(cluster.client().await);
            let state = jetstream.get_stream("APP").await.unwrap().cached_info().state.clone();
            assert_eq!(state.last_sequence, if stored == 1 { 1 } else { 5 }, "stored once");
        }
    })
    .await;
}

/// An ingest behind a network of its own, whose connections nothing else ends.
async fn behind(proxy: &Proxy) -> Service {
    let ingest = Ingest::at(&proxy.nats_url()).env("HERALD_LOG__FILTER", "info,ingest=debug");
    ingest.set("nats.ping_interval", "1m").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_between_storing_and_answering_has_stored_it_once() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let proxy = Proxy::start(nats.address()).await;
        let mut ingest = behind(&proxy).await;
        let mut edge = door(&nats, "").start().await;
        for (form, body, count) in requests() {
            let session = if count == 1 { "s1" } else { "s2" };
            let stream = nats.jetstream().await.get_stream("APP").await.unwrap();
            let before = stream.cached_info().state.last_sequence;
            // What it says is held back ...
            proxy.set(Network::HalfOpen(Direction::ToServer));
            let lines = |log: &str| log.matches("storing").count();
            let said = lines(&ingest.log());
            let headers = [form, KEY];
            let asked = publish(&edge, session, &headers, &body);
            let killed = async {
                eventually("it stores", SOON, async || if lines(&ingest.log()) > said { Ok(()) } else { Err(()) })
                    .await;
                // ... then what it hears: its events reach the stream, and it never learns of it.
                proxy.set(Network::HalfOpen(Direction::ToClient));
                stored(&nats, before + count).await;
                ingest.kill().await;
                proxy.set(Network::Works);
                let successor = Ingest::new(&nats).start().await;
                let answer = publish(&edge, session, &[form, KEY], &body).await.expect_status(201).json();
                (successor, answer)
            };
            let (successor, answer) = tokio::select! {
                reply = asked => panic!("answered by nobody: {reply:?}"),
                killed = killed => killed,
            };
            assert_eq!(
                answer,
                if count == 1 {
                    json!({ "seq": before + 1 })
                } else {
                    json!({ "first": before + 2, "last": before + 4, "count": 3 })
                }
            );
            assert_eq!(
                nats.jetstream().await.get_stream("APP").await.unwrap().cached_info().state.last_sequence,
                before + count
            );
            assert_eq!(successor.metric("herald_requests_repeated_total", &[]).await, 1.0);
            drop(successor);
            ingest = behind(&proxy).await;
            edge.wait_ready(SOON).await;
        }
    })
    .await;
}

async fn stored(nats: &Nats, sequence: u64) -> Stream {
    let jetstream = nats.jetstream().await;
    eventually("it is stored", SOON, async || {
        let stream = jetstream.get_stream("APP").await.map_err(|error| error.to_string())?;
        let last = stream.cached_info().state.last_sequence;
        if last >= sequence { Ok(stream) } else { Err(format!("{last} of {sequence}")) }
    })
    .await
}

/// Puts a message that was stored once back at the end of the stream, as a server keeps it that was killed.
async fn put_back(world: &World, (subject, headers, payload): &(String, HeaderMap, bytes::Bytes)) -> u64 {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter().filter(|(name, _)| name.to_string().starts_with("Herald-")) {
        values.iter().for_each(|value| kept.append(name.clone(), value.clone()));
    }
    let jetstream = world.nats.jetstream().await;
    let sent = jetstream.publish_with_headers(subject.clone(), kept, payload.clone()).await.unwrap();
    sent.await.unwrap().sequence
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_kept_of_a_request_is_completed() {
    within(LIMIT, async {
        for kept in 0..3 {
            let world = World::start(|ingest| ingest).await;
            let body = three();
            let first =
                world.post("s1", &[LINES, KEY], &body).await.expect_status(201).json()["first"].as_u64().unwrap();
            // The note, and all that stands behind it.
            let (stream, mut messages) = (world.stream().await, Vec::new());
            for sequence in first - 1..=first + 2 {
                let message = stream.get_raw_message(sequence).await.unwrap();
                messages.push((message.subject.to_string(), message.headers, message.payload));
            }
            stream.purge().await.unwrap();
            let note = put_back(&world, &messages[0]).await;
            for message in &messages[1..=kept] {
                put_back(&world, message).await;
            }
            // Others came in between, as a server that starts again takes them.
            world.post("s1", &[ONE], &event("other", "0")).await.expect_status(201);

            let answer = world.post("s1", &[LINES, KEY], &body).await.expect_status(201).json();
            let rest = 3 - kept as u64;
            let last = note + kept as u64 + 1 + 1 + rest;
            let first = if kept == 0 { last - 2 } else { note + 1 };
            assert_eq!(answer, json!({ "first": first, "last": last, "count": 3 }), "{kept} kept");
            let all = events(&world.stream().await, note, last).await;
            let named: Vec<_> = all.iter().map(|(topic, data)| (topic.as_str(), data.as_str())).collect();
            let mut expected = vec![("a", "1"), ("b", "2"), ("c", "3")];
            expected.insert(kept, ("other", "0"));
            assert_eq!(named, expected, "{kept} kept");
            for _ in 0..4 {
                assert_eq!(
                    world.post("s1", &[LINES, KEY], &body).await.expect_status(201).json(),
                    answer,
                    "{kept} kept"
                );
            }
            assert_eq!(world.head().await, last);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_since_is_not_published_again() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest).await;
        for (form, body, count) in requests() {
            let session = if count == 1 { "s1" } else { "s2" };
            let answer = world.post(session, &[form, KEY], &body).await.expect_status(201).json();
            let head = world.head().await;
            world.stream().await.delete_message(head).await.unwrap();
            let again = world.post(session, &[form, KEY], &body).await;
            if count == 1 {
                assert_eq!(again.expect_status(410).error(), GONE);
            } else {
                assert_eq!(again.expect_status(201).json(), answer, "its note is there");
            }
            assert_eq!(world.head().await, head);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_keeps_no_more_is_taken_for_no_request() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest.set("stream.max_bytes", "1MiB")).await;
        let large = event("fill", &format!("\"{}\"", "x".repeat(200 << 10)));
        for (form, body, count) in requests() {
            let session = if count == 1 { "s1" } else { "s2" };
            world.post(session, &[form, KEY], &body).await.expect_status(201);
            let stored = world.head().await;
            for _ in 0..8 {
                world.post("s3", &[ONE], &large).await.expect_status(201);
            }
            let head = world.head().await;
            assert!(world.stream().await.cached_info().state.first_sequence > stored, "the log has lost it");
            // The same request, and others: neither "stored" nor "another one" would be the truth of all of them.
            let others = [(form, body), (ONE, event("x", "1")), (LINES, [event("x", "1"), event("y", "2")].concat())];
            for (form, body) in others {
                let reply = world.post(session, &[form, KEY], &body).await.expect_status(410);
                assert_eq!((reply.error(), reply.header("retry-after")), (GONE.to_owned(), ""), "{body}");
            }
            assert_eq!(world.head().await, head, "nothing was stored");
        }
        let mut counted = 0.0;
        for ingest in &world.ingests {
            counted += ingest.metric("herald_refusals_total", &["reason=\"key_gone\"", "status=\"410\""]).await;
        }
        assert_eq!(counted, 6.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_forgotten_when_its_time_is_over() {
    within(LIMIT, async {
        let world = World::start(|ingest| ingest.set("idempotency.window", "1s")).await;
        let first = world.post("s1", &[ONE, KEY], &event("a", "1")).await.expect_status(201).json();
        eventually("another one is stored", SOON, async || {
            let next = world.post("s1", &[ONE, KEY], &event("a", "1")).await.expect_status(201).json();
            if next == first { Err(next) } else { Ok(()) }
        })
        .await;
    })
    .await;
}
