//! A planned end: nobody new, everybody told, in turn, where to come back; and then an end in time.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::{join_all, select_all};
use herald_testkit::{Edge, Nats, Service, eventually, http::Raw, within, ws};

use crate::{
    support::Engine,
    watch::{BOUND, KINDS, Kind, Told, Watch},
};

const MINUTES: Duration = Duration::from_secs(150);
const TERM: rustix::process::Signal = rustix::process::Signal::TERM;

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_at_once_and_takes_nobody_new() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut edge = Edge::new(&nats).start().await;
        let address = edge.address();
        let url = edge.ws("/ws/S");
        let watching = join_all((0..40).map(|_| ws::Client::connect(&url, ws::V1))).await;
        // Somebody is just asking to come in.
        let mut halfway = Raw::connect(address).await;
        halfway.write("GET /ws/S HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n").await;
        let mut whole = Raw::connect(address).await;
        whole.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        whole.read_until(b"}", BOUND).await;
        let begun = Instant::now();
        edge.process().signal(TERM);
        edge.wait_readyz("is not ready", Duration::from_secs(2), |status, _| status == 503).await;
        let not_ready = begun.elapsed();
        let there = watching.iter().filter(|client| client.ended().is_none()).count();
        assert!(there > 20, "{there} of 40 are still there {not_ready:?} after the signal");
        eventually("nobody new is let in", Duration::from_secs(2), async || {
            if tokio::net::TcpStream::connect(address).await.is_err() { Ok(()) } else { Err("connected") }
        })
        .await;
        assert!(whole.read_to_end(BOUND).await.is_empty(), "a connection that asks for nothing is closed");
        halfway.write("sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await;
        let answer = String::from_utf8(halfway.read_to_end(BOUND).await).unwrap().to_lowercase();
        assert!(
            answer.is_empty() || answer.starts_with("http/1.1 503") && answer.contains("retry-after: 1"),
            "{answer}"
        );
        // Those who stay are served to their end.
        let last = engine.publish("gm.S.phase", "1").await;
        let mut served = 0;
        for client in &watching {
            assert_eq!(client.wait_end(BOUND).await.code(), 1012);
            served += usize::from(client.last_seq() == last);
        }
        assert!(served > 0);
        assert_eq!(edge.process().wait(MINUTES).await.code(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_all_kinds_go_all_over_the_period() {
    const EACH: usize = 100;
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut edge = Edge::new(&nats).set("drain.period", "4s").set("drain.retry", "2s").start().await;
        let address = edge.address();
        let open = |at: usize| async move { Watch::open(address, KINDS[at % 3], None).await.unwrap() };
        let watching = join_all((0..3 * EACH).map(open)).await;
        let first = engine.publish("gm.S.phase", "1").await;
        for client in &watching {
            client.wait_seq(first).await;
        }
        let begun = Instant::now();
        edge.process().signal(TERM);
        let told = join_all(watching.iter().map(|client| async { (client.told().await, begun.elapsed()) })).await;
        assert_eq!(edge.process().wait(MINUTES).await.code(), Some(0));
        for (at, kind) in KINDS.into_iter().enumerate() {
            let of_kind: Vec<_> = told.iter().skip(at).step_by(3).collect();
            // Eight parts of the period: no burst, and nobody is left out. Twelve or thirteen are to be expected in each.
            let mut parts = [0; 8];
            for (_, when) in &of_kind {
                parts[(when.as_millis() as usize / 500).min(7)] += 1;
            }
            assert!(parts.iter().all(|count| (1..=EACH / 3).contains(count)), "{kind:?}: {parts:?}");
            assert!(of_kind.iter().all(|(told, _)| told.cursor.as_ref().is_some_and(|it| it.ends_with("-1"))));
            let mut retries: Vec<_> = of_kind.iter().filter_map(|(told, _)| told.retry_ms).collect();
            retries.sort_unstable();
            retries.dedup();
            match kind {
                Kind::Plain => assert!(retries.is_empty(), "the originals know no such word"),
                _ => assert!(retries.len() > EACH / 2 && retries.iter().all(|ms| *ms <= 2000), "{kind:?}: {retries:?}"),
            }
        }
    })
    .await;
}

/// Publishes events of session `S` until it is told to end; the last sequence.
async fn publish_until(engine: &Engine, end: &AtomicBool, last: &AtomicU64) {
    let mut number = 0_u64;
    while !end.load(Ordering::Acquire) {
        let topic = ["phase", "llm_text", "_action"][number as usize % 3];
        let seq = engine.publish(&format!("gm.S.{topic}"), format!("{{\"n\":{number}}}")).await;
        last.store(seq, Ordering::Release);
        number += 1;
        if number.is_multiple_of(5) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Watches, here and there, until it has the event `until` says; all it saw, and how often it had to come back.
async fn wander(doors: &[std::net::SocketAddr; 2], kind: Kind, from: usize, until: &AtomicU64) -> (Vec<u64>, usize) {
    let (mut seen, mut at, mut comebacks) = (Vec::new(), from, 0);
    let mut after = Some("0".to_owned());
    loop {
        let Some(watch) = Watch::open(doors[at % 2], kind, after.as_deref()).await else {
            // That one is away.
            at += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let done = async {
            loop {
                let goal = until.load(Ordering::Acquire);
                if goal > 0 && watch.seqs().last() == Some(&goal) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let told = tokio::select! {
            told = watch.told() => Some(told),
            () = done => None,
        };
        assert_eq!(watch.gaps(), [], "nothing is missing");
        seen.extend(watch.seqs());
        let Some(Told { code, cursor, .. }) = told else { return (seen, comebacks) };
        assert!(code == 1012 || code == 0, "{kind:?}: {code}");
        // Who was told nothing had got nothing, and comes back as it came.
        after = cursor.or(after);
        at += 1;
        comebacks += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_loses_and_doubles_nothing() {
    const EACH: usize = 20;
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // Small rings: some find what they miss in the ring, some in history.
        let edge = || Edge::new(&nats).fixed_port().set("drain.period", "2s").set("ring.frames", 40);
        let mut edges = [edge().start().await, edge().start().await];
        let doors = [edges[0].address(), edges[1].address()];
        let (end, last, until) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let rolling = async {
            for _ in 0..2 {
                for edge in &mut edges {
                    edge.process().signal(TERM);
                    assert_eq!(edge.process().wait(BOUND).await.code(), Some(0));
                    edge.restart().await;
                }
            }
            end.store(true, Ordering::Release);
        };
        let publishing = async {
            publish_until(&engine, &end, &last).await;
            until.store(engine.publish("gm.S.end", "{}").await, Ordering::Release);
        };
        let wandering = join_all((0..3 * EACH).map(|at| wander(&doors, KINDS[at % 3], at / 3, &until)));
        let ((), (), seen) = tokio::join!(rolling, publishing, wandering);
        let whole = Watch::open(doors[0], Kind::V1, Some("0")).await.unwrap();
        whole.wait_seq(until.load(Ordering::Acquire)).await;
        let truth = whole.seqs();
        let comebacks: usize = seen.iter().map(|(_, comebacks)| comebacks).sum();
        // How many events there are is the machine's; that everybody had to come back is not.
        assert!(truth.len() > 50 && comebacks >= 3 * EACH, "{} events, {comebacks} comebacks", truth.len());
        for (at, (seen, _)) in seen.iter().enumerate() {
            assert!(*seen == truth, "{:?} saw {} of {}", KINDS[at % 3], seen.len(), truth.len());
        }
    })
    .await;
}

/// Clients that do not read, with a queue of large events in front of them.
async fn blocked(edge: &Service, engine: &Engine, count: usize) -> (Vec<ws::Client>, Vec<Raw>) {
    let narrow = ws::Options { protocols: ws::V1, receive_buffer: Some(4096), ..ws::Options::default() };
    let url = edge.ws("/ws/B?after=0");
    let sockets = join_all((0..count).map(|_| async { ws::Client::open(&url, narrow.clone()).await.unwrap() })).await;
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = Raw::connect(edge.address()).await;
        stream.write("GET /sse/B?after=0 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        stream.read_until(b"herald.hello", BOUND).await;
        streams.push(stream);
    }
    for client in &sockets {
        client.stall(true).await;
    }
    for _ in 0..60 {
        engine.publish("gm.B.phase", format!("\"{}\"", "x".repeat(100_000))).await;
    }
    (sockets, streams)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_sockets_and_those_that_do_not_read_are_gone_in_time() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // As it is configured by default: 10 s.
        let mut edge = Edge::new(&nats).start().await;
        let (_sockets, _streams) = blocked(&edge, &engine, 10).await;
        let mut watching = Vec::new();
        for part in 0..20 {
            let url = edge.ws(&format!("/ws/S{part}"));
            watching.extend(join_all((0..100).map(|_| ws::Client::connect(&url, ws::V1))).await);
        }
        let begun = Instant::now();
        edge.process().signal(TERM);
        // The first hear of it early, the last late.
        let (_, first, _) = select_all(watching.iter().map(|client| Box::pin(client.wait_end(BOUND)))).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "number {first} after {:?}", begun.elapsed());
        for client in &watching {
            assert_eq!(client.wait_end(BOUND).await.code(), 1012);
        }
        assert!(begun.elapsed() > Duration::from_secs(7), "all after {:?}", begun.elapsed());
        assert_eq!(edge.process().wait(MINUTES).await.code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    })
    .await;
}
