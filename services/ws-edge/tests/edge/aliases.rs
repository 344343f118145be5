//! The copy of a bucket of aliases stays true to it, whatever happens to the bucket.

use std::time::Duration;

use herald_protocol::{SessionId, record::AliasTarget};
use herald_runtime::{
    jetstream::{BucketSpec, ensure_bucket},
    nats::connect,
};
use herald_testkit::{Nats, eventually, within};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_for_good_ends_no_task_by_a_panic() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        engine.alias("G", "one", 1).await;
        // As at the end of a process whose task for the aliases is late to hear of it.
        let own = connect(&engine.context.common.nats, "own", &engine.context).await.unwrap();
        let (aliases, stop) = (Aliases::default(), CancellationToken::new());
        let condition = engine.context.health.condition("own aliases");
        let follow = aliases.clone().follow(own.clone(), "ALIASES".to_owned(), condition, stop.clone());
        let following = tokio::spawn(follow);
        let mut g = aliases.watch(&SessionId::new("G").unwrap());
        becomes(&mut g, "followed", Some(("one", 1))).await;
        own.close(Duration::from_secs(1)).await;
        eventually("it says that it can't follow", BOUND, async || {
            let reason = engine.context.health.report().conditions["own aliases"].clone();
            if following.is_finished() || reason.contains("ended") || reason.contains("not answer") {
                Ok(())
            } else {
                Err(reason)
            }
        })
        .await;
        assert!(!following.is_finished(), "it goes on trying");
        stop.cancel();
        following.await.unwrap();
    })
    .await;
}
