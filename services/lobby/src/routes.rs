//! The HTTP interface, served over `http.lobby`. Thin: what is asked, what the lobby says, in the shapes that clients know.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, Path, State, rejection::BytesRejection},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use herald_protocol::SessionId;
use herald_runtime::http_over_nats::Deadline;
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use crate::{
    config::Config,
    input::{self, Form},
    lobby::Lobby,
    maze::{self, Tile},
    members::Joined,
    record::{Session, Status},
    reference::Reference,
    refusal::Refusal,
};

/// How long before whoever asks gives up the answer leaves.
const BEFORE_THE_END: Duration = Duration::from_millis(300);

/// Everybody who can do something.
pub(crate) struct Api {
    pub(crate) config: Config,
    pub(crate) lobby: Lobby,
    pub(crate) reference: Reference,
    /// Has what an old era has left swept at once.
    pub(crate) sweep: Arc<Notify>,
}

type Answer = Result<Response, Refusal>;

/// The Router of all of it.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let largest = api.config.http.max_body.as_usize();
    Router::new()
        .route("/game-sessions", get(list_legacy))
        .route("/create-game-session", post(create_legacy))
        .route("/generate-labyrinth", post(generate))
        .route("/destroy-all-sessions", delete(destroy_all))
        .route("/api/game_sessions", get(list))
        .route("/api/game_sessions/create", post(create))
        .route("/api/game_sessions/leave", post(leave))
        .route("/api/game_sessions/client_state/{client_id}", get(client_state))
        .route("/api/game_sessions/{sid}/join", post(join))
        .route("/api/game_sessions/{sid}/clients", get(clients))
        .route("/api/game_sessions/{sid}/toggle_readiness", post(ready))
        .route("/api/game_sessions/{sid}/status", get(status))
        .route("/api/game_sessions/{sid}/labyrinth", get(labyrinth))
        .route("/api/reference/{table}", get(reference))
        .route("/health", get(health))
        .fallback(async || not_found())
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Method Not Allowed")
        })
        .layer(DefaultBodyLimit::max(largest))
        .layer(axum::middleware::map_response(never_stored))
        .with_state(api)
}

/// An answer is about now.
async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const fn not_found() -> Refusal {
    Refusal::not_found("Not Found")
}

/// The body of a request, as far as there is not too much of it.
type Body = Result<Bytes, BytesRejection>;

fn form(body: Body) -> Result<Form, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Body too large"),
        _ => Refusal::bad("The body could not be read"),
    })?;
    Ok(Form::of(&body))
}

/// Until when a change may be tried.
struct Until(Option<Instant>);

impl<S: Send + Sync> FromRequestParts<S> for Until {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get().and_then(|&Deadline(at)| at.checked_sub(BEFORE_THE_END))))
    }
}

impl Until {
    fn within(self, config: &Config) -> Instant {
        let wait = Instant::now() + config.commit.wait.get();
        self.0.map_or(wait, |end| end.min(wait))
    }
}

/// What the path names. What is not UTF-8 is no text, and nothing is called so: it is as if there were none.
struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let name = Path::from_request_parts(parts, state).await;
        Ok(Self(name.map_or_else(|_| String::new(), |Path(name)| name)))
    }
}

/// A session as lists show it, and the legacy create.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a SessionId,
    seed: &'a str,
    size: u8,
    labyrinth_id: &'a str,
    start_x: u8,
    start_y: u8,
    created_at: &'a str,
}

impl<'a> From<&'a Session> for Listed<'a> {
    fn from(session: &'a Session) -> Self {
        let Session { id, seed, size, labyrinth_id, start_x, start_y, created_at, .. } = session;
        Self { id, seed, size: *size, labyrinth_id, start_x: *start_x, start_y: *start_y, created_at }
    }
}

async fn list_legacy(State(api): State<Arc<Api>>) -> Answer {
    let sessions = api.lobby.list().await?;
    Ok(Json(sessions.iter().map(|session| Listed::from(&**session)).collect::<Vec<_>>()).into_response())
}

async fn list(State(api): State<Arc<Api>>) -> Answer {
    #[derive(Serialize)]
    struct All<'a> {
        sessions: Vec<Listed<'a>>,
    }
    let sessions = api.lobby.list().await?;
    Ok(Json(All { sessions: sessions.iter().map(|session| Listed::from(&**session)).collect() }).into_response())
}

/// What a new session is to be like.
fn wanted(body: Body) -> Result<(u8, String), Refusal> {
    let mut form = form(body)?;
    let (size, seed) = (form.size(), form.seed());
    form.finish()?;
    Ok((size.check()?, seed.check()?))
}

async fn create_legacy(State(api): State<Arc<Api>>, body: Body) -> Answer {
    let (size, seed) = wanted(body)?;
    let session = api.lobby.create(size, &seed).await?;
    Ok(Json(Listed::from(&session)).into_response())
}

async fn create(State(api): State<Arc<Api>>, body: Body) -> Answer {
    let (size, seed) = wanted(body)?;
    let Session { id, seed, size, labyrinth_id, start_x, start_y, .. } = api.lobby.create(size, &seed).await?;
    let answer = json!({
        "message": "Game session created successfully", "session_id": id, "seed": seed, "labyrinth_id": labyrinth_id,
        "size": size, "start_x": start_x, "start_y": start_y,
    });
    Ok(Json(answer).into_response())
}

/// A labyrinth, as clients see it.
#[derive(Serialize)]
struct Labyrinth<'a> {
    seed: &'a str,
    start_x: u8,
    start_y: u8,
    tiles: Vec<Tile>,
}

