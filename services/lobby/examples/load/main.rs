//! What the lobby carries, and how soon: `cargo run --release -p lobby --example load [--seconds 10] [ROW...]`, behind
//! `cargo build --release -p lobby -p ws-edge --bins`.
//!
//! Rows: `labyrinths`, `joins`, `ready`, `hot`, `idle`, `lists`. Each has a nats-server on file storage, lobbies and doors of its own,
//! as they are shipped, all on this machine. What is measured is between the byte sent and the byte read by the clients here. Beside
//! it stands what each process took of the processor meanwhile, this one too: on few cores it takes from the others.

#![allow(clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails ends")]

mod client;
mod figures;
mod house;

use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::future::join_all;
use herald_testkit::process::raise_descriptors;
use tokio::time::{sleep, sleep_until};

use crate::{
    client::{Line, Viewer},
    figures::Figures,
    house::House,
};

/// Measures the lobby.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Options {
    /// Seconds of each row that has no end of its own.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Which rows; all of them without.
    rows: Vec<String>,
}

/// Connections of those who ask as fast as they are answered.
const ASKING: usize = 64;
const JOINS_PER_SECOND: u64 = 200;
const SESSIONS: usize = 100;
const VIEWERS: usize = 200;
/// A change each so often, so that each is seen by everybody before the next.
const CHANGE_EVERY: Duration = Duration::from_millis(100);
const PLAYERS: usize = 200;
const IDLE: usize = 5_000;
const LISTED: usize = 1_000;
/// What a browser opens to one place.
const OF_A_PAGE: usize = 6;

#[tokio::main]
async fn main() {
    let options = Options::parse();
    raise_descriptors(16_384);
    let time = Duration::from_secs(options.seconds);
    let wanted = |row: &str| options.rows.is_empty() || options.rows.iter().any(|one| one == row);
    println!("load of the machine before: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    if wanted("labyrinths") {
        labyrinths(time).await;
    }
    if wanted("joins") {
        joins(time).await;
    }
    if wanted("ready") {
        ready(time).await;
    }
    if wanted("hot") {
        hot(time).await;
    }
    if wanted("idle") {
        idle().await;
    }
    if wanted("lists") {
        lists().await;
    }
}

