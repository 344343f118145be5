//! What is known of the other edges, and how far.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use herald_protocol::{
    InstanceId,
    presence::{Part, Person, PersonId, Said},
};
use metrics::counter;
use tokio::time::Instant;

use super::{
    person::RoomId,
    rooms::{ME, Slot, Slots},
};

/// How long to wait for a whole before it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Parts of a whole at most: some million people.
const MOST_PARTS: u32 = 8192;

/// Who is there by one edge, by session.
pub(super) type Whole = HashMap<RoomId, HashMap<PersonId, Arc<Person>>>;

/// The other edges.
#[derive(Debug)]
pub(super) struct Others {
    timeout: Duration,
    all: HashMap<InstanceId, Other>,
    used: Slots,
}

/// An edge.
#[derive(Debug)]
pub(super) struct Other {
    /// Its number in the table.
    pub(super) slot: Slot,
    name: InstanceId,
    /// How far its log is known.
    n: u64,
    /// Whether all of it is known up to there.
    known: bool,
    /// When it was last heard of.
    heard: Instant,
    /// Until when it counts, if it is not heard of.
    until: Instant,
    /// It has said that it ends: what comes after that is from before.
    ends: bool,
    asked: Option<Instant>,
    gathering: Option<Gathering>,
}

/// A whole, as far as its parts are here.
#[derive(Debug)]
struct Gathering {
    n: u64,
    part: Part,
    whole: Whole,
}

/// What a message brings.
#[derive(Debug)]
pub(super) enum News {
    /// Nothing that was not known.
    None,
    /// The next changes.
    Changes,
    /// All there is.
    Whole(Whole),
}

impl Others {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, all: HashMap::new(), used: Slots::default().with(ME) }
    }

    /// An edge was heard of. `None`: there are too many.
    pub(super) fn heard(&mut self, life: &InstanceId, said: &Said, now: Instant) -> Option<&mut Other> {
        if !self.all.contains_key(life) {
            let slot = self.used.free()?;
            self.used = self.used.with(slot);
            tracing::info!(edge = %said.edge, "another edge is heard of");
            let name = said.edge.clone();
            let (heard, until) = (now, now);
            let (known, ends, asked, gathering) = (false, false, None, None);
            self.all.insert(life.clone(), Other { slot, name, n: 0, known, heard, until, ends, asked, gathering });
        }
        let other = self.all.get_mut(life)?;
        other.heard = now;
        if !other.ends {
            let counts = said.ends_ms.map_or(self.timeout, |ms| self.timeout.min(Duration::from_millis(ms)));
            (other.until, other.ends) = (now + counts, said.ends_ms.is_some());
        }
        Some(other)
    }

    /// Nothing could be heard for a while: from now on it counts anew.
    pub(super) fn prolong(&mut self, now: Instant) {
        let until = now + self.timeout;
        self.all.values_mut().for_each(|other| other.until = other.until.max(until));
    }

    /// Edges of which nothing was heard for so long that they are gone. Their numbers are given to others.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Slot> {
        let mut gone = Vec::new();
        self.all.retain(|_, other| {
            let lives = now < other.until;
            if !lives {
                if other.ends {
                    tracing::info!(edge = %other.name, "another edge has ended");
                } else {
                    tracing::warn!(edge = %other.name, "nothing more is heard of another edge");
                    counter!("herald_presence_edges_lost_total").increment(1);
                }
                gone.push(other.slot);
            }
            lives
        });
        self.used = gone.iter().fold(self.used, |used, slot| used.without(*slot));
        gone
    }

    /// Those of whom something is missing and who were not asked for it a moment ago: they are now.
    pub(super) fn asked_now(&mut self, now: Instant) -> Vec<InstanceId> {
        let missing =
            |other: &Other| !other.known && !other.ends && other.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
        let asked = self.all.iter_mut().filter(|(_, other)| missing(other));
        asked
            .map(|(life, other)| {
                other.asked = Some(now);
                life.clone()
            })
            .collect()
    }

    /// Whether nothing is missing of any of them.
    pub(super) fn are_known(&self) -> bool {
        self.all.values().all(|other| other.known || other.ends)
    }

    /// How long nothing was heard of the one of which nothing was heard for longest, but those that said that they end.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let lives = self.all.values().filter(|other| !other.ends);
        lives.map(|other| now.saturating_duration_since(other.heard)).max().unwrap_or_default()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }
}

impl Other {
    /// Finds out what a message of it brings, and remembers how far that goes. `roots`: those of interest.
    pub(super) fn take(&mut self, said: &mut Said, roots: &HashSet<Arc<str>>) -> News {
        match said.part {
            Some(_) if self.known && self.n == said.n => News::None,
            Some(part) => self.gather(part, said, roots).map_or(News::None, News::Whole),
            None if said.rooms.is_empty() => {
                self.known &= self.n == said.n;
                News::None
            }
            None if self.known && said.n == self.n + 1 => {
                self.n = said.n;
                News::Changes
            }
            None => {
                self.known = false;
                News::None
            }
        }
    }

    fn gather(&mut self, part: Part, said: &mut Said, roots: &HashSet<Arc<str>>) -> Option<Whole> {
        if part.at == 0 && part.of <= MOST_PARTS {
            self.gathering = Some(Gathering { n: said.n, part: Part { at: 0, of: part.of }, whole: Whole::new() });
        }
        let gathering = self.gathering.as_mut().filter(|it| (it.n, it.part) == (said.n, part));
        let Some(gathering) = gathering else {
            // One of them is missing: all of it is asked for again.
            self.gathering = None;
            return None;
        };
        for room in said.rooms.drain(..) {
            let Some(root) = roots.get(&room.root) else { continue };
            let room_id = RoomId { root: root.clone(), session: room.session };
            let persons = gathering.whole.entry(room_id).or_default();
            persons.extend(room.here.into_iter().map(|person| (person.id, person)));
        }
        gathering.part.at += 1;
        if gathering.part.at < gathering.part.of {
            return None;
        }
        (self.n, self.known) = (said.n, true);
        self.gathering.take().map(|gathering| gathering.whole)
    }
}
