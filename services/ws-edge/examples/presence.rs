//! `./scripts/bench presence`: what it costs to know who is there, by how many are there.
//!
//! Two edges' books, without network and clients. Somebody comes and goes again and again in a session in which many others are;
//! measured is what that costs at the edge they come by, and at the other one, which is told of it; in batches, as under churn, and
//! one by one. `--seconds N`: how long each line is measured (2).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking, and prints its table")]

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use herald_protocol::{
    InstanceId, SessionId,
    presence::{Person, Said},
};
use herald_runtime::config::HumanDuration;
use tokio::time::Instant;
use ws_edge::{
    config::PresenceConfig,
    presence::{Book, RoomId, of_user, person},
};

const SIZES: [usize; 3] = [10, 1000, 10_000];

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let seconds = words.iter().position(|word| word == "--seconds").and_then(|at| words.get(at + 1)?.parse().ok());
    let limit = Duration::from_secs(seconds.unwrap_or(2));
    println!(
        "per change, that is once coming or going; each of so many users of a session, mean over {limit:?} a line"
    );
    println!(
        "\n{:>8} {:>8} {:>12} {:>12} {:>12} {:>8}",
        "there", "batch", "edge, µs", "encode, µs", "other, µs", "bytes"
    );
    for batch in [100, 1] {
        for size in SIZES {
            round(size, batch, limit);
        }
    }
}

/// What was spent on one side and the other.
#[derive(Default)]
struct Spent {
    edge: Duration,
    encode: Duration,
    other: Duration,
    bytes: usize,
    changes: usize,
}

fn round(size: usize, batch: usize, limit: Duration) {
    let room = RoomId { root: "gm".into(), session: SessionId::new("s").unwrap() };
    // Whoever goes is gone at once: those waited for would only be told of later.
    let (grace, batch_time) = (HumanDuration::default(), HumanDuration::default());
    let config = PresenceConfig { grace, batch: batch_time, ..PresenceConfig::default() };
    let start = Instant::now();
    let book = |name: &str| {
        let life = InstanceId::new(name).unwrap();
        (life.clone(), Book::new(life.clone(), life, [Arc::from("gm")], &config, start))
    };
    let ((life, mut edge), (_, mut other)) = (book("edge"), book("other"));
    for number in 0..size {
        // Half of those who are there are told, at each of both.
        edge.enter(&room, user(&format!("there-{number}")), number % 2 == 0);
    }
    other.enter(&room, user("watches"), true);
    let mut now = start;
    let mut spent = Spent::default();
    pass_on(&mut edge, &mut other, &life, now, &mut Spent::default());
    // A first message makes the other one ask for all there is.
    let greets = Said {
        edge: life.clone(),
        n: 0,
        rooms: Vec::new(),
        part: None,
        asks: herald_protocol::presence::Asks::All,
        ends_ms: None,
    };
    edge.hear(&InstanceId::new("other").unwrap(), greets, now);
    now += Duration::from_secs(1);
    pass_on(&mut edge, &mut other, &life, now, &mut Spent::default());
    assert_eq!(other.count(&room), size as u64 + 1);

    let users: Vec<Person> = (0..batch).map(|number| user(&format!("comes-{number}"))).collect();
    let begun = Clock::now();
    while begun.elapsed() < limit {
        for comes in [true, false] {
            now += Duration::from_millis(50);
            let moment = Clock::now();
            for user in &users {
                if comes {
                    edge.enter(&room, user.clone(), true);
                } else {
                    edge.leave(&room, user.id, true, now);
                }
            }
            spent.edge += moment.elapsed();
            pass_on(&mut edge, &mut other, &life, now, &mut spent);
            spent.changes += batch;
        }
    }
    assert_eq!(other.count(&room), size as u64 + 1);
    let each = |what: Duration| what.as_secs_f64() * 1e6 / spent.changes as f64;
    let bytes = spent.bytes / spent.changes;
    println!(
        "{size:>8} {batch:>8} {:>12.2} {:>12.2} {:>12.2} {bytes:>8}",
        each(spent.edge),
        each(spent.encode),
        each(spent.other)
    );
}

fn user(name: &str) -> Person {
    let person = person("c", Some(&name.into()), Some(&"player".into()), None, 1_732_185_000_123);
    assert_eq!(person.id, of_user(name, Some("player")));
    person
}

/// Has one edge say what it has to say, and the other one hear it; both find out what their clients are to be told.
fn pass_on(edge: &mut Book, other: &mut Book, life: &InstanceId, now: Instant, spent: &mut Spent) {
    let moment = Clock::now();
    let said = edge.tick(now, true);
    let told = edge.told(now);
    spent.edge += moment.elapsed();
    drop(told);
    for said in said {
        let moment = Clock::now();
        let bytes = serde_json::to_vec(&said).unwrap();
        spent.encode += moment.elapsed();
        spent.bytes += bytes.len();
        let moment = Clock::now();
        other.hear(life, serde_json::from_slice(&bytes).unwrap(), now);
        spent.other += moment.elapsed();
    }
    let moment = Clock::now();
    let told = other.told(now);
    spent.other += moment.elapsed();
    drop(told);
}
