//! The stream and the buckets that belong to this service: it creates them, others wait for them.

use herald_protocol::subject;
use herald_runtime::{
    Context,
    jetstream::{
        BucketSpec, StreamSpec,
        epoch::{EpochOwner, StreamLife},
    },
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
    context.supervise("condition of the streams", follow(&owner, context));
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

/// Says how the stream is, until the owner or the process ends.
fn follow(owner: &EpochOwner, context: &Context) -> impl Future<Output = ()> + Send + 'static {
    let condition = context.health.condition("streams");
    let stop = context.shutdown.token();
    let (mut life, mut fault) = (owner.life(), owner.fault());
    async move {
        loop {
            let state = match (*life.borrow_and_update(), fault.borrow_and_update().clone()) {
                (_, Some(fault)) => Err(fault),
                (StreamLife::Alive { .. }, None) => Ok(()),
                (StreamLife::Unknown, None) => Err("not known".to_owned()),
                (StreamLife::Rewritten, None) => Err("rewritten".to_owned()),
            };
            condition.set(state);
            let changed = async {
                tokio::select! {
                    changed = life.changed() => changed,
                    changed = fault.changed() => changed,
                }
            };
            if !matches!(stop.run_until_cancelled(changed).await, Some(Ok(()))) {
                return;
            }
        }
    }
}
