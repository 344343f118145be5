//! The policy `queue`: one command waits, in the record of the open action.

use gm_bridge::{
    action::{Accepted, Cancelled},
    config::ActionConfig,
};
use herald_protocol::record::ActionKind;
use herald_runtime::config::HumanDuration;
use herald_testkit::{
    game_master::{Answer, CHOOSE as CHOOSE_PATH, Gate, PROPOSE as PROPOSE_PATH, sse},
    within,
};
use serde_json::json;

use crate::harness::{BOUND, Bridge, CHOOSE, LIMIT, PROPOSE, World, quick, session};

#[tokio::test]
async fn a_queued_command_starts_when_the_running_one_has_ended() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        let gate = Gate::new();
        let choose = Answer::sse().send(sse([json!({"type": "phase"})])).until(&gate);
        world.gm.on(CHOOSE_PATH, [choose.send(sse([json!({"type": "strategy"}), json!({"type": "result"})]))]);
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "proposal"}), json!({"type": "result"})]))]);
        let s = session("queued");
        assert_eq!(bridges[0].queue(&s, CHOOSE).await.unwrap(), Accepted::Started);
        world.wait_topic(&s, "phase").await;
        // From the other bridge; a newer one takes the place of an older one.
        assert_eq!(bridges[1].queue(&s, CHOOSE).await.unwrap(), Accepted::Queued);
        assert_eq!(bridges[1].queue(&s, PROPOSE).await.unwrap(), Accepted::Queued);
        gate.open();
        world.wait_topic(&s, "proposal").await;
        let log = world.wait_idle(&s).await;
        let topics: Vec<_> = log.iter().map(|event| event.topic.as_str()).collect();
        assert_eq!(topics, ["_action", "phase", "strategy", "result", "_action", "proposal", "result"]);
        assert_eq!((world.gm.asked(CHOOSE_PATH).len(), world.gm.asked(PROPOSE_PATH).len()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn commands_queued_at_the_same_moment_never_cut_each_other() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"}), json!({"type": "result"})]))]);
        for trial in 0..20 {
            let s = session(&format!("both-{trial}"));
            let (first, second) = tokio::join!(bridges[0].queue(&s, PROPOSE), bridges[1].queue(&s, PROPOSE));
            first.unwrap();
            second.unwrap();
            let log = world.wait_idle(&s).await;
            assert!(log.iter().all(|event| event.topic != "error"), "{log:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_cancel_drops_what_waits_and_so_does_a_new_action() {
    within(LIMIT, async {
        let world = World::new().await;
        let bridge = Bridge::start(&world, "a").await;
        world.gm.on(CHOOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let s = session("dropped");
        for round in 0..2 {
            bridge.run(&s, CHOOSE).await.unwrap();
            world.gm.wait_asked(CHOOSE_PATH, round + 1, BOUND).await;
            assert_eq!(bridge.queue(&s, PROPOSE).await.unwrap(), Accepted::Queued);
            if round == 0 {
                assert_eq!(bridge.cancel(&s).await.unwrap(), Cancelled::Cancelled);
            } else {
                bridge.run(&s, PROPOSE).await.unwrap();
            }
            world.wait_idle(&s).await;
        }
        assert_eq!(world.gm.asked(PROPOSE_PATH).len(), 1, "only the one that superseded");
    })
    .await;
}

#[tokio::test]
async fn what_waits_survives_its_bridge() {
    within(LIMIT, async {
        let world = World::new().await;
        let mut first = Bridge::start(&world, "a").await;
        let _second = Bridge::start(&world, "b").await;
        world.gm.on(CHOOSE_PATH, [Answer::sse().send(sse([json!({"type": "phase"})])).hang()]);
        world.gm.on(PROPOSE_PATH, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let s = session("survivor");
        first.run(&s, CHOOSE).await.unwrap();
        world.wait_topic(&s, "phase").await;
        assert_eq!(first.queue(&s, PROPOSE).await.unwrap(), Accepted::Queued);
        first.kill();
        world.wait_topic(&s, "result").await;
        let log = world.wait_idle(&s).await;
        assert_eq!(world.topics(&s).await, ["phase", "error", "result"]);
        assert_eq!(log[3].json(), json!({"error": "Choose stream failed", "detail": "bridge lost"}));
        assert_eq!(world.gm.asked(CHOOSE_PATH).len(), 1, "what was cut is not asked for again");
    })
    .await;
}

#[tokio::test]
async fn what_is_queued_behind_a_claim_that_has_no_record_yet_is_not_dropped_with_the_record_before() {
    within(LIMIT, async {
        let world = World::new().await;
        // Nobody is to take the actions of the bridge that is not here for lost.
        let patient = ActionConfig { lapse: HumanDuration::from_secs(60), ..quick() };
        let bridge = Bridge::start_with(&world, "a", patient).await;
        let s = session("between");
        let record = |n: u64, seq: u64| json!({"n": n, "seq": seq, "kind": "choose", "bridge": "x", "beat": 0});
        let opened = |n: u64| json!({"n": n, "kind": "choose"}).to_string();
        let first = world.publish(&s, "_action", &opened(1)).await;
        world.leave_record(&s, &record(1, first)).await;
        let second = world.publish(&s, "_action", &opened(2)).await;
        let taken_over = async {
            // As long as a queueing takes that does not wait for this.
            for _ in 0..20 {
                assert_eq!(world.record(&s).await.unwrap().next, None, "in the record of an action that is over");
            }
            world.leave_record(&s, &record(2, second)).await;
        };
        let (queued, ()) = tokio::join!(bridge.queue(&s, PROPOSE), taken_over);
        assert_eq!(queued.unwrap(), Accepted::Queued);
        let record = world.record(&s).await.unwrap();
        assert_eq!((record.n, record.next.map(|next| next.kind)), (2, Some(ActionKind::Propose)));
    })
    .await;
}
