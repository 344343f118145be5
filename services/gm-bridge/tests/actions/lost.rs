//! Bridges that are gone, and what becomes of their actions.

use gm_bridge::action::{Accepted, ActionError, Cancelled};
use herald_protocol::SessionId;
use herald_runtime::config::HumanDuration;
use herald_testkit::{
    eventually,
    game_master::{Answer, CHOOSE as CHOOSE_PATH, Gate, PROPOSE as PROPOSE_PATH, sse},
    within,
};
use serde_json::json;

use crate::harness::{BOUND, Bridge, CHOOSE, LIMIT, PROPOSE, World, quick, session};

/// A stream that says `phase` and then nothing.
fn quiet() -> [Answer; 1] {
    [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]
}

#[tokio::test]
async fn a_killed_bridges_actions_are_ended_exactly_once() {
    within(LIMIT, async {
        let world = World::new().await;
        let mut first = Bridge::start(&world, "a").await;
        let others =
            [Bridge::start(&world, "b").await, Bridge::start(&world, "c").await, Bridge::start(&world, "d").await];
        world.gm.on(PROPOSE_PATH, quiet());
        world.gm.on(CHOOSE_PATH, quiet());
        let sessions: Vec<SessionId> = (0..10).map(|index| session(&format!("lost-{index}"))).collect();
        for (index, s) in sessions.iter().enumerate() {
            first.run(s, if index % 2 == 0 { PROPOSE } else { CHOOSE }).await.unwrap();
            world.wait_topic(s, "phase").await;
        }
        first.kill();
        for (index, s) in sessions.iter().enumerate() {
            let log = world.wait_idle(s).await;
            let topics: Vec<_> = log.iter().map(|event| event.topic.as_str()).collect();
            assert_eq!(topics, ["_action", "phase", "_action", "error"]);
            assert_eq!(log[2].action(), (2, "lost".to_owned()));
            let error = if index % 2 == 0 { "Propose stream failed" } else { "Choose stream failed" };
            assert_eq!(log[3].json(), json!({"error": error, "detail": "bridge lost"}));
            let told: Vec<_> = others.iter().flat_map(|bridge| bridge.table.finished(s)).collect();
            assert_eq!(told, [(log[0].sequence, false)], "the pool hears of it once");
        }
        assert_eq!(world.gm.all_asked().len(), 10, "nothing is asked for again");
    })
    .await;
}

