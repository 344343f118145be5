//! Who may come in is an engine's to say: a real one, over a real NATS, that says all it can say, and nothing.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use herald_testkit::{
    Edge, Nats, Service, eventually,
    http::{self, send},
    sse, users, within, ws,
};
use hyper::Method;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    auth::with_token,
    forge::{SECRET, claims, hs256, now, with},
    support::Engine,
};

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);

/// A door whose routes ask `dice`, one that asks nobody, and one without a session in its path.
fn door(nats: &Nats, auth: &str, admission: &str) -> Edge {
    let route = |path: &str, more: &str| {
        format!("[[ws-edge.listeners.routes]]\npath = {path:?}\nroots = [\"gm\"]\nsnapshot = [\"gm.phase\"]\n{more}\n")
    };
    let asks = "admit = \"dice\"\nadmit_query = [\"player_id\"]\ndoor = \"player\"\n";
    let routes = [
        route("/ws/{sid}", asks),
        route("/sse/{sid}", &format!("{asks}transport = \"sse\"")),
        route("/alias/{sid}", &format!("{asks}alias = \"ALIASES\"")),
        route("/follow", asks),
        route("/open/{sid}", ""),
    ];
    let jwt = format!("[ws-edge.jwt]\nsecret = \"{SECRET}\"\nleeway = \"0s\"\nadmission_claims = [\"email\"]\n");
    let listener = format!("[[ws-edge.listeners]]\nname = \"table\"\nauth = \"{auth}\"\n");
    Edge::new(nats).config(format!("{jwt}[ws-edge.admission]\n{admission}\n{listener}{}", routes.concat()))
}

/// An engine that is asked who may come in.
pub(crate) struct Keeper {
    client: async_nats::Client,
    asked: Arc<Mutex<Vec<Value>>>,
    /// Whether it answers.
    answers: watch::Sender<bool>,
    ends: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// One that answers what `says` makes of a question.
    pub(crate) async fn start(nats: &Nats, mut says: impl FnMut(&Value) -> Vec<u8> + Send + 'static) -> Self {
        let client = users::connect(&nats.url()).await.unwrap();
        let mut questions = client.subscribe("admit.dice").await.unwrap();
        let (asked, answers) = (Arc::<Mutex<Vec<Value>>>::default(), watch::Sender::new(true));
        let (noted, mut may, answering) = (asked.clone(), answers.subscribe(), client.clone());
        let ends = watch::Sender::new(false);
        let mut end = ends.subscribe();
        let task = tokio::spawn(async move {
            let serving = async {
                while let Some(question) = questions.next().await {
                    let asked = serde_json::from_slice(&question.payload).unwrap();
                    let answer = says(&asked);
                    noted.lock().unwrap().push(asked);
                    may.wait_for(|may| *may).await.unwrap();
                    answering.publish(question.reply.unwrap(), answer.into()).await.unwrap();
                }
            };
            tokio::select! {
                () = serving => {}
                _ended = end.wait_for(|end| *end) => {}
            }
            questions.unsubscribe().await.unwrap();
        });
        let keeper = Self { client, asked, answers, ends, task };
        keeper.settled().await;
        keeper
    }

    /// One that always answers the same.
    async fn saying(nats: &Nats, answer: Value) -> Self {
        Self::start(nats, move |_| answer.to_string().into_bytes()).await
    }

