//! Bridges that are halted, for longer than anybody waits for them, and go on.

use std::time::Duration;

use herald_protocol::SessionId;
use herald_testkit::{eventually, within};
use tokio::time::sleep;

use crate::{
    log::{Logged, story},
    master::Master,
    wire::Stop,
    world::{BOUND, Bridge, World, lapse, session},
};

const LIMIT: Duration = Duration::from_secs(150);

/// Two bridges and a game. The first one takes requests.
struct Pair {
    world: World,
    first: Bridge,
    second: Bridge,
    master: Master,
    session: SessionId,
}

impl Pair {
    async fn new() -> Self {
        let world = World::new().await;
        let master = Master::start(Duration::from_millis(5)).await;
        let first = world.bridge(&master.url, &[]).await;
        let second = world.bridge(&master.url, &[]).await;
        let session = session();
        world.hear(&first, true).await;
        world.start(&session).await;
        Self { world, first, second, master, session }
    }

    async fn propose(&self) -> u16 {
        self.world.ask(&format!("/api/propose?session_id={}", self.session)).await.status
    }

    /// Waits until the first bridge, which goes on, has nothing more to do.
    async fn at_rest(&mut self) {
        self.first.service.wait_ready(BOUND).await;
        eventually("it runs nothing", BOUND, async || {
            let running = self.first.service.metric("herald_actions_running_count", &[]).await;
            if running == 0.0 { Ok(()) } else { Err(running) }
        })
        .await;
        // Behind all that it may have had to say.
        sleep(Duration::from_millis(300)).await;
    }

    async fn lost(&self, from: u64) -> Vec<Logged> {
        self.world.wait_log("it is told", &self.session, from, |log| log.iter().any(Logged::is_lost)).await;
        self.world.wait_idle(&self.session, from).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_halted_past_its_lapse_says_and_asks_nothing_more() {
    within(LIMIT, async {
        let mut pair = Pair::new().await;
        let s = pair.session.to_string();
        // In mid-stream; with an event on the way; between its claim and its record; before its first word, that is behind
        // its record; before it asks the Game Master, and while it notes that it will.
        let places = [
            (None, 5),
            (Some((format!("gm.{s}.llm_text"), 2, Stop::Behind)), 3),
            (Some((format!("HPUB $KV.ACTIONS.{s}"), 0, Stop::Before)), 0),
            (Some((format!("HPUB $KV.ACTIONS.{s}"), 0, Stop::Behind)), 0),
            (Some((format!("\"session\":\"{s}\""), 0, Stop::Before)), 0),
            (Some((format!("\"session\":\"{s}\""), 0, Stop::Behind)), 0),
        ];
        for (place, events) in places {
            let from = pair.world.head().await + 1;
            let calls = pair.master.calls();
            pair.master.open(false);
            if let Some((needle, passed, stop)) = &place {
                pair.first.wire.stop_at(needle, *passed, *stop);
            }
            {
                let path = format!("/api/propose?session_id={s}");
                let mut asked = Box::pin(pair.world.try_ask("event", http::Method::GET, &path));
                let there = async {
                    match &place {
                        Some(_) => assert!(pair.first.wire.stopped(BOUND).await.is_some(), "{place:?}"),
                        None => drop(pair.world.wait_log("events", &pair.session, from, |log| log.len() == 6).await),
                    }
                };
                let mut there = Box::pin(there);
                tokio::select! {
                    () = &mut there => {}
                    reply = &mut asked => {
                        assert_eq!(reply.unwrap().status, 202);
                        there.await;
                    }
                }
            }
            pair.first.service.process().freeze().await;
            let log = pair.lost(from).await;
            let told = story(&log);
            assert_eq!(told.values().map(|told| told.events).sum::<u64>(), events, "{place:?}: {log:#?}");
            pair.master.open(true);
            pair.first.service.process().thaw();
            pair.first.wire.open(true);
            pair.at_rest().await;
            let after = pair.world.wait_idle(&pair.session, from).await;
            assert_eq!(after.len(), log.len(), "{place:?}: it says nothing more: {after:#?}");
            let made = pair.master.calls() - calls;
            assert_eq!(made, u64::from(events > 0), "{place:?}: it asks for nothing any more");
            // Its session can act again, also on the bridge that was halted.
            let from = pair.world.head().await + 1;
            assert_eq!(pair.propose().await, 202, "{place:?}");
            assert_eq!(pair.world.wait_idle(&pair.session, from).await.last().unwrap().topic, "result");
        }
        assert_eq!(pair.second.service.metric("herald_actions_lost_total", &[]).await, 6.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_was_halted_takes_nobody_for_lost() {
    within(LIMIT, async {
        let mut pair = Pair::new().await;
        let mut third = pair.world.bridge(&pair.master.url, &[]).await;
        pair.master.open(false);
        let from = pair.world.head().await + 1;
        assert_eq!(pair.propose().await, 202);
        pair.world.wait_log("five events", &pair.session, from, |log| log.len() == 6).await;
        // The watchers alone, then all of them: whoever goes on first must not judge by the time it has slept.
        for all in [false, true, true] {
            pair.second.service.process().freeze().await;
            third.service.process().freeze().await;
            if all {
                pair.first.service.process().freeze().await;
            }
            sleep(lapse() + Duration::from_secs(2)).await;
            pair.second.service.process().thaw();
            third.service.process().thaw();
            if all {
                pair.first.service.process().thaw();
            }
            // As long as they would need to come to a wrong conclusion.
            sleep(lapse() / 2).await;
        }
        pair.master.open(true);
        let log = pair.world.wait_idle(&pair.session, from).await;
        assert_eq!(story(&log).len(), 1, "{log:#?}");
        assert_eq!(log.last().unwrap().topic, "result");
        assert_eq!(pair.second.service.metric("herald_actions_lapsed_total", &[]).await, 0.0);
        assert!(pair.second.service.metric("herald_watch_counted_anew_total", &["reason=\"halted\""]).await > 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_halted_past_the_memory_of_ids_stores_nothing_twice() {
    within(LIMIT, async {
        let world = World::new().await;
        let master = Master::start(Duration::from_millis(5)).await;
        // Alone: nobody takes its action for lost, so nothing but its own care keeps an event from being stored twice. The
        // server remembers ids for 2 s, as an operator chose; the bridge must know that, whatever its own setting says.
        let window = Duration::from_secs(2);
        let first = world.bridge(&master.url, &[]).await;
        world.remember_ids_for(window).await;
        drop(first);
        let mut bridge = world.bridge(&master.url, &[]).await;
        let session = session();
        world.hear(&bridge, true).await;
        world.start(&session).await;
        for passed in 0..4 {
            // Its connections were cut.
            world.hear(&bridge, true).await;
            let from = world.head().await + 1;
            bridge.wire.stop_at(&format!("gm.{session}.llm_text"), passed, Stop::Behind);
            assert_eq!(world.ask(&format!("/api/propose?session_id={session}")).await.status, 202);
            assert!(bridge.wire.stopped(BOUND).await.is_some());
            let stored = |log: &[Logged]| log.len() == passed + 2;
            world.wait_log("it is stored, unacknowledged", &session, from, stored).await;
            bridge.service.process().freeze().await;
            sleep(window * 2).await;
            // What was to be acknowledged over the old connection is lost.
            bridge.wire.cut();
            bridge.service.process().thaw();
            bridge.wire.open(true);
            let log = world.wait_idle(&session, from).await;
            assert_eq!(story(&log).values().map(|told| told.events).collect::<Vec<_>>(), [6], "{log:#?}");
        }
        assert_eq!(master.calls(), 4);
    })
    .await;
}
