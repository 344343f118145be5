//! Reading back from the stream what is no longer, or not yet, in a ring.
//!
//! Three questions: what happened between two positions ([`History::page`]), what is the state of things
//! ([`History::snapshot`]), and which event came before this one ([`History::before`]). None of them needs a consumer, all
//! of them are right whichever replica answers, and none can be asked without limits: so many reads at once, a page at a
//! time, so long. Equal questions asked at the same time are one read.
//!
//! What a [`Shelf`] holds is read there, and the stream is asked for the rest.
//!
//! An answer belongs to the life of the stream it was read in. That the stream still lives this life is proven *after* the
//! read ([`History::proof`]): whatever was read before, was read in it. Who sees another life drops the answer.

mod flight;
mod forks;
mod holes;
mod purges;
mod range;
mod reads;
mod shelf;
mod snapshot;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use herald_protocol::{Epoch, SessionId, subject};
use herald_runtime::{
    jetstream::{ApiError, epoch::EpochWatcher},
    metrics::measured,
    nats::Nats,
};
use tokio::{sync::Semaphore, time::timeout};

use crate::{config::HistoryConfig, event::Event, sessions::LastWords};
pub(crate) use flight::Flights;
use flight::Waves;
pub(crate) use forks::Counts;
use forks::Forks;
pub use holes::Holes;
pub use purges::Purges;
use range::{Asked, PageSize};
use reads::{JetStream, Reads};
pub use shelf::{Shelf, Shelved};

/// Counts those who share another one's read.
pub(crate) const SHARED_READS: &str = "herald_history_shared_reads_total";
/// Events of one page at most: a page of tokens is no larger than one of articles.
const PAGE_EVENTS: u32 = 512;

/// A piece of a session's past.
#[derive(Debug, Default)]
pub struct Page {
    /// Its events, ordered by sequence.
    pub events: Vec<Event>,
    /// Every event of the session behind the asked position and up to here is in `events`. Equal to the asked end where
    /// nothing is left to read, else the position to ask from next.
    pub through: u64,
}

/// The last event of each asked subject, as of one moment.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// Ordered by sequence.
    pub events: Vec<Event>,
    /// That moment: what is behind this sequence is to be read from history or ring.
    pub cut: u64,
}

/// What the stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Sequence of the first kept event (one above `last` where none is).
    pub first: u64,
    /// Sequence of the last event ever stored.
    pub last: u64,
    /// What is missing between the two.
    pub holes: Holes,
}

/// What the stream holds, and in which life: both as its leader had it after the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What it holds.
    pub extent: Extent,
    /// The life it lives; `None` while that is in doubt. Looked at after the extent.
    pub epoch: Option<Epoch>,
}

/// Why a read failed. The connection that asked is closed with its cursor and comes back.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// NATS or the stream does not answer.
    #[error("history is not available")]
    Unavailable(#[source] Arc<ApiError>),
    /// Too many others are reading, or the read took too long.
    #[error("history read timed out")]
    Timeout,
}

/// Reads one stream's past. Clones share their limits and their reads.
#[derive(Clone)]
pub struct History {
    inner: Arc<Inner<JetStream>>,
    shelf: Option<Arc<Shelf>>,
    purges: Arc<Purges>,
    forks: Arc<Forks>,
}

impl History {
    /// History of `stream`, whose life `watcher` follows.
    #[must_use]
    pub fn new(nats: &Nats, stream: &str, config: &HistoryConfig, watcher: &Arc<EpochWatcher>) -> Self {
        let purges = Arc::<Purges>::default();
        let running = metrics::gauge!("herald_history_running_count", "stream" => stream.to_owned());
        let (stream, watcher) = (stream.to_owned(), watcher.clone());
        let reads = JetStream { nats: nats.clone(), stream, watcher, purges: purges.clone() };
        let bytes = u32::try_from(config.page.as_u64()).unwrap_or(u32::MAX);
        let inner = Inner::new(reads, config, PageSize { events: PAGE_EVENTS, bytes });
        let most = inner.gate.permits.available_permits();
        measured(running, &inner, move |inner| most - inner.gate.permits.available_permits());
        Self { inner, shelf: None, purges, forks: Arc::default() }
    }