/// Labyrinths of size 10 as fast as they come.
async fn labyrinths(time: Duration) {
    let house = House::start(1, 1).await;
    let asking = (0..ASKING).map(async |_| {
        let mut line = Line::open(house.door(0)).await;
        let until = Instant::now() + time;
        let mut took = Vec::new();
        while Instant::now() < until {
            took.push(line.timed("POST", "/generate-labyrinth", r#"{"size":10}"#).await);
        }
        took
    });
    let figures = Figures::of(join_all(asking).await.concat());
    println!("labyrinths of size 10 to {ASKING} connections: {}/s, {figures}", figures.count() / time.as_secs());
    house.tell();
}

/// Joins at a steady pace, each by a client of its own.
async fn joins(time: Duration) {
    let mut house = House::start(2, 1).await;
    let sessions = house.sessions(SESSIONS).await;
    let mut lines = join_all((0..ASKING).map(|_| Line::open(house.door(0)))).await;
    let (begun, count) = (Instant::now(), time.as_secs() * JOINS_PER_SECOND);
    // Each connection takes every so many-th join, and is measured from when that was due.
    let joining = lines.iter_mut().zip(0_u64..).map(async |(line, first)| {
        let mut took = Vec::new();
        for number in (first..count).step_by(ASKING) {
            let due = begun + Duration::from_secs(number) / u32::try_from(JOINS_PER_SECOND).unwrap();
            sleep_until(due.into()).await;
            let path = format!("/api/game_sessions/{}/join", sessions[usize::try_from(number).unwrap() % SESSIONS]);
            line.ask("POST", &path, &format!(r#"{{"client_id":"client-{number}"}}"#)).await;
            took.push(due.elapsed());
        }
        took
    });
    let figures = Figures::of(join_all(joining).await.concat());
    println!("joins to {SESSIONS} sessions, {JOINS_PER_SECOND}/s: {figures}");
    house.tell();
}

/// From somebody's saying so until each viewer at two doors sees it.
async fn ready(time: Duration) {
    let mut house = House::start(2, 2).await;
    let session = house.sessions(1).await.remove(0);
    let mut line = Line::open(house.door(0)).await;
    line.ask("POST", &format!("/api/game_sessions/{session}/join"), r#"{"client_id":"one"}"#).await;
    let mut viewers = join_all((0..VIEWERS).map(|number| Viewer::open(house.door(number % 2), &session))).await;
    for viewer in &mut viewers {
        viewer.next().await;
    }
    let mut took = Vec::new();
    let mut answered = Vec::new();
    for change in 0..time.as_millis() / CHANGE_EVERY.as_millis() {
        let begun = Instant::now();
        let body = format!(r#"{{"client_id":"one","ready":{}}}"#, change % 2 == 0);
        let path = format!("/api/game_sessions/{session}/toggle_readiness");
        let said = async {
            line.ask("POST", &path, &body).await;
            begun.elapsed()
        };
        let (said, seen) = tokio::join!(said, join_all(viewers.iter_mut().map(Viewer::next)));
        answered.push(said);
        took.extend(seen.into_iter().map(|at| at - begun));
        sleep_until((begun + CHANGE_EVERY).into()).await;
    }
    println!("readiness to {VIEWERS} viewers at 2 doors: {}", Figures::of(took));
    println!("  its answer: {}", Figures::of(answered));
    house.tell();
}

/// All players of one session at once, each as fast as it is answered.
async fn hot(time: Duration) {
    let mut house = House::start(2, 1).await;
    let session = house.sessions(1).await.remove(0);
    let mut lines = join_all((0..PLAYERS).map(|_| Line::open(house.door(0)))).await;
    for (number, line) in lines.iter_mut().enumerate() {
        let body = format!(r#"{{"client_id":"client-{number}"}}"#);
        line.ask("POST", &format!("/api/game_sessions/{session}/join"), &body).await;
    }
    house.begin();
    let path = format!("/api/game_sessions/{session}/toggle_readiness");
    let until = Instant::now() + time;
    let playing = lines.iter_mut().enumerate().map(async |(number, line)| {
        let mut took = Vec::new();
        while Instant::now() < until {
            let body = format!(r#"{{"client_id":"client-{number}","ready":{}}}"#, took.len() % 2 == 0);
            took.push(line.timed("POST", &path, &body).await);
        }
        took
    });
    let figures = Figures::of(join_all(playing).await.concat());
    println!("readiness of {PLAYERS} players of one session: {}/s, {figures}", figures.count() / time.as_secs());
    house.tell();
}

/// Many who watch one session where little happens.
async fn idle() {
    let mut house = House::start(1, 1).await;
    let session = house.sessions(1).await.remove(0);
    let mut line = Line::open(house.door(0)).await;
    line.ask("POST", &format!("/api/game_sessions/{session}/join"), r#"{"client_id":"one"}"#).await;
    let mut viewers = Vec::new();
    while viewers.len() < IDLE {
        viewers.extend(join_all((0..50).map(|_| Viewer::open(house.door(0), &session))).await);
    }
    for viewer in &mut viewers {
        viewer.next().await;
    }
    // What opening them cost is over.
    sleep(Duration::from_secs(2)).await;
    house.begin();
    let mut slowest = Vec::new();
    for change in 0..10 {
        let begun = Instant::now();
        let body = format!(r#"{{"client_id":"one","ready":{}}}"#, change % 2 == 0);
        let path = format!("/api/game_sessions/{session}/toggle_readiness");
        let (_, seen) = tokio::join!(line.ask("POST", &path, &body), join_all(viewers.iter_mut().map(Viewer::next)));
        slowest.push(seen.into_iter().max().unwrap() - begun);
        sleep(Duration::from_millis(500)).await;
    }
    println!("a change to {IDLE} viewers, until the last has it: {}", Figures::of(slowest));
    println!("  the door holds {} MiB", house.door_mib());
    house.tell();
}

/// The list, and all that the original's page asks when it is opened.
async fn lists() {
    let mut house = House::start(1, 1).await;
    let sessions = house.sessions(LISTED).await;
    let mut lines = join_all((0..OF_A_PAGE).map(|_| Line::open(house.door(0)))).await;
    house.begin();
    let mut took = Vec::new();
    for _ in 0..200 {
        took.push(lines[0].timed("GET", "/api/game_sessions", "").await);
    }
    println!("the list of {LISTED} sessions: {}", Figures::of(took));
    let begun = Instant::now();
    let asking = lines.iter_mut().enumerate().map(async |(first, line)| {
        for session in sessions.iter().skip(first).step_by(OF_A_PAGE) {
            line.ask("GET", &format!("/api/game_sessions/{session}/clients"), "").await;
        }
    });
    join_all(asking).await;
    println!(
        "  the clients of each, asked for one by one over {OF_A_PAGE} connections: {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    house.tell();
}
