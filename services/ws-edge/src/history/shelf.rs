//! The recent end of a stream, on this machine's disk, sorted by session.
//!
//! A stream keeps events in the order they came: those of one session lie scattered among those of all others, and the server
//! has to load a whole block of its store (8 MB) for each of them that no other reader has just asked for. With thousands of
//! sessions at once no request, consumer or index gets around that. Only another order does, so an edge keeps a copy in that
//! order: the intake, through which every event comes anyway, puts each on the shelf ([`Shelved`]), and once so many have come,
//! they are written down sorted by session, as one *part*. Reading a session is one small read from each part. What was stored
//! before the edge began is read from the stream, the newest first ([`super::History::keep`]).
//!
//! A session that makes up much of a part is read from the stream all the same: there it lies as close together as here.
//!
//! A shelf is a cache: its files have no names, nothing of it outlives the process, any edge makes its own. It says what it
//! knows: every message of the stream behind its floor and up to its end, of one life. What reaches beyond that is asked of the
//! stream. Whether the life goes on and what the stream has trimmed since is proven after the read, as for any other read; and
//! as long as the stream has holes that nobody explains, that is, somebody deleted from it, the shelf is not asked at all. Of a
//! session that was removed it still holds what the stream does not: that session is not read here.
//!
//! Nobody waits for the disk but who reads from it: if parts come faster than they can be written, the shelf is cleared, and
//! begins anew. Where the disk fails, or is nearly full, nothing is kept for a while.

mod backfill;
mod part;
mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use herald_protocol::{Epoch, SessionId, TopicPattern, record::Purged};
use herald_runtime::metrics::measured;
use metrics::{Gauge, counter, gauge, histogram};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, mpsc},
    time::timeout,
};

use super::{Extent, Holes, Page, Purges, Snapshot, range::PageSize};
use crate::{
    config::HistoryConfig,
    event::Event,
    intake::{Life, Rings},
    planted::{Bug, planted},
};
use part::{Hasher, Part};
use table::Table;

/// Bytes of a part. A read of a session is a read of each part it is in, and a part is in memory until it is full.
const PART: usize = 16 << 20;
/// Of a session with more bytes than this in a part nothing is read here: its events lie close together in the stream, too, and
/// a read takes all that a part has of a session. So it also bounds what a read may hold, and how long it keeps the intake.
const DENSE: u64 = if cfg!(test) { 4 << 10 } else { 1 << 20 };
/// Parts waiting to be written at most.
const WRITING: usize = 4;
/// Reads at a time. Mostly the system has in memory what is read; more threads would wait for each other.
const READS: usize = 4;

/// A stream's recent end. Empty until an intake feeds it.
pub struct Shelf {
    stream: String,
    folder: PathBuf,
    /// Bytes of its disk that stay free.
    spare: u64,
    /// Bytes of all parts at most.
    most: u64,
    /// Bytes of one part.
    part: usize,
    hasher: Hasher,
    state: Mutex<State>,
    /// Reads at a time, and how long one may take.
    permits: Semaphore,
    timeout: Duration,
    /// Parts to be written.
    full: mpsc::Sender<Arc<Part>>,
    written: Mutex<Option<mpsc::Receiver<Arc<Part>>>>,
    /// The shelf begins anew.
    anew: Notify,
    meters: Meters,
}

struct Meters {
    messages: Gauge,
    bytes: Gauge,
    looks_back: Gauge,
}

struct State {
    /// The life that all of it belongs to; none before the first.
    epoch: Option<Epoch>,
    /// Counts how often it was cleared.
    round: u64,
    /// The first sequence that the stream holds, as far as known: it only grows in one life.
    first: u64,
    /// Whether nothing between the stream's first and its last was deleted, as far as known.
    whole: bool,
    /// Everything behind this sequence is here.
    floor: u64,
    /// The older part, one behind the other without a gap: the first begins at the floor, `open` is behind the last.
    parts: VecDeque<Arc<Part>>,
    /// Bytes of `parts`.
    bytes: u64,
    open: Table,
    /// One that was written, to become the open one.
    spare: Option<Table>,
    /// What is dropped, and closed by [`Shelf::keep`]: to close a file may take a while.
    gone: Vec<Arc<Part>>,
    /// The disk failed: nothing is kept until then.
    off: Option<Off>,
}

