//! NATS away, halted, or back.

use std::time::Duration;

use gm_bridge::{action::ActionError, config::ActionConfig, publisher::PublishFailure};
use herald_runtime::config::HumanDuration;
use herald_testkit::{
    eventually,
    game_master::{Answer, CHOOSE as CHOOSE_PATH, Gate, PROPOSE as PROPOSE_PATH, sse},
    proxy::{Direction, Network, Proxy},
    within,
};
use serde_json::{Value, json};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

use crate::harness::{BOUND, Bridge, CHOOSE, LIMIT, Logged, PROPOSE, World, quick, session};

fn numbered(from: u64, to: u64) -> bytes::Bytes {
    sse((from..to).map(|i| json!({"type": "llm_text", "i": i})))
}

/// A stream of 300 events; the test opens the gate after 100 of them.
fn long(gate: &Gate) -> Answer {
    let result = sse([json!({"type": "result"})]);
    Answer::sse().send(numbered(0, 100)).until(gate).send(numbered(100, 300)).send(result)
}

fn whole(log: &[Logged]) {
    let numbers: Vec<Value> = log.iter().filter(|e| e.topic == "llm_text").map(|e| e.json()["i"].clone()).collect();
    assert_eq!(numbers, (0..300).map(Value::from).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(log.iter().filter(|event| event.topic == "_action").count(), 1, "not taken for lost");
    assert_eq!(log.last().unwrap().topic, "result");
}

#[tokio::test]
async fn an_action_survives_an_outage_longer_than_its_record_would() {
    within(LIMIT, async {
        let mut world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        for kill in [false, true] {
            let gate = Gate::new();
            world.gm.on(PROPOSE_PATH, [long(&gate)]);
            let s = session(if kill { "killed" } else { "stopped" });
            bridges[0].run(&s, PROPOSE).await.unwrap();
            world.wait_log("100 events", &s, |log| log.len() > 100).await;
            if kill {
                world.server.kill().await;
            } else {
                world.server.stop().await;
            }
            gate.open();
            // Three lapses, and longer than the time within which events are resent without a look.
            sleep(quick().lapse.get() * 3).await;
            world.server.resume().await;
            world.wait_back().await;
            world.wait_last(&s, "result").await;
            whole(&world.wait_idle(&s).await);
        }
        assert_eq!(world.gm.asked(PROPOSE_PATH).len(), 2);
        drop(bridges);
    })
    .await;
}

#[tokio::test]
async fn a_halted_server_makes_no_action_lost_and_no_event_double() {
    within(LIMIT, async {
        let mut world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        let gate = Gate::new();
        world.gm.on(PROPOSE_PATH, [long(&gate)]);
        let s = session("halted");
        bridges[0].run(&s, PROPOSE).await.unwrap();
        world.wait_log("100 events", &s, |log| log.len() > 100).await;
        for _ in 0..3 {
            world.server.freeze().await;
            gate.open();
            // Longer than a lapse, and than a request waits for its answer: copies pile up.
            sleep(Duration::from_millis(2_600)).await;
            world.server.thaw();
            sleep(Duration::from_millis(100)).await;
        }
        whole(&world.wait_idle(&s).await);
        drop(bridges);
    })
    .await;
}

#[tokio::test]
async fn a_lapse_is_counted_anew_after_an_outage_and_then_ends_what_is_lost() {
    within(LIMIT, async {
        let mut world = World::new().await;
        let mut first = Bridge::start(&world, "a").await;
        let _second = Bridge::start(&world, "b").await;
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        let s = session("both");
        first.run(&s, PROPOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        world.server.stop().await;
        first.kill();
        sleep(quick().lapse.get() * 2).await;
        world.server.resume().await;
        world.wait_back().await;
        world.wait_last(&s, "error").await;
        world.wait_idle(&s).await;
        assert_eq!(world.topics(&s).await, ["phase", "error"]);
    })
    .await;
}

#[tokio::test]
async fn without_nats_nothing_is_claimed_and_the_caller_is_told_soon() {
    within(LIMIT, async {
        let mut world = World::new().await;
        let config = ActionConfig { claim_wait: HumanDuration::from_secs(1), ..quick() };
        let bridge = Bridge::start_with(&world, "a", config).await;
        let s = session("away");
        world.server.stop().await;
        assert!(matches!(bridge.run(&s, PROPOSE).await, Err(ActionError::NotConnected)));
        assert!(matches!(bridge.cancel(&s).await, Err(ActionError::NotConnected)));
        world.server.resume().await;
        world.wait_back().await;
        eventually("the bridge is back", BOUND, async || bridge.cancel(&s).await).await;
        assert!(world.log(&s).await.is_empty());
        assert!(world.gm.all_asked().is_empty());
    })
    .await;
}

#[tokio::test]
async fn whoever_must_be_sure_of_his_action_waits_no_longer_for_nats_than_an_event() {
    within(LIMIT, async {
        let mut world = World::new().await;
        let config = ActionConfig { publish_wait: HumanDuration::from_secs(2), ..quick() };
        let bridge = Bridge::start_with(&world, "a", config).await;
        let claim = bridge.claim_start(&session("unsure")).await.unwrap();
        world.server.stop().await;
        let failure = eventually("it can't be known any more", BOUND, async || {
            match claim.surely_held().await {
                // The record was written a moment ago.
                Ok(()) => Err(()),
                Err(failure) => Ok(failure),
            }
        })
        .await;
        assert!(matches!(failure, PublishFailure::Away), "{failure:?}");
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_was_answered_with_a_failure_is_never_carried_out() {
    within(LIMIT, async {
        let mut world = World::new().await;
        let config = ActionConfig { claim_wait: HumanDuration::from_millis(400), ..quick() };
        let bridge = Bridge::start_with(&world, "a", config).await;
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        let (mut carried_out, mut refused) = (0, 0);
        for trial in 0..16_u64 {
            let s = session(&format!("late-{trial}"));
            // The server halts somewhere within the claim: while it reads, before or behind the store.
            let halt = async {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(trial * 400) {
                    yield_now().await;
                }
                world.server.freeze().await;
                sleep(Duration::from_millis(500)).await;
            };
            let ((), claimed) = tokio::join!(halt, bridge.run(&s, PROPOSE));
            world.server.thaw();
            if claimed.is_ok() {
                carried_out += 1;
                world.gm.wait_asked(PROPOSE_PATH, carried_out, BOUND).await;
            } else {
                refused += 1;
            }
            // If the claim was stored all the same it is ended by itself, or by the cancel, whichever comes first.
            eventually("the cancel is taken", BOUND, async || bridge.cancel(&s).await).await;
        }
        for trial in 0..16_u64 {
            // The server may take a claim from its queue only after it has said that there is none.
            let ended = async || match world.wait_idle(&session(&format!("late-{trial}"))).await {
                log if log.last().is_none_or(|last| last.topic == "error" || last.topic == "_done") => Ok(()),
                log => Err(log),
            };
            eventually("no action is left open", BOUND, ended).await;
        }
        assert_eq!(
            world.gm.asked(PROPOSE_PATH).len(),
            carried_out,
            "what was answered with a failure is not carried out"
        );
        assert!(refused > 0, "the server was halted in time at least once");
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_was_superseded_before_its_acknowledgement_came_is_not_made_again() {
    within(LIMIT, async {
        let world = World::new().await;
        let proxy = Proxy::start(world.server.address()).await;
        let [far, near] = [Bridge::start_behind(&world, &proxy, "far").await, Bridge::start(&world, "near").await];
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        let s = session("superseded");
        proxy.set(Network::Delayed { by: Duration::from_millis(150), jitter: Duration::ZERO });
        let supersede = async {
            world.wait_log("the claim is stored", &s, |log| !log.is_empty()).await;
            // It has been, but its bridge does not come to hear of it.
            proxy.set(Network::HalfOpen(Direction::ToClient));
            near.cancel(&s).await.unwrap();
            proxy.set(Network::Down);
            proxy.set(Network::Works);
        };
        let ((), claimed) = tokio::join!(supersede, far.run(&s, PROPOSE));
        let log = world.wait_idle(&s).await;
        let actions: Vec<_> = log.iter().filter(|event| event.topic == "_action").map(Logged::action).collect();
        assert_eq!(actions, [(1, "propose".to_owned()), (2, "cancel".to_owned())], "{claimed:?} {log:?}");
        assert_eq!(world.gm.asked(PROPOSE_PATH).len(), 0, "{log:?}");
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_a_renewal_costs_no_action() {
    within(LIMIT, async {
        let world = World::new().await;
        let proxy = Proxy::start(world.server.address()).await;
        let bridges = [Bridge::start_behind(&world, &proxy, "a").await, Bridge::start(&world, "b").await];
        let gate = Gate::new();
        world.gm.on(PROPOSE_PATH, [long(&gate)]);
        let s = session("cut");
        bridges[0].run(&s, PROPOSE).await.unwrap();
        world.wait_log("100 events", &s, |log| log.len() > 100).await;
        for _ in 0..2 {
            // A renewal is on its way, and its answer never comes. A request would wait for longer than the record lives.
            proxy.set(Network::Silent);
            sleep(quick().renew.get() * 3).await;
            proxy.set(Network::Down);
            sleep(Duration::from_millis(50)).await;
            proxy.set(Network::Works);
            sleep(quick().lapse.get()).await;
        }
        gate.open();
        whole(&world.wait_idle(&s).await);
        drop(bridges);
    })
    .await;
}

#[tokio::test]
async fn what_hung_in_the_network_is_refused_when_it_comes() {
    within(LIMIT, async {
        let world = World::new().await;
        let proxy = Proxy::start(world.server.address()).await;
        let bridges = [Bridge::start_behind(&world, &proxy, "a").await, Bridge::start(&world, "b").await];
        for (trial, superseded) in [false, true, false, true].into_iter().enumerate() {
            let s = session(&format!("hung-{trial}"));
            world.gm.on(PROPOSE_PATH, [Answer::sse().endless(numbered(0, 10))]);
            world.gm.on(CHOOSE_PATH, [Answer::sse().send(sse([json!({"type": "new"}), json!({"type": "result"})]))]);
            bridges[0].run(&s, PROPOSE).await.unwrap();
            world.wait_log("some events", &s, |log| log.len() > 5).await;
            proxy.set(Network::Silent);
            // Either a new action comes, or the old one is found lost.
            if superseded {
                bridges[1].run(&s, CHOOSE).await.unwrap();
                world.wait_topic(&s, "result").await;
            } else {
                world.wait_topic(&s, "error").await;
            }
            let before = world.wait_idle(&s).await;
            assert!(world.gm.asked(PROPOSE_PATH)[trial].hung_up.is_none(), "the old one knows nothing of it");
            proxy.set(Network::Works);
            world.gm.wait_hung_up(PROPOSE_PATH, trial, BOUND).await;
            // Over the same connection, so behind whatever hung in it.
            bridges[0].cancel(&s).await.unwrap();
            assert_eq!(world.log(&s).await, before, "nothing of the old action follows");
        }
    })
    .await;
}
