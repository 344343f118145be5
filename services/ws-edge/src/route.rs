//! A path under which a session can be watched: from a request to a connection.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use herald_protocol::{Close, Name, SessionId};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
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
    identity::{self, Identity, Lease, Refusal, Unheard, Verifier},
    limits::{self, WatchTicket},
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
    /// with the request is said before the upgrade; who may not watch is told behind it, where browsers can see it.
    /// `verifier`: verifies the token of a socket that has none yet.
    pub fn answer(
        self: &Arc<Self>,
        edge: &Arc<Edge>,
        session: &str,
        head: Parts,
        identity: Result<Identity, Refusal>,
        verifier: Option<&Arc<Verifier>>,
        peer: Peer,
    ) -> Answer {
        if let Err(refusal) = edge.limits.admit_handshake(peer.address.ip()) {
            return refusal.answer();
        }
        let session = percent_decode_str(session).decode_utf8().ok().and_then(|id| SessionId::new(&id).ok());
        let Some(session) = session else { return answer::error(http::StatusCode::NOT_FOUND, "No such session") };
        match self.asked(session, &head, verifier, peer).and_then(|asked| self.open(edge, asked, &head, identity)) {
            Ok(answer) | Err(answer) => *answer,
        }
    }

    /// What the request asks for.
    fn asked(
        &self,
        session: SessionId,
        head: &Parts,
        verifier: Option<&Arc<Verifier>>,
        peer: Peer,
    ) -> Result<Watch, Box<Answer>> {
        let mut asked = Asked::read(head.uri.query().unwrap_or_default());
        if !self.is_socket() {
            asked = asked.and_then(|asked| asked.with_last_event_id(&head.headers));
        }
        let asked = asked.map_err(|error| answer::bad_request(&error.to_string()))?;
        let start = asked.start.unwrap_or(self.start);
        if start == Start::Snapshot && self.snapshot.is_empty() {
            return Err(answer::bad_request("snapshot: there is none on this path").into());
        }
        Ok(Watch { session, dialect: asked.dialect, start, verifier: verifier.cloned(), peer })
    }

    fn open(
        self: &Arc<Self>,
        edge: &Arc<Edge>,
        watch: Watch,
        head: &Parts,
        identity: Result<Identity, Refusal>,
    ) -> Result<Box<Answer>, Box<Answer>> {
        let handshake = if self.is_socket() { Some(Handshake::read(head)?) } else { None };
        let permit = identity.and_then(|identity| self.permit(&watch, identity));
        if let (None, Err(refusal)) = (&handshake, &permit) {
            return Err(refusal.answer().into());
        }
        if edge.drain.is_called() {
            return Err(answer::unavailable("Shutting down").into());
        }
        let Some(upstream) = edge.upstream() else { return Err(answer::unavailable("NATS is not connected").into()) };
        let encoding = match &handshake {
            Some(Handshake { v1: true, .. }) => Encoding::V1,
            Some(_) => Encoding::Plain,
            None => Encoding::Sse,
        };
        let admitted = permit.map_err(Unwatched::Refused);
        let admitted = admitted.and_then(|permit| self.admit(edge, upstream, &watch, encoding, &permit));
        let Some(handshake) = handshake else {
            let admitted = admitted.map_err(Unwatched::answer)?;
            return Ok(stream(edge, watch, admitted).into());
        };
        let Some(upgrade) = head.extensions.get::<OnUpgrade>().cloned() else {
            return Err(answer::bad_request("This connection can't be upgraded").into());
        };
        let edge = edge.clone();
        match admitted {
            Ok(admitted) => edge.tasks.clone().spawn(serve(edge, upgrade, watch.peer, admitted)),
            Err(Unwatched::Refused(Refusal::Missing)) => {
                edge.tasks.clone().spawn(self.clone().introduce(edge, upgrade, watch, encoding))
            }
            Err(Unwatched::NotReady) => return Err(Unwatched::NotReady.answer()),
            Err(unwatched) => edge.tasks.clone().spawn(send_away(edge, upgrade, unwatched.close(), watch.peer)),
        };
        Ok(handshake.answer().into())
    }

    /// Whether somebody may watch. The one place where that is decided: whatever is shown of a session, its past, its snapshot
    /// or what comes next, is shown by a permit.
    fn permit(&self, watch: &Watch, identity: Identity) -> Result<Permit, Refusal> {
        let allowed = if self.alias.is_some() { identity.may_open_all() } else { identity.may_open(&watch.session) };
        if allowed { Ok(Permit(identity)) } else { Err(Refusal::Session) }
    }

    /// What somebody needs who may watch.
    fn admit(
        &self,
        edge: &Edge,
        upstream: &Upstream,
        watch: &Watch,
        encoding: Encoding,
        Permit(identity): &Permit,
    ) -> Result<Admitted, Unwatched> {
        let Watch { peer, session, .. } = watch;
        let place = edge.limits.admit_watching(&peer.place, peer.address.ip(), identity.user(), session);
        let place = place.map_err(Unwatched::OverLimit)?;
        let setup = self.setup(edge, upstream, watch, encoding).filter(|setup| !setup.misses_now());
        let setup = setup.ok_or(Unwatched::NotReady)?;
        let lease = watch.verifier.as_ref().zip(identity.claims());
        let lease = lease.map(|(verifier, claims)| Box::new(Lease::new(verifier.clone(), claims.clone())));
        Ok(Admitted { setup, place, lease })
    }

    /// Hears from an open socket who it is, then serves it as any other.
    async fn introduce(self: Arc<Self>, edge: Arc<Edge>, upgrade: OnUpgrade, watch: Watch, encoding: Encoding) {
        let Some((mut tcp, leftover)) = take_over(upgrade).await else { return };
        let admitted = tokio::select! {
            biased;
            () = edge.drain.called() => Err(Unheard::Close(Close::Restart { after: None })),
            admitted = self.introduced(&edge, &mut tcp, leftover, &watch, encoding) => admitted,
        };
        match admitted {
            Ok((leftover, admitted)) => begin(&edge, tcp, leftover, watch.peer, admitted),
            Err(Unheard::Close(close)) => farewell(&edge, tcp, &close).await,
            Err(Unheard::Gone) => {}
        }
    }

    async fn introduced(
        &self,
        edge: &Edge,
        tcp: &mut TcpStream,
        leftover: Bytes,
        watch: &Watch,
        encoding: Encoding,
    ) -> Result<(Bytes, Admitted), Unheard> {
        let not_ready = || Unheard::Close(Unwatched::NotReady.close());
        let verifier = watch.verifier.as_ref().ok_or_else(not_ready)?;
        let (token, leftover) = identity::hear(tcp, leftover, verifier, edge.per_connection.inbound_message).await?;
        let verified = verifier.verify(&token).await;
        let permit = verified.and_then(|claims| self.permit(watch, Identity::Known(claims)));
        let permit = permit.map_err(|refusal| Unheard::Close(refusal.close()))?;
        let upstream = edge.upstream().ok_or_else(not_ready)?;
        let admitted = self.admit(edge, upstream, watch, encoding, &permit);
        Ok((leftover, admitted.map_err(|unwatched| Unheard::Close(unwatched.close()))?))
    }

    /// `None` where the route's stream or bucket is not followed by this process, which it is once the process is up.
    fn setup(&self, edge: &Edge, upstream: &Upstream, watch: &Watch, encoding: Encoding) -> Option<Setup> {
        let target = match &self.alias {
            None => Target::Session(watch.session.clone()),
            Some(bucket) => Target::Alias(upstream.aliases.get(bucket)?.watch(&watch.session)),
        };
        let view = View {
            roots: self.roots.clone(),
            hidden: self.hidden.clone(),
            snapshot: self.snapshot.clone(),
            dialect: Dialect::new(watch.dialect.unwrap_or(self.dialect), self.avatars.as_ref()),
            encoding,
        };
        let (hub, view) = (upstream.hubs.get(&self.stream)?.clone(), edge.views.intern(view));
        Some(Setup { hub, view, target, start: watch.start, now: None }.begun())
    }
}

