//! The stream and the buckets that belong to this service: it creates them, others wait for them.

use herald_runtime::{
    Context,
    jetstream::{BucketSpec, StreamSpec, epoch::EpochOwner},
    nats::Nats,
};

use crate::config::Config;

/// The root of all subjects of the lobby.
pub(crate) const ROOT: &str = "lobby";
/// The stream that captures them.
pub(crate) const STREAM: &str = "LOBBY";
/// The bucket of the era.
pub(crate) const META: &str = "LOBBY_META";
/// The bucket of sessions.
pub(crate) const SESSION: &str = "LOBBY_SESSION";
/// The bucket of bindings: who is in which session.
pub(crate) const CLIENT: &str = "LOBBY_CLIENT";

/// Creates them where they are missing, and from then on keeps the stream's epoch, and the health condition `streams`, true.
pub(crate) fn own(nats: &Nats, config: &Config, context: &Context) -> EpochOwner {
    let stream = StreamSpec {
        max_age: config.stream.max_age.get(),
        max_bytes: config.stream.max_bytes.as_u64(),
        ..StreamSpec::new(STREAM, [format!("{ROOT}.>")])
    };
    let bucket = |name| BucketSpec { max_bytes: config.buckets.max_bytes.as_u64(), ..BucketSpec::new(name) };
    let buckets = vec![BucketSpec::new(META), bucket(SESSION), bucket(CLIENT)];
    let owner = EpochOwner::spawn(nats, stream, buckets);
    owner.report(context);
    owner
}
