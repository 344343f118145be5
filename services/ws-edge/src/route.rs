//! A path under which a session can be watched: from a request to a connection.

use std::sync::Arc;

use axum::body::Body;
use futures_util::FutureExt as _;
use herald_protocol::{Close, Name, SessionId};
use http::{Request, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::timeout,
};

use crate::{
    answer::{self, Answer},
    config::{ListenerConfig, RouteConfig, StartConfig, Transport},
    connection,
    dialect::{Avatars, Dialect, DialectName},
    door::Peer,
    edge::{Edge, Upstream},
    feed::{Setup, Start, Target},
    handshake::{Asked, Handshake, take_over},
    identity::Identity,
    metrics::Counted,
    sse,
    view::{Encoding, Topics, View},
    websocket,
};

/// One route of one listener.
pub struct Route {
    transport: Transport,
    stream: String,
    roots: Vec<Arc<str>>,
    hidden: Vec<Topics>,
    snapshot: Vec<Topics>,
    dialect: DialectName,
    avatars: Option<Arc<Avatars>>,
    alias: Option<String>,
    start: Start,
}

impl Route {
    /// The route that `config` describes, on that listener.
    #[must_use]
    pub fn new(config: &RouteConfig, listener: &ListenerConfig, avatars: Option<&Arc<Avatars>>) -> Self {
        Self {
            transport: config.transport,
            stream: config.stream.clone(),
            roots: config.roots.iter().map(Name::as_str).map(Arc::from).collect(),
            hidden: config.hidden.clone(),
            snapshot: config.snapshot.clone(),
            dialect: config.dialect.unwrap_or(listener.dialect),
            avatars: avatars.cloned(),
            alias: config.alias.clone(),
            start: match config.start {
                StartConfig::Live => Start::Live,
                StartConfig::Snapshot => Start::Snapshot,
                StartConfig::Replay => Start::After(herald_protocol::Position::Seq(0)),
            },
        }
    }