#[tokio::test]
async fn a_bridge_ends_what_its_former_life_left_behind() {
    within(LIMIT, async {
        let world = World::new().await;
        world.gm.on(PROPOSE_PATH, quiet());
        let s = session("alone");
        let mut first = Bridge::start(&world, "a").await;
        first.run(&s, PROPOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        first.kill();
        let _again = Bridge::start(&world, "a").await;
        assert_eq!(world.wait_idle(&s).await.last().unwrap().json()["detail"], "bridge lost");
    })
    .await;
}

#[tokio::test]
async fn a_claim_whose_bridge_dies_at_once_is_ended_too() {
    within(LIMIT, async {
        let world = World::new().await;
        world.gm.on(PROPOSE_PATH, quiet());
        let (mut first, mut second) = (Bridge::start(&world, "a").await, Bridge::start(&world, "b").await);
        let s = session("chain");
        first.run(&s, PROPOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        // The start has superseded the propose, and told so; then its bridge is gone.
        let claim = second.claim_start(&s).await.unwrap();
        second.kill();
        drop(claim);
        let log = world
            .wait_log("the start is ended", &s, |log| log.iter().filter(|e| e.topic == "error").count() == 2)
            .await;
        assert_eq!(log[3].json(), json!({"error": "Cancelled", "detail": "superseded"}));
        assert_eq!(log[5].json(), json!({"error": "Start failed", "detail": "bridge lost"}));
        world.wait_idle(&s).await;
        first.kill();
    })
    .await;
}

#[tokio::test]
async fn a_waiting_command_whose_claimer_died_is_carried_out_once() {
    within(LIMIT, async {
        let world = World::new().await;
        let result = sse([json!({"type": "result"})]);
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(result.clone()), Answer::sse().send(result)]);
        let s = session("heir");
        // The choose has ended, the action of what waited for that is claimed, and the record was never taken over.
        let seq = world.publish(&s, "_action", r#"{"n":1,"kind":"choose"}"#).await;
        let next = json!({"kind": "propose", "lang": "fr"});
        let record = json!({"n": 1, "seq": seq, "kind": "choose", "bridge": "dead", "beat": 9, "next": next});
        world.leave_record(&s, &record).await;
        world.publish(&s, "result", r#"{"type":"result"}"#).await;
        world.publish(&s, "_action", r#"{"n":2,"kind":"propose"}"#).await;
        let _bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        let log =
            world.wait_log("it runs", &s, |log| log.iter().filter(|event| event.topic == "result").count() == 2).await;
        let topics: Vec<_> = log.iter().map(|event| event.topic.as_str()).collect();
        assert_eq!(topics, ["_action", "result", "_action", "_action", "error", "_action", "result"]);
        assert_eq!(log[4].json(), json!({"error": "Propose stream failed", "detail": "bridge lost"}));
        assert_eq!(world.wait_idle(&s).await, log, "and nothing more is said");
        assert_eq!(world.gm.all_asked().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_left_no_record_is_ended_too_and_keeps_nobody_waiting() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let (left, waiting, cancelled) = (session("left"), session("waiting"), session("cancelled"));
        for s in [&left, &waiting, &cancelled] {
            world.publish(s, "_action", r#"{"n":1,"kind":"propose"}"#).await;
        }
        assert_eq!(bridges[0].cancel(&cancelled).await.unwrap(), Cancelled::Cancelled);
        assert_eq!(world.topics(&cancelled).await, ["error"]);
        // Who comes while nobody can know yet waits as long as it would take to know.
        assert_eq!(bridges[0].queue(&waiting, PROPOSE).await.unwrap(), Accepted::Started);
        world.wait_topic(&waiting, "result").await;
        assert_eq!(world.topics(&waiting).await, ["error", "result"]);
        let log = world.wait_topic(&left, "error").await;
        assert_eq!(log[2].json(), json!({"error": "Propose stream failed", "detail": "bridge lost"}));
        assert_eq!(world.wait_idle(&left).await.len(), 3, "once");
        assert_eq!(world.gm.all_asked().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn two_claims_whose_bridges_died_get_an_end_each() {
    within(LIMIT, async {
        let world = World::new().await;
        world.gm.on(PROPOSE_PATH, quiet());
        let first = Bridge::start(&world, "a").await;
        let s = session("both");
        first.run(&s, PROPOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        // A choose supersedes it on a bridge that dies before its first word, and before its record.
        let log = world.log(&s).await;
        let before = json!({"action": log[0].sequence, "last": log[1].sequence});
        world.publish(&s, "_action", &json!({"n": 2, "kind": "choose", "before": before}).to_string()).await;
        world.gm.wait_hung_up(PROPOSE_PATH, 0, BOUND).await;
        let log = world.wait_log("both ends", &s, |log| log.len() == 6).await;
        assert_eq!((log[4].json()["detail"].as_str(), log[4].ends.as_deref()), (Some("superseded"), Some("1")));
        assert_eq!(log[5].json(), json!({"error": "Choose stream failed", "detail": "bridge lost"}));
        assert_eq!(world.wait_idle(&s).await, log, "and nothing more");
    })
    .await;
}

#[tokio::test]
async fn an_end_is_told_once_however_many_died_over_telling_it() {
    within(LIMIT, async {
        let world = World::new().await;
        let s = session("chain");
        let claimed = async |n: u64, kind: &str, before: Option<(u64, u64)>| {
            let before = before.map(|(action, last)| json!({"action": action, "last": last}));
            world.publish(&s, "_action", &json!({"n": n, "kind": kind, "before": before}).to_string()).await
        };
        let first = claimed(1, "propose", None).await;
        let said = world.publish(&s, "phase", "{}").await;
        // Dies before its first word; who comes to end it dies over the ends of both; and so does the next one.
        let second = claimed(2, "propose", Some((first, said))).await;
        let third = claimed(3, "lost", Some((second, second))).await;
        world.publish_end(&s, 1).await;
        claimed(4, "propose", Some((third, third))).await;
        world.publish_end(&s, 2).await;
        let bridge = Bridge::start(&world, "a").await;
        assert_eq!(bridge.cancel(&s).await.unwrap(), Cancelled::Cancelled);
        let log = world.wait_idle(&s).await;
        let ends: Vec<_> = log.iter().filter_map(|event| event.ends.as_deref()).collect();
        assert_eq!(ends, ["1", "2", "5"], "the cancel ends the fourth with its own end");
    })
    .await;
}

#[tokio::test]
async fn a_live_action_is_never_taken_for_lost() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        let mut answer = Answer::sse().send(sse([json!({"type": "phase"})]));
        for _ in 0..3 {
            answer = answer.pause(quick().lapse.get()).send(sse([json!({"type": "phase"})]));
        }
        world.gm.on(CHOOSE_PATH, [answer.send(sse([json!({"type": "result"})]))]);
        let s = session("alive");
        bridges[0].run(&s, CHOOSE).await.unwrap();
        // Three times the time after which it would have lapsed.
        let log = world.wait_idle(&s).await;
        assert_eq!(
            log.iter().map(|event| event.topic.as_str()).collect::<Vec<_>>(),
            ["_action", "phase", "phase", "phase", "phase", "result"]
        );
    })
    .await;
}

#[tokio::test]
async fn commands_left_waiting_are_no_sign_of_life() {
    within(LIMIT, async {
        let world = World::new().await;
        world.gm.on(CHOOSE_PATH, quiet());
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let (mut first, second) = (Bridge::start(&world, "a").await, Bridge::start(&world, "b").await);
        let s = session("spammed");
        first.run(&s, CHOOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        first.kill();
        eventually("the action is ended although commands keep coming", BOUND, async || {
            let accepted = second.queue(&s, PROPOSE).await.unwrap();
            let log = world.log(&s).await;
            if log.iter().any(|event| event.topic == "error") { Ok(()) } else { Err((accepted, log)) }
        })
        .await;
        world.wait_topic(&s, "result").await;
    })
    .await;
}

#[tokio::test]
async fn at_shutdown_running_actions_may_end_and_the_rest_is_ended() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        let gate = Gate::new();
        let phase = sse([json!({"type": "phase"})]);
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(phase).until(&gate).send(sse([json!({"type": "result"})]))]);
        world.gm.on(CHOOSE_PATH, quiet());
        let (quick_one, slow_one) = (session("quick"), session("slow"));
        bridge.run(&quick_one, PROPOSE).await.unwrap();
        bridge.run(&slow_one, CHOOSE).await.unwrap();
        world.wait_topic(&quick_one, "phase").await;
        world.wait_topic(&slow_one, "phase").await;
        bridge.context.shutdown.begin();
        gate.open();
        assert!(matches!(bridge.run(&session("late"), PROPOSE).await, Err(ActionError::Busy)));
        world.wait_idle(&quick_one).await;
        assert_eq!(world.topics(&quick_one).await, ["phase", "result"]);
        let log = world.wait_idle(&slow_one).await;
        assert_eq!(log.last().unwrap().json(), json!({"error": "Choose stream failed", "detail": "bridge stopped"}));
        world.gm.wait_hung_up(CHOOSE_PATH, 0, BOUND).await;
    })
    .await;
}

#[tokio::test]
async fn what_waits_at_a_shutdown_is_handed_over_at_once() {
    within(LIMIT, async {
        let world = World::new().await;
        // Far longer than the test may take: only a released record is taken over.
        let patient = || gm_bridge::config::ActionConfig { lapse: HumanDuration::from_secs(600), ..quick() };
        let first = Bridge::start_with(&world, "a", patient()).await;
        world.gm.on(CHOOSE_PATH, quiet());
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let s = session("handed");
        first.run(&s, CHOOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        assert_eq!(first.queue(&s, PROPOSE).await.unwrap(), Accepted::Queued);
        first.context.shutdown.begin();
        eventually("the record is released", BOUND, async || match world.record(&s).await {
            Some(record) if record.released => Ok(()),
            other => Err(other),
        })
        .await;
        drop(first);
        let _next = Bridge::start_with(&world, "b", quick()).await;
        world.wait_topic(&s, "result").await;
        world.wait_idle(&s).await;
        assert_eq!(world.topics(&s).await, ["phase", "error", "result"]);
    })
    .await;
}

#[tokio::test]
async fn a_bridge_takes_no_more_actions_than_it_may() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge =
            Bridge::start_with(&world, "a", gm_bridge::config::ActionConfig { max_running: 2, ..quick() }).await;
        world.gm.on(PROPOSE_PATH, quiet());
        bridge.run(&session("one"), PROPOSE).await.unwrap();
        bridge.run(&session("two"), PROPOSE).await.unwrap();
        assert!(matches!(bridge.run(&session("three"), PROPOSE).await, Err(ActionError::Busy)));
        assert_eq!(
            bridge.cancel(&session("one")).await.unwrap(),
            Cancelled::Cancelled,
            "what makes room is never refused"
        );
        eventually("there is room", BOUND, async || bridge.run(&session("three"), PROPOSE).await).await;
    })
    .await;
}
