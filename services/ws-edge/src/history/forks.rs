//! Forks: sessions whose log begins with another one's.
//!
//! A fork's first message says whose, and up to where. It is looked for where the session's id says that it is one, through the
//! leader: a fork that somebody was told of is found, however far this edge has come. What is found never changes in this life
//! of the stream; a record that is not the first message counts for nothing.
//!
//! Its past is read piece by piece: the part of each log that it is made of, the oldest first. They follow each other in the
//! stream, so that places, gaps and `prev` are what they are in any other log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use herald_protocol::{Epoch, EventSubject, SessionId, record::Forked, subject};
use herald_runtime::jetstream::ApiError;

use super::{
    History, HistoryError, PAGE_EVENTS, Page, Snapshot,
    range::{self, Asked},
    reads::Reads,
    snapshot,
};
use crate::event::Event;

/// Lineages that are remembered; with one more all are forgotten, and found again.
const MOST: usize = 4096;

/// A part of a fork's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Whose log.
    pub(super) session: SessionId,
    /// Its first event when the fork was made.
    first: u64,
    /// It ends there; the part before it ended before its first event.
    pub(super) upto: u64,
}

/// What a fork's log is made of: others' logs, the oldest first, then its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// The others. None: it is no fork.
    pub(super) parts: Vec<Part>,
    /// Where that is written.
    written: u64,
}

/// The lineage of a session, as the leader has it; `None`: it is its own alone.
pub(super) async fn find(reads: &impl Reads, session: &SessionId) -> Result<Option<Lineage>, ApiError> {
    let (mut records, mut of) = (Vec::new(), session.clone());
    while of.is_fork() && records.len() < Forked::MAX_DEPTH as usize {
        let Some(first) = reads.next(&subject::session_any_root(&of), 1).await? else { break };
        let Some(forked) = Forked::read(&first.subject, &first.payload, first.sequence) else { break };
        of = forked.session.clone();
        records.push((forked, first.sequence));
    }
    let older = |older: Option<Lineage>, (forked, written)| {
        Some(Lineage::before(forked, written, older.as_ref().unwrap_or(&Lineage::OWN)))
    };
    Ok(records.into_iter().rev().fold(None, older))
}

