//! Bugs planted on purpose, to prove that the checker (`sim check`) finds such ones.
//!
//! Each stands in its service at the place where it could be made by mistake, as `if planted(Bug::...)`. A build without the
//! service's feature `planted-bugs`, which is every build that is delivered, has no key for them in its configuration, and
//! `planted` is a constant there.

/// Declares which bugs can be planted in a service, one at a time: `Bug`, by kebab-case names in the configuration;
/// `plant(bug)`, for good; and `planted(bug)`, whether it is.
#[macro_export]
macro_rules! planted_bugs {
    ($($(#[$doc:meta])* $bug:ident,)+) => {
        /// What can be planted here, one at a time.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "planted-bugs", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "planted-bugs", serde(rename_all = "kebab-case"))]
        pub enum Bug {
            $($(#[$doc])* $bug,)+
        }

        #[cfg(feature = "planted-bugs")]
        static PLANTED: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

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
    };
}
