//! What requests may bring, and what they are answered where they bring something else.

use herald_testkit::{http, within, ws};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::{MINUTE, World, detail, status};

const SIZE: &str = "Size must be between 4 and 10";

async fn send(world: &World, path: &str, body: &str) -> (u16, Value) {
    let reply =
        http::send(Method::POST, &world.door.http(path), &[("content-type", "application/json")], body.to_owned())
            .await;
    (reply.status, reply.json())
}

/// A 422 that is a list with type, loc, msg and input; its places.
fn places(answer: &Value) -> Vec<String> {
    let faults = answer["detail"].as_array().unwrap_or_else(|| panic!("no list: {answer}"));
    let place = |fault: &Value| {
        assert!(fault["type"].is_string() && fault["msg"].is_string() && fault.get("input").is_some(), "{fault}");
        fault["loc"].to_string()
    };
    faults.iter().map(place).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_is_taken_as_the_page_sends_it_wherever_there_is_one() {
    within(MINUTE, async {
        let world = World::start().await;
        for path in ["/generate-labyrinth", "/create-game-session", "/api/game_sessions/create"] {
            for size in ["7", "7.0", r#""7""#, r#"" 7 ""#, r#""07""#, r#""7.0""#, r#""+7""#] {
                let (status, answer) = send(&world, path, &format!(r#"{{"size":{size}}}"#)).await;
                assert_eq!(status, 200, "{path} {size}: {answer}");
                assert!(answer["tiles"].as_array().map_or(answer["size"] == 7, |tiles| tiles.len() == 49), "{answer}");
            }
            for size in ["3", "11", "-1", "1000000000000000000000000000000", r#""11""#, "1e400"] {
                let answer = send(&world, path, &format!(r#"{{"size":{size}}}"#)).await;
                assert_eq!(answer, (400, json!({ "detail": SIZE })), "{path} {size}");
            }
            for size in [r#""""#, r#""x""#, "7.5", "null", "true", "[]"] {
                let (status, answer) = send(&world, path, &format!(r#"{{"size":{size}}}"#)).await;
                assert_eq!((status, places(&answer)), (422, vec![r#"["body","size"]"#.to_owned()]), "{path} {size}");
            }
            for (seed, expected) in [
                ("5".to_owned(), 422),
                (json!("x".repeat(101)).to_string(), 400),
                (r#""a\u0000""#.to_owned(), 400),
                (r#""<b>""#.to_owned(), 400),
                (json!("é".repeat(100)).to_string(), 200),
                ("null".to_owned(), 200),
                (r#""""#.to_owned(), 200),
            ] {
                let (status, answer) = send(&world, path, &format!(r#"{{"size":4,"seed":{seed}}}"#)).await;
                assert_eq!(status, expected, "{path} {seed}: {answer}");
            }
            for body in ["", "{", "[]", "{}", r#"{"seed":"a"}"#] {
                let (status, answer) = send(&world, path, body).await;
                assert_eq!(status, 422, "{path} {body}");
                assert!(!places(&answer).is_empty());
            }
            let (status, answer) =
                send(&world, path, &json!({ "size": 4, "more": "x".repeat(17 << 10) }).to_string()).await;
            assert_eq!((status, answer), (413, json!({ "detail": "Body too large" })), "{path}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_be_called_anything_and_works_everywhere() {
    within(MINUTE, async {
        let world = World::start().await;
        let id = world.create().await;
        let names = ["a.b.*", "$KV", "x y/z", "🦀", "%2F", "lobby.*", "\u{2028}", &"é".repeat(255)];
        for name in names {
            assert_eq!(
                world.join(&id, name).await.expect_status(200).json()["message"],
                "Connected successfully",
                "{name}"
            );
            world.ready(&id, name, true).await.expect_status(200);
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let state =
                world.get(&format!("/api/game_sessions/client_state/{encoded}")).await.expect_status(200).json();
            assert_eq!((&state["client_id"], &state["connected_session"]), (&json!(name), &json!(id)));
        }
        assert_eq!(world.clients(&id).await, names);
        assert_eq!(world.status(&id).await, status(&names.map(|name| (name, true))));
        for name in names {
            world.leave(name).await.expect_status(200);
        }
        assert!(world.clients(&id).await.is_empty());

        for (name, expected, text) in [
            (json!(""), 400, "client_id must be 1 to 255 characters"),
            (json!("x".repeat(256)), 400, "client_id must be 1 to 255 characters"),
            (json!("<img onerror=x>"), 400, "client_id contains forbidden characters"),
            (json!("a\0b"), 400, "client_id contains forbidden characters"),
            (json!(5), 422, ""),
            (json!(null), 422, ""),
        ] {
            for path in [format!("/api/game_sessions/{id}/join"), "/api/game_sessions/leave".to_owned()] {
                let reply = world.post(&path, &json!({ "client_id": name })).await.expect_status(expected);
                assert_eq!(detail(&reply), text);
            }
            let body = json!({ "client_id": name, "ready": true });
            let reply = world.post(&format!("/api/game_sessions/{id}/toggle_readiness"), &body).await;
            assert_eq!(detail(&reply.expect_status(expected)), text);
        }
        assert!(world.clients(&id).await.is_empty());
        let all = world.get("/api/game_sessions").await.text();
        assert!(!all.contains('<'), "nothing that was refused comes out again: {all}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_and_leaves_no_trace() {
    within(MINUTE, async {
        let world = World::start().await;
        let id = world.create().await;
        let unknown = uuid::Uuid::new_v4().to_string();
        for path in ["join", "toggle_readiness"] {
            let body = json!({ "client_id": "ann", "ready": true });
            let reply = world.post(&format!("/api/game_sessions/{unknown}/{path}"), &body).await;
            assert_eq!(detail(&reply.expect_status(404)), "Session not found");
            let reply = world.post(&format!("/api/game_sessions/zzz/{path}"), &body).await.expect_status(422);
            assert_eq!(places(&reply.json()), [r#"["path","session_id"]"#]);
        }
        for path in ["clients", "labyrinth"] {
            let reply = world.get(&format!("/api/game_sessions/{unknown}/{path}")).await;
            assert_eq!(detail(&reply.expect_status(404)), "Session not found");
            world.get(&format!("/api/game_sessions/zzz/{path}")).await.expect_status(422);
        }
        for nonsense in [unknown.as_str(), "zzz", "a.b", "%20", "*", "%3E"] {
            assert_eq!(world.status(nonsense).await, status(&[]), "{nonsense}");
            let refused = ws::Client::open(&world.door.ws(&format!("/ws/{nonsense}")), ws::Options::default()).await;
            let Err(ws::Refused::Status { status, body }) = refused else { panic!("/ws/{nonsense} was opened") };
            assert_eq!(status, 404, "{nonsense}: {body}");
        }
        let reply = world.ready(&id, "ann", true).await.expect_status(404);
        assert_eq!(detail(&reply), "Client not connected to this session");
        assert_eq!(world.status(&id).await, status(&[]));
        let reply = world
            .post(
                &format!("/api/game_sessions/{id}/toggle_readiness"),
                &json!({ "client_id": "ann", "ready": "maybe" }),
            )
            .await;
        assert_eq!(places(&reply.expect_status(422).json()), [r#"["body","ready"]"#]);
        assert_eq!(detail(&world.leave("ann").await.expect_status(404)), "Client not connected to any session");
        assert_eq!(world.session_of("ann").await, None);
        assert_eq!(world.get("/game-sessions").await.json().as_array().unwrap().len(), 1);
    })
    .await;
}
