//! Sequences that are missing between the first and the last: deleted one by one, or by a limit per subject.
//!
//! Herald's own streams have none: they lose their oldest. Where an operator has set `max_msgs_per_subject`, or deleted a
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
            Self::Everywhere => (after < upto).then_some(upto),
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
        assert_eq!(Holes::None.last_in(0, 9), None);
        assert_eq!((Holes::Everywhere.last_in(3, 9), Holes::Everywhere.last_in(9, 9)), (Some(9), None));
    }
}
