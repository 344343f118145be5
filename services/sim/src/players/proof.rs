//! The proof that one connection missed nothing: every frame names the one before it.

use std::collections::VecDeque;

use herald_protocol::{Cursor, Epoch};

/// So many last sequences tell a doubled event from one that comes too late.
const REMEMBERED: usize = 256;

/// What one connection has seen, across all its resumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Event frames.
    pub frames: u64,
    /// Frames whose `prev` was not seen: at least one event is missing before each.
    pub lost: u64,
    /// Frames seen twice.
    pub doubled: u64,
    /// Frames that came behind later ones.
    pub disordered: u64,
    /// Frames without `prev`, which prove nothing.
    pub unproven: u64,
    /// Announced gaps.
    pub gaps: u64,
    epoch: Option<Epoch>,
    seq: u64,
    digest: u64,
    recent: VecDeque<u64>,
}

impl Proof {
    /// The first frame of a connection, and of each life of the stream.
    pub fn hello(&mut self, epoch: Epoch, head: u64) {
        match self.epoch {
            // Resumed in the same life: what is behind the cursor is still to come.
            Some(same) if same == epoch => {}
            known => {
                self.gaps += u64::from(known.is_some());
                self.epoch = Some(epoch);
                self.seq = head;
                self.recent.clear();
            }
        }
    }

    /// Sequences that can't be delivered.
    pub fn gap(&mut self, to: u64) {
        self.gaps += 1;
        self.seq = self.seq.max(to);
    }

    /// An event frame.
    pub fn event(&mut self, seq: u64, prev: Option<u64>, frame: &[u8]) {
        self.frames += 1;
        if seq <= self.seq {
            *(if self.recent.contains(&seq) { &mut self.doubled } else { &mut self.disordered }) += 1;
            return;
        }
        match prev {
            None => self.unproven += 1,
            Some(prev) => self.lost += u64::from(prev > self.seq),
        }
        self.seq = seq;
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(seq);
        // FNV-1a: connections of a session that saw the same frames in the same order have the same digest.
        self.digest =
            frame.iter().fold(self.digest ^ seq, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    /// Where to come back; `None` before the first hello.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        Some(Cursor { epoch: self.epoch?, seq: self.seq })
    }

    /// The same for all connections that saw the same.
    #[must_use]
    pub const fn digest(&self) -> (u64, u64) {
        (self.seq, self.digest)
    }

    /// Whether nothing is missing, doubled, out of order or unproven.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.disordered == 0 && self.unproven == 0 && self.gaps == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(head: u64, frames: &[(u64, u64)]) -> Proof {
        let mut proof = Proof::default();
        proof.hello(Epoch::new(1), head);
        for (seq, prev) in frames {
            proof.event(*seq, Some(*prev), b"frame");
        }
        proof
    }

    #[test]
    fn what_is_missing_doubled_or_late_is_told_apart() {
        // (head, frames, lost, doubled, disordered)
        type Case = (u64, &'static [(u64, u64)], u64, u64, u64);
        let table: [Case; 6] = [
            (5, &[(7, 3), (9, 7), (10, 9)], 0, 0, 0),
            (5, &[(7, 6)], 1, 0, 0),
            (5, &[(7, 3), (10, 9)], 1, 0, 0),
            (5, &[(7, 3), (7, 3), (9, 7)], 0, 1, 0),
            (5, &[(9, 5), (7, 5)], 0, 0, 1),
            (5, &[(4, 0)], 0, 0, 1),
        ];
        for (head, frames, lost, doubled, disordered) in table {
            let proof = seen(head, frames);
            assert_eq!((proof.lost, proof.doubled, proof.disordered), (lost, doubled, disordered), "{frames:?}");
            assert_eq!(proof.holds(), lost + doubled + disordered == 0);
        }
    }

    #[test]
    fn a_resume_keeps_the_cursor_and_a_new_life_is_a_gap() {
        let mut proof = seen(5, &[(7, 3)]);
        proof.hello(Epoch::new(1), 20);
        assert_eq!(proof.cursor().map(|cursor| cursor.seq), Some(7));
        proof.event(8, Some(7), b"next");
        assert!(proof.holds());
        proof.hello(Epoch::new(2), 3);
        assert_eq!((proof.gaps, proof.cursor().map(|cursor| cursor.seq)), (1, Some(3)));
        proof.gap(9);
        proof.event(10, Some(9), b"after the gap");
        assert_eq!((proof.gaps, proof.lost), (2, 0));
        assert!(!proof.holds());
    }

    #[test]
    fn the_digest_knows_contents_and_order() {
        let whole = seen(0, &[(1, 0), (2, 1)]);
        assert_eq!(whole.digest(), seen(0, &[(1, 0), (2, 1)]).digest());
        assert_ne!(whole.digest(), seen(0, &[(2, 0)]).digest());
        let mut other = seen(0, &[(1, 0)]);
        other.event(2, Some(1), b"other");
        assert_ne!(whole.digest(), other.digest());
    }
}
