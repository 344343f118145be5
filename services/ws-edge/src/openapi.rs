//! `/openapi.json`: what is to be had at a listener by HTTP, as an OpenAPI 3.1 document.
//!
//! What the door answers itself is written in `openapi/door.json`, once for the routes of all games. What a service answers
//! is written beside the built-in game that it belongs to; of other services it is only known that requests are passed on.
//! The listener's configuration says which of that is there, under which paths, and what else each may be answered. The
//! tests compare it with what is answered indeed.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderValue, Method, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde_json::{Map, Value, json};

use crate::{
    answer::{self, Answer, ErrorBody, NO_STORE},
    asyncapi,
    config::{Auth, ForwardConfig, ListenerConfig, PresenceMode, Refuse, RouteConfig, Transport, api_of},
    health,
    inspect::operators::List,
    page,
    path::Pattern,
    selftest,
};

/// Where it is to be had, unless something else is there by configuration.
pub const PATH: &str = "/openapi.json";

const DOOR: &str = include_str!("openapi/door.json");
/// The methods of a path that is passed on, whatever they do there.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

type Object = Map<String, Value>;

/// The document of one listener.
#[derive(Debug, Clone)]
pub struct Document(Bytes);

impl Document {
    /// That of the listener that `config` describes, built-in routes and forwards included. `in_query`: a token may stand in the
    /// query.
    #[must_use]
    pub fn new(config: &ListenerConfig, in_query: bool) -> Self {
        Self::of(&Draft::new(config, in_query).written())
    }

    /// Another document about the same listener.
    pub(crate) fn of(written: &Value) -> Self {
        Self(written.to_string().into())
    }

    /// Answers a request for it. It is for everybody: whoever is to bring a token reads in it how.
    #[must_use]
    pub fn answer(&self, method: &Method) -> Answer {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return answer::method_not_allowed("GET, HEAD");
        }
        let mut answer = Response::new(Body::from(self.0.clone()));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        answer
    }
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Place<'a> {
    Route(&'a RouteConfig),
    Presence(&'a RouteConfig, PresenceMode),
    Forward(&'a ForwardConfig),
    Pictures,
}

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// Everybody.
    Anybody,
    /// Who has a token, if the listener asks for one.
    Known,
    /// The same, but who has none yet may bring it later.
    KnownLater,
}

struct Draft<'a> {
    config: &'a ListenerConfig,
    /// The texts of `door.json`.
    texts: Value,
    /// What the listener has, the special before the general.
    places: Vec<(Pattern, &'a str, Place<'a>)>,
    document: Value,
    ids: HashSet<String>,
}

impl<'a> Draft<'a> {
    fn new(config: &'a ListenerConfig, in_query: bool) -> Self {
        let texts = parsed(DOOR);
        let mut document = texts["document"].clone();
        document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
        let mut bearers = vec![json!({ "bearer": [] })];
        bearers.extend(in_query.then(|| json!({ "query": [] })));
        match config.auth {
            Auth::Jwt => document["security"] = bearers.into(),
            Auth::Off => drop(object(&mut document["components"]).remove("securitySchemes")),
        }
        if config.auth == Auth::Jwt && !in_query {
            object(&mut document["components"]["securitySchemes"]).remove("query");
        }
        Self { config, texts, places: places(config), document, ids: HashSet::new() }
    }

    fn written(mut self) -> Value {
        for at in 0..self.places.len() {
            let (path, place) = (self.places[at].1, self.places[at].2);
            match place {
                Place::Route(route) => self.route(at, path, route),
                Place::Presence(route, mode) => self.presence(path, route, mode),
                Place::Forward(forward) => self.forward(at, path, forward),
                Place::Pictures => {
                    let picture = self.operation("picture", Asker::Anybody, false);
                    self.add(&format!("{path}/{{file}}"), "get", picture.clone());
                    self.add(&format!("{path}/{{file}}"), "head", without_body(&picture));
                }
            }
        }
        let own = [
            (PATH, "document_itself", true),
            (asyncapi::PATH, "document_of_events", true),
            (health::PATH, "health", self.config.health.is_some()),
            (page::PATH, "page", self.config.page),
            (page::FILE, "page_file", self.config.page),
            (page::PATH, "index", self.config.files.is_some()),
        ];
        for (path, text, is_there) in own {
            if is_there && self.found(path, "get").is_none() {
                let operation = self.operation(text, Asker::Anybody, false);
                self.add(path, "get", operation.clone());
                self.add(path, "head", without_body(&operation));
            }
        }
        if self.config.auth == Auth::Jwt {
            self.operators();
        }
        self.shape_errors();
        self.document
    }

