//! `./scripts/bench cold`: reading back what no ring holds, from a stream as large as it gets.
//!
//! The stream is filled round robin: of each session one event, then of each the next. So the events of a session lie as far
//! apart as they can. Then sessions that nobody has asked for are asked for: from the moment a client knocks until its first
//! event and until it has everything, one at a time and many at once. With `--storm`, an edge has died and all its clients come
//! back to one whose rings are empty.
//!
//! ```text
//! --sessions 20000 --events 200 --size 300   the stream, sizes in bytes
//! --folder DIR                               keeps the store there, and takes what is there already
//! --samples 60 --at-once 50                  sessions asked for by each row of the table, and how many at once
//! --plain                                    the originals' contract in place of herald.v1
//! --set KEY=VALUE                            the edge's configuration, as often as wanted
//! --fresh                                    asks an edge that has just started, without waiting for what it prepares
//! --intake                                   what an event that nobody watches costs the edge, while the stream is filled
//! --storm --clients 5000 --watched 500 --behind 200 --within-ms 2000
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a benchmark panics and prints")]

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use herald_testkit::{Edge, Nats, NatsOptions, Service, process::raise_descriptors};

use client::{Reader, Seen};
use support::Engine;

#[path = "cold/client.rs"]
mod client;
#[path = "../tests/edge/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole edge")]
mod support;

/// What a session says, over and over; the last one is shown.
#[rustfmt::skip]
const TURN: &[&str] = &[
    "gm._action", "gm.phase", "gm.llm_text", "gm.llm_text", "gm.llm_text", "gm.llm_text", "gm.llm_text", "gm.llm_text",
    "gm.tool_call", "gm.tool_result", "gm.llm_text", "gm.llm_text", "gm.llm_text", "gm.proposal", "gm.images",
    "arena.input.waiting", "gm.choice_resolved", "arena.input.fakenews", "arena.round.start", "arena.phase.start",
    "arena.agent.a1.status", "arena.agent.a1.output", "arena.agent.a2.status", "arena.agent.a2.output",
    "arena.agent.a3.status", "arena.agent.a3.output", "arena.agent.a4.status", "arena.agent.a4.output",
    "arena.state.global", "gm.llm_text", "gm.llm_text", "gm.llm_text", "gm.llm_text", "gm.llm_text", "gm.llm_text",
    "gm.reactions", "gm.indices_update", "gm.strategy", "gm.turn_update", "arena.event.death",
];
const HIDDEN: &[&str] = &["gm._action", "arena.input.fakenews"];
/// One publish in so many is acknowledged; so many of these may be outstanding. The server drops what comes too fast.
const ACKNOWLEDGED: (u64, usize) = (100, 40);

struct Options {
    sessions: u64,
    events: u64,
    size: usize,
    folder: Option<PathBuf>,
    samples: usize,
    at_once: usize,
    plain: bool,
    fresh: bool,
    intake: bool,
    storm: bool,
    clients: usize,
    watched: usize,
    behind: u64,
    within: Duration,
    set: Vec<(String, String)>,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            sessions: 20_000,
            events: 200,
            size: 300,
            folder: None,
            samples: 60,
            at_once: 50,
            plain: false,
            fresh: false,
            intake: false,
            storm: false,
            clients: 5000,
            watched: 500,
            behind: 200,
            within: Duration::from_secs(2),
            set: Vec::new(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--plain" => options.plain = true,
                "--fresh" => options.fresh = true,
                "--intake" => options.intake = true,
                "--storm" => options.storm = true,
                _ => {
                    let value = words.next().unwrap_or_else(|| panic!("{word} needs a value"));
                    let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{word} {value}: no number"));
                    match word.as_str() {
                        "--sessions" => options.sessions = number(),
                        "--events" => options.events = number(),
                        "--size" => options.size = number() as usize,
                        "--folder" => options.folder = Some(value.into()),
                        "--samples" => options.samples = number() as usize,
                        "--at-once" => options.at_once = number() as usize,
                        "--clients" => options.clients = number() as usize,
                        "--watched" => options.watched = number() as usize,
                        "--behind" => options.behind = number(),
                        "--within-ms" => options.within = Duration::from_millis(number()),
                        "--set" => {
                            let (key, value) = value.split_once('=').expect("--set KEY=VALUE");
                            options.set.push((key.to_owned(), value.to_owned()));
                        }
                        _ => panic!("unknown flag {word}"),
                    }
                }
            }
        }
        assert!(!options.storm || options.behind < options.events, "--behind must be less than --events");
        options
    }

    /// Where the event of a session stands in the stream.
    fn seq(&self, session: u64, event: u64) -> u64 {
        event * self.sessions + session + 1
    }

    /// How many of a session's events behind the first `from` are shown.
    fn shown(&self, from: u64) -> usize {
        (from..self.events).filter(|at| !HIDDEN.contains(&topic(self.events, *at))).count()
    }
}

fn topic(events: u64, at: u64) -> &'static str {
    // Counted from the end: the last one is shown.
    let from_end = (events - 1 - at) as usize % TURN.len();
    TURN[TURN.len() - 1 - from_end]
}

