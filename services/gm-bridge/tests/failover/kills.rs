//! A bridge killed at each message that it sends.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use herald_protocol::SessionId;
use herald_testkit::within;
use http::Method;

use crate::{
    log::{commands, story},
    master::{Master, OF},
    wire::Stop,
    world::{BOUND, Bridge, Reply, World, lapse, now_ms, session},
};

/// A lost action is ended within this time, by the promise.
const PROMISE: u64 = 10_000;
/// Games that are played in turn: the next kills do not wait until the last ones are told.
const GAMES: usize = 10;
/// How long after an action has ended its bridge may still have something to say.
const SETTLED: Duration = Duration::from_millis(300);

/// A session on its Game Master.
struct Game {
    session: SessionId,
    master: Master,
    /// Its log is read from here: what came before was judged.
    from: u64,
    killed: Option<Killed>,
}

struct Killed {
    at_ms: u64,
    calls: u64,
    starts: u64,
    /// What was asked of the bridge that died, and where it was stopped.
    what: String,
}

/// What is asked while the trap is set.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    /// Runs before, on another bridge, or on the one that is killed.
    before: Option<&'static str>,
    own: bool,
    door: &'static str,
    method: Method2,
    command: &'static str,
}

/// `Method` is no constant.
#[derive(Clone, Copy)]
enum Method2 {
    Get,
    Post,
}

/// Bridges that watch and take requests only when told to, and games.
struct Field {
    world: World,
    watchers: Vec<Bridge>,
    games: VecDeque<Game>,
    masters: String,
    latencies: Vec<u64>,
    kills: usize,
}

impl Field {
    async fn new() -> Self {
        let world = World::new().await;
        let mut games = VecDeque::new();
        for _ in 0..GAMES {
            let master = Master::start(Duration::from_millis(5)).await;
            games.push_back(Game { session: session(), master, from: 1, killed: None });
        }
        let masters = games.iter().map(|game| game.master.url.clone()).collect::<Vec<_>>().join(",");
        let mut watchers = Vec::new();
        for _ in 0..3 {
            watchers.push(world.bridge(&masters, &SETTINGS).await);
        }
        world.hear(&watchers[0], true).await;
        for game in &games {
            world.start(&game.session).await;
        }
        world.hear(&watchers[0], false).await;
        Self { world, watchers, games, masters, latencies: Vec::new(), kills: 0 }
    }

    /// Kills a bridge at that message. False if it had no more to say: the command ran its course.
    async fn kill(&mut self, scenario: Scenario, passed: usize, stop: Stop) -> bool {
        let mut game = self.games.pop_front().unwrap();
        self.settle(&mut game).await;
        let mut victim = self.world.bridge(&self.masters, &SETTINGS).await;
        let path = |command: &str| format!("{command}session_id={}", game.session);
        if let Some(before) = scenario.before {
            game.master.open(false);
            let runner = if scenario.own { &victim } else { &self.watchers[0] };
            self.world.hear(runner, true).await;
            let reply = self.world.ask(&path(before)).await;
            assert_eq!(reply.status, 202, "{reply:?}");
            self.world.hear(runner, false).await;
            let first = |log: &[crate::log::Logged]| log.iter().any(|event| event.topic == "llm_text");
            self.world.wait_log("its first event", &game.session, game.from, first).await;
        }
        let (calls, starts) = (game.master.calls(), game.master.starts());
        self.world.hear(&victim, true).await;
        victim.wire.stop_at(game.session.as_str(), passed, stop);
        let method = match scenario.method {
            Method2::Get => Method::GET,
            Method2::Post => Method::POST,
        };
        let path = path(scenario.command);
        let (world, session, from) = (&self.world, &game.session, game.from);
        let stopped = {
            let asked = world.try_ask(scenario.door, method, &path);
            let through = async {
                let reply: Result<Reply, String> = asked.await;
                if scenario.before.is_some() {
                    game.master.open(true);
                }
                world.wait_idle(session, from).await;
                tokio::time::sleep(SETTLED).await;
                reply
            };
            tokio::select! {
                stopped = victim.wire.stopped(BOUND) => Some(stopped.expect("stopped or through")),
                reply = through => { assert!(reply.unwrap().status < 300); None }
            }
        };
        game.master.open(true);
        let at_ms = now_ms();
        victim.service.kill().await;
        let done = stopped.is_none();
        if let Some(at) = stopped {
            self.kills += 1;
            let what = format!("{}: {stop:?} {passed} more: {at}", scenario.name);
            game.killed = Some(Killed { at_ms, calls, starts, what });
        }
        self.games.push_back(game);
        !done
    }

    /// Judges a game whose bridge was killed, and sees to it that it is played.
    async fn settle(&mut self, game: &mut Game) {
        let Some(killed) = game.killed.take() else { return };
        let started = killed.what.starts_with("start");
        let told = self.judge(game, killed).await;
        if started {
            // What the start has left in the Game Master nobody knows. It is started again, and at once where the session
            // was told: nobody waits for the answer of a start that is known to be lost.
            self.world.hear(&self.watchers[1], true).await;
            let begun = Instant::now();
            self.world.start(&game.session).await;
            assert!(!told || begun.elapsed() < lapse() - Duration::from_secs(1), "{:?}", begun.elapsed());
            self.world.hear(&self.watchers[1], false).await;
            let log = self.world.wait_idle(&game.session, game.from).await;
            game.from = log.last().map_or(game.from, |last| last.sequence + 1);
        }
    }

