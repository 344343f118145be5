//! What the fault injector says it does: one JSON object per line on standard input.
//!
//! ```text
//! {"mark":"fault","id":7,"kind":"edge killed","target":"edge 1","at_ms":1763740000000}
//! {"mark":"over","id":7,"at_ms":1763740002000}
//! ```
//!
//! A fault is over when the process is ready again, or the link works again. Kinds are the injector's: here they are names.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Faults kept; further ones are counted only.
const MOST: usize = 100_000;
/// Longest line; what is longer is no mark.
const LINE: u64 = 64 << 10;
/// What happened so long after a fault was over may still be its doing, ms.
const AFTERMATH_MS: u64 = 5_000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "lowercase")]
pub enum Mark {
    /// Something is broken from now on.
    Fault {
        /// Its number.
        id: u64,
        /// What is done: `edge killed`.
        kind: String,
        /// To whom: `edge 1`.
        #[serde(default)]
        target: String,
        /// When, ms since 1970.
        at_ms: u64,
    },
    /// It works again.
    Over {
        /// The fault's number.
        id: u64,
        /// When, ms since 1970.
        at_ms: u64,
    },
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its number.
    pub id: u64,
    /// What was done.
    pub kind: Arc<str>,
    /// To whom.
    pub target: String,
    /// When it began, ms since 1970.
    pub at_ms: u64,
    /// When it was over, once it is.
    pub over_ms: Option<u64>,
}

impl Fault {
    /// Whether what happened then may be its doing.
    #[must_use]
    pub const fn reaches(&self, at_ms: u64) -> bool {
        let end = match self.over_ms {
            Some(over) => over.saturating_add(AFTERMATH_MS),
            None => u64::MAX,
        };
        self.at_ms <= at_ms && at_ms <= end
    }

    /// Whether it hits what stores events, so that one without acknowledgement may be lost with it.
    fn hits_nats(&self) -> bool {
        ["nats", "node", "leader"].iter().any(|part| self.kind.starts_with(part))
    }
}

/// All faults so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// In the order of their marks.
    pub all: Vec<Fault>,
    /// Lines that were no marks.
    pub bad_lines: u64,
    /// Faults beyond those that are kept.
    pub dropped: u64,
}

impl Faults {
    /// Takes a mark in.
    pub fn apply(&mut self, mark: Mark) {
        match mark {
            Mark::Fault { .. } if self.all.len() >= MOST => self.dropped += 1,
            Mark::Fault { id, kind, target, at_ms } => {
                let known = self.all.iter().find(|fault| *fault.kind == *kind).map(|fault| fault.kind.clone());
                let kind = known.unwrap_or_else(|| kind.into());
                self.all.push(Fault { id, kind, target, at_ms, over_ms: None });
            }
            Mark::Over { id, at_ms } => match self.all.iter_mut().rev().find(|fault| fault.id == id) {
                Some(fault) => {
                    fault.over_ms.get_or_insert(at_ms.max(fault.at_ms));
                }
                None => tracing::warn!(id, "a mark says that a fault is over which never began"),
            },
        }
    }

    /// The kind of fault that is to blame for what happened to an event published then: one that hit NATS before any other,
    /// the latest before earlier ones. `none` where nothing was broken.
    #[must_use]
    pub fn blame(&self, at_ms: u64) -> &str {
        // It takes a moment from the publisher's hands to the server.
        let reaches =
            |fault: &&Fault| fault.reaches(at_ms) || (at_ms <= fault.at_ms && fault.at_ms - at_ms <= AFTERMATH_MS);
        let guilty = self.all.iter().filter(reaches).max_by_key(|fault| {
            let exact = fault.reaches(at_ms);
            (fault.hits_nats(), exact, if exact { fault.at_ms } else { u64::MAX - fault.at_ms })
        });
        guilty.map_or("none", |fault| &fault.kind)
    }
}

/// All faults so far, shared between who hears of them and who asks.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Arc<Mutex<Faults>>);