    /// What is known of sessions that were removed, to be told by the intake.
    #[must_use]
    pub const fn purges(&self) -> &Arc<Purges> {
        &self.purges
    }

    /// History that reads what it can from `shelf`. Somebody has to [`History::keep`] it.
    #[must_use]
    pub fn with_shelf(self, shelf: Option<Arc<Shelf>>) -> Self {
        Self { shelf, ..self }
    }

    /// This history without its shelf: for what was deleted from the stream is still on the shelf.
    pub(crate) fn without_shelf(&self) -> Self {
        self.clone().with_shelf(None)
    }

    /// Whether there is a shelf that may answer.
    pub(crate) fn asks_shelf(&self) -> bool {
        self.shelf.as_ref().is_some_and(|shelf| shelf.answers())
    }

    /// Keeps the shelf, for ever: writes what has come, and reads what was there before.
    pub async fn keep(&self) {
        if let Some(shelf) = &self.shelf {
            shelf.clone().keep(&self.inner.reads).await;
        }
    }

    /// The life that the stream is believed to live. Two reads that began in different lives are not one, however equal.
    pub(crate) fn believed(&self) -> Option<Epoch> {
        self.inner.reads.believed()
    }

    /// The session's events of `roots` behind `after` and up to `upto`, as many as fit one page.
    ///
    /// `upto` must be a sequence the stream has already reached (a ring's floor): the answer is complete up to
    /// [`Page::through`], whichever replica gave it. Equal questions asked at the same time share one read.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing is returned by halves. Cancelling is safe.
    pub async fn page(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        after: u64,
        upto: u64,
    ) -> Result<Arc<Page>, HistoryError> {
        match self.lineage(session).await? {
            None => self.own_page(session, roots, after, upto).await,
            Some(lineage) => self.page_of_fork(&lineage, session, roots, (after, upto)).await,
        }
    }

    /// The same, of its own log alone.
    async fn own_page(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        after: u64,
        upto: u64,
    ) -> Result<Arc<Page>, HistoryError> {
        if after < upto
            && let Some(shelf) = &self.shelf
            && let Some(page) = shelf.page(self.inner.page, self.believed(), session, roots, after, upto).await
        {
            return Ok(Arc::new(page));
        }
        self.inner.page(session, roots, after, upto).await
    }

