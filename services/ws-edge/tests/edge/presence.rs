//! Who is there, over all edges: real edges that are killed, ended and cut off, and clients that come and go.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use herald_testkit::{Edge, Nats, Service, eventually, http, process::raise_descriptors, sse, within, ws};
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    auth::with_token,
    forge::{SECRET, claims, hs256, now, with},
    support::Engine,
};

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);
/// How long after an edge has died the truth may take.
const TRUTH: Duration = Duration::from_secs(20);

/// A door that asks for tokens and tells who is there.
fn door(nats: &Nats, mode: &str, presence: &str) -> Edge {
    Edge::new(nats).config(format!(
        "[ws-edge.presence]\n{presence}\n[ws-edge.jwt]\nsecret = \"{SECRET}\"\n\
         [[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\npresence = \"{mode}\"\n"
    ))
}

/// The same with times that a test can wait for.
fn quick(nats: &Nats) -> Edge {
    door(nats, "list", "grace = \"1s\"\nbeat = \"200ms\"\ntimeout = \"1s\"")
}

fn token(user: &str) -> String {
    let claims = with(claims(user, &["s1", "s2"]), "exp", now() + 600);
    hs256(&with(claims, "role", "player"))
}

async fn watch(edge: &Service, user: &str) -> ws::Client {
    with_token(&edge.ws("/ws/s1"), &token(user)).await
}

/// The answer to whoever asks who is there.
async fn asked(edge: &Service, path: &str) -> Value {
    let bearer = format!("Bearer {}", token("who-asks"));
    let reply = http::send(Method::GET, &edge.http(path), &[("authorization", &bearer)], "").await;
    reply.expect_status(200).json()
}

/// All who are there, page by page.
async fn listed(edge: &Service) -> BTreeSet<String> {
    let (mut users, mut path) = (BTreeSet::new(), "/presence/s1?limit=1000".to_owned());
    loop {
        let page = asked(edge, &path).await;
        for person in page["persons"].as_array().unwrap() {
            assert!(users.insert(person["user"].as_str().unwrap().to_owned()), "twice: {person}");
        }
        let Some(next) = page["next"].as_str() else { return users };
        path = format!("/presence/s1?limit=1000&next={next}");
    }
}

/// Waits until an edge counts so many, and knows it.
async fn counts(edge: &Service, count: usize, bound: Duration) {
    eventually(&format!("{count} are there"), bound, async || {
        let said = asked(edge, "/presence/s1?limit=1").await;
        if said["count"] == count && said["complete"] == true { Ok(()) } else { Err(said) }
    })
    .await;
}

/// What a socket was told of who came and left, in order: `+ann`, `-ann`.
fn told(socket: &ws::Client) -> Vec<String> {
    let frames = socket.frames();
    let changes = frames.iter().filter_map(|frame| {
        let sign = match frame.event() {
            "herald.join" => '+',
            "herald.leave" => '-',
            _ => return None,
        };
        Some(format!("{sign}{}", frame.data()["user"].as_str().unwrap_or("?")))
    });
    changes.collect()
}

