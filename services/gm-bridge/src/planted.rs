//! Bugs planted on purpose, to prove that the checker (`sim check`) finds such ones.
//!
//! Each stands at the place where it could be made by mistake, as `if planted(Bug::...)`. A build without the feature
//! `planted-bugs`, which is every build that is delivered, has no such key, and `planted` is a constant there.

#[cfg(feature = "planted-bugs")]
use std::sync::OnceLock;

#[cfg(feature = "planted-bugs")]
use serde::{Deserialize, Serialize};

/// What can be planted in gm-bridge, one at a time. In the configuration: `fence-left-out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "planted-bugs", derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum Bug {
    /// An event without acknowledgement is taken for stored.
    AcknowledgementIgnored,
    /// Events are published without the sequence that their action expects.
    FenceLeftOut,
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
