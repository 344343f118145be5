//! Sessions that are removed while something dies or halts: nothing comes back, and a repetition goes on.

use std::time::Duration;

use herald_protocol::SessionId;
use herald_runtime::jetstream::next_by_subject_leader;
use herald_testkit::{eventually, within};
use http::Method;
use tokio::time::sleep;

use crate::{
    master::Master,
    wire::Stop,
    world::{BOUND, Bridge, Reply, World, session},
};

const LIMIT: Duration = Duration::from_secs(170);
/// How long somebody waits who may get no answer.
const SHORT: Duration = Duration::from_secs(2);

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

    async fn delete(&self, within: Duration) -> Result<Reply, String> {
        self.world.ask_within(within, "event", Method::DELETE, &format!("/sessions/{}", self.session)).await
    }

    /// Removes the session, also where somebody has to be taken for lost first.
    async fn removed(&self) {
        let delete = async || match self.delete(BOUND).await {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(other),
        };
        eventually("it is removed", 2 * BOUND, delete).await;
    }

    /// Halts the first bridge, whose wire is shut. The second one takes requests in its place.
    async fn halt(&mut self) {
        self.world.hear(&self.first, false).await;
        self.first.service.process().freeze().await;
        self.world.hear(&self.second, true).await;
    }

    /// Lets it go on, what was kept back first, until it has nothing more to do.
    async fn go_on(&mut self) {
        self.first.wire.open(true);
        self.first.service.process().thaw();
        self.first.service.wait_ready(BOUND).await;
        eventually("it runs nothing", BOUND, async || {
            let running = self.first.service.metric("herald_actions_running_count", &[]).await;
            if running == 0.0 { Ok(()) } else { Err(running) }
        })
        .await;
        // Behind all that it may have had to say.
        sleep(Duration::from_secs(1)).await;
    }

    /// The first bridge takes requests again.
    async fn hand_back(&self) {
        self.world.hear(&self.second, false).await;
        self.world.hear(&self.first, true).await;
    }

    /// What the log and the records hold.
    async fn kept(&self) -> (Vec<String>, Vec<String>) {
        let s = self.session.as_str();
        let mut topics = Vec::new();
        let mut from = 1;
        let (nats, all) = (&self.world.nats, format!("*.{s}.>"));
        while let Some(message) = next_by_subject_leader(nats, "EVENTS", from, &all).await.unwrap() {
            from = message.sequence + 1;
            topics.push(message.subject.replacen(&format!(".{s}."), ".", 1));
        }
        let mut records = Vec::new();
        for (bucket, key) in [("SESSIONS", s.to_owned()), ("SESSIONS", format!("{s}.start")), ("ACTIONS", s.to_owned())]
        {
            if self.world.record(bucket, &key).await.is_some() {
                records.push(format!("{bucket} {key}"));
            }
        }
        (topics, records)
    }

    async fn assert_gone(&self, when: &str) {
        assert_eq!(self.kept().await, (vec!["gm._action".to_owned(), "gm._over".to_owned()], vec![]), "{when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_halted_over_a_removal_brings_nothing_back() {
    within(LIMIT, async {
        let mut pair = Pair::new().await;
        let s = pair.session.to_string();
        for (needle, stop) in [
            (format!("gm.{s}.llm_text"), Stop::Before),
            (format!("gm.{s}.llm_text"), Stop::Behind),
            (format!("HPUB $KV.ACTIONS.{s}"), Stop::Before),
            (format!("\"session\":\"{s}\""), Stop::Before),
        ] {
            pair.master.open(false);
            pair.first.wire.stop_at(&needle, 0, stop);
            let path = format!("/api/propose?session_id={s}");
            let asked = pair.world.ask_within(SHORT, "event", Method::GET, &path);
            let (_, stopped) = tokio::join!(asked, pair.first.wire.stopped(BOUND));
            assert!(stopped.is_some(), "{needle}");
            pair.halt().await;
            pair.removed().await;
            pair.assert_gone(&format!("{needle} {stop:?}, removed")).await;
            pair.master.open(true);
            pair.go_on().await;
            pair.assert_gone(&format!("{needle} {stop:?}, gone on")).await;
            pair.hand_back().await;
            pair.world.start(&pair.session).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_sessions_first_hour_that_comes_after_its_removal_is_refused() {
    within(LIMIT, async {
        let mut pair = Pair::new().await;
        let late = session();
        // So that its Game Master is free.
        let path = format!("/sessions/{}/end", pair.session);
        assert_eq!(pair.world.try_ask("event", Method::POST, &path).await.unwrap().status, 200);
        // It has seen a session without any action.
        pair.first.wire.stop_at(&format!("HPUB gm.{late}._action"), 0, Stop::Before);
        let path = format!("/api/start?session_id={late}");
        let asked = pair.world.ask_within(SHORT, "event", Method::GET, &path);
        let (_, stopped) = tokio::join!(asked, pair.first.wire.stopped(BOUND));
        assert!(stopped.is_some());
        pair.halt().await;
        pair.session = late;
        // Its start has lapsed by then.
        let start = async || match pair.world.ask(&path).await {
            reply if reply.status == 200 => Ok(()),
            reply => Err(reply),
        };
        eventually("it starts elsewhere", BOUND, start).await;
        pair.removed().await;
        pair.assert_gone("removed").await;
        pair.go_on().await;
        pair.assert_gone("gone on").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_killed_in_the_middle_of_a_removal_leaves_one_that_goes_on() {
    within(LIMIT, async {
        for (place, stop) in [
            ("gm._purged", Stop::Before),
            ("gm._purged", Stop::Behind),
            ("HPUB $KV.SESSIONS.", Stop::Behind),
            ("STREAM.PURGE.EVENTS", Stop::Before),
            ("STREAM.PURGE.EVENTS", Stop::Behind),
            ("._over", Stop::Before),
            ("._over", Stop::Behind),
            ("KV-Operation", Stop::Behind),
        ] {
            let mut pair = Pair::new().await;
            assert_eq!(pair.propose().await, 202);
            pair.world.wait_idle(&pair.session, 1).await;
            pair.first.wire.stop_at(place, 0, stop);
            let (_, stopped) = tokio::join!(pair.delete(SHORT), pair.first.wire.stopped(BOUND));
            assert!(stopped.is_some(), "{place}");
            pair.first.service.kill().await;
            pair.first.wire.cut();
            pair.world.hear(&pair.second, true).await;
            pair.removed().await;
            pair.assert_gone(&format!("{place} {stop:?}")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_comes_late_touches_nothing_of_a_newer_game() {
    within(LIMIT, async {
        let mut pair = Pair::new().await;
        for (place, stop) in
            [("gm._purged", Stop::Behind), ("STREAM.PURGE.EVENTS", Stop::Before), ("._over", Stop::Before)]
        {
            pair.first.wire.stop_at(place, 0, stop);
            let (_, stopped) = tokio::join!(pair.delete(SHORT), pair.first.wire.stopped(BOUND));
            assert!(stopped.is_some(), "{place}");
            pair.halt().await;
            pair.removed().await;
            pair.world.start(&pair.session).await;
            assert_eq!(pair.propose().await, 202);
            let game = pair.world.wait_idle(&pair.session, 1).await;
            let before = pair.kept().await;
            pair.go_on().await;
            assert_eq!(pair.kept().await, before, "{place} {stop:?}");
            assert_eq!(pair.world.log_from(&pair.session, 1).await.len(), game.len());
            pair.hand_back().await;
        }
    })
    .await;
}
