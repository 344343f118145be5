//! JetStream requests that async-nats lacks, or answers with less than the server said: reads through the leader, batched
//! direct gets and multi-last (ADR-31), fenced publishes with the server's own reason, many of them as one atomic batch
//! (ADR-50), streams and buckets that are created once and migrated afterwards, and the [`epoch`] of a stream.
//!
//! Two kinds of reads, and which one is asked for matters:
//!
//! - **Through the leader** ([`last_by_subject_leader`], [`get_leader`], [`next_by_subject_leader`], [`stream_info`]):
//!   what was acknowledged before the call is seen by it. One request, one message. Whatever decides something is read
//!   this way.
//! - **Direct** ([`batch_get`], [`multi_last`]): fast and many at once, but on a cluster any replica answers, and it may
//!   lag. Such an answer is never complete because it ended; compare with what the leader says.
//!
//! Every call has the connection's own time limit ([`crate::nats::Nats::request_timeout`]). Within it, reads are asked again
//! where nobody answers, and [`publish_surely`] sends again under its message id; nothing else repeats itself. All of them
//! may be cancelled at any await; a cancelled publish or batch may still be stored.

mod batch;
mod ensure;
pub mod epoch;
mod fork;
mod publish;
mod purge;
mod read;
mod request;
mod unreadable;

pub use batch::{BATCH_MAX, BatchAck, BatchError, BatchMessage, publish_batch};
pub use ensure::{BucketSpec, EnsureError, StreamInfo, StreamSpec, ensure_bucket, ensure_stream, stream_info};
pub use fork::{Fork, ForkError, fork, origin};
pub use publish::{ACK_WAIT, Expect, PubAck, PublishError, publish, publish_surely};
pub use purge::{purge_below, subjects};
pub use read::{
    Batch, BatchGet, MultiLast, Stored, batch_get, get_leader, last_by_subject_leader, multi_last,
    next_by_subject_leader,
};
pub use request::ApiError;
pub use unreadable::{ask_removal, next_unreadable};