impl History {
    /// What a session's log is made of; `None`: it is its own alone.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub(crate) async fn lineage(&self, session: &SessionId) -> Result<Option<Arc<Lineage>>, HistoryError> {
        if !session.is_fork() {
            return Ok(None);
        }
        let (life, removed) = (self.believed(), self.purges.of(session));
        let known = self.forks.known(session, life, removed);
        if let Some(known) = known.filter(|known| !known.is_cut(|session| self.purges.of(session))) {
            return Ok(Some(known));
        }
        let inner = &self.inner;
        let found = inner.gate.pass("fork", find(&inner.reads, session)).await?.map(Arc::new);
        let found = found.filter(|lineage| lineage.written > removed);
        if let Some(lineage) = &found {
            self.forks.note(session, life, lineage);
        }
        Ok(found)
    }

    /// As [`History::page`], of a fork.
    pub(super) async fn page_of_fork(
        &self,
        lineage: &Lineage,
        session: &SessionId,
        roots: &[Arc<str>],
        (after, upto): (u64, u64),
    ) -> Result<Arc<Page>, HistoryError> {
        let mut whole = Page { events: Vec::new(), through: after };
        for part in &lineage.parts {
            let end = part.upto.min(upto);
            if whole.through >= end {
                continue;
            }
            let page = self.own_page(&part.session, roots, whole.through, end).await?;
            whole.events.extend(page.events.iter().cloned());
            whole.through = page.through;
            if page.through < end || whole.events.len() >= PAGE_EVENTS as usize {
                return Ok(Arc::new(whole));
            }
        }
        if whole.through < upto {
            let page = self.own_page(session, roots, whole.through, upto).await?;
            whole.events.extend(page.events.iter().cloned());
            whole.through = page.through;
        }
        Ok(Arc::new(whole))
    }

    /// As [`History::snapshot`], of a fork whose own one is `own`: of what it has not said itself, what those said last that it
    /// begins with.
    pub(super) async fn snapshot_of_fork(
        &self,
        lineage: &Lineage,
        filters: &[String],
        own: &Snapshot,
    ) -> Result<Arc<Snapshot>, HistoryError> {
        let (inner, mut last) = (&*self.inner, BTreeMap::new());
        for part in lineage.parts.iter().filter(|part| part.first <= part.upto) {
            let of_part = |filter: &String| {
                let EventSubject { root, topic, .. } = EventSubject::parse(filter)?;
                Some(format!("{root}.{}.{topic}", part.session))
            };
            let filters: Vec<_> = filters.iter().filter_map(of_part).collect();
            let read =
                snapshot::as_of(&inner.reads, &part.session, (&filters, inner.page), part.upto, inner.snapshot_bytes);
            let Some(events) = inner.gate.pass("snapshot", read).await? else {
                // Its past in its place, as of any that is too large.
                return Ok(Arc::default());
            };
            let named = |event: Event| ((event.root().to_owned(), event.topic().to_owned()), event);
            last.extend(events.into_iter().map(named));
        }
        for event in &own.events {
            last.insert((event.root().to_owned(), event.topic().to_owned()), event.clone());
        }
        let mut events: Vec<_> = last.into_values().collect();
        if events.iter().map(|event| event.payload.len()).sum::<usize>() > inner.snapshot_bytes {
            return Ok(Arc::default());
        }
        events.sort_unstable_by_key(|event| event.seq);
        Ok(Arc::new(Snapshot { events, cut: own.cut }))
    }

    /// As [`History::tail`], of what a fork begins with.
    pub(super) async fn tail_of_parts(
        &self,
        lineage: &Lineage,
        roots: &[Arc<str>],
        most: usize,
        shows: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Event>, HistoryError> {
        let (inner, mut found) = (&*self.inner, Vec::new());
        for part in lineage.parts.iter().rev().filter(|part| part.first <= part.upto) {
            let asked = Asked::new(&part.session, roots);
            let read = range::tail(&inner.reads, inner.page, &asked, part.upto, most - found.len(), &shows);
            let mut events = inner.gate.pass("tail", read).await?;
            events.append(&mut found);
            found = events;
            if found.len() >= most {
                break;
            }
        }
        Ok(found)
    }

    /// As [`History::counts`], of what a fork begins with: where a log goes on behind that, its events up to there are read one by
    /// one, `most` of them in all.
    pub(super) async fn count_parts(
        &self,
        lineage: &Lineage,
        session: &SessionId,
        roots: &[Arc<str>],
        mut most: usize,
    ) -> Result<Counts, HistoryError> {
        let (inner, mut counts) = (&*self.inner, Counts { whole: true, ..Counts::default() });
        for part in lineage.parts.iter().filter(|part| part.first <= part.upto) {
            let all = subject::session_any_root(&part.session);
            let of_all = async {
                // In this order: what is counted was there when it was the last.
                let subjects = inner.reads.subjects(&all).await?;
                let last = inner.reads.last(&all).await?;
                Ok(subjects).map(|subjects| (subjects, last.map_or(0, |last| last.sequence)))
            };
            let (subjects, last) = inner.gate.pass("subjects", of_all).await?;
            if last <= part.upto {
                subjects.iter().for_each(|(subject, count)| counts.add(session, subject, *count));
                continue;
            }
            let mut at = part.first.saturating_sub(1);
            while at < part.upto && most > 0 {
                let page = self.inner.page(&part.session, roots, at, part.upto).await?;
                at = page.through;
                most = most.saturating_sub(page.events.len().max(1));
                page.events.iter().for_each(|event| counts.add(session, event.subject(), 1));
            }
            counts.whole &= at >= part.upto;
        }
        Ok(counts)
    }
}

