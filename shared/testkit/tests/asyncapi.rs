//! What `/asyncapi.json` says is so: all that is sent in the recorded game, over sockets, event streams and NATS, is described
//! there as it is, and all that is described there is sent, or the document says why not.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt as _;
use herald_testkit::{
    Bridge, Edge, Ingest, Nats, Service, eventually,
    game_master::{Answer, CHOOSE, PROPOSE, Scripted},
    http,
    schema::Schemas,
    sse, traces, within, ws,
};
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

const LIMIT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(30);
const S: &str = traces::SESSION;
/// Questions that nobody has to ask in a game: whether they are is a matter of time.
const MAY_BE_ASKED: [&str; 2] = ["epoch.question", "epoch.answer"];

/// What was sent over NATS.
#[derive(Clone, Debug)]
struct Sent {
    subject: String,
    reply: Option<String>,
    headers: Value,
    payload: Vec<u8>,
}

/// A connection's commands are worked off in turn: with this answer the server knows what was subscribed to before.
async fn is_known(client: &async_nats::Client) {
    client.request("$JS.API.INFO", "".into()).await.expect("the server has it");
}

/// Hears everything that is said on a server.
struct Listener {
    heard: Arc<Mutex<Vec<Sent>>>,
    task: JoinHandle<()>,
}

impl Listener {
    async fn start(nats: &Nats) -> Self {
        let client = nats.client().await;
        let mut all = client.subscribe(">").await.expect("subscribed");
        is_known(&client).await;
        let heard = Arc::<Mutex<Vec<Sent>>>::default();
        let keep = heard.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = all.next().await {
                let headers = message.headers.iter().flat_map(async_nats::HeaderMap::iter);
                let headers = headers.map(|(name, values)| (name.to_string(), json!(values[0].as_str())));
                let sent = Sent {
                    subject: message.subject.to_string(),
                    reply: message.reply.map(|reply| reply.to_string()),
                    headers: Value::Object(headers.collect()),
                    payload: message.payload.to_vec(),
                };
                keep.lock().unwrap().push(sent);
            }
        });
        Self { heard, task }
    }

    fn all(&self) -> Vec<Sent> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The document, and what of it has occurred.
struct Document {
    json: Arc<Value>,
    occurred: BTreeSet<String>,
    faults: Vec<String>,
}

impl Document {
    fn new(json: Value) -> Self {
        Self { json: Arc::new(json), occurred: BTreeSet::new(), faults: Vec::new() }
    }

    /// The messages of a channel: their names in the components, and what they are.
    fn messages(&self, channel: &str) -> Vec<(String, &Value)> {
        let all =
            self.json["channels"][channel]["messages"].as_object().unwrap_or_else(|| panic!("no channel {channel}"));
        let all = all.values().map(|reference| {
            let reference = reference["$ref"].as_str().expect("a reference");
            let name = reference.strip_prefix("#/components/messages/").expect("a component").to_owned();
            (name, self.json.pointer(&reference[1..]).expect("it is there"))
        });
        all.collect()
    }

    /// Takes in what was sent over a channel, if it is one of its messages. `is`: which of them may be meant.
    fn take(&mut self, channel: &str, what: &str, value: &Value, is: impl Fn(&Value) -> bool) {
        let schemas = Schemas::of(&self.json).closed();
        let mut wrong = Vec::new();
        let mut found = None;
        for (name, message) in self.messages(channel).into_iter().filter(|(_, message)| is(message)) {
            let faults = schemas.faults(&message["payload"], value);
            if faults.is_empty() {
                found = Some(name);
                break;
            }
            wrong.push(format!("  not {name}: {}", faults.join("; ")));
        }
        match found {
            Some(name) => drop(self.occurred.insert(name)),
            None if wrong.is_empty() => self.faults.push(format!("{channel}: {what} is not described")),
            None => self.faults.push(format!("{channel}: {what}\n{}", wrong.join("\n"))),
        }
    }

    /// A frame of a socket, or the data of an event.
    fn frame(&mut self, channel: &str, frame: &Value) {
        let event = frame["event"].as_str().or(frame["subject"].as_str()).unwrap_or_default().to_owned();
        let document = self.json.clone();
        let named = |message: &Value| {
            let named = &message["payload"]["properties"];
            let name = if named["event"].is_null() { &named["subject"] } else { &named["event"] };
            name.is_object() && Schemas::of(&document).faults(name, &json!(event)).is_empty()
        };
        self.take(channel, &event, frame, named);
    }

