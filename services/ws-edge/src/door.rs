//! What is to be had at one listener: finding the place a request asks for.

use std::{
    collections::{BTreeSet, HashSet},
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, request::Parts};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower_http::{
    cors::{AllowHeaders, AllowMethods, CorsLayer, ExposeHeaders},
    services::ServeDir,
};

use crate::{
    answer::{self, Answer, ErrorBody},
    asyncapi,
    config::{Auth, ListenerConfig},
    dialect::Avatars,
    edge::Edge,
    files::Files,
    forward::Forward,
    health::{self, Health},
    hosts::Hosts,
    identity::{Identity, Refusal, Verifier, token::Token},
    inspect::{Inspector, operators::List},
    limits::{ConnectionTicket, Trust},
    openapi::{self, Document},
    origins::Origins,
    page,
    path::Pattern,
    pictures::{self, PicturesError},
    proxy::Vouched,
    route::Route,
    selftest::{self, Selftest},
};

/// How long a browser may keep the answer to a preflight, in seconds.
const PREFLIGHT_AGE: u64 = 600;
/// How long a browser may show a picture without asking again.
const PICTURE_AGE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// The client at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address: the client's own, as far as the proxies in between are trusted.
    pub address: SocketAddr,
    /// How that is known.
    pub vouched: Vouched,
    /// Ends its connection at once.
    pub abort: CancellationToken,
    /// Its place among the connections of the process, kept for as long as the connection lives.
    pub place: Arc<ConnectionTicket>,
}

/// One listener's routes, forwards and pictures.
pub struct Door {
    edge: Arc<Edge>,
    /// The special before the general.
    places: Vec<(Pattern, Place)>,
    origins: Origins,
    /// Whether their pages may ask with credentials.
    credentials: bool,
    hosts: Hosts,
    selftest: Selftest,
    /// What is to be had here, by path.
    documents: Vec<(&'static str, Document)>,
    /// What it says of its health where no service does, and of these streams.
    health: Option<(Arc<Health>, Vec<String>)>,
    /// What is served where there is nothing else.
    files: Option<Files>,
    /// Whether people get the page here.
    page: bool,
    /// The shape of its errors.
    errors: ErrorBody,
    /// Verifies the tokens it asks for; without, it asks nobody.
    verifier: Option<Arc<Verifier>>,
    /// Shows operators who is here.
    inspector: Arc<Inspector>,
}

enum Place {
    Route(Arc<Route>),
    /// Who is there on that route.
    Presence(Arc<Route>),
    /// With the shape of its errors.
    Forward(Box<Forward>, ErrorBody),
    Pictures(Pictures),
}

struct Pictures {
    base: String,
    names: Vec<String>,
    files: ServeDir,
}

impl Door {
    /// The door that `config` describes.
    ///
    /// # Errors
    /// Where its folder of pictures can't be read.
    pub(crate) fn new(
        config: &ListenerConfig,
        edge: &Arc<Edge>,
        inspector: &Arc<Inspector>,
    ) -> Result<Self, PicturesError> {
        let pictures =
            config.avatars.as_ref().map(|folder| Pictures::read(folder, &config.avatars_path)).transpose()?;
        let avatars = pictures
            .as_ref()
            .and_then(|pictures| Avatars::new(&pictures.base, pictures.names.iter().map(String::as_str)).map(Arc::new));
        // Patterns that don't parse are refused by the configuration's check.
        let mut places: Vec<(Pattern, Place)> = Vec::new();
        let mut asked = HashSet::new();
        for route in &config.routes {
            let Ok(pattern) = route.path.parse() else { continue };
            let place = Arc::new(Route::new(route, config, avatars.as_ref(), &edge.mail));
            places.push((pattern, Place::Route(place.clone())));
            if let Some((path, _)) = route.presence_asked(config)
                && asked.insert(path)
            {
                places.extend(path.parse().ok().map(|pattern| (pattern, Place::Presence(place))));
            }
        }
        let health = Health::new(&config.health.clone().unwrap_or_default()).map(Arc::new);
        for forward in &config.forwards {
            let Some(health) = &health else { continue };
            let errors = forward.error_body.unwrap_or(config.error_body);
            for path in &forward.paths {
                let place = Forward::new(forward, Trust::of(config), health, &edge.forwards)
                    .map(|forward| Place::Forward(Box::new(forward.believing_traces(config.traceparent)), errors));
                places.extend(path.parse().ok().zip(place));
            }
        }
        if let Some(pictures) = pictures {
            places.extend(
                format!("{}/*", pictures.base).parse().ok().map(|pattern| (pattern, Place::Pictures(pictures))),
            );
        }
        places.sort_by(|(one, _), (other, _)| one.specificity(other));
        let verifier = edge.verifier.clone().filter(|_| config.auth == Auth::Jwt);
        let (origins, hosts) = (Origins::new(&config.origins), Hosts::new(&config.hosts));
        let selftest = Selftest::new(config);
        let in_query = verifier.as_ref().is_some_and(|verifier| verifier.reads_query());
        let documents = if config.openapi {
            vec![
                (openapi::PATH, Document::new(config, in_query)),
                (asyncapi::PATH, asyncapi::document(config, in_query)),
            ]
        } else {
            Vec::new()
        };
        let streams: BTreeSet<_> = config.routes.iter().map(|route| route.stream.clone()).collect();
        // Without a word of it there is no such path.
        let health = health.filter(|_| config.health.is_some()).map(|health| (health, streams.into_iter().collect()));
        let files = config.files.as_ref();
        let files = files.map(|folder| Files::new(folder, edge.max_files, &edge.limits, Trust::of(config)));
        let (page, errors) = (config.page, config.error_body);
        Ok(Self {
            edge: edge.clone(),
            places,
            origins,
            credentials: config.credentials,
            hosts,
            selftest,
            documents,
            health,
            files,
            page,
            errors,
            verifier,
            inspector: inspector.clone(),
        })
    }

