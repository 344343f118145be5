//! A stream as a leader and a replica that lags behind it show it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use async_nats::HeaderMap;
use bytes::Bytes;
use herald_protocol::{Epoch, TopicPattern};
use herald_runtime::jetstream::{ApiError, Batch, BatchGet, MultiLast, Stored};

use super::{Extent, Holes, reads::Reads};

#[derive(Default)]
pub(super) struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) log: BTreeMap<u64, Stored>,
    /// The last sequence given out.
    pub(super) head: u64,
    /// The replica has the log up to here.
    pub(super) replica: u64,
    /// So much it catches up at each request.
    pub(super) pace: u64,
    /// Subjects that one multi-last get may match.
    pub(super) most_subjects: usize,
    /// Messages up to here disappear after so many requests.
    pub(super) purge: Option<(u32, u64)>,
    /// Requests so far: to the leader, to the replica.
    pub(super) asked: (u32, u32),
    /// Batches being read, and the most of them at once.
    pub(super) under_way: (usize, usize),
    /// Lives before this one.
    pub(super) lives: u32,
    /// Whether batches wait.
    pub(super) hangs: bool,
    /// What is missing and not explained.
    pub(super) holes: Holes,
}

impl Fake {
    /// A log of these subjects, on sequences 1, 2 ...; an empty subject leaves its sequence out.
    pub(super) fn of<S: AsRef<str>>(subjects: impl IntoIterator<Item = S>) -> Self {
        let fake = Self::default();
        fake.lock().most_subjects = 1024;
        for subject in subjects {
            fake.store(subject.as_ref());
        }
        let head = fake.lock().head;
        fake.lock().replica = head;
        fake
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Stores a message at the leader.
    pub(super) fn store(&self, subject: &str) {
        let mut state = self.lock();
        state.head += 1;
        let (sequence, subject) = (state.head, subject.to_owned());
        if !subject.is_empty() {
            let payload = Bytes::from(format!("{sequence}"));
            let (subject, headers) = (subject.into(), HeaderMap::new());
            state.log.insert(sequence, Stored { subject, sequence, time_ns: sequence * 1_000_000, headers, payload });
        }
    }

    /// What the leader keeps of `filter`.
    pub(super) fn kept(&self, filter: &str) -> Vec<Stored> {
        let pattern = TopicPattern::parse(filter).unwrap();
        self.lock().log.values().filter(|message| pattern.matches(&message.subject)).cloned().collect()
    }

    fn leader(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.asked.0 += 1;
        state.go_on();
        state
    }

    /// What the replica has of `filters`.
    fn replica(&self, filters: &[String]) -> (Vec<Stored>, u64) {
        let mut state = self.lock();
        state.asked.1 += 1;
        state.go_on();
        let patterns: Vec<_> = filters.iter().map(|filter| TopicPattern::parse(filter).unwrap()).collect();
        let matching = |message: &&Stored| patterns.iter().any(|pattern| pattern.matches(&message.subject));
        let messages =
            state.log.range(..=state.replica).map(|(_, message)| message).filter(matching).cloned().collect();
        (messages, state.replica)
    }
}

impl State {
    fn go_on(&mut self) {
        self.replica = (self.replica + self.pace).min(self.head);
        if let Some((after, upto)) = self.purge
            && self.asked.0 + self.asked.1 > after
        {
            self.log = self.log.split_off(&(upto + 1));
        }
    }
}

impl Reads for Fake {
    async fn last(&self, filter: &str) -> Result<Option<Stored>, ApiError> {
        drop(self.leader());
        Ok(self.kept(filter).pop())
    }

    async fn next(&self, filter: &str, from: u64) -> Result<Option<Stored>, ApiError> {
        drop(self.leader());
        Ok(self.kept(filter).into_iter().find(|message| message.sequence >= from))
    }

    async fn extent(&self) -> Result<Extent, ApiError> {
        let state = self.leader();
        let first = state.log.keys().next().copied().unwrap_or(state.head + 1);
        Ok(Extent { first, last: state.head, holes: state.holes.clone() })
    }

    async fn life(&self) -> Option<Epoch> {
        self.believed()
    }

    fn believed(&self) -> Option<Epoch> {
        Some(Epoch::new(1 + self.lock().lives))
    }

    async fn batch(&self, request: BatchGet<'_>) -> Result<Batch, ApiError> {
        {
            let mut state = self.lock();
            state.under_way.0 += 1;
            state.under_way.1 = state.under_way.1.max(state.under_way.0);
        }
        tokio::task::yield_now().await;
        while self.lock().hangs {
            tokio::task::yield_now().await;
        }
        self.lock().under_way.0 -= 1;
        let (mut messages, _) = self.replica(&[request.filter.to_owned()]);
        messages.retain(|message| message.sequence >= request.from);
        let mut bytes = 0;
        let fits = |message: &&Stored| {
            let fits = bytes < request.max_bytes as usize;
            bytes += message.subject.len() + message.payload.len();
            fits
        };
        let sent = messages.iter().take(request.batch as usize).take_while(fits).count();
        let pending = (messages.len() - sent) as u64;
        messages.truncate(sent);
        Ok(Batch { messages, pending })
    }

    async fn multi_last(&self, filters: &[String], bytes: usize) -> Result<MultiLast, ApiError> {
        let (messages, cut) = self.replica(filters);
        let last: BTreeMap<String, Stored> =
            messages.into_iter().map(|message| (message.subject.to_string(), message)).collect();
        let too_long = last.values().map(|message| message.payload.len()).sum::<usize>() > bytes;
        if too_long || last.len() > self.lock().most_subjects {
            return Err(ApiError::TooManySubjects);
        }
        if last.is_empty() {
            return Ok(MultiLast::default());
        }
        let mut messages: Vec<_> = last.into_values().collect();
        messages.sort_unstable_by_key(|message| message.sequence);
        Ok(MultiLast { messages, cut: Some(cut) })
    }

    async fn subjects(&self, filter: &str) -> Result<BTreeMap<String, u64>, ApiError> {
        let mut counts = BTreeMap::new();
        self.kept(filter).iter().for_each(|message| *counts.entry(message.subject.to_string()).or_default() += 1);
        Ok(counts)
    }

    async fn pause(&self, _attempt: u32) {
        tokio::task::yield_now().await;
    }
}
