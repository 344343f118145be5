//! What is known of a stream's life, and what a look at the leader makes of it.

use herald_protocol::Epoch;
use serde::{Deserialize, Serialize};

use crate::{
    jetstream::{ApiError, StreamInfo, read::place_leader, stream_info},
    nats::Nats,
};

/// How a stream's life looks from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamLife {
    /// Not known yet, or in doubt for a moment: serve nothing of it, keep what there is.
    Unknown,
    /// Alive. Another epoch than before is another life, also where no [`StreamLife::Rewritten`] was seen in between (a
    /// watch channel shows the latest state, not each one).
    Alive {
        /// The name of this life.
        epoch: Epoch,
        /// The first sequence the stream held at the last look.
        first: u64,
        /// The last sequence it had given out then.
        last: u64,
    },
    /// It is gone, or another one: drop what is known of it, serve nothing until it is `Alive` again.
    Rewritten,
}

impl StreamLife {
    /// The epoch, while alive.
    #[must_use]
    pub const fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Alive { epoch, .. } => Some(*epoch),
            Self::Unknown | Self::Rewritten => None,
        }
    }
}

/// A message that is known to be in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its sequence.
    pub seq: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub time_ns: u64,
}

/// So many former epochs are remembered, in order to recognise one that comes back with an old backup.
const REMEMBERED: usize = 16;

/// What a process knows about a life; also the question on `epoch.<stream>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Every epoch seen so far, the present one last.
    pub(super) seen: Vec<Epoch>,
    /// When the stream was created.
    pub(super) created: String,
    #[serde(flatten)]
    pub(super) anchor: Option<Anchor>,
}

impl Known {
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.seen.last().copied()
    }

    /// The life `info` shows is the present one from now on.
    pub(super) fn adopt(&mut self, epoch: Epoch, info: &StreamInfo) {
        self.seen.retain(|seen| *seen != epoch);
        self.seen.push(epoch);
        if self.seen.len() > REMEMBERED {
            self.seen.remove(0);
        }
        self.created.clone_from(&info.created);
        self.anchor = None;
        self.raise(info);
    }

    /// The head `info` shows is the anchor from now on.
    pub(super) fn raise(&mut self, info: &StreamInfo) {
        if info.last_seq > 0 && info.last_time_ns > 0 {
            self.anchor = Some(Anchor { seq: info.last_seq, time_ns: info.last_time_ns });
        }
    }
}

/// What a look at the leader showed.
#[derive(Debug)]
pub(super) enum Sight {
    /// The life that is known, going on.
    Same(StreamInfo),
    /// A life with an epoch never seen before (or the first one seen).
    Renewed(Epoch, StreamInfo),
    /// Not the life that is known, and no new epoch yet. With what is there instead, and the message that is missing.
    Mismatch(Option<StreamInfo>, Option<Anchor>),
    /// A stream without an epoch, and none was known.
    Nameless,
}

impl Sight {
    /// Why nothing can be stored, although the leader answers.
    pub(super) fn trouble(&self) -> Option<String> {
        let (Self::Same(info) | Self::Renewed(_, info)) = self else { return None };
        (!info.has_quorum())
            .then(|| format!("the stream has no quorum: {} of {} replicas answer", info.answering, info.replicas))
    }
}

/// Looks at the stream through its leader and compares it with what is known: the anchor, and the `position` that a consumer
/// in this process has reached.
pub(super) async fn look(
    nats: &Nats,
    stream: &str,
    known: &Known,
    position: Option<Anchor>,
) -> Result<Sight, ApiError> {
    let info = match stream_info(nats, stream).await {
        Ok(info) => info,
        Err(ApiError::StreamNotFound) if known.seen.is_empty() => return Ok(Sight::Nameless),
        Err(ApiError::StreamNotFound) => return Ok(Sight::Mismatch(None, known.anchor)),
        Err(error) => return Err(error),
    };
    match info.epoch {
        Some(epoch) if !known.seen.contains(&epoch) => return Ok(Sight::Renewed(epoch, info)),
        None if known.seen.is_empty() => return Ok(Sight::Nameless),
        _ => {}
    }
    // An epoch from before the present one came back with an old backup; none at all was lost with the metadata, which
    // alone is no other life.
    let former = info.epoch.is_some_and(|epoch| Some(epoch) != known.epoch());
    if former || info.created != known.created {
        return Ok(Sight::Mismatch(Some(info), position.or(known.anchor)));
    }
    let apart = position.filter(|position| Some(*position) != known.anchor);
    for anchor in [apart, known.anchor].into_iter().flatten() {
        if !holds(nats, &info, anchor).await? {
            return Ok(Sight::Mismatch(Some(info), Some(anchor)));
        }
    }
    Ok(Sight::Same(info))
}