/// How many events are kept of a session, by their subjects.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// What a fork begins with is counted as its own.
    pub(crate) subjects: BTreeMap<String, u64>,
    /// Whether all of them are counted: of what a fork begins with that may be too much.
    pub(crate) whole: bool,
}

impl Counts {
    /// So many more on that subject of another session.
    fn add(&mut self, session: &SessionId, subject: &str, count: u64) {
        let Some(EventSubject { root, topic, .. }) = EventSubject::parse(subject) else { return };
        *self.subjects.entry(format!("{root}.{session}.{topic}")).or_default() += count;
    }
}

impl Lineage {
    /// A log that is its own alone.
    pub(super) const OWN: Self = Self { parts: Vec::new(), written: 0 };

    /// What a fork is made of by its own record, and by those of whom it was made.
    pub(super) fn before(forked: Forked, written: u64, older: &Self) -> Self {
        let Forked { session, first, at, .. } = forked;
        let mut parts: Vec<_> =
            older.parts.iter().map(|part| Part { upto: part.upto.min(at), ..part.clone() }).collect();
        parts.push(Part { session, first, upto: at });
        Self { parts, written }
    }

    /// Where its own log begins; 0: it is no fork.
    pub(crate) fn own_from(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.upto)
    }

    /// Where it is written what it begins with; 0: nowhere.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Whether a fork that it was made of, by way of which it begins with others, was removed since: with its record the way is
    /// gone, here as for who has never known it. `removed`: up to where a session was removed.
    fn is_cut(&self, removed: impl Fn(&SessionId) -> u64) -> bool {
        self.parts.iter().skip(1).any(|part| removed(&part.session) >= part.first)
    }

    /// Up to where something is missing of what it begins with; 0: all of it is there. `kept_from`: the first sequence that the
    /// stream holds; `removed`: up to where a session was removed.
    pub(crate) fn lost(&self, kept_from: u64, removed: impl Fn(&SessionId) -> u64) -> u64 {
        let lost = |part: &Part| {
            let gone = kept_from.saturating_sub(1).max(removed(&part.session));
            // What was gone when the fork was made is not of it: that session may have begun anew since.
            if gone >= part.first { gone.min(part.upto) } else { 0 }
        };
        self.parts.iter().filter(|part| part.first <= part.upto).map(lost).max().unwrap_or(0)
    }
}

/// A session, and the life of its stream.
type OfLife = (SessionId, Option<Epoch>);

/// The lineages that were found.
#[derive(Debug, Default)]
pub(super) struct Forks {
    known: Mutex<HashMap<OfLife, Arc<Lineage>>>,
}