    /// Sequence of the session's last event of `roots` below `seq` that `shows` accepts, 0 where none is kept. `seq`
    /// must be one the stream has reached, or one above.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn before(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        seq: u64,
        shows: impl Fn(&Event) -> bool,
    ) -> Result<u64, HistoryError> {
        let own = self.own_before(session, roots, seq, &shows).await?;
        if own == 0
            && let Some(lineage) = self.lineage(session).await?
        {
            for part in lineage.parts.iter().rev() {
                let before = self.own_before(&part.session, roots, seq.min(part.upto + 1), &shows).await?;
                if before > 0 {
                    return Ok(before);
                }
            }
        }
        Ok(own)
    }

    /// The same, in its own log alone.
    async fn own_before(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        seq: u64,
        shows: impl Fn(&Event) -> bool,
    ) -> Result<u64, HistoryError> {
        if let Some(shelf) = &self.shelf
            && let Some(before) = shelf.before(self.believed(), session, roots, seq, &shows).await
        {
            return Ok(before);
        }
        let (inner, asked) = (&*self.inner, Asked::new(session, roots));
        inner.gate.pass("before", range::before(&inner.reads, inner.page, &asked, seq, shows)).await
    }

    /// The last event of each of the session's subjects that match `filters` (whole subjects, wildcards allowed), as
    /// one consistent cut. Equal questions asked at the same time share one read.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn snapshot(&self, session: &SessionId, filters: &[String]) -> Result<Arc<Snapshot>, HistoryError> {
        let lineage = self.lineage(session).await?;
        let own = self.own_snapshot(session, filters).await?;
        match lineage {
            // Nothing is known of its own state but that it is too large.
            Some(lineage) if own.cut > 0 => self.snapshot_of_fork(&lineage, filters, &own).await,
            _ => Ok(own),
        }
    }

    /// The same, of its own log alone.
    async fn own_snapshot(&self, session: &SessionId, filters: &[String]) -> Result<Arc<Snapshot>, HistoryError> {
        if let Some(shelf) = &self.shelf
            && let Some(snapshot) = shelf.snapshot(self.believed(), session, filters, self.inner.snapshot_bytes).await
        {
            return Ok(Arc::new(snapshot));
        }
        self.inner.snapshot(session, filters).await
    }

    /// Sequence of the session's first kept event of `roots`, as the stream's leader has it.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn first(&self, session: &SessionId, roots: &[Arc<str>]) -> Result<Option<u64>, HistoryError> {
        self.inner.gate.pass("first", range::first(&self.inner.reads, session, roots)).await
    }

    /// The session's last events of `roots` that `shows` accepts, `most` at most, in order; as the stream has them, not the shelf.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn tail(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        most: usize,
        shows: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Event>, HistoryError> {
        let (inner, asked) = (&*self.inner, Asked::new(session, roots));
        let own = range::tail(&inner.reads, inner.page, &asked, u64::MAX, most, &shows);
        let own = inner.gate.pass("tail", own).await?;
        match self.lineage(session).await? {
            Some(lineage) if own.len() < most => {
                let mut all = self.tail_of_parts(&lineage, roots, most - own.len(), shows).await?;
                all.extend(own);
                Ok(all)
            }
            _ => Ok(own),
        }
    }

    /// How many messages of the session the stream holds, by subject, control events included, as its leader has it; of what a
    /// fork begins with those of `roots` at least, as far as no more than `most` events have to be read for it.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub(crate) async fn counts(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        most: usize,
    ) -> Result<Counts, HistoryError> {
        let reads = &self.inner.reads;
        let filter = subject::session_any_root(session);
        let own = self.inner.gate.pass("subjects", reads.subjects(&filter)).await?;
        let mut counts = match self.lineage(session).await? {
            Some(lineage) => self.count_parts(&lineage, session, roots, most).await?,
            None => Counts { whole: true, ..Counts::default() },
        };
        for (subject, count) in own {
            *counts.subjects.entry(subject).or_default() += count;
        }
        Ok(counts)
    }

    /// What was last said of the session's end, by whatever root, as the stream's leader has it.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn last_words(&self, session: &SessionId) -> Result<LastWords, HistoryError> {
        let inner = &*self.inner;
        let read = async {
            let last =
                async |filter: String| inner.reads.last(&filter).await.map(|last| last.map_or(0, |it| it.sequence));
            let over = last(subject::over_any_root(session)).await?;
            // Of most sessions nobody has ever said so.
            let action = if over == 0 { 0 } else { last(subject::action_any_root(session)).await? };
            Ok(LastWords { over, action })
        };
        inner.gate.pass("end", read).await
    }

    /// What the stream holds and which life it lives, as its leader has it from now on: whatever was read before belongs
    /// to that life. All who ask while one answer is on its way share the next one.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn proof(&self) -> Result<Arc<Proof>, HistoryError> {
        let before = self.believed();
        let proof = self.inner.proof().await?;
        if let (Some(shelf), Some(epoch)) = (&self.shelf, proof.epoch)
            && before == proof.epoch
        {
            shelf.heard(epoch, &proof.extent);
        }
        Ok(proof)
    }
}

/// A question for a page: the believed life, session, roots, behind, up to.
type PageKey = (Option<Epoch>, SessionId, Box<[Arc<str>]>, u64, u64);
/// A question for a snapshot: the believed life, session, filters.
type SnapshotKey = (Option<Epoch>, SessionId, Box<[String]>);
/// An answer that many may be waiting for.
type Answer<T> = Result<Arc<T>, HistoryError>;