    /// An event of a stream.
    fn event(&mut self, channel: &str, event: &sse::Event) {
        if event.event == "message" {
            return self.frame(channel, &event.json());
        }
        let name = event.event.clone();
        self.take(channel, &name, &event.json(), |message| message["name"] == name.as_str());
    }

    /// The channel whose subjects a subject is one of; the more exactly it is named, the better.
    fn channel_of(&self, subject: &str) -> Option<String> {
        let channels = self.json["channels"].as_object().expect("channels").iter();
        let of_nats = channels.filter(|(name, _)| name.starts_with("nats."));
        let matching = of_nats.filter_map(|(name, channel)| {
            let address = channel["address"].as_str()?;
            matches(address, subject).then(|| (address.matches('{').count(), name.clone()))
        });
        matching.min().map(|(_, name)| name)
    }

    /// What was sent over NATS.
    fn sent(&mut self, all: &[Sent]) {
        // Where the answers to a question are.
        let mut answers = HashMap::new();
        for sent in all {
            let answered = answers.get(&sent.subject).cloned();
            if answered.is_none() && sent.subject.starts_with(['$', '_']) {
                continue;
            }
            let Some(channel) = answered.or_else(|| self.channel_of(&sent.subject)) else {
                self.faults.push(format!("the subject {} is not described", sent.subject));
                continue;
            };
            let operations = ["send", "receive"].map(|action| &self.json["operations"][format!("{action}.{channel}")]);
            let operation = operations.into_iter().find(|it| it.is_object()).unwrap_or(&Value::Null);
            if let (Some(reply), Some(of)) = (&sent.reply, operation["reply"]["channel"]["$ref"].as_str()) {
                answers.insert(reply.clone(), of.trim_start_matches("#/channels/").to_owned());
            }
            self.headers(&channel, sent);
            let messages = self.messages(&channel);
            let is_json = messages.iter().any(|(_, message)| message.get("contentType").is_none());
            let is_text = messages.iter().any(|(_, message)| message["contentType"] == "text/plain");
            let payload = match serde_json::from_slice(&sent.payload) {
                Ok(json) if is_json => json,
                _ if is_text => String::from_utf8_lossy(&sent.payload).into(),
                _ => Value::Null,
            };
            self.take(&channel, &format!("{} {payload}", sent.subject), &payload, |_| true);
        }
    }

    fn headers(&mut self, channel: &str, sent: &Sent) {
        // What ends a service's subscription is an empty message to itself.
        if sent.headers.as_object().is_some_and(serde_json::Map::is_empty) {
            return;
        }
        let schemas = Schemas::of(&self.json).closed();
        let faults = self.messages(channel).into_iter().filter_map(|(name, message)| {
            let faults = schemas.faults(message.get("headers")?, &sent.headers);
            (!faults.is_empty()).then(|| format!("headers of {name}: {}", faults.join("; ")))
        });
        let faults: Vec<_> = faults.collect();
        self.faults.extend(faults);
    }

    /// Everything that is described occurred, or is said not to.
    fn judge(mut self) {
        for (name, message) in self.json["components"]["messages"].as_object().expect("messages") {
            let excuse = message["x-not-in-recording"].as_str();
            match (self.occurred.contains(name), excuse) {
                (true, Some(excuse)) => self.faults.push(format!("{name} occurred, although {excuse}")),
                (false, None) if !MAY_BE_ASKED.contains(&name.as_str()) => {
                    self.faults.push(format!("{name} has not occurred, and the document does not say why"));
                }
                _ => {}
            }
        }
        assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
    }
}

/// Whether a subject is one of an address with parameters; a last `{topic}` stands for one token or more.
fn matches(address: &str, subject: &str) -> bool {
    let (mut wanted, mut tokens) = (address.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (None, None) => return true,
            (Some("{topic}"), Some(_)) => return true,
            (Some(word), Some(token)) if word.starts_with('{') || word == token => {}
            _ => return false,
        }
    }
}

