//! `./scripts/test` counts the instructions of these works and compares them to `benches/instructions.json`.
//!
//! `instructions PHASE ROUNDS` does a fixed amount of work with the code that serves clients, and prints how many operations
//! that were. Without arguments it prints the phases, each with two numbers of rounds: what both have in common (the start,
//! rings that grow) is in the shorter one, and the difference of both is what so many operations cost. No sockets, no clock,
//! no second thread: the same program has nearly the same number each time.
//!
//! What is not in it: the socket's own `offer` (`connection::socket`), whose work is the system call and what decides about it,
//! so that it can't be done without a socket; listeners stand in for it. And the shelf's files: `intake-shelved` stays within
//! a part of it that is in memory, so that nothing is sorted and written.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints its table")]

use std::{
    env,
    hint::black_box,
    sync::{Arc, atomic::AtomicU64},
};

use async_nats::Subject;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use ws_edge::{
    config::{Config, HistoryConfig},
    dialect::DialectName,
    event::Event,
    history::{Shelf, Shelved},
    intake::{Rings as _, sequence_and_time},
    sessions::SeatRead,
    view::Encoding,
    websocket::Inbound,
};

use material::{Audience, READ_AT_ONCE, agent_output, client_frames, event, listening, sessions, view};

#[allow(dead_code, unreachable_pub, reason = "shared with the benches")]
mod material;

/// Bytes of an event.
const SIZE: usize = 300;
/// Who listens to one session.
const MANY: usize = 1000;
/// Events that are offered together.
const BATCH: usize = 64;
/// Sessions with somebody there, and without.
const WATCHED: usize = 50;
const UNWATCHED: usize = 256;

/// Does so many rounds, and says how many operations that were.
type Work = fn(usize) -> usize;

/// Name, the two numbers of rounds, what it does.
const PHASES: [(&str, usize, usize, Work); 8] = [
    ("intake", 2_000, 22_000, |rounds| unwatched(rounds, None)),
    ("intake-shelved", 2_000, 22_000, |rounds| unwatched(rounds, Some(shelf()))),
    ("encode-plain", 2_000, 8_000, |rounds| encode(Encoding::Plain, rounds)),
    ("encode-v1", 2_000, 8_000, |rounds| encode(Encoding::V1, rounds)),
    ("fan-out", 20, 140, |rounds| fan_out(rounds, 1)),
    ("fan-out-batch", 18, 66, |rounds| fan_out(rounds, BATCH)),
    ("catch-up", 5, 155, catch_up),
    ("inbound", 2_000, 32_000, inbound),
];

fn main() {
    let mut arguments = env::args().skip(1);
    let Some(name) = arguments.next() else {
        for (name, short, long, _) in PHASES {
            println!("{name} {short} {long}");
        }
        return;
    };
    let rounds = arguments.next().unwrap().parse().unwrap();
    let (_, _, _, work) = PHASES.iter().find(|phase| phase.0 == name).unwrap();
    metrics::set_global_recorder(Counting).unwrap();
    println!("{}", work(rounds));
}

/// Counts as an edge does: without a recorder, that would cost nothing. The edge's own one calibrates a clock when it is made,
/// for as many instructions as that happens to take.
struct Counting;

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(AtomicU64::new(0)))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(AtomicU64::new(0)))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// A shelf, as an edge has it. Of its disk nothing is used; it only may not be in memory.
fn shelf() -> Arc<Shelf> {
    let config = HistoryConfig { shelf_folder: Some(".".into()), ..Config::default().history };
    Shelf::new("EVENTS", &config).unwrap()
}

/// Events of sessions that nobody watches, from the delivery on. An operation: one of them.
fn unwatched(rounds: usize, shelf: Option<Arc<Shelf>>) -> usize {
    let (sessions, view, payload) = (sessions(), view(DialectName::Event, Encoding::Plain), agent_output(SIZE));
    let watched: Vec<_> = (0..WATCHED).map(|n| listening(&sessions, &format!("watched-{n}"), &view)).collect();
    let subjects: Vec<Subject> =
        (0..UNWATCHED).map(|n| format!("arena.0b9d3c52-6f0e-4b57-9a57-{n:012x}.agent.agent-3.output").into()).collect();
    let reply = "$JS.ACK.EVENTS.Jx2mK0qLw8.1.48210377.91022.1767225600000000017.3".to_owned();
    let rings = Shelved::new(shelf, &Arc::default(), sessions);
    for subject in subjects.iter().cycle().take(rounds) {
        let (seq, time_ns) = sequence_and_time(black_box(&reply)).unwrap();
        let event = Event::parse(subject.clone(), seq, time_ns / 1_000_000, payload.clone()).unwrap();
        rings.append(&event);
    }
    rings.flush();
    assert_eq!(watched[0].1.mark().frames, 0);
    rounds
}

/// An event that one client gets. An operation: one of them.
fn encode(encoding: Encoding, rounds: usize) -> usize {
    let (sessions, view, payload) = (sessions(), view(DialectName::Event, encoding), agent_output(SIZE));
    let audience = Audience::of(&sessions, &view, 1);
    for seq in 1..=rounds as u64 {
        sessions.append(&event(seq, &payload));
        sessions.flush();
    }
    assert_eq!(audience.heard(), rounds);
    rounds
}

/// Events that many get, so many in one go. An operation: what is offered to one of them at once.
fn fan_out(rounds: usize, together: usize) -> usize {
    let (sessions, view, payload) = (sessions(), view(DialectName::Event, Encoding::Plain), agent_output(SIZE));
    let audience = Audience::of(&sessions, &view, MANY);
    for round in 0..rounds {
        for index in 1..=together {
            sessions.append(&event((round * together + index) as u64, &payload));
        }
        sessions.flush();
    }
    assert_eq!(audience.heard(), rounds * together * MANY);
    rounds * MANY
}

/// A thousand frames, read from the ring as a connection that is behind reads them. An operation: one of them.
fn catch_up(rounds: usize) -> usize {
    let (sessions, view, payload) = (sessions(), view(DialectName::Event, Encoding::Plain), agent_output(SIZE));
    let audience = Audience::of(&sessions, &view, 1);
    (1..=MANY as u64).for_each(|seq| sessions.append(&event(seq, &payload)));
    sessions.flush();
    let (seat, generation) = audience.first_seat();
    let mut count = 0;
    for _ in 0..rounds {
        let mut after = 0;
        while after < MANY as u64 {
            let SeatRead::Frames { frames, .. } = seat.read(generation, after, READ_AT_ONCE.0, READ_AT_ONCE.1, 1)
            else {
                panic!("not in the ring")
            };
            count += frames.len();
            after = black_box(frames).last().unwrap().seq;
        }
    }
    assert_eq!(count, rounds * MANY);
    count
}

/// What clients send. An operation: a frame.
fn inbound(rounds: usize) -> usize {
    let (bytes, frames) = client_frames();
    let mut parser = Inbound::new(4096);
    let mut count = 0;
    for _ in 0..rounds {
        let mut input = black_box(&bytes[..]);
        while parser.read(&mut input).unwrap().is_some() {
            count += 1;
        }
    }
    assert_eq!(count, rounds * frames);
    count
}
