//! Sequences that are missing between the first and the last: deleted one by one, or by a limit per subject.
//!
//! Herald's own streams have none but those of sessions that were removed, which are explained ([`super::Purges`]): they lose
//! their oldest. Where an operator has set `max_msgs_per_subject`, or deleted a
//! message, what is left looks complete. So it is asked for, and what can't be delivered is announced.

use std::sync::Arc;

/// What is missing between the first and the last sequence of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Holes {
    /// Nothing.
    #[default]
    None,
    /// These sequences, in order.
    At(Arc<[u64]>),
    /// Everything up to this one, in the eyes of a session that was removed.
    Upto(u64),
    /// Everything up to this one, in the eyes of a fork: of what it begins with something is gone. Also told to who asks for what
    /// there is: it would not be seen otherwise.
    Beginning(u64),
    /// More than can be told one by one.
    Everywhere,
}

impl Holes {
    /// So many are told one by one: about 10 bytes each in the server's answer.
    pub(super) const MOST: u64 = 10_000;

    /// The last sequence that may be missing behind `after` and up to `upto`.
    #[must_use]
    pub fn last_in(&self, after: u64, upto: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::At(missing) => {
                let end = missing.partition_point(|seq| *seq <= upto);
                end.checked_sub(1).map(|last| missing[last]).filter(|last| *last > after)
            }
            Self::Upto(last) | Self::Beginning(last) => (after < upto.min(*last)).then_some(upto.min(*last)),
            Self::Everywhere => (after < upto).then_some(upto),
        }
    }

    /// As a session sees them of which nothing up to `last` is left; 0: it was not removed.
    pub(crate) fn with_removed(&self, last: u64) -> Self {
        match self {
            _ if last == 0 => self.clone(),
            Self::None => Self::Upto(last),
            // Of both only the worst can be said.
            Self::At(_) | Self::Upto(_) | Self::Beginning(_) | Self::Everywhere => Self::Everywhere,
        }
    }

    /// As a fork sees them of whose beginning something up to `last` is gone; 0: all of it is there.
    pub(crate) fn with_lost_beginning(self, last: u64) -> Self {
        match self {
            whole if last == 0 => whole,
            Self::None => Self::Beginning(last),
            Self::Upto(removed) => Self::Upto(removed.max(last)),
            Self::At(_) | Self::Beginning(_) | Self::Everywhere => Self::Everywhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_counts_where_it_is() {
        let holes = Holes::At([3, 7, 8].into());
        let table = [(0, 2, None), (0, 3, Some(3)), (2, 6, Some(3)), (3, 6, None), (3, 9, Some(8)), (8, 9, None)];
        for (after, upto, expected) in table {
            assert_eq!(holes.last_in(after, upto), expected, "{after}..{upto}");
        }
        let upto = Holes::None.with_removed(5);
        let table = [(0, 2, Some(2)), (0, 9, Some(5)), (4, 9, Some(5)), (5, 9, None), (9, 9, None)];
        for (after, upto_seq, expected) in table {
            assert_eq!(upto.last_in(after, upto_seq), expected, "{after}..{upto_seq}");
        }
        assert_eq!((Holes::None.with_removed(0), holes.with_removed(5)), (Holes::None, Holes::Everywhere));
        assert_eq!(Holes::None.last_in(0, 9), None);
        let fork = Holes::None.with_lost_beginning(5);
        assert_eq!((fork.clone(), fork.last_in(0, 9), fork.last_in(5, 9)), (Holes::Beginning(5), Some(5), None));
        assert_eq!(Holes::None.with_lost_beginning(0), Holes::None);
        assert_eq!((Holes::Everywhere.last_in(3, 9), Holes::Everywhere.last_in(9, 9)), (Some(9), None));
    }
}