    /// A connection's commands are worked off in turn: with this answer the server knows of all before.
    async fn settled(&self) {
        self.client.request("$JS.API.INFO", "".into()).await.unwrap();
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    async fn wait_asked(&self, count: usize) {
        eventually("the engine is asked", BOUND, async || {
            let asked = self.asked().len();
            if asked >= count { Ok(()) } else { Err(asked) }
        })
        .await;
    }

    /// Ends it, the question under way unanswered.
    pub(crate) async fn end(mut self) {
        self.ends.send_replace(true);
        (&mut self.task).await.unwrap();
        self.settled().await;
    }
}

/// How a socket ends that is never shown anything.
async fn refused(url: &str) -> (u16, String) {
    let socket = ws::Client::connect(url, ws::V1).await;
    let end = socket.wait_end(BOUND).await;
    assert!(socket.frames().is_empty(), "{url}: {socket:?}");
    (end.code(), end.reason().to_owned())
}

/// Opens a socket that is let in.
async fn watches(url: &str) -> ws::Client {
    let socket = ws::Client::connect(url, ws::V1).await;
    socket.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
    socket
}

async fn counted(edge: &Service, what: &str, labels: &[&str]) -> f64 {
    edge.metric(&format!("herald_admission_{what}"), labels).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_lets_in_or_not_before_anything_is_shown() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let keeper = Keeper::start(&nats, |asked| {
            let answer = match asked["sid"].as_str().unwrap() {
                "t1" => json!({"allow": true, "role": "player"}),
                "full" => json!({"allow": false, "code": 4403, "reason": "This table is full"}),
                "none" => json!({"allow": false, "code": 4404}),
                "who" => json!({"allow": false, "code": 4401, "reason": "Who are you?"}),
                "own" => json!({"allow": false, "code": 4444, "reason": "Come tomorrow"}),
                "odd" => json!({"allow": false, "code": 4404, "reason": "a\r\nb"}),
                _ => json!({"allow": false}),
            };
            answer.to_string().into_bytes()
        })
        .await;
        let edge = door(&nats, "off", "").start().await;
        for session in ["t1", "full", "none", "who", "own", "odd", "any"] {
            engine.publish(&format!("gm.{session}.phase"), r#"{"text":"past"}"#).await;
        }
        let origin = [("origin", "https://play.example")];
        let options = ws::Options { protocols: ws::V1, headers: &origin, ..ws::Options::default() };
        let url = edge.ws("/ws/t1?after=0&player_id=p%2F1&other=x");
        let socket = ws::Client::open(&url, options).await.unwrap();
        let stream = sse::Client::connect(&edge.http("/sse/t1?snapshot=1"), None).await;
        socket.wait_events(1, BOUND).await;
        stream.wait_events(1, BOUND).await;
        let told = keeper.asked();
        let common = json!({"door": "player", "listener": "table", "sid": "t1", "ip": "127.0.0.1"});
        let expected = |more: Value| {
            let mut all = common.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        let of_socket =
            json!({"transport": "socket", "player_id": "p/1", "origin": "https://play.example", "resume": true});
        assert_eq!(told[0], expected(of_socket), "nothing else of the query");
        assert_eq!(told[1], expected(json!({"transport": "sse", "resume": false})));

        for (session, code, status, reason) in [
            ("full", 4403, 403, "This table is full"),
            ("none", 4404, 404, "No such session"),
            ("who", 4401, 401, "Who are you?"),
            ("own", 4444, 403, "Come tomorrow"),
            ("odd", 4404, 404, "No such session"),
            ("any", 4403, 403, "Not allowed"),
        ] {
            for query in ["", "?after=0", "?snapshot=1"] {
                let url = edge.ws(&format!("/ws/{session}{query}"));
                assert_eq!(refused(&url).await, (code, reason.to_owned()), "{url}");
                let reply = edge.get(&format!("/sse/{session}{query}")).await.expect_status(status);
                assert_eq!((reply.error().as_str(), &reply.json()["code"]), (reason, &json!(code)), "{url}");
            }
            let resumed = [("last-event-id", "0")];
            send(Method::GET, &edge.http(&format!("/sse/{session}")), &resumed, "").await.expect_status(status);
        }
        // Whoever asks for what can't be is told so by us; and where nobody is to be asked, nobody is.
        let asked = keeper.asked().len();
        for id in ["a.b", "%00", "*", "x%0A"] {
            assert_eq!(refused(&edge.ws(&format!("/ws/{id}"))).await, (4404, "no such session".to_owned()), "{id}");
            edge.get(&format!("/sse/{id}")).await.expect_status(404);
        }
        let refused = ws::Client::open(&edge.ws("/ws/t1?player_id=%00"), ws::Options::default()).await;
        assert!(matches!(refused, Err(ws::Refused::Status { status: 400, .. })));
        edge.get("/sse/t1?player_id=a&player_id=b").await.expect_status(400);
        edge.get("/sse/t1?after=x").await.expect_status(400);
        let open = watches(&edge.ws("/open/full?after=0")).await;
        open.wait_events(1, BOUND).await;
        assert_eq!(keeper.asked().len(), asked);

        assert_eq!(counted(&edge, "asked_total", &["service=\"dice\""]).await, asked as f64);
        assert_eq!(counted(&edge, "allowed_total", &[]).await, 2.0);
        for (reason, least) in [("not_allowed", 14.0), ("no_session", 14.0), ("not_identified", 7.0), ("other", 7.0)] {
            assert_eq!(counted(&edge, "refused_total", &[&format!("reason=\"{reason}\"")]).await, least, "{reason}");
        }
        assert_eq!(counted(&edge, "seconds_count", &[]).await, asked as f64);
        assert!(counted(&edge, "reused_total", &[]).await > 0.0, "a no counts for a while, too");
        assert_eq!(edge.metric("herald_watching_connections_count", &[]).await, 3.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_says_which_session_is_shown_and_to_whom() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let keeper = Keeper::start(&nats, |asked| {
            let answer = match (asked["sid"].as_str(), asked["player_id"].as_str()) {
                (Some("mine"), user) => json!({"allow": true, "sid": "t2", "user": user, "role": "dm"}),
                (Some("g"), _) => json!({"allow": true, "sid": "table-of-g"}),
                (None, Some("nobody")) => json!({"allow": true}),
                (None, _) => json!({"allow": true, "sid": "t2", "follow": true}),
                _ => json!({"allow": true}),
            };
            answer.to_string().into_bytes()
        })
        .await;
        let limits = |edge: Edge| edge.set("limits.connections_per_user", 1).set("limits.connections_per_session", 3);
        let edge = limits(door(&nats, "off", "")).start().await;
        let ann = watches(&edge.ws("/ws/mine?player_id=ann")).await;
        let follows = watches(&edge.ws("/follow")).await;
        let named = watches(&edge.ws("/follow?session_id=t%32")).await;
        engine.publish("gm.mine.phase", r#"{"text":"mine"}"#).await;
        engine.publish("gm.t2.phase", r#"{"text":"t2"}"#).await;
        for socket in [&ann, &follows, &named] {
            assert_eq!(socket.wait_events(1, BOUND).await[0].data()["text"], "t2");
        }
        assert_eq!(engine.watching("t2", Duration::from_millis(500)).await[0]["count"], 3);
        assert_eq!(engine.watching("mine", Duration::from_millis(500)).await[0]["count"], 0);
        // Limits count whom and what the engine named.
        let full = refused(&edge.ws("/ws/mine?player_id=bob")).await;
        assert_eq!(full, (1013, "Too many connections to this session; retry in 5 s".to_owned()));
        follows.close().await;
        eventually("its place is free", BOUND, async || {
            let count = edge.metric("herald_watching_connections_count", &[]).await;
            if count < 3.0 { Ok(()) } else { Err(count) }
        })
        .await;
        let twice = refused(&edge.ws("/ws/mine?player_id=ann")).await;
        assert_eq!(twice, (1013, "Too many connections of this user; retry in 5 s".to_owned()));

        // An alias is still one.
        engine.alias("table-of-g", "t7", 0).await;
        let by_alias = ws::Client::connect(&edge.ws("/alias/g"), ws::V1).await;
        engine.publish("gm.t7.phase", r#"{"text":"t7"}"#).await;
        by_alias.wait_for("the alias", BOUND, |frame| frame.data()["text"] == "t7").await;
        engine.alias("table-of-g", "t8", 0).await;
        engine.publish("gm.t8.phase", r#"{"text":"t8"}"#).await;
        by_alias.wait_for("the alias moves", BOUND, |frame| frame.data()["text"] == "t8").await;

        // No session asked for and none named is none; nor is what can't be one.
        assert_eq!(refused(&edge.ws("/follow?player_id=nobody")).await.0, 1013);
        let asked = keeper.asked().len();
        assert_eq!(refused(&edge.ws("/follow?session_id=a.b")).await.0, 4404);
        assert_eq!(refused(&edge.ws("/follow?session_id=")).await.0, 4404);
        let twice = ws::Client::open(&edge.ws("/follow?session_id=a&session_id=b"), ws::Options::default()).await;
        assert!(matches!(twice, Err(ws::Refused::Status { status: 400, .. })));
        assert_eq!(keeper.asked().len(), asked);
        assert!(keeper.asked()[1].get("sid").is_none() && keeper.asked()[2]["sid"] == "t2");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_nobody_comes_in() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        engine.publish("gm.t1.phase", r#"{"text":"secret"}"#).await;
        let edge = door(&nats, "off", "timeout = \"700ms\"\nreuse = \"0s\"").start().await;
        let closed = async |what: &str, reason: &str| {
            let before = counted(&edge, "refused_total", &[&format!("reason=\"{reason}\"")]).await;
            let end = refused(&edge.ws("/ws/t1?after=0")).await;
            assert_eq!(end, (1013, "admission cannot be answered now".to_owned()), "{what}");
            let reply = edge.get("/sse/t1?after=0").await.expect_status(503);
            assert_eq!(reply.error(), "Admission cannot be answered now", "{what}");
            assert_eq!(reply.header("retry-after"), "1", "{what}");
            let now = counted(&edge, "refused_total", &[&format!("reason=\"{reason}\"")]).await;
            assert_eq!(now, before + 2.0, "{what}");
        };
        closed("nobody listens", "no_responders").await;
        for (what, answer) in [
            ("nothing", b"".to_vec()),
            ("no JSON", b"{\"allow\":true".to_vec()),
            ("another type", b"[true]".to_vec()),
            ("text for a yes", b"{\"allow\":\"true\"}".to_vec()),
            ("no word of it", b"{}".to_vec()),
            ("a session that is none", b"{\"allow\":true,\"sid\":\"gm.>\"}".to_vec()),
            ("a user with a line break", b"{\"allow\":true,\"user\":\"a\\r\\nb\"}".to_vec()),
            ("a code of others", b"{\"allow\":false,\"code\":1000}".to_vec()),
            ("bytes", vec![0xff; 64]),
            ("a giant", format!("{{\"allow\":true,\"x\":\"{}\"}}", "x".repeat(4 << 20)).into_bytes()),
        ] {
            let keeper = Keeper::start(&nats, move |_| answer.clone()).await;
            closed(what, "invalid").await;
            keeper.end().await;
        }
        assert!(edge.log().matches("an answer of the engine that is none").count() < 10, "not each time");

        let keeper = Keeper::saying(&nats, json!({"allow": true})).await;
        keeper.answers.send_replace(false);
        let begun = Instant::now();
        closed("silence", "timeout").await;
        assert!(begun.elapsed() >= 2 * Duration::from_millis(700), "each had its time");
        // An answer that comes too late is nobody's.
        keeper.answers.send_replace(true);
        keeper.settled().await;
        watches(&edge.ws("/ws/t1")).await;
        keeper.end().await;
        closed("gone again", "no_responders").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_with_a_question_lets_nobody_in_and_its_players_come_back() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = door(&nats, "off", "timeout = \"1s\"").start().await;
        let keeper = Keeper::saying(&nats, json!({"allow": true})).await;
        let ann = watches(&edge.ws("/ws/t1?player_id=ann")).await;
        engine.publish("gm.t1.phase", r#"{"text":"one"}"#).await;
        ann.wait_events(1, BOUND).await;
        let cursor = ann.cursor().unwrap();
        keeper.answers.send_replace(false);
        let url = edge.ws("/ws/t1?player_id=bob");
        let bob = tokio::spawn(async move { refused(&url).await });
        keeper.wait_asked(2).await;
        keeper.end().await;
        assert_eq!(bob.await.unwrap(), (1013, "admission cannot be answered now".to_owned()));
        ann.cut().await;
        engine.publish("gm.t1.phase", r#"{"text":"two"}"#).await;
        let back = ws::Client::connect(&edge.ws(&format!("/ws/t1?player_id=ann&after={cursor}")), ws::V1).await;
        assert_eq!(back.wait_events(1, BOUND).await[0].data()["text"], "two", "as nobody else can say no");
        assert_eq!(refused(&edge.ws("/ws/t1?player_id=bob")).await.0, 1013);
        assert_eq!(refused(&edge.ws("/ws/t2?player_id=ann")).await.0, 1013, "not in another session");
        let keeper = Keeper::saying(&nats, json!({"allow": true})).await;
        watches(&edge.ws("/ws/t1?player_id=bob")).await;
        assert_eq!(keeper.asked().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_for_a_while_and_equal_questions_are_one() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = door(&nats, "off", "timeout = \"10s\"\nreuse = \"5s\"").start().await;
        let keeper = Keeper::saying(&nats, json!({"allow": true})).await;
        keeper.answers.send_replace(false);
        let opened: Vec<_> = (0..5)
            .map(|_| {
                let url = edge.ws("/ws/t1");
                tokio::spawn(async move { watches(&url).await })
            })
            .collect();
        eventually("four wait for the answer to the first", BOUND, async || {
            let shared = counted(&edge, "shared_total", &[]).await;
            if shared == 4.0 { Ok(()) } else { Err(shared) }
        })
        .await;
        keeper.answers.send_replace(true);
        for socket in opened {
            socket.await.unwrap();
        }
        assert_eq!(keeper.asked().len(), 1);
        watches(&edge.ws("/ws/t1")).await;
        assert_eq!((keeper.asked().len(), counted(&edge, "reused_total", &[]).await), (1, 1.0));
        eventually("the answer has had its time", BOUND, async || {
            watches(&edge.ws("/ws/t1")).await;
            let asked = keeper.asked().len();
            if asked == 2 { Ok(()) } else { Err(asked) }
        })
        .await;
        keeper.end().await;

        let once = Keeper::saying(&nats, json!({"allow": true, "reuse_s": 0})).await;
        for count in 1..=3 {
            watches(&edge.ws("/ws/t3")).await;
            assert_eq!(once.asked().len(), count);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_told_what_a_token_says_and_never_the_token() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        engine.publish("gm.t1.phase", r#"{"text":"past"}"#).await;
        engine.publish("gm.t2.phase", r#"{"text":"past"}"#).await;
        let keeper = Keeper::start(&nats, |asked| {
            let answer = match asked["claims"]["user"].as_str().unwrap() {
                "eve" => json!({"allow": false, "code": 4403, "reason": "Not you"}),
                "dan" => json!({"allow": true, "sid": "t2"}),
                _ => json!({"allow": true}),
            };
            answer.to_string().into_bytes()
        })
        .await;
        let edge = door(&nats, "jwt", "").start().await;
        let frame = |token: &str| json!({"event": "herald.token", "data": {"token": token}}).to_string();
        let url = edge.ws("/ws/t1?after=0");
        let ann = hs256(&with(with(claims("ann", &["t1"]), "email", "ann@example.com"), "role", "player"));
        let in_header = with_token(&url, &ann).await;
        let late = ws::Client::connect(&url, ws::V1).await;
        late.send_text(frame(&ann)).await;
        let bearer = format!("Bearer {ann}");
        let stream = http::open(Method::GET, &edge.http("/sse/t1?after=0"), &[("authorization", &bearer)], "").await;
        assert_eq!(stream.unwrap().status(), 200);
        for socket in [&in_header, &late] {
            socket.wait_events(1, BOUND).await;
        }
        let told = json!({"user": "ann", "role": "player", "sessions": ["t1"], "email": "ann@example.com"});
        assert!(keeper.asked().iter().all(|asked| asked["claims"] == told), "{:?}", keeper.asked());
        assert_eq!(keeper.asked().len(), 2, "the late one is the same as the early one");

        // What the token does not allow is not asked for; what it says nothing of is the engine's to say.
        let asked = keeper.asked().len();
        let socket = with_token(&edge.ws("/ws/t2?after=0"), &ann).await;
        assert_eq!(socket.wait_end(BOUND).await.code(), 4403);
        assert_eq!(with_token(&edge.ws("/alias/t1"), &ann).await.wait_end(BOUND).await.code(), 4403, "any session");
        assert_eq!(with_token(&url, "x").await.wait_end(BOUND).await.code(), 4401);
        edge.get("/sse/t1").await.expect_status(401);
        assert_eq!(keeper.asked().len(), asked);
        let open = |user: &str| hs256(&json!({"sub": user, "exp": now() + 60}));
        with_token(&url, &open("bob")).await.wait_events(1, BOUND).await;
        assert_eq!(keeper.asked()[asked]["claims"], json!({"user": "bob"}));
        let dan = with_token(&url, &hs256(&claims("dan", &["t1"]))).await;
        engine.publish("gm.t2.phase", r#"{"text":"t2"}"#).await;
        dan.wait_for("the session that the engine named", BOUND, |frame| frame.data()["text"] == "t2").await;

        let eve = open("eve");
        for (socket, say) in [(with_token(&url, &eve).await, false), (ws::Client::connect(&url, ws::V1).await, true)] {
            if say {
                socket.send_text(frame(&eve)).await;
            }
            let end = socket.wait_end(BOUND).await;
            assert_eq!((end.code(), end.reason()), (4403, "Not you"));
            assert!(socket.frames().is_empty(), "{socket:?}");
        }
        let bearer = format!("Bearer {eve}");
        let reply = send(Method::GET, &edge.http("/sse/t1?after=0"), &[("authorization", &bearer)], "").await;
        assert_eq!((reply.status, reply.error().as_str()), (403, "Not you"));
        for token in [&ann, &eve] {
            let all = format!("{:?}", keeper.asked());
            assert!(token.split('.').all(|part| !all.contains(part)), "{all}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_asked_again_when_a_fresh_token_says_something_else() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let keeper = Keeper::start(&nats, |asked| {
            let answer = match asked["claims"]["role"].as_str() {
                Some("banned") => json!({"allow": false, "code": 4403, "reason": "Not any more"}),
                Some("moved") => json!({"allow": true, "sid": "t2"}),
                _ => json!({"allow": true}),
            };
            answer.to_string().into_bytes()
        })
        .await;
        let edge = door(&nats, "jwt", "timeout = \"700ms\"").start().await;
        let frame = |token: &str| json!({"event": "herald.token", "data": {"token": token}}).to_string();
        let role = |role: &str| hs256(&with(claims("ann", &["t1"]), "role", role));
        let url = edge.ws("/ws/t1");
        let mut sockets = Vec::new();
        for _ in 0..6 {
            sockets.push(with_token(&url, &role("player")).await);
        }
        let [same, dm, banned, moved, other, late] = &sockets[..] else { unreachable!() };
        keeper.wait_asked(1).await;
        // The same once more, for longer: nothing to be asked.
        same.send_text(frame(&hs256(&with(with(claims("ann", &["t1"]), "role", "player"), "exp", now() + 600)))).await;
        dm.send_text(frame(&role("dm"))).await;
        banned.send_text(frame(&role("banned"))).await;
        moved.send_text(frame(&role("moved"))).await;
        other.send_text(frame(&hs256(&claims("bob", &["t1"])))).await;
        let end = banned.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (4403, "Not any more"));
        let end = moved.wait_end(BOUND).await;
        assert!(
            end.code() == 1012 && end.reason().starts_with("restart"),
            "it comes back, and is let in there: {end:?}"
        );
        assert!(other.wait_end(BOUND).await.reason().contains("another user's"));
        keeper.wait_asked(4).await;
        engine.publish("gm.t1.phase", r#"{"text":"on"}"#).await;
        for socket in [same, dm, late] {
            socket.wait_events(1, BOUND).await;
        }
        let roles: Vec<_> = keeper.asked().iter().map(|asked| asked["claims"]["role"].clone()).collect();
        assert_eq!((roles.len(), &roles[0]), (4, &json!("player")), "{roles:?}");
        assert!(["dm", "banned", "moved"].iter().all(|role| roles.contains(&json!(role))), "{roles:?}");
        keeper.end().await;
        late.send_text(frame(&role("somebody"))).await;
        assert_eq!(late.wait_end(BOUND).await.code(), 1013, "nobody says that this may go on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_asked_about_and_told_from_who_comes() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let keeper = Keeper::start(&nats, |asked| {
            // One that shows nobody the past.
            let answer = json!({"allow": asked["resume"] == json!(false), "code": 4403, "reason": "No past here"});
            answer.to_string().into_bytes()
        })
        .await;
        let edge = door(&nats, "off", "").start().await;
        engine.publish("gm.t1.phase", r#"{"text":"past"}"#).await;
        let socket = watches(&edge.ws("/ws/t1")).await;
        let stream = sse::Client::connect(&edge.http("/sse/t1"), None).await;
        engine.publish("gm.t1.phase", r#"{"text":"now"}"#).await;
        socket.wait_events(1, BOUND).await;
        stream.wait_events(1, BOUND).await;
        let (cursor, id) = (socket.cursor().unwrap(), stream.last_id().unwrap());
        for after in ["0", &cursor] {
            assert_eq!(refused(&edge.ws(&format!("/ws/t1?after={after}"))).await, (4403, "No past here".to_owned()));
            edge.get(&format!("/sse/t1?after={after}")).await.expect_status(403);
        }
        let resumed = [("last-event-id", id.as_str())];
        send(Method::GET, &edge.http("/sse/t1"), &resumed, "").await.expect_status(403);
        for transport in ["socket", "sse"] {
            let told = |resume: bool| {
                let asked = json!([transport, resume]);
                keeper.asked().iter().any(|it| json!([it["transport"], it["resume"]]) == asked)
            };
            assert!(told(true) && told(false), "{transport}: {:?}", keeper.asked());
        }
    })
    .await;
}
