//! History that is trimmed below a client's cursor, in every way an operator's limits do it: told, never silence.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use futures_util::future::join_all;
use herald_testkit::{Edge, Nats, Service, eventually, within, ws};

use crate::{
    support::Engine,
    watch::{BOUND, KINDS, Kind, Watch},
};

const MINUTES: Duration = Duration::from_secs(120);

/// An edge that has next to nothing in memory, and reads history in small pages.
async fn forgetful(nats: &Nats) -> Service {
    let settings = [("ring.frames", "2"), ("ring.linger", "0s"), ("history.page", "4KiB")];
    settings.iter().fold(Edge::new(nats), |edge, (key, value)| edge.set(key, *value)).start().await
}

async fn limit(engine: &Engine, change: impl FnOnce(&mut Config)) {
    let js = engine.nats.jetstream();
    let mut config = js.get_stream("EVENTS").await.unwrap().get_info().await.unwrap().config;
    change(&mut config);
    js.update_stream(config).await.unwrap();
}

async fn first(engine: &Engine) -> u64 {
    engine.nats.jetstream().get_stream("EVENTS").await.unwrap().get_info().await.unwrap().state.first_sequence
}

/// What was published behind `from` came once, in order, or lies in a gap that was told.
fn accounted(watch: &Watch, published: &[u64], from: u64, what: &str) {
    let (seen, gaps) = (watch.seqs(), watch.gaps());
    assert!(seen.is_sorted_by(|one, other| one < other), "{what}: {seen:?}");
    for seq in published.iter().filter(|seq| **seq > from) {
        let told = gaps.iter().any(|(from, to)| (from..=to).contains(&seq));
        assert!(seen.contains(seq) || told, "{what}: {seq} is missing, gaps {gaps:?}");
    }
    assert!(seen.iter().all(|seq| published.contains(seq)), "{what}: {seen:?}");
}

async fn epoch(edge: &Service) -> String {
    let client = ws::Client::connect(&edge.ws("/ws/other"), ws::V1).await;
    let hello = client.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
    hello.data()["epoch"].as_str().unwrap().to_owned()
}

