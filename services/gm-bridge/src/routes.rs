//! The HTTP interface of the game, served over `http.gm`. Thin: reads a request, asks who can do it, answers.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, Path, State, rejection::BytesRejection},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post},
};
use herald_protocol::{Segment, SessionId, headers, subject};
use herald_runtime::{
    http_over_nats::Door as DoorName,
    jetstream::{self, ForkError},
    nats::Nats,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    action::{Actions, Cancelled, Command, Ended},
    arena::{Arena, EVENTS},
    config::{ActionPolicy, Config},
    health::{Health, Prober},
    images,
    init::init,
    news::News,
    pool::Pool,
    purge::Purger,
    query::{Fields, Parameters, session_id},
    refusal::Refusal,
    sessions::Sessions,
    splice::splice,
    starts::{Answer, Starts, UNREACHABLE},
};

/// Everybody who can do something.
pub(crate) struct Api {
    pub(crate) config: Config,
    pub(crate) nats: Nats,
    pub(crate) sessions: Sessions,
    pub(crate) pool: Pool,
    pub(crate) arena: Arena,
    pub(crate) actions: Actions,
    pub(crate) starts: Starts,
    pub(crate) news: News,
    pub(crate) prober: Prober,
    pub(crate) purger: Purger,
}

/// The Router of all of it.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let largest = api.config.http.max_body.as_usize();
    Router::new()
        .route("/api/start", command(get(start)))
        .route("/api/propose", command(get(propose)))
        .route("/api/choose", command(get(choose)))
        .route("/api/cancel", only("POST", post(cancel)))
        .route("/api/state", only("GET, HEAD", get(state)))
        .route("/api/images/{sid}/{file}", only("GET, HEAD", get(image)))
        .route("/init_session", only("POST", post(init_session)))
        .route("/submit_news", only("POST", post(submit_news)))
        .route("/sessions/{sid}", only("DELETE", delete(remove)))
        .route("/sessions/{sid}/end", only("POST", post(end)))
        .route("/sessions/{sid}/fork", only("POST", post(fork)))
        .route("/health", only("GET, HEAD", get(health)))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "Not found"))
        .layer(DefaultBodyLimit::max(largest))
        .layer(axum::middleware::map_response(never_stored))
        .with_state(api)
}

/// A GET that changes something: a HEAD, which would run its handler, is refused.
fn command<S: Clone + Send + Sync + 'static>(method: MethodRouter<S>) -> MethodRouter<S> {
    only("GET", method.head(async || Refusal::wrong_method("GET")))
}

fn only<S: Clone + Send + Sync + 'static>(allow: &'static str, methods: MethodRouter<S>) -> MethodRouter<S> {
    methods.fallback(async move || Refusal::wrong_method(allow))
}

/// Most answers are about a moment; those that may be kept say so themselves.
async fn never_stored(mut response: Response) -> Response {
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(never);
    response
}

/// The name of the door a request came through.
struct Door(Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for Door {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let door = parts.extensions.get::<DoorName>();
        Ok(Self(door.map_or_else(|| headers::DEFAULT_DOOR.into(), |door| Arc::clone(&door.0))))
    }
}

impl Door {
    /// Whether an init through this door tells the engine: the published frontend's start follows at once and knows the
    /// language, and the Game Master's own id needs no arena.
    fn tells_the_arena(&self) -> bool {
        !matches!(&*self.0, "app" | "gm")
    }
}

async fn start(State(api): State<Arc<Api>>, query: Parameters) -> Result<Answer, Refusal> {
    let (session, lang) = (query.session()?, query.lang()?.unwrap_or_default());
    let session = match session {
        Some(session) => session,
        None => query.allowed(SessionId::new(&uuid::Uuid::new_v4().to_string())?)?,
    };
    api.starts.start(session, lang).await
}

async fn propose(State(api): State<Arc<Api>>, door: Door, query: Parameters) -> Result<Response, Refusal> {
    let (session, lang) = (query.required_session()?, query.lang()?.unwrap_or_default());
    api.run(session, Command::Propose { lang }, &door).await
}

async fn choose(State(api): State<Arc<Api>>, door: Door, query: Parameters) -> Result<Response, Refusal> {
    let (session, news, lang) = (query.required_session()?, query.kind()?, query.lang()?.unwrap_or_default());
    api.run(session, Command::Choose { news, lang }, &door).await
}

async fn cancel(State(api): State<Arc<Api>>, query: Parameters) -> Result<Json<Value>, Refusal> {
    let session = query.required_session()?;
    let cancelled = async {
        api.sessions.get(&session).await?.ok_or_else(Refusal::session_not_found)?;
        Ok(api.actions.cancel(&session).await?)
    };
    let status = match api.soon(cancelled).await? {
        Cancelled::Cancelled => "cancelled",
        Cancelled::Idle => "idle",
    };
    Ok(Json(json!({ "status": status })))
}

/// Removes all that is kept of a session.
async fn remove(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
    query: Parameters,
) -> Result<Json<Value>, Refusal> {
    let session = query.managed(of_path(path)?)?;
    let purged = api.soon(api.purger.purge(session)).await?;
    Ok(Json(json!({ "purged": purged })))
}

