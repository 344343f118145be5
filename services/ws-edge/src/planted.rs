//! Bugs planted on purpose, to prove that the checker (`sim check`) finds such ones.
//!
//! Each stands at the place where it could be made by mistake, as `if planted(Bug::...)`. A build without the feature
//! `planted-bugs`, which is every build that is delivered, has no such key, and `planted` is a constant there.

#[cfg(feature = "planted-bugs")]
use std::sync::OnceLock;

#[cfg(feature = "planted-bugs")]
use serde::{Deserialize, Serialize};

/// What can be planted in ws-edge, one at a time. In the configuration: `resume-off-by-one`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "planted-bugs", derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum Bug {
    /// A cursor is taken for the next sequence to show in place of the last one shown.
    ResumeOffByOne,
    /// What the ring holds is sent before the last page of what came earlier.
    SeamReversed,
    /// A cursor of another life of the stream is read as one of this life.
    EpochIgnored,
    /// A ring drops its oldest frames and forgets to say so.
    RingEvictsSilently,
    /// `prev` names the last event of the session, whether the view shows it or not.
    PrevWrong,
    /// Now and then an event is put into another session's rings.
    AnotherSession,
    /// Who comes back within the ring gets the event at its cursor again.
    DuplicateAfterReconnect,
    /// A read from a replica is complete because it ended; and the replica lags, as in [`Bug::LaggingReplica`].
    HistoryEndedEarly,
    /// No bug, but what one needs to be seen: direct gets are answered by a replica that lacks the end.
    LaggingReplica,
}

#[cfg(feature = "planted-bugs")]
static PLANTED: OnceLock<Bug> = OnceLock::new();

/// Plants a bug in this process, for good.
#[cfg(feature = "planted-bugs")]
pub(crate) fn plant(bug: Bug) {
    tracing::warn!(?bug, "a bug is planted");
    // Configured once, so nobody was faster.
    let _ = PLANTED.set(bug);
}

/// Whether this is the planted bug.
#[cfg(feature = "planted-bugs")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(&bug)
}

/// Whether this is the planted bug: there is none.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