    /// Waits until nothing is open in a game whose bridge was killed, and judges its log. Whether it was told `bridge lost`.
    async fn judge(&mut self, game: &mut Game, killed: Killed) -> bool {
        let log = self.world.wait_idle(&game.session, game.from).await;
        let told = story(&log);
        let context = || format!("{}: {log:#?}", killed.what);
        let asked = game.master.calls() - killed.calls;
        assert!(asked <= commands(&told), "{asked} calls: {}", context());
        assert!(game.master.starts() - killed.starts <= 1, "{}", context());
        for action in told.values() {
            let lost = action.ends.iter().filter(|end| *end == "bridge lost").count();
            assert!(lost <= 1, "told twice: {}", context());
            assert!(action.events <= OF && (action.ends != [""] || action.events % OF == 0), "{}", context());
        }
        let last = log.last().filter(|last| last.at_ms > killed.at_ms);
        if let Some(last) = last {
            let took = last.at_ms - killed.at_ms;
            assert!(took < PROMISE, "told after {took} ms: {}", context());
            if log.iter().any(|event| event.is_lost() && event.at_ms > killed.at_ms) {
                self.latencies.push(took);
            }
        }
        game.from = log.last().map_or(game.from, |last| last.sequence + 1);
        log.iter().any(|event| event.is_lost())
    }

    /// Kills at each message in turn, until there is none left to stop at.
    async fn kill_everywhere(&mut self, scenario: Scenario, stop: Stop) {
        let mut passed = 0;
        while self.kill(scenario, passed, stop).await {
            passed += 1;
            assert!(passed < 60, "{}: it never comes to its end", scenario.name);
        }
        assert!(passed > 3, "{}: hardly anything was said", scenario.name);
    }

    async fn end(mut self, what: &str) {
        for _ in 0..GAMES {
            let mut game = self.games.pop_front().unwrap();
            self.settle(&mut game).await;
            self.games.push_back(game);
        }
        // Each session can act again.
        self.world.hear(&self.watchers[1], true).await;
        for game in &self.games {
            let path = format!("/api/propose?session_id={}", game.session);
            let reply = self.world.ask(&path).await;
            assert_eq!(reply.status, 202, "{reply:?}");
            let log = self.world.wait_idle(&game.session, game.from).await;
            assert_eq!(log.last().unwrap().topic, "result", "{log:#?}");
        }
        self.latencies.sort_unstable();
        let at = |part: f64| self.latencies[((self.latencies.len() - 1) as f64 * part) as usize];
        println!(
            "{what}: {} kills, {} told `bridge lost`, after p50 {} ms, max {} ms (lapse {:?})",
            self.kills,
            self.latencies.len(),
            at(0.5),
            at(1.0),
            lapse(),
        );
    }
}

/// Of the bridges here. Everything that takes time has its own default.
const SETTINGS: [(&str, &str); 1] = [("gm.repeated_start", "0s")];

const PROPOSE: Scenario = Scenario {
    name: "propose",
    before: None,
    own: false,
    door: "event",
    method: Method2::Get,
    command: "/api/propose?",
};
const SUPERSEDE: Scenario = Scenario {
    name: "choose over propose",
    before: Some("/api/propose?"),
    command: "/api/choose?kind=fake&",
    ..PROPOSE
};
const CANCEL: Scenario = Scenario {
    name: "cancel",
    before: Some("/api/choose?kind=real&"),
    method: Method2::Post,
    command: "/api/cancel?",
    ..PROPOSE
};
const START: Scenario =
    Scenario { name: "start over propose", before: Some("/api/propose?"), command: "/api/start?", ..PROPOSE };
const QUEUE: Scenario =
    Scenario { name: "propose behind choose", before: Some("/api/choose?kind=real&"), door: "app", ..PROPOSE };
const QUEUE_OWN: Scenario = Scenario { name: "propose behind its own choose", own: true, ..QUEUE };

async fn everywhere(scenarios: &[Scenario], what: &str) {
    within(Duration::from_secs(220), async {
        let mut field = Field::new().await;
        for scenario in scenarios {
            for stop in [Stop::Before, Stop::Behind] {
                field.kill_everywhere(*scenario, stop).await;
            }
        }
        field.end(what).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_killed_at_any_step_of_a_command_costs_one_gm_error() {
    everywhere(&[PROPOSE, SUPERSEDE], "propose, choose").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_killed_at_any_step_of_a_cancel_or_a_wait_costs_one_gm_error() {
    everywhere(&[CANCEL, QUEUE, QUEUE_OWN], "cancel, queue").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_killed_at_any_step_of_a_start_costs_one_gm_error() {
    everywhere(&[START], "start").await;
}