/// Says that a session is over, and frees its Game Master.
async fn end(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
    query: Parameters,
) -> Result<Json<Value>, Refusal> {
    let session = query.managed(of_path(path)?)?;
    let ended = async {
        api.sessions.get(&session).await?.ok_or_else(Refusal::session_not_found)?;
        match api.actions.end(&session).await? {
            Ended::Over(action) => {
                api.starts.forget_answer(&session).await?;
                Ok(api.pool.leave(&session, action, false).await?)
            }
            Ended::Running => Err(Refusal::conflict("An action is running; cancel it first")),
        }
    };
    api.soon(ended).await?;
    Ok(Json(json!({ "status": "over" })))
}

/// Makes a session whose log begins with this one's.
async fn fork(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
    query: Parameters,
) -> Result<Response, Refusal> {
    let parent = query.managed(of_path(path)?)?;
    let at = query.at()?;
    let forked = async {
        let forked = jetstream::fork(&api.nats, EVENTS, subject::GM, &parent, at).await.map_err(not_forked)?;
        tracing::info!(session = %parent, fork = %forked.session, at = forked.at, "session forked");
        Ok(forked)
    };
    let jetstream::Fork { session, at, .. } = api.soon(forked).await?;
    Ok((StatusCode::CREATED, Json(json!({ "session_id": session, "at": at }))).into_response())
}

fn not_forked(error: ForkError) -> Refusal {
    match error {
        ForkError::NoSession => Refusal::session_not_found(),
        ForkError::TooOld => Refusal::bad("at: nothing of the session is kept up to there"),
        ForkError::Beyond => Refusal::bad("at: there is no such place yet"),
        ForkError::OtherLife => Refusal::bad("at: that place was in another life of the log"),
        ForkError::TooDeep => Refusal::conflict("It is a fork of too many forks"),
        ForkError::Api(_) | ForkError::Publish(_) => Refusal::nats(&error),
    }
}

fn of_path(path: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Result<SessionId, Refusal> {
    let Path(id) = path.map_err(|_| Refusal::bad("session_id: not UTF-8"))?;
    session_id(&id)
}

/// The state of the session's Game Master; without a session, of the first one.
async fn state(State(api): State<Arc<Api>>, query: Parameters) -> Result<Response, Refusal> {
    let (seat, session) = match query.session()? {
        Some(session) => {
            let known = api.sessions.get(&session).await?.ok_or_else(Refusal::session_not_found)?;
            (api.pool.of(&session, &known).await?.ok_or_else(Refusal::no_game)?, Some(session))
        }
        None => {
            query.all_allowed()?;
            let first = api.pool.seats().first().ok_or_else(Refusal::no_game)?;
            (first, api.pool.player(first).await?)
        }
    };
    let json = seat.gm.state().await.map_err(|error| Refusal::unreachable(&error, UNREACHABLE))?;
    let body = match session {
        Some(session) => splice(&json, &session).map_err(|_| Refusal::new(StatusCode::BAD_GATEWAY, UNREACHABLE))?.body,
        None => json,
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

async fn image(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // The segments come decoded: `..%2f..%2fstate` is one of them.
    let segments = path.ok().and_then(|Path((id, file))| Some((Segment::new(&id).ok()?, Segment::new(&file).ok()?)));
    let (id, file) = segments.ok_or_else(images::not_found)?;
    Ok(images::fetch(&api.sessions, &api.pool, &query, &id, &file).await?.answer(&headers))
}

async fn init_session(
    State(api): State<Arc<Api>>,
    door: Door,
    query: Parameters,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let fields = Fields::read(body, "session_id")?;
    let session = query.allowed(session_id(fields.text("session_id")?)?)?;
    let lang = query.lang()?;
    let (params, tell) = (query.into_query_params(), door.tells_the_arena());
    api.soon(init(&api.sessions, &api.arena, &session, lang, &params, tell)).await?;
    Ok(Json(json!({ "status": "ok", "session_id": session })))
}

async fn submit_news(
    State(api): State<Arc<Api>>,
    query: Parameters,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let fields = Fields::read(body, "session_id and content")?;
    let (session, content) = (query.allowed(session_id(fields.text("session_id")?)?)?, fields.text("content")?);
    if content.trim().is_empty() {
        return Err(Refusal::bad("content is empty"));
    }
    api.news.submit(&session, content, &query.into_query_params()).await?;
    Ok(Json(json!({ "status": "published", "session_id": session })))
}

async fn health(State(api): State<Arc<Api>>) -> Json<Health> {
    Json(api.prober.health().await)
}

impl Api {
    /// Runs a command in a session that plays somewhere.
    async fn run(&self, session: SessionId, command: Command, door: &Door) -> Result<Response, Refusal> {
        let policy: ActionPolicy = self.config.policy(&door.0);
        let accepted = async {
            let known = self.sessions.touch(&session).await?.ok_or_else(Refusal::session_not_found)?;
            self.pool.of(&session, &known).await?.ok_or_else(Refusal::no_game)?;
            Ok(self.actions.run(&session, command, policy).await?)
        };
        self.soon(accepted).await?;
        let accepted = Json(json!({ "status": "streaming", "session_id": session }));
        Ok((StatusCode::ACCEPTED, accepted).into_response())
    }

    /// The answer to a command comes long before whoever asked gives up, also where each of its steps waits for a NATS that
    /// has a connection and no leader.
    async fn soon<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let limit = self.config.action.claim_wait.get() * 2 + self.config.action.lapse.get();
        timeout(limit, work).await.unwrap_or_else(|late| Err(Refusal::nats(&late)))
    }
}