struct Inner<R> {
    reads: R,
    page: PageSize,
    gate: Gate,
    pages: Flights<PageKey, Answer<Page>>,
    snapshots: Flights<SnapshotKey, Answer<Snapshot>>,
    proofs: Waves<Answer<Proof>>,
    /// Bytes of one snapshot at most.
    snapshot_bytes: usize,
}

impl<R: Reads> Inner<R> {
    fn new(reads: R, config: &HistoryConfig, page: PageSize) -> Arc<Self> {
        let permits = Semaphore::new(config.max_reads.min(Semaphore::MAX_PERMITS));
        let gate = Gate { permits, timeout: config.timeout.get() };
        Arc::new(Self {
            reads,
            page,
            gate,
            pages: Flights::new(SHARED_READS),
            snapshots: Flights::new(SHARED_READS),
            proofs: Waves::new(),
            snapshot_bytes: config.snapshot.as_usize(),
        })
    }

    async fn page(
        self: &Arc<Self>,
        session: &SessionId,
        roots: &[Arc<str>],
        after: u64,
        upto: u64,
    ) -> Result<Arc<Page>, HistoryError> {
        if after >= upto {
            return Ok(Arc::new(Page { events: vec![], through: upto }));
        }
        let question: PageKey = (self.reads.believed(), session.clone(), roots.into(), after, upto);
        let begin = || {
            let (inner, (_, session, roots, ..)) = (Arc::clone(self), question.clone());
            async move {
                let asked = Asked::new(&session, &roots);
                let read = range::page(&inner.reads, inner.page, &asked, after, upto);
                inner.gate.pass("page", read).await.map(Arc::new)
            }
            .boxed()
        };
        self.pages.join(question.clone(), begin).await
    }

    async fn snapshot(
        self: &Arc<Self>,
        session: &SessionId,
        filters: &[String],
    ) -> Result<Arc<Snapshot>, HistoryError> {
        let question: SnapshotKey = (self.reads.believed(), session.clone(), Box::from(filters));
        let begin = || {
            let (inner, (_, session, filters)) = (Arc::clone(self), question.clone());
            async move {
                let read = snapshot::snapshot(&inner.reads, &session, &filters, inner.snapshot_bytes);
                inner.gate.pass("snapshot", read).await.map(Arc::new)
            }
            .boxed()
        };
        self.snapshots.join(question.clone(), begin).await
    }

    async fn proof(self: &Arc<Self>) -> Result<Arc<Proof>, HistoryError> {
        let inner = Arc::clone(self);
        let begin = async move {
            let looked = async {
                let extent = inner.reads.extent().await?;
                // Last: what was read before this look was read in the life it sees.
                Ok(Proof { extent, epoch: inner.reads.life().await })
            };
            inner.gate.pass("proof", looked).await.map(Arc::new)
        };
        self.proofs.join(begin.boxed()).await
    }
}

/// What every read passes: so many at once, so long.
struct Gate {
    permits: Semaphore,
    timeout: Duration,
}

impl Gate {
    async fn pass<T>(
        &self,
        kind: &'static str,
        read: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, HistoryError> {
        let begun = Instant::now();
        let permitted = async {
            // Never closed, so always granted.
            let _permit = self.permits.acquire().await;
            read.await
        };
        let answer = match timeout(self.timeout, permitted).await {
            Ok(answer) => answer.map_err(|error| HistoryError::Unavailable(Arc::new(error))),
            Err(_) => Err(HistoryError::Timeout),
        };
        metrics::histogram!("herald_history_read_seconds", "kind" => kind).record(begun.elapsed());
        if let Err(error) = &answer {
            let reason = match error {
                HistoryError::Unavailable(_) => "unavailable",
                HistoryError::Timeout => "timeout",
            };
            metrics::counter!("herald_history_failures_total", "kind" => kind, "reason" => reason).increment(1);
        }
        answer
    }
}
