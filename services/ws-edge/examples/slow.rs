//! `./scripts/bench slow`: what clients that never read cost those who do.
//!
//! By turns, without and with them: readers of one session, events at a steady pace, and the time from the publishing of each
//! to its arrival at each reader. Who never reads has its buffers full before the first event that counts.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints its table")]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herald_testkit::{Edge, Nats, ws};

use support::Engine;

#[path = "../tests/edge/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole edge")]
mod support;

const TURNS: usize = 3;
const READERS: usize = 50;
const SLEEPERS: usize = 100;
const EVENTS: usize = 1000;
/// Events per second.
const PACE: u64 = 200;
const BOUND: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    println!("{READERS} readers of one session, {EVENTS} events of 1 kB at {PACE}/s, {TURNS} turns of each; ms");
    println!("{:<28} {:>8} {:>8} {:>8}", "never reading", "p50", "p99", "max");
    let mut all = [Vec::new(), Vec::new()];
    for turn in 0..2 * TURNS {
        let sleepers = [0, SLEEPERS][turn % 2];
        let taken = measure(&nats, &engine, &format!("s{turn}"), sleepers).await;
        println!("{}", row(&format!("{sleepers}, turn {}", turn / 2 + 1), &taken));
        all[turn % 2].extend(taken);
    }
    println!("{}\n{}", row("0, all turns", &all[0]), row(&format!("{SLEEPERS}, all turns"), &all[1]));
}

/// The times of all events to all readers, in an edge of its own.
async fn measure(nats: &Nats, engine: &Engine, session: &str, sleepers: usize) -> Vec<Duration> {
    let edge = Edge::new(nats).set("socket.write_timeout", "100s").set("socket.max_lag", "1GiB").start().await;
    let (url, subject) = (edge.ws(&format!("/ws/{session}?after=0")), format!("gm.{session}.phase"));
    let narrow = ws::Options { protocols: ws::V1, receive_buffer: Some(4096), ..ws::Options::default() };
    let asleep = join_all((0..sleepers).map(|_| async { ws::Client::open(&url, narrow.clone()).await.unwrap() })).await;
    join_all(asleep.iter().map(|client| client.stall(true))).await;
    let readers = join_all((0..READERS).map(|_| ws::Client::connect(&url, ws::V1))).await;
    for _ in 0..40 {
        engine.publish(&subject, format!("\"{}\"", "x".repeat(50_000))).await;
    }
    join_all(readers.iter().map(|client| client.wait_events(40, BOUND))).await;
    let mut published = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / PACE));
    for number in 0..EVENTS {
        ticks.tick().await;
        let begun = Instant::now();
        let seq = engine.publish(&subject, format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(1000))).await;
        published.push((seq, begun));
    }
    let mut taken = Vec::new();
    for client in &readers {
        let events = client.wait_events(40 + EVENTS, BOUND).await;
        client.check_order();
        for (frame, (seq, begun)) in events[40..].iter().zip(&published) {
            assert_eq!(frame.seq(), Some(*seq));
            taken.push(frame.at.saturating_duration_since(*begun));
        }
    }
    taken
}

fn row(name: &str, taken: &[Duration]) -> String {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    format!("{name:<28} {:>8.2} {:>8.2} {:>8.2}", at(0.5), at(0.99), at(1.0))
}