impl<'a> Labyrinth<'a> {
    fn of(size: u8, seed: &'a str, (start_x, start_y): (u8, u8), map: &str) -> Result<Self, Refusal> {
        let tiles = maze::tiles(size, map).ok_or_else(|| {
            tracing::error!(size, map, "the map of a session is none");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "map", "Internal Server Error")
        })?;
        Ok(Self { seed, start_x, start_y, tiles })
    }
}

async fn generate(body: Body) -> Answer {
    let (size, seed) = wanted(body)?;
    let maze = maze::dfs1(size, &seed);
    Ok(Json(Labyrinth::of(size, &seed, (maze.start_x, maze.start_y), &maze.map)?).into_response())
}

async fn labyrinth(State(api): State<Arc<Api>>, Named(id): Named) -> Answer {
    let session = existing(&api, &id).await?;
    let Session { size, seed, start_x, start_y, map, .. } = &session;
    Ok(Json(Labyrinth::of(*size, seed, (*start_x, *start_y), map)?).into_response())
}

async fn existing(api: &Api, id: &str) -> Result<Session, Refusal> {
    let session = api.lobby.session(&input::session(id)?).await?;
    session.ok_or(Refusal::not_found("Session not found"))
}

async fn destroy_all(State(api): State<Arc<Api>>, headers: HeaderMap) -> Answer {
    let token = api.config.admin_token.expose();
    if !token.is_empty() && !bears(&headers, token) {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "token", "Not authenticated"));
    }
    let era = api.lobby.era.next().await?;
    tracing::info!(era, "all sessions destroyed");
    api.sweep.notify_one();
    Ok(Json(json!({ "detail": "All game sessions deleted" })).into_response())
}

/// Whether a request brings that token. Both are hashed first, so that the time it takes says nothing of the token.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, given) = given.split_once(' ').unwrap_or_default();
    let hash = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    scheme.eq_ignore_ascii_case("bearer") && hash(given.trim()).as_ref() == hash(token).as_ref()
}

async fn join(State(api): State<Arc<Api>>, until: Until, Named(id): Named, body: Body) -> Answer {
    let mut form = form(body)?;
    let (id, client) = (form.session(&id), form.client());
    form.finish()?;
    let (id, client) = (id.ok_or_else(not_found)?, client.check()?);
    let joined = api.lobby.members.join(&id, &client, until.within(&api.config)).await?;
    let answer = match joined {
        Joined::Connected(session) => {
            let Session { id, seed, size, labyrinth_id, start_x, start_y, .. } = *session;
            json!({
                "message": "Connected successfully", "session_id": id, "map_seed": seed, "labyrinth_id": labyrinth_id,
                "start_x": start_x, "start_y": start_y, "size": size,
            })
        }
        Joined::Already => json!({ "message": "Client already connected" }),
        Joined::Full => return Err(Refusal::new(StatusCode::CONFLICT, "full", "Session is full")),
    };
    Ok(Json(answer).into_response())
}

async fn leave(State(api): State<Arc<Api>>, until: Until, body: Body) -> Answer {
    let mut form = form(body)?;
    let client = form.client();
    form.finish()?;
    if api.lobby.members.leave(&client.check()?, until.within(&api.config)).await? {
        return Ok(Json(json!({ "message": "Disconnected successfully" })).into_response());
    }
    Err(Refusal::not_found("Client not connected to any session"))
}

async fn clients(State(api): State<Arc<Api>>, Named(id): Named) -> Answer {
    let session = existing(&api, &id).await?;
    let client =
        |player: &crate::record::Player| json!({ "client_id": player.client_id, "connected_at": player.connected_at });
    let clients: Vec<_> = session.players.iter().map(client).collect();
    Ok(Json(json!({ "clients": clients })).into_response())
}

async fn client_state(State(api): State<Arc<Api>>, Named(client): Named) -> Answer {
    let session = api.lobby.members.session_of(&client).await?;
    let id = session.as_ref().map(|session| session.id.clone());
    let details = session.map_or(Value::Null, |session| {
        let Session { id, seed, size, labyrinth_id, start_x, start_y, .. } = session;
        json!({
            "session_id": id, "labyrinth_id": labyrinth_id, "seed": seed, "size": size, "start_x": start_x,
            "start_y": start_y,
        })
    });
    let answer = json!({ "client_id": client, "connected_session": id, "session_details": details });
    Ok(Json(answer).into_response())
}

async fn ready(State(api): State<Arc<Api>>, until: Until, Named(id): Named, body: Body) -> Answer {
    let mut form = form(body)?;
    let (id, client, ready) = (form.session(&id), form.client(), form.ready());
    form.finish()?;
    let (id, client) = (id.ok_or_else(not_found)?, client.check()?);
    let status = api.lobby.ready(&id, &client, ready, until.within(&api.config)).await?;
    let status = status.ok_or(Refusal::not_found("Client not connected to this session"))?;
    Ok(Json(status).into_response())
}

async fn status(State(api): State<Arc<Api>>, Named(id): Named) -> Answer {
    let session = match input::session_id(&id) {
        Some(id) => api.lobby.session(&id).await?,
        None => None,
    };
    Ok(Json(session.map_or_else(Status::default, |session| session.status())).into_response())
}

async fn reference(State(api): State<Arc<Api>>, Named(table): Named) -> Answer {
    let body = api.reference.get(&table).ok_or_else(not_found)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    let status = if api.lobby.nats.connected() { "healthy" } else { "degraded" };
    Json(json!({ "status": status })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_brings_the_token_bears_it() {
        let headers = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        assert!(bears(&headers("Bearer secret"), "secret") && bears(&headers("bearer  secret"), "secret"));
        for value in ["Bearer secre", "Bearer", "secret", "Basic secret", "Bearer secrets"] {
            assert!(!bears(&headers(value), "secret"), "{value}");
        }
        assert!(!bears(&HeaderMap::new(), "secret"));
    }
}