/// What somebody asks to watch.
struct Watch {
    session: SessionId,
    dialect: Option<DialectName>,
    start: Start,
    verifier: Option<Arc<Verifier>>,
    peer: Peer,
}

/// Somebody who may watch what they asked for.
struct Permit(Identity);

/// What somebody needs who may watch.
struct Admitted {
    setup: Setup,
    place: WatchTicket,
    lease: Option<Box<Lease>>,
}

/// Why somebody can't watch.
enum Unwatched {
    /// They may not, or it is not known whether they may.
    Refused(Refusal),
    /// The stream is not served now.
    NotReady,
    /// It would be over a limit.
    OverLimit(limits::Refusal),
}

impl Unwatched {
    fn answer(self) -> Box<Answer> {
        match self {
            Self::Refused(refusal) => refusal.answer(),
            Self::NotReady => answer::unavailable("Not ready"),
            Self::OverLimit(refusal) => refusal.answer(),
        }
        .into()
    }

    fn close(self) -> Close {
        match self {
            Self::Refused(refusal) => refusal.close(),
            Self::NotReady => Close::TryLater("not ready"),
            Self::OverLimit(refusal) => refusal.close(),
        }
    }
}

/// The events of a session as the body of a response.
fn stream(edge: &Edge, watch: Watch, admitted: Admitted) -> Answer {
    let Admitted { setup, place, lease } = admitted;
    let (ends, peer) = (lease.map(|lease| lease.ends()), watch.peer);
    let (limits, drain) = (edge.per_connection.clone(), edge.drain.clone());
    let (response, feeding) = sse::respond(setup, ends, limits, edge.comment, drain, peer.abort.clone());
    edge.tasks.spawn(async move {
        let _counted = Counted::watching("sse");
        feeding.await;
        drop((place, peer));
    });
    response.map(Body::new)
}

