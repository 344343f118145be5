//! Restarts of everything in mid-session, and what is answered while something is away.

use std::time::Duration;

use herald_testkit::{Lobby, Nats, NatsOptions, eventually, within};
use serde_json::json;

use crate::world::{MINUTE, SOON, World, detail, restart, shown, status, wait_shown};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_every_process_and_viewers_come_back_to_it() {
    within(MINUTE * 3, async {
        let mut world = World::start().await;
        let id = world.create().await;
        for client in ["c", "a", "b"] {
            world.join(&id, client).await.expect_status(200);
        }
        world.ready(&id, "a", true).await.expect_status(200);
        let now = status(&[("c", false), ("a", true), ("b", false)]);
        let state = async |world: &World, now: &serde_json::Value| {
            eventually("the session as it was", SOON, async || {
                let reply = world.get(&format!("/api/game_sessions/{id}/status")).await;
                if reply.status == 200 && reply.json() == *now { Ok(()) } else { Err(reply.text()) }
            })
            .await;
            assert_eq!(world.session_of("b").await, Some(id.clone()));
            let viewer = world.watch(&id).await;
            assert_eq!(wait_shown(&viewer, 1).await.first(), Some(now));
            viewer
        };
        state(&world, &now).await;
        // The lobbies, one after the other: killed, then ended by plan.
        for lobby in &mut world.lobbies {
            lobby.kill().await;
            lobby.relaunch();
            lobby.wait_ready(SOON).await;
        }
        let viewer = state(&world, &now).await;
        for lobby in &mut world.lobbies {
            restart(lobby).await;
        }
        assert!(viewer.ended().is_none(), "who watches does not notice");
        state(&world, &now).await;
        restart(&mut world.door).await;
        viewer.wait_end(SOON).await;
        let viewer = state(&world, &now).await;
        world.nats.kill().await;
        world.nats.resume().await;
        for lobby in &mut world.lobbies {
            lobby.wait_ready(SOON).await;
        }
        world.door.wait_ready(SOON).await;
        state(&world, &now).await;
        world.ready(&id, "c", true).await.expect_status(200);
        let now = status(&[("c", true), ("a", true), ("b", false)]);
        eventually("who watched through it sees what is new", SOON, async || match shown(&viewer).last() {
            Some(last) if *last == now => Ok(()),
            last => Err((last.cloned(), viewer.ended())),
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_done_is_said_and_was_not_done() {
    within(MINUTE * 2, async {
        let mut world = World::start().await;
        let id = world.create().await;
        for lobby in &mut world.lobbies {
            lobby.stop().await;
        }
        let reply = world.join(&id, "ann").await.expect_status(503);
        assert!(!detail(&reply).is_empty(), "{}", reply.text());
        assert_eq!(world.get("/health").await.json(), json!({ "status": "degraded" }));
        for lobby in &mut world.lobbies {
            lobby.relaunch();
            lobby.wait_ready(SOON).await;
        }
        assert!(world.clients(&id).await.is_empty());
        world.join(&id, "ann").await.expect_status(200);
        world.nats.stop().await;
        for path in ["/api/game_sessions", "/game-sessions", "/api/game_sessions/client_state/ann"] {
            let reply = world.get(path).await;
            assert!(matches!(reply.status, 503 | 504), "{path}: {}", reply.status);
        }
        world.leave("ann").await.expect_status(503);
        world.nats.resume().await;
        for lobby in &mut world.lobbies {
            lobby.wait_ready(SOON).await;
        }
        world.door.wait_ready(SOON).await;
        eventually("all is as it was", SOON, async || {
            match world.get(&format!("/api/game_sessions/{id}/clients")).await {
                reply if reply.status == 200 && reply.json()["clients"][0]["client_id"] == "ann" => Ok(()),
                reply => Err(reply.text()),
            }
        })
        .await;
        assert_eq!(world.get("/health").await.json(), json!({ "status": "healthy" }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lobby_waits_for_its_server_and_makes_what_is_its_own() {
    within(MINUTE * 2, async {
        let mut nats = Nats::reserve(NatsOptions::default());
        let mut lobby = Lobby::new(&nats).spawn();
        lobby.wait_not_ready(SOON).await;
        nats.resume().await;
        lobby.wait_ready(SOON).await;
        let bucket = nats.jetstream().await.get_key_value("LOBBY_SESSION").await.expect("its bucket");
        assert_eq!(bucket.status().await.expect("a status").values(), 0);
        let stream = nats.jetstream().await.get_stream("LOBBY").await.expect("its stream");
        assert_eq!(stream.cached_info().config.subjects, ["lobby.>"]);
        assert_eq!(stream.cached_info().config.max_age, Duration::from_secs(7 * 86_400));
    })
    .await;
}
