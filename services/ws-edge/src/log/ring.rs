//! The ring: a bounded number of frames, and where a cursor stands in it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::planted::{Bug, planted};

/// Room a frame may have been made with and not need, as it is not known how long it gets.
pub(crate) const FRAME_SLACK: usize = 112;
/// What a frame costs in memory beyond its bytes: its place in the ring, the allocation behind [`Bytes`], unused room.
const FRAME_OVERHEAD: usize = size_of::<Frame>() + 48 + FRAME_SLACK;

/// How large one ring may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// Frames of one session in one view.
    pub frames: usize,
    /// Their bytes, overhead included.
    pub bytes: usize,
}

/// The memory all rings of a process share. A ring that gets none makes room by dropping its own oldest frames.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether so little is left (an eighth) that rings nobody reads should go first.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.used() > self.limit - self.limit / 8
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes of a budget in use; given back with it.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// None so far.
    #[must_use]
    pub const fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Bytes in use.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many more, if they are to be had.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(bytes);
        self.bytes += if taken { bytes } else { 0 };
        taken
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.give_back(bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// How much a ring has ever taken up to some frame, that frame included. The difference of two marks is a lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Mark {
    /// The mark one frame of `bytes` further on.
    #[must_use]
    pub const fn plus(self, bytes: usize) -> Self {
        Self { frames: self.frames + 1, bytes: self.bytes + bytes as u64 }
    }

    /// The mark one frame of `bytes` before.
    #[must_use]
    pub const fn minus(self, bytes: usize) -> Self {
        Self { frames: self.frames.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes as u64) }
    }

    /// What lies between `earlier` and this.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self { frames: self.frames.saturating_sub(earlier.frames), bytes: self.bytes.saturating_sub(earlier.bytes) }
    }
}

/// One event, ready for a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Sequence of the event.
    pub seq: u64,
    /// Sequence of the shown event before it, as the frame says (0 also where frames don't).
    pub prev: u64,
    /// What the ring had taken with it.
    pub mark: Mark,
    /// What goes on the wire.
    pub bytes: Bytes,
}

/// An event's frame from before a ring's time, with sequence and `prev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Old {
    /// Sequence of the event.
    pub seq: u64,
    /// Sequence of the shown event before it, as the frame says.
    pub prev: u64,
    /// What goes on the wire.
    pub bytes: Bytes,
}

/// What a ring has for a cursor.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The next frames, at least one.
    Frames(Vec<Frame>),
    /// Nothing new.
    UpToDate,
    /// The cursor lies below the floor: history first.
    Behind,
}

/// The frames of one session in one view, as many of the latest as the limits allow.
#[derive(Debug)]
pub struct Ring {
    limits: RingLimits,
    frames: VecDeque<Frame>,
    /// Of a ring that keeps but the newest frame of each topic: the topics of these, one by one.
    topics: VecDeque<Option<Box<str>>>,
    /// Everything behind this sequence and up to `head` is in `frames`.
    floor: u64,
    /// Everything up to here was offered to the ring.
    head: u64,
    /// What was ever appended.
    mark: Mark,
    /// What the frames take of the budget.
    charge: Charge,
}

impl Ring {
    /// An empty ring that knows nothing up to and including `at`.
    #[must_use]
    pub const fn new(limits: RingLimits, budget: Arc<Budget>, at: u64) -> Self {
        Self {
            limits,
            frames: VecDeque::new(),
            topics: VecDeque::new(),
            floor: at,
            head: at,
            mark: Mark { frames: 0, bytes: 0 },
            charge: Charge::new(budget),
        }
    }

