//! `./scripts/bench comeback`: an edge dies, and all its clients come back to another one at once.
//!
//! The other edge has nothing of their sessions in memory. Measured: from the moment a client knocks until it has everything
//! it missed, what it cost in reads from the stream, and how many handshakes a second that was.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints its table")]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herald_testkit::{Edge, Nats, Service, ws};

use support::Engine;

#[path = "../tests/edge/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole edge")]
mod support;

const CLIENTS: usize = 2000;
const SESSIONS: usize = 20;
/// Events of each session before the end, and while everybody is away.
const EVENTS: (usize, usize) = (30, 20);
const BOUND: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    println!(
        "{CLIENTS} sockets on {SESSIONS} sessions, half plain, half herald.v1; {} events missed by each",
        EVENTS.1
    );
    for (name, spread) in [("all at once", 0), ("each within 1 s, by its own backoff", 1000)] {
        round(&nats, &engine, name, spread).await;
    }
}

async fn publish(engine: &Engine, sessions: &[String], count: usize) -> Vec<u64> {
    let of_one = async |session: &String| {
        let mut last = 0;
        for number in 0..count {
            let text = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(400));
            last = engine.publish(&format!("gm.{session}.phase"), text).await;
        }
        last
    };
    join_all(sessions.iter().map(of_one)).await
}

async fn round(nats: &Nats, engine: &Engine, name: &str, spread_ms: u64) {
    let mut first = Edge::new(nats).start().await;
    let other = Edge::new(nats).start().await;
    let sessions: Vec<_> = (0..SESSIONS).map(|at| format!("s{spread_ms}-{at}")).collect();
    let mut clients = Vec::new();
    for part in (0..CLIENTS).collect::<Vec<_>>().chunks(200) {
        clients.extend(join_all(part.iter().map(|at| open(&first, &sessions, *at, "0".to_owned()))).await);
    }
    let lasts = publish(engine, &sessions, EVENTS.0).await;
    for (at, client) in clients.iter().enumerate() {
        client.wait_for("before", BOUND, |frame| frame.seq() == Some(lasts[at % SESSIONS])).await;
    }
    first.kill().await;
    let cursors: Vec<_> =
        clients.iter().map(|client| client.cursor().unwrap_or_else(|| client.last_seq().to_string())).collect();
    let lasts = publish(engine, &sessions, EVENTS.1).await;
    drop(clients);
    let begun = Instant::now();
    let back = join_all(cursors.into_iter().enumerate().map(|(at, cursor)| {
        let (other, sessions, goal) = (&other, &sessions, lasts[at % SESSIONS]);
        async move {
            tokio::time::sleep(Duration::from_millis(spread_ms * at as u64 / CLIENTS as u64)).await;
            let knocked = Instant::now();
            let client = open(other, sessions, at, cursor).await;
            let opened = Instant::now();
            let frame = client.wait_for("what it missed", BOUND, |frame| frame.seq() == Some(goal)).await;
            assert_eq!(client.events().len(), EVENTS.1);
            client.check_order();
            (frame.at.saturating_duration_since(knocked), opened.saturating_duration_since(begun), client)
        }
    }))
    .await;
    let whole = begun.elapsed();
    let mut taken: Vec<_> = back.iter().map(|(taken, ..)| *taken).collect();
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let opened = back.iter().map(|(_, opened, _)| *opened).max().unwrap_or_default();
    let reads = other.metric("herald_history_read_seconds_count", &[]).await;
    println!("\n{name}");
    println!(
        "  recovered after  p50 {:.0} ms, p99 {:.0} ms, the last {:.0} ms after the first knock",
        at(0.5),
        at(0.99),
        whole.as_secs_f64() * 1e3
    );
    println!("  handshakes       {:.0}/s", CLIENTS as f64 / opened.as_secs_f64());
    println!("  reads            {reads} of the stream's history");
}

async fn open(edge: &Service, sessions: &[String], at: usize, after: String) -> ws::Client {
    let protocols = [ws::V1, ws::PLAIN][at / SESSIONS % 2];
    let url = edge.ws(&format!("/ws/{}?after={after}", sessions[at % SESSIONS]));
    ws::Client::connect(&url, protocols).await
}
