//! A nats-server, three lobbies, and a door in front of them.

use std::time::Duration;

use herald_testkit::{
    Lobby, Nats, Service,
    http::{self, Reply},
    ws,
};
use hyper::Method;
use serde_json::{Value, json};

/// How long a test may take.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// How long anything may take that is to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// What is said of a session without members, or of none.
pub(crate) const EMPTY: &str = r#"{"players":[],"all_ready":false}"#;

/// All of it.
pub(crate) struct World {
    pub(crate) nats: Nats,
    pub(crate) lobbies: Vec<Service>,
    pub(crate) door: Service,
}

impl World {
    /// Three instances as they come.
    pub(crate) async fn start() -> Self {
        Self::told(|lobby| lobby).await
    }

    /// Three instances, each told so.
    pub(crate) async fn told(told: impl Fn(Lobby) -> Lobby) -> Self {
        let nats = Nats::start().await;
        let mut lobbies: Vec<_> = (0..3).map(|_| told(Lobby::new(&nats)).spawn()).collect();
        for lobby in &mut lobbies {
            lobby.wait_ready(SOON).await;
        }
        let door = Lobby::door(&nats.url()).fixed_port().start().await;
        Self { nats, lobbies, door }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.door.get(path).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        post(&self.door, path, body).await
    }

    /// A new session of that size; its id.
    pub(crate) async fn create(&self) -> String {
        let reply = self.post("/api/game_sessions/create", &json!({ "size": 4 })).await.expect_status(200);
        reply.json()["session_id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn join(&self, session: &str, client: &str) -> Reply {
        join(&self.door, session, client).await
    }

    pub(crate) async fn leave(&self, client: &str) -> Reply {
        self.post("/api/game_sessions/leave", &json!({ "client_id": client })).await
    }

    pub(crate) async fn ready(&self, session: &str, client: &str, ready: bool) -> Reply {
        self.post(
            &format!("/api/game_sessions/{session}/toggle_readiness"),
            &json!({ "client_id": client, "ready": ready }),
        )
        .await
    }

    pub(crate) async fn status(&self, session: &str) -> Value {
        self.get(&format!("/api/game_sessions/{session}/status")).await.expect_status(200).json()
    }

    /// The ids of the clients in a session, in their order.
    pub(crate) async fn clients(&self, session: &str) -> Vec<String> {
        let reply = self.get(&format!("/api/game_sessions/{session}/clients")).await.expect_status(200).json();
        let clients = reply["clients"].as_array().expect("clients").iter();
        clients.map(|client| client["client_id"].as_str().expect("an id").to_owned()).collect()
    }

    /// The session a client is in.
    pub(crate) async fn session_of(&self, client: &str) -> Option<String> {
        let reply = self.get(&format!("/api/game_sessions/client_state/{client}")).await.expect_status(200).json();
        assert_eq!(reply["connected_session"].is_null(), reply["session_details"].is_null(), "{reply}");
        reply["connected_session"].as_str().map(str::to_owned)
    }

    pub(crate) async fn destroy_all(&self) {
        let reply = http::send(Method::DELETE, &self.door.http("/destroy-all-sessions"), &[], "").await;
        assert_eq!(reply.expect_status(200).json(), json!({ "detail": "All game sessions deleted" }));
    }

    /// Watches a session.
    pub(crate) async fn watch(&self, session: &str) -> ws::Client {
        ws::Client::connect(&self.door.ws(&format!("/ws/{session}")), ws::PLAIN).await
    }
}

/// Ends a service by plan and starts it again.
pub(crate) async fn restart(service: &mut Service) {
    assert!(service.stop().await.success());
    service.relaunch();
    service.wait_ready(SOON).await;
}

/// `POST` of JSON at a door.
pub(crate) async fn post(door: &Service, path: &str, body: &Value) -> Reply {
    http::post_json(&door.http(path), body).await
}

/// A join at a door.
pub(crate) async fn join(door: &Service, session: &str, client: &str) -> Reply {
    post(door, &format!("/api/game_sessions/{session}/join"), &json!({ "client_id": client })).await
}

/// What a viewer was shown.
pub(crate) fn shown(viewer: &ws::Client) -> Vec<Value> {
    viewer.frames().into_iter().map(|frame| frame.json).collect()
}

/// Waits until a viewer was shown so many statuses; all of them.
pub(crate) async fn wait_shown(viewer: &ws::Client, count: usize) -> Vec<Value> {
    herald_testkit::eventually("statuses", SOON, async || match shown(viewer) {
        shown if shown.len() >= count => Ok(shown),
        shown => Err(shown),
    })
    .await
}

/// A status of these players.
pub(crate) fn status(players: &[(&str, bool)]) -> Value {
    let all_ready = !players.is_empty() && players.iter().all(|(_, ready)| *ready);
    let players: Vec<_> = players.iter().map(|(id, ready)| json!({ "client_id": id, "ready": ready })).collect();
    json!({ "players": players, "all_ready": all_ready })
}

/// What a refusal says.
pub(crate) fn detail(reply: &Reply) -> String {
    reply.json()["detail"].as_str().unwrap_or_default().to_owned()
}
