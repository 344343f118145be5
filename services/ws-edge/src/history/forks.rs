//! Forks: sessions whose log begins with another one's.
//!
//! A fork's first message says whose, and up to where. It is looked for where the session's id says that it is one, through the
//! leader: a fork that somebody was told of is found, however far this edge has come. What is found never changes in this life
//! of the stream.
//!
//! Its past is read piece by piece: the part of each log that it is made of, the oldest first. They follow each other in the
//! stream, so that places, gaps and `prev` are what they are in any other log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use herald_protocol::{Epoch, EventSubject, SessionId, TopicPattern, record::Forked, subject};
use herald_runtime::jetstream::ApiError;

use super::{History, HistoryError, PAGE_EVENTS, Page, Snapshot, reads::Reads};
use crate::event::Event;

/// Lineages that are remembered; with one more all are forgotten, and found again.
const MOST: usize = 4096;
/// Events of what a fork begins with that are looked through for its snapshot.
const MOST_LOOKED: usize = 20_000;

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
        let Some(record) = reads.last(&subject::fork_any_root(&of)).await? else { break };
        let Some(forked) = Forked::read(&record.payload, record.sequence) else { break };
        of = forked.session.clone();
        records.push((forked, record.sequence));
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
        if let Some(known) = self.forks.known(session, life, removed) {
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
        let asked: Vec<_> = filters.iter().filter_map(|filter| EventSubject::parse(filter)).collect();
        let roots: BTreeSet<Arc<str>> = asked.iter().map(|asked| asked.root.into()).collect();
        let roots: Vec<_> = roots.into_iter().collect();
        let patterns: Vec<_> =
            asked.iter().filter_map(|it| Some((it.root, TopicPattern::parse(it.topic).ok()?))).collect();
        let (mut last, mut looked, mut at) = (BTreeMap::new(), 0, 0);
        for part in &lineage.parts {
            while at < part.upto {
                let page = self.own_page(&part.session, &roots, at, part.upto).await?;
                looked += page.events.len();
                at = page.through;
                for event in &page.events {
                    let parts = event.parts();
                    if patterns.iter().any(|(root, pattern)| *root == parts.root && pattern.matches(parts.topic)) {
                        last.insert((parts.root.to_owned(), parts.topic.to_owned()), event.clone());
                    }
                }
                let bytes: usize = last.values().map(|event: &Event| event.payload.len()).sum();
                if looked > MOST_LOOKED || bytes > self.inner.snapshot_bytes {
                    // Its past in its place, as of any that is too large.
                    return Ok(Arc::default());
                }
            }
        }
        for event in &own.events {
            last.insert((event.root().to_owned(), event.topic().to_owned()), event.clone());
        }
        let mut events: Vec<_> = last.into_values().collect();
        events.sort_unstable_by_key(|event| event.seq);
        Ok(Arc::new(Snapshot { events, cut: own.cut }))
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

    /// Up to where something is missing of what it begins with; 0: all of it is there. `kept_from`: the first sequence that the
    /// stream holds; `removed`: up to where a session was removed.
    pub(crate) fn lost(&self, kept_from: u64, removed: impl Fn(&SessionId) -> u64) -> u64 {
        let lost = |part: &Part| {
            let trimmed = if part.first < kept_from { kept_from.saturating_sub(1) } else { 0 };
            trimmed.max(removed(&part.session)).min(part.upto)
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
        let trimmed = |kept_from| fork.lost(kept_from, |_| 0);
        assert_eq!([3, 4, 11, 21, 23, 90].map(trimmed), [0, 3, 10, 10, 22, 25]);
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