    /// Whom browsers may let talk to us, preflights (200 on any path) included.
    pub fn cors(&self) -> CorsLayer {
        CorsLayer::new()
            .allow_origin(self.origins.cors(self.credentials))
            .allow_credentials(self.credentials)
            .allow_methods(AllowMethods::mirror_request())
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(ExposeHeaders::list([http::header::ETAG, http::header::RETRY_AFTER]))
            .max_age(std::time::Duration::from_secs(PREFLIGHT_AGE))
    }

    /// The same answer; if it is an error of ours that has no shape yet, in that of this listener.
    pub fn shape(&self, answer: Answer) -> Answer {
        self.errors.shape(answer)
    }

    /// Whether a request asks for us by one of the names that we have.
    pub fn is_asked_by_name<B>(&self, request: &Request<B>) -> bool {
        self.hosts.allow(request.uri(), request.headers())
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Answer {
        let (found, but_for_get) = self.find(request.method(), request.uri().path());
        let answer = match found {
            None if but_for_get => answer::method_not_allowed("GET"),
            None => self.unconfigured(&request, &peer).await,
            Some((Place::Forward(forward, errors), _)) => errors.shape(self.forwarded(forward, request, &peer).await),
            Some((Place::Pictures(pictures), _)) => pictures.answer(&request).await,
            Some((Place::Presence(route), session)) => {
                if request.method() != Method::GET {
                    return answer::method_not_allowed("GET");
                }
                if !self.origins.allow(request.headers()) {
                    return answer::error(StatusCode::FORBIDDEN, "Origin not allowed");
                }
                let session = session.to_owned();
                let (head, _) = request.into_parts();
                match self.identify(self.token(&head)).await {
                    Ok(identity) => Box::pin(route.who_is_there(&self.edge, &session, head, identity, peer)).await,
                    Err(refusal) => refusal.answer(),
                }
            }
            Some((Place::Route(route), session)) => {
                if request.method() != Method::GET {
                    return answer::method_not_allowed("GET");
                }
                if session == selftest::NAME && route.is_live() {
                    return self.selftest.answer(&self.edge, route.is_socket(), request, peer);
                }
                if !self.origins.allow(request.headers()) {
                    return answer::error(StatusCode::FORBIDDEN, "Origin not allowed");
                }
                // Before a token is looked at: verifying one costs more than refusing it.
                if let Err(refusal) = self.edge.limits.admit_handshake(peer.address.ip()) {
                    return refusal.answer();
                }
                let session = session.to_owned();
                let (head, _) = request.into_parts();
                let identity = self.identify(self.token(&head)).await;
                let answer = route.answer(&self.edge, &session, head, identity, self.verifier.as_ref(), peer);
                // On the heap for as long as it takes: else each connection would keep the room for it.
                Box::pin(answer).await
            }
        };
        if but_for_get { answer::allowing_get(answer) } else { answer }
    }

    /// The place that a request asks for, with its session; and whether the path has another one by GET. A session's past is read
    /// by that; what else its path is for, another place may know.
    fn find<'p>(&self, method: &Method, path: &'p str) -> (Option<(&Place, &'p str)>, bool) {
        let mut but_for_get = false;
        for (pattern, place) in &self.places {
            let Some(session) = pattern.matches(path) else { continue };
            if !place.is_past() || *method == Method::GET {
                return (Some((place, session)), but_for_get);
            }
            but_for_get = true;
        }
        (None, but_for_get)
    }

    /// What there is where the configuration has no route and no forward.
    async fn unconfigured(&self, request: &Request<Incoming>, peer: &Peer) -> Answer {
        let path = request.uri().path();
        if let Some((_, document)) = self.documents.iter().find(|(known, _)| *known == path) {
            return document.answer(request.method());
        }
        if let Some((list, verifier)) = List::at(path).zip(self.verifier.as_ref()) {
            return Box::pin(self.shown_to_operators(list, verifier, request, peer)).await;
        }
        match (&self.health, &self.files) {
            (Some((health, streams)), _) if path == health::PATH => {
                health.answer(request.method(), self.edge.upstream(), streams)
            }
            // On the heap, as a route's answer.
            (_, Some(files)) => Box::pin(files.answer(request, peer.address.ip())).await,
            _ => {
                let page = self.page.then(|| page::answer(request.method(), path, request.headers()));
                page.flatten().unwrap_or_else(answer::not_found)
            }
        }
    }

    /// A list of who is here, for operators; where nobody is asked who they are there is none.
    async fn shown_to_operators(
        &self,
        list: List,
        verifier: &Verifier,
        request: &Request<Incoming>,
        peer: &Peer,
    ) -> Answer {
        if request.method() != Method::GET {
            return answer::method_not_allowed("GET");
        }
        if !self.origins.allow(request.headers()) {
            return answer::error(StatusCode::FORBIDDEN, "Origin not allowed");
        }
        if let Err(refusal) = self.edge.limits.admit_handshake(peer.address.ip()) {
            return refusal.answer();
        }
        let (mut head, ()) = Request::builder().uri(request.uri()).body(()).unwrap_or_default().into_parts();
        head.headers.clone_from(request.headers());
        match self.identify(self.token(&head)).await {
            Ok(identity) if verifier.is_operator(&identity) => {}
            Ok(_) => return Refusal::NoOperator.answer(),
            Err(refusal) => return refusal.answer(),
        }
        verifier.strip(&mut head);
        list.answer(&self.inspector, &head.uri).await
    }

    async fn forwarded(&self, forward: &Forward, request: Request<Incoming>, peer: &Peer) -> Answer {
        if forward.is_for_commands() && !self.origins.allow_command(request.headers()) {
            return answer::error(StatusCode::FORBIDDEN, "Origin not allowed");
        }
        let (mut head, body) = request.into_parts();
        let entered = match forward.enter(&head, peer.address) {
            Ok(entered) => entered,
            Err(answer) => return *answer,
        };
        // Whoever asks whether we are well has no token: load balancers, mostly.
        let token = if forward.is_health() { None } else { self.token(&head) };
        let identity = match self.identify(token).await {
            Ok(identity) => identity,
            Err(refusal) => return refusal.answer(),
        };
        if let Some(verifier) = &self.verifier {
            verifier.strip(&mut head);
        }
        let client = self.edge.upstream().map(|upstream| &upstream.client);
        forward.answer(client, Request::from_parts(head, body), &identity, entered).await
    }

    /// The token of a request; `None` where nobody is asked for one.
    fn token(&self, head: &Parts) -> Option<Result<Token, Refusal>> {
        self.verifier.as_ref().map(|verifier| verifier.find(head))
    }

    async fn identify(&self, token: Option<Result<Token, Refusal>>) -> Result<Identity, Refusal> {
        match (&self.verifier, token) {
            (Some(verifier), Some(token)) => Ok(Identity::Known(verifier.verify(&token?).await?)),
            _ => Ok(Identity::Anonymous),
        }
    }
}

impl Place {
    /// Whether it answers with what has happened.
    fn is_past(&self) -> bool {
        matches!(self, Self::Route(route) if !route.is_live())
    }
}

impl Pictures {
    fn read(folder: &PathBuf, base: &str) -> Result<Self, PicturesError> {
        let files = ServeDir::new(folder).append_index_html_on_directories(false);
        Ok(Self { base: base.to_owned(), names: pictures::read(folder)?, files })
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer::method_not_allowed("GET, HEAD");
        }
        let name = request.uri().path().strip_prefix(self.base.as_str()).unwrap_or_default().trim_start_matches('/');
        let Some(name) = self.names.iter().find(|known| *known == name) else { return answer::not_found() };
        let mut file = Request::new(Body::empty());
        file.method_mut().clone_from(request.method());
        file.headers_mut().clone_from(request.headers());
        // Names of pictures are made of characters that paths are made of.
        *file.uri_mut() = Uri::try_from(format!("/{name}")).unwrap_or_default();
        let Ok(response) = self.files.clone().try_call(file).await else { return answer::not_found() };
        if response.status() == StatusCode::NOT_FOUND {
            return answer::not_found();
        }
        let mut response: Answer = response.map(Body::new);
        response.headers_mut().insert(http::header::CACHE_CONTROL, PICTURE_AGE);
        response
    }
}

/// hyper's services can't fail; neither does the door.
pub(crate) type Served = Result<Response<Body>, Infallible>;
