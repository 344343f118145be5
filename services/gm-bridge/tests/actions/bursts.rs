//! A Game Master that says much at once: its events go as batches, with everything that holds for single ones.

use std::{collections::BTreeSet, time::Duration};

use async_nats::HeaderMap;
use gm_bridge::{
    config::{ActionConfig, BatchPolicy},
    publisher::{Message, PublishFailure, Publisher},
};
use herald_protocol::SessionId;
use herald_runtime::jetstream::{self, BatchGet, Expect, Stored};
use herald_testkit::{
    eventually,
    game_master::{Answer, CHOOSE as CHOOSE_PATH, Gate, PROPOSE as PROPOSE_PATH, sse},
    proxy::{Direction, Network, Proxy},
    within,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{BOUND, Bridge, CHOOSE, LIMIT, Logged, PROPOSE, World, quick, session};

/// Whatever it costs.
fn batches() -> ActionConfig {
    ActionConfig { batch: BatchPolicy::Always, ..quick() }
}

fn numbered(from: u64, to: u64) -> bytes::Bytes {
    sse((from..to).map(|i| json!({"type": "llm_text", "i": i})))
}

fn result() -> bytes::Bytes {
    sse([json!({"type": "result"})])
}

/// So many numbered events, each once and in order, in one action that ended with its result.
fn whole(log: &[Logged], events: u64) {
    let numbers: Vec<Value> = log.iter().filter(|e| e.topic == "llm_text").map(|e| e.json()["i"].clone()).collect();
    assert_eq!(numbers, (0..events).map(Value::from).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(log.iter().filter(|event| event.topic == "_action").count(), 1, "not taken for lost");
    assert_eq!(log.last().unwrap().topic, "result");
}

/// The session's events with all their headers.
async fn stored(world: &World, session: &SessionId) -> Vec<Stored> {
    let filter = format!("gm.{session}.>");
    let request = BatchGet { filter: &filter, from: 1, batch: 5000, max_bytes: 4 << 20 };
    jetstream::batch_get(world.nats(), "EVENTS", &request).await.unwrap().messages
}

fn batch_of(event: &Stored) -> Option<&str> {
    event.headers.get("Nats-Batch-Id").map(async_nats::HeaderValue::as_str)
}

#[tokio::test]
async fn a_burst_goes_as_few_batches_behind_its_first_event() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start_with(&world, "a", batches()).await;
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(numbered(0, 1000)).send(result())]);
        let s = session("burst");
        bridge.run(&s, PROPOSE).await.unwrap();
        whole(&world.wait_idle(&s).await, 1000);
        let events = stored(&world, &s).await;
        assert_eq!(
            (batch_of(&events[0]), batch_of(&events[1])),
            (None, None),
            "the claim and the first event go alone"
        );
        let batches: BTreeSet<_> = events.iter().filter_map(batch_of).collect();
        assert!((5..=60).contains(&batches.len()), "{}", batches.len());
        let fence = Some(events[0].sequence.to_string());
        for event in &events[1..] {
            let fenced =
                event.headers.get("Nats-Expected-Last-Subject-Sequence").map(|value| value.as_str().to_owned());
            assert_eq!(fenced, fence, "fenced as by itself");
            assert!(event.message_id().is_some());
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_that_comes_by_itself_goes_by_itself() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start_with(&world, "a", batches()).await;
        let gates: Vec<Gate> = (0..20).map(|_| Gate::new()).collect();
        let answer =
            gates.iter().zip(0..).fold(Answer::sse(), |answer, (gate, i)| answer.send(numbered(i, i + 1)).until(gate));
        world.gm.on(PROPOSE_PATH, [answer.send(result())]);
        let s = session("quiet");
        bridge.run(&s, PROPOSE).await.unwrap();
        for (gate, i) in gates.iter().zip(0..) {
            world.wait_log("the next event", &s, |log| log.len() > i + 1).await;
            gate.open();
        }
        whole(&world.wait_idle(&s).await, 20);
        assert!(stored(&world, &s).await.iter().all(|event| batch_of(event).is_none()));
    })
    .await;
}

#[tokio::test]
async fn on_one_node_nothing_goes_as_a_batch_unless_it_is_told_to() {
    within(LIMIT, async {
        let world = World::new().await;
        for policy in [BatchPolicy::Auto, BatchPolicy::Never] {
            let bridge = Bridge::start_with(&world, "a", ActionConfig { batch: policy, ..quick() }).await;
            world.gm.on(PROPOSE_PATH, [Answer::sse().send(numbered(0, 500)).send(result())]);
            let s = session(&format!("{policy:?}"));
            bridge.run(&s, PROPOSE).await.unwrap();
            whole(&world.wait_idle(&s).await, 500);
            assert!(stored(&world, &s).await.iter().all(|event| batch_of(event).is_none()));
        }
    })
    .await;
}

