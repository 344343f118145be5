//! What keeps a shelf: parts are written, and what was stored before the intake began is read from the stream.

use std::{sync::Arc, time::Duration};

use async_nats::Subject;
use bytes::Bytes;
use herald_runtime::jetstream::{ApiError, Batch, BatchGet};
use metrics::counter;
use tokio::time::{Instant, sleep};

use super::{Holes, Off, Part, PoisonError, Shelf, Table};
use crate::{event::Event, history::reads::Reads};

/// Messages and bytes asked for at a time: some milliseconds of this machine's and the server's time.
const BATCH: (u32, u32) = (2048, 1 << 20);
/// So many times as long as it was busy it rests: others want to read, and all want their events now.
const REST: u32 = 3;
/// Messages of the first part that is read; how many fit is seen then.
const FIRST: u64 = if cfg!(test) { 16 } else { 1_000 };
/// How long nothing is kept after the disk failed: at first, and at most, doubled each time.
const OFF: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// Pause after a read that failed, and while a replica lags.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the metrics are brought up to date.
const SHOWN: Duration = Duration::from_secs(1);
/// A read that got nothing new so often is given up until the shelf begins anew.
const TRIES: u32 = 10;

/// Why the past is not read any further.
pub(super) enum End {
    /// There is no more, or no room for it.
    Complete,
    /// The shelf was cleared meanwhile, or the stream lives another life.
    Anew,
    /// Something is missing in the stream, or it does not answer.
    Hole,
    /// The disk fails.
    Disk,
}

/// What was read of the past.
enum Between {
    All(Table),
    /// It is more than fits a part by far.
    TooMuch,
    /// Nothing is there to be read.
    Nothing,
}

