//! `/asyncapi.json`: what travels over a listener's sockets and event streams, and over NATS behind them, as an AsyncAPI 3.0
//! document.
//!
//! What Herald itself says is written in `asyncapi/door.json`, once for the routes of all games. The events of a game are written
//! beside the built-in game that they belong to, by their payload as the engine publishes it; what becomes of it in a frame follows
//! from the dialect (`frames`). Of other engines it is only known that their events are shown. The listener's configuration
//! says which of that is there, and under which paths. The tests compare it with what is sent indeed.

mod engines;
mod frames;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use herald_protocol::subject;
use serde_json::{Map, Value, json};

use crate::{
    config::{Auth, ListenerConfig, PresenceMode, RouteConfig, Transport, events_of},
    dialect::{Dialect, DialectName},
    openapi::Document,
    view::{Delivery, Topics},
};

/// Where it is to be had, unless something else is there by configuration.
pub const PATH: &str = "/asyncapi.json";

const DOOR: &str = include_str!("asyncapi/door.json");

type Object = Map<String, Value>;

/// The document of the listener that `config` describes, built-in routes and forwards included. `in_query`: a token may stand in
/// the query.
#[must_use]
pub fn document(config: &ListenerConfig, in_query: bool) -> Document {
    Document::of(&Draft::new(config, in_query).written())
}

/// An event that is known by name, or all of a root of which nothing more is known.
pub(crate) struct Known {
    /// As in a frame, words that vary in braces: `arena.agent.{agent}.status`.
    name: String,
    /// What is written of it: `summary`, `payload` and the like.
    text: Value,
    /// Whether Herald publishes it, and not an engine.
    ours: bool,
}

impl Known {
    fn root(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    /// What is behind the root.
    fn topic(&self) -> &str {
        self.name.split_once('.').map_or("", |(_, topic)| topic)
    }

    /// A topic that it may have.
    fn example(&self) -> String {
        let words = self.topic().split('.').map(|word| if word.starts_with('{') { "x" } else { word });
        words.collect::<Vec<_>>().join(".")
    }

    /// What it is called in the document: without the words that vary.
    fn key(&self) -> String {
        let words = self.name.split('.').filter(|word| !word.starts_with('{'));
        words.collect::<Vec<_>>().join(".")
    }

    /// Its subjects.
    fn address(&self) -> String {
        format!("{}.{{sid}}.{}", self.root(), self.topic())
    }
}

struct Draft<'a> {
    config: &'a ListenerConfig,
    in_query: bool,
    /// The texts of `door.json`.
    texts: Value,
    /// What is written of the games whose roots are shown here.
    game: Value,
    events: Vec<Known>,
    document: Value,
}

impl<'a> Draft<'a> {
    fn new(config: &'a ListenerConfig, in_query: bool) -> Self {
        let mut texts = parsed(DOOR);
        let mut document = texts["document"].take();
        document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
        let roots: BTreeSet<_> =
            config.routes.iter().flat_map(|route| &route.roots).map(|root| root.as_str()).collect();
        let (mut game, mut events) = (Value::Null, Vec::new());
        for root in roots {
            let Some(text) = events_of(root) else {
                let text = json!({ "summary": "An event of an engine", "payload": { "$ref": schema("Any") } });
                events.push(Known { name: format!("{root}.{{topic}}"), text, ours: root == subject::APP });
                continue;
            };
            let text = parsed(text);
            let ours = text["sent_by_herald"].as_array().is_some_and(|ours| ours.iter().any(|it| it == root));
            let of_root = text["events"].as_object().into_iter().flatten().filter(|(name, _)| begins(name, root));
            events.extend(of_root.map(|(name, text)| Known { name: name.clone(), text: text.clone(), ours }));
            let subjects = game["subjects"].as_object().cloned().unwrap_or_default();
            let more = text["subjects"].as_object().into_iter().flatten().filter(|(name, _)| begins(name, root));
            let more = more.map(|(name, text)| (name.clone(), text.clone()));
            game =
                json!({ "schemas": text["schemas"], "subjects": subjects.into_iter().chain(more).collect::<Object>() });
        }
        Self { config, in_query, texts, game, events, document }
    }

    fn written(mut self) -> Value {
        self.servers();
        self.schemas();
        let config = self.config;
        // What is answered to one request is in the other document.
        config.routes.iter().filter(|route| route.transport.is_live()).for_each(|route| self.route(route));
        self.subjects();
        self.engines();
        self.services();
        self.document
    }