/// Bursts with breaks of a few milliseconds, so that NATS is hit in the middle of one.
fn bursts(upto: u64) -> Answer {
    let parts = (0..upto / 50).map(|part| numbered(part * 50, part * 50 + 50));
    parts.fold(Answer::sse(), |answer, part| answer.send(part).pause(Duration::from_millis(3))).send(result())
}

#[tokio::test]
async fn a_burst_survives_nats_killed_and_halted_in_its_middle() {
    within(LIMIT, async {
        let mut world = World::new().await;
        let bridges =
            [Bridge::start_with(&world, "a", batches()).await, Bridge::start_with(&world, "b", batches()).await];
        for trial in 0..6 {
            world.gm.on(PROPOSE_PATH, [bursts(2000)]);
            let s = session(&format!("hit-{trial}"));
            bridges[trial % 2].run(&s, PROPOSE).await.unwrap();
            world.wait_log("a few hundred events", &s, |log| log.len() > 150 * (trial + 1)).await;
            if trial % 2 == 0 {
                world.server.kill().await;
                world.server.resume().await;
            } else {
                world.server.freeze().await;
                // Longer than a request waits for its answer, and than events are sent again without a look.
                sleep(Duration::from_millis(2_600)).await;
                world.server.thaw();
            }
            world.wait_back().await;
            world.wait_last(&s, "result").await;
            whole(&world.wait_idle(&s).await, 2000);
        }
        drop(bridges);
    })
    .await;
}

#[tokio::test]
async fn batches_whose_acknowledgements_are_lost_are_stored_once() {
    within(LIMIT, async {
        let world = World::new().await;
        let proxy = Proxy::start(world.server.address()).await;
        // Only this bridge: another one would take the action for lost while its renewals bring no answer.
        let bridge = Bridge::start_behind_with(&world, &proxy, "a", batches()).await;
        world.gm.on(PROPOSE_PATH, [bursts(3000)]);
        let s = session("unheard");
        bridge.run(&s, PROPOSE).await.unwrap();
        for part in 1..=4 {
            world.wait_log("more events", &s, |log| log.len() > 400 * part).await;
            proxy.set(Network::HalfOpen(Direction::ToClient));
            sleep(Duration::from_millis(if part == 3 { 2_500 } else { 100 })).await;
            proxy.set(Network::Down);
            sleep(Duration::from_millis(20)).await;
            proxy.set(Network::Works);
        }
        whole(&world.wait_idle(&s).await, 3000);
    })
    .await;
}

