//! What durability costs: fenced publishes, one in flight per session, and atomic batches of them, on one node and on three,
//! with the store synced every 10 s and always. `./scripts/bench durability` runs it.
//!
//! Each round measures every load on every server, one after the other, and the next round does so again: what the machine
//! does meanwhile falls on all alike. Printed is the median of the rounds. `strace`, if it is there, counts the syncs in a
//! round of its own, as it slows the server down.
//!
//! After each measurement the stream is read back: what was acknowledged has to be there once and in order, else this panics.

#![allow(clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails ends")]

use std::{
    collections::BTreeMap,
    io::BufRead as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{
    HeaderMap,
    jetstream::consumer::{DeliverPolicy, push::OrderedConfig},
};
use bytes::Bytes;
use clap::Parser;
use futures_util::{StreamExt as _, future::join_all};
use herald_runtime::{
    Context,
    config::{Common, HumanDuration},
    jetstream::{BatchError, BatchMessage, Expect, PublishError, StreamSpec, ensure_stream, publish, publish_batch},
    nats::{self, Nats},
};
use herald_testkit::{Nats as Server, NatsCluster, NatsOptions, eventually};

/// Measures what is durable, how soon, and at what price.
#[derive(Debug, Parser)]
#[command(name = "durability")]
struct Options {
    /// Seconds per load, server and round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of an event.
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// Leave the cluster out.
    #[arg(long)]
    single: bool,
}

/// Sessions that publish at once, and events per publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    sessions: usize,
    batch: usize,
}

const LOADS: [(usize, usize); 9] =
    [(1, 1), (1, 10), (1, 100), (10, 1), (10, 10), (10, 100), (100, 1), (100, 10), (100, 100)];

/// What is measured on.
struct Setup {
    name: &'static str,
    nats: Nats,
    /// The processes of its servers.
    ids: Vec<u32>,
    /// They end when this is dropped.
    _servers: (Option<Server>, Option<NatsCluster>),
}

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    per_second: f64,
    p50: f64,
    p99: f64,
    /// Publishes that had to be repeated at once, per publish.
    again: f64,
    /// Syncs of all nodes per event.
    syncs: Option<f64>,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let mut setups = vec![single("one node, 10s", "10s").await, single("one node, always", "always").await];
    if !options.single {
        setups.push(cluster("R3, 10s", "10s").await);
        setups.push(cluster("R3, always", "always").await);
    }
    let mut measured: BTreeMap<(usize, Load), Vec<Figures>> = BTreeMap::new();
    let mut run = 0;
    for round in 0..=options.rounds {
        for (sessions, batch) in LOADS {
            let load = Load { sessions, batch };
            for (index, setup) in setups.iter().enumerate() {
                run += 1;
                let last = round == options.rounds;
                let figures = measure(setup, load, &options, run, last).await;
                measured.entry((index, load)).or_default().push(figures);
            }
        }
    }
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    println!(
        "{:<17} {:>8} {:>6} {:>10} {:>9} {:>9} {:>8} {:>12}",
        "", "sessions", "batch", "events/s", "p50 ms", "p99 ms", "repeated", "syncs/event"
    );
    for ((index, load), figures) in measured {
        let median = |of: fn(&Figures) -> f64| {
            let mut all: Vec<f64> = figures[..options.rounds].iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let syncs = figures[options.rounds].syncs.map_or_else(|| "-".to_owned(), |syncs| format!("{syncs:.3}"));
        println!(
            "{:<17} {:>8} {:>6} {:>10.0} {:>9.2} {:>9.2} {:>8.2} {:>12}",
            setups[index].name,
            load.sessions,
            load.batch,
            median(|figures| figures.per_second),
            median(|figures| figures.p50),
            median(|figures| figures.p99),
            median(|figures| figures.again),
            syncs
        );
    }
}

