//! What that page does with its buttons.

use std::collections::BTreeSet;

use herald_testkit::{Service, http};
use hyper::Method;
use serde_json::{Value, json};

/// The page, opened at a door.
pub(crate) struct Page(pub(crate) Service);

impl Page {
    async fn send(&self, method: Method, path: &str, body: &str) -> http::Reply {
        let headers: &[_] = if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        http::send(method, &self.0.http(path), headers, body.to_owned()).await.expect_status(200)
    }

    /// What the browser gets.
    pub(crate) async fn document(&self) -> String {
        let page = self.send(Method::GET, "/", "").await;
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        page.text()
    }

    /// On load, and by its button: the sessions, and then the clients of each, one call for each.
    pub(crate) async fn list(&self) -> Vec<(Value, Vec<Value>)> {
        let list = self.send(Method::GET, "/api/game_sessions", "").await.json();
        let mut listed = Vec::new();
        for session in list["sessions"].as_array().unwrap() {
            let path = format!("/api/game_sessions/{}/clients", session["id"].as_str().unwrap());
            let clients = self.send(Method::GET, &path, "").await.json();
            listed.push((session.clone(), clients["clients"].as_array().unwrap().clone()));
        }
        listed
    }

    /// The labyrinth of the two fields.
    pub(crate) async fn generate(&self, size: &str, seed: &str) -> Value {
        self.send(Method::POST, "/generate-labyrinth", &fields(size, seed)).await.json()
    }

    /// A session of the two fields.
    pub(crate) async fn create(&self, size: &str, seed: &str) -> Value {
        self.send(Method::POST, "/api/game_sessions/create", &fields(size, seed)).await.json()
    }

    /// Draws a labyrinth as it does: looks each place up by its x and y, and has the picture fetched.
    pub(crate) async fn draw(&self, labyrinth: &Value) {
        let tiles = labyrinth["tiles"].as_array().unwrap();
        let size = (1..=10).find(|size| size * size == tiles.len()).unwrap();
        let mut pictures = BTreeSet::new();
        for (x, y) in (0..size).flat_map(|y| (0..size).map(move |x| (x, y))) {
            let tile = tiles.iter().find(|tile| tile["x"] == x && tile["y"] == y).unwrap();
            assert!(tile["open_directions"].is_array(), "{tile}");
            pictures.insert(tile["image"].as_str().unwrap());
        }
        for picture in pictures {
            let tile = self.send(Method::GET, &format!("/tiles/{picture}"), "").await;
            assert_eq!(tile.header("content-type"), "image/png", "{picture}");
        }
    }

    /// Not the page's own: a player of it.
    pub(crate) async fn join(&self, sid: &str, client: &str) {
        let path = format!("/api/game_sessions/{sid}/join");
        let joined = self.send(Method::POST, &path, &json!({ "client_id": client }).to_string()).await.json();
        assert_eq!(joined["message"], "Connected successfully");
    }
}

/// The two fields as the page writes them: the size is a text, and an empty seed is none.
fn fields(size: &str, seed: &str) -> String {
    if seed.is_empty() {
        json!({ "size": size }).to_string()
    } else {
        json!({ "size": size, "seed": seed }).to_string()
    }
}
