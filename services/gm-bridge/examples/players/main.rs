//! How many players one NATS, one bridge and one edge carry, and how soon a player sees what a Game Master said.
//! `./scripts/bench players` runs it.
//!
//! A player's session brings about 1.2 events a second (recorded). Each load has so many sessions at that pace, on one of two
//! ways: from the Game Master through a bridge (fenced, one publish in flight per session), or plainly published, as the
//! arena engine does. An edge takes in everything, as it does in every house, and a hundred of the sessions are watched.
//! What came of a load: events stored per second, how far the log was behind at the end, from the byte sent to the stored
//! event and to the client's frame, and what each process took of the processor for it. Everything that was sent must be in
//! the log in the end, on the first way; on the second what the log lacks is counted.
//!
//! The bridge's actions run in a process of their own, this program again: a pool of a thousand Game Masters is not what
//! is measured. Game Masters and clients are in this one, so that both ends of a way are read from one clock.

#![allow(clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails ends")]

mod bridge;
mod cpu;
mod engine;
mod master;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::jetstream::consumer::{DeliverPolicy, push::OrderedConfig};
use clap::Parser;
use futures_util::{StreamExt as _, future::join_all};
use herald_protocol::SessionId;
use herald_runtime::{
    Context,
    config::Common,
    jetstream::{BucketSpec, StreamSpec, epoch::EpochOwner, stream_info},
    nats::{self, Nats},
};
use herald_testkit::{Edge, Nats as Server, NatsOptions, Service, process::raise_descriptors, ws};
use tokio::time::sleep;

use cpu::Cpu;

/// Measures how many players can be carried.
#[derive(Debug, Parser)]
#[command(name = "players")]
struct Options {
    /// Seconds of each load.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Only loads of that way: `gm` or `arena`.
    #[arg(long)]
    only: Option<String>,
    /// Only loads of at most so many sessions.
    #[arg(long, default_value_t = u64::MAX)]
    most: u64,
    /// How often the store is synced.
    #[arg(long, default_value = "10s")]
    sync: String,
    /// Be the bridge of a run: its NATS, its Game Masters, and how many.
    #[arg(long, hide = true, num_args = 3)]
    bridge: Option<Vec<String>>,
}

/// Which way events take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Game Master, bridge, stream.
    Gm,
    /// Engine, stream.
    Arena,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    way: Way,
    sessions: u64,
    /// Events a second of each.
    pace: f64,
}

/// What a player's session brings about, as recorded.
const PACE: f64 = 1.2;

const LOADS: [Load; 10] = [
    Load { way: Way::Gm, sessions: 100, pace: 10.0 },
    Load { way: Way::Gm, sessions: 500, pace: PACE },
    Load { way: Way::Gm, sessions: 1_000, pace: PACE },
    Load { way: Way::Gm, sessions: 2_000, pace: PACE },
    Load { way: Way::Gm, sessions: 5_000, pace: PACE },
    Load { way: Way::Arena, sessions: 100, pace: 10.0 },
    Load { way: Way::Arena, sessions: 5_000, pace: PACE },
    Load { way: Way::Arena, sessions: 20_000, pace: PACE },
    Load { way: Way::Arena, sessions: 50_000, pace: PACE },
    Load { way: Way::Arena, sessions: 100_000, pace: PACE },
];

/// Sessions that somebody watches.
const WATCHED: u64 = 100;
/// What counts begins so long after the first event.
const WARM_UP: Duration = Duration::from_secs(2);
/// Nothing more comes where nothing came for so long.
const QUIET: Duration = Duration::from_secs(5);
/// A connection of each session at both of its ends.
const DESCRIPTORS: u64 = 20_000;

#[tokio::main]
async fn main() {
    let options = Options::parse();
    raise_descriptors(DESCRIPTORS);
    if let Some(told) = &options.bridge {
        return bridge::be(&told[0], &told[1], told[2].parse().unwrap()).await;
    }
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    println!(
        "{:<6} {:>8} {:>9} {:>9} {:>7} {:>7} {:>17} {:>17} {:>29} {:>15}",
        "way",
        "sessions",
        "sent/s",
        "stored/s",
        "behind",
        "missing",
        "stored p50/p99 ms",
        "client p50/p99 ms",
        "us per event bridge/nats/edge",
        "cores b/n/e"
    );
    let wanted = |load: &&Load| {
        let way = format!("{:?}", load.way).to_lowercase();
        load.sessions <= options.most && options.only.as_ref().is_none_or(|only| *only == way)
    };
    for load in LOADS.iter().filter(wanted) {
        println!("{}", measure(*load, &options).await);
    }
}

/// What is sent, and by which clock.
struct Sender {
    begun: Instant,
    sent: AtomicU64,
}

impl Sender {
    /// An event of now. The topic of what is watched is another one, so that it can be consumed by itself.
    fn event(&self, session: u64) -> String {
        self.sent.fetch_add(1, Ordering::Relaxed);
        format!(
            "{{\"type\":\"{}\",\"us\":{},\"text\":\"{:x<160}\"}}",
            topic(session),
            self.begun.elapsed().as_micros(),
            ""
        )
    }

    fn late_ms(&self, at: Instant, us: &serde_json::Value) -> f64 {
        let at = at.saturating_duration_since(self.begun).as_micros() as f64;
        (at - us.as_u64().unwrap() as f64) / 1e3
    }
}

fn topic(session: u64) -> &'static str {
    if session < WATCHED { "watched" } else { "llm_text" }
}

fn session_id(session: u64) -> SessionId {
    SessionId::new(&format!("p{session}")).unwrap()
}

/// NATS, its stream, an edge.
struct House {
    server: Server,
    nats: Nats,
    edge: Service,
    _owner: EpochOwner,
    _context: Context,
}

