//! What this edge has in hand, as JSON at the operations port, for the operator: sessions and their rings, connections and how far
//! behind each is, why it began where it did, and the last events of any session. In pages, and nothing of a token. The two lists
//! are at listeners with tokens, too, for whose token says `operator` ([`operators`]).
//!
//! A look costs those who are served next to nothing: registries are locked for a page at a time, one look through all
//! connections runs at once, and the past is read as clients read it, within the same limits.

mod look;
pub(crate) mod operators;
mod tail;

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use herald_protocol::{InstanceId, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    answer,
    config::Config,
    edge::{Edge, Upstream},
    guests::{Conn, Guest},
};
use look::{ConnectionLook, SessionLook};
use tail::Shown;

/// Rows of a page, unless asked otherwise, and at most.
const PAGE: (usize, usize) = (100, 1_000);
/// Connections that one request looks at to find those it was asked for: what is left is the next page's.
const LOOKED_AT: usize = 20_000;
/// Connections taken from the registry at a time.
const AT_ONCE: usize = 1_000;
/// Who is shown with a session: those furthest behind.
const FURTHEST: usize = 10;
/// How long a look waits for others to be done.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who looks.
pub(crate) struct Inspector {
    edge: Arc<Edge>,
    instance: InstanceId,
    begun: Instant,
    /// What each route shows, to show the end of a session as its clients see it.
    shown: Vec<Shown>,
    /// The first roots of all routes: with them sessions are named.
    roots: BTreeSet<Arc<str>>,
    /// One look through all connections, or one tail, at a time.
    at_work: Semaphore,
}

type Answered<T> = Result<Json<T>, Refusal>;
type Who = State<Arc<Inspector>>;
type Asked<T> = Result<Query<T>, QueryRejection>;

/// Why nothing is shown.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, text) = self;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer::unavailable(&text)
        } else {
            answer::error(status, &text)
        }
    }
}

fn refusal(status: StatusCode, text: &str) -> Refusal {
    Refusal(status, text.to_owned())
}

fn bad_request(text: &str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, text)
}

fn unavailable(text: &str) -> Refusal {
    refusal(StatusCode::SERVICE_UNAVAILABLE, text)
}

/// What is answered, below `/inspect`.
pub(crate) fn router(inspector: Arc<Inspector>) -> Router {
    Router::new()
        .route("/inspect", get(index))
        .route("/inspect/streams", get(streams))
        .route("/inspect/sessions", get(sessions))
        .route("/inspect/sessions/{sid}", get(session))
        .route("/inspect/sessions/{sid}/tail", get(tail::answer))
        .route("/inspect/connections", get(connections))
        .route("/inspect/connections/{conn}", get(connection))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "Not found: see /inspect for what there is"))
        .method_not_allowed_fallback(async || refusal(StatusCode::METHOD_NOT_ALLOWED, "Only GET"))
        .with_state(inspector)
}

impl Inspector {
    pub(crate) fn new(config: &Config, edge: &Arc<Edge>, instance: InstanceId) -> Arc<Self> {
        let listeners = config.listeners();
        let routes = listeners.iter().flat_map(|listener| &listener.routes);
        Arc::new(Self {
            edge: edge.clone(),
            instance,
            begun: Instant::now(),
            shown: Shown::all(&listeners),
            roots: routes.filter_map(|route| Some(route.roots.first()?.as_str().into())).collect(),
            at_work: Semaphore::new(1),
        })
    }

    fn upstream(&self) -> Result<&Upstream, Refusal> {
        self.edge.upstream().ok_or_else(|| unavailable("NATS was not reached yet"))
    }

    /// Waits for the turn to look at much.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let turn = timeout(PATIENCE, self.at_work.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| unavailable("Others are looking"))
    }

    fn look(&self, upstream: &Upstream, guest: &Guest) -> ConnectionLook {
        let sessions = upstream.hubs.get(&guest.entrance.stream).map(|hub| &*hub.sessions);
        ConnectionLook::of(guest, sessions)
    }

    /// All that show a session, under whatever root.
    fn guests_of(&self, upstream: &Upstream, session: &SessionId) -> Vec<Arc<Guest>> {
        self.roots.iter().flat_map(|root| upstream.guests.of_session(root, session)).collect()
    }
}

