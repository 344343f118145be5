//! HTTP over NATS: the format, and whoever does not keep to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::http::{Request, StatusCode};
use async_nats::HeaderMap;
use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::StreamExt;
use herald_runtime::http_over_nats::{Client, ForwardError, Limits};
use herald_testkit::{Nats as Server, within};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::connection::connect;
use crate::pair::{LIMIT, Pair, bytes, gm, meta, pattern};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_answered_and_counted_not_executed() {
    within(LIMIT, async {
        let pair = Pair::new(Router::new().fallback(async || "executed")).await;
        let nats = pair.service.client();
        for (lines, missing) in [
            (vec![], "Herald-Method"),
            (vec![("Herald-Method", "GET")], "Herald-Path"),
            (vec![("Herald-Method", "GET"), ("Herald-Path", "/"), ("Herald-Deadline", "x")], "Herald-Deadline"),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.insert(name, value);
            }
            let answer = nats.request_with_headers("http.gm", headers, Bytes::new()).await.unwrap();
            assert_eq!(answer.headers.unwrap().get("Herald-Status").unwrap().as_str(), "400");
            let text: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(text["error"], format!("bad request: {missing} is missing or not valid"));
        }
        nats.publish("http.gm", "no reply subject".into()).await.unwrap();
        assert_eq!(bytes(pair.get("/").await.unwrap()).await, "executed");
    })
    .await;
}