/// How long the shelf keeps nothing.
#[derive(Clone, Copy)]
struct Off {
    until: Instant,
    pause: Duration,
}

impl Shelf {
    /// An empty shelf for `stream`, if there is to be one.
    #[must_use]
    pub fn new(stream: &str, config: &HistoryConfig) -> Option<Arc<Self>> {
        // These bugs are in reading from the stream: a shelf would hide them.
        let hides = planted(Bug::HistoryEndedEarly) || planted(Bug::LaggingReplica);
        if config.shelf.as_u64() == 0 || hides {
            return None;
        }
        let folder = folder(config);
        if part::is_in_memory(&folder) {
            tracing::warn!(stream, folder = %folder.display(), "no shelf: that folder is in memory (history.shelf_folder)");
            return None;
        }
        Some(Self::of_parts(stream, config, PART))
    }

    fn of_parts(stream: &str, config: &HistoryConfig, part: usize) -> Arc<Self> {
        let (full, written) = mpsc::channel(WRITING);
        let label = || stream.to_owned();
        let looks_back = gauge!("herald_shelf_looks_back", "stream" => label());
        // It will, as soon as the intake knows the stream.
        looks_back.set(1.0);
        let shelf = Arc::new(Self {
            stream: stream.to_owned(),
            folder: folder(config),
            spare: config.shelf_spare.as_u64(),
            most: config.shelf.as_u64(),
            part,
            hasher: Hasher::default(),
            state: Mutex::new(State::behind(0)),
            permits: Semaphore::new(READS),
            timeout: config.timeout.get(),
            full,
            written: Mutex::new(Some(written)),
            anew: Notify::new(),
            meters: Meters {
                messages: gauge!("herald_shelf_messages", "stream" => label()),
                bytes: gauge!("herald_shelf_bytes", "stream" => label()),
                looks_back,
            },
        });
        let writing = gauge!("herald_shelf_writing_count", "stream" => label());
        measured(writing, &shelf, |shelf| shelf.full.max_capacity() - shelf.full.capacity());
        shelf
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was heard of the stream's leader, all of it in that life.
    pub(super) fn heard(&self, epoch: Epoch, extent: &Extent) {
        let mut state = self.lock();
        if state.epoch == Some(epoch) {
            state.whole = extent.holes == Holes::None;
            // One that never held anything says 0.
            state.first = state.first.max(extent.first).max(1);
        }
    }

    /// How many files it may have open.
    #[must_use]
    pub fn files(config: &HistoryConfig) -> u64 {
        config.shelf.as_u64() / PART as u64 + READS as u64 + WRITING as u64
    }

    /// Whether it may be asked: as far as known, nothing was deleted from the stream.
    pub(super) fn answers(&self) -> bool {
        let state = self.lock();
        state.whole && state.epoch.is_some()
    }

    /// The next message of the stream.
    fn put(&self, event: &Event) {
        let mut state = self.lock();
        if state.off.is_some_and(|off| Instant::now() < off.until) {
            return state.skip(event.seq);
        }
        if state.open.has_room(event, self.part) {
            return state.open.put(&self.hasher, event);
        }
        let full = state.close();
        if self.full.try_send(full).is_err() {
            counter!("herald_shelf_cleared_total", "reason" => "disk_too_slow").increment(1);
            let at = state.open.upto();
            self.clear(&mut state, at);
        }
        state.open.put(&self.hasher, event);
        self.limit(&mut state);
    }

    /// Begins anew behind `at`.
    fn clear(&self, state: &mut State, at: u64) {
        state.skip(at);
        state.round += 1;
        self.show(state);
        self.anew.notify_one();
    }

    /// Drops what is too much, the oldest first.
    fn limit(&self, state: &mut State) {
        while state.bytes > self.most
            && let Some(part) = state.parts.pop_front()
        {
            state.bytes -= part.bytes();
            state.floor = part.upto();
            state.gone.push(part);
        }
        self.show(state);
    }

    fn show(&self, state: &State) {
        self.meters.messages.set((state.open.upto() - state.floor) as f64);
        self.meters.bytes.set((state.bytes + state.open.bytes()) as f64);
    }

    /// Puts a part that was read from the stream in front of the others, if it still belongs there.
    fn put_before(&self, round: u64, part: Arc<Part>) -> bool {
        let mut state = self.lock();
        if state.round != round || state.floor != part.upto() {
            return false;
        }
        state.floor = part.floor();
        state.bytes += part.bytes();
        state.parts.push_front(part);
        self.show(&state);
        true
    }

    /// What was in memory is in a file now.
    fn replace(&self, old: Arc<Part>, new: Part) {
        let mut state = self.lock();
        if let Some(place) = state.parts.iter().position(|part| Arc::ptr_eq(part, &old)) {
            // A file does without the links that a table needs.
            state.bytes = state.bytes - old.bytes() + new.bytes();
            state.parts[place] = Arc::new(new);
        }
        // Unless somebody reads from it just now.
        if let Some(Part::Table(table)) = Arc::into_inner(old) {
            state.spare = Some(table);
        }
    }

    /// The parts that hold what lies behind `after` and up to `upto`, and what the open one has of `session` in there; `None`
    /// where the shelf does not hold all of it, or too much. With the end of the shelf.
    fn find(&self, life: Option<Epoch>, session: &SessionId, after: u64, upto: Option<u64>) -> Option<Found> {
        let hash = self.hasher.of(session.as_str());
        let (mut parts, open, after, upto) = {
            let state = self.lock();
            let end = state.open.upto();
            // Where it holds all of the stream, it holds whatever is behind any place.
            let after = if state.floor < state.first { after.max(state.floor) } else { after };
            let upto = upto.unwrap_or(end);
            let knows = state.whole && state.epoch.is_some() && state.epoch == life;
            if !knows || after < state.floor || upto > end || state.open.bytes_of(hash) > DENSE {
                return None;
            }
            let reaches = |part: &&Arc<Part>| part.upto() > after && part.floor() < upto;
            let parts: Vec<_> = state.parts.iter().filter(reaches).cloned().collect();
            (parts, state.open.of_session(hash), after, upto)
        };
        if parts.iter().any(|part| part.bytes_of(hash) > DENSE) {
            return None;
        }
        parts.retain(|part| part.bytes_of(hash) > 0);
        Some(Found { parts, open, hash, session: session.clone(), after, upto })
    }

    /// The sequence behind which it holds everything, and the first that the stream holds, as far as known.
    fn begins(&self) -> (u64, u64) {
        let state = self.lock();
        (state.floor, state.first)
    }

    /// As [`super::History::page`]; `None` where the shelf does not hold it.
    pub(super) async fn page(
        &self,
        size: PageSize,
        life: Option<Epoch>,
        session: &SessionId,
        roots: &[Arc<str>],
        after: u64,
        upto: u64,
    ) -> Option<Page> {
        let _permit = self.permit().await?;
        let found = self.find(life, session, after, Some(upto))?;
        let roots: Vec<_> = roots.to_vec();
        self.read(move || {
            let (mut left, mut bytes_left) = (size.events as usize, size.bytes as usize);
            let mut events = Vec::new();
            found.each(|event| {
                if left == 0 || bytes_left == 0 {
                    return false;
                }
                left -= 1;
                bytes_left = bytes_left.saturating_sub(event.subject().len() + event.payload.len());
                events.push(event);
                true
            })?;
            let full = left == 0 || bytes_left == 0;
            let through = if full { events.last().map_or(upto, |event| event.seq) } else { upto };
            events.retain(|event| roots.iter().any(|root| **root == *event.root()));
            Ok(Page { events, through })
        })
        .await
    }

    /// As [`super::History::before`]: the outer `None` where the shelf does not know.
    pub(super) async fn before(
        &self,
        life: Option<Epoch>,
        session: &SessionId,
        roots: &[Arc<str>],
        seq: u64,
        shows: impl Fn(&Event) -> bool,
    ) -> Option<u64> {
        let _permit = self.permit().await?;
        let (floor, first) = self.begins();
        let mut found = self.find(life, session, floor, Some(seq.saturating_sub(1).max(floor)))?;
        let is_it =
            |event: &&Event| event.seq >= first && roots.iter().any(|root| **root == *event.root()) && shows(event);
        // Mostly it is near.
        let parts = std::mem::take(&mut found.parts);
        let mut piece = Some(found);
        let mut parts = parts.into_iter().rev();
        while let Some(now) = piece.take() {
            let next = parts.next().map(|part| Found { parts: vec![part], open: Vec::new(), ..now.clone() });
            let events = self
                .read(move || {
                    let mut events = Vec::new();
                    now.each(|event| {
                        events.push(event);
                        true
                    })?;
                    Ok(events)
                })
                .await?;
            if let Some(found) = events.iter().rfind(is_it) {
                return Some(found.seq);
            }
            piece = next;
        }
        // Nothing on the shelf: nothing at all, if the stream begins here.
        (floor < first).then_some(0)
    }

    /// As [`super::History::snapshot`]; `None` where the shelf does not hold all of the stream, or more of the session than
    /// `most_bytes`.
    pub(super) async fn snapshot(
        &self,
        life: Option<Epoch>,
        session: &SessionId,
        filters: &[String],
        most_bytes: usize,
    ) -> Option<Snapshot> {
        let _permit = self.permit().await?;
        let (floor, first) = self.begins();
        if floor >= first {
            return None;
        }
        let found = self.find(life, session, floor, None)?;
        if found.bytes() > most_bytes as u64 {
            return None;
        }
        let patterns: Vec<_> = filters.iter().filter_map(|filter| TopicPattern::parse(filter).ok()).collect();
        self.read(move || {
            let cut = found.upto;
            let mut last = BTreeMap::new();
            found.each(|event| {
                if event.seq >= first && patterns.iter().any(|pattern| pattern.matches(event.subject())) {
                    last.insert(event.subject().to_owned(), event);
                }
                true
            })?;
            let mut events: Vec<_> = last.into_values().collect();
            events.sort_unstable_by_key(|event| event.seq);
            Ok(Snapshot { events, cut })
        })
        .await
    }

    /// The right to read, before anything is copied for it. `None`: too many others want to.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        let permit = timeout(self.timeout, self.permits.acquire()).await;
        if permit.is_err() {
            counter!("herald_shelf_refused_total").increment(1);
        }
        // Never closed, so always granted.
        permit.ok()?.ok()
    }

