//! What is published is shown, all of it or nothing; what is wrong is named.

use std::time::Duration;

use herald_testkit::{http, sse, within, ws};
use hyper::Method;
use serde_json::json;

use crate::world::{LINES, ONE, World, event, events};

const MINUTE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_event_published_by_http_is_seen_on_socket_and_stream() {
    within(MINUTE, async {
        let world = World::start(|ingest| ingest).await;
        let socket = ws::Client::connect(&world.edge.ws("/ws/s1"), ws::V1).await;
        let other = ws::Client::connect(&world.edge.ws("/ws/s2"), ws::V1).await;
        let stream = sse::Client::connect(&world.edge.http("/sse/s1"), None).await;
        for client in [&socket, &other] {
            client.wait_for("hello", SOON, |frame| frame.event() == "herald.hello").await;
        }
        stream.wait_for("hello", SOON, |event| event.event == "herald.hello").await;

        let data = r#"{"who":"Zoë", "n" : 1.0,"x":"\u00e9"}"#;
        let reply = world.post("s1", &[ONE], &event("chat.message", data)).await.expect_status(201);
        let seq = reply.json()["seq"].as_u64().unwrap();
        assert_eq!((reply.json(), reply.header("cache-control")), (json!({ "seq": seq }), "no-store"));
        let frame = socket.wait_for("the message", SOON, |frame| frame.event() == "app.chat.message").await;
        assert_eq!(frame.seq(), Some(seq));
        assert!(frame.text.contains(data), "byte for byte: {}", frame.text);
        let shown = stream.wait_for("the message", SOON, |event| event.event == "message").await;
        assert_eq!((&shown.json()["event"], &shown.json()["seq"]), (&json!("app.chat.message"), &json!(seq)));

        // With a key and several at once: the note of the key is shown to nobody, and breaks no chain of `prev`.
        let key = ("idempotency-key", "a-1");
        let body = [event("a", "1"), event("b", "null"), event("c", "\"three\"")].concat();
        let reply = world.post("s1", &[LINES, key], &body).await.expect_status(201).json();
        let first = reply["first"].as_u64().unwrap();
        assert_eq!(reply, json!({ "first": first, "last": first + 2, "count": 3 }));
        world.post("s1", &[], &event("last", "[]")).await.expect_status(201);
        socket.wait_for("the last", SOON, |frame| frame.event() == "app.last").await;
        let names: Vec<_> = socket.events().iter().map(|frame| frame.event().to_owned()).collect();
        assert_eq!(names, ["app.chat.message", "app.a", "app.b", "app.c", "app.last"]);
        socket.check_order();

        let late = ws::Client::connect(&world.edge.ws("/ws/s1?after=0"), ws::V1).await;
        assert_eq!(late.wait_events(5, SOON).await.len(), 5);
        late.check_order();
        world.post("s2", &[], &event("own", "1")).await.expect_status(201);
        let own = other.wait_events(1, SOON).await;
        assert_eq!(own[0].event(), "app.own", "of the other session nothing was seen");
    })
    .await;
}