/// Clients of all kinds behind `cursor`: the gap, with its range, and then everything that is kept.
async fn resumed(edge: &Service, published: &[u64], cursor: u64, to: u64, last: u64, what: &str) {
    let epoch = epoch(edge).await;
    for kind in KINDS {
        let after = format!("{epoch}-{cursor}");
        let watch = Watch::open(edge.address(), kind, Some(&after)).await.unwrap();
        let gap = watch.wait_gap().await;
        if kind == Kind::Plain {
            let told = watch.told().await.cursor.unwrap();
            assert_eq!(told, format!("{epoch}-{to}"), "{what}");
            let back = Watch::open(edge.address(), kind, Some(&told)).await.unwrap();
            back.wait_seq(last).await;
            accounted(&back, published, to, what);
            continue;
        }
        assert_eq!(gap, Some((cursor + 1, to)), "{what} as {kind:?}");
        watch.wait_seq(last).await;
        accounted(&watch, published, cursor, what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_that_is_reached_is_told_to_who_resumes() {
    within(MINUTES, async {
        type Change = fn(&mut Config);
        let limits: [(&str, Change); 3] = [
            ("max_msgs", |config| config.max_messages = 12),
            ("max_bytes", |config| config.max_bytes = 12 * 400),
            ("max_age", |config| {
                config.max_age = Duration::from_secs(2);
                config.duplicate_window = config.max_age;
            }),
        ];
        for (what, change) in limits {
            let nats = Nats::start().await;
            let engine = Engine::start(&nats).await;
            let edge = forgetful(&nats).await;
            let mut published = Vec::new();
            for number in 0..40 {
                let text = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(300));
                published.push(engine.publish("gm.S.phase", text).await);
            }
            limit(&engine, change).await;
            let cursor = published[4];
            eventually("the limit is reached", BOUND, async || {
                let first = first(&engine).await;
                if first > cursor + 1 { Ok(()) } else { Err(first) }
            })
            .await;
            if what == "max_age" {
                // All of it goes; what comes from now on is kept.
                eventually("all are gone", BOUND, async || {
                    let first = first(&engine).await;
                    if first > published[39] { Ok(()) } else { Err(first) }
                })
                .await;
                limit(&engine, |config| config.max_age = Duration::from_secs(3600)).await;
            }
            let last = engine.publish("gm.S.phase", "\"last\"").await;
            published.push(last);
            let to = first(&engine).await - 1;
            assert!(to > cursor, "{what}");
            resumed(&edge, &published, cursor, to, last, what).await;
            // Who asks for what there is gets that, and nothing is said.
            for kind in KINDS {
                let watch = Watch::open(edge.address(), kind, Some("0")).await.unwrap();
                watch.wait_seq(last).await;
                assert_eq!(
                    watch.seqs(),
                    published.iter().copied().filter(|seq| *seq > to).collect::<Vec<_>>(),
                    "{what}"
                );
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_of_a_limit_per_subject_are_told() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = forgetful(&nats).await;
        let mut published = Vec::new();
        // The first stays, so that nothing looks trimmed.
        published.push(engine.publish("gm.S.start", "{}").await);
        for number in 0..30 {
            published.push(engine.publish("gm.S.phase", number.to_string()).await);
        }
        limit(&engine, |config| config.max_messages_per_subject = 1).await;
        eventually("only the last of each subject is kept", BOUND, async || {
            let info = engine.nats.jetstream().get_stream("EVENTS").await.unwrap().get_info().await.unwrap();
            if info.state.messages == 2 { Ok(()) } else { Err(info.state) }
        })
        .await;
        assert_eq!(first(&engine).await, published[0]);
        let last = engine.publish("gm.S.end", "{}").await;
        published.push(last);
        // Up to the last but one everything but the first event may be missing.
        resumed(&edge, &published, published[3], published[29], last, "max_msgs_per_subject").await;
        for kind in KINDS {
            let watch = Watch::open(edge.address(), kind, Some("0")).await.unwrap();
            watch.wait_seq(last).await;
            assert_eq!(watch.seqs(), [published[0], published[30], last], "what there is");
        }
        // What is replaced before it is delivered is gone for everybody; who is up to date is told, too.
        let live = join_all([Kind::V1, Kind::Sse].map(|kind| Watch::open(edge.address(), kind, None))).await;
        let mut more = Vec::new();
        for number in 0..200 {
            more.push(engine.publish("gm.S.phase", number.to_string()).await);
        }
        for watch in live.into_iter().flatten() {
            watch.wait_seq(*more.last().unwrap()).await;
            accounted(&watch, &more, last, "live");
        }
    })
    .await;
}

/// A client with as little room as the system allows.
async fn narrow(edge: &Service, path: &str, protocols: &'static [&'static str]) -> Watch {
    let options = ws::Options { protocols, receive_buffer: Some(4096), ..ws::Options::default() };
    Watch::Socket(ws::Client::open(&edge.ws(path), options).await.unwrap())
}

async fn stall(watch: &Watch, stalled: bool) {
    let Watch::Socket(client) = watch else { unreachable!() };
    client.stall(stalled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_trimmed_under_a_slow_client_or_a_replay_is_told() {
    within(MINUTES, async {
        for (what, path) in [("live and slow", "/ws/S"), ("in the middle of a replay", "/ws/S?after=0")] {
            let nats = Nats::start().await;
            let engine = Engine::start(&nats).await;
            let edge = forgetful(&nats).await;
            let mut published = Vec::new();
            let publish = async |published: &mut Vec<u64>, count: usize| {
                for number in 0..count {
                    let text = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(20_000));
                    published.push(engine.publish("gm.S.phase", text).await);
                }
            };
            let replays = path.ends_with("=0");
            if replays {
                publish(&mut published, 100).await;
            }
            let sleepers = [narrow(&edge, path, ws::V1).await, narrow(&edge, path, ws::PLAIN).await];
            publish(&mut published, 1).await;
            // They have seen something, and then they don't read.
            for watch in &sleepers {
                watch.wait_seq(published[0]).await;
                stall(watch, true).await;
            }
            publish(&mut published, 150).await;
            let stream = engine.nats.jetstream().get_stream("EVENTS").await.unwrap();
            let to = published[published.len() - 20];
            stream.purge().sequence(to + 1).await.unwrap();
            let last = engine.publish("gm.S.end", "{}").await;
            published.push(last);
            for watch in &sleepers {
                stall(watch, false).await;
            }
            let gap = sleepers[0].wait_gap().await;
            sleepers[0].wait_seq(last).await;
            accounted(&sleepers[0], &published, 0, what);
            let Watch::Socket(client) = &sleepers[0] else { unreachable!() };
            client.check_order();
            let before: Vec<_> = sleepers[0].seqs().into_iter().filter(|seq| *seq <= to).collect();
            assert_eq!(gap, Some((before.last().unwrap() + 1, to)), "{what}");
            // The plain one is closed, behind what it had, with where to go on.
            sleepers[1].wait_gap().await;
            let told = sleepers[1].told().await.cursor.unwrap();
            assert!(told.ends_with(&format!("-{to}")), "{what}: {told}");
            let seen = sleepers[1].seqs();
            assert!(published.starts_with(&seen) && !seen.is_empty(), "{what}: {seen:?}");
            let back = Watch::open(edge.address(), Kind::Plain, Some(&told)).await.unwrap();
            back.wait_seq(last).await;
            accounted(&back, &published, to, what);
        }
    })
    .await;
}
