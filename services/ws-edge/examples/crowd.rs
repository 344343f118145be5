//! `./scripts/bench crowd`: what it costs two real edges to know who is there, by how many people are connected.
//!
//! In sessions of 10, 1,000 and 10,000 people, half of them at each edge, others come and go by the first edge, each a user of
//! their own with a token. Measured is the processor time of both edges by change, that is once coming or going, less what they
//! take while nobody comes: at the first it holds a whole handshake and its end, at the other one only what it hears. Everybody
//! stays connected all the time, so that all sizes are measured beside the same crowd; they take turns, round by round. Where
//! people are told (`herald.v1`), each edge sends a session at most `presence.deliveries` frames a second about it, however many
//! change.
//!
//! `--rounds 5`, `--seconds 4`: how often, and for how long, each size is measured; `--rate 200`: how many come a second;
//! `--sizes 10,1000,10000`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints its table")]

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use herald_testkit::{Edge, Nats, Service, eventually, http, process::raise_descriptors};
use hyper::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use forge::{SECRET, claims, hs256, now, with};
use support::Engine;

#[path = "../src/identity/forge.rs"]
mod forge;
#[path = "../tests/edge/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole edge")]
mod support;

/// How many connect at a time.
const AT_ONCE: usize = 64;
/// How long somebody stays who comes and goes.
const STAYS: Duration = Duration::from_millis(200);
/// Until everybody is known, after the last one has come or gone.
const SETTLED: Duration = Duration::from_secs(60);
/// A close frame of a client that gives no reason.
const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

/// Users that have ever come.
static COMERS: AtomicUsize = AtomicUsize::new(0);

struct Options {
    rounds: usize,
    seconds: f64,
    rate: f64,
    sizes: Vec<usize>,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { rounds: 5, seconds: 4.0, rate: 200.0, sizes: vec![10, 1000, 10_000] };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_default();
            match word.as_str() {
                "--rounds" => options.rounds = value.parse().unwrap(),
                "--seconds" => options.seconds = value.parse().unwrap(),
                "--rate" => options.rate = value.parse().unwrap(),
                "--sizes" => options.sizes = value.split(',').map(|size| size.parse().unwrap()).collect(),
                _ => panic!("unknown flag {word}"),
            }
        }
        options
    }
}

#[tokio::main]
async fn main() {
    let options = Options::read();
    raise_descriptors(1_000_000);
    println!(
        "{} come a second, and go; processor time of an edge by change, median of {} rounds of {} s (least to most)",
        options.rate, options.rounds, options.seconds
    );
    println!("\n{:>8}  {:<9} {:>24} {:>24}", "there", "told", "edge they come by, µs", "other edge, µs");
    for v1 in [false, true] {
        of_kind(&options, v1).await;
    }
}

/// Measures all sizes with people of one kind: such as know frames about who is there, or not.
async fn of_kind(options: &Options, v1: bool) {
    let nats = Nats::start().await;
    let _engine = Engine::start(&nats).await;
    let mut edges = [edge(&nats).await, edge(&nats).await];
    let ids = edges.each_mut().map(|edge| edge.process().id());
    let mut crowd = JoinSet::new();
    for size in &options.sizes {
        let people = stream::iter(0..*size).map(|number| {
            let address = edges[number % 2].address();
            async move { Visitor::open(address, *size, &format!("there-{number}"), v1).await }
        });
        let mut people = people.buffer_unordered(AT_ONCE);
        while let Some(visitor) = people.next().await {
            crowd.spawn(visitor.stay());
        }
    }
    let mut spent: Vec<Vec<[f64; 2]>> = vec![Vec::new(); options.sizes.len()];
    for round in 0..options.rounds {
        for (edge, size) in edges.iter().flat_map(|edge| options.sizes.iter().map(move |size| (edge, *size))) {
            knows(edge, size).await;
        }
        let rest = measured(ids, options.seconds, async |limit| {
            sleep(limit).await;
            1
        });
        let rest = rest.await;
        for turn in 0..options.sizes.len() {
            let at = (turn + round) % options.sizes.len();
            let size = options.sizes[at];
            let all =
                measured(ids, options.seconds, async |limit| churn(&edges[0], size, v1, limit, options.rate).await)
                    .await;
            spent[at].push([0, 1].map(|edge| (all.cpu_per_s[edge] - rest.cpu_per_s[edge]) / all.changes_per_s));
            for edge in &edges {
                knows(edge, size).await;
            }
        }
    }
    for (size, rounds) in options.sizes.iter().zip(&mut spent) {
        let [by, other] = [0, 1].map(|edge| {
            let mut each: Vec<f64> = rounds.iter().map(|spent| spent[edge] * 1e6).collect();
            each.sort_by(f64::total_cmp);
            format!("{:.1} ({:.1} to {:.1})", each[each.len() / 2], each[0], each[each.len() - 1])
        });
        println!("{size:>8}  {:<9} {by:>24} {other:>24}", if v1 { "everybody" } else { "nobody" });
    }
}