/// The streams of the recorded Game Master, of all three turns: what the original relay told its player.
fn streams() -> [Vec<Answer>; 2] {
    let (mut proposes, mut chooses, mut body) = (Vec::new(), Vec::new(), String::new());
    for line in traces::lines("ws-client.ndjson") {
        let Some(frame) = line["frame"].as_str() else { continue };
        let frame: Value = serde_json::from_str(frame).expect("a frame");
        if !frame["event"].as_str().is_some_and(|event| event.starts_with("gm.")) {
            continue;
        }
        body += &format!("data: {}\n\n", frame["data"]);
        if frame["event"] == "gm.result" {
            let answer = Answer::sse().send(std::mem::take(&mut body));
            if proposes.len() == chooses.len() { proposes.push(answer) } else { chooses.push(answer) }
        }
    }
    assert_eq!((proposes.len(), chooses.len(), body.as_str()), (3, 3, ""));
    // The recorded failure comes behind the first turn.
    let failure = traces::text("gm-error.choose-without-proposal.sse");
    proposes.insert(1, Answer::sse().send(failure));
    [proposes, chooses]
}

struct House {
    nats: Nats,
    gm: Scripted,
    bridge: Service,
    edge: Service,
    listener: Listener,
}

async fn house(pictures: &Path) -> House {
    for name in ["pavel", "zoya"] {
        std::fs::write(pictures.join(format!("{name}.png")), b"\x89PNG\r\n\x1a\n").expect("written");
    }
    let nats = Nats::start().await;
    let gm = Scripted::start().await;
    let [proposes, chooses] = streams();
    gm.on(PROPOSE, proposes);
    gm.on(CHOOSE, chooses);
    let bridge = Bridge::new(&nats).gm(&gm.url()).set("arena.waiting_timeout", "50ms").start().await;
    let config = format!("[[ws-edge.listeners]]\nbuiltin = \"arena\"\navatars = \"{}\"\n", pictures.display());
    let edge = Edge::new(&nats).config(config).set("socket.heartbeat", "500ms").start().await;
    // Not before they are ready: they find out that the server hears them by asking somebody who is not there.
    let listener = Listener::start(&nats).await;
    House { nats, gm, bridge, edge, listener }
}

