//! The checker's truth against real servers: complete through deletions, outages, other lives of the stream, and a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

use std::{fs, time::Duration};

use async_nats::HeaderMap;
use herald_protocol::{Epoch, SessionId};
use herald_runtime::{
    Context,
    config::Common,
    jetstream::{Expect, StreamSpec, epoch::EpochOwner, publish},
    nats::{self, Nats},
};
use herald_testkit::{Nats as Server, NatsCluster, eventually, within};
use sim::check::truth::{Known, SessionLog, Truth};

const LIMIT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(40);

async fn connect(url: &str) -> Nats {
    let mut common = Common::with_operations_port(0);
    common.nats.url = url.to_owned();
    common.nats.request_timeout = Duration::from_secs(1).into();
    let context = Context::new("test", common);
    nats::connect(&context.common.nats, "nats", &context).await.unwrap()
}

fn own(nats: &Nats) -> EpochOwner {
    EpochOwner::spawn(nats, StreamSpec::new("EVENTS", ["gm.>", "arena.>"]), vec![])
}

/// Stores an event; its sequence.
async fn put(nats: &Nats, subject: &str, payload: &str) -> u64 {
    let expect = Expect::default();
    let stored = async || publish(nats, subject, HeaderMap::new(), payload.to_owned().into(), expect).await;
    eventually("an event is stored", SOON, stored).await.seq
}

async fn complete(truth: &Truth, at_least: u64) -> Known {
    tokio::time::timeout(SOON, truth.complete(at_least)).await.expect("read to the end")
}

fn shown(log: &SessionLog) -> Vec<u64> {
    log.life().shown.iter().map(|event| event.seq).collect()
}

fn session(id: &str) -> SessionId {
    SessionId::new(id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_truth_is_whole_through_deletions_and_outages() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let nats = connect(&server.url()).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        put(&nats, "gm.one.phase", "{}").await;
        let truth = Truth::spawn(&nats, "EVENTS");
        let ready = truth.ready().await;
        assert_eq!((ready.epoch, ready.through), (Some(epoch), 1));
        let (one, two) = (session("one"), session("two"));
        truth.follow(&one);
        truth.follow(&two);
        let mut due = Vec::new();
        for number in 0..1200_u32 {
            // Of another session, hidden, or too few tokens: read, and none of the session's.
            let subject = ["gm.one.phase", "gm.two.phase", "gm.one._action", "arena.three.x", "arena.init"];
            let seq = put(&nats, subject[number as usize % 5], &format!("{{\"number\":{number}}}")).await;
            if number % 5 == 0 {
                due.push(seq);
            }
        }
        let known = complete(&truth, *due.last().unwrap()).await;
        assert_eq!(known.through, 1201);
        let log = truth.log(&one).unwrap();
        assert_eq!((shown(&log), log.life().through), (due, 1201));
        assert_eq!(truth.tail(&two).unwrap().0, epoch);
        assert!(truth.log(&session("three")).is_none(), "nobody follows it");

        // Deleted, in the middle and at the end, before it was read or behind.
        let stream = nats.jetstream().get_stream("EVENTS").await.unwrap();
        let mut last = 0;
        for _ in 0..30 {
            last = put(&nats, "gm.one.phase", "{}").await;
        }
        for seq in [last - 20, last - 19, last - 1, last] {
            stream.delete_message(seq).await.unwrap();
        }
        assert_eq!(complete(&truth, last).await.through, last);

        server.kill().await;
        let waiting = tokio::time::timeout(Duration::from_secs(2), truth.complete(0)).await;
        assert!(waiting.is_err(), "while NATS is away, nothing is known");
        server.resume().await;
        let last = put(&nats, "gm.two.phase", "{}").await;
        assert_eq!(complete(&truth, last).await.through, last);
        assert_eq!(truth.tail(&two), Some((epoch, last)));
        truth.forget(&two);
        assert!(truth.log(&two).is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_life_of_the_stream_is_kept_apart_and_read_whole() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let nats = connect(&server.url()).await;
        let owner = own(&nats);
        let first = owner.ready().await;
        let truth = Truth::spawn(&nats, "EVENTS");
        truth.ready().await;
        let one = session("one");
        truth.follow(&one);
        for _ in 0..20 {
            put(&nats, "gm.one.phase", "{}").await;
        }
        complete(&truth, 20).await;
        // Everything is lost, and the stream made anew.
        server.kill().await;
        fs::remove_dir_all(server.store()).unwrap();
        server.resume().await;
        let mut life = owner.life();
        let second = eventually("another life", SOON, async || {
            let now = *life.borrow_and_update();
            now.epoch().filter(|epoch: &Epoch| *epoch != first).ok_or(now)
        })
        .await;
        for _ in 0..5 {
            put(&nats, "gm.one.phase", "{\"again\":1}").await;
        }
        let known = eventually("the other life is known", SOON, async || {
            let known = complete(&truth, 5).await;
            if known.epoch == Some(second) { Ok(known) } else { Err(known) }
        })
        .await;
        assert_eq!(known.through, 5);
        let log = truth.log(&one).unwrap();
        let lives: Vec<_> = log.lives.iter().map(|life| (life.epoch, life.shown.len(), life.through)).collect();
        assert_eq!(lives, [(first, 20, 20), (second, 5, 5)]);
        // What a client claims to have seen of the former life is not waited for.
        assert_eq!(complete(&truth, 20).await.through, 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_truth_is_whole_whoever_leads() {
    within(LIMIT, async {
        let mut cluster = NatsCluster::start().await;
        let nats = connect(&cluster.url()).await;
        let owner = own(&nats);
        owner.ready().await;
        let truth = Truth::spawn(&nats, "EVENTS");
        truth.ready().await;
        let one = session("one");
        truth.follow(&one);
        let mut due = Vec::new();
        for round in 0..3 {
            for _ in 0..60 {
                let seq = put(&nats, "gm.one.phase", "{}").await;
                // A publish whose answer was lost may be stored all the same, and then it is there, too.
                due.push(seq);
            }
            let leader = cluster.wait_leader("EVENTS").await;
            if round % 2 == 0 {
                cluster.servers[leader].kill().await;
                due.push(put(&nats, "gm.one.phase", "{}").await);
                cluster.servers[leader].resume().await;
            } else {
                cluster.servers[leader].freeze().await;
                due.push(put(&nats, "gm.one.phase", "{}").await);
                cluster.servers[leader].thaw();
            }
        }
        let last = *due.last().unwrap();
        assert!(complete(&truth, last).await.through >= last);
        let log = shown(&truth.log(&one).unwrap());
        let missing: Vec<_> = due.iter().filter(|seq| log.binary_search(seq).is_err()).collect();
        assert!(missing.is_empty() && log.is_sorted(), "{missing:?} of {}", due.len());
        assert_eq!(truth.log(&one).unwrap().lives.len(), 1);
    })
    .await;
}