impl Timeline {
    /// A copy of what is known now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.lock().clone()
    }

    /// Takes a mark in.
    pub fn apply(&self, mark: Mark) {
        self.lock().apply(mark);
    }

    /// Reads marks to the end of the input. A line that is none is logged and counted. Safe to cancel: a line that was read
    /// in part is lost.
    ///
    /// # Errors
    /// Whatever reading fails with.
    pub async fn read(&self, mut input: impl AsyncBufRead + Unpin) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut input).take(LINE).read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            match serde_json::from_slice(text) {
                Ok(mark) => self.apply(mark),
                Err(error) => {
                    self.lock().bad_lines += 1;
                    let line = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
                    tracing::warn!(%error, line, "not a mark");
                }
            }
        }
    }

    /// Held for moments, never across a wait.
    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(id: u64, kind: &str, at_ms: u64) -> Mark {
        Mark::Fault { id, kind: kind.into(), target: String::new(), at_ms }
    }

    #[tokio::test]
    async fn marks_are_read_and_nonsense_is_counted() {
        let text = r#"{"mark":"fault","id":7,"kind":"edge killed","target":"edge 1","at_ms":100}

nonsense
{"mark":"fault","id":"x"}
{"mark":"over","id":9,"at_ms":1}
{"mark":"fault","id":8,"kind":"edge killed","at_ms":150,"more":1}
{"mark":"over","id":7,"at_ms":200}
{"mark":"over","id":7,"at_ms":300}"#;
        let timeline = Timeline::default();
        timeline.read(text.as_bytes()).await.unwrap();
        timeline.read(vec![b'x'; 200_000].as_slice()).await.unwrap();
        let faults = timeline.faults();
        assert_eq!(faults.bad_lines, 2 + 4, "a line too long counts in pieces");
        let seen: Vec<_> =
            faults.all.iter().map(|fault| (fault.id, &*fault.target, fault.at_ms, fault.over_ms)).collect();
        assert_eq!(seen, [(7, "edge 1", 100, Some(200)), (8, "", 150, None)]);
        assert!(Arc::ptr_eq(&faults.all[0].kind, &faults.all[1].kind));
    }

    #[test]
    fn a_mark_reads_as_it_is_written() {
        for mark in [fault(1, "nats killed", 5), Mark::Over { id: 1, at_ms: 9 }] {
            let text = serde_json::to_string(&mark).unwrap();
            assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark, "{text}");
        }
    }

    #[test]
    fn blame_goes_to_nats_first_and_then_to_the_latest() {
        let mut faults = Faults::default();
        assert_eq!(faults.blame(1000), "none");
        for mark in [
            fault(1, "edge killed", 20_000),
            fault(2, "nats killed", 30_000),
            fault(3, "bridge killed", 31_000),
            Mark::Over { id: 1, at_ms: 21_000 },
            Mark::Over { id: 2, at_ms: 32_000 },
            Mark::Over { id: 3, at_ms: 40_000 },
        ] {
            faults.apply(mark);
        }
        for (at_ms, kind) in [
            (10_000, "none"),
            (19_000, "edge killed"),
            (24_900, "edge killed"),
            (27_500, "nats killed"),
            (31_500, "nats killed"),
            (36_999, "nats killed"),
            (37_001, "bridge killed"),
            (45_001, "none"),
        ] {
            assert_eq!(faults.blame(at_ms), kind, "{at_ms}");
        }
    }

    #[test]
    fn a_fault_without_an_end_goes_on() {
        let mut faults = Faults::default();
        faults.apply(fault(1, "nats killed", 5));
        faults.apply(Mark::Over { id: 1, at_ms: 3 });
        assert_eq!(faults.all[0].over_ms, Some(5), "clocks may differ");
        faults.apply(fault(2, "nats killed", 10));
        assert!(faults.all[1].reaches(u64::MAX));
    }
}