    fn servers(&mut self) {
        let address = self.config.address;
        let host =
            if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() };
        let mut bearers = vec![json!({ "$ref": "#/components/securitySchemes/bearer" })];
        bearers.extend(self.in_query.then(|| json!({ "$ref": "#/components/securitySchemes/query" })));
        for name in ["sockets", "streams"] {
            let server = &mut self.document["servers"][name];
            server["host"] = host.clone().into();
            if self.config.auth == Auth::Jwt {
                server["security"] = bearers.clone().into();
            }
        }
        if self.config.auth == Auth::Off {
            object(&mut self.document["components"]).remove("securitySchemes");
        } else if !self.in_query {
            object(&mut self.document["components"]["securitySchemes"]).remove("query");
        }
        let has = |transport| self.config.routes.iter().any(|route| route.transport == transport);
        let (sockets, streams) = (has(Transport::Socket), has(Transport::Sse));
        let servers = object(&mut self.document["servers"]);
        servers.retain(|name, _| sockets && name == "sockets" || streams && name == "streams" || name == "nats");
    }

    /// What the messages are made of: payloads, and the data of control frames.
    fn schemas(&mut self) {
        let all = object(&mut self.document["components"]["schemas"]);
        all.extend(self.game["schemas"].as_object().cloned().unwrap_or_default());
        all.extend(self.events.iter().map(|event| (event.key(), event.text["payload"].clone())));
    }

    fn route(&mut self, route: &RouteConfig) {
        let channel = channel_name(&route.path);
        let is_socket = route.transport == Transport::Socket;
        let dialect = route.dialect.unwrap_or(self.config.dialect);
        let mut sent = self.frames(route, dialect);
        sent.extend(self.controls(route, dialect, is_socket));
        if Self::is_spoken_to(route) && dialect == DialectName::Event {
            let name = format!("word.{channel}");
            let summary = "Something that an engine says to this client alone: no event, it has no place in the log";
            self.document["components"]["messages"][&name] =
                json!({ "summary": summary, "payload": Self::word(route) });
            sent.push(name);
        }
        if route.heartbeat.is_some() {
            let name = format!("heartbeat.{channel}");
            let summary = "The connection lives: for clients that do not speak `herald.v1`, in this route's own words";
            self.document["components"]["messages"][&name] =
                json!({ "summary": summary, "payload": { "type": "object" } });
            sent.push(name);
        }
        let mut messages = Object::new();
        messages.extend(sent.iter().map(|name| (name.clone(), reference("messages", name))));
        let mut heard = if is_socket { Self::heard(route).to_vec() } else { Vec::new() };
        heard.extend((is_socket && route.plays()).then_some("replay.order"));
        heard.extend((is_socket && self.config.auth == Auth::Jwt).then_some("herald.token"));
        messages.extend(heard.iter().map(|name| ((*name).to_owned(), reference("messages", name))));
        let mut written = json!({
            "address": route.path,
            "title": if is_socket { "Every event of a session, over a WebSocket" } else { "The same as server-sent events" },
            "description": self.about(route, dialect, is_socket),
            "servers": [{ "$ref": format!("#/servers/{}", if is_socket { "sockets" } else { "streams" }) }],
            "messages": messages,
        });
        if route.path.contains("{sid}") {
            let parameter = if route.alias.is_some() { "alias" } else { "sid" };
            written["parameters"] = json!({ "sid": reference("parameters", parameter) });
        }
        let query = self.query(route);
        if is_socket {
            written["bindings"] = json!({ "ws": { "method": "GET", "query": query, "bindingVersion": "0.1.0" } });
        }
        self.document["channels"][&channel] = written;
        let mut operation = operation("send", &channel, &sent);
        operation["summary"] = "What its clients are shown".into();
        if !is_socket {
            operation["bindings"] = json!({ "http": { "method": "GET", "query": query, "bindingVersion": "0.3.0" } });
        }
        self.document["operations"][format!("send.{channel}")] = operation;
        if !heard.is_empty() {
            let operation = operation_of("receive", &channel, heard);
            self.document["operations"][format!("receive.{channel}")] = operation;
        }
    }

    /// The frames of a route, by their names in the document.
    fn frames(&mut self, route: &RouteConfig, dialect: DialectName) -> Vec<String> {
        let pictures = self.config.avatars.is_some();
        let by_dialect = Dialect::new(dialect, None);
        let is_hidden = |event: &Known, example: &str| {
            let hides = |it: &Topics| it.root.as_str() == event.root() && it.pattern.matches(example);
            route.hidden.iter().any(hides)
        };
        // Of other engines all topics are one event here.
        let is_shown = |event: &Known, example: &str| {
            let mut shown = route.topics.iter().chain(&route.snapshot).filter(|it| it.root.as_str() == event.root());
            let any = event.topic().contains("{topic}");
            route.topics.is_empty() || shown.any(|it| any || it.pattern.matches(example))
        };
        let mut names = Vec::new();
        for event in &self.events {
            let example = event.example();
            let of_route = route.roots.iter().any(|root| root.as_str() == event.root());
            if !of_route || !by_dialect.shows(event.root(), &example) || is_hidden(event, &example) {
                continue;
            }
            if !is_shown(event, &example) {
                continue;
            }
            let name = format!("{dialect}.{}", event.key());
            let mut message = event.text.clone();
            message["name"] = event.name.clone().into();
            message["payload"] = frames::of(dialect, pictures, event, &self.document["components"]["schemas"]);
            self.document["components"]["messages"][&name] = message;
            names.push(name);
        }
        names
    }

    /// The control frames of a route. Of an event stream they are events of their name, so that their text is the data alone.
    fn controls(&mut self, route: &RouteConfig, dialect: DialectName, is_socket: bool) -> Vec<String> {
        let mut names = Vec::new();
        if is_socket && (dialect == DialectName::Raw || route.delivery == Delivery::Latest) {
            // It does not speak `herald.v1`.
            return names;
        }
        for (event, text) in self.texts["controls"].as_object().into_iter().flatten() {
            let said = match event.as_str() {
                // A comment does the same on event streams.
                "herald.beat" => is_socket,
                "herald.uplink" => is_socket && route.uplink.is_some(),
                "herald.presence" => route.tells(self.config) != PresenceMode::Off,
                "herald.join" | "herald.leave" => route.tells(self.config) == PresenceMode::List,
                "herald.replay" => route.plays(),
                // A socket is closed with it.
                "herald.closed" => !is_socket && (Self::is_spoken_to(route) || !route.close_on.is_empty()),
                _ => true,
            };
            if !said {
                continue;
            }
            let data = json!({ "$ref": schema(text["schema"].as_str().unwrap_or_default()) });
            let (name, payload) = if is_socket {
                let properties = json!({ "event": { "const": event }, "data": data });
                let payload = json!({ "type": "object", "required": ["event", "data"], "properties": properties });
                (event.clone(), payload)
            } else {
                (format!("sse.{event}"), data)
            };
            let written = json!({ "name": event, "summary": text["summary"], "payload": payload });
            self.document["components"]["messages"][&name] = written;
            names.push(name);
        }
        names
    }

    fn about(&self, route: &RouteConfig, dialect: DialectName, is_socket: bool) -> String {
        let control = if is_socket {
            "`herald.*` frames, `prev` and `snapshot` are for clients of the sub-protocol `herald.v1` alone."
        } else {
            "`id:` is the cursor, `data:` the text described here; a control frame is an event of its name."
        };
        let heard = if is_socket { " What clients send is read and ignored, but for what is said here." } else { "" };
        let alias = if route.alias.is_some() { " The id is no session: it stands for one." } else { "" };
        format!("In the dialect `{dialect}`. {control}{heard}{alias}")
    }

    /// What may stand in the query.
    fn query(&self, route: &RouteConfig) -> Value {
        let mut properties = object(&mut self.texts["query"].clone()).clone();
        if route.snapshot.is_empty() {
            properties.remove("snapshot");
        }
        if !route.plays() {
            properties.retain(|name, _| !["speed", "max_gap"].contains(&name.as_str()));
        }
        for name in &route.admit_query {
            let text = json!({ "type": "string", "description": "For who says who may come in." });
            properties.insert(name.clone(), text);
        }
        json!({ "type": "object", "properties": properties })
    }

    /// Events on NATS, as engines publish them, and what else there is under their roots.
    fn subjects(&mut self) {
        for event in std::mem::take(&mut self.events) {
            let key = event.key();
            let mut message = event.text.clone();
            message["name"] = event.name.clone().into();
            message["payload"] = json!({ "$ref": schema(&key) });
            self.on_nats(&event.address(), &key, message, if event.ours { "send" } else { "receive" });
        }
        for (address, mut text) in object(&mut self.game["subjects"]).clone() {
            let action = object(&mut text).remove("action");
            let key = address.split('.').filter(|word| !word.starts_with('{')).collect::<Vec<_>>().join(".");
            self.on_nats(&address, &key, text, action.as_ref().and_then(Value::as_str).unwrap_or("send"));
        }
    }

    /// Questions between services.
    fn services(&mut self) {
        let config = self.config;
        let services: BTreeSet<_> = config.forwards.iter().filter_map(|it| it.service.as_ref()).collect();
        for service in services {
            self.question(&format!("http.{service}"), "http", ["http.request", "http.answer"], Some(service.as_str()));
        }
        let asked: BTreeSet<_> = config.routes.iter().filter_map(|it| it.admit.as_ref()).collect();
        for service in asked {
            let queue = Some(service.as_str());
            self.question(&format!("admit.{service}"), "admit", ["admit.question", "admit.answer"], queue);
        }
        if !config.routes.is_empty() {
            self.question("epoch.{stream}", "epoch", ["epoch.question", "epoch.answer"], None);
            self.question("edge.watching.{sid}", "watching", ["watching.question", "watching.answer"], None);
        }
        // What nobody here uses is not described.
        let used = self.document["channels"].to_string();
        let messages = object(&mut self.document["components"]["messages"]);
        messages.retain(|name, _| used.contains(&format!("\"#/components/messages/{name}\"")));
        let written = self.document.to_string();
        let parameters = object(&mut self.document["components"]["parameters"]);
        parameters.retain(|name, _| written.contains(&format!("\"#/components/parameters/{name}\"")));
    }

    fn on_nats(&mut self, address: &str, key: &str, message: Value, action: &str) {
        let (channel, name) = (format!("nats.{key}"), format!("nats.{key}"));
        self.document["components"]["messages"][&name] = message;
        self.document["channels"][&channel] = on_nats(address, &[&name]);
        self.document["operations"][format!("{action}.{channel}")] = operation_of(action, &channel, [name.as_str()]);
    }

    /// A question on a subject, and its answer on the reply subject.
    fn question(&mut self, address: &str, kind: &str, [question, answer]: [&str; 2], queue: Option<&str>) {
        let channel = format!("nats.{}", address.split(".{").next().unwrap_or(address));
        let answers = format!("nats.{kind}.answers");
        self.document["channels"][&channel] = on_nats(address, &[question]);
        let mut replies = on_nats("", &[answer]);
        (replies["address"], replies["description"]) = (Value::Null, "The reply subject of the question.".into());
        self.document["channels"][&answers] = replies;
        let mut operation = operation_of("send", &channel, [question]);
        operation["reply"] = json!({
            "channel": { "$ref": format!("#/channels/{answers}") },
            "messages": [{ "$ref": format!("#/channels/{answers}/messages/{answer}") }],
        });
        if let Some(queue) = queue {
            operation["bindings"] = json!({ "nats": { "queue": queue, "bindingVersion": "0.1.0" } });
        }
        self.document["operations"][format!("send.{channel}")] = operation;
    }
}

