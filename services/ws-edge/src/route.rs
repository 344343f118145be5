//! A path under which a session can be watched: from a request to a connection.

mod introduction;
mod serving;
mod unwatched;
mod watch;

use std::{borrow::Cow, sync::Arc};

use herald_protocol::{Name, Position, SessionId};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use percent_encoding::percent_decode_str;

use crate::{
    admission::{self, BadParameter, Gate},
    answer::{self, Answer},
    beat::Beats,
    config::{ListenerConfig, PresenceMode, Refuse, RouteConfig, StartConfig, Transport},
    dialect::{Avatars, Dialect, DialectName},
    door::Peer,
    edge::{Edge, Upstream},
    feed::{Setup, Start, Target},
    guests::{Entrance, Guest, MailLimits},
    handshake::{Asked, Handshake},
    identity::{Identity, Lease, LetIn, Refusal, Verifier},
    newest::NewestRule,
    replay,
    uplink::UplinkRule,
    view::{Delivery, Encoding, Topics, View, ViewOptions, Visible},
};
pub(crate) use serving::read_to_end;
use serving::{send_away, serve, stream};
use unwatched::Unwatched;
use watch::{Admitted, Pass, Permit, Wanted, Watch};

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
    /// Whether the past is played again on it.
    plays: bool,
    options: ViewOptions,
    beats: Option<Arc<Beats>>,
    refuse: Refuse,
    /// What it asks an engine before it lets somebody in.
    gate: Option<Gate>,
    /// What only some of those see whom it lets in.
    visible: Vec<Visible>,
    /// What all of them have in common.
    entrance: Arc<Entrance>,
}

