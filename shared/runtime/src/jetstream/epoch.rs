//! The epoch of a stream: the name of its life, and how it is noticed that a life has ended.
//!
//! A sequence alone is a place in a log only as long as the log is the same one. A stream that was deleted and created
//! again, restored from a backup, or rolled back by a power cut gives out the same sequences a second time. So a stream's
//! **owner** ([`EpochOwner`]) writes an epoch into its metadata, and everybody who remembers sequences **watches** it
//! ([`EpochWatcher`]):
//!
//! - The watcher asks the leader every 2 s, after each reconnect, and when told to ([`EpochWatcher::check`]). It remembers
//!   an *anchor*: the highest sequence it knows with the time that message was stored.
//! - Another creation time, a head below the anchor, or another message at the anchor's place is a *mismatch*. The first
//!   sight makes the stream's life doubtful ([`StreamLife::Unknown`]), a second one a second later makes it
//!   [`StreamLife::Rewritten`].
//! - Then the watcher asks the owner on `epoch.<stream>`, again and again, showing what it knows. The owner looks for
//!   itself; where the evidence is right, it finds the last sequence both lives have in common (the last message not
//!   younger than the anchor) and writes the epoch that follows from it. Two owners compute the same.
//! - A watcher that finds an epoch it has never seen is in the new life: [`StreamLife::Alive`].
//!
//! The question on `epoch.<stream>`: `{"seen":["<epoch>"...],"created":"...","seq":N,"time_ns":N}`, `seen` with the latest
//! last; the answer: `{"epoch":"<epoch>"}`, or `{"error":"<text>"}`. A question without `seq` only makes the owner look.

mod life;
mod owner;
mod watcher;

pub use life::{Anchor, StreamLife};
pub use owner::EpochOwner;
pub use watcher::EpochWatcher;