    /// The lists for operators, where the configuration has nothing else under their paths.
    fn operators(&mut self) {
        let mut is_any = false;
        for (path, list) in List::ALL {
            if self.found(path, "get").is_some() {
                continue;
            }
            let text = match list {
                List::Sessions => "sessions",
                List::Connections => "connections",
            };
            let operation = object(&mut self.texts["operator"][text]).clone();
            let operation = self.guarded(operation, Asker::Known, true);
            self.add(path, "get", operation);
            is_any = true;
        }
        for kind in ["parameters", "schemas"] {
            let texts = object(&mut self.texts[format!("operator_{kind}")]).clone();
            object(&mut self.document["components"][kind]).extend(texts.into_iter().filter(|_| is_any));
        }
    }

    /// Says of errors what shape they have, if not all have the one that is written down. Those of services have theirs.
    fn shape_errors(&mut self) {
        let forwards = self.config.forwards.iter().filter_map(|forward| forward.error_body);
        if [self.config.error_body].into_iter().chain(forwards).all(|shape| shape == ErrorBody::Error) {
            return;
        }
        let schema = &mut self.document["components"]["schemas"]["Error"];
        let text = schema["properties"]["error"].clone();
        schema["properties"]["detail"] = text;
        object(schema).remove("required");
        schema["anyOf"] = json!([{ "required": ["error"] }, { "required": ["detail"] }]);
        for response in object(&mut self.document["components"]["responses"]).values_mut() {
            let Some(example) = response.pointer_mut("/content/application~1json/example") else { continue };
            let Some(text) = example["error"].as_str().map(str::to_owned) else { continue };
            object(example).remove("error");
            for member in self.config.error_body.members() {
                example[*member] = text.clone().into();
            }
        }
    }

    /// The place that a path leads to; its parameters are of what no literal is made of. The past is read by GET alone.
    fn found(&self, path: &str, method: &str) -> Option<usize> {
        self.places.iter().position(|(pattern, _, place)| {
            let is_past = matches!(place, Place::Route(route) if !route.transport.is_live());
            pattern.matches(path).is_some() && (!is_past || method == "get")
        })
    }

    fn route(&mut self, at: usize, path: &str, route: &RouteConfig) {
        if !route.transport.is_live() {
            return self.past(path, route);
        }
        let parameter = |name: &str| json!({ "$ref": format!("#/components/parameters/{name}") });
        let is_socket = route.transport == Transport::Socket;
        let answers = !is_socket || route.refuse == Refuse::Answer;
        let (text, asker) = match (is_socket, answers) {
            (true, false) => ("socket", Asker::KnownLater),
            (true, true) => ("socket", Asker::Known),
            (false, _) => ("events", Asker::Known),
        };
        let mut operation = self.operation(text, asker, true);
        let in_path = path.contains("{sid}");
        let mut parameters = session_of(path, route);
        parameters.push(parameter("After"));
        parameters.extend(route.plays().then(|| [parameter("Speed"), parameter("MaxGap")]).into_iter().flatten());
        if route.admit.is_some() && answers {
            // Else a socket is told behind the handshake.
            not_let_in(&mut operation);
        }
        parameters.extend((!route.snapshot.is_empty()).then(|| parameter("Snapshot")));
        parameters.push(parameter("Dialect"));
        parameters.extend(operation["parameters"].as_array().cloned().unwrap_or_default());
        operation.insert("parameters".into(), parameters.into());
        self.add(path, "get", operation);
        let selftest = path.replace("{sid}", selftest::NAME);
        if in_path && self.found(&selftest, "get") == Some(at) {
            let operation = self.operation(&format!("{text}_selftest"), Asker::Anybody, false);
            self.add(&selftest, "get", operation);
        }
    }

    fn presence(&mut self, path: &str, route: &RouteConfig, mode: PresenceMode) {
        let mut operation = self.operation("presence", Asker::Known, true);
        let mut parameters = session_of(path, route);
        if route.admit.is_some() {
            not_let_in(&mut operation);
        }
        if mode == PresenceMode::List {
            parameters.extend(self.texts["presence_parameters"].as_array().into_iter().flatten().cloned());
        }
        operation.insert("parameters".into(), parameters.into());
        let schemas = object(&mut self.texts["presence_schemas"]).clone();
        object(&mut self.document["components"]["schemas"]).extend(schemas);
        self.add(path, "get", operation);
    }

    /// A route that answers with what has happened.
    fn past(&mut self, path: &str, route: &RouteConfig) {
        let is_page = route.transport == Transport::Events;
        let mut operation = self.operation(if is_page { "past_events" } else { "past_session" }, Asker::Known, true);
        let parameter = |name: &str| json!({ "$ref": format!("#/components/parameters/{name}") });
        let mut parameters = session_of(path, route);
        if route.admit.is_some() {
            not_let_in(&mut operation);
        }
        if is_page {
            parameters.extend([parameter("After"), parameter("Limit"), types(route), parameter("Dialect")]);
        }
        operation.insert("parameters".into(), parameters.into());
        self.add(path, "get", operation);
    }

