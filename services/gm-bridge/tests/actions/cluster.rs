//! Three servers, three replicas.

use herald_testkit::{
    eventually,
    game_master::{Answer, CHOOSE as CHOOSE_PATH, Gate, PROPOSE as PROPOSE_PATH, sse},
    within,
};
use serde_json::json;

use crate::harness::{BOUND, Bridge, CHOOSE, LIMIT, PROPOSE, World, session};

#[tokio::test]
async fn a_leader_that_dies_costs_no_event_and_no_action() {
    within(LIMIT, async {
        let mut world = World::clustered().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        for (trial, stream) in ["EVENTS", "KV_ACTIONS"].into_iter().enumerate() {
            let s = session(stream);
            let (gate, events) = (Gate::new(), |from, to| sse((from..to).map(|i| json!({"type": "llm_text", "i": i}))));
            let answer = Answer::sse().send(events(0, 50)).until(&gate).send(events(50, 200));
            world.gm.on(PROPOSE_PATH, [answer.send(sse([json!({"type": "result"})]))]);
            bridges[trial].run(&s, PROPOSE).await.unwrap();
            world.wait_log("50 events", &s, |log| log.len() > 50).await;
            let victim = leader(&world, stream).await;
            world.server(victim).kill().await;
            gate.open();
            world.wait_last(&s, "result").await;
            world.server(victim).resume().await;
            let log = world.wait_idle(&s).await;
            let numbers = log.iter().filter(|event| event.topic == "llm_text").map(|event| event.json()["i"].as_u64());
            assert_eq!(numbers.flatten().collect::<Vec<_>>(), (0..200).collect::<Vec<_>>(), "each once, in order");
            assert_eq!(log.iter().filter(|event| event.topic == "_action").count(), 1, "not taken for lost");
        }
    })
    .await;
}

/// Which server leads a stream.
pub(crate) async fn leader(world: &World, stream: &str) -> usize {
    eventually("there is a leader", BOUND, async || {
        let stream = world.nats().jetstream().get_stream(stream).await.map_err(|error| error.to_string())?;
        let leader = stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone());
        let number = leader.as_deref().and_then(|name| name.strip_prefix("herald-")?.parse::<usize>().ok());
        number.map(|number| number - 1).ok_or_else(|| format!("{leader:?}"))
    })
    .await
}

#[tokio::test]
async fn the_fence_holds_on_three_replicas() {
    within(LIMIT, async {
        let world = World::clustered().await;
        let bridges = [Bridge::start(&world, "a").await, Bridge::start(&world, "b").await];
        for trial in 0..10 {
            let s = session(&format!("trial-{trial}"));
            let chatter = |who: &str| sse((0..20).map(|i| json!({"type": "llm_text", "who": who, "i": i})));
            world.gm.on(PROPOSE_PATH, [Answer::sse().endless(chatter("old"))]);
            let result = sse([json!({"type": "result", "who": "new"})]);
            world.gm.on(CHOOSE_PATH, [Answer::sse().send(chatter("new")).send(result)]);
            bridges[trial % 2].run(&s, PROPOSE).await.unwrap();
            world.wait_log("some events of the old one", &s, |log| log.len() > 1).await;
            bridges[(trial + 1) % 2].run(&s, CHOOSE).await.unwrap();
            world.gm.wait_hung_up(PROPOSE_PATH, trial, BOUND).await;
            let log = world.wait_idle(&s).await;
            let second = log.iter().rposition(|event| event.topic == "_action").unwrap();
            assert_eq!(log[second + 1].json(), json!({"error": "Cancelled", "detail": "superseded"}));
            assert!(log[1..second].iter().all(|event| event.data.contains("old")), "{log:?}");
            assert!(log[second + 2..].iter().all(|event| event.data.contains("new")), "{log:?}");
            assert_eq!(log.len() - second, 23, "{log:?}");
        }
    })
    .await;
}