/// Whether the stream that `info` shows has the anchor's message, or had it.
async fn holds(nats: &Nats, info: &StreamInfo, anchor: Anchor) -> Result<bool, ApiError> {
    if info.last_seq < anchor.seq {
        return Ok(false);
    }
    // What was trimmed since can't be compared any more.
    let place = place_leader(nats, &info.name, anchor.seq).await?;
    Ok(place.is_none_or(|(sequence, time_ns)| sequence != anchor.seq || time_ns == anchor.time_ns))
}

/// The last sequence that a life which knew `anchor` has in common with the stream as it is now: whatever was stored after
/// the two parted is younger than anything the former life can have known.
pub(super) async fn last_common(nats: &Nats, info: &StreamInfo, anchor: Option<Anchor>) -> Result<u64, ApiError> {
    let Some(anchor) = anchor else { return Ok(0) };
    // Invariant: everything up to `low` is common, nothing from `high` on.
    let (mut low, mut high) = (info.first_seq.saturating_sub(1), info.last_seq + 1);
    while high > low + 1 {
        let middle = low + (high - low) / 2;
        match place_leader(nats, &info.name, middle).await? {
            Some((sequence, time_ns)) if sequence < high && time_ns <= anchor.time_ns => low = sequence,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The epoch of the life that follows `former`, whose last common sequence with it is `common`. Everybody who computes it
/// from the same facts gets the same; an epoch out of `seen` is never given twice.
pub(super) fn next_epoch(info: &StreamInfo, seen: &[Epoch], common: u64) -> Epoch {
    let mut former = seen.last().copied();
    loop {
        let seed = former.map_or_else(|| info.created.clone(), |former| format!("{} {former}", info.created));
        let epoch = Epoch::of(&seed, common);
        if !seen.contains(&epoch) {
            return epoch;
        }
        former = Some(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(created: &str, last: Anchor) -> StreamInfo {
        StreamInfo {
            name: "EVENTS".to_owned(),
            created: created.to_owned(),
            first_seq: 1,
            last_seq: last.seq,
            now_ns: 0,
            last_time_ns: last.time_ns,
            messages: last.seq,
            bytes: 0,
            epoch: None,
            replicas: 1,
            answering: 1,
            config: serde_json::Map::new(),
        }
    }

    const HEAD: Anchor = Anchor { seq: 7, time_ns: 70 };

    #[test]
    fn a_new_life_forgets_the_old_ones_anchor_and_remembers_its_epoch() {
        let mut known = Known::default();
        known.adopt(Epoch::new(1), &info("a", HEAD));
        assert_eq!((known.epoch(), known.anchor), (Some(Epoch::new(1)), Some(HEAD)));
        known.adopt(Epoch::new(2), &info("b", Anchor { seq: 0, time_ns: 0 }));
        assert_eq!((known.epoch(), known.anchor), (Some(Epoch::new(2)), None));
        assert_eq!(known.seen, [Epoch::new(1), Epoch::new(2)]);
        for number in 0..100 {
            known.adopt(Epoch::new(number), &info("c", HEAD));
        }
        assert_eq!((known.seen.len(), known.epoch()), (REMEMBERED, Some(Epoch::new(99))));
    }

    #[test]
    fn everybody_computes_the_same_next_epoch_and_never_a_former_one() {
        let info = info("2026-11-21T10:00:00Z", HEAD);
        let first = Epoch::of(&info.created, 0);
        let second = next_epoch(&info, &[first], 5);
        assert_eq!(second, Epoch::of(&format!("{} {first}", info.created), 5));
        assert_eq!(second, next_epoch(&info, &[Epoch::new(9), first], 5), "by the latest alone");
        let mut seen = vec![first];
        for _ in 0..50 {
            let next = next_epoch(&info, &seen, 5);
            assert!(!seen.contains(&next));
            // The same backup again and again: the life that is left is always another one.
            seen.push(next);
        }
    }

    #[test]
    fn a_question_reads_as_documented() {
        let known = Known { seen: vec![Epoch::new(0xab)], created: "then".to_owned(), anchor: Some(HEAD) };
        let text = serde_json::to_string(&known).unwrap();
        assert_eq!(text, r#"{"seen":["000000ab"],"created":"then","seq":7,"time_ns":70}"#);
        assert_eq!(serde_json::from_str::<Known>(&text).unwrap(), known);
        let short = r#"{"seen":[],"created":""}"#;
        assert_eq!(serde_json::from_str::<Known>(short).unwrap(), Known::default());
    }
}