/// Waits for the socket behind the handshake, then has it served.
async fn serve(edge: Arc<Edge>, upgrade: OnUpgrade, peer: Peer, admitted: Admitted) {
    if let Some((tcp, leftover)) = take_over(upgrade).await {
        begin(&edge, tcp, leftover, peer, admitted);
    }
}

/// Has a socket served to its end in a task of its own, which is as small as it can be: most of them sleep for hours.
fn begin(edge: &Edge, tcp: TcpStream, leftover: Bytes, peer: Peer, admitted: Admitted) {
    let Admitted { setup, place, lease } = admitted;
    let (counted, places) = (Counted::watching("socket"), (place, peer.place));
    let serving = connection::serve(tcp, leftover, setup, lease, edge.per_connection.clone(), edge.drain.clone());
    edge.tasks.spawn(serving.map(move |()| drop((counted, places))));
}

/// Closes a socket as soon as it is open, in a way that its client understands.
async fn send_away(edge: Arc<Edge>, upgrade: OnUpgrade, close: Close, peer: Peer) {
    if let Some((tcp, _)) = take_over(upgrade).await {
        farewell(&edge, tcp, &close).await;
    }
    drop(peer);
}

/// Closes an open socket that shows nothing yet.
async fn farewell(edge: &Edge, mut tcp: TcpStream, close: &Close) {
    let closing = async {
        if tcp.write_all(&websocket::close_frame(close)).await.is_ok() && tcp.shutdown().await.is_ok() {
            read_to_end(&mut tcp).await;
        }
    };
    // Whoever does not answer the close is closed all the same.
    let _late = timeout(edge.per_connection.close_timeout, closing).await;
}

/// A socket dropped with unread bytes in it takes the close frame back.
pub(crate) async fn read_to_end(tcp: &mut TcpStream) {
    let mut thrown_away = [0; 1024];
    while tcp.read(&mut thrown_away).await.is_ok_and(|read| read > 0) {}
}