/// Everybody who watches, by the channel in the document.
struct Watchers {
    sockets: Vec<(&'static str, ws::Client)>,
    streams: Vec<(&'static str, sse::Client)>,
}

impl Watchers {
    async fn open(edge: &Service) -> Self {
        let (mut sockets, mut streams) = (Vec::new(), Vec::new());
        for (channel, path, id) in
            [("ws.sid", "/ws", S), ("app.ws.sid", "/app/ws", S), ("gm.ws.sid", "/gm/ws", traces::GM_SESSION)]
        {
            for protocols in [ws::V1, ws::PLAIN] {
                sockets.push((channel, ws::Client::connect(&edge.ws(&format!("{path}/{id}")), protocols).await));
            }
        }
        for (channel, path, id) in
            [("sse.sid", "/sse", S), ("app.sse.sid", "/app/sse", S), ("gm.sse.sid", "/gm/sse", traces::GM_SESSION)]
        {
            streams.push((channel, sse::Client::connect(&edge.http(&format!("{path}/{id}")), None).await));
        }
        Self { sockets, streams }
    }

    /// Those who come with a place that is none, and those who want to see the state: for the frames that only they get.
    async fn join_late(&mut self, edge: &Service) {
        for query in ["after=00000000-999999", "snapshot=1", "speed=64&max_gap=0.01"] {
            for (channel, path) in [("ws.sid", "/ws"), ("app.ws.sid", "/app/ws"), ("gm.ws.sid", "/gm/ws")] {
                let id = if path == "/gm/ws" { traces::GM_SESSION } else { S };
                if path == "/gm/ws" && query.starts_with("speed") {
                    continue;
                }
                self.sockets
                    .push((channel, ws::Client::connect(&edge.ws(&format!("{path}/{id}?{query}")), ws::V1).await));
            }
            for (channel, path) in [("sse.sid", "/sse"), ("app.sse.sid", "/app/sse"), ("gm.sse.sid", "/gm/sse")] {
                let id = if path == "/gm/sse" { traces::GM_SESSION } else { S };
                if path == "/gm/sse" && query.starts_with("speed") {
                    continue;
                }
                let url = edge.http(&format!("{path}/{id}?{query}"));
                self.streams.push((channel, sse::Client::connect(&url, None).await));
            }
        }
        for (name, client) in self.sockets.iter().skip(6) {
            let told = |frame: &ws::Frame| ["herald.gap", "herald.live"].contains(&frame.event());
            client.wait_for(&format!("what {name} is told"), SOON, told).await;
        }
        for (name, client) in self.streams.iter().skip(3) {
            let told = |event: &sse::Event| ["herald.gap", "herald.live"].contains(&event.event.as_str());
            client.wait_for(&format!("what {name} is told"), SOON, told).await;
        }
    }

    fn judge(&self, document: &mut Document) {
        for (channel, client) in &self.sockets {
            client.frames().iter().for_each(|frame| document.frame(channel, &frame.json));
            if !client.beats().is_empty() {
                document.frame(channel, &json!({ "event": "herald.beat", "data": {} }));
            }
        }
        for (channel, client) in &self.streams {
            client.events().iter().for_each(|event| document.event(channel, event));
        }
    }
}

/// Plays the recorded game: the Game Master's half and the arena's.
async fn play(house: &House, watching: &ws::Client) {
    let publisher = house.nats.client().await;
    let messages = traces::arena().into_iter().filter_map(|message| {
        let (_, topic) = message.subject.strip_prefix("arena.")?.split_once('.')?;
        (topic != "input.fakenews").then(|| (topic.to_owned(), message.payload))
    });
    let mut debate: Vec<_> = messages.collect();
    let ends = BTreeMap::from([("propose", "gm.result"), ("fail", "gm.error"), ("choose&kind=fake", "gm.result")]);
    let mut seen = BTreeMap::<&str, usize>::new();
    for step in ["propose", "choose&kind=fake", "fail", "propose", "choose&kind=fake", "propose", "choose&kind=fake"] {
        let (command, choice) = step.replace("fail", "propose").split_once('&').map_or_else(
            || (step.replace("fail", "propose"), String::new()),
            |(command, choice)| (command.to_owned(), choice.to_owned()),
        );
        house.edge.get(&format!("/api/{command}?session_id={S}&lang=fr&{choice}")).await.expect_status(202);
        for (topic, payload) in debate.drain(..debate.len().min(30)) {
            publisher.publish(format!("arena.{S}.{topic}"), payload.into()).await.expect("published");
        }
        publisher.flush().await.expect("flushed");
        let end = ends[step];
        *seen.entry(end).or_default() += 1;
        let wanted = seen[end];
        eventually(&format!("{step} ends"), SOON, async || {
            let count = watching.frames().iter().filter(|frame| frame.event() == end).count();
            if count >= wanted { Ok(()) } else { Err((count, watching.frames().last().map(|it| it.text.clone()))) }
        })
        .await;
    }
    assert!(debate.is_empty(), "all of the debate was published");
    let news = json!({ "session_id": S, "content": "Water is wet" });
    house.edge.post("/submit_news", &news).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_in_the_recorded_game_is_described_and_what_is_described_is_sent() {
    within(LIMIT, async {
        let pictures = tempfile::tempdir().expect("a folder");
        let mut house = house(pictures.path()).await;
        let reply = house.edge.get("/asyncapi.json").await.expect_status(200);
        assert_eq!(reply.header("content-type"), "application/json");
        let mut document = Document::new(reply.json());
        let mut watchers = Watchers::open(&house.edge).await;
        house.edge.get(&format!("/api/start?session_id={S}&lang=fr")).await.expect_status(200);
        play(&house, &watchers.sockets[0].1).await;
        watchers.join_late(&house.edge).await;
        let asking = house.nats.client().await;
        asking.request(format!("edge.watching.{S}"), "".into()).await.expect("the edge answers");

        http::send(Method::POST, &house.edge.http(&format!("/sessions/{S}/fork")), &[], "").await.expect_status(201);
        // All that is said at the end of a session, and of an edge.
        house.edge.post(&format!("/sessions/{S}/end"), &json!({})).await.expect_status(200);
        for (name, client) in watchers.sockets.iter().filter(|(name, _)| !name.starts_with("gm.")) {
            let end = client.wait_end(SOON).await;
            assert_eq!(end.code(), 4411, "{name}");
        }
        for (_, client) in watchers.streams.iter().filter(|(name, _)| !name.starts_with("gm.")) {
            client.wait_end(SOON).await;
        }
        let url = house.edge.http(&format!("/sessions/{S}"));
        http::send(Method::DELETE, &url, &[], "").await.expect_status(200);
        for (channel, path) in [("ws.sid", "/ws/other"), ("app.ws.sid", "/app/ws/other")] {
            watchers.sockets.push((channel, ws::Client::connect(&house.edge.ws(path), ws::V1).await));
        }
        house.edge.stop().await;
        for (_, client) in &watchers.sockets {
            client.wait_end(SOON).await;
        }
        house.bridge.stop().await;
        assert_eq!(house.gm.asked(CHOOSE).len(), 3);

        watchers.judge(&mut document);
        document.sent(&house.listener.all());
        document.judge();
    })
    .await;
}

/// A door whose clients speak to their engine, as the one of `ingest`.
const TABLE: &str = r#"
[[ws-edge.listeners]]
name = "table"
presence = "list"

[[ws-edge.listeners.routes]]
path = "/ws/{sid}"
stream = "APP"
roots = ["app"]
uplink = { messages = 5, burst = 5 }

[[ws-edge.listeners.routes]]
path = "/sse/{sid}"
transport = "sse"
stream = "APP"
roots = ["app"]
uplink = {}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_and_engines_say_to_each_other_is_described() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let _ingest = Ingest::new(&nats).start().await;
        let edge = Edge::new(&nats).config(TABLE).set("presence.grace", "100ms").start().await;
        let mut document = Document::new(edge.get("/asyncapi.json").await.expect_status(200).json());
        let listener = Listener::start(&nats).await;
        let engine = nats.client().await;
        let mut heard = engine.subscribe("in.app.*.*").await.expect("subscribed");
        is_known(&engine).await;
        let mut next = async || heard.next().await.expect("a message").reply;

        let socket = ws::Client::connect(&edge.ws("/ws/s"), ws::V1).await;
        let conn = next().await.expect("its connection");
        for n in 0..20 {
            socket.send_text(format!("words {n}")).await;
            next().await;
        }
        socket.send(Message::Binary(vec![0, 1, 2].into())).await;
        next().await;
        let said = |name: &'static str| move |frame: &ws::Frame| frame.event() == name;
        socket.wait_for("that it is slowed", SOON, said("herald.uplink")).await;
        let headers = |pairs: &[(&str, &str)]| {
            let mut headers = async_nats::HeaderMap::new();
            pairs.iter().for_each(|(name, value)| headers.insert(*name, *value));
            headers
        };
        let topic = headers(&[("Herald-Topic", "chat.private")]);
        engine.request_with_headers(conn.clone(), topic, "{\"text\":\"hello\"}".into()).await.expect("answered");
        socket.wait_for("a word", SOON, said("app.chat.private")).await;
        let close = || headers(&[("Herald-Close", "4000"), ("Herald-Reason", "over")]);
        engine.request_with_headers(conn.clone(), close(), "".into()).await.expect("answered");
        assert_eq!(socket.wait_end(SOON).await.code(), 4000);
        next().await;

        let stream = sse::Client::connect(&edge.http("/sse/s"), None).await;
        let conn = next().await.expect("its connection");
        engine.request_with_headers(conn.clone(), close(), "".into()).await.expect("answered");
        stream.wait_end(SOON).await;
        next().await;
        engine.request(conn, "{}".into()).await.expect("answered: gone");

        // Whoever comes before those are forgotten would take their place.
        eventually("nobody is there", SOON, async || {
            let said = edge.get("/presence/s").await.expect_status(200).json();
            if said["count"] == 0 { Ok(()) } else { Err(said) }
        })
        .await;
        let others = ws::Client::connect(&edge.ws("/ws/s"), ws::V1).await;
        let other = sse::Client::connect(&edge.http("/sse/s"), None).await;
        other.wait_for("who is there", SOON, |event| event.event == "herald.presence").await;
        others.wait_for("who has come", SOON, said("herald.join")).await;
        engine.request("edge.present.app.s", "".into()).await.expect("who is there");
        engine.request("edge.present.app.s", "{\"limit\":1}".into()).await.expect("some of them");
        engine.request("edge.present.app.s", "?".into()).await.expect("why not");
        drop(other);
        others.wait_for("who has left", SOON, said("herald.leave")).await;
        others.frames().iter().for_each(|frame| document.frame("ws.sid", &frame.json));

        socket.frames().iter().for_each(|frame| document.frame("ws.sid", &frame.json));
        stream.events().iter().for_each(|event| document.event("sse.sid", event));
        document.sent(&listener.all());
        assert!(document.faults.is_empty(), "{}", document.faults.join("\n"));
        for name in
            ["in.text", "in.binary", "in.join", "in.leave", "conn.word", "conn.answer", "herald.uplink", "word.ws.sid"]
                .into_iter()
                .chain(["present.question", "present.answer", "presence.said"])
                .chain(["herald.presence", "herald.join", "herald.leave"])
        {
            assert!(document.occurred.contains(name), "{name}: {:?}", document.occurred);
        }
        assert!(document.occurred.contains("sse.herald.closed"), "{:?}", document.occurred);
    })
    .await;
}