impl House {
    async fn build(sync: &str) -> Self {
        let jetstream = format!("jetstream {{ max_file_store: 16GB, max_memory_store: 256MB, sync_interval: {sync} }}");
        let server = Server::start_with(NatsOptions { more: jetstream, ..NatsOptions::default() }).await;
        let mut common = Common::with_operations_port(0);
        common.nats.url = server.url();
        let context = Context::new("bench", common);
        let nats = nats::connect(&context.common.nats, "nats", &context).await.unwrap();
        let buckets = ["ACTIONS", "SESSIONS", "ALIASES"].map(BucketSpec::new).to_vec();
        let owner = EpochOwner::spawn(&nats, StreamSpec::new("EVENTS", ["gm.>", "arena.>"]), buckets);
        owner.ready().await;
        let edge = Edge::new(&server).start().await;
        Self { server, nats, edge, _owner: owner, _context: context }
    }

    /// The last sequence of the stream, so the number of what it stored.
    async fn stored(&self) -> u64 {
        stream_info(&self.nats, "EVENTS").await.unwrap().last_seq
    }
}

async fn measure(load: Load, options: &Options) -> String {
    let mut house = House::build(&options.sync).await;
    let sender = Arc::new(Sender { begun: Instant::now(), sent: AtomicU64::new(0) });
    let masters = master::Masters::start(load.pace, Arc::clone(&sender)).await;
    let bridge = match load.way {
        Way::Gm => Some(bridge::Bridge::start(&house.server.url(), masters.url(), load.sessions).await),
        Way::Arena => None,
    };
    let root = if load.way == Way::Gm { "gm" } else { "arena" };
    let watch =
        async |session| ws::Client::connect(&house.edge.ws(&format!("/ws/p{session}?after=0")), ws::PLAIN).await;
    let clients = join_all((0..WATCHED.min(load.sessions)).map(watch)).await;
    let consumer = tokio::spawn(consume(house.nats.clone(), root, Arc::clone(&sender)));
    let before = house.stored().await;

    let engine = match load.way {
        Way::Gm => {
            masters.open(true);
            None
        }
        Way::Arena => Some(engine::Engine::start(&house.server.url(), load, Arc::clone(&sender)).await),
    };
    sleep(WARM_UP).await;
    let pids = [
        bridge.as_ref().map(bridge::Bridge::id),
        house.server.process().map(|it| it.id()),
        Some(house.edge.process().id()),
    ];
    let (began, cpu, sent, stored) =
        (Instant::now(), Cpu::of(pids), sender.sent.load(Ordering::Relaxed), house.stored().await);
    sleep(Duration::from_secs(options.seconds)).await;
    let (took, cpu) = (began.elapsed().as_secs_f64(), Cpu::of(pids).since(&cpu));
    let (sent, stored) = (sender.sent.load(Ordering::Relaxed) - sent, house.stored().await - stored);
    let behind = sender.sent.load(Ordering::Relaxed) as i64 - (house.stored().await - before) as i64;

    masters.open(false);
    if let Some(engine) = engine {
        engine.stop().await;
    }
    let missing = missing(&house, &sender, before).await;
    assert!(missing == 0 || load.way == Way::Arena, "{missing} events were sent and are not in the log");
    let stored_late = consumer.await.unwrap();
    let client_late = clients.iter().flat_map(|client| {
        client.check_order();
        client.events().into_iter().map(|frame| sender.late_ms(frame.at, &frame.data()["us"]))
    });
    let client_late: Vec<f64> = client_late.collect();
    let events = stored.max(1) as f64;
    let per_event = cpu.0.map(|seconds| format!("{:.1}", seconds * 1e6 / events)).join(" / ");
    let cores = cpu.0.map(|seconds| format!("{:.2}", seconds / took)).join(" ");
    format!(
        "{root:<6} {:>8} {:>9.0} {:>9.0} {behind:>7} {missing:>7} {:>17} {:>17} {per_event:>29} {cores:>15}",
        load.sessions,
        sent as f64 / took,
        events / took,
        percentiles(stored_late),
        percentiles(client_late),
    )
}

/// Waits until everything that was sent is in the log, or nothing more comes for a while; what it lacks.
async fn missing(house: &House, sender: &Sender, before: u64) -> u64 {
    let (mut stored, mut changed) = (0, Instant::now());
    loop {
        let now = house.stored().await - before;
        // Read anew: whoever was about to send has sent.
        let lacks = sender.sent.load(Ordering::Relaxed) - now;
        if lacks == 0 || changed.elapsed() > QUIET {
            return lacks;
        }
        if now != stored {
            (stored, changed) = (now, Instant::now());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Reads what is watched as an edge does, until nothing comes any more; how late each event was.
async fn consume(nats: Nats, root: &str, sender: Arc<Sender>) -> Vec<f64> {
    let consumer = OrderedConfig {
        deliver_subject: nats.client().new_inbox(),
        filter_subject: format!("{root}.*.watched"),
        deliver_policy: DeliverPolicy::All,
        ..OrderedConfig::default()
    };
    let stream = nats.jetstream().get_stream("EVENTS").await.unwrap();
    let mut events = stream.create_consumer(consumer).await.unwrap().messages().await.unwrap();
    let mut late = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(QUIET, events.next()).await {
        let payload: serde_json::Value = serde_json::from_slice(&event.unwrap().payload).unwrap();
        late.push(sender.late_ms(Instant::now(), &payload["us"]));
    }
    late
}

fn percentiles(mut late: Vec<f64>) -> String {
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late.get((late.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    format!("{:.2} / {:.2}", at(0.5), at(0.99))
}
