//! The stream and the buckets that belong to this service: it creates them, others wait for them.

use herald_protocol::subject;
use herald_runtime::{
    Context,
    jetstream::{BucketSpec, StreamSpec, epoch::EpochOwner},
    nats::Nats,
};

use crate::{action::ACTIONS, arena::EVENTS, config::StreamConfig, pool::ALIASES, sessions::SESSIONS};

/// Room for the records of sessions: some 200 bytes each, with their key.
const SESSIONS_BYTES: u64 = 256 << 20;

/// Creates what is missing, and from then on keeps the stream's epoch, and the health condition `streams`, true.
pub(crate) fn own(nats: &Nats, config: &StreamConfig, context: &Context) -> EpochOwner {
    let age = Some(config.session_age.get());
    let buckets = vec![
        BucketSpec { max_age: age, max_bytes: SESSIONS_BYTES, ..BucketSpec::new(SESSIONS) },
        BucketSpec { max_age: age, ..BucketSpec::new(ALIASES) },
        BucketSpec::new(ACTIONS),
    ];
    let owner = EpochOwner::spawn(nats, events(config), buckets);
    owner.report(context);
    owner
}

/// The stream of all events.
pub(crate) fn events(config: &StreamConfig) -> StreamSpec {
    StreamSpec {
        max_age: config.max_age.get(),
        max_bytes: config.max_bytes.as_u64(),
        ..StreamSpec::new(EVENTS, [subject::GM, subject::ARENA].map(|root| format!("{root}.>")))
    }
}
