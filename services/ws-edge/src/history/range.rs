//! A session's events between two positions, complete whichever replica answers.
//!
//! A batched direct get is fast, and on a cluster it may come from a replica that lags: that it ended proves nothing. So
//! the leader is asked for the session's last sequence first, and the read is complete when it has reached that, or the
//! asked end. Where a replica has no more to give before that, the leader is asked for the very next message: there is
//! none any more (purged, trimmed), or the replica lags, and the read goes on behind that message.
//!
//! Several roots are read with one wildcard, `*.<session>.>`, and sorted out here: they come merged by sequence from the
//! same replica, for the price of one read (the server's cost is the part of the stream it looks through, not the
//! messages it sends).

use std::{collections::VecDeque, sync::Arc};

use herald_protocol::{SessionId, subject};
use herald_runtime::jetstream::{ApiError, BatchGet, Stored};

use super::{Page, reads::Reads};
use crate::{
    event::Event,
    planted::{Bug, planted},
};

/// How far `before` looks back at first, in stream sequences, and how much further each time: a session's events come in
/// bursts, so what is looked for is mostly near; the server's cost grows with the distance.
const WINDOW: u64 = 256;
const WIDER: u64 = 16;

/// How much is read at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageSize {
    /// Messages at most.
    pub(super) events: u32,
    /// Bytes; the last message may pass it.
    pub(super) bytes: u32,
}

/// The events asked for: some roots of one session.
pub(super) struct Asked<'a> {
    filter: String,
    roots: &'a [Arc<str>],
}

impl<'a> Asked<'a> {
    pub(super) fn new(session: &SessionId, roots: &'a [Arc<str>]) -> Self {
        let filter = match roots {
            [root] => subject::session_all(root, session),
            _ => subject::session_any_root(session),
        };
        Self { filter, roots }
    }

    /// Those of one subject alone.
    pub(super) fn of_subject(subject: &str, roots: &'a [Arc<str>]) -> Self {
        Self { filter: subject.to_owned(), roots }
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// The event in a message, if it is one of those.
    fn event(&self, message: Stored) -> Option<Event> {
        let ts_ms = message.time_ms();
        let event = Event::parse(message.subject, message.sequence, ts_ms, message.payload)?;
        self.roots.iter().any(|root| **root == *event.root()).then_some(event)
    }
}

/// The events behind `after` and up to `upto`, as many as fit a page.
pub(super) async fn page(
    reads: &impl Reads,
    size: PageSize,
    asked: &Asked<'_>,
    after: u64,
    upto: u64,
) -> Result<Page, ApiError> {
    let last = reads.last(asked.filter()).await?.map_or(0, |message| message.sequence);
    read(reads, size, asked, after, upto, last).await
}

/// As [`page`], the leader's `last` being known; it must have been asked for when the stream had already reached `upto`.
async fn read(
    reads: &impl Reads,
    size: PageSize,
    asked: &Asked<'_>,
    after: u64,
    upto: u64,
    last: u64,
) -> Result<Page, ApiError> {
    let goal = last.min(upto);
    let mut sheet = Sheet { asked, upto, through: after, left: size.events, bytes_left: size.bytes, events: vec![] };
    let mut stalls = 0;
    while sheet.through < goal && sheet.has_room() {
        let request = BatchGet {
            filter: asked.filter(),
            from: sheet.through + 1,
            batch: sheet.left,
            max_bytes: sheet.bytes_left,
        };
        let batch = reads.batch(request).await?;
        let goes_on = batch.pending > 0 && !batch.messages.is_empty();
        batch.messages.into_iter().for_each(|message| sheet.take(message));
        if goes_on || sheet.through >= goal || !sheet.has_room() {
            continue;
        }
        if planted(Bug::HistoryEndedEarly) {
            return Ok(Page { events: sheet.events, through: upto });
        }
        match reads.next(asked.filter(), sheet.through + 1).await? {
            Some(message) if message.sequence <= upto => {
                tracing::debug!(seq = message.sequence, "a replica lags, reading on through the leader");
                metrics::counter!("herald_history_lagging_reads_total").increment(1);
                sheet.take(message);
                reads.pause(stalls).await;
                stalls += 1;
            }
            _ => sheet.through = upto,
        }
    }
    let through = if sheet.through >= goal { upto } else { sheet.through };
    Ok(Page { events: sheet.events, through })
}

/// A page being filled.
struct Sheet<'a> {
    asked: &'a Asked<'a>,
    upto: u64,
    through: u64,
    left: u32,
    bytes_left: u32,
    events: Vec<Event>,
}

