//! Bad input, each with its answer; nothing of it reaches a Game Master or the log.

use axum::body::Body;
use herald_testkit::within;
use http::{Method, Request};
use serde_json::json;

use crate::{
    house::{House, SOON, session},
    master::Master,
};

#[tokio::test(flavor = "multi_thread")]
async fn bad_parameters_are_named() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let long = "x".repeat(65);
        for id in ["", &long, "a.b", "*", "%3E", "abc%0A", "%00", "a%00", "%F0%9F%8E%B2", "%FF", "..%2f", "%20"] {
            for path in ["start", "state", "propose", "choose"] {
                let reply = house.get(&format!("/api/{path}?session_id={id}&kind=real")).await;
                assert_eq!(reply.status, 400, "{path} {id}");
                assert!(reply.error().contains("session_id"), "{}", reply.error());
            }
            let cancel = format!("/api/cancel?session_id={id}");
            assert_eq!(house.request("event", Method::POST, &cancel, "").await.status, 400, "{id}");
        }
        let known = session();
        house.post_at("app", "/init_session", &json!({"session_id": known})).await.expect(200);
        for (path, word) in [
            ("/api/propose".to_owned(), "session_id"),
            ("/api/choose?kind=real".to_owned(), "session_id"),
            (format!("/api/choose?session_id={known}"), "kind"),
            (format!("/api/choose?session_id={known}&kind="), "kind"),
            (format!("/api/choose?session_id={known}&kind=banana"), "kind"),
            (format!("/api/propose?session_id={known}&lang=de"), "lang"),
            (format!("/api/start?session_id={known}&lang="), "lang"),
            (format!("/api/start?session_id={known}&session_id={known}"), "session_id"),
        ] {
            let reply = house.get(&path).await.expect(400);
            assert!(reply.error().contains(word), "{path}: {}", reply.error());
        }
        for path in ["propose", "choose"] {
            let reply = house.get(&format!("/api/{path}?session_id={known}&kind=real")).await.expect(400);
            assert_eq!(reply.error(), "No game started");
            let reply = house.get(&format!("/api/{path}?session_id={}&kind=real", session())).await.expect(404);
            assert_eq!(reply.error(), "Session not found");
        }
        let cancel = format!("/api/cancel?session_id={}", session());
        assert_eq!(house.request("event", Method::POST, &cancel, "").await.expect(404).error(), "Session not found");
        assert_eq!(master.calls(), Vec::<String>::new());
        assert_eq!(house.count(">").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_named() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let id = session();
        let table = [
            ("/init_session", "", "session_id"),
            ("/init_session", "session_id=x", "session_id"),
            ("/init_session", "[]", "session_id"),
            ("/init_session", "{", "session_id"),
            ("/init_session", "{}", "session_id"),
            ("/init_session", r#"{"session_id":5}"#, "session_id"),
            ("/init_session", r#"{"session_id":null}"#, "session_id"),
            ("/init_session", r#"{"session_id":""}"#, "session_id"),
            ("/init_session", r#"{"session_id":"a.b"}"#, "session_id"),
            ("/init_session", r#"{"session_id":"abc\n"}"#, "session_id"),
            ("/submit_news", "", "content"),
            ("/submit_news", r#"{"content":"x"}"#, "session_id"),
            ("/submit_news", r#"{"session_id":"a"}"#, "content"),
            ("/submit_news", r#"{"session_id":"a","content":7}"#, "content"),
            ("/submit_news", r#"{"session_id":"a","content":""}"#, "content"),
            ("/submit_news", r#"{"session_id":"a","content":" \n\t"}"#, "content"),
            ("/submit_news", r#"{"session_id":"*","content":"x"}"#, "session_id"),
        ];
        for (path, body, word) in table {
            let reply = house.request("event", Method::POST, path, body).await.expect(400);
            assert!(reply.error().contains(word), "{path} {body}: {}", reply.error());
        }
        let lang = house.post("/init_session?lang=de", &json!({"session_id": id})).await.expect(400);
        assert!(lang.error().contains("lang"));
        let large = json!({"session_id": id, "content": "x".repeat(1 << 20)});
        for path in ["/submit_news", "/init_session"] {
            assert_eq!(house.post(path, &large).await.expect(413).error(), "the body is larger than the limit");
        }
        assert_eq!(house.count(">").await, 0);
        assert_eq!(house.record("SESSIONS", &id).await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_changes_nothing_and_is_told_the_right_one() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        let table = [
            ("/api/start", "HEAD", "GET"),
            ("/api/propose?session_id=a", "HEAD", "GET"),
            ("/api/choose?session_id=a&kind=real", "HEAD", "GET"),
            ("/api/start", "POST", "GET"),
            ("/api/cancel?session_id=a", "GET", "POST"),
            ("/api/cancel?session_id=a", "HEAD", "POST"),
            ("/init_session", "GET", "POST"),
            ("/submit_news", "HEAD", "POST"),
            ("/submit_news", "PUT", "POST"),
            ("/api/state", "POST", "GET, HEAD"),
            ("/health", "DELETE", "GET, HEAD"),
            ("/api/images/g/real.png", "POST", "GET, HEAD"),
        ];
        for (path, method, allow) in table {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let reply = house.request("event", method.clone(), path, "").await.expect(405);
            assert_eq!(reply.head["allow"], allow, "{method} {path}");
            assert_eq!(reply.head["cache-control"], "no-store");
            if method != Method::HEAD {
                assert_eq!(reply.error(), "Method not allowed");
            }
        }
        assert_eq!(house.get("/api/nothing").await.expect(404).error(), "Not found");
        assert_eq!(house.get("/").await.expect(404).error(), "Not found");
        assert_eq!(master.calls(), Vec::<String>::new());
        for path in ["/api/state", "/health"] {
            let reply = house.request("event", Method::HEAD, path, "").await.expect(200);
            assert!(reply.body.is_empty());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_one_file_of_one_game() {
    within(SOON, async {
        let master = Master::start().await;
        let house = House::build(1, &[&master], |_| {}).await;
        master.draw("real.png", "\u{89}PNG one");
        let id = session();
        house.start_game(&id).await;
        let path = format!("/api/images/{}/real.png", master.id());
        let first = house.get(&path).await.expect(200);
        assert_eq!(first.body, "\u{89}PNG one".as_bytes());
        assert_eq!(first.head["content-type"], "image/png");
        assert_eq!(first.head["cache-control"], "no-cache");
        let by_session = house.get(&format!("/api/images/{id}/real.png")).await.expect(200);
        assert_eq!(by_session.body, first.body);
        let head = house.request("event", Method::HEAD, &path, "").await.expect(200);
        assert!(head.body.is_empty() && head.head["etag"] == first.head["etag"]);

        let again = |tag: &http::HeaderValue| {
            let request = Request::builder().uri(&path).header("if-none-match", tag);
            house.send("event", request.body(Body::empty()).unwrap())
        };
        let tag = first.head["etag"].clone();
        assert!(again(&tag).await.expect(304).body.is_empty());
        master.draw("real.png", "another turn");
        let changed = again(&tag).await.expect(200);
        assert_ne!(changed.head["etag"], tag);

        let asked = master.asked("");
        let long = "x".repeat(300);
        for odd in ["..%2f..%2fstate", "real.png%00", "..", ".hidden", "%2e%2e", "a%20b", "%FF", "%", &long] {
            let reply = house.get(&format!("/api/images/{}/{odd}", master.id())).await.expect(404);
            assert!(!reply.error().is_empty(), "{odd}");
            house.get(&format!("/api/images/{odd}/real.png")).await.expect(404);
        }
        house.get("/api/images/a/b/c").await.expect(404);
        assert_eq!(master.asked(""), asked, "the game master is never asked");
        assert_eq!(
            house.get(&format!("/api/images/{}/none.png", master.id())).await.expect(404).error(),
            "Image not found"
        );
    })
    .await;
}
