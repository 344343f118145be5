//! Clients that are slow, and clients that are dead: their memory is bounded, they cost nobody anything, they are found.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herald_testkit::{
    Edge, Nats, Service, eventually,
    http::Raw,
    proxy::{Network, Proxy},
    within, ws,
};

use crate::{
    support::Engine,
    watch::{BOUND, Kind, Watch},
};

const MINUTES: Duration = Duration::from_secs(150);

fn big(number: usize) -> String {
    format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(50_000))
}

async fn sleeper(edge: &Service, path: &str, protocols: &'static [&'static str]) -> ws::Client {
    let options = ws::Options { protocols, receive_buffer: Some(4096), ..ws::Options::default() };
    let client = ws::Client::open(&edge.ws(path), options).await.unwrap();
    client.stall(true).await;
    client
}

/// Resident memory of the edge's process, in bytes.
fn resident(edge: &mut Service) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.process().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

async fn closed(edge: &Service, reason: &str) -> f64 {
    edge.metric("herald_closed_connections_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_takes_little_memory_and_finds_everything_in_the_end() {
    const SLEEPERS: usize = 150;
    const EVENTS: usize = 200;
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // Nobody is given up here: all this time they may take memory.
        let edge = Edge::new(&nats).set("socket.write_timeout", "100s").set("socket.heartbeat", "100s");
        let mut edge = edge.set("socket.max_lag", "1GiB").start().await;
        let awake = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        for number in 0..EVENTS / 2 {
            engine.publish("gm.S.phase", big(number)).await;
        }
        awake.wait_events(EVENTS / 2, BOUND).await;
        let before = resident(&mut edge);
        // Some of them live, most from the beginning: each of those has a page of history to itself.
        let mut sleepers = Vec::new();
        for at in 0..SLEEPERS {
            let path = ["/ws/S", "/ws/S?after=0", "/ws/S?after=0"][at % 3];
            sleepers.push(sleeper(&edge, path, [ws::V1, ws::PLAIN][at / 3 % 2]).await);
        }
        for number in EVENTS / 2..EVENTS {
            engine.publish("gm.S.phase", big(number)).await;
        }
        awake.wait_events(EVENTS, BOUND).await;
        let dropped = async || edge.metric("herald_blocked_bytes_dropped_total", &[]).await;
        eventually("what can be read again is let go", BOUND, async || {
            let bytes = dropped().await;
            if bytes > 5e6 { Ok(()) } else { Err(bytes) }
        })
        .await;
        // Beside its socket: a page for a second, then one frame that has begun, and 64 KiB. An allocator keeps what it once
        // had, so it is the page that is seen; and the rings.
        let grown = resident(&mut edge).saturating_sub(before);
        assert!(grown < SLEEPERS * (256 << 10) + (8 << 20), "{grown}");
        assert_eq!(closed(&edge, "too_slow").await, 0.0);
        // A tenth of them, as this machine has to read all of it.
        for (at, client) in sleepers.iter().enumerate().step_by(10) {
            client.stall(false).await;
            let events = client.wait_events([EVENTS / 2, EVENTS, EVENTS][at % 3], BOUND).await;
            assert!(events.iter().rev().zip((0..EVENTS).rev()).all(|(frame, number)| frame.data()["n"] == number));
            client.check_order();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_events_that_never_reads_takes_little_memory_and_is_cut_off() {
    const SLEEPERS: usize = 60;
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut edge = Edge::new(&nats).set("socket.write_timeout", "6s").start().await;
        for number in 0..100 {
            engine.publish("gm.S.phase", big(number)).await;
        }
        let before = resident(&mut edge);
        let mut sleepers = Vec::new();
        for _ in 0..SLEEPERS {
            let mut asleep = Raw::connect(edge.address()).await;
            asleep.write("GET /sse/S?after=0 HTTP/1.1\r\nhost: x\r\n\r\n").await;
            sleepers.push(asleep);
        }
        eventually("what can be read again is let go", BOUND, async || {
            let bytes = edge.metric("herald_blocked_bytes_dropped_total", &[]).await;
            if bytes > SLEEPERS as f64 * 100e3 { Ok(()) } else { Err(bytes) }
        })
        .await;
        // For a second each of them may have its page twice, as it was read and as it is written, and the allocator keeps what
        // it once had: a tenth of the 5 MB that wait for each.
        let grown = resident(&mut edge).saturating_sub(before);
        assert!(grown < SLEEPERS * (576 << 10) + (8 << 20), "{grown}");
        eventually("they are given up", BOUND, async || {
            let count = closed(&edge, "too_slow").await;
            if count == SLEEPERS as f64 { Ok(()) } else { Err(count) }
        })
        .await;
        let Some(mut asleep) = sleepers.pop() else { unreachable!() };
        let got = String::from_utf8(asleep.read_to_end(BOUND).await).unwrap();
        let ids: Vec<_> = got.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        // The last event may be cut off; what counts is the last whole one.
        let id = ids[ids.len() - 2];
        let back = Watch::open(edge.address(), Kind::Sse, Some(id)).await.unwrap();
        back.wait_seq(100).await;
        let seq: u64 = id.split_once('-').unwrap().1.parse().unwrap();
        assert_eq!(back.seqs(), (seq + 1..=100).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_found_by_its_ping() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge =
            Edge::new(&nats).set("socket.heartbeat", "1s").set("socket.heartbeat_timeout", "1500ms").start().await;
        let proxy = Proxy::start(edge.address()).await;
        let near = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await;
        let far =
            join_all([ws::PLAIN, ws::V1, ws::V1].map(|protocols| async move { protocols }).map(|protocols| async {
                ws::Client::connect(&format!("ws://{}/ws/S", proxy.address()), protocols.await).await
            }))
            .await;
        let watching = async || {
            let answers = engine.watching("S", Duration::from_millis(200)).await;
            answers[0]["count"].as_u64().unwrap()
        };
        assert_eq!(watching().await, 4);
        let begun = Instant::now();
        proxy.set(Network::Silent);
        eventually("they are found out", BOUND, async || match closed(&edge, "dead").await {
            3.0 => Ok(()),
            count => Err(count),
        })
        .await;
        // A ping within 1 s, 1.5 s for its answer, and what a loaded machine takes.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(watching().await, 1, "the other one is well");
        let seq = engine.publish("gm.S.phase", "1").await;
        near.wait_for("the event", BOUND, |frame| frame.seq() == Some(seq)).await;
        drop(far);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hopeless_one_is_told_exactly_where_it_is_while_events_go_on() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("socket.write_timeout", "1500ms").set("socket.close_timeout", "20s");
        let edge = edge.set("ring.frames", 20).start().await;
        let mut sleepers = Vec::new();
        for at in 0..12 {
            let path = ["/ws/S", "/ws/S?after=0"][at % 2];
            sleepers.push(sleeper(&edge, path, [ws::V1, ws::PLAIN][at / 2 % 2]).await);
        }
        let awake = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        let mut number = 0;
        eventually("all are given up", BOUND, async || {
            engine.publish("gm.S.phase", big(number)).await;
            number += 1;
            let count = closed(&edge, "too_slow").await;
            if count == 12.0 { Ok(()) } else { Err(count) }
        })
        .await;
        let last = engine.publish("gm.S.phase", big(number)).await;
        awake.wait_for("the last one", BOUND, |frame| frame.seq() == Some(last)).await;
        let truth: Vec<_> = awake.events().iter().filter_map(ws::Frame::seq).collect();
        join_all(sleepers.iter().map(|client| client.stall(false))).await;
        for client in sleepers {
            let end = client.wait_end(BOUND).await;
            assert_eq!(end.code(), 4408, "{end:?}");
            let after = end.reason().strip_prefix("resume after=").unwrap().to_owned();
            let mut seen: Vec<_> = client.events().iter().filter_map(ws::Frame::seq).collect();
            assert!(after.ends_with(&format!("-{}", seen.last().unwrap())), "{after} is not what it has");
            let kind = if client.protocol().is_some() { Kind::V1 } else { Kind::Plain };
            let back = Watch::open(edge.address(), kind, Some(&after)).await.unwrap();
            back.wait_seq(last).await;
            seen.extend(back.seqs());
            assert!(seen == truth, "{} of {}", seen.len(), truth.len());
        }
    })
    .await;
}
