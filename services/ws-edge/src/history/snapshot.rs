//! The state of things: the last event of each subject, as of one moment.

use std::sync::Arc;

use herald_protocol::{SessionId, subject};
use herald_runtime::jetstream::{ApiError, Stored};

use super::{
    Snapshot,
    range::{self, Asked, PageSize},
    reads::Reads,
};
use crate::event::Event;

/// The last event of each of the session's subjects that match `filters`, with the cut they belong to: `most_bytes` of
/// payload at most.
pub(super) async fn snapshot(
    reads: &impl Reads,
    session: &SessionId,
    filters: &[String],
    most_bytes: usize,
) -> Result<Snapshot, ApiError> {
    if let Some(snapshot) = cut(reads, session, filters, most_bytes).await? {
        return Ok(snapshot);
    }
    // Too much for one answer: topic by topic, each with a cut of its own. A topic that is too much alone counts as cut at
    // 0: then all of it is read as history, which is long, but right. So is what is too much together.
    let (mut parts, mut left) = (Vec::with_capacity(filters.len()), most_bytes);
    for filter in filters {
        let Some(part) = cut(reads, session, std::slice::from_ref(filter), left).await? else {
            return Ok(Snapshot::default());
        };
        left = left.saturating_sub(part.events.iter().map(|event| event.payload.len()).sum());
        parts.push(part);
    }
    Ok(merge(parts))
}

/// The last event up to `upto`, which the stream has reached, of each of the session's subjects that match `filters`; `None`: these
/// are too many, or more than `most_bytes`. Those that have moved on since are looked for one by one.
pub(super) async fn as_of(
    reads: &impl Reads,
    session: &SessionId,
    (filters, size): (&[String], PageSize),
    upto: u64,
    most_bytes: usize,
) -> Result<Option<Vec<Event>>, ApiError> {
    let cuts = match cut_behind(reads, session, filters, upto, most_bytes).await? {
        Some(cut) => vec![cut],
        None => {
            let mut cuts = Vec::with_capacity(filters.len());
            for filter in filters {
                let cut = cut_behind(reads, session, std::slice::from_ref(filter), upto, most_bytes).await?;
                let Some(cut) = cut else { return Ok(None) };
                cuts.push(cut);
            }
            cuts
        }
    };
    let (mut events, mut bytes) = (Vec::new(), 0);
    for event in cuts.into_iter().flat_map(|cut| cut.events) {
        let event = if event.seq <= upto {
            Some(event)
        } else {
            let roots: [Arc<str>; 1] = [event.root().into()];
            let asked = Asked::of_subject(event.subject(), &roots);
            range::tail(reads, size, &asked, upto, 1, |_| true).await?.pop()
        };
        bytes += event.as_ref().map_or(0, |event| event.payload.len());
        if bytes > most_bytes {
            return Ok(None);
        }
        events.extend(event);
    }
    Ok(Some(events))
}

/// One cut that is not before `upto`: by a replica that has come so far.
async fn cut_behind(
    reads: &impl Reads,
    session: &SessionId,
    filters: &[String],
    upto: u64,
    most_bytes: usize,
) -> Result<Option<Snapshot>, ApiError> {
    for attempt in 0.. {
        match cut(reads, session, filters, most_bytes).await? {
            Some(early) if early.cut < upto => reads.pause(attempt).await,
            cut => return Ok(cut),
        }
    }
    unreachable!("attempts are not counted to the end of u32")
}

/// One cut through all of `filters`; `None` where that is too much for one answer.
async fn cut(
    reads: &impl Reads,
    session: &SessionId,
    filters: &[String],
    most_bytes: usize,
) -> Result<Option<Snapshot>, ApiError> {
    for attempt in 0.. {
        let answer = match reads.multi_last(filters, most_bytes).await {
            Err(ApiError::TooManySubjects) => return Ok(None),
            answer => answer?,
        };
        if let Some(cut) = answer.cut {
            let event = |message: Stored| {
                let ts_ms = message.time_ms();
                Event::parse(message.subject, message.sequence, ts_ms, message.payload)
            };
            return Ok(Some(Snapshot { events: answer.messages.into_iter().filter_map(event).collect(), cut }));
        }
        // Nothing found gives no cut. The head is one, if the leader holds nothing of it either once the head is known.
        let head = reads.extent().await?.last;
        if !exists(reads, session, filters).await? {
            return Ok(Some(Snapshot { events: vec![], cut: head }));
        }
        reads.pause(attempt).await;
    }
    unreachable!("attempts are not counted to the end of u32")
}

/// Whether the leader holds anything of `filters`.
async fn exists(reads: &impl Reads, session: &SessionId, filters: &[String]) -> Result<bool, ApiError> {
    // Mostly the session has nothing at all yet: one question in place of many.
    if filters.len() > 1 && reads.last(&subject::session_any_root(session)).await?.is_none() {
        return Ok(false);
    }
    for filter in filters {
        if reads.last(filter).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Snapshots of several topics as one, at the earliest of their cuts. What lies behind it comes again with the events that
/// follow the cut; so a subject that moved between the cuts is absent here and arrives there.
fn merge(parts: Vec<Snapshot>) -> Snapshot {
    let cut = parts.iter().map(|part| part.cut).min().unwrap_or(0);
    let mut events: Vec<Event> =
        parts.into_iter().flat_map(|part| part.events).filter(|event| event.seq <= cut).collect();
    events.sort_unstable_by_key(|event| event.seq);
    // Two patterns may match the same subject.
    events.dedup_by_key(|event| event.seq);
    Snapshot { events, cut }
}