impl Forks {
    /// What is known of a session in that life, if it was not removed since: up to `removed`.
    pub(super) fn known(&self, session: &SessionId, life: Option<Epoch>, removed: u64) -> Option<Arc<Lineage>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(session.clone(), life)).filter(|lineage| lineage.written > removed).cloned()
    }

    pub(super) fn note(&self, session: &SessionId, life: Option<Epoch>, lineage: &Arc<Lineage>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert((session.clone(), life), lineage.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{fake::Fake, range::PageSize};

    fn forked(session: &str, at: u64) -> Forked {
        Forked { session: session.parse().unwrap(), first: if session == "s" { 3 } else { 21 }, at, depth: 1 }
    }

    fn parts(lineage: &Lineage) -> Vec<(&str, u64)> {
        lineage.parts.iter().map(|part| (part.session.as_str(), part.upto)).collect()
    }

    #[test]
    fn a_fork_of_a_fork_is_made_of_both_and_of_no_more_than_they_were() {
        let child = Lineage::before(forked("s", 10), 20, &Lineage::OWN);
        assert_eq!((parts(&child), child.own_from()), (vec![("s", 10)], 10));
        let later = Lineage::before(forked("fork-1", 25), 30, &child);
        assert_eq!(parts(&later), [("s", 10), ("fork-1", 25)]);
        let earlier = Lineage::before(forked("fork-1", 7), 30, &child);
        assert_eq!((parts(&earlier), earlier.own_from()), (vec![("s", 7), ("fork-1", 7)], 7));
        assert_eq!(Lineage::OWN.own_from(), 0);
    }

    #[test]
    fn what_is_left_of_it_is_what_is_left_of_those_it_is_made_of() {
        let fork = Lineage::before(forked("fork-1", 25), 30, &Lineage::before(forked("s", 10), 20, &Lineage::OWN));
        let removed =
            |of: &'static str, upto: u64| fork.lost(1, move |session| if session.as_str() == of { upto } else { 0 });
        assert_eq!((removed("s", 99), removed("s", 4), removed("fork-1", 99), removed("other", 99)), (10, 4, 25, 0));
        assert_eq!((removed("s", 2), removed("fork-1", 20)), (0, 0), "and began anew before the fork was made");
        let trimmed = |kept_from| fork.lost(kept_from, |_| 0);
        assert_eq!([3, 4, 11, 21, 23, 90].map(trimmed), [0, 3, 10, 10, 22, 25]);
    }

    #[tokio::test]
    async fn the_state_of_what_a_fork_begins_with_is_that_of_then() {
        let mut log = vec!["gm.s.state", "gm.s.phase", "gm.other.state", "gm.s.state", "arena.s.a.1"];
        let upto = log.len() as u64;
        log.extend(["gm.s.state", "gm.s.later", "gm.s.state"]);
        // One that is rare, and one that was last said long ago.
        log.splice(0..0, std::iter::once("gm.s.rare").chain(std::iter::repeat_n("gm.s.phase", 600)));
        let (upto, size) = (upto + 601, PageSize { events: 50, bytes: 1 << 20 });
        let all: Vec<String> = ["gm.s.>".to_owned(), "arena.s.>".to_owned()].into();
        for (most_subjects, replica) in [(1024, u64::MAX), (4, u64::MAX), (1024, 3)] {
            let fake = Fake::of(&log);
            {
                let mut state = fake.lock();
                (state.most_subjects, state.pace) = (most_subjects, 10);
                state.replica = state.replica.min(replica);
            }
            let session = "s".parse().unwrap();
            let read = snapshot::as_of(&fake, &session, (&all, size), upto, 1 << 20).await.unwrap().unwrap();
            let mut found: Vec<_> = read.iter().map(|event| (event.subject(), event.seq)).collect();
            found.sort_unstable();
            let then = [("arena.s.a.1", 606), ("gm.s.phase", 603), ("gm.s.rare", 1), ("gm.s.state", 605)];
            assert_eq!(found, then, "{most_subjects} {replica}");
        }
        let fake = Fake::of(&log);
        assert!(snapshot::as_of(&fake, &"s".parse().unwrap(), (&all, size), upto, 3).await.unwrap().is_none());
    }

    #[test]
    fn the_way_to_others_is_gone_with_the_fork_it_led_by() {
        let fork = Lineage::before(forked("fork-1", 25), 30, &Lineage::before(forked("s", 10), 20, &Lineage::OWN));
        let is_cut =
            |of: &'static str, upto: u64| fork.is_cut(move |session| if session.as_str() == of { upto } else { 0 });
        assert_eq!(
            [("fork-1", 20), ("s", 99), ("fork-1", 21)].map(|(of, upto)| is_cut(of, upto)),
            [false, false, true]
        );
        let found_again = Lineage::before(forked("fork-1", 25), 30, &Lineage::OWN);
        assert!(!found_again.is_cut(|_| 99), "nothing more to be found");
    }

    #[test]
    fn a_fork_that_was_removed_is_none_any_more() {
        let (forks, session, life) = (Forks::default(), "fork-1".parse().unwrap(), Some(Epoch::new(7)));
        let lineage = Arc::new(Lineage::before(forked("s", 10), 20, &Lineage::OWN));
        forks.note(&session, life, &lineage);
        assert_eq!(forks.known(&session, life, 0), Some(lineage));
        assert_eq!(forks.known(&session, life, 20), None, "removed");
        assert_eq!(forks.known(&session, Some(Epoch::new(8)), 0), None, "another life");
    }
}