impl Sheet<'_> {
    const fn has_room(&self) -> bool {
        self.left > 0 && self.bytes_left > 0
    }

    /// Takes the next message in order. One behind the end proves that there is none left before it.
    fn take(&mut self, message: Stored) {
        if message.sequence > self.upto {
            self.through = self.upto;
            return;
        }
        let bytes = message.subject.len() + message.payload.len();
        self.through = message.sequence;
        self.left = self.left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.events.extend(self.asked.event(message));
    }
}

/// Sequence of the last event below `seq` that `shows` accepts, 0 where there is none.
pub(super) async fn before(
    reads: &impl Reads,
    size: PageSize,
    asked: &Asked<'_>,
    seq: u64,
    shows: impl Fn(&Event) -> bool,
) -> Result<u64, ApiError> {
    let Some(last) = reads.last(asked.filter()).await? else { return Ok(0) };
    let newest = last.sequence;
    let mut end = seq.saturating_sub(1).min(newest);
    if end == newest {
        // Mostly this is the answer. If it is not, it is hidden, and the one looked for lies before it.
        if asked.event(last).is_some_and(|event| shows(&event)) {
            return Ok(newest);
        }
        end -= 1;
    }
    let Some(first) = reads.next(asked.filter(), 1).await? else { return Ok(0) };
    let mut window = WINDOW;
    while end >= first.sequence {
        let start = end.saturating_sub(window).max(first.sequence - 1);
        let (mut after, mut found) = (start, None);
        while after < end {
            let page = read(reads, size, asked, after, end, newest).await?;
            found = page.events.iter().rev().find(|event| shows(event)).map(|event| event.seq).or(found);
            after = page.through;
        }
        if let Some(found) = found {
            return Ok(found);
        }
        end = start;
        window = window.saturating_mul(WIDER);
    }
    Ok(0)
}

/// The last events up to `upto` that `shows` accepts, `most` at most, in order. The stream must have reached `upto`, or that is
/// [`u64::MAX`].
pub(super) async fn tail(
    reads: &impl Reads,
    size: PageSize,
    asked: &Asked<'_>,
    upto: u64,
    most: usize,
    shows: impl Fn(&Event) -> bool,
) -> Result<Vec<Event>, ApiError> {
    let Some(last) = reads.last(asked.filter()).await? else { return Ok(vec![]) };
    let Some(first) = reads.next(asked.filter(), 1).await? else { return Ok(vec![]) };
    let (mut end, mut window, mut found) = (last.sequence.min(upto), WINDOW, VecDeque::new());
    while end >= first.sequence && found.len() < most {
        let start = end.saturating_sub(window).max(first.sequence - 1);
        let (mut after, mut earlier) = (start, VecDeque::new());
        while after < end {
            let page = read(reads, size, asked, after, end, last.sequence).await?;
            after = page.through;
            earlier.extend(page.events.into_iter().filter(&shows));
            earlier.drain(..earlier.len().saturating_sub(most - found.len()));
        }
        earlier.append(&mut found);
        found = earlier;
        end = start;
        window = window.saturating_mul(WIDER);
    }
    Ok(found.into())
}

/// Sequence of the first kept event.
pub(super) async fn first(
    reads: &impl Reads,
    session: &SessionId,
    roots: &[Arc<str>],
) -> Result<Option<u64>, ApiError> {
    let mut first: Option<u64> = None;
    // Root by root: the first of a wildcard over all roots may be of a root that was not asked for, and the next, too.
    for root in roots {
        let next = reads.next(&subject::session_all(root, session), 1).await?;
        first = first.into_iter().chain(next.map(|message| message.sequence)).min();
    }
    Ok(first)
}