/// What an engine's or a door's author in another language reads in the documentation.
#[tokio::test(flavor = "multi_thread")]
async fn the_format_on_the_wire_is_the_documented_one() {
    within(LIMIT, async {
        let limits = Limits { part: 1024, ..Limits::default() };
        let router = Router::new()
            .route("/small", get(async || "small"))
            .route("/large", post(async |body: Bytes| pattern(body.len() * 20 * 1024)));
        let pair = Pair::with(router, limits, limits).await;
        let nats = pair.service.client();
        let line = |message: &async_nats::Message, name: &str| {
            message.headers.as_ref().and_then(|headers| headers.get(name)).map(ToString::to_string)
        };
        let mut headers = HeaderMap::new();
        headers.insert("Herald-Method", "GET");
        headers.insert("Herald-Path", "/small");
        let answer = nats.request_with_headers("http.gm", headers.clone(), Bytes::new()).await.unwrap();
        for (name, value) in [
            ("Herald-Status", "200"),
            ("Herald-Part", "0"),
            ("Herald-End", "1"),
            ("Herald-H-content-type", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(line(&answer, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!((&answer.payload[..], answer.reply), (&b"small"[..], None));

        let mut replies = nats.subscribe("_INBOX.operator.replies").await.unwrap();
        let mut body = nats.subscribe("_INBOX.operator.body").await.unwrap();
        headers.insert("Herald-Method", "POST");
        headers.insert("Herald-Path", "/large");
        headers.insert("Herald-Body", "_INBOX.operator.body");
        nats.publish_with_reply_and_headers("http.gm", "_INBOX.operator.replies", headers, Bytes::new()).await.unwrap();
        for (number, end) in [("0", false), ("1", true)] {
            let ask = body.next().await.unwrap();
            assert_eq!(line(&ask, "Herald-Part").as_deref(), Some(number));
            let mut part = HeaderMap::new();
            part.insert("Herald-Part", number);
            if end {
                part.insert("Herald-End", "1");
            }
            nats.publish_with_headers(ask.reply.unwrap(), part, "x".into()).await.unwrap();
        }
        let mut received = Vec::new();
        for number in 0..40_u64 {
            if number == 8 {
                let more = tokio::time::timeout(Duration::from_millis(100), replies.next()).await;
                assert!(more.is_err(), "the window is full");
            }
            if number >= 8 {
                // Each acknowledgement makes room for one more part.
                let mut ack = HeaderMap::new();
                ack.insert("Herald-Ack", (number - 8).to_string());
                let to = received.last().and_then(|part: &async_nats::Message| part.reply.clone()).unwrap();
                nats.publish_with_headers(to, ack, Bytes::new()).await.unwrap();
            }
            let part = replies.next().await.unwrap();
            assert_eq!(line(&part, "Herald-Part"), Some(number.to_string()));
            assert_eq!(line(&part, "Herald-Status").is_some(), number == 0);
            assert_eq!((line(&part, "Herald-End").is_some(), part.reply.is_none()), (number == 39, number == 39));
            received.push(part);
        }
        let whole: Vec<u8> = received.iter().flat_map(|part| part.payload.to_vec()).collect();
        assert!(whole == pattern(40 * 1024));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_has_a_service_publish_nowhere_but_in_an_inbox() {
    within(LIMIT, async {
        let executed = Arc::new(AtomicUsize::new(0));
        let counted = executed.clone();
        let router = Router::new().fallback(async move || {
            counted.fetch_add(1, Ordering::Relaxed);
            "executed"
        });
        let pair = Pair::new(router).await;
        let nats = pair.service.client();
        let mut log = nats.subscribe("gm.>").await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Herald-Method", "GET");
        headers.insert("Herald-Path", "/");
        let elsewhere = "gm.s1.phase";
        nats.publish_with_reply_and_headers("http.gm", elsewhere, headers.clone(), Bytes::new()).await.unwrap();
        nats.publish_with_reply("$SRV.PING", elsewhere, Bytes::new()).await.unwrap();
        let mut body = headers.clone();
        body.insert("Herald-Body", elsewhere);
        let refused = nats.request_with_headers("http.gm", body, Bytes::new()).await.unwrap();
        assert_eq!(refused.headers.unwrap().get("Herald-Status").unwrap().as_str(), "400");
        nats.request("$SRV.PING.gm", Bytes::new()).await.unwrap();
        nats.request_with_headers("http.gm", headers, Bytes::new()).await.unwrap();
        nats.publish("gm.mark", Bytes::new()).await.unwrap();
        assert_eq!(log.next().await.unwrap().subject.as_str(), "gm.mark");
        assert_eq!(executed.load(Ordering::Relaxed), 1);
    })
    .await;
}

/// Headers and payload of a message.
type Answer = (Vec<(&'static str, &'static str)>, &'static str);

/// A service that is written by hand: the next request is answered with these messages.
async fn answer_with(nats: &async_nats::Client, answers: Vec<Answer>) {
    let mut requests = nats.subscribe("http.gm").await.unwrap();
    nats.request("_INBOX.operator.nobody.listens", Bytes::new()).await.unwrap_err();
    let nats = nats.clone();
    tokio::spawn(async move {
        let request = requests.next().await.unwrap();
        for (lines, payload) in answers {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, value);
            }
            let reply = request.reply.clone().unwrap();
            nats.publish_with_reply_and_headers(reply, "_INBOX.operator.nobody.listens", headers, payload.into())
                .await
                .unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_breaks_the_rules_is_never_believed() {
    within(LIMIT, async {
        let server = Server::start().await;
        let service = server.client().await;
        let limits = Limits { idle: Duration::from_millis(500), ..Limits::default() };
        let client = Client::new(&connect(&server).await, limits).await.unwrap();
        let ask = async |answers| {
            answer_with(&service, answers).await;
            client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &meta()).await
        };
        let (status, first, end) = (("Herald-Status", "200"), ("Herald-Part", "0"), ("Herald-End", "1"));
        for head in [
            vec![],
            vec![first, end],
            vec![first, end, ("Herald-Status", "101")],
            vec![status],
            vec![status, ("Herald-Part", "1")],
            vec![status, first, ("Herald-Abort", "no")],
            vec![status, first, end, ("Herald-H-content-length", "7")],
        ] {
            let refused = ask(vec![(head, "x")]).await.unwrap_err();
            assert!(matches!(refused, ForwardError::BadResponse(_)), "{refused}");
            assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
        }
        let part = |number| (vec![("Herald-Part", number)], "x");
        let fine = (vec![status, first], "x");
        let sized = (vec![status, first, ("Herald-H-content-length", "2")], "x");
        let many = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18"];
        for (what, answers) in [
            ("a hole", vec![fine.clone(), part("2")]),
            ("a double", vec![fine.clone(), part("1"), part("1")]),
            ("no number", vec![fine.clone(), (vec![], "x")]),
            ("an end too early", vec![sized.clone(), (vec![("Herald-Part", "1"), end], "")]),
            ("more than it said", vec![sized, part("1"), part("2")]),
            ("silence", vec![fine.clone(), part("1")]),
            ("a flood", std::iter::once(fine).chain(many.map(part)).collect()),
        ] {
            let response = ask(answers).await.unwrap();
            response.into_body().collect().await.expect_err(what);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_request_may_be_asked_for_again_but_not_skipped() {
    within(LIMIT, async {
        let server = Server::start().await;
        let service = server.client().await;
        let limits = Limits { part: 1024, ..Limits::default() };
        let client = Client::new(&connect(&server).await, limits).await.unwrap();
        let mut requests = service.subscribe("http.gm").await.unwrap();
        service.request("_INBOX.operator.nobody.listens", Bytes::new()).await.unwrap_err();
        let whole = pattern(2500);
        let serving = async {
            let request = requests.next().await.unwrap();
            assert!(request.payload.is_empty());
            let body = request.headers.unwrap().get("Herald-Body").unwrap().to_string();
            let fetch = async |number: &str| {
                let mut headers = HeaderMap::new();
                headers.insert("Herald-Part", number);
                let part = service.request_with_headers(body.clone(), headers, Bytes::new()).await.unwrap();
                let headers = part.headers.unwrap();
                (headers.get("Herald-Abort").is_some(), headers.get("Herald-End").is_some(), part.payload)
            };
            let piece = |from: usize, to: usize| Bytes::copy_from_slice(&whole[from..to]);
            for _ in 0..2 {
                assert_eq!(fetch("0").await, (false, false, piece(0, 1024)));
            }
            assert_eq!(fetch("2").await, (true, false, Bytes::new()), "never skipped");
            assert_eq!(fetch("1").await, (false, false, piece(1024, 2048)));
            assert_eq!(fetch("0").await, (true, false, Bytes::new()), "gone");
            for _ in 0..2 {
                assert_eq!(fetch("2").await, (false, true, piece(2048, 2500)));
            }
            assert_eq!(fetch("3").await, (true, false, Bytes::new()), "there is no more");
            let mut headers = HeaderMap::new();
            for (name, value) in [("Herald-Status", "204"), ("Herald-Part", "0"), ("Herald-End", "1")] {
                headers.insert(name, value);
            }
            service.publish_with_headers(request.reply.unwrap(), headers, Bytes::new()).await.unwrap();
        };
        let request = Request::post("/").body(Body::from(whole.clone())).unwrap();
        let (name, meta) = (gm(), meta());
        let (response, ()) = tokio::join!(client.request(&name, request, &meta), serving);
        assert_eq!(response.unwrap().status(), StatusCode::NO_CONTENT);
    })
    .await;
}