    /// Reads on a thread that may wait for the disk. `None`: it does not answer.
    async fn read<T: Send + 'static>(&self, read: impl FnOnce() -> io::Result<T> + Send + 'static) -> Option<T> {
        let begun = Instant::now();
        let reading = async { tokio::task::spawn_blocking(read).await.map_err(io::Error::other)? };
        let answer = match timeout(self.timeout, reading).await {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        histogram!("herald_history_read_seconds", "kind" => "shelf").record(begun.elapsed());
        answer.inspect_err(|error| tracing::warn!(stream = self.stream, %error, "the shelf can't be read")).ok()
    }
}

impl State {
    /// Of no life, and with nothing up to and including `at`.
    fn behind(at: u64) -> Self {
        let parts = VecDeque::new();
        let open = Table::behind(at);
        Self {
            epoch: None,
            round: 0,
            first: 0,
            whole: true,
            floor: at,
            parts,
            bytes: 0,
            open,
            spare: None,
            gone: Vec::new(),
            off: None,
        }
    }

    /// Holds nothing up to and including `at`.
    fn skip(&mut self, at: u64) {
        self.gone.extend(self.parts.drain(..));
        let empty = Table::behind(at);
        self.open = std::mem::replace(&mut self.open, empty).again_behind(at);
        (self.floor, self.bytes) = (at, 0);
    }