    fn forward(&mut self, at: usize, path: &str, forward: &ForwardConfig) {
        let asker = if forward.health { Asker::Anybody } else { Asker::Known };
        let mut api = forward.service.as_ref().and_then(api_of).map(parsed).unwrap_or_default();
        let mut known = false;
        for (inner, item) in api["paths"].as_object_mut().map(std::mem::take).unwrap_or_default() {
            let outer = format!("{}{inner}", forward.strip);
            let operations = item.as_object().cloned().unwrap_or_default().into_iter();
            for (method, mut operation) in operations {
                if self.found(&outer, &method) != Some(at) {
                    continue;
                }
                known = true;
                if method == "head" {
                    operation = item["get"].clone();
                }
                let mut operation = self.passed_on(object(&mut operation).clone(), forward, asker);
                if method == "head" {
                    operation = without_body(&operation);
                }
                self.add(&outer, &method, operation);
            }
        }
        if known {
            for (kind, components) in api["components"].as_object_mut().map(std::mem::take).unwrap_or_default() {
                let all = object(&mut self.document["components"][kind]);
                all.extend(components.as_object().cloned().unwrap_or_default());
            }
            return;
        }
        let outer = path.strip_suffix('*').map_or(path.to_owned(), |path| format!("{path}{{rest}}"));
        for method in METHODS {
            if self.found(&outer, method) != Some(at) {
                // Paths of two segments and more: there is no way to say that.
                continue;
            }
            let mut operation = object(&mut self.texts["forward"]).clone();
            operation.insert("summary".into(), format!("Answered by {}", forward.name).into());
            let rest = json!({ "name": "rest", "in": "path", "required": true, "schema": { "type": "string" } });
            let session = json!({ "$ref": "#/components/parameters/Sid" });
            let named = [("{sid}", session), ("{rest}", rest)].into_iter().filter(|(name, _)| outer.contains(name));
            let parameters: Vec<_> = named.map(|(_, parameter)| parameter).collect();
            if !parameters.is_empty() {
                operation.insert("parameters".into(), parameters.into());
            }
            let operation = self.passed_on(operation, forward, asker);
            self.add(&outer, method, operation);
        }
    }

    /// An operation of the door's own.
    fn operation(&mut self, text: &str, asker: Asker, of_pages: bool) -> Object {
        let operation = object(&mut self.texts[text]).clone();
        self.guarded(operation, asker, of_pages)
    }

    /// An operation of a service, with all that it may be answered on its way there.
    fn passed_on(&mut self, mut operation: Object, forward: &ForwardConfig, asker: Asker) -> Object {
        self.answered(&mut operation, "forwarded");
        if !forward.health {
            self.answered(&mut operation, "unanswered");
        }
        self.guarded(operation, asker, forward.commands)
    }

    /// An operation, with what it is answered where it is not allowed. `of_pages`: not to pages of all origins.
    fn guarded(&mut self, mut operation: Object, asker: Asker, of_pages: bool) -> Object {
        self.answered(&mut operation, "always");
        let asked = self.config.auth == Auth::Jwt;
        let responses = object(operation.entry("responses").or_insert_with(|| json!({})));
        if asked && asker == Asker::Known {
            responses.insert("401".into(), json!({ "$ref": "#/components/responses/NotIdentified" }));
        }
        let all_origins = self.config.origins.iter().any(|origin| origin == "*");
        if asked && asker == Asker::Known || of_pages && !all_origins {
            responses.insert("403".into(), json!({ "$ref": "#/components/responses/NotAllowed" }));
        }
        if !self.config.hosts.is_empty() {
            let error = json!({
                "schema": { "$ref": "#/components/schemas/Error" },
                "example": { "error": "Host: nothing of that name is here" },
            });
            let elsewhere =
                json!({ "description": "Asked for by another name.", "content": { "application/json": error } });
            responses.insert("421".into(), elsewhere);
        }
        match asker {
            Asker::Anybody if asked => drop(operation.insert("security".into(), json!([]))),
            Asker::KnownLater if asked => {
                let mut either = self.document["security"].as_array().cloned().unwrap_or_default();
                either.push(json!({}));
                operation.insert("security".into(), either.into());
            }
            _ => {}
        }
        operation
    }