/// An edge whose door lists who is there to people with tokens, as many as like.
async fn edge(nats: &Nats) -> Service {
    // Nobody is pinged meanwhile, and whoever goes is gone at once.
    Edge::new(nats)
        .config(format!(
            "[ws-edge.presence]\ngrace = \"0s\"\n[ws-edge.jwt]\nsecret = \"{SECRET}\"\nquery = true\n\
             [[ws-edge.listeners]]\nauth = \"jwt\"\npresence = \"list\"\n\
             [[ws-edge.listeners.routes]]\npath = \"/ws/{{sid}}\"\nroots = [\"gm\"]\n"
        ))
        .set("socket.heartbeat", "1h")
        // The first ping comes after a part of that, and nobody answers it.
        .set("socket.heartbeat_timeout", "1h")
        .set("limits.handshakes", 0)
        .set("limits.handshakes_per_address", 0)
        .set("limits.connections_per_address", 0)
        .set("limits.connections_per_session", 0)
        .start()
        .await
}

struct Spent {
    /// Seconds a second, of each edge.
    cpu_per_s: [f64; 2],
    changes_per_s: f64,
}

/// What both edges take while something happens, which says how many came and went.
async fn measured(ids: [u32; 2], seconds: f64, happens: impl AsyncFnOnce(Duration) -> usize) -> Spent {
    let all = || ids.map(|id| cpu(id).as_secs_f64());
    let (before, begun) = (all(), Instant::now());
    let changes = happens(Duration::from_secs_f64(seconds)).await;
    let (after, took) = (all(), begun.elapsed().as_secs_f64());
    Spent { cpu_per_s: [0, 1].map(|edge| (after[edge] - before[edge]) / took), changes_per_s: changes as f64 / took }
}

/// Somebody comes, another one goes, again and again; how many changes that were.
async fn churn(edge: &Service, size: usize, v1: bool, limit: Duration, rate: f64) -> usize {
    let (address, begun) = (edge.address(), Instant::now());
    let mut turns = interval(Duration::from_secs_f64(1.0 / rate));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut visits = JoinSet::new();
    let mut changes = 0;
    while begun.elapsed() < limit {
        turns.tick().await;
        changes += 2;
        let user = format!("comes-{}", COMERS.fetch_add(1, Ordering::Relaxed));
        visits.spawn(async move {
            let visitor = Visitor::open(address, size, &user, v1).await;
            sleep(STAYS).await;
            visitor.go().await;
        });
    }
    while visits.join_next().await.is_some_and(|visit| visit.is_ok()) {}
    changes
}

/// Waits until an edge knows that all are there who stay, and nobody else.
async fn knows(edge: &Service, size: usize) {
    let bearer = format!("Bearer {}", token("who-asks"));
    eventually(&format!("{size} are there"), SETTLED, async || {
        let path = edge.http(&format!("/presence/s{size}?limit=1"));
        let reply = http::send(Method::GET, &path, &[("authorization", &bearer)], "").await;
        let said = reply.expect_status(200).json();
        if said["count"] == size && said["complete"] == true { Ok(()) } else { Err(said) }
    })
    .await;
}

fn token(user: &str) -> String {
    hs256(&with(claims(user, &["*"]), "exp", now() + 3600))
}

/// Somebody who is connected.
struct Visitor(TcpStream);

impl Visitor {
    async fn open(address: SocketAddr, size: usize, user: &str, v1: bool) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let protocol = if v1 { "Sec-WebSocket-Protocol: herald.v1\r\n" } else { "" };
        let request = format!(
            "GET /ws/s{size} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Authorization: Bearer {}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n",
            token(user)
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        Self(socket)
    }

    /// Stays, and takes whatever it is told.
    async fn stay(self) {
        let last = self.take().await;
        // Who was to stay would be missed below, and nobody would know why.
        println!("somebody was sent away: {}", String::from_utf8_lossy(&last).escape_debug());
    }

    /// What was taken last.
    async fn take(mut self) -> Vec<u8> {
        let (mut taken, mut last) = ([0; 512], Vec::new());
        while let Ok(read @ 1..) = self.0.read(&mut taken).await {
            last = taken[..read].to_vec();
        }
        last
    }

    /// Goes as browsers do.
    async fn go(mut self) {
        self.0.write_all(&CLOSE).await.unwrap();
        self.take().await;
    }
}

/// What a process has taken of processors.
fn cpu(id: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let ran = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    Duration::from_nanos(ran.filter_map(|ran| ran.split(' ').next()?.parse::<u64>().ok()).sum())
}
