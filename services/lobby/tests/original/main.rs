//! The page of the original lobby, as its server sees it: exactly its calls, in its order and its way of writing them. Its sizes are
//! texts, straight from an input field, and an empty seed is no seed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod page;

use std::{collections::BTreeSet, time::Duration};

use herald_testkit::{Lobby, Nats, within};
use serde_json::Value;

use crate::page::Page;

const MINUTE: Duration = Duration::from_secs(60);

/// Names of an object's members.
fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_original_gets_what_it_asks_for() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _lobbies =
            [Lobby::new(&nats).start().await, Lobby::new(&nats).start().await, Lobby::new(&nats).start().await];
        let edge = Lobby::door(&nats.url()).start().await;
        let page = Page(edge);

        assert!(page.document().await.contains("<html"));
        assert_eq!(page.list().await, Vec::<(Value, Vec<Value>)>::new(), "nothing yet");

        // A random map: the seed field is empty.
        let random = page.generate("7", "").await;
        assert_eq!(keys(&random), ["seed", "start_x", "start_y", "tiles"].into());
        let seed = random["seed"].as_str().unwrap();
        assert!(seed.len() == 32 && seed.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{seed}");
        assert_ne!(random["seed"], page.generate("7", "").await["seed"], "another one each time");
        // From a seed, twice the same; and the seed that was made says the same again.
        let named = page.generate("10", "epsilon").await;
        assert_eq!((&named["seed"], &named), (&"epsilon".into(), &page.generate("10", "epsilon").await));
        assert_eq!(random, page.generate("7", seed).await);
        for labyrinth in [&random, &named] {
            page.draw(labyrinth).await;
        }

        // Sessions, of which the list tells the same, oldest first.
        let mut created = Vec::new();
        for (size, seed) in [("7", ""), ("10", "epsilon"), ("4", "abc")] {
            let session = page.create(size, seed).await;
            let expected = ["message", "session_id", "seed", "labyrinth_id", "size", "start_x", "start_y"];
            assert_eq!(keys(&session), expected.into());
            assert_eq!(session["message"], "Game session created successfully");
            assert_eq!(session["size"], size.parse::<u8>().unwrap(), "a number, whatever it was");
            assert!(seed.is_empty() || session["seed"] == seed, "{session}");
            created.push(session);
        }
        let listed = page.list().await;
        let same = |(session, clients): &(Value, Vec<Value>), created: &Value| {
            let of_both = ["seed", "size", "labyrinth_id", "start_x", "start_y"];
            keys(session) == of_both.into_iter().chain(["id", "created_at"]).collect()
                && session["id"] == created["session_id"]
                && of_both.iter().all(|name| session[name] == created[name])
                && clients.is_empty()
        };
        assert!(listed.len() == 3 && listed.iter().zip(&created).all(|(one, other)| same(one, other)), "{listed:?}");
        // The map of a session is the one that is generated with its seed.
        let again = page.generate("7", created[0]["seed"].as_str().unwrap()).await;
        assert_eq!((&again["start_x"], &again["start_y"]), (&created[0]["start_x"], &created[0]["start_y"]));
        page.draw(&again).await;

        // Its players come by another client; it shows them, in the order in which they came.
        let sid = created[2]["session_id"].as_str().unwrap();
        for client in ["zoe", "adam", "né / %2F 🙂"] {
            page.join(sid, client).await;
        }
        let listed = page.list().await;
        let clients: Vec<_> = listed[2].1.iter().map(|client| client["client_id"].as_str().unwrap()).collect();
        assert_eq!(clients, ["zoe", "adam", "né / %2F 🙂"]);
        assert!(listed[2].1.iter().all(|client| keys(client) == ["client_id", "connected_at"].into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_fifteen_tiles_are_pictures_at_the_door() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _lobby = Lobby::new(&nats).start().await;
        let edge = Lobby::door(&nats.url()).start().await;
        for name in lobby::tiles::names() {
            let tile = edge.get(&format!("/tiles/{name}")).await.expect_status(200);
            assert_eq!((tile.header("content-type"), tile.header("etag").is_empty()), ("image/png", false), "{name}");
            assert!(tile.body.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
        }
        for none in ["/tiles/none.png", "/tiles/", "/tiles", "/tiles/tile_turn_EN.png", "/favicon.ico", "/nothing"] {
            let reply = edge.get(none).await.expect_status(404);
            assert_eq!(reply.json(), serde_json::json!({ "detail": "Not Found" }), "{none}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_a_path_that_is_no_text_is_nobody_s() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _lobby = Lobby::new(&nats).start().await;
        let edge = Lobby::door(&nats.url()).start().await;
        for name in ["%FF", "%C3", "%ED%A0%80"] {
            let get = async |path: String| edge.get(&format!("/api/game_sessions/{path}")).await;
            let nobody = serde_json::json!({ "client_id": "", "connected_session": null, "session_details": null });
            assert_eq!(get(format!("client_state/{name}")).await.expect_status(200).json(), nobody, "{name}");
            let empty = serde_json::json!({ "players": [], "all_ready": false });
            assert_eq!(get(format!("{name}/status")).await.expect_status(200).json(), empty, "{name}");
            let fault = get(format!("{name}/clients")).await.expect_status(422).json();
            assert_eq!(fault["detail"][0]["loc"], serde_json::json!(["path", "session_id"]), "{name}");
        }
    })
    .await;
}
