//! `./scripts/bench flood`: what a flood costs those who watch.
//!
//! For each kind of flood by turns: none, the same against another edge (what it costs to share a machine with it and with
//! whoever makes it), and against the edge that is watched. Readers of one session, events at a steady pace, and the time from
//! the publishing of each to its arrival at each reader. The limits are those of an edge on a public address.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints its table")]

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use herald_testkit::{Edge, Nats, Service, http::Raw, ws};
use tokio::{io::AsyncWriteExt as _, task::JoinSet, time::sleep};

use support::Engine;

#[path = "../tests/edge/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole edge")]
mod support;

const TURNS: usize = 3;
const READERS: usize = 50;
const EVENTS: usize = 1000;
/// Events per second.
const PACE: u64 = 200;
const BOUND: Duration = Duration::from_secs(60);
/// Those who flood, each from an address of its own.
const OFFENDERS: u8 = 20;
/// Connections that never say what they want, held at a time by each of them.
const HALF_OPEN: usize = 250;
/// How long one of them rests between two of its doings.
const REST: Duration = Duration::from_millis(1);
const UPGRADE: &str = "GET /ws/flood HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const COMMAND: &str = "POST /api/propose?session_id=flood HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";

#[derive(Clone, Copy)]
enum Flood {
    /// Sockets that send small frames as fast as they are taken.
    Frames,
    /// Sockets that are opened and left again.
    Handshakes,
    /// Requests that never end: so many are held, and there are always new ones.
    HalfOpen,
    /// Commands.
    Commands,
}

/// The times of all events to all readers, and how often the offenders had done what they do.
#[derive(Default)]
struct Measured {
    taken: Vec<Duration>,
    done: u64,
}

#[tokio::main]
async fn main() {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    println!("{READERS} readers of one session, {EVENTS} events of 1 kB at {PACE}/s, {TURNS} turns of each; ms");
    println!("{:<20} {:<14} {:>8} {:>8} {:>8} {:>12}", "flood", "against", "p50", "p99", "max", "done/s");
    let floods = [
        ("frames", Flood::Frames),
        ("handshakes", Flood::Handshakes),
        ("half-open requests", Flood::HalfOpen),
        ("commands", Flood::Commands),
    ];
    let against = ["nobody", "another edge", "this edge"];
    for (name, flood) in floods {
        let mut all = [const { Measured { taken: Vec::new(), done: 0 } }; 3];
        for turn in 0..TURNS {
            for (at, whom) in against.iter().enumerate() {
                let session = format!("{}-{turn}-{at}", name.replace(' ', "-"));
                measure(&nats, &engine, &session, flood, whom, &mut all[at]).await;
            }
        }
        for (whom, measured) in against.iter().zip(all) {
            println!("{}", row(name, whom, measured));
        }
    }
}

/// An edge with the limits of one that is not on loopback.
async fn public(nats: &Nats) -> Service {
    let edge = Edge::new(nats).set("limits.connections_per_address", 256).set("limits.handshakes_per_address", 100);
    edge.set("limits.commands_per_address", 120).set("limits.commands_per_session", 30).start().await
}

async fn measure(nats: &Nats, engine: &Engine, session: &str, flood: Flood, against: &str, into: &mut Measured) {
    let (edge, other) = tokio::join!(public(nats), public(nats));
    let (url, subject) = (edge.ws(&format!("/ws/{session}?after=0")), format!("gm.{session}.phase"));
    let readers = join_all((0..READERS).map(|_| ws::Client::connect(&url, ws::V1))).await;
    let done = Arc::new(AtomicU64::new(0));
    let mut offenders = JoinSet::new();
    if against != "nobody" {
        let address = if against == "this edge" { edge.address() } else { other.address() };
        for source in 1..=OFFENDERS {
            let source = IpAddr::V4(Ipv4Addr::new(127, 0, 7, source));
            offenders.spawn(offend(flood, source, address, Arc::clone(&done)));
        }
        // What it does at first (connections are opened, bursts are let through) is part of it, but not all of it.
        sleep(Duration::from_secs(1)).await;
    }
    let before = done.load(Ordering::Relaxed);
    let mut published = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / PACE));
    for number in 0..EVENTS {
        ticks.tick().await;
        let begun = Instant::now();
        let seq = engine.publish(&subject, format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(1000))).await;
        published.push((seq, begun));
    }
    into.done += done.load(Ordering::Relaxed) - before;
    for client in &readers {
        let events = client.wait_events(EVENTS, BOUND).await;
        client.check_order();
        for (frame, (seq, begun)) in events.iter().zip(&published) {
            assert_eq!(frame.seq(), Some(*seq));
            into.taken.push(frame.at.saturating_duration_since(*begun));
        }
    }
    offenders.shutdown().await;
}

/// Floods an edge from one address for as long as it may.
async fn offend(flood: Flood, source: IpAddr, address: SocketAddr, done: Arc<AtomicU64>) {
    let mut held = VecDeque::new();
    loop {
        let mut raw = Raw::connect_from(source, address).await;
        match flood {
            Flood::Frames => {
                if raw.write(UPGRADE).await {
                    let frames = [0x81, 0x81, 0, 0, 0, 0, b'x'].repeat(50);
                    let mut socket = raw.into_inner();
                    while socket.write_all(&frames).await.is_ok() {
                        done.fetch_add(50, Ordering::Relaxed);
                    }
                }
            }
            Flood::Handshakes => {
                raw.write(UPGRADE).await;
                raw.read_until(b"\r\n\r\n", BOUND).await;
            }
            Flood::HalfOpen => {
                raw.write("GET /ws/flood HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
                held.push_back(raw);
                if held.len() > HALF_OPEN {
                    held.pop_front();
                }
            }
            Flood::Commands => {
                raw.write(COMMAND).await;
                raw.read_until(b"\r\n\r\n", BOUND).await;
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
        sleep(REST).await;
    }
}

fn row(flood: &str, against: &str, measured: Measured) -> String {
    let Measured { mut taken, done } = measured;
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let seconds = (TURNS * EVENTS) as f64 / PACE as f64;
    let rate = done as f64 / seconds;
    format!("{flood:<20} {against:<14} {:>8.2} {:>8.2} {:>8.2} {rate:>12.0}", at(0.5), at(0.99), at(1.0))
}