    /// Makes the open part one of the others, and opens another one.
    fn close(&mut self) -> Arc<Part> {
        let floor = self.open.upto();
        let next = self.spare.take().map_or_else(|| Table::behind(floor), |spare| spare.again_behind(floor));
        let full = Arc::new(Part::Table(std::mem::replace(&mut self.open, next)));
        self.bytes += full.bytes();
        self.parts.push_back(full.clone());
        full
    }
}

/// Where the files are: where temporary ones are, and rather where those that may be large are.
fn folder(config: &HistoryConfig) -> PathBuf {
    let large = PathBuf::from("/var/tmp");
    let default = || if large.is_dir() { large.clone() } else { std::env::temp_dir() };
    config.shelf_folder.clone().unwrap_or_else(default)
}

/// Where a session's events between two positions are.
#[derive(Clone)]
struct Found {
    parts: Vec<Arc<Part>>,
    /// Those of the open part, in order.
    open: Vec<Event>,
    hash: u64,
    session: SessionId,
    after: u64,
    upto: u64,
}

impl Found {
    /// Bytes of the session in these parts, about.
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes_of(self.hash)).sum()
    }

    /// Hands out the events in order, as long as they are taken.
    fn each(self, mut take: impl FnMut(Event) -> bool) -> io::Result<()> {
        let wanted = |event: &Event| {
            event.seq > self.after && event.seq <= self.upto && event.session() == self.session.as_str()
        };
        for part in &self.parts {
            for event in part.of_session(self.hash)?.into_iter().filter(wanted) {
                if !take(event) {
                    return Ok(());
                }
            }
        }
        for event in self.open.iter().filter(|event| wanted(event)) {
            if !take(event.clone()) {
                break;
            }
        }
        Ok(())
    }
}

