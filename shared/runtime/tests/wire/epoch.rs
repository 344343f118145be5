//! The life of a stream, and how its end is noticed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::connection::connect;
use async_nats::HeaderMap;
use herald_protocol::{Epoch, subject};
use herald_runtime::{
    jetstream::{
        BucketSpec, Expect, StreamSpec,
        epoch::{EpochOwner, EpochWatcher, StreamLife},
        get_leader, publish, stream_info,
    },
    nats::Nats,
};
use herald_testkit::{Nats as Server, eventually, within};
use tokio::{sync::watch, task::JoinHandle};

const LIMIT: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);

fn own(nats: &Nats) -> EpochOwner {
    EpochOwner::spawn(nats, StreamSpec::new("EVENTS", ["gm.>", "arena.>"]), vec![BucketSpec::new("SESSIONS")])
}

async fn put(nats: &Nats, count: usize) -> u64 {
    let mut last = 0;
    for _ in 0..count {
        // Right after a restart the server may still be on its way.
        last = eventually("an event is stored", SOON, async || {
            publish(nats, "gm.s.x", HeaderMap::new(), "{}".into(), Expect::default()).await
        })
        .await
        .seq;
    }
    last
}

async fn alive(life: &watch::Receiver<StreamLife>) -> Epoch {
    eventually("the stream is alive", SOON, async || life.borrow().epoch().ok_or(*life.borrow())).await
}

async fn alive_again(life: &watch::Receiver<StreamLife>, former: &[Epoch]) -> Epoch {
    eventually("a new life", SOON, async || {
        let now = *life.borrow();
        now.epoch().filter(|epoch| !former.contains(epoch)).ok_or(now)
    })
    .await
}

/// Every epoch and whether `Rewritten` was seen, in order.
fn record(mut life: watch::Receiver<StreamLife>) -> JoinHandle<Vec<Option<Epoch>>> {
    tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let now = match *life.borrow_and_update() {
                StreamLife::Unknown => None,
                StreamLife::Alive { epoch, .. } => Some(Some(epoch)),
                StreamLife::Rewritten => Some(None),
            };
            if let Some(now) = now
                && seen.last() != Some(&now)
            {
                seen.push(now);
            }
            if life.changed().await.is_err() {
                return seen;
            }
        }
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Stops the server, keeps a copy of its store, starts it again.
async fn backup(server: &mut Server) -> (tempfile::TempDir, PathBuf) {
    server.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("store");
    copy(&server.store(), &kept);
    server.resume().await;
    (folder, kept)
}

