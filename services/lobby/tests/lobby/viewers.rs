//! Who watches a session: the status at once, one for each change, none without, never an older one behind a newer one.

use herald_testkit::{eventually, within, ws};
use serde_json::Value;
use tungstenite::Message;

use crate::world::{EMPTY, MINUTE, SOON, World, shown, status, wait_shown};

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_one_status_and_what_changes_nothing_is_none() {
    within(MINUTE, async {
        let world = World::start().await;
        let id = world.create().await;
        let viewer = world.watch(&id).await;
        wait_shown(&viewer, 1).await;
        assert_eq!(viewer.frames()[0].text, EMPTY, "the first message, at once");
        let mut expected = vec![status(&[])];
        let step = async |expected: &[Value]| {
            let seen = wait_shown(&viewer, expected.len()).await;
            assert_eq!(seen, expected);
        };
        world.join(&id, "ann").await.expect_status(200);
        expected.push(status(&[("ann", false)]));
        step(&expected).await;
        world.ready(&id, "ann", true).await.expect_status(200);
        expected.push(status(&[("ann", true)]));
        step(&expected).await;
        // Nothing of these changes anything.
        world.ready(&id, "ann", true).await.expect_status(200);
        world.join(&id, "ann").await.expect_status(200);
        world.ready(&id, "bob", true).await.expect_status(404);
        world.leave("bob").await.expect_status(404);
        world.join(&id, "bob").await.expect_status(200);
        expected.push(status(&[("ann", true), ("bob", false)]));
        step(&expected).await;
        world.leave("bob").await.expect_status(200);
        expected.push(status(&[("ann", true)]));
        step(&expected).await;
        // Who comes now sees how it is now, however the session is written.
        let late = world.watch(&id.to_uppercase()).await;
        assert_eq!(wait_shown(&late, 1).await, [status(&[("ann", true)])]);
        world.leave("ann").await.expect_status(200);
        expected.push(status(&[]));
        step(&expected).await;
        assert_eq!(wait_shown(&late, 2).await, [status(&[("ann", true)]), status(&[])]);
        // Its closing leaves nothing: watching is not joining.
        late.close().await;
        assert_eq!(world.status(&id).await, status(&[]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_viewer_sends_is_ignored_unless_there_is_too_much_of_it() {
    within(MINUTE, async {
        let world = World::start().await;
        let id = world.create().await;
        let (viewer, loud) = (world.watch(&id).await, world.watch(&id).await);
        wait_shown(&viewer, 1).await;
        viewer.send_text("x".repeat(4096)).await;
        viewer.send(Message::Binary(vec![0xff; 4096].into())).await;
        loud.send_text("x".repeat(1 << 20)).await;
        assert_eq!(loud.wait_end(SOON).await.code(), 1009);
        world.join(&id, "ann").await.expect_status(200);
        assert_eq!(wait_shown(&viewer, 2).await[1], status(&[("ann", false)]));
        assert!(viewer.ended().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_viewers_of_a_destroyed_session_see_it_empty_and_are_closed() {
    within(MINUTE, async {
        let world = World::start().await;
        let (id, other) = (world.create().await, world.create().await);
        world.join(&id, "ann").await.expect_status(200);
        let viewers = [world.watch(&id).await, world.watch(&id).await, world.watch(&other).await];
        for viewer in &viewers {
            wait_shown(viewer, 1).await;
        }
        world.destroy_all().await;
        for viewer in &viewers {
            assert_eq!(viewer.wait_end(SOON).await.code(), 1001);
            assert_eq!(shown(viewer).last(), Some(&status(&[])));
        }
        let refused = ws::Client::open(&world.door.ws(&format!("/ws/{id}")), ws::Options::default()).await;
        assert!(matches!(refused, Err(ws::Refused::Status { status: 404, .. })));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_that_never_read_hold_up_nobody() {
    const CHANGES: usize = 1000;
    within(MINUTE * 3, async {
        let world = World::start().await;
        let id = world.create().await;
        // Some 8 KB of status.
        let clients: Vec<_> = (0..30).map(|at| format!("{at:03}{}", "x".repeat(240))).collect();
        for client in &clients {
            world.join(&id, client).await.expect_status(200);
        }
        let before = world.door.metric("process_resident_memory_bytes", &[]).await;
        let mut asleep = Vec::new();
        for _ in 0..50 {
            let options = ws::Options { receive_buffer: Some(4096), ..ws::Options::default() };
            let viewer = ws::Client::open(&world.door.ws(&format!("/ws/{id}")), options).await.unwrap();
            viewer.stall(true).await;
            asleep.push(viewer);
        }
        let awake = world.watch(&id).await;
        wait_shown(&awake, 1).await;
        let begun = std::time::Instant::now();
        for at in 0..CHANGES {
            let client = &clients[at % clients.len()];
            world.ready(&id, client, (at / clients.len()).is_multiple_of(2)).await.expect_status(200);
        }
        // Each was answered, one after the other, in far less time than one that sleeps is waited for.
        let took = begun.elapsed();
        assert!(took < MINUTE, "{took:?}");
        let last = world.status(&id).await;
        eventually("who reads has the last one", SOON, async || match shown(&awake).last() {
            Some(seen) if *seen == last => Ok(()),
            seen => Err(seen.cloned()),
        })
        .await;
        let after = world.door.metric("process_resident_memory_bytes", &[]).await;
        assert!(after - before < 64e6, "the edge grew by {} MB", (after - before) / 1e6);
        for viewer in &asleep {
            viewer.stall(false).await;
        }
        for viewer in &asleep {
            eventually("who slept has the last one", SOON, async || match shown(viewer).last() {
                Some(seen) if *seen == last => Ok(()),
                _ => Err(viewer.frames().len()),
            })
            .await;
            assert!(viewer.frames().len() < CHANGES / 2, "and not all that was before");
        }
    })
    .await;
}