/// Puts on the shelf what the rings get.
pub struct Shelved<R> {
    shelf: Option<Arc<Shelf>>,
    purges: Arc<Purges>,
    rings: Arc<R>,
}

impl<R: Rings> Shelved<R> {
    /// `rings`, and a shelf beside them. What is heard of removed sessions is noted in `purges`, by which history knows what of
    /// the shelf is no more.
    #[must_use]
    pub fn new(shelf: Option<Arc<Shelf>>, purges: &Arc<Purges>, rings: Arc<R>) -> Arc<Self> {
        Arc::new(Self { shelf, purges: purges.clone(), rings })
    }
}

/// The shelf comes first: whatever position the rings have reached, it holds.
impl<R: Rings> Rings for Shelved<R> {
    fn append(&self, event: &Event) {
        if let Some(shelf) = &self.shelf {
            shelf.put(event);
        }
        self.rings.append(event);
    }

    fn flush(&self) {
        self.rings.flush();
    }

    fn advance(&self, seq: u64) {
        if let Some(shelf) = &self.shelf {
            shelf.lock().open.advance(seq);
        }
        self.rings.advance(seq);
    }

    fn purged(&self, seq: u64, purged: &Purged) {
        self.purges.note(seq, purged);
        self.rings.purged(seq, purged);
    }

    fn reset(&self, life: Life) {
        self.purges.forget();
        if let Some(shelf) = &self.shelf {
            let mut state = shelf.lock();
            (state.epoch, state.first, state.whole) = (Some(life.epoch), 0, true);
            shelf.clear(&mut state, life.head);
        }
        self.rings.reset(life);
    }

    fn mark_broken(&self, head: u64) {
        if let Some(shelf) = &self.shelf {
            counter!("herald_shelf_cleared_total", "reason" => "skipped").increment(1);
            let mut state = shelf.lock();
            shelf.clear(&mut state, head);
        }
        self.rings.mark_broken(head);
    }

    fn suspend(&self) {
        self.rings.suspend();
    }

    fn resume(&self) {
        self.rings.resume();
    }
}