    /// Whether it speaks WebSocket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.transport == Transport::Socket
    }

    /// Answers a GET for `session`, percent-encoded as it came: an open stream, or why there is none. Whatever is wrong
    /// with the request is said before the upgrade.
    pub fn answer(
        &self,
        edge: &Arc<Edge>,
        session: &str,
        request: Request<Incoming>,
        identity: &Identity,
        peer: Peer,
    ) -> Answer {
        let (head, _) = request.into_parts();
        let session = percent_decode_str(session).decode_utf8().ok().and_then(|id| SessionId::new(&id).ok());
        let Some(session) = session else { return answer::error(http::StatusCode::NOT_FOUND, "No such session") };
        match self.open(edge, &session, head, identity, peer) {
            Ok(answer) | Err(answer) => *answer,
        }
    }

    fn open(
        &self,
        edge: &Arc<Edge>,
        session: &SessionId,
        head: Parts,
        identity: &Identity,
        peer: Peer,
    ) -> Result<Box<Answer>, Box<Answer>> {
        if !identity.may_open(session) {
            return Err(answer::error(http::StatusCode::FORBIDDEN, "This session is not yours to open").into());
        }
        let mut asked = Asked::read(head.uri.query().unwrap_or_default());
        if !self.is_socket() {
            asked = asked.and_then(|asked| asked.with_last_event_id(&head.headers));
        }
        let asked = asked.map_err(|error| answer::bad_request(&error.to_string()))?;
        let start = asked.start.unwrap_or(self.start);
        if start == Start::Snapshot && self.snapshot.is_empty() {
            return Err(answer::bad_request("snapshot: there is none on this path").into());
        }
        let handshake = if self.is_socket() { Some(Handshake::read(&head)?) } else { None };
        if edge.drain.is_called() {
            return Err(answer::unavailable("Shutting down").into());
        }
        let Some(upstream) = edge.upstream() else { return Err(answer::unavailable("NATS is not connected").into()) };
        let encoding = match &handshake {
            Some(Handshake { v1: true, .. }) => Encoding::V1,
            Some(_) => Encoding::Plain,
            None => Encoding::Sse,
        };
        let setup = self.setup(edge, upstream, session, asked.dialect, encoding, start);
        let setup = setup.filter(|setup| !setup.misses_now()).ok_or_else(|| answer::unavailable("Not ready"))?;
        let place = edge.places.clone().try_acquire_owned().ok();
        let reason = "too many connections";
        if place.is_none() {
            ::metrics::counter!("herald_connections_refused_total", "reason" => "too_many_watching").increment(1);
        }
        Ok(match (handshake, place) {
            (Some(handshake), place) => {
                let Some(upgrade) = head.extensions.get::<OnUpgrade>().cloned() else {
                    return Err(answer::bad_request("This connection can't be upgraded").into());
                };
                match place {
                    Some(place) => edge.tasks.spawn(serve(edge.clone(), upgrade, setup, peer, place)),
                    None => edge.tasks.spawn(send_away(edge.clone(), upgrade, Close::TryLater(reason), peer)),
                };
                handshake.answer().into()
            }
            (None, None) => return Err(answer::unavailable("Too many connections").into()),
            (None, Some(place)) => {
                let limits = edge.limits.clone();
                let (response, feeding) =
                    sse::respond(setup, limits, edge.comment, edge.drain.clone(), peer.abort.clone());
                edge.tasks.spawn(async move {
                    let _counted = Counted::watching("sse");
                    feeding.await;
                    drop((place, peer));
                });
                response.map(Body::new).into()
            }
        })
    }

    /// `None` where the route's stream or bucket is not followed by this process, which it is once the process is up.
    fn setup(
        &self,
        edge: &Edge,
        upstream: &Upstream,
        session: &SessionId,
        dialect: Option<DialectName>,
        encoding: Encoding,
        start: Start,
    ) -> Option<Setup> {
        let target = match &self.alias {
            None => Target::Session(session.clone()),
            Some(bucket) => Target::Alias(upstream.aliases.get(bucket)?.watch(session)),
        };
        let view = View {
            roots: self.roots.clone(),
            hidden: self.hidden.clone(),
            snapshot: self.snapshot.clone(),
            dialect: Dialect::new(dialect.unwrap_or(self.dialect), self.avatars.as_ref()),
            encoding,
        };
        let (hub, view) = (upstream.hubs.get(&self.stream)?.clone(), edge.views.intern(view));
        Some(Setup { hub, view, target, start, now: None }.begun())
    }
}

/// Waits for the socket behind the handshake, then has it served to its end in a task of its own, which is as small as it
/// can be: most of them sleep for hours.
async fn serve(edge: Arc<Edge>, upgrade: OnUpgrade, setup: Setup, peer: Peer, place: OwnedSemaphorePermit) {
    let Some((tcp, leftover)) = take_over(upgrade).await else { return };
    let (counted, places) = (Counted::watching("socket"), (place, peer.place));
    let serving = connection::serve(tcp, leftover, setup, edge.limits.clone(), edge.drain.clone());
    edge.tasks.spawn(serving.map(move |()| drop((counted, places))));
}

/// Closes a socket as soon as it is open, in a way that its client understands.
async fn send_away(edge: Arc<Edge>, upgrade: OnUpgrade, close: Close, peer: Peer) {
    let closing = async {
        let Some((mut tcp, _)) = take_over(upgrade).await else { return };
        if tcp.write_all(&websocket::close_frame(&close)).await.is_ok() && tcp.shutdown().await.is_ok() {
            read_to_end(&mut tcp).await;
        }
    };
    // Whoever does not answer the close is closed all the same.
    let _late = timeout(edge.limits.close_timeout, closing).await;
    drop(peer);
}

/// A socket dropped with unread bytes in it takes the close frame back.
pub(crate) async fn read_to_end(tcp: &mut TcpStream) {
    let mut thrown_away = [0; 1024];
    while tcp.read(&mut thrown_away).await.is_ok_and(|read| read > 0) {}
}
