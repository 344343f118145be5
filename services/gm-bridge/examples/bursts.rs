//! What batches do for a Game Master's events on their way through gm-bridge: how many are stored per second, and how soon
//! the first and the last event of a burst are seen by a consumer. `./scripts/bench bursts` runs it.
//!
//! The same bursts go through a bridge that makes batches (`action.batch = "always"`) and one that never does, on one node
//! and on three, with the store synced every 10 s and always. The loads are measured by turns, and the median of the rounds
//! is printed. Of every session each event has to come once and in order, else this panics.

#![allow(clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails ends")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::jetstream::consumer::{DeliverPolicy, push::OrderedConfig};
use clap::Parser;
use futures_util::{StreamExt as _, future::BoxFuture, future::join_all};
use gm_bridge::{
    action::{Actions, Command, Lease, LeaseError},
    config::{ActionConfig, ActionPolicy, BatchPolicy, GmConfig},
    game_master::{GameMaster, GameMasters},
    redact::Redactor,
};
use herald_protocol::{
    InstanceId, SessionId,
    record::{ActionKind, Lang},
};
use herald_runtime::{
    Context,
    config::Common,
    jetstream::{BucketSpec, StreamSpec, ensure_bucket, ensure_stream},
    nats::{self, Nats},
};
use herald_testkit::{Nats as Server, NatsCluster, NatsOptions, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

/// Measures bursts through a bridge.
#[derive(Debug, Parser)]
#[command(name = "bursts")]
struct Options {
    /// Seconds per load, server and round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Leave the cluster out.
    #[arg(long)]
    single: bool,
}

/// Sessions at once; each has so many events come in one piece, again after each pause.
const LOADS: [Load; 5] = [
    Load { sessions: 1, burst: 1, pause_ms: 20 },
    Load { sessions: 20, burst: 1, pause_ms: 20 },
    Load { sessions: 1, burst: 100, pause_ms: 100 },
    Load { sessions: 5, burst: 100, pause_ms: 100 },
    Load { sessions: 20, burst: 100, pause_ms: 100 },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    sessions: usize,
    burst: usize,
    pause_ms: u64,
}

const POLICIES: [BatchPolicy; 2] = [BatchPolicy::Never, BatchPolicy::Always];

/// One NATS, and a bridge of each policy.
struct Setup {
    name: &'static str,
    nats: Nats,
    bridges: Vec<(Actions, Context)>,
    /// They end when this is dropped.
    _servers: (Option<Server>, Option<NatsCluster>),
}

#[derive(Debug, Clone, Copy)]
struct Figures {
    per_second: f64,
    /// Of the first and the last event of a burst, ms.
    first: [f64; 2],
    last: [f64; 2],
    /// Share of events that came in a batch.
    batched: f64,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let gm = BurstingMaster::start().await;
    let mut setups = Vec::new();
    for (name, sync) in [("one node, 10s", "10s"), ("one node, always", "always")] {
        let server = Server::start_with(NatsOptions { more: jetstream(sync), ..NatsOptions::default() }).await;
        setups.push(set_up(name, server.url(), (Some(server), None), &gm).await);
    }
    for (name, sync) in [("R3, 10s", "10s"), ("R3, always", "always")].into_iter().filter(|_| !options.single) {
        let mut cluster = NatsCluster::reserve(&[]);
        cluster.servers.iter_mut().for_each(|server| server.options().more = jetstream(sync));
        join_all(cluster.servers.iter_mut().map(Server::resume)).await;
        setups.push(set_up(name, cluster.url(), (None, Some(cluster)), &gm).await);
    }
    let mut measured: BTreeMap<(usize, Load, usize), Vec<Figures>> = BTreeMap::new();
    let mut run = 0;
    for _ in 0..options.rounds {
        for load in LOADS {
            for (index, setup) in setups.iter().enumerate() {
                for policy in 0..POLICIES.len() {
                    run += 1;
                    gm.behave(load);
                    let figures = measure(setup, policy, load, options.seconds, run).await;
                    measured.entry((index, load, policy)).or_default().push(figures);
                }
            }
        }
    }
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    println!(
        "{:<17} {:>8} {:>5} {:>6} {:>9} {:>16} {:>16} {:>9}",
        "", "sessions", "burst", "batch", "events/s", "first p50/p99 ms", "last p50/p99 ms", "in batches"
    );
    for ((index, load, policy), figures) in measured {
        let median = |of: &dyn Fn(&Figures) -> f64| {
            let mut all: Vec<f64> = figures.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "{:<17} {:>8} {:>5} {:>6} {:>9.0} {:>16} {:>16} {:>8.0}%",
            setups[index].name,
            load.sessions,
            load.burst,
            format!("{:?}", POLICIES[policy]).to_lowercase(),
            median(&|figures| figures.per_second),
            format!("{:.2} / {:.2}", median(&|figures| figures.first[0]), median(&|figures| figures.first[1])),
            format!("{:.2} / {:.2}", median(&|figures| figures.last[0]), median(&|figures| figures.last[1])),
            100.0 * median(&|figures| figures.batched),
        );
    }
}

/// As in our configuration, but for how often the store is synced.
fn jetstream(sync: &str) -> String {
    format!("jetstream {{ max_file_store: 16GB, max_memory_store: 256MB, sync_interval: {sync} }}")
}

async fn set_up(
    name: &'static str,
    url: String,
    servers: (Option<Server>, Option<NatsCluster>),
    gm: &BurstingMaster,
) -> Setup {
    let context = |instance: &str| {
        let mut common = Common::with_operations_port(0);
        common.nats.url = url.clone();
        common.instance = InstanceId::new(instance).unwrap();
        Context::new("bench", common)
    };
    let own = context("own");
    let nats = nats::connect(&own.common.nats, "nats", &own).await.unwrap();
    eventually("the stream and the bucket are there", Duration::from_secs(60), async || {
        ensure_stream(&nats, &StreamSpec::new("EVENTS", ["gm.>"])).await?;
        ensure_bucket(&nats, &BucketSpec::new("ACTIONS")).await
    })
    .await;
    let mut bridges = Vec::new();
    for policy in POLICIES {
        let context = context(&format!("{policy:?}"));
        let nats = nats::connect(&context.common.nats, "nats", &context).await.unwrap();
        let config = ActionConfig { batch: policy, ..ActionConfig::default() };
        let lease = Arc::new(OneForAll(gm.game_master()));
        let closed = context.shutdown.token();
        bridges.push((Actions::start(&nats, &config, Redactor::new(&[]), lease, &context, closed), context));
    }
    Setup { name, nats, bridges, _servers: servers }
}

/// Lets a load run for a while, and watches the stream as an edge does.
async fn measure(setup: &Setup, policy: usize, load: Load, seconds: f64, run: usize) -> Figures {
    let stream = setup.nats.jetstream().get_stream("EVENTS").await.unwrap();
    let consumer = OrderedConfig {
        deliver_subject: setup.nats.client().new_inbox(),
        filter_subject: "gm.*.llm_text".to_owned(),
        deliver_policy: DeliverPolicy::New,
        ..OrderedConfig::default()
    };
    let mut events = stream.create_consumer(consumer).await.unwrap().messages().await.unwrap();
    let (actions, _) = &setup.bridges[policy];
    let sessions: Vec<SessionId> =
        (0..load.sessions).map(|s| SessionId::new(&format!("r{run}-{s}")).unwrap()).collect();
    let command = Command::Propose { lang: Lang::En };
    let begun = Instant::now();
    join_all(sessions.iter().map(async |session| actions.run(session, command, ActionPolicy::Cancel).await.unwrap()))
        .await;
    let (mut first, mut last, mut seen, mut batched) = (Vec::new(), Vec::new(), 0_u64, 0_u64);
    // Of each session: when the burst began that its last event is of, and how many of it have come.
    let mut heard: HashMap<String, (u64, usize)> = HashMap::new();
    let end = begun + Duration::from_secs_f64(seconds);
    while let Ok(Some(event)) = tokio::time::timeout_at(end, events.next()).await {
        let event = event.unwrap();
        seen += 1;
        batched += u64::from(event.headers.as_ref().is_some_and(|headers| headers.get("Nats-Batch-Id").is_some()));
        let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        let us = payload["us"].as_u64().unwrap();
        let late = (now_us() - us) as f64 / 1000.0;
        let place = payload["k"].as_u64().unwrap() as usize;
        let (burst, come) = heard.entry(event.subject.split('.').nth(1).unwrap().to_owned()).or_default();
        if *come == load.burst {
            *come = 0;
        }
        let follows = if place == 0 { us > *burst } else { us == *burst };
        assert!(place == *come && follows, "{}: {place} of {us} behind {come} of {burst}", event.subject);
        (*burst, *come) = (us, place + 1);
        if place == 0 {
            first.push(late);
        }
        if place + 1 == load.burst {
            last.push(late);
        }
    }
    let per_second = seen as f64 / begun.elapsed().as_secs_f64();
    join_all(sessions.iter().map(async |session| {
        eventually("the action is over", Duration::from_secs(60), async || actions.cancel(session).await).await
    }))
    .await;
    let percentiles = |mut late: Vec<f64>| {
        late.sort_by(f64::total_cmp);
        [0.5, 0.99].map(|share| late.get((late.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN))
    };
    Figures {
        per_second,
        first: percentiles(first),
        last: percentiles(last),
        batched: batched as f64 / seen.max(1) as f64,
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// A Game Master for any number of sessions, whose streams never end.
struct BurstingMaster {
    url: String,
    load: Arc<Mutex<Load>>,
}

impl BurstingMaster {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let load = Arc::new(Mutex::new(LOADS[0]));
        let current = Arc::clone(&load);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let load = *current.lock().unwrap();
                tokio::spawn(answer(stream, load));
            }
        });
        Self { url, load }
    }

    /// What streams are like from now on.
    fn behave(&self, load: Load) {
        *self.load.lock().unwrap() = load;
    }

    fn game_master(&self) -> GameMaster {
        GameMasters::new(&GmConfig::default()).unwrap().at(&self.url).unwrap()
    }
}

/// Bursts, until the other side has had enough.
async fn answer(mut stream: TcpStream, load: Load) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; 4096];
    let _request = stream.read(&mut request).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await?;
    let text = "x".repeat(120);
    loop {
        let us = now_us();
        let event = |k| format!("data: {{\"type\":\"llm_text\",\"us\":{us},\"k\":{k},\"text\":\"{text}\"}}\n\n");
        let burst: String = (0..load.burst).map(event).collect();
        stream.write_all(burst.as_bytes()).await?;
        sleep(Duration::from_millis(load.pause_ms)).await;
    }
}

/// Every session plays on the one Game Master.
struct OneForAll(GameMaster);

impl Lease for OneForAll {
    fn begin<'a>(
        &'a self,
        _session: &'a SessionId,
        _kind: ActionKind,
        _action: u64,
    ) -> BoxFuture<'a, Result<Option<GameMaster>, LeaseError>> {
        Box::pin(std::future::ready(Ok(Some(self.0.clone()))))
    }

    fn finish<'a>(&'a self, _session: &'a SessionId, _action: u64, _by_itself: bool) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}