/// As a power cut or an operator does it.
async fn roll_back(server: &mut Server, kept: &Path) {
    server.kill().await;
    fs::remove_dir_all(server.store()).unwrap();
    copy(kept, &server.store());
    server.resume().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_first_waits_for_the_owner() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let watcher = EpochWatcher::spawn(&nats, "EVENTS");
        let life = watcher.life();
        assert_eq!(*life.borrow(), StreamLife::Unknown);
        let owner = own(&nats);
        let epoch = owner.ready().await;
        assert_eq!(alive(&life).await, epoch);
        assert_eq!(stream_info(&nats, "EVENTS").await.unwrap().epoch, Some(epoch));
        nats.jetstream().get_key_value("SESSIONS").await.expect("the owner's bucket, too");
        let last = put(&nats, 3).await;
        let expected = StreamLife::Alive { epoch, first: 1, last };
        eventually("the head is seen", SOON, async || {
            let now = *life.borrow();
            if now == expected { Ok(()) } else { Err(now) }
        })
        .await;
        assert_eq!(watcher.check().await, expected);
        // Who asks has an owner publish nowhere but in an inbox: not even in its own log.
        nats.client().publish_with_reply("epoch.EVENTS", "gm.s.x", "{}".into()).await.unwrap();
        nats.client().request("epoch.EVENTS", "{}".into()).await.unwrap();
        assert_eq!(put(&nats, 1).await, last + 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_no_new_life() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let nats = connect(&server).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        let watcher = EpochWatcher::spawn(&nats, "EVENTS");
        let seen = record(watcher.life());
        alive(&watcher.life()).await;
        let last = put(&nats, 5).await;
        let time = get_leader(&nats, "EVENTS", last).await.unwrap().unwrap().time_ns;
        watcher.position(epoch, last, time);
        for _ in 0..2 {
            watcher.check().await;
            server.kill().await;
            server.resume().await;
            put(&nats, 2).await;
            assert_eq!(watcher.check().await.epoch(), Some(epoch));
        }
        drop((watcher, owner));
        assert_eq!(seen.await.unwrap(), [Some(epoch)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_created_again_as_another_life() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        let watcher = EpochWatcher::spawn(&nats, "EVENTS");
        let seen = record(watcher.life());
        alive(&watcher.life()).await;
        put(&nats, 5).await;
        watcher.check().await;
        nats.jetstream().delete_stream("EVENTS").await.unwrap();
        let renewed = alive_again(&watcher.life(), &[epoch]).await;
        assert_eq!(stream_info(&nats, "EVENTS").await.unwrap().epoch, Some(renewed));
        assert_eq!(alive_again(&owner.life(), &[epoch]).await, renewed);
        drop((watcher, owner));
        let seen = seen.await.unwrap();
        assert_eq!((seen[0], *seen.last().unwrap()), (Some(epoch), Some(renewed)), "{seen:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_rolled_back_gets_one_new_epoch_from_two_owners() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let (one, two, third) = (connect(&server).await, connect(&server).await, connect(&server).await);
        let owners = [own(&one), own(&two)];
        let epoch = owners[0].ready().await;
        assert_eq!(owners[1].ready().await, epoch);
        put(&third, 10).await;
        let (_folder, kept) = backup(&mut server).await;

        let watcher = EpochWatcher::spawn(&third, "EVENTS");
        let seen = record(watcher.life());
        alive(&watcher.life()).await;
        put(&third, 10).await;
        watcher.check().await;
        roll_back(&mut server, &kept).await;
        // New events, not as many as were lost.
        assert_eq!(put(&third, 4).await, 14);
        let renewed = alive_again(&watcher.life(), &[epoch]).await;
        let created = stream_info(&third, "EVENTS").await.unwrap().created;
        assert_eq!(renewed, Epoch::of(&format!("{created} {epoch}"), 10), "the last common sequence is 10");
        for owner in &owners {
            assert_eq!(alive_again(&owner.life(), &[epoch]).await, renewed);
        }
        put(&third, 20).await;
        watcher.check().await;

        // The same backup again: the epoch in it is a former one, and so is the one that followed it then.
        roll_back(&mut server, &kept).await;
        let again = alive_again(&watcher.life(), &[epoch, renewed]).await;
        assert_eq!(watcher.check().await.epoch(), Some(again));
        drop((watcher, owners));
        let seen: Vec<Epoch> = seen.await.unwrap().into_iter().flatten().collect();
        assert_eq!(seen, [epoch, renewed, again]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_was_outgrown_is_found_by_the_position() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let nats = connect(&server).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        put(&nats, 10).await;
        let (_folder, kept) = backup(&mut server).await;
        // Nobody looks while this goes on: a process that comes back knows nothing but its own position.
        drop(owner);
        let last = put(&nats, 5).await;
        let time = get_leader(&nats, "EVENTS", last).await.unwrap().unwrap().time_ns;
        roll_back(&mut server, &kept).await;
        put(&nats, 50).await;

        let owner = own(&nats);
        assert_eq!(owner.ready().await, epoch, "nothing shows it");
        let watcher = EpochWatcher::spawn(&nats, "EVENTS");
        assert_eq!(watcher.check().await.epoch(), Some(epoch));
        watcher.position(epoch, last, time);
        assert_ne!(watcher.check().await.epoch(), Some(epoch));
        let renewed = alive_again(&watcher.life(), &[epoch]).await;
        let created = stream_info(&nats, "EVENTS").await.unwrap().created;
        assert_eq!(renewed, Epoch::of(&format!("{created} {epoch}"), 10));
        // A late word from the former life is no news.
        watcher.position(epoch, last, time);
        assert_eq!(watcher.check().await.epoch(), Some(renewed));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_lost_is_another_life() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let nats = connect(&server).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        let watcher = EpochWatcher::spawn(&nats, "EVENTS");
        alive(&watcher.life()).await;
        put(&nats, 5).await;
        server.kill().await;
        fs::remove_dir_all(server.store()).unwrap();
        server.resume().await;
        let renewed = alive_again(&watcher.life(), &[epoch]).await;
        assert_eq!(alive_again(&owner.life(), &[epoch]).await, renewed);
        nats.jetstream().get_key_value("SESSIONS").await.expect("the bucket, too");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_owner_nothing_is_served_of_a_rewritten_stream() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        let watcher = EpochWatcher::spawn(&nats, "EVENTS");
        alive(&watcher.life()).await;
        drop(owner);
        let config = nats.jetstream().get_stream("EVENTS").await.unwrap().get_info().await.unwrap().config;
        nats.jetstream().delete_stream("EVENTS").await.unwrap();
        nats.jetstream().create_stream(config).await.unwrap();
        let life = watcher.life();
        eventually("the end is noticed", SOON, async || {
            let now = *life.borrow();
            if now == StreamLife::Rewritten { Ok(()) } else { Err(now) }
        })
        .await;
        assert_eq!(watcher.check().await, StreamLife::Rewritten);
        let owner = own(&nats);
        let renewed = alive_again(&life, &[epoch]).await;
        drop(owner);
        assert_eq!(stream_info(&nats, "EVENTS").await.unwrap().epoch, Some(renewed));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_metadata_is_restored_and_no_new_life() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        let watcher = EpochWatcher::spawn(&nats, "EVENTS");
        let seen = record(watcher.life());
        alive(&watcher.life()).await;
        let mut config = nats.jetstream().get_stream("EVENTS").await.unwrap().get_info().await.unwrap().config;
        config.metadata.clear();
        nats.jetstream().update_stream(config).await.unwrap();
        eventually("the epoch is back", SOON, async || {
            let now = stream_info(&nats, "EVENTS").await.unwrap().epoch;
            if now == Some(epoch) { Ok(()) } else { Err(now) }
        })
        .await;
        watcher.check().await;
        drop((watcher, owner));
        assert_eq!(seen.await.unwrap(), [Some(epoch)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_question_changes_nothing() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        let last = put(&nats, 1).await;
        let info = stream_info(&nats, "EVENTS").await.unwrap();
        let ask = async |question: String| {
            let answer = nats.client().request(subject::epoch("EVENTS"), question.into()).await.unwrap();
            serde_json::from_slice::<serde_json::Value>(&answer.payload).unwrap()
        };
        let true_words = serde_json::json!({
            "seen": [epoch], "created": info.created, "seq": last, "time_ns": info.last_time_ns,
        });
        for question in [true_words.to_string(), r#"{"seen":[],"created":""}"#.to_owned()] {
            assert_eq!(ask(question).await["epoch"], epoch.to_string());
        }
        assert!(ask("nonsense".to_owned()).await["error"].is_string());
        assert_eq!(stream_info(&nats, "EVENTS").await.unwrap().epoch, Some(epoch));
        assert_eq!(alive(&owner.life()).await, epoch);
    })
    .await;
}