async fn is_told(socket: &ws::Client, event: &str, user: &str) -> Value {
    let is = |frame: &ws::Frame| frame.event() == event && frame.data()["user"] == user;
    socket.wait_for(&format!("{event} of {user}"), BOUND, is).await.data().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tabs_of_one_user_are_one_person_by_whichever_edge() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let (one, other) = (quick(&nats).start().await, quick(&nats).start().await);
        let bob = watch(&other, "bob").await;
        let first = bob.wait_for("how many are there", BOUND, |frame| frame.event() == "herald.presence").await;
        assert_eq!(first.data(), &json!({ "count": 1 }));
        assert_eq!(bob.frames()[0].event(), "herald.hello", "before everything else");
        let mut tabs = vec![watch(&one, "ann").await];
        let ann = is_told(&bob, "herald.join", "ann").await;
        tabs.extend([watch(&one, "ann").await, watch(&other, "ann").await]);
        assert_eq!((&ann["count"], &ann["role"]), (&json!(2), &json!("player")));
        for edge in [&one, &other] {
            counts(edge, 2, BOUND).await;
            assert_eq!(listed(edge).await, BTreeSet::from(["ann".to_owned(), "bob".to_owned()]));
        }
        let all = asked(&one, "/presence/s1").await;
        let same = all["persons"].as_array().unwrap().iter().find(|person| person["user"] == "ann").unwrap();
        assert_eq!((&same["id"], &same["since"]), (&ann["id"], &ann["since"]), "the same by both");
        assert_eq!(asked(&one, "/presence/s2").await, json!({"session":"s2","count":0,"complete":true,"persons":[]}));

        // An engine is told the same.
        let answer = nats.client().await.request("edge.present.gm.s1", "".into()).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&answer.payload).unwrap(), all);

        // Two of the three go: nobody has left.
        drop(tabs.pop());
        drop(tabs.pop());
        let cid = watch(&one, "cid").await;
        is_told(&bob, "herald.join", "cid").await;
        counts(&other, 3, BOUND).await;
        drop(tabs);
        let left = is_told(&bob, "herald.leave", "ann").await;
        assert_eq!((&left["id"], &left["count"]), (&ann["id"], &json!(2)));
        drop(cid);
        is_told(&bob, "herald.leave", "cid").await;
        assert_eq!(told(&bob), ["+bob", "+ann", "+cid", "-ann", "-cid"], "each once");
        assert_eq!(one.metric("herald_presence_untold_frames_total", &[]).await, 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_silent_and_an_edge_that_starts_late_knows_who_is_there() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let patient = |nats| door(nats, "list", "grace = \"3s\"\nbeat = \"200ms\"\ntimeout = \"1s\"");
        let (one, mut other) = (patient(&nats).start().await, patient(&nats).start().await);
        let bob = watch(&one, "bob").await;
        is_told(&bob, "herald.join", "bob").await;
        let mut ann = watch(&one, "ann").await;
        is_told(&bob, "herald.join", "ann").await;
        for edge in [&one, &other, &one, &other] {
            ann.cut().await;
            ann = watch(edge, "ann").await;
            ann.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        }
        // One that comes late knows all of them at once.
        let late = patient(&nats).start().await;
        counts(&late, 2, BOUND).await;
        assert_eq!(listed(&late).await, BTreeSet::from(["ann".to_owned(), "bob".to_owned()]));
        // So long that whoever was not back in time would have been told to be gone.
        let cid = watch(&late, "cid").await;
        is_told(&bob, "herald.join", "cid").await;
        cid.cut().await;
        is_told(&bob, "herald.leave", "cid").await;
        assert_eq!(told(&bob), ["+bob", "+ann", "+cid", "-cid"]);
        // An edge that ends by plan sends them away, and they are back in time.
        other.stop().await;
        let _ann = watch(&late, "ann").await;
        counts(&one, 2, BOUND).await;
        eventually("the edge is gone", BOUND, async || {
            let edges = one.metric("herald_presence_edges_count", &[]).await;
            if edges == 1.0 { Ok(()) } else { Err(edges) }
        })
        .await;
        assert_eq!((told(&bob).len(), listed(&one).await.len()), (4, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_watch_may_not_ask_who_is_there() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = quick(&nats).start().await;
        let bearer = format!("Bearer {}", token("ann"));
        let status = async |path: &str, headers: &[(&str, &str)]| {
            http::send(Method::GET, &edge.http(path), headers, "").await.status
        };
        let known = [("authorization", bearer.as_str())];
        assert_eq!(status("/presence/s1", &known).await, 200);
        assert_eq!(status("/app/presence/s1", &known).await, 200);
        assert_eq!(status("/presence/s1", &[]).await, 401);
        assert_eq!(status("/presence/s3", &known).await, 403, "another's session");
        assert_eq!(status("/presence/a.b", &known).await, 404);
        assert_eq!(status("/gm/presence/s1", &known).await, 404, "a Game Master has no company");
        assert_eq!(status("/presence/s1?limit=0", &known).await, 400);
        assert_eq!(status("/presence/s1?next=x", &known).await, 400);
        let reply = http::send(Method::POST, &edge.http("/presence/s1"), &known, "").await.expect_status(405);
        assert_eq!(reply.header("allow"), "GET");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_asked_who_may_come_in_is_asked_who_may_know() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let route = "[[ws-edge.listeners.routes]]\npath = \"/ws/{sid}\"\nroots = [\"gm\"]\nadmit = \"dice\"\n";
        let listener = "[[ws-edge.listeners]]\nname = \"table\"\npresence = \"list\"\n";
        let edge = Edge::new(&nats).config(format!("{listener}{route}")).start().await;
        edge.get("/presence/s1").await.expect_status(503);
        let client = nats.client().await;
        let mut questions = client.subscribe("admit.dice").await.unwrap();
        client.request("$JS.API.INFO", "".into()).await.unwrap();
        let answering = tokio::spawn(async move {
            use futures_util::StreamExt as _;
            while let Some(question) = questions.next().await {
                let asked: Value = serde_json::from_slice(&question.payload).unwrap();
                let answer = match asked["sid"].as_str().unwrap() {
                    "s1" => json!({"allow": true, "user": "ann", "role": "dm", "display_name": "Ann"}),
                    _ => json!({"allow": false}),
                };
                client.publish(question.reply.unwrap(), answer.to_string().into()).await.unwrap();
            }
        });
        let socket = ws::Client::connect(&edge.ws("/ws/s1"), ws::V1).await;
        let join = is_told(&socket, "herald.join", "ann").await;
        assert_eq!((&join["role"], &join["name"]), (&json!("dm"), &json!("Ann")), "as the engine says");
        let said = edge.get("/presence/s1").await.expect_status(200).json();
        assert_eq!((&said["count"], &said["persons"][0]["name"]), (&json!(1), &json!("Ann")));
        edge.get("/presence/s2").await.expect_status(403);
        answering.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_answered_by_an_edge_that_shows_its_sessions() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let showing = async |root: &str| {
            let listener = "[[ws-edge.listeners]]\nname = \"a\"\npresence = \"list\"\n";
            let route = format!("[[ws-edge.listeners.routes]]\npath = \"/ws/{{sid}}\"\nroots = [\"{root}\"]\n");
            Edge::new(&nats).config(format!("{listener}{route}")).start().await
        };
        let (gm, _arena) = (showing("gm").await, showing("arena").await);
        let _socket = ws::Client::connect(&gm.ws("/ws/s1"), ws::V1).await;
        let client = nats.client().await;
        let count = async |root: &str| {
            let answer = client.request(format!("edge.present.{root}.s1"), "".into()).await.unwrap();
            serde_json::from_slice::<Value>(&answer.payload).unwrap()["count"].clone()
        };
        for _ in 0..30 {
            assert_eq!((count("gm").await, count("arena").await), (json!(1), json!(0)));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_tells_as_much_as_it_is_told_to_and_only_those_who_know_such_frames() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let counting = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\npresence = \"count\"\n";
        let edge = Edge::new(&nats).config(counting).start().await;
        let socket = ws::Client::connect(&edge.ws("/ws/s1"), ws::V1).await;
        let stream = sse::Client::connect(&edge.http("/sse/s1"), None).await;
        let plain = ws::Client::connect(&edge.ws("/ws/s1"), ws::PLAIN).await;
        let three = |data: &Value| data["count"] == 3;
        socket.wait_for("three", BOUND, |frame| frame.event() == "herald.presence" && three(frame.data())).await;
        stream.wait_for("three", BOUND, |event| event.event == "herald.presence" && three(&event.json())).await;
        let said = edge.get("/presence/s1").await.expect_status(200).json();
        assert_eq!((&said["count"], said.get("persons")), (&json!(3), None));
        // An event proves that nothing else came before it.
        engine.publish("gm.s1.phase", r#"{"n":1}"#).await;
        assert_eq!(plain.wait_events(1, BOUND).await[0].event(), "gm.phase");
        assert_eq!(plain.frames().len(), 1, "not one unknown event");
        socket.wait_events(1, BOUND).await;
        assert!(socket.frames().iter().all(|frame| !["herald.join", "herald.leave"].contains(&frame.event())));
        socket.check_order();

        // And by default nothing at all.
        let silent = Edge::new(&nats).start().await;
        let socket = ws::Client::connect(&silent.ws("/ws/s1?after=0"), ws::V1).await;
        socket.wait_events(1, BOUND).await;
        assert!(socket.frames().iter().all(|frame| frame.event() != "herald.presence"));
        silent.get("/presence/s1").await.expect_status(404);
        assert_eq!(silent.metric("herald_presence_said_total", &[]).await, 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nats_is_away_nobody_is_taken_for_gone_and_afterwards_all_is_true() {
    within(MINUTE * 2, async {
        let mut nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let (one, other) = (quick(&nats).start().await, quick(&nats).start().await);
        let bob = watch(&one, "bob").await;
        let ann = watch(&other, "ann").await;
        let _cid = watch(&other, "cid").await;
        counts(&one, 3, BOUND).await;
        nats.kill().await;
        eventually("it is said that nobody can know", BOUND, async || {
            let said = asked(&one, "/presence/s1").await;
            if said["complete"] == false { Ok(()) } else { Err(said) }
        })
        .await;
        // One leaves meanwhile, and the outage is five times what an edge may be silent for.
        ann.cut().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let said = asked(&one, "/presence/s1").await;
        assert_eq!((&said["count"], &said["complete"]), (&json!(3), &json!(false)));
        nats.resume().await;
        counts(&one, 2, BOUND).await;
        counts(&other, 2, BOUND).await;
        is_told(&bob, "herald.leave", "ann").await;
        assert!(!told(&bob).contains(&"-cid".to_owned()));
    })
    .await;
}

/// A crowd of users, by number, each with a connection at one of two edges.
struct Crowd {
    tokens: Vec<String>,
    clients: Vec<Option<(usize, ws::Client)>>,
}

impl Crowd {
    fn new(size: usize) -> Self {
        let tokens = (0..size).map(|number| token(&format!("u{number}"))).collect();
        Self { tokens, clients: (0..size).map(|_| None).collect() }
    }

    /// Has these come to an edge, some at a time. They are plain: what they would be told is of no interest here.
    async fn come(&mut self, edges: &[&Service], to: usize, numbers: impl IntoIterator<Item = usize>) {
        let numbers: Vec<_> = numbers.into_iter().collect();
        for part in numbers.chunks(100) {
            let opening = part.iter().map(|&number| {
                let token = format!("herald.token.{}", self.tokens[number]);
                let url = edges[to].ws("/ws/s1");
                async move { (number, ws::Client::connect(&url, &[&token, "herald.plain"]).await) }
            });
            for (number, client) in join_all(opening).await {
                self.clients[number] = Some((to, client));
            }
        }
    }

    /// Has these go.
    fn go(&mut self, numbers: impl IntoIterator<Item = usize>) {
        numbers.into_iter().for_each(|number| self.clients[number] = None);
    }

    fn at(&self, edge: usize) -> Vec<usize> {
        let there = self.clients.iter().enumerate();
        there
            .filter(|(_, client)| client.as_ref().is_some_and(|(at, _)| *at == edge))
            .map(|(number, _)| number)
            .collect()
    }

    fn users(&self) -> BTreeSet<String> {
        let there = self.clients.iter().enumerate().filter(|(_, client)| client.is_some());
        there.map(|(number, _)| format!("u{number}")).chain(["watcher".to_owned()]).collect()
    }

    /// Waits until these edges know exactly who is there.
    async fn is_known(&self, edges: &[&Service], bound: Duration) {
        let users = self.users();
        for edge in edges {
            counts(edge, users.len(), bound).await;
            assert_eq!(listed(edge).await, users);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crowd_has_come_and_gone_and_an_edge_was_killed_the_truth_is_known_within_20_seconds() {
    const CROWD: usize = 2000;
    within(MINUTE * 3, async {
        raise_descriptors(3 * CROWD as u64);
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let (mut one, other) = (door(&nats, "list", "").start().await, door(&nats, "list", "").start().await);
        let watcher = watch(&other, "watcher").await;
        let mut crowd = Crowd::new(CROWD);
        let edges = [&one, &other];
        crowd.come(&edges, 0, (0..CROWD).filter(|number| number % 2 == 0)).await;
        crowd.come(&edges, 1, (0..CROWD).filter(|number| number % 2 == 1)).await;
        crowd.is_known(&[&one, &other], BOUND).await;

        // Some leave for good; others reload, half of them at the other edge: these were never gone.
        let before = watcher.frames().len();
        for round in 0..4 {
            crowd.go((0..CROWD).filter(|number| number % 20 == round));
            for part in 0..4 {
                let those = |number: &usize| number % 20 == 10 + round && number / 20 % 4 == part;
                let reload: Vec<_> = (0..CROWD).filter(those).collect();
                crowd.go(reload.iter().copied());
                crowd.come(&edges, (round + part) % 2, reload).await;
            }
        }
        crowd.is_known(&[&one, &other], BOUND).await;
        let of_those = |frame: &ws::Frame, those: &dyn Fn(usize) -> bool| {
            let user = frame.data()["user"].as_str().and_then(|user| user.strip_prefix('u'));
            user.and_then(|number| number.parse().ok()).is_some_and(those)
        };
        let reloaded = |number: usize| (10..14).contains(&(number % 20));
        let flickers = watcher.frames()[before..].iter().filter(|frame| of_those(frame, &reloaded)).count();
        assert_eq!(flickers, 0, "of those who reloaded nobody is told");

        // An edge dies. Half of its clients come back to the other one, while some of that one leave.
        let before = watcher.frames().len();
        let orphans = crowd.at(0);
        one.kill().await;
        let killed = Instant::now();
        crowd.go(orphans.iter().copied());
        crowd.go(crowd.at(1).into_iter().step_by(10));
        let back: BTreeSet<_> = orphans.iter().copied().step_by(2).collect();
        crowd.come(&[&other, &other], 1, back.iter().copied()).await;
        assert!(killed.elapsed() < Duration::from_secs(12), "too slow a machine to be back in time");
        crowd.is_known(&[&other], TRUTH.saturating_sub(killed.elapsed())).await;
        let is_back = |number: usize| back.contains(&number);
        let flickers = watcher.frames()[before..].iter().filter(|frame| of_those(frame, &is_back)).count();
        assert_eq!(flickers, 0, "who is back in time was never gone");
        let count = crowd.users().len();
        let told = |frame: &ws::Frame| frame.data()["count"] == count;
        watcher.wait_for("the number at the end", BOUND, told).await;
    })
    .await;
}