fn name(session: u64) -> String {
    format!("s{session:05}-8c1e-4b7a-9f1e-77aa01c0ffee")
}

#[tokio::main]
async fn main() {
    let options = Options::read();
    raise_descriptors(20_000);
    let mut nats = Nats::start_with(NatsOptions { folder: options.folder.clone(), ..NatsOptions::default() }).await;
    let engine = Engine::start(&nats).await;
    if options.intake {
        return intake(&nats, &engine, &options).await;
    }
    fill(&engine, &options).await;
    // What was just written is in the server's memory: it is to be as cold as after a night.
    nats.stop().await;
    nats.resume().await;
    if options.storm {
        storm(&nats, &options).await;
    } else {
        table(&nats, &options).await;
    }
}

async fn fill(engine: &Engine, options: &Options) {
    let jetstream = engine.nats.jetstream();
    let mut stream = jetstream.get_stream("EVENTS").await.unwrap();
    let messages = options.sessions * options.events;
    if stream.info().await.unwrap().state.messages == 0 {
        let begun = Instant::now();
        let client = engine.nats.client();
        let pad = "x".repeat(options.size.saturating_sub(40));
        let mut acks = VecDeque::new();
        let mut count = 0_u64;
        for event in 0..options.events {
            let (root, topic) = topic(options.events, event).split_once('.').unwrap();
            for session in 0..options.sessions {
                let subject = format!("{root}.{}.{topic}", name(session));
                let payload = format!("{{\"n\":{event:012},\"s\":{session:08},\"pad\":\"{pad}\"}}").into();
                count += 1;
                if count.is_multiple_of(ACKNOWLEDGED.0) || count == messages {
                    acks.push_back(jetstream.publish(subject, payload).await.unwrap());
                    if acks.len() > ACKNOWLEDGED.1 {
                        acks.pop_front().unwrap().await.unwrap();
                    }
                } else {
                    client.publish(subject, payload).await.unwrap();
                }
            }
        }
        for ack in acks {
            ack.await.unwrap();
        }
        println!("filled in {:.0} s", begun.elapsed().as_secs_f64());
    }
    let state = stream.info().await.unwrap().state.clone();
    assert_eq!((state.first_sequence, state.messages), (1, messages), "the store is of another stream");
    println!(
        "{} sessions x {} events: {messages} messages, {} MB in the store; {}",
        options.sessions,
        options.events,
        state.bytes / 1_000_000,
        if options.plain { "plain" } else { "herald.v1" }
    );
}

async fn intake(nats: &Nats, engine: &Engine, options: &Options) {
    let (edge, id) = edge(nats, &Options { fresh: true, set: options.set.clone(), ..Options::read() }).await;
    let (before, begun) = (cpu(id), Instant::now());
    fill(engine, options).await;
    let messages = options.sessions * options.events;
    while edge.metric("herald_intake_events_total", &[]).await < messages as f64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (spent, seconds) = (cpu(id) - before, begun.elapsed().as_secs_f64());
    let each = spent.as_secs_f64() * 1e6 / messages as f64;
    println!("{each:.2} us of the edge's CPU for each event, at {:.0}/s; {} MB", messages as f64 / seconds, memory(id));
}

/// An edge, and its process id.
async fn edge(nats: &Nats, options: &Options) -> (Service, u32) {
    let mut edge = Edge::new(nats);
    for (key, value) in &options.set {
        edge = edge.set(key, value);
    }
    let mut edge = edge.start().await;
    if !options.fresh {
        settle(&edge, options).await;
    }
    let id = edge.process().id();
    (edge, id)
}

/// Waits until the edge has prepared what it prepares on its own.
async fn settle(edge: &Service, options: &Options) {
    let begun = Instant::now();
    let messages = (options.sessions * options.events) as f64;
    let (mut seen, mut same) = (-1.0, 0);
    while seen < messages && same < 150 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let held = edge.metric("herald_shelf_messages", &[]).await;
        same = if held == seen { same + 1 } else { 0 };
        seen = held;
    }
    let seen = seen.max(0.0) as u64;
    println!("the edge holds {seen} of {messages} messages ready after {:.1} s", begun.elapsed().as_secs_f64());
}

#[derive(Clone, Copy)]
enum Way {
    Behind(u64),
    Snapshot,
    Replay,
}

impl Way {
    fn query(self, options: &Options, session: u64) -> String {
        match self {
            Self::Behind(count) => format!("after={}", options.seq(session, options.events - 1 - count)),
            Self::Snapshot => "snapshot=1".to_owned(),
            Self::Replay => "after=0".to_owned(),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Behind(count) => format!("resume, {count} behind"),
            Self::Snapshot => "snapshot".to_owned(),
            Self::Replay => "replay of all".to_owned(),
        }
    }
}