async fn index(State(inspector): Who) -> Json<Value> {
    let connections = inspector.edge.upstream().map_or(0, |upstream| upstream.guests.len());
    Json(json!({
        "service": "ws-edge",
        "instance": inspector.instance.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "up_s": inspector.begun.elapsed().as_secs(),
        "connections": connections,
        "paths": [
            "/inspect/streams", "/inspect/sessions", "/inspect/sessions/{sid}", "/inspect/sessions/{sid}/tail",
            "/inspect/connections", "/inspect/connections/{conn}",
        ],
    }))
}

async fn streams(State(inspector): Who) -> Answered<Value> {
    let mut streams: Vec<_> = inspector.upstream()?.hubs.iter().collect();
    streams.sort_unstable_by_key(|(name, _)| *name);
    let streams = streams.into_iter().map(|(name, hub)| {
        let look = hub.sessions.look_at_stream();
        let epoch = look.epoch.map(|epoch| epoch.to_string());
        json!({ "stream": name, "epoch": epoch, "serving": look.serving, "seq": look.seq, "sessions": look.sessions })
    });
    Ok(Json(json!({ "streams": streams.collect::<Vec<_>>() })))
}

/// A page of something.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageAsked {
    after: Option<String>,
    limit: Option<usize>,
}

fn limit(asked: Option<usize>) -> Result<usize, Refusal> {
    let limit = asked.unwrap_or(PAGE.0);
    if (1..=PAGE.1).contains(&limit) { Ok(limit) } else { Err(bad_request("limit: expected 1 to 1000")) }
}

fn query<T>(asked: Asked<T>) -> Result<T, Refusal> {
    asked.map(|Query(asked)| asked).map_err(|error| bad_request(&error.body_text()))
}

fn session_id(path: Result<Path<String>, PathRejection>) -> Result<SessionId, Refusal> {
    let session = path.ok().and_then(|Path(text)| SessionId::new(&text).ok());
    session.ok_or_else(|| bad_request("This is no session id"))
}

#[derive(Serialize)]
struct Sessions {
    sessions: Vec<SessionLook>,
    /// `after` of the next page.
    next: Option<String>,
}

/// Sessions that somebody is shown here.
async fn sessions(State(inspector): Who, asked: Asked<PageAsked>) -> Answered<Sessions> {
    let (upstream, asked) = (inspector.upstream()?, query(asked)?);
    let limit = limit(asked.limit)?;
    let after = asked.after.map(|text| {
        let (root, session) = text.split_once('.')?;
        Some((Arc::from(root), SessionId::new(session).ok()?))
    });
    let after = after.map(|after| after.ok_or_else(|| bad_request("after: expected <root>.<session>"))).transpose()?;
    let rooms = upstream.guests.rooms(after.as_ref(), limit);
    let next = rooms.last().filter(|_| rooms.len() == limit).map(|((root, session), ..)| format!("{root}.{session}"));
    let looks = rooms.into_iter().map(|((root, session), viewers, guest)| {
        let stream = &guest.entrance.stream;
        let sessions = upstream.hubs.get(stream).map(|hub| &*hub.sessions);
        SessionLook::of(stream, &root, &session, viewers, sessions)
    });
    Ok(Json(Sessions { sessions: looks.collect(), next }))
}

/// One of them, and who is furthest behind in it.
async fn session(State(inspector): Who, path: Result<Path<String>, PathRejection>) -> Answered<Value> {
    let (upstream, session) = (inspector.upstream()?, session_id(path)?);
    let guests = inspector.guests_of(upstream, &session);
    let rooms: BTreeSet<_> = guests.iter().map(|it| (&it.entrance.root, it.entrance.stream.as_str())).collect();
    if rooms.is_empty() {
        return Err(refusal(StatusCode::NOT_FOUND, "Nobody is shown this session here"));
    }
    let looks = rooms.into_iter().map(|(root, stream)| {
        let sessions = upstream.hubs.get(stream).map(|hub| &*hub.sessions);
        let viewers = guests.iter().filter(|guest| guest.entrance.root == *root && guest.entrance.stream == stream);
        SessionLook::of(stream, root, &session, viewers.count(), sessions)
    });
    let looks: Vec<_> = looks.collect();
    let mut furthest = Furthest::new(FURTHEST);
    guests.iter().for_each(|guest| furthest.take(inspector.look(upstream, guest)));
    Ok(Json(json!({ "sessions": looks, "furthest_behind": furthest.sorted() })))
}

/// Which connections are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionsAsked {
    session: Option<String>,
    user: Option<String>,
    by: Option<By>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum By {
    Lag,
}

