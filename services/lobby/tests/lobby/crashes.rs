//! One of three instances dies in the midst of something: the next call heals it, nobody is in two sessions, nobody is locked out
//! for longer than five seconds.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herald_testkit::{Lobby, Service, eventually, within};
use serde_json::Value;
use tokio::time::sleep;

use crate::world::{MINUTE, SOON, World, shown, status, wait_shown};

/// How long somebody may be locked out, and what it may take to find that out.
const HEALED: Duration = Duration::from_secs(7);

/// Three instances, of which one dies at that place.
async fn world(bug: &str) -> World {
    let mut world = World::told(|lobby| lobby.set("sweep.every", "1s")).await;
    world.lobbies.pop();
    let mut dying = Lobby::new(&world.nats).program("lobby-planted").set("planted_bug", bug).spawn();
    dying.wait_ready(SOON).await;
    world.lobbies.push(dying);
    world
}

fn is_dead(world: &mut World) -> bool {
    let dying: &mut Service = world.lobbies.last_mut().expect("three");
    !dying.process().running()
}

/// Lets clients do something until one of them has met the instance that dies: that client.
async fn until_it_dies(world: &mut World, what: &str, act: impl AsyncFn(&World, &str) -> u16) -> String {
    for at in 0..200 {
        let client = format!("{what}-{at}");
        let status = act(world, &client).await;
        if is_dead(world) {
            assert!(matches!(status, 503 | 504), "{client} was answered {status} by one that died");
            return client;
        }
    }
    panic!("it did not die by {what}");
}

/// How often each session lists a client.
async fn listings(world: &World, sessions: &[String], client: &str) -> usize {
    let all = join_all(sessions.iter().map(|session| world.clients(session))).await;
    all.iter().flatten().filter(|listed| *listed == client).count()
}

/// Waits until a client can join, or has joined, exactly one of these sessions, and is there alone.
async fn heals(world: &World, sessions: &[String], client: &str) {
    let begun = Instant::now();
    let joined = eventually("it is in a session again", SOON, async || {
        let reply = world.join(&sessions[1], client).await.expect_status(200).json();
        let state = world.session_of(client).await;
        assert!(listings(world, sessions, client).await <= 1, "in two sessions");
        state.ok_or(reply)
    })
    .await;
    assert!(begun.elapsed() < HEALED, "locked out for {:?}", begun.elapsed());
    assert_eq!(listings(world, sessions, client).await, 1);
    assert!(world.clients(&joined).await.contains(&client.to_owned()));
    world.leave(client).await.expect_status(200);
    assert_eq!((listings(world, sessions, client).await, world.session_of(client).await), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_dies_at_any_step_is_healed_by_the_next_call() {
    within(MINUTE * 4, async {
        for bug in ["dies-bound", "dies-listed", "dies-untold"] {
            let mut world = world(bug).await;
            let sessions = vec![world.create().await, world.create().await];
            let act = async |world: &World, client: &str| world.join(&sessions[0], client).await.status;
            let client = until_it_dies(&mut world, "join", act).await;
            heals(&world, &sessions, &client).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leave_that_dies_at_any_step_is_healed_by_the_next_call() {
    within(MINUTE * 4, async {
        for bug in ["dies-taken-out", "dies-unbound"] {
            let mut world = world(bug).await;
            let sessions = vec![world.create().await, world.create().await];
            let act = async |world: &World, client: &str| {
                world.join(&sessions[0], client).await.expect_status(200);
                world.leave(client).await.status
            };
            let client = until_it_dies(&mut world, "leave", act).await;
            assert_eq!(listings(&world, &sessions, &client).await, 0);
            heals(&world, &sessions, &client).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_was_overtaken_and_died_leaves_nobody_behind() {
    within(MINUTE * 2, async {
        let mut world = world("dies-overtaken").await;
        let id = world.create().await;
        let mut at = 0;
        while !is_dead(&mut world) {
            assert!(at < 2000, "no join was overtaken by a leave on the instance that dies");
            let client = format!("client-{at}");
            // Sooner or later behind the join, as it overtakes it at one moment only, which depends on the machine.
            let leave = async {
                sleep(Duration::from_micros(at % 16 * 250)).await;
                world.leave(&client).await
            };
            let (joined, _left) = tokio::join!(world.join(&id, &client), leave);
            assert!(matches!(joined.status, 200 | 503 | 504), "{}", joined.text());
            if !is_dead(&mut world) {
                // Whose leave came too early is still there, and would fill the session.
                world.leave(&client).await;
            }
            at += 1;
        }
        eventually("only who is bound is listed", SOON, async || {
            for client in world.clients(&id).await {
                if world.session_of(&client).await.is_none() {
                    return Err(client);
                }
            }
            Ok(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_see_a_change_whose_maker_died_before_it_could_tell() {
    within(MINUTE * 2, async {
        let mut world = world("dies-untold").await;
        let id = world.create().await;
        let viewer = world.watch(&id).await;
        wait_shown(&viewer, 1).await;
        let act = async |world: &World, client: &str| world.join(&id, client).await.status;
        until_it_dies(&mut world, "join", act).await;
        let now = world.status(&id).await;
        eventually("the sweeper tells it", SOON, async || match shown(&viewer).last() {
            Some(last) if *last == now => Ok(()),
            last => Err(last.cloned()),
        })
        .await;
        let members = |status: &Value| status["players"].as_array().map_or(0, Vec::len);
        assert!(shown(&viewer).iter().map(members).is_sorted(), "nothing older behind something newer");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_while_it_buries_is_buried_by_the_others() {
    within(MINUTE * 2, async {
        let mut world = world("dies-burying").await;
        let sessions = join_all((0..6).map(|_| world.create())).await;
        let viewers = join_all(sessions.iter().map(|session| world.watch(session))).await;
        for (session, viewer) in sessions.iter().zip(&viewers) {
            world.join(session, &format!("of-{session}")).await.expect_status(200);
            wait_shown(viewer, 2).await;
        }
        world.destroy_all().await;
        for viewer in &viewers {
            assert_eq!(viewer.wait_end(SOON).await.code(), 1001);
            assert_eq!(shown(viewer).last(), Some(&status(&[])));
        }
        for session in &sessions {
            assert_eq!(world.session_of(&format!("of-{session}")).await, None);
        }
        eventually("nothing is left in the buckets", MINUTE, async || {
            let jetstream = world.nats.jetstream().await;
            let mut left = 0;
            for bucket in ["LOBBY_SESSION", "LOBBY_CLIENT"] {
                let mut keys = futures_util::StreamExt::boxed(
                    jetstream.get_key_value(bucket).await.unwrap().keys().await.unwrap(),
                );
                while let Some(key) = futures_util::StreamExt::next(&mut keys).await {
                    left += usize::from(key.is_ok());
                }
            }
            if left == 0 { Ok(()) } else { Err(left) }
        })
        .await;
        let _dead = is_dead(&mut world);
    })
    .await;
}
