//! Does faults when their time has come, side by side.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{Fault, Kind, strike};
use crate::house::House;

/// How long a fault may wait for what it needs to be whole again; then it is left out.
const PATIENCE: Duration = Duration::from_secs(8);

/// What is told of a fault, one JSON object per line, as `sim check --marks` reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "mark", rename_all = "lowercase")]
pub enum Mark {
    /// It begins.
    Fault {
        /// Its number.
        id: u64,
        /// `edge killed`.
        kind: String,
        /// `edge 1`.
        target: String,
        /// When, ms since 1970.
        at_ms: u64,
    },
    /// What it was done to is ready again, or works again.
    Over {
        /// The fault's number.
        id: u64,
        /// When, ms since 1970.
        at_ms: u64,
    },
}

/// How many faults there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By kind.
    pub done: BTreeMap<Kind, u64>,
    /// Left out, as what they needed was still broken.
    pub left_out: u64,
}

/// Does a schedule's faults to a house.
pub struct Injector {
    house: Arc<House>,
    marks: mpsc::Sender<Mark>,
}

impl Injector {
    /// An injector that tells of each fault; where nobody listens any more, it goes on.
    #[must_use]
    pub fn new(house: Arc<House>, marks: mpsc::Sender<Mark>) -> Self {
        Self { house, marks }
    }

    /// Does all of them, and returns when the last one is over. Dropped before that, it leaves broken what is.
    pub async fn run(&self, faults: Vec<Fault>) -> Tally {
        let begun = Instant::now();
        let (mut running, mut tally) = (FuturesUnordered::new(), Tally::default());
        let mut coming = (1..).zip(faults).peekable();
        loop {
            let next = coming.peek().map(|(_, fault)| begun + fault.at);
            tokio::select! {
                () = sleep_until(next.unwrap_or(begun)), if next.is_some() => {
                    running.extend(coming.next().map(|(id, fault)| self.one(id, fault)));
                }
                Some((kind, came)) = running.next() => {
                    if came { *tally.done.entry(kind).or_default() += 1 } else { tally.left_out += 1 }
                }
                else => return tally,
            }
        }
    }

    /// Does one, and says whether it came to it.
    async fn one(&self, id: u64, fault: Fault) -> (Kind, bool) {
        let (house, kind) = (&*self.house, fault.kind);
        let Ok(Some(mut struck)) = timeout(PATIENCE, strike::aim(house, &fault)).await else { return (kind, false) };
        let target = struck.target();
        let mark = Mark::Fault { id, kind: kind.name(), target: target.clone(), at_ms: unix_ms() };
        let _nobody = self.marks.send(mark).await;
        // What does not even start again panics, with its last words: for the run it is one trouble among others.
        let done = AssertUnwindSafe(struck.run(&fault)).catch_unwind().await;
        if let Err(why) = done.unwrap_or_else(|_| Err("a panic, see above".to_owned())) {
            house.trouble(format!("{kind} ({target}, fault {id}): {why}"));
        }
        let _nobody = self.marks.send(Mark::Over { id, at_ms: unix_ms() }).await;
        struck.rest(&fault).await;
        (kind, true)
    }
}

pub(crate) fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