    /// The sequence behind which the ring is complete.
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// The last event it holds, 0 where it holds none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.frames.back().map_or(0, |frame| frame.seq)
    }

    /// What the ring has ever taken.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// What it holds now: frames, and what they take of its memory.
    #[must_use]
    pub fn held(&self) -> Mark {
        Mark { frames: self.frames.len() as u64, bytes: self.charge.bytes() as u64 }
    }

    /// Appends an event's frame, dropping the oldest while there is no room. The frame is returned for those who are up
    /// to date, also when it is too large to be kept. `None`: the ring had it already.
    pub fn append(&mut self, seq: u64, prev: u64, bytes: Bytes) -> Option<Frame> {
        if seq <= self.head {
            return None;
        }
        self.head = seq;
        self.mark = self.mark.plus(bytes.len());
        let frame = Frame { seq, prev, mark: self.mark, bytes };
        if self.make_room(cost(&frame)) {
            self.frames.push_back(frame.clone());
        } else {
            self.floor = seq;
        }
        Some(frame)
    }

    /// As [`Ring::append`], in the place of what was appended before of the same topic. A ring is appended to either way, never
    /// both: this one holds what a client lacks that is to see no more than the newest of each topic.
    pub fn append_newest(&mut self, topic: &str, seq: u64, bytes: Bytes) -> Option<Frame> {
        if seq <= self.head {
            return None;
        }
        if let Some(at) = self.topics.iter().position(|known| known.as_deref() == Some(topic)) {
            self.topics.remove(at);
            if let Some(former) = self.frames.remove(at) {
                self.charge.give_back(cost(&former));
            }
        }
        let frame = self.append(seq, 0, bytes);
        if self.topics.len() < self.frames.len() {
            self.topics.push_back(Some(topic.into()));
        }
        frame
    }

    /// What is here so far keeps its place, whatever is appended from now on.
    pub fn seal(&mut self) {
        self.topics.iter_mut().for_each(|topic| *topic = None);
    }

    fn make_room(&mut self, cost: usize) -> bool {
        if cost > self.limits.bytes {
            while self.drop_oldest() {}
            return false;
        }
        while self.frames.len() >= self.limits.frames || self.charge.bytes() + cost > self.limits.bytes {
            if !self.drop_oldest() {
                return false;
            }
        }
        while !self.charge.take(cost) {
            if !self.drop_oldest() {
                return false;
            }
        }
        true
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.frames.pop_front() else { return false };
        self.topics.pop_front();
        if !planted(Bug::RingEvictsSilently) {
            self.floor = oldest.seq;
        }
        self.charge.give_back(cost(&oldest));
        true
    }

    /// Puts in front what was shown between `floor` and the present floor, as many of the latest as there is room for.
    pub fn fill(&mut self, floor: u64, frames: Vec<Old>) {
        let mut mark = self.frames.front().map_or(self.mark, |first| first.mark.minus(first.bytes.len()));
        for Old { seq, prev, bytes } in frames.into_iter().rev() {
            let frame = Frame { seq, prev, mark, bytes };
            let cost = cost(&frame);
            let fits = self.frames.len() < self.limits.frames && self.charge.bytes() + cost <= self.limits.bytes;
            if !fits || !self.charge.take(cost) {
                self.floor = seq;
                return;
            }
            mark = mark.minus(frame.bytes.len());
            self.frames.push_front(frame);
        }
        self.floor = floor;
    }

    /// Forgets all frames: the ring is complete behind the last of them.
    pub fn forget(&mut self) {
        while self.drop_oldest() {}
        (self.frames, self.topics) = (VecDeque::new(), VecDeque::new());
    }

    /// Forgets everything up to and including `at`, and nothing behind it.
    pub fn trim(&mut self, at: u64) {
        while self.frames.front().is_some_and(|oldest| oldest.seq <= at) {
            self.drop_oldest();
        }
        self.floor = self.floor.max(at);
    }

    /// Forgets everything up to and including `at`; what comes later is complete again.
    pub fn reset(&mut self, at: u64) {
        self.forget();
        self.floor = at;
        self.head = at;
    }

    /// What comes behind `after`, at most `frames` frames and `bytes` bytes, but one frame at least.
    #[must_use]
    pub fn read(&self, after: u64, frames: usize, bytes: usize) -> Read {
        if after < self.floor {
            return Read::Behind;
        }
        let from = self.frames.partition_point(|frame| frame.seq <= after);
        let mut left = bytes;
        let batch: Vec<_> = self
            .frames
            .range(from..)
            .take(frames)
            .enumerate()
            .take_while(|(index, frame)| {
                let fits = *index == 0 || frame.bytes.len() <= left;
                left = left.saturating_sub(frame.bytes.len());
                fits
            })
            .map(|(_, frame)| frame.clone())
            .collect();
        if batch.is_empty() { Read::UpToDate } else { Read::Frames(batch) }
    }
}