/// A channel on NATS.
fn on_nats(address: &str, messages: &[&str]) -> Value {
    let parameters = address.split('.').filter_map(|word| word.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Object = parameters.map(|name| (name.to_owned(), reference("parameters", name))).collect();
    let messages: Object = messages.iter().map(|name| ((*name).to_owned(), reference("messages", name))).collect();
    let mut channel = json!({ "address": address, "servers": [{ "$ref": "#/servers/nats" }], "messages": messages });
    if !parameters.is_empty() {
        channel["parameters"] = parameters.into();
    }
    channel
}

fn operation(action: &str, channel: &str, messages: &[String]) -> Value {
    operation_of(action, channel, messages.iter().map(String::as_str))
}

fn operation_of<'a>(action: &str, channel: &str, messages: impl IntoIterator<Item = &'a str>) -> Value {
    let of_channel = |name: &str| json!({ "$ref": format!("#/channels/{channel}/messages/{name}") });
    let messages: Vec<_> = messages.into_iter().map(of_channel).collect();
    json!({ "action": action, "channel": { "$ref": format!("#/channels/{channel}") }, "messages": messages })
}

/// `ws.sid` for `/ws/{sid}`: names may not have slashes, as references are made of them.
fn channel_name(path: &str) -> String {
    let words = path.split(['/', '{', '}']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(".")
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// The place of a schema.
fn schema(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

fn begins(name: &str, root: &str) -> bool {
    name.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'))
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
