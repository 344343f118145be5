//! The stream that belongs to this service: it creates it, others wait for it.

use herald_protocol::subject;
use herald_runtime::{
    Context,
    jetstream::{
        StreamSpec,
        epoch::{EpochOwner, StreamLife},
    },
    nats::Nats,
};

use crate::{config::Config, log::STREAM};

/// Creates it if it is missing, and from then on keeps its epoch, and the health condition `streams`, true.
pub(crate) fn own(nats: &Nats, config: &Config, context: &Context) -> EpochOwner {
    let stream = StreamSpec {
        max_age: config.stream.max_age.get(),
        max_bytes: config.stream.max_bytes.as_u64(),
        duplicate_window: config.idempotency.window.get(),
        ..StreamSpec::new(STREAM, [format!("{}.>", subject::APP)])
    };
    let owner = EpochOwner::spawn(nats, stream, Vec::new());
    context.supervise("condition of the stream", follow(&owner, context));
    owner
}

/// Says how the stream is, until the owner or the process ends.
fn follow(owner: &EpochOwner, context: &Context) -> impl Future<Output = ()> + Send + 'static {
    let condition = context.health.condition("streams");
    let stop = context.shutdown.token();
    let (mut life, mut fault) = (owner.life(), owner.fault());
    async move {
        loop {
            condition.set(match (*life.borrow_and_update(), fault.borrow_and_update().clone()) {
                (_, Some(fault)) => Err(fault),
                (StreamLife::Alive { .. }, None) => Ok(()),
                (StreamLife::Unknown, None) => Err("not known".to_owned()),
                (StreamLife::Rewritten, None) => Err("rewritten".to_owned()),
            });
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