fn cost(frame: &Frame) -> usize {
    frame.bytes.len() + FRAME_OVERHEAD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LARGE: RingLimits = RingLimits { frames: 1024, bytes: 1 << 20 };

    fn ring(limits: RingLimits, at: u64) -> Ring {
        Ring::new(limits, Budget::new(usize::MAX / 2), at)
    }

    fn seqs(read: Read) -> Vec<u64> {
        match read {
            Read::Frames(frames) => frames.iter().map(|frame| frame.seq).collect(),
            Read::UpToDate => Vec::new(),
            Read::Behind => panic!("behind"),
        }
    }

    #[test]
    fn what_a_ring_had_already_is_refused() {
        let mut ring = ring(LARGE, 5);
        assert!(ring.append(5, 0, Bytes::new()).is_none(), "belongs to what was there before the ring");
        assert!(ring.append(6, 0, Bytes::new()).is_some());
        assert!(ring.append(6, 0, Bytes::new()).is_none());
        assert_eq!(seqs(ring.read(5, 10, 10)), [6]);
    }

    #[test]
    fn a_frame_larger_than_the_ring_is_passed_on_and_not_kept() {
        let mut ring = ring(RingLimits { frames: 4, bytes: 1000 }, 0);
        ring.append(1, 0, Bytes::new());
        assert_eq!(ring.append(2, 0, vec![0; 2000].into()).unwrap().bytes.len(), 2000);
        assert_eq!(ring.floor(), 2);
        assert_eq!(ring.read(1, 10, 10), Read::Behind);
        assert_eq!(ring.read(2, 10, 10), Read::UpToDate);
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let mut ring = ring(LARGE, 0);
        for seq in 1..=5 {
            ring.append(seq, 0, vec![0; 100].into());
        }
        assert_eq!(seqs(ring.read(0, 3, 1000)), [1, 2, 3]);
        assert_eq!(seqs(ring.read(0, 10, 250)), [1, 2]);
        assert_eq!(seqs(ring.read(3, 10, 1)), [4]);
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Budget::new(2 * (FRAME_OVERHEAD + 10));
        let mut first = Ring::new(LARGE, budget.clone(), 0);
        let mut second = Ring::new(LARGE, budget.clone(), 0);
        first.append(1, 0, vec![0; 10].into());
        first.append(2, 0, vec![0; 10].into());
        second.append(3, 0, vec![0; 10].into());
        assert_eq!(second.floor(), 3, "nothing left for it: history serves its readers");
        first.append(4, 0, vec![0; 10].into());
        assert_eq!((first.floor(), first.charge.bytes()), (1, budget.used()), "pays with its own oldest frame");
        assert!(budget.is_tight());
        first.reset(9);
        assert_eq!(budget.used(), 0);
        second.append(5, 0, vec![0; 10].into());
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_newer_frame_takes_the_place_of_the_older_one_of_its_topic() {
        let budget = Budget::new(1 << 20);
        let mut ring = Ring::new(RingLimits { frames: 3, bytes: 10_000 }, budget.clone(), 5);
        for (topic, seq) in [("a", 6), ("b", 7), ("a", 8), ("c", 9), ("a", 10)] {
            assert_eq!(
                ring.append_newest(topic, seq, vec![0; 10].into()).unwrap().seq,
                seq,
                "who is up to date gets it"
            );
        }
        assert!(ring.append_newest("a", 10, Bytes::new()).is_none(), "it had that");
        assert_eq!((seqs(ring.read(5, 9, 999)), ring.floor()), (vec![7, 9, 10], 5));
        assert_eq!(seqs(ring.read(7, 9, 999)), [9, 10]);
        assert_eq!(ring.charge.bytes(), 3 * (FRAME_OVERHEAD + 10));
        let Read::Frames(frames) = ring.read(7, 9, 999) else { panic!("they are there") };
        assert_eq!(frames[1].mark.since(frames[0].mark).frames, 1, "marks count what took another's place, too");
        ring.seal();
        // A fourth topic has no room but that of the oldest: who lacks that asks history.
        ring.append_newest("d", 11, vec![0; 10].into());
        assert_eq!((ring.read(6, 9, 999), seqs(ring.read(7, 9, 999))), (Read::Behind, vec![9, 10, 11]));
        ring.append_newest("c", 12, vec![0; 10].into());
        assert_eq!(seqs(ring.read(9, 9, 999)), [10, 11, 12], "what was sealed is still there, as far as there is room");
        ring.append_newest("c", 13, vec![0; 20_000].into());
        assert_eq!((ring.floor(), budget.used(), ring.topics.len()), (13, 0, 0), "too large to be kept");
        ring.append_newest("c", 14, Bytes::new());
        ring.trim(13);
        assert_eq!((ring.floor(), seqs(ring.read(13, 9, 999))), (13, vec![14]));
        ring.trim(20);
        assert_eq!((ring.floor(), ring.topics.len(), budget.used()), (20, 0, 0));
    }

    proptest! {
        /// Against a model that keeps everything: a cursor at or above the floor reads exactly what came behind it, one
        /// below is told, and marks count what is behind a frame.
        #[test]
        fn a_ring_reads_what_a_log_without_end_reads(
            start in 0_u64..5,
            events in prop::collection::vec((1_u64..4, 0_usize..200), 0..60),
            frames in 1_usize..12,
            bytes in 1_usize..3000,
            budget in 0_usize..4000,
            after in 0_u64..200,
            batch in 1_usize..20,
        ) {
            let budget = Budget::new(budget);
            let mut ring = Ring::new(RingLimits { frames, bytes }, budget.clone(), start);
            let mut model: Vec<(u64, usize)> = Vec::new();
            let mut seq = start;
            for (step, len) in events {
                seq += step;
                let frame = ring.append(seq, 0, vec![b'x'; len].into());
                prop_assert_eq!(frame.map(|frame| frame.seq), Some(seq));
                model.push((seq, len));
                prop_assert!(ring.frames.len() <= frames && ring.charge.bytes() <= bytes);
                prop_assert_eq!(ring.charge.bytes(), budget.used());
            }
            prop_assert_eq!(ring.head, seq);
            let behind: Vec<_> = model.iter().copied().filter(|(seq, _)| *seq > after).collect();
            match ring.read(after, batch, usize::MAX) {
                Read::Behind => prop_assert!(after < ring.floor()),
                Read::UpToDate => prop_assert!(behind.is_empty()),
                Read::Frames(read) => {
                    prop_assert!(after >= ring.floor() && read.len() == behind.len().min(batch));
                    let expected = behind.iter().take(batch).copied();
                    prop_assert!(read.iter().map(|frame| (frame.seq, frame.bytes.len())).eq(expected));
                }
            }
            if let Read::Frames(read) = ring.read(after, batch, usize::MAX) {
                // The lag of somebody who has these: what comes behind the last of them.
                let lag = ring.mark().since(read[read.len() - 1].mark);
                let missing = &behind[read.len()..];
                prop_assert_eq!(lag.frames, missing.len() as u64);
                prop_assert_eq!(lag.bytes, missing.iter().map(|(_, len)| *len as u64).sum::<u64>());
            }
        }
    }
}