async fn single(name: &'static str, sync: &str) -> Setup {
    let server = Server::start_with(NatsOptions { more: jetstream(sync), ..NatsOptions::default() }).await;
    Setup { name, nats: connect(server.url()).await, ids: vec![server.id()], _servers: (Some(server), None) }
}

async fn cluster(name: &'static str, sync: &str) -> Setup {
    let mut cluster = NatsCluster::reserve(&[]);
    cluster.servers.iter_mut().for_each(|server| server.options().more = jetstream(sync));
    join_all(cluster.servers.iter_mut().map(Server::resume)).await;
    let ids = cluster.servers.iter().map(Server::id).collect();
    Setup { name, nats: connect(cluster.url()).await, ids, _servers: (None, Some(cluster)) }
}

/// As in our configuration, but for how often the store is synced.
fn jetstream(sync: &str) -> String {
    format!("jetstream {{ max_file_store: 16GB, max_memory_store: 256MB, sync_interval: {sync} }}")
}

async fn connect(url: String) -> Nats {
    let mut common = Common::with_operations_port(0);
    common.nats.url = url;
    common.nats.request_timeout = HumanDuration::from_secs(20);
    let context = Context::new("bench", common);
    let nats = nats::connect(&context.common.nats, "nats", &context).await.expect("the server answers");
    let events = StreamSpec::new("EVENTS", ["gm.>"]);
    eventually("the stream is there", Duration::from_secs(60), async || ensure_stream(&nats, &events).await).await;
    nats
}

