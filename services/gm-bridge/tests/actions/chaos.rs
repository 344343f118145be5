//! Whatever is asked of whichever bridge, and whichever dies meanwhile: what the log must look like afterwards.

use std::time::Duration;

use gm_bridge::action::ActionError;
use herald_protocol::SessionId;
use herald_testkit::{
    eventually,
    game_master::{Answer, CHOOSE as CHOOSE_PATH, PROPOSE as PROPOSE_PATH, sse},
    within,
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    harness::{BOUND, Bridge, CHOOSE, LIMIT, Logged, PROPOSE, World, session},
    log,
};

/// Dice of its own, so that a seed always rolls the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

const SESSIONS: usize = 4;
const STEPS: usize = 120;

async fn play(seed: u64) {
    let world = World::new().await;
    let numbered = || sse((0..10).map(|i| json!({"type": "llm_text", "i": i})));
    // A propose comes to its end, a choose only if it is ended.
    world.gm.on(PROPOSE_PATH, [Answer::sse().send(numbered()).send(sse([json!({"type": "result"})]))]);
    world.gm.on(CHOOSE_PATH, [Answer::sse().send(numbered()).pause(Duration::from_millis(50)).endless(numbered())]);
    let sessions: Vec<SessionId> = (0..SESSIONS).map(|index| session(&format!("s{index}"))).collect();
    let mut bridges = Vec::new();
    for name in ["a", "b", "c"] {
        bridges.push(Bridge::start(&world, name).await);
    }
    let mut dice = Dice(seed);
    for _ in 0..STEPS {
        let s = &sessions[dice.roll(SESSIONS as u64) as usize];
        let index = dice.roll(3) as usize;
        let bridge = &bridges[index];
        let done = match dice.roll(16) {
            0..4 => bridge.run(s, PROPOSE).await.map(drop),
            4..8 => bridge.run(s, CHOOSE).await.map(drop),
            8..10 => bridge.queue(s, PROPOSE).await.map(drop),
            10..12 => bridge.cancel(s).await.map(drop),
            12 => match bridge.claim_start(s).await {
                Ok(claim) => bridge.finish(claim).await,
                Err(error) => Err(error),
            },
            13 => bridge.take_over(s, dice.roll(2) == 0).await,
            14 => {
                // In the middle of a claim, perhaps.
                let asked = bridge.run(s, CHOOSE);
                let _given_up = tokio::time::timeout(Duration::from_micros(dice.roll(4_000)), asked).await;
                bridges[index].kill();
                bridges[index] = Bridge::start(&world, ["a", "b", "c"][index]).await;
                Ok(())
            }
            _ => {
                sleep(Duration::from_millis(dice.roll(300))).await;
                Ok(())
            }
        };
        assert!(matches!(done, Ok(()) | Err(ActionError::Superseded)), "seed {seed}: {done:?}");
    }
    for s in &sessions {
        // What a dead bridge left behind is ended first, then what runs.
        eventually("nothing runs any more", BOUND, async || {
            bridges[0].cancel(s).await.map_err(|error| format!("{error:?}"))?;
            match world.record(s).await {
                None => Ok(()),
                Some(record) => Err(format!("{record:?}")),
            }
        })
        .await;
        check(&world.log(s).await, seed);
    }
    let asked = world.gm.asked(PROPOSE_PATH).len() + world.gm.asked(CHOOSE_PATH).len();
    let mut commands = 0;
    for s in &sessions {
        let log = world.log(s).await;
        let opened = log.iter().filter(|event| event.topic == "_action").map(Logged::json);
        commands += opened.filter(|action| action["kind"] == "propose" || action["kind"] == "choose").count();
    }
    assert!(asked <= commands, "seed {seed}: {asked} requests for {commands} commands");
}

/// Every action is numbered, says its events in order, ends once, and nothing of it follows its end.
fn check(log: &[Logged], seed: u64) {
    for action in log.chunk_by(|_, next| next.topic != "_action") {
        let own = action.iter().filter(|event| event.topic == "llm_text");
        for (index, event) in own.enumerate() {
            assert_eq!(event.json()["i"], index as u64 % 10, "seed {seed}: {action:?}");
        }
    }
    let log: Vec<_> = log.iter().map(Logged::plain).collect();
    assert!(log::has_ended(&log), "seed {seed}: the last action has not ended: {log:?}");
    log::story(&log);
}

#[tokio::test]
async fn whatever_happens_the_log_tells_a_clean_story() {
    within(LIMIT, async {
        for seed in [1, 2] {
            play(seed).await;
        }
    })
    .await;
}