async fn superseded_again_and_again(world: &World, config: ActionConfig) {
    let bridges = [Bridge::start_with(world, "a", config.clone()).await, Bridge::start_with(world, "b", config).await];
    for trial in 0..10 {
        let s = session(&format!("trial-{trial}"));
        let chatter = |who: &str| sse((0..60).map(|i| json!({"type": "llm_text", "who": who, "i": i})));
        world.gm.on(PROPOSE_PATH, [Answer::sse().endless(chatter("old"))]);
        let result = sse([json!({"type": "result", "who": "new"})]);
        world.gm.on(CHOOSE_PATH, [Answer::sse().send(chatter("new")).send(result)]);
        bridges[trial % 2].run(&s, PROPOSE).await.unwrap();
        world.wait_log("some bursts of the old one", &s, |log| log.len() > 50 * trial).await;
        bridges[(trial + 1) % 2].run(&s, CHOOSE).await.unwrap();
        world.gm.wait_hung_up(PROPOSE_PATH, trial, BOUND).await;
        let log = world.wait_idle(&s).await;
        let second = log.iter().rposition(|event| event.topic == "_action").unwrap();
        assert_eq!(log[second + 1].json(), json!({"error": "Cancelled", "detail": "superseded"}));
        for (index, event) in log[1..second].iter().enumerate() {
            assert_eq!((&event.json()["who"], &event.json()["i"]), (&json!("old"), &json!(index % 60)), "no gap");
        }
        assert!(log[second + 2..].iter().all(|event| event.data.contains("new")), "{log:?}");
        assert_eq!(log.len() - second, 63, "{log:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_superseded_burst_follows_the_new_action() {
    within(LIMIT, async { superseded_again_and_again(&World::new().await, batches()).await }).await;
}

#[tokio::test]
async fn on_three_replicas_bursts_outlive_leaders_and_are_superseded_cleanly() {
    within(LIMIT, async {
        let mut world = World::clustered().await;
        superseded_again_and_again(&world, quick()).await;
        let bridge = Bridge::start(&world, "c").await;
        for trial in 0..3 {
            world.gm.on(PROPOSE_PATH, [bursts(2000)]);
            let s = session(&format!("leaderless-{trial}"));
            bridge.run(&s, PROPOSE).await.unwrap();
            world.wait_log("some events", &s, |log| log.len() > 100).await;
            let victim = crate::cluster::leader(&world, "EVENTS").await;
            if trial == 1 {
                world.server(victim).freeze().await;
                let another = async || match crate::cluster::leader(&world, "EVENTS").await {
                    leader if leader == victim => Err(leader),
                    _ => Ok(()),
                };
                eventually("another server leads", BOUND, another).await;
                world.server(victim).thaw();
            } else {
                world.server(victim).kill().await;
            }
            world.wait_last(&s, "result").await;
            if trial != 1 {
                world.server(victim).resume().await;
            }
            whole(&world.wait_idle(&s).await, 2000);
            assert!(stored(&world, &s).await.iter().any(|event| batch_of(event).is_some()), "on a cluster by default");
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_larger_than_nats_takes_ends_a_burst_where_it_stands() {
    within(LIMIT, async {
        let mut world = World::new().await;
        world.server.stop().await;
        world.server.options().max_payload = Some("32KB");
        world.server.resume().await;
        world.wait_back().await;
        let bridge = Bridge::start_with(&world, "a", batches()).await;
        let large = sse([json!({"type": "llm_text", "i": "x".repeat(40_000)})]);
        let events = [numbered(0, 30), large, numbered(30, 40), result()].concat();
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(events)]);
        let s = session("large");
        bridge.run(&s, PROPOSE).await.unwrap();
        let log = world.wait_idle(&s).await;
        let numbers: Vec<_> = log[1..log.len() - 1].iter().map(|event| event.json()["i"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..30).collect::<Vec<_>>());
        let expected = json!({"error": "Propose stream failed", "detail": "an event is larger than NATS takes"});
        assert_eq!(log.last().unwrap().json(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_takes_no_batches_gets_single_events() {
    within(LIMIT, async {
        let world = World::new().await;
        let jetstream = world.nats().jetstream();
        let mut config = jetstream.get_stream("EVENTS").await.unwrap().cached_info().config.clone();
        config.allow_atomic_publish = false;
        jetstream.update_stream(&config).await.unwrap();
        let bridge = Bridge::start_with(&world, "a", batches()).await;
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(numbered(0, 300)).send(result())]);
        let s = session("plain");
        bridge.run(&s, PROPOSE).await.unwrap();
        whole(&world.wait_idle(&s).await, 300);
        assert!(stored(&world, &s).await.iter().all(|event| batch_of(event).is_none()));
    })
    .await;
}

/// What a publisher makes of events of which some are in the log already, as after an acknowledgement that got lost, or a
/// node that was killed while it stored a batch.
#[tokio::test]
async fn what_of_a_batch_is_stored_already_is_not_stored_again() {
    within(LIMIT, async {
        let world = World::new().await;
        let publisher = Publisher::new(world.nats(), &batches());
        for there in [0, 1, 7, 19, 20] {
            let (fence, among) = (format!("gm.t{there}._action"), format!("gm.t{there}.>"));
            let claim = jetstream::publish(world.nats(), &fence, HeaderMap::new(), "{}".into(), Expect::default());
            let sequence = claim.await.unwrap().seq;
            let ids: Vec<String> = (0..20).map(|i| format!("t{there}.{i}")).collect();
            let subject = format!("gm.t{there}.llm_text");
            let messages = ids.iter().map(|id| Message {
                subject: &subject,
                payload: id.clone().into(),
                headers: HeaderMap::new(),
                fence: &fence,
                sequence,
                id,
                among: &among,
            });
            let messages: Vec<_> = messages.collect();
            if there > 0 {
                publisher.publish_all(&messages[..there], BOUND).await.unwrap();
            }
            assert_eq!(publisher.publish_all(&messages, BOUND).await.unwrap(), sequence + 20);
            let log: Vec<String> =
                world.log(&session(&format!("t{there}"))).await.into_iter().map(|e| e.data).collect();
            assert_eq!(log[1..], ids);
            // Once another action is claimed, nothing is known of the old one but that it is over.
            let next = jetstream::publish(world.nats(), &fence, HeaderMap::new(), "{}".into(), Expect::default());
            next.await.unwrap();
            let late = publisher.publish_all(&messages, BOUND).await;
            assert!(matches!(late, Err(PublishFailure::Superseded)), "{late:?}");
            assert_eq!(world.log(&session(&format!("t{there}"))).await.len(), 22);
        }
    })
    .await;
}
