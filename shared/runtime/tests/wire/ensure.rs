//! Streams and buckets: created once, migrated, left alone.

use std::time::Duration;

use crate::connection::connect;
use async_nats::jetstream::{kv, stream::Config};
use futures_util::future::join_all;
use herald_runtime::{
    jetstream::{BucketSpec, EnsureError, StreamSpec, ensure_bucket, ensure_stream, stream_info},
    nats::Nats,
};
use herald_testkit::{Nats as Server, NatsOptions, within};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

fn events() -> StreamSpec {
    StreamSpec::new("EVENTS", ["gm.>", "arena.>"])
}

/// Changes a stream as an operator does.
async fn edit(nats: &Nats, stream: &str, change: impl FnOnce(&mut Config)) {
    let mut config = nats.jetstream().get_stream(stream).await.unwrap().get_info().await.unwrap().config;
    change(&mut config);
    nats.jetstream().update_stream(config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_created_as_designed_and_once() {
    within(LIMIT, async {
        let server = Server::start().await;
        let (one, two) = (connect(&server).await, connect(&server).await);
        let spec = events();
        let infos =
            join_all((0..6).map(|number| ensure_stream(if number % 2 == 0 { &one } else { &two }, &spec))).await;
        let infos: Vec<_> = infos.into_iter().map(Result::unwrap).collect();
        assert!(infos.iter().all(|info| info.created == infos[0].created && info.epoch == infos[0].epoch));
        assert!(infos[0].epoch.is_some());

        let config = stream_info(&one, "EVENTS").await.unwrap().config;
        let day = 24 * 60 * 60 * 1_000_000_000_u64;
        for (field, value) in [
            ("subjects", json!(["gm.>", "arena.>"])),
            ("storage", json!("file")),
            ("retention", json!("limits")),
            ("max_age", json!(7 * day)),
            ("max_bytes", json!(2_u64 << 30)),
            ("max_msgs_per_subject", json!(-1)),
            ("duplicate_window", json!(120_000_000_000_u64)),
            ("allow_direct", json!(true)),
            ("allow_atomic", json!(true)),
            ("allow_msg_ttl", json!(true)),
            ("num_replicas", json!(1)),
        ] {
            assert_eq!(config[field], value, "{field}");
        }
        assert_eq!(config["metadata"]["herald.schema"], "1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_store_gets_a_smaller_stream_until_it_has_room() {
    within(LIMIT, async {
        let options = |size: &str| NatsOptions {
            jetstream: false,
            more: format!("jetstream {{ max_file_store: {size} }}"),
            ..NatsOptions::default()
        };
        let mut server = Server::reserve(options("600MB"));
        server.resume().await;
        let nats = connect(&server).await;
        let info = ensure_stream(&nats, &events()).await.unwrap();
        assert_eq!(info.config["max_bytes"], json!(512 << 20));
        // The next start finds no more room either, and lives with that.
        let again = ensure_stream(&nats, &StreamSpec { max_age: Duration::from_secs(60), ..events() }).await.unwrap();
        assert_eq!(
            (&again.config["max_bytes"], &again.config["max_age"]),
            (&json!(512 << 20), &json!(60_000_000_000_u64))
        );

        let full = StreamSpec::new("OTHER", ["other.>"]);
        let full = StreamSpec { max_bytes: 1 << 30, ..full };
        let small = ensure_stream(&nats, &full).await.unwrap();
        assert_eq!(small.config["max_bytes"], json!(64 << 20));
        let none = ensure_stream(&nats, &StreamSpec::new("THIRD", ["third.>"])).await.unwrap();
        assert!(none.config["max_bytes"].as_u64().unwrap() >= 16 << 20);
        let refused = ensure_stream(&nats, &StreamSpec::new("FOURTH", ["fourth.>"])).await;
        assert!(matches!(refused, Err(EnsureError::NoRoom { .. })), "{refused:?}");

        server.stop().await;
        let more = server.options().more.replace("600MB", "8GB");
        server.options().more = more;
        server.resume().await;
        let nats = connect(&server).await;
        let grown = ensure_stream(&nats, &events()).await.unwrap();
        assert_eq!(grown.config["max_bytes"], json!(2_u64 << 30));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_version_follows_its_defaults_and_leaves_the_operators_choices() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let epoch = ensure_stream(&nats, &events()).await.unwrap().epoch;
        edit(&nats, "EVENTS", |config| config.max_age = Duration::from_secs(3600)).await;
        let later = StreamSpec {
            max_age: Duration::from_secs(14 * 24 * 3600),
            max_bytes: 3 << 30,
            subjects: vec!["gm.>".into(), "arena.>".into(), "in.>".into()],
            ..events()
        };
        for _start in 0..2 {
            let info = ensure_stream(&nats, &later).await.unwrap();
            assert_eq!(info.config["max_bytes"], json!(3_u64 << 30));
            assert_eq!(info.config["max_age"], json!(3600_u64 * 1_000_000_000), "the operator's");
            assert_eq!(info.config["subjects"], json!(["gm.>", "arena.>", "in.>"]));
            assert_eq!(info.epoch, epoch, "the same life");
        }
        // An older process finds a newer stream: it takes nothing back.
        edit(&nats, "EVENTS", |config| {
            config.metadata.insert("herald.schema".to_owned(), "9".to_owned());
        })
        .await;
        let info = ensure_stream(&nats, &events()).await.unwrap();
        assert_eq!(info.config["max_bytes"], json!(3_u64 << 30));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_and_not_changed() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let by_hand = |name: &str, subjects: &[&str]| Config {
            name: name.to_owned(),
            subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
            ..Config::default()
        };
        nats.jetstream().create_stream(by_hand("MINE", &["gm.s.>"])).await.unwrap();
        let taken = ensure_stream(&nats, &events()).await;
        assert!(matches!(taken, Err(EnsureError::SubjectsTaken { .. })), "{taken:?}");
        nats.jetstream().delete_stream("MINE").await.unwrap();

        nats.jetstream().create_stream(by_hand("EVENTS", &["gm.>"])).await.unwrap();
        let fewer = ensure_stream(&nats, &events()).await;
        assert!(matches!(fewer, Err(EnsureError::Unsuitable { field: "subjects", .. })), "{fewer:?}");
        edit(&nats, "EVENTS", |config| config.subjects = vec!["gm.>".to_owned(), "arena.>".to_owned()]).await;
        let closed = ensure_stream(&nats, &events()).await;
        assert!(matches!(closed, Err(EnsureError::Unsuitable { field: "allow_direct", .. })), "{closed:?}");
        let config = stream_info(&nats, "EVENTS").await.unwrap().config;
        assert_eq!(config.get("allow_direct").unwrap_or(&json!(false)), &json!(false));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_a_key_value_bucket_to_everybody() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let spec = BucketSpec { max_age: Some(Duration::from_secs(60)), history: 3, ..BucketSpec::new("SESSIONS") };
        let bucket = ensure_bucket(&nats, &spec).await.unwrap();
        let revision = bucket.create("s1", "one".into()).await.unwrap();
        bucket.update("s1", "two".into(), revision).await.unwrap();
        bucket.update("s1", "three".into(), revision).await.expect_err("another revision");
        // Another client, which knows nothing of ours.
        let theirs = server.jetstream().await.get_key_value("SESSIONS").await.unwrap();
        assert_eq!(theirs.get("s1").await.unwrap().unwrap(), "two");
        let status = theirs.status().await.unwrap();
        assert_eq!((status.history(), status.max_age()), (3, Duration::from_secs(60)));
        bucket.delete("s1").await.unwrap();
        assert_eq!(theirs.entry("s1").await.unwrap().unwrap().operation, kv::Operation::Delete);
        bucket.purge("s1").await.unwrap();
        ensure_bucket(&nats, &spec).await.unwrap();
        ensure_bucket(&nats, &BucketSpec::new("FOR-EVER")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_an_error_at_once() {
    within(LIMIT, async {
        let server = Server::start_with(NatsOptions { jetstream: false, ..NatsOptions::default() }).await;
        let nats = connect(&server).await;
        let refused = ensure_stream(&nats, &events()).await;
        assert!(refused.is_err(), "{refused:?}");
    })
    .await;
}