/// Publishes for a while on as many sessions as the load has, one publish in flight on each.
async fn measure(setup: &Setup, load: Load, options: &Options, run: usize, counted: bool) -> Figures {
    let fences = (0..load.sessions).map(|session| open(&setup.nats, run, session));
    let fences = join_all(fences).await;
    let traces: Vec<_> = setup.ids.iter().filter(|_| counted).filter_map(|id| Trace::attach(*id)).collect();
    let first = fences.iter().map(|(_, fence)| *fence).max().unwrap_or_default() + 1;
    let names: Vec<String> = fences.iter().map(|(session, _)| session.clone()).collect();
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(options.seconds);
    let payload = Bytes::from(vec![b'x'; options.bytes]);
    let again = Arc::new(AtomicU64::new(0));
    let sessions = fences.into_iter().map(|(session, fence)| {
        let (nats, payload, again) = (setup.nats.clone(), payload.clone(), Arc::clone(&again));
        tokio::spawn(async move { run_session(&nats, &session, fence, load.batch, &payload, end, &again).await })
    });
    let taken: Vec<Vec<Duration>> = join_all(sessions).await.into_iter().map(Result::unwrap).collect();
    let elapsed = begun.elapsed().as_secs_f64();
    let syncs: Option<u64> = traces.into_iter().map(Trace::syncs).sum();
    let acknowledged = names.into_iter().zip(taken.iter().map(|taken| taken.len() * load.batch)).collect();
    judge(&setup.nats, first, acknowledged).await;
    let taken = taken.concat();
    let events = (taken.len() * load.batch) as f64;
    let mut sorted: Vec<f64> = taken.iter().map(|taken| taken.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or_default();
    Figures {
        per_second: events / elapsed,
        p50: at(0.5),
        p99: at(0.99),
        again: again.load(Ordering::Relaxed) as f64 / taken.len() as f64,
        syncs: syncs.filter(|_| counted).map(|syncs| syncs as f64 / events),
    }
}

/// Reads back what a load has stored from that sequence on: of each session as many events as were acknowledged, one after
/// the other by their ids.
async fn judge(nats: &Nats, first: u64, acknowledged: BTreeMap<String, usize>) {
    let stream = nats.jetstream().get_stream("EVENTS").await.expect("the stream is there");
    let last = stream.cached_info().state.last_sequence;
    let consumer = OrderedConfig {
        deliver_subject: nats.client().new_inbox(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
        headers_only: true,
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(consumer).await.expect("a consumer");
    let mut messages = consumer.messages().await.expect("messages");
    let mut stored: BTreeMap<String, usize> = acknowledged.keys().map(|session| (session.clone(), 0)).collect();
    let mut seq = first - 1;
    while seq < last {
        let message = messages.next().await.expect("no end").expect("a message");
        seq = message.info().expect("a delivery").stream_sequence;
        let session = message.subject.split('.').nth(1).expect("a session");
        let count = stored.get_mut(session).unwrap_or_else(|| panic!("{} is of no session", message.subject));
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).map(ToString::to_string);
        assert_eq!(id, Some(format!("{session}.{count}")), "stored at {seq}");
        *count += 1;
    }
    assert_eq!(stored, acknowledged, "stored, acknowledged");
}

/// Claims an action, as the bridge does.
async fn open(nats: &Nats, run: usize, session: usize) -> (String, u64) {
    let name = format!("r{run}s{session}");
    let fence = publish(nats, &format!("gm.{name}._action"), HeaderMap::new(), "{}".into(), Expect::default()).await;
    (name, fence.expect("claimed").seq)
}

async fn run_session(
    nats: &Nats,
    session: &str,
    fence: u64,
    batch: usize,
    payload: &Bytes,
    end: Instant,
    again: &AtomicU64,
) -> Vec<Duration> {
    let (subject, fenced) = (format!("gm.{session}.llm_text"), format!("gm.{session}._action"));
    let mut published = 0;
    let mut taken = Vec::new();
    while Instant::now() < end {
        let ids: Vec<String> = (published..published + batch).map(|k| format!("{session}.{k}")).collect();
        published += batch;
        let begun = Instant::now();
        // On a cluster the acknowledgement comes a moment before the fence may be used again.
        while !stored(nats, &subject, payload, &ids, &fenced, fence).await {
            again.fetch_add(1, Ordering::Relaxed);
        }
        taken.push(begun.elapsed());
    }
    taken
}

/// Publishes events, one by itself, more of them as a batch. False if the fence was in use.
async fn stored(nats: &Nats, subject: &str, payload: &Bytes, ids: &[String], fenced: &str, fence: u64) -> bool {
    let expect = |id| Expect { last_subject_sequence: Some(fence), subject: Some(fenced), message_id: Some(id) };
    let message =
        |id| BatchMessage { subject, headers: HeaderMap::new(), payload: payload.clone(), expect: expect(id) };
    let done = match ids {
        [id] => publish(nats, subject, HeaderMap::new(), payload.clone(), expect(id)).await.map(drop),
        ids => match publish_batch(nats, ids.iter().map(|id| message(id)).collect()).await {
            Err(BatchError::Publish(error)) => Err(error),
            done => {
                done.expect("taken");
                Ok(())
            }
        },
    };
    match done {
        Ok(()) => true,
        Err(PublishError::Retry) => false,
        Err(error) => panic!("not stored: {error}"),
    }
}

/// `strace`, counting one server's syncs.
struct Trace {
    child: Child,
    report: tempfile::NamedTempFile,
}

impl Trace {
    fn attach(id: u32) -> Option<Self> {
        let report = tempfile::NamedTempFile::new().ok()?;
        let child = Command::new("strace")
            .args(["-f", "-c", "-e", "trace=fsync,fdatasync", "-o"])
            .arg(report.path())
            .args(["-p", &id.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.ok()?;
        // Its first line says that it is attached.
        let mut line = String::new();
        std::io::BufReader::new(child.stderr.as_mut()?).read_line(&mut line).ok()?;
        Some(Self { child, report })
    }

    fn syncs(mut self) -> Option<u64> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok()?;
        self.child.wait().ok()?;
        let text = std::fs::read_to_string(self.report.path()).ok()?;
        // % time, seconds, usecs/call, calls, [errors,] syscall
        let calls = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.last().is_some_and(|name| name.ends_with("sync")).then(|| words[3].parse::<u64>().unwrap_or(0))
        };
        Some(text.lines().filter_map(calls).sum())
    }
}