impl Shelf {
    /// Writes parts and reads the past, for ever. To be run once.
    pub(in crate::history) async fn keep(self: Arc<Self>, reads: &impl Reads) {
        let parts = self.written.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut parts) = parts else { return };
        let write = async {
            while let Some(part) = parts.recv().await {
                self.write(part).await;
            }
        };
        let look_back = async {
            loop {
                self.anew.notified().await;
                let begun = Instant::now();
                self.meters.looks_back.set(1.0);
                let reason = match self.look_back(reads).await {
                    End::Complete => "complete",
                    End::Anew => "cleared",
                    End::Hole => "something is missing",
                    End::Disk => "the disk fails",
                };
                let (floor, upto) = self.held();
                let seconds = begun.elapsed().as_secs();
                self.meters.looks_back.set(0.0);
                tracing::info!(stream = self.stream, floor, upto, reason, seconds, "the shelf has taken in the past");
            }
        };
        let show = async {
            loop {
                sleep(SHOWN).await;
                let gone = {
                    let mut state = self.lock();
                    self.show(&state);
                    std::mem::take(&mut state.gone)
                };
                if !gone.is_empty() {
                    let _closed = tokio::task::spawn_blocking(move || drop(gone)).await;
                }
            }
        };
        tokio::join!(write, look_back, show);
    }

    /// The sequences between which it holds everything.
    pub(super) fn held(&self) -> (u64, u64) {
        let state = self.lock();
        (state.floor, state.open.upto())
    }

    pub(super) async fn write(&self, part: Arc<Part>) {
        let (folder, spare, old) = (self.folder.clone(), self.spare, part.clone());
        let written = tokio::task::spawn_blocking(move || old.write(&folder, spare)).await;
        match written {
            Ok(Ok(Some(new))) => self.replace(part, new),
            Ok(Ok(None)) => {}
            failed => self.fail(&failed.map(|write| write.err())),
        }
    }

    /// The disk takes nothing: what is in memory must not grow, and nothing is tried again for a while.
    fn fail(&self, error: &dyn std::fmt::Debug) {
        counter!("herald_shelf_cleared_total", "reason" => "disk").increment(1);
        let mut state = self.lock();
        let pause = state.off.map_or(OFF.0, |off| (off.pause * 2).min(OFF.1));
        state.off = Some(Off { until: std::time::Instant::now() + pause, pause });
        let at = state.open.upto();
        state.skip(at);
        state.round += 1;
        drop(state);
        tracing::warn!(stream = self.stream, ?error, folder = %self.folder.display(), ?pause, "the shelf can't be written");
    }

    /// Reads from the floor back to the stream's beginning, or until the shelf is full.
    pub(super) async fn look_back(&self, reads: &impl Reads) -> End {
        let mut window = FIRST;
        let round = self.lock().round;
        loop {
            let (now, floor, epoch, bytes) = {
                let state = self.lock();
                (state.round, state.floor, state.epoch, state.bytes + state.open.bytes())
            };
            let Some(epoch) = epoch.filter(|_| now == round) else { return End::Anew };
            let Ok(extent) = reads.extent().await else {
                sleep(PAUSE).await;
                continue;
            };
            if reads.life().await != Some(epoch) {
                // In doubt: for a moment, or until the intake has cleared the shelf for another life.
                sleep(PAUSE).await;
                continue;
            }
            self.heard(epoch, &extent);
            // A stream that never held anything says 0.
            let first = extent.first.max(1);
            if floor < first || bytes + self.part as u64 > self.most {
                return End::Complete;
            }
            let from = first.max((floor + 1).saturating_sub(window));
            // What is missing and explained is nobody's: there is nothing to be read in its place.
            let whole = extent.holes == Holes::None;
            let table = match self.read_between(reads, from, floor, whole).await {
                Between::All(table) => table,
                Between::Nothing => return End::Hole,
                Between::TooMuch => {
                    window = (window / 8).max(1);
                    continue;
                }
            };
            // What was read, was read in the life that goes on, or is read again.
            if reads.life().await != Some(epoch) {
                continue;
            }
            let (begin, bytes, begun) = (table.floor(), table.bytes(), Instant::now());
            let (folder, spare) = (self.folder.clone(), self.spare);
            let part = Part::Table(table);
            let written = tokio::task::spawn_blocking(move || {
                Ok::<_, std::io::Error>(part.write(&folder, spare)?.unwrap_or(part))
            });
            let part = match written.await {
                Ok(Ok(part)) => part,
                failed => {
                    let error = failed.map(|write| write.err());
                    tracing::warn!(stream = self.stream, ?error, "the shelf can't be written: it holds what comes");
                    return End::Disk;
                }
            };
            if !self.put_before(round, Arc::new(part)) {
                return End::Anew;
            }
            if begin >= from {
                return End::Hole;
            }
            let each = (bytes / (floor - begin)).max(1);
            window = (self.part as u64 / each).clamp(1, 1 << 20);
            sleep(begun.elapsed() * REST).await;
        }
    }

    /// All messages from `from` to `upto`; where something is missing, those behind it, unless the stream is `whole` without.
    async fn read_between(&self, reads: &impl Reads, from: u64, upto: u64, whole: bool) -> Between {
        let mut table = Table::behind(from - 1);
        let mut tries = 0;
        while table.upto() < upto {
            let left = u32::try_from(upto - table.upto()).unwrap_or(u32::MAX);
            let request =
                BatchGet { filter: ">", from: table.upto() + 1, batch: left.min(BATCH.0), max_bytes: BATCH.1 };
            let begun = Instant::now();
            let batch: Result<Batch, ApiError> = reads.batch(request).await;
            let before = table.upto();
            for message in batch.map(|batch| batch.messages).unwrap_or_default() {
                if message.sequence > upto {
                    if whole {
                        table.advance(upto);
                    }
                    break;
                }
                if message.sequence != table.upto() + 1 && !whole {
                    table = Table::behind(message.sequence - 1);
                }
                let (seq, ts_ms) = (message.sequence, message.time_ms());
                // One message at a time, so that nothing keeps the buffer it came in.
                let (subject, payload): (Subject, Bytes) = (message.subject, message.payload);
                match Event::parse(subject, seq, ts_ms, payload) {
                    Some(event) => table.put(&self.hasher, &event),
                    None => table.advance(seq),
                }
            }
            if table.upto() == before {
                tries += 1;
                if tries == TRIES {
                    return Between::Nothing;
                }
                sleep(PAUSE).await;
            }
            if table.bytes() > 2 * self.part as u64 && from < upto {
                return Between::TooMuch;
            }
            sleep(begun.elapsed() * REST).await;
        }
        Between::All(table)
    }
}
