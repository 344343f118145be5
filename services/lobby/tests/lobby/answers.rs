//! The answers of every request, key by key, as clients of the original know them.

use herald_testkit::{http, within};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::{MINUTE, World, detail, status};

/// The keys of an object, in their order.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn is_uuid(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 36 && uuid::Uuid::parse_str(text).is_ok())
}

fn is_time(value: &Value) -> bool {
    // 2026-11-22T12:00:00.000000Z
    value.as_str().is_some_and(|text| text.len() == 27 && text.ends_with('Z') && text.as_bytes()[19] == b'.')
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_made_listed_and_looked_at_in_both_forms() {
    within(MINUTE, async {
        let world = World::start().await;
        assert_eq!(world.get("/api/game_sessions").await.expect_status(200).json(), json!({ "sessions": [] }));
        assert_eq!(world.get("/game-sessions").await.expect_status(200).json(), json!([]));

        let made = world.post("/api/game_sessions/create", &json!({ "size": "7", "seed": "epsilon" })).await;
        let made = made.expect_status(200).json();
        let expected = ["labyrinth_id", "message", "seed", "session_id", "size", "start_x", "start_y"];
        assert_eq!(keys(&made), expected);
        assert_eq!(made["message"], "Game session created successfully");
        assert_eq!((&made["seed"], &made["size"]), (&json!("epsilon"), &json!(7)), "the seed is honoured");
        assert_eq!((&made["start_x"], &made["start_y"]), (&json!(6), &json!(5)));
        assert!(is_uuid(&made["session_id"]) && is_uuid(&made["labyrinth_id"]), "{made}");

        let legacy =
            world.post("/create-game-session", &json!({ "size": 4, "seed": "abc" })).await.expect_status(200).json();
        let expected = ["created_at", "id", "labyrinth_id", "seed", "size", "start_x", "start_y"];
        assert_eq!(keys(&legacy), expected);
        assert!(is_uuid(&legacy["id"]) && is_time(&legacy["created_at"]), "{legacy}");
        assert_eq!((&legacy["start_x"], &legacy["start_y"], &legacy["seed"]), (&json!(2), &json!(0), &json!("abc")));

        // Whichever instance is asked: what was answered is listed, the oldest first.
        for _ in 0..6 {
            let listed = world.get("/api/game_sessions").await.expect_status(200).json();
            let sessions = listed["sessions"].as_array().unwrap();
            assert_eq!(sessions.iter().map(|it| &it["id"]).collect::<Vec<_>>(), [&made["session_id"], &legacy["id"]]);
            assert_eq!(sessions[1], legacy);
            assert_eq!(world.get("/game-sessions").await.expect_status(200).json(), listed["sessions"]);
        }

        let id = made["session_id"].as_str().unwrap();
        let map = world.get(&format!("/api/game_sessions/{id}/labyrinth")).await.expect_status(200).json();
        assert_eq!(keys(&map), ["seed", "start_x", "start_y", "tiles"]);
        assert_eq!(keys(&map["tiles"][0]), ["image", "open_directions", "type", "x", "y"]);
        let pure =
            world.post("/generate-labyrinth", &json!({ "size": "7", "seed": "epsilon" })).await.expect_status(200);
        assert_eq!(pure.json(), map);
        let random =
            |_| async { world.post("/generate-labyrinth", &json!({ "size": "7" })).await.expect_status(200).json() };
        let (one, two) = (random(1).await, random(2).await);
        assert_ne!(one["seed"], two["seed"], "without a seed there is a new one each time");
        assert_eq!(one["tiles"].as_array().unwrap().len(), 49);
        let listed = world.get("/game-sessions").await.json();
        assert_eq!(listed.as_array().unwrap().len(), 2, "a labyrinth by itself is stored nowhere");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_joins_is_ready_and_leaves() {
    within(MINUTE, async {
        let world = World::start().await;
        let (id, other) = (world.create().await, world.create().await);
        let joined = world.join(&id, "ann").await.expect_status(200).json();
        let expected = ["labyrinth_id", "map_seed", "message", "session_id", "size", "start_x", "start_y"];
        assert_eq!(keys(&joined), expected);
        assert_eq!((&joined["message"], &joined["session_id"]), (&json!("Connected successfully"), &json!(id)));
        // Again, there and elsewhere, from whichever instance.
        for session in [&id, &other, &id, &other] {
            let again = world.join(session, "ann").await.expect_status(200).json();
            assert_eq!(again, json!({ "message": "Client already connected" }));
        }
        // In any case, and without dashes.
        world.join(&id.to_uppercase().replace('-', ""), "bob").await.expect_status(200);
        let clients = world.get(&format!("/api/game_sessions/{id}/clients")).await.expect_status(200).json();
        assert_eq!(keys(&clients["clients"][0]), ["client_id", "connected_at"]);
        assert!(is_time(&clients["clients"][0]["connected_at"]), "{clients}");
        assert_eq!(world.clients(&id).await, ["ann", "bob"]);
        assert!(world.clients(&other).await.is_empty());

        let state = world.get("/api/game_sessions/client_state/ann").await.expect_status(200).json();
        assert_eq!(keys(&state), ["client_id", "connected_session", "session_details"]);
        assert_eq!(state["connected_session"], *id);
        let expected = ["labyrinth_id", "seed", "session_id", "size", "start_x", "start_y"];
        assert_eq!(keys(&state["session_details"]), expected);
        let nobody = world.get("/api/game_sessions/client_state/no%2Fbody").await.expect_status(200).json();
        let expected = json!({ "client_id": "no/body", "connected_session": null, "session_details": null });
        assert_eq!(nobody, expected);

        let said = world.ready(&id, "ann", true).await.expect_status(200).json();
        assert_eq!(said, status(&[("ann", true), ("bob", false)]));
        let set = world.ready(&id, "ann", true).await.expect_status(200).json();
        assert_eq!(set, said, "it is set, not flipped");
        assert_eq!(world.status(&id).await, said);
        assert_eq!(
            world.leave("bob").await.expect_status(200).json(),
            json!({ "message": "Disconnected successfully" })
        );
        assert_eq!(world.status(&id).await, status(&[("ann", true)]), "the last unready one has left");
        let again = world.leave("bob").await.expect_status(404);
        assert_eq!(again.json(), json!({ "detail": "Client not connected to any session" }));
        world.join(&id, "bob").await.expect_status(200);
        world.leave("ann").await.expect_status(200);
        world.join(&id, "ann").await.expect_status(200);
        assert_eq!(world.status(&id).await, status(&[("bob", false), ("ann", false)]), "last in order, not ready");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_are_destroyed_at_once_by_whom_it_is_allowed() {
    within(MINUTE, async {
        let world = World::told(|lobby| lobby.env("LOBBY_ADMIN_TOKEN", "secret")).await;
        let id = world.create().await;
        world.join(&id, "ann").await.expect_status(200);
        let destroy = async |headers: &[(&str, &str)]| {
            http::send(Method::DELETE, &world.door.http("/destroy-all-sessions"), headers, "").await
        };
        destroy(&[]).await.expect_status(401);
        destroy(&[("authorization", "Bearer secre")]).await.expect_status(401);
        assert_eq!(world.clients(&id).await, ["ann"]);
        destroy(&[("authorization", "Bearer secret")]).await.expect_status(200);
        for _ in 0..6 {
            assert_eq!(world.get("/game-sessions").await.json(), json!([]));
            assert_eq!(world.session_of("ann").await, None);
            assert_eq!(detail(&world.join(&id, "ann").await.expect_status(404)), "Session not found");
            assert_eq!(world.status(&id).await, status(&[]));
        }
        let id = world.create().await;
        world.join(&id, "ann").await.expect_status(200);
        assert_eq!(world.session_of("ann").await, Some(id));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_says_how_the_lobby_is_and_serves_what_is_there_and_nothing_else() {
    within(MINUTE, async {
        let world = World::start().await;
        assert_eq!(world.get("/health").await.expect_status(200).json(), json!({ "status": "healthy" }));
        for path in
            ["/nothing", "/api/nothing", "/tiles/none.png", "/tiles/", "/tiles/../index.html", "/api/reference/none"]
        {
            let reply = world.get(path).await.expect_status(404);
            assert_eq!(reply.json(), json!({ "detail": "Not Found" }), "{path}");
        }
        let tile = world.get("/tiles/tile_crossroad.png").await.expect_status(200);
        assert_eq!(tile.header("content-type"), "image/png");
        assert!(!tile.header("etag").is_empty());
        for table in ["entities", "equipment", "skills", "specials"] {
            let reply = world.get(&format!("/api/reference/{table}")).await.expect_status(200).json();
            assert_eq!(reply, json!({ table: [] }), "no folder, no rows");
        }
        for (method, path) in [
            (Method::GET, "/generate-labyrinth"),
            (Method::POST, "/game-sessions"),
            (Method::DELETE, "/api/game_sessions"),
        ] {
            let reply = http::send(method, &world.door.http(path), &[], "").await;
            assert_eq!(reply.expect_status(405).json(), json!({ "detail": "Method Not Allowed" }), "{path}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_data_is_what_the_folder_holds() {
    within(MINUTE, async {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
        let world = World::told(|lobby| lobby.env("LOBBY_REFERENCE_DIR", folder)).await;
        let reply = world.get("/api/reference/entities").await.expect_status(200).json();
        let rows = reply["entities"].as_array().unwrap();
        assert!(!rows.is_empty());
        let expected = ["age", "backstory_path", "id", "name", "portrait_path", "role", "type"];
        assert_eq!(keys(&rows[0]), expected);
        world.get("/api/reference/players").await.expect_status(404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_sessions_and_players_than_there_may_be() {
    within(MINUTE, async {
        let told = |lobby: herald_testkit::Lobby| lobby.env("LOBBY_MAX_SESSIONS", "2").env("LOBBY_MAX_PLAYERS", "2");
        let world = World::told(told).await;
        let (id, other) = (world.create().await, world.create().await);
        let refused = world.post("/api/game_sessions/create", &json!({ "size": 4 })).await.expect_status(429);
        assert_eq!(detail(&refused), "Too many sessions");
        for client in ["a", "b"] {
            world.join(&id, client).await.expect_status(200);
        }
        assert_eq!(detail(&world.join(&id, "c").await.expect_status(409)), "Session is full");
        assert_eq!(world.session_of("c").await, None);
        assert_eq!(
            world.join(&id, "a").await.expect_status(200).json(),
            json!({ "message": "Client already connected" })
        );
        world.join(&other, "c").await.expect_status(200);
        world.leave("a").await.expect_status(200);
        world.join(&id, "d").await.expect_status(200);
        world.destroy_all().await;
        world.create().await;
    })
    .await;
}
