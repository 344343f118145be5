//! One action at a time, whoever asks for the next.

use std::time::{Duration, Instant};

use gm_bridge::{action::Cancelled, config::ActionConfig};
use herald_runtime::config::HumanDuration;
use herald_testkit::{
    game_master::{Answer, CHOOSE as CHOOSE_PATH, Gate, PROPOSE as PROPOSE_PATH, sse},
    within,
};
use serde_json::json;

use crate::{
    harness::{BOUND, Bridge, CHOOSE, LIMIT, Logged, PROPOSE, World, quick, session},
    log,
};

/// Each `_action` and the topics that follow it.
fn actions(log: &[Logged]) -> Vec<(&Logged, Vec<&Logged>)> {
    let mut actions: Vec<(&Logged, Vec<&Logged>)> = Vec::new();
    for event in log {
        match actions.last_mut() {
            _ if event.topic == "_action" => actions.push((event, Vec::new())),
            Some((_, events)) => events.push(event),
            None => panic!("an event without an action: {event:?}"),
        }
    }
    actions
}

#[tokio::test]
async fn nothing_of_a_superseded_action_follows_the_new_ones_first_event() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        for trial in 0..100 {
            let s = session(&format!("trial-{trial}"));
            // As fast as it can: events lie ready in every buffer on the way while the next action is claimed.
            let chatter = |who: &str| sse((0..200).map(|i| json!({"type": "llm_text", "who": who, "i": i})));
            let result = sse([json!({"type": "result", "who": "new"})]);
            world.gm.on(PROPOSE_PATH, [Answer::sse().send(chatter("old")).endless(chatter("old"))]);
            world.gm.on(CHOOSE_PATH, [Answer::sse().send(chatter("new")).send(result)]);
            // The old one runs here, the new one there, in turn.
            let (old, new) = (&bridges[trial % 2], &bridges[(trial + 1) % 2]);
            old.run(&s, PROPOSE).await.unwrap();
            let enough = 1 + trial % 7;
            world.wait_log("some events of the old one", &s, |log| log.len() > enough).await;
            new.run(&s, CHOOSE).await.unwrap();
            world.gm.wait_hung_up(PROPOSE_PATH, trial, BOUND).await;
            let log = world.wait_idle(&s).await;

            let actions = actions(&log);
            let [(first, before), (second, after)] = actions.as_slice() else { panic!("{log:?}") };
            assert_eq!((first.action(), second.action()), ((1, "propose".to_owned()), (2, "choose".to_owned())));
            assert!(before.iter().all(|event| event.data.contains("\"who\":\"old\"")), "{before:?}");
            let numbers: Vec<_> = before.iter().map(|event| event.json()["i"].as_u64().unwrap() % 200).collect();
            assert!(numbers.iter().enumerate().all(|(index, i)| *i == index as u64 % 200), "without hole or double");
            assert_eq!(after[0].json(), json!({"error": "Cancelled", "detail": "superseded"}));
            assert_eq!(after[0].ends.as_deref(), Some("1"));
            assert_eq!(after.len(), 202);
            assert!(after[1..].iter().all(|event| event.data.contains("\"who\":\"new\"")), "{after:?}");
            assert_eq!(old.table.finished(&s), [], "the claimer says how the old one ended");
            assert_eq!(new.table.finished(&s), [(first.sequence, false), (second.sequence, true)]);
        }
    })
    .await;
}

#[tokio::test]
async fn many_claims_at_once_leave_one_action_and_end_all_others() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        let gate = Gate::new();
        let phase = sse([json!({"type": "phase"})]);
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(phase).until(&gate).send(sse([json!({"type": "result"})]))]);
        let s = session("crowd");
        let claims = (0..20).map(|index| bridges[index % 2].run(&s, PROPOSE));
        for claimed in futures_util::future::join_all(claims).await {
            claimed.unwrap();
        }
        gate.open();
        let log = world.wait_idle(&s).await;
        let actions = actions(&log);
        assert_eq!(actions.len(), 20);
        let told = log::story(&log.iter().map(Logged::plain).collect::<Vec<_>>());
        for (n, action) in told {
            // Also where several were claimed before any of them could say a word.
            assert_eq!(action.ends, [if n == 20 { "" } else { "superseded" }], "{n}: {log:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_cancel_answers_after_the_end_is_published() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        for (trial, canceller) in bridges.iter().enumerate() {
            let s = session(&format!("cancel-{trial}"));
            assert_eq!(canceller.cancel(&s).await.unwrap(), Cancelled::Idle);
            assert!(world.log(&s).await.is_empty(), "an idle session is left alone");
            bridges[0].run(&s, PROPOSE).await.unwrap();
            world.wait_topic(&s, "phase").await;
            assert_eq!(canceller.cancel(&s).await.unwrap(), Cancelled::Cancelled);
            let log = world.log(&s).await;
            assert_eq!(log.last().unwrap().json(), json!({"error": "Cancelled"}));
            assert_eq!(log.last().unwrap().ends.as_deref(), Some("2"), "it is the cancel's own last event too");
            assert_eq!(world.record(&s).await, None);
            world.gm.wait_hung_up(PROPOSE_PATH, trial, BOUND).await;
            assert_eq!(canceller.cancel(&s).await.unwrap(), Cancelled::Idle);
            assert_eq!(world.log(&s).await, log, "and nothing more is said");
        }
    })
    .await;
}