    /// Adds the answers of a text to those of an operation, which has said the same more exactly where it has said it.
    fn answered(&mut self, operation: &mut Object, text: &str) {
        let responses = object(operation.entry("responses").or_insert_with(|| json!({})));
        for (status, response) in object(&mut self.texts[text]).clone() {
            responses.entry(status).or_insert(response);
        }
    }

    fn add(&mut self, path: &str, method: &str, mut operation: Object) {
        let parts = path.split(['/', '{', '}']).filter(|part| !part.is_empty());
        let name = parts.fold(method.to_owned(), |name, part| name + "_" + part);
        let name = name.replace(|char: char| !char.is_ascii_alphanumeric(), "_");
        let mut id = name.clone();
        for again in 2.. {
            if self.ids.insert(id.clone()) {
                break;
            }
            id = format!("{name}_{again}");
        }
        operation.insert("operationId".into(), id.into());
        object(&mut self.document["paths"][path]).insert(method.to_owned(), operation.into());
    }
}

/// The parameters by which a session is asked for on a route, and those that are handed over to who lets in.
fn session_of(path: &str, route: &RouteConfig) -> Vec<Value> {
    let parameter = |name: &str| json!({ "$ref": format!("#/components/parameters/{name}") });
    let session = match route.alias {
        _ if !path.contains("{sid}") => {
            in_query(&route.session, "The session; without it, the one that is named by who lets in.")
        }
        Some(_) => parameter("Alias"),
        None => parameter("Sid"),
    };
    let handed = route.admit_query.iter().map(|name| in_query(name, "For who says who may come in."));
    [session].into_iter().chain(handed).collect()
}

/// An operation that an engine may say no to.
fn not_let_in(operation: &mut Object) {
    let responses = object(operation.entry("responses").or_insert_with(|| json!({})));
    for (status, name) in [("401", "NotIdentified"), ("403", "NotAllowed")] {
        responses.insert(status.into(), json!({ "$ref": format!("#/components/responses/{name}") }));
    }
}

/// The parameter that says which events of a route are asked for.
fn types(route: &RouteConfig) -> Value {
    let roots = route.roots.iter().map(herald_protocol::Name::as_str).collect::<Vec<_>>();
    // Printable characters without blanks, dots, commas and wildcards.
    let word = "([!-)+\\-/-=?-~]+|\\*)";
    let topics = format!("({})(\\.{word})*\\.({word}|>)", roots.join("|"));
    let example = roots.first().map_or(String::new(), |root| format!("{root}.*"));
    json!({
        "name": "types", "in": "query",
        "description": "Of these topics alone, as `<root>.<pattern>`: `*` is one word, a last `>` one or more; several joined by commas.",
        "schema": { "type": "string", "pattern": format!("^{topics}(,{topics}){{0,31}}$") }, "example": example,
    })
}

fn in_query(name: &str, description: &str) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": { "type": "string", "maxLength": 256 } })
}

/// What the listener has, in the order in which the door looks.
fn places(config: &ListenerConfig) -> Vec<(Pattern, &str, Place<'_>)> {
    let routes = config.routes.iter().map(|route| (route.path.as_str(), Place::Route(route)));
    let mut asked = HashSet::new();
    let told = config.routes.iter().filter_map(|route| Some((route, route.presence_asked(config)?)));
    let told = told.filter(|(_, (path, _))| asked.insert(*path));
    let told: Vec<_> = told.map(|(route, (path, mode))| (path, Place::Presence(route, mode))).collect();
    let forwards = config.forwards.iter();
    let forwards = forwards.flat_map(|it| it.paths.iter().map(move |path| (path.as_str(), Place::Forward(it))));
    let all = routes.chain(told).chain(forwards).filter_map(|(path, place)| Some((path.parse().ok()?, path, place)));
    let pictures = config.avatars.is_some().then(|| {
        let base = config.avatars_path.as_str();
        format!("{base}/*").parse().ok().map(|pattern: Pattern| (pattern, base, Place::Pictures))
    });
    let mut places: Vec<_> = all.chain(pictures.flatten()).collect();
    places.sort_by(|(one, ..), (other, ..)| one.specificity(other));
    places
}

/// The same operation by HEAD.
fn without_body(operation: &Object) -> Object {
    let mut head = operation.clone();
    let statuses = operation.get("responses").and_then(Value::as_object).into_iter().flatten();
    let responses: Object = statuses
        .map(|(status, _)| (status.clone(), json!({ "description": "That of a GET, without its body." })))
        .collect();
    head.insert("responses".into(), responses.into());
    head
}

/// A value that is an object, or becomes one.
fn object(value: &mut Value) -> &mut Object {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().unwrap_or_else(|| unreachable!("it is an object"))
}

fn parsed(text: &'static str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| unreachable!("a document of ours is JSON"))
}