/// A door with all that a route may be told for a game of its own.
const LOBBY: &str = r#"
[[ws-edge.listeners]]
name = "lobby"

[[ws-edge.listeners.routes]]
path = "/ws/{sid}"
stream = "APP"
roots = ["app"]
dialect = "raw"
topics = ["app.status"]
snapshot = ["app.status"]
start = "snapshot"
delivery = "latest"
close_on = ["app.over:4000:done"]
heartbeat = { frame = '{"type":"heartbeat","at":"{ts}"}', every = "100ms" }

[[ws-edge.listeners.routes]]
path = "/sse/{sid}"
transport = "sse"
stream = "APP"
roots = ["app"]
topics = ["app.status"]
close_on = ["app.over:4000:done"]
heartbeat = { frame = '{"type":"heartbeat","sid":"{sid}"}', every = "100ms" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_with_options_sends_is_described() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let _ingest = Ingest::new(&nats).start().await;
        let edge = Edge::new(&nats).config(LOBBY).start().await;
        let mut document = Document::new(edge.get("/asyncapi.json").await.expect_status(200).json());
        let engine = nats.client().await;
        let publish = async |topic: &str, payload: &'static str| {
            let sent =
                async_nats::jetstream::new(engine.clone()).publish(format!("app.s.{topic}"), payload.into()).await;
            sent.expect("sent").await.expect("stored");
        };
        publish("status", "{\"players\":0}").await;
        let socket = ws::Client::connect(&edge.ws("/ws/s"), ws::PLAIN).await;
        let stream = sse::Client::connect(&edge.http("/sse/s"), None).await;
        for (topic, payload) in [("status", "{\"players\":1}"), ("hidden", "{}")] {
            publish(topic, payload).await;
        }
        let is_beat = |json: &Value| json["type"] == "heartbeat";
        socket.wait_for("a heartbeat", SOON, |frame| is_beat(&frame.json)).await;
        socket.wait_for("the status", SOON, |frame| frame.json["players"] == 1).await;
        stream.wait_for("a heartbeat", SOON, |event| event.event == "message" && is_beat(&event.json())).await;
        stream.wait_for("the status", SOON, |event| event.data.contains("app.status")).await;
        publish("over", "{}").await;
        assert_eq!(socket.wait_end(SOON).await.code(), 4000);
        stream.wait_end(SOON).await;

        // A heartbeat is any object, and so is a payload.
        let beats =
            |message: &Value| message["summary"].as_str().is_some_and(|text| text.starts_with("The connection lives"));
        for frame in socket.frames() {
            document.take("ws.sid", &frame.text, &frame.json, |message| beats(message) == is_beat(&frame.json));
        }
        for event in stream.events() {
            match event.event.as_str() {
                "message" => {
                    let json = event.json();
                    document.take("sse.sid", &event.data, &json, |message| beats(message) == is_beat(&json));
                }
                _ => document.event("sse.sid", &event),
            }
        }
        assert!(document.faults.is_empty(), "{}", document.faults.join("\n"));
        let wanted =
            ["heartbeat.ws.sid", "raw.app", "heartbeat.sse.sid", "event.app", "sse.herald.hello", "sse.herald.closed"];
        for name in wanted {
            assert!(document.occurred.contains(name), "{name}: {:?}", document.occurred);
        }
    })
    .await;
}

#[test]
fn subjects_are_told_apart_as_they_are_described() {
    for (address, subject, expected) in [
        ("gm.{sid}.phase", "gm.s.phase", true),
        ("gm.{sid}.phase", "gm.s.phase.x", false),
        ("gm.{sid}.phase", "gm.s", false),
        ("arena.{sid}.agent.{agent}.status", "arena.s.agent.7.status", true),
        ("app.{sid}.{topic}", "app.s.chat.message", true),
        ("app.{sid}.{topic}", "app.s", false),
    ] {
        assert_eq!(matches(address, subject), expected, "{address} {subject}");
    }
}
