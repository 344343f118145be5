//! Many at once, on three instances: nothing is lost, nobody is in two places, nothing of what is destroyed survives.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use herald_testkit::{eventually, within};
use serde_json::{Value, json};

use crate::world::{MINUTE, SOON, World, join, restart, shown, wait_shown};

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_joins_at_once_to_fifty_sessions_one_succeeds() {
    const ROUNDS: usize = 200;
    within(MINUTE * 5, async {
        let world = World::start().await;
        let sessions = join_all((0..50).map(|_| world.create())).await;
        for round in 0..ROUNDS {
            // Some names are new, some have been there before.
            let client = format!("client-{}", round % 150);
            let replies = join_all(sessions.iter().map(|session| join(&world.door, session, &client))).await;
            let mut connected = Vec::new();
            for (session, reply) in sessions.iter().zip(replies) {
                match reply.expect_status(200).json()["message"].as_str() {
                    Some("Connected successfully") => connected.push(session.clone()),
                    Some("Client already connected") => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(connected.len(), 1, "round {round}: {connected:?}");
            assert_eq!(world.session_of(&client).await, Some(connected[0].clone()));
            let looked_at = if round % 20 == 0 { &sessions[..] } else { &connected[..] };
            let listed = join_all(looked_at.iter().map(|session| world.clients(session))).await;
            let listing: Vec<_> = looked_at.iter().zip(&listed).filter(|(_, clients)| !clients.is_empty()).collect();
            assert_eq!(listing, [(&connected[0], &vec![client.clone()])], "round {round}");
            world.leave(&client).await.expect_status(200);
        }
        let left = join_all(sessions.iter().map(|session| world.clients(session))).await;
        assert!(left.iter().all(Vec::is_empty), "{left:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_thousand_changes_at_once_none_is_lost_and_viewers_end_on_the_truth() {
    const CLIENTS: usize = 200;
    within(MINUTE * 3, async {
        let world = World::start().await;
        let id = world.create().await;
        let viewers = [world.watch(&id).await, world.watch(&id).await];
        for viewer in &viewers {
            wait_shown(viewer, 1).await;
        }
        let client = async |at: usize| {
            let name = format!("client-{at:03}");
            world.join(&id, &name).await.expect_status(200);
            for turn in 0..10 {
                let said = world.ready(&id, &name, turn % 2 == at % 2).await.expect_status(200).json();
                let mine = said["players"].as_array().unwrap().iter().find(|player| player["client_id"] == name);
                assert_eq!(mine.unwrap()["ready"], turn % 2 == at % 2, "what was just said is in the answer");
            }
        };
        join_all((0..CLIENTS).map(client)).await;
        let status = world.status(&id).await;
        let players = status["players"].as_array().unwrap();
        let names: BTreeSet<_> = players.iter().map(|player| player["client_id"].as_str().unwrap()).collect();
        assert_eq!((players.len(), names.len()), (CLIENTS, CLIENTS));
        for player in players {
            let at: usize = player["client_id"].as_str().unwrap()["client-".len()..].parse().unwrap();
            assert_eq!(player["ready"], 9 % 2 == at % 2, "{player}");
        }
        for viewer in &viewers {
            eventually("the last status", SOON, async || match shown(viewer).last() {
                Some(last) if *last == status => Ok(()),
                last => Err(last.map(|last| last["players"].as_array().map(Vec::len))),
            })
            .await;
            // Members are never fewer in a later status: nobody has left.
            let members: Vec<_> =
                shown(viewer).iter().map(|status| status["players"].as_array().map_or(0, Vec::len)).collect();
            assert!(members.is_sorted(), "{members:?}");
        }
        let revisions = revisions(&world, &id).await;
        assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "revisions go back: {revisions:?}");
        let (mut written, mut changes) = (0.0, 0.0);
        for lobby in &world.lobbies {
            written += lobby.metric("herald_lobby_commits_total", &["outcome=\"written\""]).await;
            changes += lobby.metric("herald_lobby_changes_total", &[]).await;
        }
        assert!(changes >= (CLIENTS * 10) as f64 && written < changes, "{changes} changes by {written} writes");
    })
    .await;
}

/// The revisions of all statuses of a session, in the order in which they were stored.
async fn revisions(world: &World, session: &str) -> Vec<u64> {
    let stream = world.nats.jetstream().await.get_stream("LOBBY").await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    let mut revisions = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        if *message.subject == *format!("lobby.{session}.status") {
            revisions.push(message.headers.get("Lobby-Rev").unwrap().as_str().parse().unwrap());
        }
    }
    revisions
}

#[tokio::test(flavor = "multi_thread")]
async fn what_joins_while_all_is_destroyed_is_gone_or_came_later() {
    within(MINUTE * 2, async {
        let world = World::start().await;
        let sessions = join_all((0..20).map(|_| world.create())).await;
        let viewer = world.watch(&sessions[0]).await;
        wait_shown(&viewer, 1).await;
        let (over, joined) = (AtomicBool::new(false), AtomicUsize::new(0));
        let crowd = async |who: usize| {
            let mut pause = tokio::time::interval(Duration::from_millis(40));
            let mut at = 0;
            while !over.load(Ordering::SeqCst) {
                pause.tick().await;
                let reply = world.join(&sessions[(who + at) % sessions.len()], &format!("{who}-{at}")).await;
                match reply.status {
                    200 => joined.fetch_add(1, Ordering::SeqCst),
                    404 => at,
                    other => panic!("{other}: {}", reply.text()),
                };
                at += 1;
            }
            at
        };
        let destroyed = async {
            eventually("many have joined", SOON, async || match joined.load(Ordering::SeqCst) {
                100.. => Ok(()),
                joined => Err(joined),
            })
            .await;
            world.destroy_all().await;
            // From here on nobody sees anything of it, while the others go on.
            for _ in 0..10 {
                assert_eq!(world.get("/api/game_sessions").await.expect_status(200).json(), json!({ "sessions": [] }));
                world.join(&sessions[3], "late").await.expect_status(404);
                assert_eq!(world.session_of("0-0").await, None);
            }
            over.store(true, Ordering::SeqCst);
        };
        let (tried, ()) = tokio::join!(join_all((0..4).map(crowd)), destroyed);
        let states = join_all(tried.iter().enumerate().flat_map(|(who, &tried)| {
            let world = &world;
            (0..tried).map(move |at| async move { world.session_of(&format!("{who}-{at}")).await })
        }))
        .await;
        assert!(states.iter().all(Option::is_none), "somebody survived");
        assert_eq!(viewer.wait_end(SOON).await.code(), 1001);
        let id = world.create().await;
        assert_eq!(world.join(&id, "0-0").await.expect_status(200).json()["message"], "Connected successfully");
        let stale = async || {
            let bucket = world.nats.jetstream().await.get_key_value("LOBBY_CLIENT").await.unwrap();
            bucket.status().await.unwrap().values()
        };
        // What is left in the buckets goes, too.
        let swept = async || {
            let mut swept = 0.0;
            for lobby in &world.lobbies {
                swept += lobby.metric("herald_lobby_swept_total", &["what=\"session\""]).await;
            }
            if swept >= 20.0 { Ok(()) } else { Err((swept, stale().await)) }
        };
        eventually("records of old sessions are gone", MINUTE, swept).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_labyrinth_is_the_same_on_every_instance_and_after_a_restart() {
    within(MINUTE, async {
        let mut world = World::start().await;
        let ask = async |world: &World| -> Vec<Value> {
            let ask = |_| async {
                world.post("/generate-labyrinth", &json!({ "size": 10, "seed": "abc" })).await.expect_status(200)
            };
            join_all((0..12).map(ask)).await.iter().map(herald_testkit::http::Reply::json).collect()
        };
        let before = ask(&world).await;
        assert!(before.iter().all(|map| *map == before[0]));
        for lobby in &mut world.lobbies {
            restart(lobby).await;
        }
        assert!(ask(&world).await.iter().all(|map| *map == before[0]));
    })
    .await;
}
