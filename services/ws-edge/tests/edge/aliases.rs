//! The copy of a bucket of aliases stays true to it, whatever happens to the bucket.

use std::time::Duration;

use herald_protocol::{SessionId, record::AliasTarget};
use herald_runtime::jetstream::{BucketSpec, ensure_bucket};
use herald_testkit::{Nats, within};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use ws_edge::alias::Aliases;

use crate::support::Engine;

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);

async fn becomes(watch: &mut watch::Receiver<Option<AliasTarget>>, what: &str, wanted: Option<(&str, u64)>) {
    let is = |target: &Option<AliasTarget>| {
        target.as_ref().map(|target| (target.session.as_str().to_owned(), target.after))
            == wanted.map(|(session, after)| (session.to_owned(), after))
    };
    let changed = tokio::time::timeout(BOUND, watch.wait_for(is)).await;
    assert!(changed.is_ok_and(|changed| changed.is_ok()), "{what}: {:?}", *watch.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_follow_their_bucket_through_deletion_and_another_life() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let aliases = Aliases::default();
        let stop = CancellationToken::new();
        let condition = engine.context.health.condition("aliases");
        let follow = aliases.clone().follow(engine.nats.clone(), "ALIASES".to_owned(), condition, stop.clone());
        let following = tokio::spawn(follow);
        let mut g = aliases.watch(&SessionId::new("G").unwrap());
        let bucket = engine.nats.jetstream().get_key_value("ALIASES").await.unwrap();

        engine.alias("G", "one", 1).await;
        becomes(&mut g, "put", Some(("one", 1))).await;
        bucket.delete("G").await.unwrap();
        becomes(&mut g, "deleted", None).await;
        engine.alias("G", "two", 2).await;
        becomes(&mut g, "put again", Some(("two", 2))).await;
        bucket.put("G", "no alias at all".into()).await.unwrap();
        becomes(&mut g, "something else under that key", None).await;
        engine.alias("G", "two", 3).await;
        becomes(&mut g, "an alias once more", Some(("two", 3))).await;

        engine.nats.jetstream().delete_stream("KV_ALIASES").await.unwrap();
        ensure_bucket(&engine.nats, &BucketSpec::new("ALIASES")).await.unwrap();
        becomes(&mut g, "the bucket is another one, and empty", None).await;
        engine.alias("G", "three", 4).await;
        becomes(&mut g, "of the new life", Some(("three", 4))).await;
        stop.cancel();
        following.await.unwrap();
    })
    .await;
}