impl Route {
    /// The route that `config` describes, on that listener.
    #[must_use]
    pub fn new(
        config: &RouteConfig,
        listener: &ListenerConfig,
        avatars: Option<&Arc<Avatars>>,
        mail: &MailLimits,
    ) -> Self {
        let entrance = Entrance {
            listener: listener.name.to_string(),
            path: config.path.clone(),
            stream: config.stream.clone(),
            root: config.roots.first().map_or("", Name::as_str).into(),
            transport: config.transport,
            uplink: UplinkRule::of(config),
            newest: config.newest.as_ref().map(|newest| Arc::new(NewestRule::of(newest))),
            presence: config.tells(listener),
            mail: mail.clone(),
        };
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
                StartConfig::Replay => Start::After(Position::Seq(0)),
            },
            plays: config.plays(),
            options: ViewOptions {
                topics: config.topics.clone(),
                delivery: config.delivery,
                close_on: config.close_on.clone(),
            },
            beats: config.heartbeat.as_ref().and_then(Beats::new),
            refuse: config.refuse,
            gate: Gate::of(config, listener),
            visible: config.visible.clone(),
            entrance: Arc::new(entrance),
        }
    }

    /// Whether what it sends in that dialect can be proven to be all: `herald.v1` is for that. Bare payloads have no room for it,
    /// and whoever gets the newest alone does not get all.
    fn proves(&self, dialect: Option<DialectName>) -> bool {
        dialect.unwrap_or(self.dialect) != DialectName::Raw && self.options.delivery == Delivery::All
    }

    /// Whether it shows what happens; else it answers with what has happened.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.transport.is_live()
    }

    /// Whether it speaks WebSocket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.transport == Transport::Socket
    }

    /// Answers a GET for `session`, percent-encoded as it came: an open stream, or why there is none. Whatever is wrong
    /// with the request is said before the upgrade; who may not watch is told behind it, where browsers can see it, unless the
    /// route wants it otherwise.
    /// `verifier`: verifies the token of a socket that has none yet.
    pub async fn answer(
        self: &Arc<Self>,
        edge: &Arc<Edge>,
        session: &str,
        head: Parts,
        identity: Result<Identity, Refusal>,
        verifier: Option<&Arc<Verifier>>,
        peer: Peer,
    ) -> Answer {
        let identity = match identity {
            // Who has no token is told nothing of what they ask for. On a socket it may still come.
            Err(refusal) if !self.is_socket() => return *Unwatched::Refused(refusal).answer(),
            identity => identity,
        };
        let opened = match self.asked(edge, session, &head, verifier, peer) {
            Ok(watch) => self.open(edge, watch, &head, identity).await,
            Err(answer) => Err(answer),
        };
        match opened {
            Ok(answer) | Err(answer) => *answer,
        }
    }

    /// Answers who is there in `session`, to whoever may watch it: that is decided as for a connection.
    pub async fn who_is_there(
        &self,
        edge: &Edge,
        session: &str,
        head: Parts,
        identity: Identity,
        peer: Peer,
    ) -> Answer {
        if let Err(refusal) = edge.limits.admit_handshake(peer.address.ip()) {
            return refusal.answer();
        }
        match self.told(edge, session, &head, identity, peer).await {
            Ok(answer) => answer,
            Err(answer) => *answer,
        }
    }

    async fn told(
        &self,
        edge: &Edge,
        session: &str,
        head: &Parts,
        identity: Identity,
        peer: Peer,
    ) -> Result<Answer, Box<Answer>> {
        let query = head.uri.query().unwrap_or_default();
        let bad = |error: BadParameter| answer::bad_request(&error.to_string());
        let wanted = self.wanted(session, query).map_err(bad)?;
        let inquire =
            |gate: &Gate| gate.inquiry(wanted.session().cloned(), query, &head.headers, peer.address.ip(), false);
        let inquiry = self.gate.as_ref().map(inquire).transpose().map_err(bad)?;
        let start = self.start;
        let watch = Watch { wanted, dialect: None, pace: None, start, past: None, verifier: None, inquiry, peer };
        let permit = self.permit(&watch, identity).map_err(Unwatched::answer)?;
        let Some(upstream) = edge.upstream() else { return Err(answer::unavailable("NATS is not connected").into()) };
        let presence = upstream.presence.as_ref().ok_or_else(|| Unwatched::NotReady.answer())?;
        let page = presence.wanted(query).map_err(|error| answer::bad_request(&error.to_string()))?;
        let pass = self.pass(upstream, &watch, permit).await.map_err(Unwatched::answer)?;
        Ok(presence.answer(&self.entrance.root, &pass.session, self.entrance.presence, page))
    }

    /// What the request asks for.
    fn asked(
        &self,
        edge: &Edge,
        session: &str,
        head: &Parts,
        verifier: Option<&Arc<Verifier>>,
        peer: Peer,
    ) -> Result<Watch, Box<Answer>> {
        let query = head.uri.query().unwrap_or_default();
        let wanted = self.wanted(session, query).map_err(|error| answer::bad_request(&error.to_string()))?;
        if self.gate.is_none() && matches!(wanted, Wanted::Nonsense) {
            return Err(Unwatched::NoSession.answer());
        }
        let mut asked = Asked::read(query);
        if self.transport == Transport::Sse {
            asked = asked.and_then(|asked| asked.with_last_event_id(&head.headers));
        }
        let asked = asked.map_err(|error| answer::bad_request(&error.to_string()))?;
        let start = asked.start.unwrap_or(self.start);
        if start == Start::Snapshot && self.snapshot.is_empty() {
            return Err(answer::bad_request("snapshot: there is none on this path").into());
        }
        let past = self.past_asked(edge, query)?;
        if asked.pace.is_some() && !self.plays {
            return Err(answer::bad_request("speed: nothing is played on this path").into());
        }
        let start = match start {
            Start::After(_) => start,
            _ if past.is_some() => Start::After(Position::Seq(0)),
            _ => start,
        };
        let resumes = matches!(asked.start, Some(Start::After(_)));
        let inquiry = self
            .gate
            .as_ref()
            .map(|gate| gate.inquiry(wanted.session().cloned(), query, &head.headers, peer.address.ip(), resumes));
        let inquiry = inquiry.transpose().map_err(|error| answer::bad_request(&error.to_string()))?;
        Ok(Watch {
            wanted,
            dialect: asked.dialect,
            pace: asked.pace,
            start,
            past,
            verifier: verifier.cloned(),
            inquiry,
            peer,
        })
    }

    /// What is asked for of the past; `None` where the route shows what happens.
    fn past_asked(&self, edge: &Edge, query: &str) -> Result<Option<replay::Asked>, Box<Answer>> {
        match self.transport {
            Transport::Socket | Transport::Sse => Ok(None),
            Transport::Session => Ok(Some(replay::Asked::Session)),
            Transport::Events => {
                let page = edge.replays.page_query(query, &self.roots);
                let page = page.map_err(|error| answer::bad_request(&error.to_string()))?;
                Ok(Some(replay::Asked::Events(page)))
            }
        }
    }

    /// Which session is asked for: in the path, or in the query where the path has no place for it.
    fn wanted(&self, in_path: &str, query: &str) -> Result<Wanted, BadParameter> {
        let id = match self.gate.as_ref().and_then(Gate::session) {
            None => percent_decode_str(in_path).decode_utf8().ok().map(Cow::into_owned),
            Some(name) => match admission::parameter(query, name) {
                Ok(None) => return Ok(Wanted::Any),
                Err(BadParameter::NoText(_)) => None,
                id => id?,
            },
        };
        Ok(id.and_then(|id| SessionId::new(&id).ok()).map_or(Wanted::Nonsense, Wanted::One))
    }

    async fn open(
        self: &Arc<Self>,
        edge: &Arc<Edge>,
        watch: Watch,
        head: &Parts,
        identity: Result<Identity, Refusal>,
    ) -> Result<Box<Answer>, Box<Answer>> {
        let mut handshake = if self.is_socket() { Some(Handshake::read(head)?) } else { None };
        if let Some(handshake) = &mut handshake {
            handshake.v1 &= self.proves(watch.dialect);
        }
        let permit = identity.map_err(Unwatched::Refused).and_then(|identity| self.permit(&watch, identity));
        let permit = match (&handshake, permit) {
            (None, Err(unwatched)) => return Err(unwatched.answer()),
            (_, permit) => permit,
        };
        if edge.drain.is_called() {
            return Err(answer::unavailable("Shutting down").into());
        }
        let Some(upstream) = edge.upstream() else { return Err(answer::unavailable("NATS is not connected").into()) };
        let encoding = match &handshake {
            Some(Handshake { v1: true, .. }) => Encoding::V1,
            Some(_) => Encoding::Plain,
            None => Encoding::Sse,
        };
        let pass = match permit {
            Ok(permit) => self.pass(upstream, &watch, permit).await,
            Err(unwatched) => Err(unwatched),
        };
        if watch.past.is_some() {
            let request = pass.and_then(|pass| self.past(edge, upstream, watch, &pass));
            return Ok(edge.replays.answer(request.map_err(Unwatched::answer)?, &head.headers).await.into());
        }
        let admitted = pass.and_then(|pass| self.admit(edge, upstream, &watch, encoding, &pass));
        let Some(handshake) = handshake else {
            let admitted = admitted.map_err(Unwatched::answer)?;
            if admitted.setup.is_finished().await {
                return Ok(answer::no_content().into());
            }
            return Ok(stream(edge, watch, admitted).into());
        };
        let Some(upgrade) = head.extensions.get::<OnUpgrade>().cloned() else {
            return Err(answer::bad_request("This connection can't be upgraded").into());
        };
        let edge = edge.clone();
        match admitted {
            Ok(admitted) => edge.tasks.clone().spawn(serve(edge, upgrade, watch.peer, admitted)),
            Err(unwatched) if self.refuse == Refuse::Answer => return Err(unwatched.answer()),
            Err(Unwatched::NotReady) => return Err(Unwatched::NotReady.answer()),
            Err(unwatched) => {
                // Who is asked who they are, or is sent away, has a place of their address's as long as that takes.
                let guest = edge.limits.admit_guest(&watch.peer.place, watch.peer.address.ip());
                let guest = guest.map_err(|refusal| refusal.answer())?;
                match unwatched {
                    Unwatched::Refused(Refusal::Missing) => {
                        edge.tasks.clone().spawn(self.clone().introduce(edge, upgrade, watch, encoding, guest))
                    }
                    other => edge.tasks.clone().spawn(send_away(edge, upgrade, other.close(), (watch.peer, guest))),
                }
            }
        };
        Ok(handshake.answer().into())
    }

    /// Whether somebody may watch by what is known of them: all of it, or, where an engine is asked too, whether it is.
    fn permit(&self, watch: &Watch, identity: Identity) -> Result<Permit, Unwatched> {
        let alias = self.alias.is_some();
        let allowed = match (&watch.wanted, &self.gate) {
            (Wanted::Nonsense, _) => return Err(Unwatched::NoSession),
            (wanted, Some(_)) => identity.may_ask_for(wanted.session(), alias),
            (Wanted::One(session), None) => {
                if alias {
                    identity.may_open_all()
                } else {
                    identity.may_open(session)
                }
            }
            (Wanted::Any, None) => false,
        };
        if allowed { Ok(Permit(identity)) } else { Err(Unwatched::Refused(Refusal::Session)) }
    }

    /// Asks the engine, where the route has one, whether somebody may watch, and what. With the permit this is the one place
    /// where that is decided: whatever is shown of a session, its past, its snapshot or what comes next, is shown by a pass.
    async fn pass(&self, upstream: &Upstream, watch: &Watch, Permit(identity): Permit) -> Result<Pass, Unwatched> {
        let welcome = match (&self.gate, &watch.inquiry) {
            (Some(gate), Some(inquiry)) => {
                let admission = upstream.admissions.get(gate.service()).ok_or(Unwatched::NotReady)?;
                let decided = admission.decide(inquiry, identity.claims().map(|claims| &**claims)).await;
                Some(decided.map_err(Unwatched::NotAdmitted)?)
            }
            _ => None,
        };
        let named = welcome.as_ref().and_then(|welcome| welcome.session.as_ref());
        let session = named.or(watch.wanted.session()).ok_or(Unwatched::NoSession)?.clone();
        let hub = upstream.hubs.get(&self.stream).ok_or(Unwatched::NotReady)?;
        if !hub.past.has_come_to(&session).await {
            return Err(Unwatched::NotReady);
        }
        let pass = Pass { identity, session, welcome };
        tracing::debug!(session = %pass.session, user = pass.user(), role = pass.role(), name = pass.name(), "let in");
        Ok(pass)
    }

    /// What somebody needs who may watch.
    fn admit(
        &self,
        edge: &Edge,
        upstream: &Upstream,
        watch: &Watch,
        encoding: Encoding,
        pass: &Pass,
    ) -> Result<Admitted, Unwatched> {
        let (peer, session) = (&watch.peer, &pass.session);
        let place = edge.limits.admit_watching(&peer.place, peer.address.ip(), pass.user(), session);
        let place = place.map_err(Unwatched::OverLimit)?;
        let played = watch.pace.map(|pace| edge.replays.play(pace).ok_or(Unwatched::Busy)).transpose()?;
        let setup = self.setup(edge, upstream, watch, pass, encoding).filter(|setup| !setup.misses_now());
        let setup = Setup { played, ..setup.ok_or(Unwatched::NotReady)? };
        let lease = watch.verifier.as_ref().zip(pass.identity.claims());
        let lease = lease.map(|(verifier, claims)| {
            let let_in = self.let_in(upstream, watch, pass);
            Box::new(Lease::new(verifier.clone(), claims.clone(), let_in, self.asks_who()))
        });
        Ok(Admitted { setup, place, lease })
    }

    /// What somebody asks for of the past who may watch: that is counted as watching is, for as long as it takes.
    fn past(&self, edge: &Edge, upstream: &Upstream, watch: Watch, pass: &Pass) -> Result<replay::Request, Unwatched> {
        let (peer, session) = (&watch.peer, pass.session.clone());
        let place = edge.limits.admit_watching(&peer.place, peer.address.ip(), pass.user(), &session);
        let place = place.map_err(Unwatched::OverLimit)?;
        let view = Arc::new(self.view(&watch, pass, Encoding::Plain));
        let hub = upstream.hubs.get(&self.stream).cloned().ok_or(Unwatched::NotReady)?;
        let (Some(asked), Start::After(after)) = (watch.past, watch.start) else { return Err(Unwatched::NotReady) };
        Ok(replay::Request { hub, session, view, asked, after, place, abort: peer.abort.clone() })
    }

    /// What to ask the engine again when something else is true of somebody.
    fn let_in(&self, upstream: &Upstream, watch: &Watch, pass: &Pass) -> Option<LetIn> {
        let (gate, inquiry) = self.gate.as_ref().zip(watch.inquiry.clone())?;
        let admission = upstream.admissions.get(gate.service())?.clone();
        let who = self.asks_who().then(|| pass.who());
        Some(LetIn { admission, inquiry, alias: self.alias.is_some(), session: pass.session.clone(), who })
    }

    /// Whether what somebody is shown, or is told of them, depends on who they are.
    fn asks_who(&self) -> bool {
        let Entrance { uplink, newest, presence, .. } = &*self.entrance;
        !self.visible.is_empty() || uplink.is_some() || newest.is_some() || *presence != PresenceMode::Off
    }

    /// `None` where the route's stream or bucket is not followed by this process, which it is once the process is up.
    fn setup(&self, edge: &Edge, upstream: &Upstream, watch: &Watch, pass: &Pass, encoding: Encoding) -> Option<Setup> {
        let target = match &self.alias {
            None => Target::Session(pass.session.clone()),
            Some(bucket) => Target::Alias(upstream.aliases.get(bucket)?.watch(&pass.session)),
        };
        let view = self.view(watch, pass, encoding);
        let (hub, view) = (upstream.hubs.get(&self.stream)?.clone(), edge.views.intern(view));
        let guest = Guest::new(&self.entrance, &view, pass.who(), watch.peer.address.ip());
        let stay = upstream.guests.admit(guest);
        let uplink = upstream.uplink.clone().filter(|_| self.entrance.uplink.is_some());
        // Clients of `herald.v1` have a beat of their own.
        let beat = self.beats.as_ref().filter(|_| encoding != Encoding::V1).map(Beats::of_one);
        Some(Setup { hub, view, target, start: watch.start, now: None, stay, uplink, beat, played: None }.begun())
    }

    /// What somebody sees, and how.
    fn view(&self, watch: &Watch, pass: &Pass, encoding: Encoding) -> View {
        View {
            roots: self.roots.clone(),
            hidden: self.hidden.clone(),
            snapshot: self.snapshot.clone(),
            dialect: Dialect::new(watch.dialect.unwrap_or(self.dialect), self.avatars.as_ref()),
            encoding,
            veils: self.visible.iter().filter_map(|rule| rule.veil(pass.user(), pass.role())).collect(),
            options: self.options.clone(),
        }
    }
}
