//! Bridges killed and halted at random moments, by seed, while players press every button there is.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use herald_protocol::SessionId;
use herald_testkit::{Service, within};
use http::Method;
use tokio::time::sleep;

use crate::{
    log::{commands, story},
    master::Master,
    world::{BOUND, World, now_ms, session},
};

const PLAYERS: usize = 6;
const KILLS: usize = 50;
/// How long a player waits for an answer before he presses again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Dice of its own, so that a seed always rolls the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Presses buttons until it is over; how often he was answered.
async fn play(world: &World, session: &SessionId, mut dice: Dice, over: &AtomicBool) -> u64 {
    let mut answered = 0;
    while !over.load(Ordering::SeqCst) {
        let (door, method, command) = match dice.roll(12) {
            0..4 => ("event", Method::GET, "propose?"),
            4..7 => ("event", Method::GET, "choose?kind=fake&"),
            7..9 => ("app", Method::GET, "propose?"),
            9..10 => ("event", Method::POST, "cancel?"),
            10..11 => ("event", Method::GET, "start?"),
            _ => ("app", Method::GET, "choose?kind=real&"),
        };
        let path = format!("/api/{command}session_id={session}");
        if world.ask_within(PATIENCE, door, method, &path).await.is_ok() {
            answered += 1;
        }
        sleep(Duration::from_millis(dice.roll(250))).await;
    }
    answered
}

/// Kills and halts.
async fn strike(bridges: &mut [Service], mut dice: Dice) -> (usize, usize, u64) {
    let (mut kills, mut halts, mut last) = (0, 0, 0);
    let mut halted: Vec<Option<Instant>> = bridges.iter().map(|_| None).collect();
    while kills < KILLS {
        sleep(Duration::from_millis(100 + dice.roll(700))).await;
        for (bridge, until) in bridges.iter_mut().zip(&mut halted) {
            if until.is_some_and(|until| Instant::now() >= until) {
                bridge.process().thaw();
                *until = None;
            }
        }
        let index = dice.roll(bridges.len() as u64) as usize;
        if halted[index].is_none() && dice.roll(4) == 0 && halted.iter().flatten().count() == 0 {
            bridges[index].process().freeze().await;
            halted[index] = Some(Instant::now() + Duration::from_millis(500 + dice.roll(7_500)));
            halts += 1;
        } else {
            last = now_ms();
            halted[index] = None;
            bridges[index].kill().await;
            bridges[index].relaunch();
            kills += 1;
        }
    }
    for (bridge, until) in bridges.iter_mut().zip(halted) {
        if until.is_some() {
            bridge.process().thaw();
        }
    }
    (kills, halts, last)
}

async fn run(seed: u64) {
    let world = World::new().await;
    let mut masters = Vec::new();
    for _ in 0..PLAYERS {
        masters.push(Master::start(Duration::from_millis(40)).await);
    }
    let urls = masters.iter().map(|master| master.url.clone()).collect::<Vec<_>>().join(",");
    let mut bridges = Vec::new();
    for _ in 0..3 {
        bridges.push(world.plain(&urls).set("gm.repeated_start", "0s").start().await);
    }
    let sessions: Vec<SessionId> = masters.iter().map(|_| session()).collect();
    for session in &sessions {
        world.start(session).await;
    }
    let over = AtomicBool::new(false);
    let players = sessions.iter().enumerate();
    let players = join_all(players.map(|(n, session)| play(&world, session, Dice(seed * 100 + n as u64), &over)));
    let striking = async {
        let struck = strike(&mut bridges, Dice(seed)).await;
        over.store(true, Ordering::SeqCst);
        struck
    };
    let (answered, (kills, halts, last)) = tokio::join!(players, striking);
    for bridge in &mut bridges {
        bridge.wait_ready(BOUND).await;
    }
    let (mut lost, mut asked, mut slowest) = (0, 0, 0);
    for session in &sessions {
        let log = world.wait_idle(session, 1).await;
        let told = story(&log);
        let of_actions = told.values().map(|told| told.ends.iter().filter(|end| *end == "bridge lost").count());
        lost += of_actions.inspect(|lost| assert!(*lost <= 1, "seed {seed}: {log:#?}")).sum::<usize>();
        asked += commands(&told);
        slowest = slowest.max(log.last().map_or(0, |last| last.at_ms).saturating_sub(last));
    }
    let calls: u64 = masters.iter().map(Master::calls).sum();
    assert!(calls <= asked, "seed {seed}: {calls} calls for {asked} commands");
    // Whoever plays somewhere can act.
    for session in &sessions {
        world.start(session).await;
        let from = world.head().await + 1;
        assert_eq!(world.ask(&format!("/api/propose?session_id={session}")).await.status, 202);
        let log = world.wait_idle(session, from).await;
        assert_eq!(log.last().unwrap().topic, "result", "seed {seed}: {log:#?}");
    }
    println!(
        "seed {seed}: {kills} kills, {halts} halts, {} answers, {asked} commands, {calls} calls, {lost} lost, all over \
         {slowest} ms behind the last kill",
        answered.iter().sum::<u64>(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_bridges_die_or_halt_every_action_ends_once() {
    within(Duration::from_secs(200), run(1)).await;
}
