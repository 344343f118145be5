//! The stream that belongs to this service: it creates it, others wait for it.

use herald_protocol::subject;
use herald_runtime::{
    Context,
    jetstream::{StreamSpec, epoch::EpochOwner},
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
    owner.report(context);
    owner
}