async fn table(nats: &Nats, options: &Options) {
    let (edge, id) = edge(nats, options).await;
    println!(
        "\n{:<20} {:>7} | {:>7} {:>7} {:>7} | {:>7} {:>7} {:>7} | {:>9} {:>9} | {:>8} {:>8}",
        "", "at once", "first", "p99", "max", "all", "p99", "max", "nats cpu", "edge cpu", "nats MB", "edge MB"
    );
    let ways = [Way::Behind(20), Way::Behind(options.behind.min(options.events - 1)), Way::Snapshot, Way::Replay];
    // Each session is asked for once: from then on it is warm.
    let mut turn = 0;
    for at_once in [1, options.at_once] {
        // A plain client is not told that its snapshot is complete.
        for way in ways.into_iter().filter(|way| !(options.plain && matches!(way, Way::Snapshot))) {
            let before = (cpu(nats.id()), cpu(id));
            let sessions: Vec<_> =
                (0..options.samples as u64).map(|at| (turn + at).wrapping_mul(7919) % options.sessions).collect();
            turn += options.samples as u64;
            let asked = sessions.into_iter().map(|session| ask(&edge, options, way, session));
            let taken: Vec<_> = stream::iter(asked).buffer_unordered(at_once).collect().await;
            let each = |before: Duration, now: Duration| (now - before).as_secs_f64() * 1e3 / options.samples as f64;
            println!(
                "{:<20} {at_once:>7} | {} | {} | {:>6.1} ms {:>6.1} ms | {:>8} {:>8}",
                way.name(),
                percentiles(taken.iter().map(|(first, _)| *first)),
                percentiles(taken.iter().map(|(_, all)| *all)),
                each(before.0, cpu(nats.id())),
                each(before.1, cpu(id)),
                memory(nats.id()),
                memory(id),
            );
        }
    }
}

/// Knocks, and reads until everything is there: the time to the first event, and to the last.
async fn ask(edge: &Service, options: &Options, way: Way, session: u64) -> (Duration, Duration) {
    let path = format!("/ws/{}?{}", name(session), way.query(options, session));
    let begun = Instant::now();
    let mut reader = Reader::open(edge.address(), &path, !options.plain).await;
    let mut first = None;
    let goal = options.seq(session, options.events - 1);
    let (mut last, mut count) = (0, 0);
    loop {
        match reader.next().await {
            Seen::Event { seq } => {
                first.get_or_insert_with(|| begun.elapsed());
                assert!(seq > last, "{seq} behind {last} on {path}");
                assert_eq!(seq % options.sessions, goal % options.sessions, "an event of another session");
                (last, count) = (seq, count + 1);
                if seq == goal && !matches!(way, Way::Snapshot) {
                    break;
                }
            }
            Seen::Live => break,
            Seen::Control => {}
        }
    }
    let all = begun.elapsed();
    let expected = match way {
        Way::Behind(count) => options.shown(options.events - count),
        Way::Replay => options.shown(0),
        Way::Snapshot => count,
    };
    assert_eq!(count, expected, "events on {path}");
    (first.unwrap_or(all), all)
}

async fn storm(nats: &Nats, options: &Options) {
    let (edge, id) = edge(nats, options).await;
    let Options { clients, watched, behind, within, .. } = *options;
    println!("{clients} clients of {watched} sessions come back within {within:?}, {behind} events behind each");
    let before = (cpu(nats.id()), cpu(id));
    let begun = Instant::now();
    let taken = stream::iter((0..clients).map(|at| {
        let edge = &edge;
        async move {
            let due = within.mul_f64(at as f64 / clients as f64);
            tokio::time::sleep_until((begun + due).into()).await;
            // Those of a session come one after the other, as chance has it.
            let session = (at % watched) as u64 * 31 % options.sessions;
            let (_, all) = ask(edge, options, Way::Behind(behind), session).await;
            (all, begun.elapsed())
        }
    }))
    .buffer_unordered(clients)
    .collect::<Vec<_>>()
    .await;
    let whole = taken.iter().map(|(_, end)| *end).max().unwrap_or_default();
    let reads = edge.metric("herald_history_read_seconds_count", &[]).await;
    let frames = options.shown(options.events - behind) * clients;
    println!("  all caught up     {:.2} s after the first knock", whole.as_secs_f64());
    println!("  one client, ms    {}  (p50, p99, max, from its knock)", percentiles(taken.iter().map(|(all, _)| *all)));
    println!("  frames            {frames}, {:.0}/s", frames as f64 / whole.as_secs_f64());
    println!("  reads             {reads} of the stream's history");
    println!("  cpu               nats {:?}, edge {:?}", cpu(nats.id()) - before.0, cpu(id) - before.1);
    println!("  memory            nats {} MB, edge {} MB", memory(nats.id()), memory(id));
}

fn percentiles(taken: impl Iterator<Item = Duration>) -> String {
    let mut taken: Vec<_> = taken.collect();
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3;
    format!("{:>7.1} {:>7.1} {:>7.1}", at(0.5), at(0.99), at(1.0))
}

/// The CPU time of a process so far, threads that have ended included, to 10 ms.
fn cpu(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: the 12th and 13th field are ticks in user and in system mode.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    Duration::from_millis(10 * fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
}

/// The memory of a process, in MB.
fn memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1000
}
