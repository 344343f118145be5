//! What one connection saw, against what was published.

/// The findings of many connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Events that came, each connection's counted once.
    pub(super) delivered: u64,
    /// Events that never came.
    pub(super) lost: u64,
    /// Events that came again.
    pub(super) doubled: u64,
    /// Events that came behind a later one.
    pub(super) reordered: u64,
    /// Events of other sessions.
    pub(super) foreign: u64,
    /// Frames that are nothing that was published.
    pub(super) odd: u64,
}

impl Tally {
    /// Whether nothing is wrong.
    #[must_use]
    pub(super) const fn exact(&self) -> bool {
        matches!(self, Self { delivered: _, lost: 0, doubled: 0, reordered: 0, foreign: 0, odd: 0 })
    }

    /// Adds another's findings.
    pub(super) const fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        self.odd += other.odd;
    }
}

/// Follows the numbers that one connection sees: 1, 2, 3 and so on.
#[derive(Debug)]
pub(super) struct Judge {
    next: u64,
    /// What was passed over, as ranges without their ends, in order. Nobody needs it while all is well.
    missing: Vec<(u64, u64)>,
}

impl Default for Judge {
    fn default() -> Self {
        Self { next: 1, missing: Vec::new() }
    }
}

impl Judge {
    /// One came.
    #[inline]
    pub(super) fn see(&mut self, n: u64, tally: &mut Tally) {
        if n == self.next {
            self.next += 1;
            tally.delivered += 1;
        } else {
            self.see_odd(n, tally);
        }
    }

    /// The number that should come next; all before it came, or were passed over.
    #[must_use]
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    #[cold]
    fn see_odd(&mut self, n: u64, tally: &mut Tally) {
        if n > self.next {
            self.missing.push((self.next, n));
            self.next = n + 1;
            tally.delivered += 1;
            return;
        }
        match self.missing.iter().position(|(from, to)| (*from..*to).contains(&n)) {
            Some(at) => {
                let (from, to) = self.missing.remove(at);
                let around = [(from, n), (n + 1, to)];
                self.missing.splice(at..at, around.into_iter().filter(|(from, to)| from < to));
                tally.reordered += 1;
                tally.delivered += 1;
            }
            None => tally.doubled += 1,
        }
    }

    /// No more come; `published` were.
    pub(super) fn finish(&self, published: u64, tally: &mut Tally) {
        let passed: u64 = self.missing.iter().map(|(from, to)| to - from).sum();
        tally.lost += passed + (published + 1).saturating_sub(self.next);
        // A number that nobody published.
        tally.odd += self.next.saturating_sub(published + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(seen: &[u64], published: u64) -> Tally {
        let (mut judge, mut tally) = (Judge::default(), Tally::default());
        seen.iter().for_each(|n| judge.see(*n, &mut tally));
        judge.finish(published, &mut tally);
        tally
    }

    #[test]
    fn each_fault_is_found_by_its_name() {
        let ok = |delivered| Tally { delivered, ..Tally::default() };
        let table: [(&[u64], u64, Tally); 11] = [
            (&[1, 2, 3], 3, ok(3)),
            (&[], 0, ok(0)),
            (&[1, 3], 3, Tally { lost: 1, ..ok(2) }),
            (&[2, 3], 3, Tally { lost: 1, ..ok(2) }),
            (&[1], 3, Tally { lost: 2, ..ok(1) }),
            (&[], 3, Tally { lost: 3, ..ok(0) }),
            (&[1, 2, 2, 3], 3, Tally { doubled: 1, ..ok(3) }),
            (&[1, 3, 2], 3, Tally { reordered: 1, ..ok(3) }),
            (&[1, 6, 3, 3, 4, 7], 7, Tally { reordered: 2, doubled: 1, lost: 2, ..ok(5) }),
            (&[1, 6, 2, 5, 3, 4], 6, Tally { reordered: 4, ..ok(6) }),
            (&[1, 2, 3], 2, Tally { odd: 1, ..ok(3) }),
        ];
        for (seen, published, expected) in table {
            assert_eq!(judged(seen, published), expected, "{seen:?} of {published}");
        }
    }

    #[test]
    fn nothing_wrong_is_exact_and_anything_else_is_not() {
        assert!(judged(&[1, 2], 2).exact());
        for seen in [&[1][..], &[2, 1], &[1, 1, 2], &[1, 2, 3]] {
            assert!(!judged(seen, 2).exact(), "{seen:?}");
        }
        assert!(!Tally { foreign: 1, ..Tally::default() }.exact());
    }
}