#[tokio::test]
async fn a_start_ends_what_runs_and_says_nothing_itself() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        let s = session("start");
        let claim = bridge.claim_start(&s).await.unwrap();
        assert!(claim.is_held());
        bridge.finish(claim).await.unwrap();
        assert_eq!(world.topics(&s).await, [""; 0]);

        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        bridge.run(&s, PROPOSE).await.unwrap();
        world.wait_idle(&s).await;
        assert_eq!(world.topics(&s).await, ["result"], "a start that is done is not taken for one that was cut");

        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        bridge.run(&s, PROPOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        let claim = bridge.claim_start(&s).await.unwrap();
        assert_eq!(world.topics(&s).await, ["result", "phase", "error"], "before the start goes on");
        world.gm.wait_hung_up(PROPOSE_PATH, 1, BOUND).await;

        // Another action takes over from the start, which notices and says nothing more.
        world.gm.on(CHOOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        bridge.run(&s, CHOOSE).await.unwrap();
        claim.superseded().await;
        assert!(!claim.is_held());
        bridge.finish(claim).await.unwrap();
        let log = world.wait_idle(&s).await;
        let topics: Vec<_> = log.iter().map(|event| event.topic.as_str()).collect();
        assert_eq!(topics[topics.len() - 3..], ["_action", "error", "result"], "{topics:?}");
    })
    .await;
}

#[tokio::test]
async fn a_session_that_loses_its_game_master_is_told() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        let told = json!({"error": "Game taken over"});
        for (trial, by) in bridges.iter().enumerate() {
            let s = session(&format!("running-{trial}"));
            bridges[0].run(&s, PROPOSE).await.unwrap();
            world.wait_topic(&s, "phase").await;
            by.take_over(&s, true).await.unwrap();
            world.gm.wait_hung_up(PROPOSE_PATH, trial, BOUND).await;
            assert_eq!(world.log(&s).await.last().unwrap().json(), told);
        }
        let idle = session("idle");
        bridges[0].take_over(&idle, false).await.unwrap();
        let log = world.log(&idle).await;
        assert_eq!((log.len(), log[1].json()), (2, told));
        let ended = session("ended");
        bridges[0].take_over(&ended, true).await.unwrap();
        assert_eq!(world.topics(&ended).await, [""; 0], "a game that saw its end is not told again");
    })
    .await;
}

#[tokio::test]
async fn who_takes_a_game_over_waits_until_its_runner_says_that_it_is_gone() {
    within(LIMIT, async {
        let world = World::new().await;
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        // Far longer than the test may take.
        let patient = || ActionConfig { lapse: HumanDuration::from_secs(600), ..quick() };
        let mut runner = Bridge::start_with(&world, "a", patient()).await;
        let by = Bridge::start_with(&world, "b", patient()).await;
        let s = session("living");
        runner.run(&s, PROPOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        by.take_over(&s, true).await.unwrap();
        assert!(world.gm.asked(PROPOSE_PATH)[0].hung_up.is_some(), "its stream is closed by then");
        assert_eq!(world.record(&s).await, None);

        // One that is dead says nothing: it had the time in which its record would have lapsed.
        let s = session("dead");
        runner.run(&s, PROPOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        runner.kill();
        let by = Bridge::start_with(&world, "c", ActionConfig { lapse: HumanDuration::from_secs(2), ..quick() }).await;
        let begun = Instant::now();
        by.take_over(&s, true).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_claim_slow_to_write_its_record_yields_to_what_has_come_and_gone_meanwhile() {
    within(LIMIT, async {
        let world = World::new().await;
        let config = ActionConfig { claim_wait: HumanDuration::from_secs(20), ..quick() };
        let bridge = Bridge::start_with(&world, "a", config).await;
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let s = session("overtaken");
        world.capture_records("$KV.NOBODY.>").await;
        let overtaken = async {
            world.wait_topic(&s, "_action").await;
            // Another bridge's action, from its claim to its end.
            world.publish(&s, "_action", r#"{"n":2,"kind":"propose"}"#).await;
            world.publish(&s, "result", r#"{"type":"result"}"#).await;
            world.capture_records("$KV.ACTIONS.>").await;
        };
        let (accepted, ()) = tokio::join!(bridge.run(&s, PROPOSE), overtaken);
        accepted.unwrap();
        let log = world.wait_idle(&s).await;
        let topics: Vec<_> = log.iter().map(|event| event.topic.as_str()).collect();
        assert_eq!(topics, ["_action", "_action", "result"]);
        assert!(world.gm.all_asked().is_empty(), "a superseded action asks for nothing");
    })
    .await;
}