/// Session, headers and body of a request, and how it is answered: its status, and what its error begins with.
type Wrong<'a> = (&'a str, &'a [(&'a str, &'a str)], String, u16, String);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_nothing_of_it_is_stored() {
    within(MINUTE, async {
        let told = |ingest: herald_testkit::Ingest| {
            let ingest = ingest.set("limits.max_events", 3).set("limits.max_event", "1KiB");
            ingest.set("http.max_body", "8KiB")
        };
        let world = World::start(told).await;
        let good = event("a", "1");
        let before = world.post("s1", &[], &good).await.expect_status(201).json()["seq"].as_u64().unwrap();
        let lines = |wrong: &str| [&good, "\n", wrong, "\n", &good].concat();
        let long = format!("\"{}\"", "x".repeat(1100));
        let deep = ["[".repeat(129), "]".repeat(129)].concat();
        let word = "invalid topic: expected words of letters";
        let id = "invalid session id: expected 1 to 64 letters";
        let table: &[Wrong<'_>] = &[
            ("s1", &[ONE], String::new(), 400, "no valid JSON".into()),
            ("s1", &[ONE], "[]".into(), 400, "no JSON object with topic and data".into()),
            ("s1", &[ONE], good.repeat(2), 400, "no valid JSON".into()),
            ("s1", &[LINES], String::new(), 400, "the body has no event".into()),
            ("s1", &[LINES], lines("{\"topic\":\"a\"}"), 400, "line 3: data is missing".into()),
            ("s1", &[LINES], lines("{\"data\":1}"), 400, "line 3: topic is missing".into()),
            ("s1", &[LINES], lines("{\"topic\":\"a\",\"data\":NaN}"), 400, "line 3: no valid JSON".into()),
            ("s1", &[LINES], lines(&event("_action", "1")), 400, format!("line 3: {word}")),
            ("s1", &[ONE], event("_key.00", "1"), 400, word.into()),
            ("s1", &[ONE], event("*", "1"), 400, word.into()),
            ("s1", &[ONE], event(">", "1"), 400, word.into()),
            ("s1", &[ONE], event("a..gm", "1"), 400, word.into()),
            ("s1", &[ONE], event("a\\r\\nPUB gm.s1.x 0", "1"), 400, word.into()),
            (
                "s1",
                &[LINES],
                lines("{\"topic\":\"a\",\"topic\":\"b\",\"data\":1}"),
                400,
                "line 3: topic stands there twice".into(),
            ),
            (
                "s1",
                &[ONE],
                "{\"root\":\"gm\",\"topic\":\"a\",\"data\":1}".into(),
                400,
                "nobody chooses the root".into(),
            ),
            (
                "s1",
                &[ONE],
                "{\"event\":\"gm.a\",\"data\":1}".into(),
                400,
                "an event has topic and data; what it is".into(),
            ),
            ("s1", &[ONE], event("gm.s1.text", "1"), 400, "topic is a whole subject".into()),
            ("s1", &[ONE], event("a", &deep), 400, "data is nested deeper than 128".into()),
            ("s1", &[ONE], event("a", &long), 413, "data is larger than 1KiB".into()),
            ("s1", &[LINES], lines(&event("a", &long)), 413, "line 3: data is larger than 1KiB".into()),
            ("s1", &[LINES], good.repeat(4), 413, "more than 3 events in one request".into()),
            ("s1", &[LINES], " ".repeat(9000), 413, "the body is larger than 8KiB".into()),
            (
                "s1",
                &[("content-type", "text/plain")],
                good.clone(),
                415,
                "Expected Content-Type application/json".into(),
            ),
            (
                "s1",
                &[("content-type", "application/json; charset=latin1")],
                good.clone(),
                415,
                "Expected a body in UTF-8".into(),
            ),
            (
                "s1",
                &[ONE, ("content-encoding", "gzip")],
                good.clone(),
                415,
                "Expected a body without a Content-Encoding".into(),
            ),
            ("s1", &[("idempotency-key", "a b")], good.clone(), 400, "invalid Idempotency-Key".into()),
            ("a.b", &[ONE], good.clone(), 400, id.into()),
            ("*", &[ONE], good.clone(), 400, id.into()),
            ("%3E", &[ONE], good.clone(), 400, id.into()),
            ("abc%0A", &[ONE], good.clone(), 400, id.into()),
            ("%00", &[ONE], good.clone(), 400, id.into()),
            ("%F0%9F%8E%B2", &[ONE], good.clone(), 400, id.into()),
            ("%FF", &[ONE], good.clone(), 400, "invalid session id: not UTF-8".into()),
            ("_a", &[ONE], good.clone(), 400, id.into()),
        ];
        for (session, headers, body, status, error) in table {
            let reply = world.post(session, headers, body).await;
            let said = (reply.status, reply.error());
            assert!(said.0 == *status && said.1.starts_with(error), "{session} {body}: {said:?}, not {status} {error}");
        }
        let reply = http::get(&world.edge.http("/sessions/s1/events")).await.expect_status(405);
        assert_eq!((reply.header("allow"), &*reply.error()), ("POST", "Method not allowed"));
        for path in ["/sessions/s1", "/sessions/s1/events/x", "/sessions//events"] {
            let reply = http::send(Method::POST, &world.edge.http(path), &[ONE], good.clone()).await;
            assert!([400, 404].contains(&reply.status) && !reply.error().is_empty(), "{path}: {reply:?}");
        }
        assert_eq!(world.head().await, before, "nothing was stored");
        let mut all = 0.0;
        for ingest in &world.ingests {
            all += ingest.metric("herald_refusals_total", &["reason=\"bad\""]).await;
        }
        assert!(all >= 15.0, "counted: {all}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_much_as_is_allowed_goes_as_one() {
    within(MINUTE, async {
        let world = World::start(|ingest| ingest.set("limits.max_events", 999)).await;
        let body: String = (0..999).map(|number| event("n", &number.to_string())).collect();
        for key in [None, Some(("idempotency-key", "all"))] {
            let headers: Vec<_> = [LINES].into_iter().chain(key).collect();
            let reply = world.post("s1", &headers, &body).await.expect_status(201).json();
            let (first, last) = (reply["first"].as_u64().unwrap(), reply["last"].as_u64().unwrap());
            assert_eq!((last - first + 1, &reply["count"]), (999, &json!(999)));
            let stored = events(&world.stream().await, first, first + 9).await;
            assert_eq!(stored[9], ("n".to_owned(), "9".to_owned()));
        }
        let mut waits = 0.0;
        for ingest in &world.ingests {
            waits += ingest.metric("herald_batch_wait_seconds_count", &[]).await;
        }
        assert_eq!(waits, 2.0, "each had its turn");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_forked_and_goes_on_from_there() {
    within(MINUTE, async {
        let world = World::start(|ingest| ingest).await;
        let fork = async |session: &str, query: &str| {
            http::send(Method::POST, &world.edge.http(&format!("/sessions/{session}/fork{query}")), &[], "").await
        };
        assert_eq!(fork("s1", "").await.expect_status(404).error(), "Nothing is kept of this session");
        let mut seqs = Vec::new();
        for n in 1..=3 {
            let reply = world.post("s1", &[ONE], &event("move", &n.to_string())).await.expect_status(201);
            seqs.push(reply.json()["seq"].as_u64().unwrap());
        }
        let forked = fork("s1", &format!("?at={}", seqs[1])).await.expect_status(201).json();
        assert_eq!(forked["at"], seqs[1]);
        let session = forked["session_id"].as_str().unwrap();
        world.post(session, &[ONE], &event("move", "30")).await.expect_status(201);
        let client = ws::Client::connect(&world.edge.ws(&format!("/ws/{session}?after=0")), ws::V1).await;
        let moves: Vec<_> = client.wait_events(3, SOON).await.iter().map(|frame| frame.data().clone()).collect();
        assert_eq!(moves, [json!(1), json!(2), json!(30)]);
        client.check_order();
        for (query, error) in [
            ("?at=x", "at: expected a cursor or a sequence"),
            ("?at=1&at=1", "at is given twice"),
            ("?at=999", "at: there is no such place yet"),
        ] {
            assert_eq!(fork("s1", query).await.expect_status(400).error(), error);
        }
    })
    .await;
}
