//! Pages of a session's past, and what there is of it.

use std::time::{Duration, Instant};

use axum::{
    Router,
    http::{StatusCode, Uri},
    response::IntoResponse as _,
};
use herald_runtime::jetstream::purge_below;
use herald_testkit::{
    Edge, Nats, Service, eventually,
    http::{self, Reply, send},
    within, ws,
};
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    auth::door,
    forge::{SECRET, claims, hs256},
    sockets::{edge, recording},
    support::Engine,
};

const MINUTES: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(30);

async fn page(edge: &Service, path: &str) -> Value {
    edge.get(path).await.expect_status(200).json()
}

/// All of a session from `after` on, page by page; and each page's number of events.
async fn all(edge: &Service, session: &str, after: &str, more: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut events, mut pages, mut after) = (Vec::new(), Vec::new(), after.to_owned());
    loop {
        let page = page(edge, &format!("/sessions/{session}/events?after={after}{more}")).await;
        assert_eq!(page["gaps"], json!([]), "{after}");
        let of_page = page["events"].as_array().unwrap();
        pages.push(of_page.len());
        events.extend(of_page.iter().cloned());
        after = page["next"].as_str().unwrap().to_owned();
        if page["more"] == false {
            return (events, pages);
        }
    }
}

fn seqs(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_what_a_socket_shows_of_it_page_by_page() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        for (subject, payload) in recording() {
            engine.publish(&subject, payload).await;
            engine.publish("gm.other.phase", "{}").await;
        }
        engine.publish("arena.S.input.fakenews", r#"{"secret":1}"#).await;
        let mut last = engine.publish("gm.S.end", "{\n\"type\": \"end\"\n}").await;
        for shelf in ["64MiB", "0B"] {
            let edge = Edge::new(&nats).set("history.shelf", shelf).start().await;
            let socket = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::PLAIN).await;
            socket.wait_for("the last one", BOUND, |frame| frame.seq() == Some(last)).await;
            let shown: Vec<_> = socket.events().into_iter().map(|frame| frame.json).collect();
            let (whole, pages) = all(&edge, "S", "0", "").await;
            assert_eq!(whole, shown, "as on the socket");
            assert_eq!(pages[0], 500, "as many as are asked for by nobody");
            let (byfew, pages) = all(&edge, "S", "0", "&limit=7").await;
            assert!(byfew == shown && pages[..pages.len() - 1].iter().all(|count| *count == 7), "{pages:?}");
            let (late, _) = all(&edge, "S", &shown[99]["seq"].to_string(), "").await;
            assert_eq!(late, shown[100..]);
            // Some kinds alone.
            let kinds = "&types=gm.proposal,arena.agent.*.output&limit=3";
            let (some, _) = all(&edge, "S", "0", kinds).await;
            let wanted = |event: &&Value| {
                let name = event["event"].as_str().unwrap();
                name == "gm.proposal" || name.starts_with("arena.agent.") && name.ends_with(".output")
            };
            assert_eq!(some, shown.iter().filter(wanted).cloned().collect::<Vec<_>>());
            assert!(some.len() > 10, "{}", some.len());
            // As lines, in another dialect.
            let lines = [("accept", "application/x-ndjson")];
            let url = edge.http("/sessions/S/events?limit=5000");
            let reply = send(Method::GET, &url, &lines, "").await.expect_status(200);
            assert_eq!(
                (reply.header("content-type"), reply.header("cache-control")),
                ("application/x-ndjson", "no-store")
            );
            let mut read: Vec<Value> = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let end = read.pop().unwrap();
            assert_eq!(
                (read, &end["event"], &end["data"]["more"]),
                (shown.clone(), &json!("herald.page"), &json!(false))
            );
            let app = ws::Client::connect(&edge.ws("/app/ws/S?after=0"), ws::PLAIN).await;
            app.wait_for("the last one", BOUND, |frame| frame.seq() == Some(last)).await;
            let in_app = page(&edge, "/app/sessions/S/events?limit=5000").await;
            assert_eq!(in_app["events"], app.events().into_iter().map(|frame| frame.json).collect::<Value>());
            // What comes now is behind `next`.
            let head = page(&edge, "/sessions/S/events?limit=5000").await;
            let next = head["next"].as_str().unwrap();
            let none = page(&edge, &format!("/sessions/S/events?after={next}")).await;
            assert_eq!((seqs(&none), &none["next"], &none["more"]), (vec![], &head["next"], &json!(false)));
            let seq = engine.publish("gm.S.late", "{}").await;
            assert_eq!(seqs(&page(&edge, &format!("/sessions/S/events?after={next}")).await), [seq]);
            assert_eq!(
                edge.metric("herald_watched_sessions", &[]).await,
                1.0,
                "reading opens no ring: two had sockets"
            );
            last = seq;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_says_what_there_is_of_it() {
    within(MINUTES, async {
        let (_nats, engine, edge) = edge().await;
        engine.publish("gm.S._action", r#"{"n":1,"kind":"start"}"#).await;
        let first = engine.publish("gm.S.phase", "{}").await;
        engine.publish("arena.S.input.fakenews", "{}").await;
        for _ in 0..3 {
            engine.publish("arena.S.agent.7.status", "{}").await;
            engine.publish("gm.other.phase", "{}").await;
        }
        let last = engine.publish("gm.S.end", "{}").await;
        engine.publish("gm.S._done", "{}").await;
        let told = page(&edge, "/sessions/S").await;
        assert_eq!(told["types"], json!({"gm.phase": 1, "arena.agent.7.status": 3, "gm.end": 1}));
        assert_eq!((&told["events"], &told["session"], &told["over"]), (&json!(5), &json!("S"), &json!(false)));
        assert_eq!((&told["first"]["seq"], &told["last"]["seq"]), (&json!(first), &json!(last)));
        let events = page(&edge, "/sessions/S/events").await;
        let time = |at: usize| events["events"][at]["ts"].clone();
        assert_eq!((&told["first"]["ts"], &told["last"]["ts"]), (&time(0), &time(4)));
        assert_eq!((&told["epoch"], &told["head"]), (&events["epoch"], &events["head"]));
        engine.publish("gm.S._over", "{}").await;
        assert_eq!(page(&edge, "/sessions/S").await["over"], true);
        // Begun, and nothing to show yet.
        engine.publish("gm.young._action", r#"{"n":1,"kind":"start"}"#).await;
        let young = page(&edge, "/sessions/young").await;
        assert_eq!((&young["events"], &young["first"], &young["last"]), (&json!(0), &Value::Null, &Value::Null));
        let few = Edge::new(&_nats).set("replay.max_types", 1).start().await;
        let told = page(&few, "/sessions/S").await;
        assert_eq!((&told["types"], &told["other_types"]), (&json!({"arena.agent.7.status": 3}), &json!(2)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_and_what_never_was_is_404() {
    within(MINUTES, async {
        let (nats, engine, edge) = edge().await;
        let mut of_s = Vec::new();
        for n in 1..=20 {
            of_s.push(engine.publish("gm.S.phase", json!({ "n": n }).to_string()).await);
            engine.publish("gm.other.phase", "{}").await;
        }
        let epoch = page(&edge, "/sessions/S").await["epoch"].as_str().unwrap().to_owned();
        for path in ["/sessions/never", "/sessions/never/events", "/sessions/never/events?after=5&types=gm.x"] {
            let error = edge.get(path).await.expect_status(404).error();
            assert!(error.starts_with("Nothing is kept of this session"), "{error}");
        }
        let strange = page(&edge, &format!("/sessions/S/events?after=deadbeef-{}", of_s[9])).await;
        assert_eq!((&strange["gaps"][0]["reason"], seqs(&strange)), (&json!("epoch"), of_s.clone()));
        let beyond = page(&edge, "/sessions/S/events?after=9999").await;
        assert_eq!((&beyond["gaps"][0]["reason"], seqs(&beyond)), (&json!("beyond"), of_s.clone()));
        // Trimmed: whoever had read so far is told, whoever begins is not.
        purge_below(&engine.nats, "EVENTS", ">", of_s[10]).await.unwrap();
        let told = page(&edge, &format!("/sessions/S/events?after={epoch}-{}", of_s[4])).await;
        let gap = json!({"from": of_s[4] + 1, "to": of_s[10] - 1, "reason": "trimmed"});
        assert_eq!((&told["gaps"], seqs(&told)), (&json!([gap]), of_s[10..].to_vec()));
        let begun = page(&edge, "/sessions/S/events").await;
        assert_eq!((&begun["gaps"], seqs(&begun)), (&json!([]), of_s[10..].to_vec()));
        // One that somebody deleted.
        let stream = engine.nats.jetstream().get_stream("EVENTS").await.unwrap();
        stream.delete_message(of_s[14]).await.unwrap();
        let lines = [("accept", "application/x-ndjson")];
        let reply = send(Method::GET, &edge.http("/sessions/S/events"), &lines, "").await.expect_status(200);
        let first: Value = serde_json::from_str(reply.text().lines().next().unwrap()).unwrap();
        assert_eq!((&first["event"], &first["data"]["to"]), (&json!("herald.gap"), &json!(of_s[14])));
        assert_eq!(reply.text().lines().count(), 1 + 9 + 1, "and the others are there");
        // The whole session removed, as its owner does; at an edge that has it on its shelf, and at a fresh one.
        let action = engine.publish("gm.S._action", r#"{"n":9,"kind":"cancel"}"#).await;
        let word = json!({ "session": "S", "upto": action - 1, "events": 9 });
        engine.publish("gm._purged", word.to_string()).await;
        purge_below(&engine.nats, "EVENTS", "*.S.>", action).await.unwrap();
        engine.publish("gm.S._over", "{}").await;
        let fresh = Edge::new(&nats).start().await;
        for edge in [&edge, &fresh] {
            let asked = async || page(edge, &format!("/sessions/S/events?after={epoch}-{}", of_s[16])).await;
            eventually("its removal is known", BOUND, async || {
                let told = asked().await;
                if told["gaps"][0]["reason"] == "removed" { Ok(()) } else { Err(told.to_string()) }
            })
            .await;
            assert!(seqs(&asked().await).is_empty());
            edge.get("/sessions/S").await.expect_status(404);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_followed_is_400_and_other_methods_are_others() {
    within(MINUTES, async {
        let (_nats, engine, edge) = edge().await;
        engine.publish("gm.S.phase", "{}").await;
        for (query, error) in [
            ("limit=0", "limit: expected a number from 1"),
            ("limit=many", "limit: expected a number from 1"),
            ("after=x", "after: expected a cursor or a sequence"),
            ("types=gm", "types: `gm` is no pattern such as arena.agent.*.output"),
            ("types=lobby.x", "types: `lobby.x` is not shown on this path"),
            ("types=gm.x&types=gm.y", "types: given twice"),
            ("snapshot=1", "snapshot: there is none on this path"),
            ("dialect=klingon", "dialect: expected event, app or gm"),
        ] {
            let reply = edge.get(&format!("/sessions/S/events?{query}")).await.expect_status(400);
            assert_eq!(reply.error(), error, "{query}");
        }
        edge.get("/sessions/_S/events").await.expect_status(404);
        edge.get("/gm/sessions/S/events").await.expect_status(503);
        // What else is done with these paths goes to who does it.
        let _served = engine
            .serve(Router::new().fallback(async |method: Method, uri: Uri| match method {
                Method::PATCH => (StatusCode::METHOD_NOT_ALLOWED, [("allow", "DELETE")]).into_response(),
                method => format!("{method} {uri}").into_response(),
            }))
            .await;
        let ask = async |method: Method, path: &str| -> Reply { send(method, &edge.http(path), &[], "").await };
        assert_eq!(ask(Method::DELETE, "/sessions/S").await.text(), "DELETE /sessions/S");
        assert_eq!(ask(Method::POST, "/sessions/S/end").await.text(), "POST /sessions/S/end");
        assert_eq!(ask(Method::POST, "/sessions/S/events").await.text(), "POST /sessions/S/events");
        let refused = ask(Method::PATCH, "/sessions/S").await.expect_status(405);
        assert_eq!(refused.header("allow"), "DELETE, GET");
        assert_eq!(ask(Method::GET, "/sessions/S/else").await.text(), "GET /sessions/S/else");
        assert_eq!(seqs(&page(&edge, "/sessions/S/events").await).len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_for_those_who_may_watch() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = door(&nats, &format!("secret = \"{SECRET}\"\n")).start().await;
        engine.publish("gm.mine.phase", "{}").await;
        engine.publish("gm.theirs.phase", "{}").await;
        let token = format!("Bearer {}", hs256(&claims("ann", &["mine"])));
        let with = [("authorization", token.as_str())];
        for (path, session) in [("", "mine"), ("/events", "mine"), ("", "theirs"), ("/events", "theirs")] {
            let url = edge.http(&format!("/sessions/{session}{path}"));
            http::get(&url).await.expect_status(401);
            let status = if session == "mine" { 200 } else { 403 };
            send(Method::GET, &url, &with, "").await.expect_status(status);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_the_past_is_counted_as_watching_and_takes_its_turn() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        for _ in 0..40 {
            engine.publish("gm.S.phase", json!({ "text": "x".repeat(100_000) }).to_string()).await;
        }
        let edge = Edge::new(&nats)
            .set("limits.connections_per_session", 1)
            .set("replay.max_bytes", "8MiB")
            .set("socket.write_timeout", "300ms")
            .start()
            .await;
        let watching = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        watching.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        let refused = edge.get("/sessions/S/events").await.expect_status(429);
        assert!(!refused.header("retry-after").is_empty());
        drop(watching.close().await);
        let free = async || match edge.get("/sessions/S").await.status {
            200 => Ok(()),
            other => Err(other),
        };
        eventually("the place is free", BOUND, free).await;
        // Who does not take the answer keeps the place for as long as a socket may be unwritable, and is gone.
        let mut raw = http::Raw::connect(edge.address()).await;
        raw.write("GET /sessions/S/events HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(raw.read_until(b"\r\n\r\n", BOUND).await.starts_with(b"HTTP/1.1 200"));
        eventually("the place is free again", BOUND, free).await;
        let outcome = ["kind=\"events\"", "outcome=\"read\""];
        assert_eq!(edge.metric("herald_replay_requests_total", &outcome).await, 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_place_that_is_not_there_yet_holds_nobody_up() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("replay.max_requests", 1).set("replay.timeout", "60s").start().await;
        engine.publish("gm.S.phase", "{}").await;
        let begun = Instant::now();
        // Each of them looks again a second later.
        let asked: Vec<_> = (0..12)
            .map(|_| {
                let url = edge.http("/sessions/S/events?after=999999");
                tokio::spawn(async move { http::get(&url).await.expect_status(200).json() })
            })
            .collect();
        for asked in asked {
            assert_eq!(asked.await.unwrap()["gaps"][0]["reason"], "beyond");
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "one behind the other: {took:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_says_nothing_of_what_it_does_not_show() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let route = |path: &str, transport: &str| {
            format!("[[ws-edge.listeners.routes]]\npath = \"{path}\"\ntransport = \"{transport}\"\nroots = \"arena\"\n")
        };
        let routes = [route("/arena/{sid}", "session"), route("/arena/{sid}/events", "events")].concat();
        let config = format!("[[ws-edge.listeners]]\nbuiltin = \"arena\"\n{routes}");
        let edge = Edge::new(&nats).config(config).start().await;
        engine.publish("gm.S.phase", "{}").await;
        edge.get("/sessions/S").await.expect_status(200);
        for path in ["/arena/S", "/arena/S/events", "/arena/never", "/arena/never/events"] {
            edge.get(path).await.expect_status(404);
        }
        engine.publish("arena.S.agent.1.status", "{}").await;
        assert_eq!(page(&edge, "/arena/S").await["types"], json!({ "arena.agent.1.status": 1 }));
    })
    .await;
}