#[derive(Serialize)]
struct Connections {
    connections: Vec<ConnectionLook>,
    /// `after` of the next page.
    next: Option<Conn>,
}

/// Connections by their names, or those furthest behind.
async fn connections(State(inspector): Who, asked: Asked<ConnectionsAsked>) -> Answered<Connections> {
    let (upstream, asked) = (inspector.upstream()?, query(asked)?);
    let limit = limit(asked.limit)?;
    let after = asked.after.map(|after| after.parse::<Conn>()).transpose();
    let mut after = after.map_err(|error| bad_request(&format!("after: {error}")))?;
    let session = asked.session.map(|session| SessionId::new(&session)).transpose();
    let session = session.map_err(|_| bad_request("session: this is no session id"))?;
    let by_lag = asked.by == Some(By::Lag);
    if by_lag && after.is_some() {
        return Err(bad_request("after: there are no pages of those furthest behind"));
    }
    let fits = |guest: &Guest| asked.user.as_deref().is_none_or(|user| guest.user.as_deref() == Some(user));
    let mut found = if by_lag { Found::Furthest(Furthest::new(limit)) } else { Found::Page(Vec::new(), limit) };

    if let Some(session) = session {
        let mut guests = inspector.guests_of(upstream, &session);
        guests.sort_unstable_by_key(|guest| guest.conn);
        let guests = guests.iter().filter(|guest| after.is_none_or(|after| guest.conn > after) && fits(guest));
        for guest in guests {
            if found.is_full() {
                break;
            }
            found.take(inspector.look(upstream, guest));
        }
        return Ok(Json(found.answer(None)));
    }
    let _at_work = inspector.turn().await?;
    let (mut looked_at, mut more) = (0, true);
    while more && !found.is_full() && (by_lag || looked_at < LOOKED_AT) {
        let guests = upstream.guests.page(after.as_ref(), AT_ONCE);
        more = guests.len() == AT_ONCE;
        for guest in &guests {
            if found.is_full() {
                more = true;
                break;
            }
            (after, looked_at) = (Some(guest.conn), looked_at + 1);
            if fits(guest) {
                found.take(inspector.look(upstream, guest));
            }
        }
        // So many at a time, then those who are served.
        tokio::task::yield_now().await;
    }
    Ok(Json(found.answer(after.filter(|_| more))))
}

/// One of them.
async fn connection(State(inspector): Who, path: Result<Path<String>, PathRejection>) -> Answered<ConnectionLook> {
    let upstream = inspector.upstream()?;
    let conn = path.ok().and_then(|Path(text)| text.parse::<Conn>().ok());
    let guest = conn.and_then(|conn| upstream.guests.find(&conn));
    let guest = guest.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "There is no such connection here"))?;
    Ok(Json(inspector.look(upstream, &guest)))
}

/// What was found so far.
enum Found {
    /// So many at most, as they come.
    Page(Vec<ConnectionLook>, usize),
    Furthest(Furthest),
}

impl Found {
    fn is_full(&self) -> bool {
        matches!(self, Self::Page(page, limit) if page.len() == *limit)
    }

    fn take(&mut self, look: ConnectionLook) {
        match self {
            Self::Page(page, _) => page.push(look),
            Self::Furthest(furthest) => furthest.take(look),
        }
    }

    /// `next`: behind whom the next page begins; behind the last one, where that is not said and the page is full.
    fn answer(self, next: Option<Conn>) -> Connections {
        let full = self.is_full();
        match self {
            Self::Page(connections, _) => {
                let last = connections.last().map(|last| last.conn).filter(|_| full);
                Connections { connections, next: next.or(last) }
            }
            Self::Furthest(furthest) => Connections { connections: furthest.sorted(), next: None },
        }
    }
}

/// Those furthest behind, in bytes.
struct Furthest {
    most: usize,
    all: Vec<ConnectionLook>,
}

impl Furthest {
    const fn new(most: usize) -> Self {
        Self { most, all: Vec::new() }
    }

    fn take(&mut self, look: ConnectionLook) {
        self.all.push(look);
        // Sorted once for as many as are kept: not a heap, but as cheap, and simpler.
        if self.all.len() >= 2 * self.most {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.all.sort_by_key(|look| Reverse(look.lag_bytes()));
        self.all.truncate(self.most);
    }

    fn sorted(mut self) -> Vec<ConnectionLook> {
        self.cut();
        self.all
    }
}
