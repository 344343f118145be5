//! A stream that is not the one it was: recreated, lost, rolled back. Nothing of the new log is told as the old one's.

use futures_util::TryStreamExt;
use herald_testkit::{eventually, within};
use ws_edge::config::Config;

use super::world::{LIMIT, SOON, STREAM, Taking, Way, World, backup, own, put, roll_back};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_and_created_again_is_another_life() {
    within(LIMIT, async {
        let world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        let old = world.put("gm.s.x", 30).await;
        taking.reaches(30).await;
        world.nats.jetstream().delete_stream(STREAM).await.unwrap();
        let epoch = world.renewed(&[world.epoch]).await;
        let new = world.put("gm.s.x", 40).await;
        assert_eq!(taking.enters(&[world.epoch]).await.epoch, epoch);
        taking.reaches(40).await;
        let lives = taking.record.lives();
        assert_eq!((lives.len(), &lives[0].events), (2, &old));
        assert!(new.ends_with(&lives[1].events), "{:?}", lives[1]);
        taking.ready().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_lost_is_another_life() {
    within(LIMIT, async {
        let mut world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        world.put("gm.s.x", 30).await;
        taking.reaches(30).await;
        world.server.kill().await;
        std::fs::remove_dir_all(world.server.store()).unwrap();
        world.server.resume().await;
        let epoch = world.renewed(&[world.epoch]).await;
        assert_eq!(taking.enters(&[world.epoch]).await.epoch, epoch);
        let head = world.put("gm.s.x", 5).await;
        taking.reaches(*head.last().unwrap()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_rolled_back_is_another_life() {
    within(LIMIT, async {
        let mut world = World::start().await;
        let mut expected = world.put("gm.s.x", 20).await;
        let (_folder, kept) = backup(&mut world.server).await;
        let taking = world.intake().await;
        taking.ready().await;
        let begun = taking.record.position();
        expected.extend(world.put("gm.s.x", 30).await);
        taking.reaches(50).await;
        roll_back(&mut world.server, &kept).await;
        // The same sequences again, fewer than were lost.
        assert_eq!(world.put("gm.s.x", 10).await.last(), Some(&30));
        let epoch = world.renewed(&[world.epoch]).await;
        let life = taking.enters(&[world.epoch]).await;
        assert_eq!((life.epoch, life.head), (epoch, 30));
        let new = world.put("gm.s.x", 10).await;
        taking.reaches(40).await;
        let lives = taking.record.lives();
        expected.retain(|seq| *seq > begun);
        assert_eq!((lives.len(), &lives[0].events), (2, &expected));
        assert_eq!(lives[1].events, new);
        assert!(lives[0].suspended > 0, "served nothing in between");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_was_outgrown_unseen_is_another_life() {
    within(LIMIT, async {
        let mut world = World::start().await;
        world.put("gm.s.x", 20).await;
        let (_folder, kept) = backup(&mut world.server).await;
        let mut way = Way::to(&world.server).await;
        let taking = Taking::start(&way.url(), Config::default().intake, |_| {}).await;
        taking.ready().await;
        let begun = taking.record.position();
        let mut old = world.put("gm.s.x", 30).await;
        taking.reaches(50).await;

        // Nobody who knows better looks while it happens: the head is above every position known, the epoch is the old one.
        way.cut().await;
        drop(world.owner);
        roll_back(&mut world.server, &kept).await;
        assert_eq!(put(&world.nats, "gm.s.x", 100).await.last(), Some(&120));
        world.owner = own(&world.nats);
        assert_eq!(world.owner.ready().await, world.epoch, "nothing shows it");
        way.open();

        let life = taking.enters(&[world.epoch]).await;
        assert_eq!((life.epoch, life.head), (world.renewed(&[world.epoch]).await, 120));
        let lives = taking.record.lives();
        old.retain(|seq| *seq > begun);
        assert_eq!(lives[0].events, old, "not one of the new log");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_owner_nothing_is_served_of_a_new_stream() {
    within(LIMIT, async {
        let world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        let old = world.put("gm.s.x", 5).await;
        taking.reaches(5).await;
        let World { server: _server, nats, owner, epoch } = world;
        drop(owner);
        let js = nats.jetstream();
        let config = js.get_stream(STREAM).await.unwrap().get_info().await.unwrap().config;
        js.delete_stream(STREAM).await.unwrap();
        js.create_stream(config).await.unwrap();
        put(&nats, "gm.s.x", 9).await;
        eventually("it serves nothing and says why", SOON, async || {
            let reason = taking.context.health.report().conditions["stream EVENTS"].clone();
            if taking.record.is_held() && reason.contains("waiting for its owner") { Ok(()) } else { Err(reason) }
        })
        .await;
        assert_eq!(taking.record.only_life().events, old);
        let _owner = own(&nats);
        assert_eq!(taking.enters(&[epoch]).await.head, 9);
        taking.ready().await;
        let stream = js.get_stream(STREAM).await.unwrap();
        let consumers: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
        assert_eq!(consumers.len(), 1);
    })
    .await;
}
