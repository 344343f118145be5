//! HTTP over NATS, both sides, over a real server.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::http::{HeaderMap as HttpHeaders, Method, Request, Response, StatusCode, header};
use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, RawQuery},
    response::IntoResponse,
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use herald_runtime::http_over_nats::{Deadline, Door, ForwardError, Limits, RequestMeta, WINDOW};
use herald_testkit::{eventually, within};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::pair::{LIMIT, Pair, SOON, bytes, gm, json_of, meta, pattern};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_as_it_was_sent_and_so_does_its_response() {
    within(LIMIT, async {
        async fn echo(
            method: Method,
            Path(id): Path<String>,
            RawQuery(query): RawQuery,
            Extension(Door(door)): Extension<Door>,
            Extension(Deadline(deadline)): Extension<Deadline>,
            headers: HttpHeaders,
            body: Bytes,
        ) -> impl IntoResponse {
            let names: Vec<String> = headers.keys().map(ToString::to_string).collect();
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let seen = json!({
                "method": method.as_str(), "id": id, "query": query, "door": &*door, "names": names,
                "body": String::from_utf8_lossy(&body), "in_time": left > Duration::from_secs(5),
            });
            let cookies = [("set-cookie", "a=1"), ("x-more", "y"), ("connection", "x-private"), ("x-private", "z")];
            let mut response = (StatusCode::CREATED, cookies, Json(seen)).into_response();
            response.headers_mut().append("set-cookie", "b=2".parse().unwrap());
            response
        }
        let pair = Pair::new(Router::new().route("/x/{id}", post(echo))).await;
        let request = Request::post("/x/a%2Fb?lang=fr&n=%C3%A9")
            .header("content-type", "text/plain")
            .header("accept-language", "fr")
            .header("cookie", "secret=1")
            .header("x-own", "1")
            .header("connection", "keep-alive")
            .body(Body::from("bonjour"))
            .unwrap();
        let response = pair.ask(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(response.headers()["x-more"], "y");
        assert!(!response.headers().contains_key("connection") && !response.headers().contains_key("x-private"));
        let mut seen = json_of(response).await;
        seen["names"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        let expected = json!({
            "method": "POST", "id": "a/b", "query": "lang=fr&n=%C3%A9", "door": "app", "body": "bonjour",
            "names": ["accept-language", "content-type"], "in_time": true,
        });
        assert_eq!(seen, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_bodiless_responses_keep_their_meaning() {
    within(LIMIT, async {
        let router = Router::new()
            .route("/text", get(async || "twelve bytes"))
            .route("/large", get(async || pattern(300_000)))
            .route("/none", get(async || StatusCode::NO_CONTENT))
            .route("/same", get(async || (StatusCode::NOT_MODIFIED, [("etag", "\"1\"")])));
        let pair = Pair::new(router).await;
        for (path, length) in [("/text", "12"), ("/large", "300000")] {
            let response = pair.ask(Request::head(path).body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(
                (response.status(), &response.headers()["content-length"]),
                (StatusCode::OK, &length.parse().unwrap())
            );
            assert_eq!(bytes(response).await, "");
        }
        let none = pair.get("/none").await.unwrap();
        assert_eq!((none.status(), none.headers().get("content-length")), (StatusCode::NO_CONTENT, None));
        let same = pair.get("/same").await.unwrap();
        assert_eq!((same.status(), &same.headers()["etag"]), (StatusCode::NOT_MODIFIED, &"\"1\"".parse().unwrap()));
        let wrong = pair.ask(Request::post("/text").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(
            (wrong.status(), &wrong.headers()["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"GET,HEAD".parse().unwrap())
        );
        assert_eq!(pair.get("/nowhere").await.unwrap().status(), StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_travel_in_parts_both_ways() {
    within(LIMIT, async {
        let router = Router::new().route(
            "/echo",
            post(async |body: Body| {
                // Not a byte of it is held: what comes in goes out.
                Response::new(body)
            }),
        );
        let pair = Pair::new(router).await;
        for size in [0, 1, 128 << 10, (128 << 10) + 1, 256 << 10, 3_000_000, 20 << 20] {
            let sent = pattern(size);
            let response = pair.ask(Request::post("/echo").body(Body::from(sent.clone())).unwrap()).await.unwrap();
            let received = bytes(response).await;
            assert!(received == sent, "{size}: {} bytes", received.len());
        }
        let frames = stream::iter(pattern(700_000).chunks(999).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        let body = Body::from_stream(frames.map(Ok::<_, Infallible>));
        let response = pair.ask(Request::post("/echo").body(body).unwrap()).await.unwrap();
        assert!(bytes(response).await == pattern(700_000));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_back_the_writer_by_the_window() {
    within(LIMIT, async {
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let router = Router::new().route(
            "/endless",
            get(async move || {
                let frames = stream::repeat_with(move || {
                    counter.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, Infallible>(Bytes::from(vec![b'x'; 1024]))
                });
                Body::from_stream(frames.take(500))
            }),
        );
        let limits = Limits { part: 1024, ..Limits::default() };
        let pair = Pair::with(router, limits, limits).await;
        let mut body = pair.get("/endless").await.unwrap().into_body().into_data_stream();
        let window = usize::try_from(WINDOW).unwrap();
        for read in [1, 30, 200] {
            while written.load(Ordering::SeqCst) < read {
                body.next().await.unwrap().unwrap();
            }
            let stopped = eventually("the writer stops", SOON, async || {
                let before = written.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                let after = written.load(Ordering::SeqCst);
                if before == after { Ok(after) } else { Err((before, after)) }
            })
            .await;
            assert!(stopped <= read + window + 4, "{stopped} written, {read} read");
        }
        let rest: Vec<_> = StreamExt::collect(body).await;
        assert!(rest.iter().all(Result::is_ok));
        assert_eq!(written.load(Ordering::SeqCst), 500);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wants_no_more_stops_the_writer() {
    within(LIMIT, async {
        struct Gone(mpsc::Sender<()>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.try_send(()).unwrap();
            }
        }
        let (dropped, mut seen) = mpsc::channel(4);
        let router = Router::new().route(
            "/endless",
            get(async move || {
                let gone = Gone(dropped.clone());
                Body::from_stream(stream::repeat_with(move || {
                    let _held = &gone;
                    Ok::<_, Infallible>(Bytes::from_static(&[0; 60_000]))
                }))
            }),
        );
        let limits = Limits { max_body: u64::MAX, ..Limits::default() };
        let pair = Pair::with(router, limits, limits).await;
        for read in [0, 5] {
            let mut body = pair.get("/endless").await.unwrap().into_body().into_data_stream();
            for _ in 0..read {
                body.next().await.unwrap().unwrap();
            }
            let begun = Instant::now();
            drop(body);
            seen.recv().await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(5), "at once, not after the 15 s");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_never_looks_complete() {
    within(LIMIT, async {
        let frames = |count: usize| stream::iter((0..count).map(|_| Ok(Bytes::from(vec![b'x'; 1000]))));
        let router = Router::new()
            .route(
                "/error",
                get(async move || Body::from_stream(frames(5).chain(stream::once(async { Err("broken".to_owned()) })))),
            )
            .route(
                "/panic",
                get(async move || {
                    let end = stream::once(async { panic!("in the body") as Result<Bytes, String> });
                    Body::from_stream(frames(5).chain(end))
                }),
            )
            .route(
                "/stall",
                get(async move || Body::from_stream(frames(5).chain(stream::pending::<Result<_, String>>()))),
            )
            .route("/over", get(async move || Body::from_stream(frames(50))))
            .route("/short", get(async move || ([(header::CONTENT_LENGTH, "9000")], Body::from_stream(frames(5)))))
            .route(
                "/early",
                get(async || Body::from_stream(stream::once(async { Err::<Bytes, _>("at once".to_owned()) }))),
            );
        let limits = Limits { part: 1024, idle: Duration::from_millis(500), max_body: 20_000, ..Limits::default() };
        let pair = Pair::with(router, limits, limits).await;
        for path in ["/error", "/panic", "/stall", "/over", "/short"] {
            let response = pair.get(path).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            response.into_body().collect().await.expect_err(path);
        }
        let early = pair.get("/early").await.unwrap();
        assert_eq!(early.status(), StatusCode::INTERNAL_SERVER_ERROR, "nothing was sent yet");
        assert_eq!(json_of(early).await, json!({"error": "internal error"}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_is_a_500_and_the_service_lives() {
    within(LIMIT, async {
        let router = Router::new()
            .route("/panic", get(async || -> &'static str { panic!("in the handler") }))
            .route("/slow", get(async || std::future::pending::<()>().await))
            .route("/fine", get(async || "fine"));
        let limits = Limits { handler: Duration::from_millis(200), ..Limits::default() };
        let pair = Pair::with(router, limits, Limits::default()).await;
        for _ in 0..3 {
            let response = pair.get("/panic").await.unwrap();
            assert_eq!(
                (response.status(), &response.headers()["content-type"]),
                (StatusCode::INTERNAL_SERVER_ERROR, &"application/json".parse().unwrap())
            );
            assert_eq!(json_of(response).await, json!({"error": "internal error"}));
        }
        let slow = pair.get("/slow").await.unwrap();
        assert_eq!(
            (slow.status(), json_of(slow).await),
            (StatusCode::INTERNAL_SERVER_ERROR, json!({"error": "the request took too long"}))
        );
        assert_eq!(bytes(pair.get("/fine").await.unwrap()).await, "fine");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_heads_beyond_the_limit_are_refused() {
    within(LIMIT, async {
        let executed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&executed);
        let router = Router::new()
            .route(
                "/",
                post(async move |_body: Bytes| {
                    counter.fetch_add(1, Ordering::SeqCst);
                }),
            )
            .route("/large", get(async || pattern(3000)))
            .route("/head", get(async || [("x-long", "x".repeat(70_000))]));
        let parts = Limits { part: 1024, ..Limits::default() };
        let asking = Limits { max_body: 10_000, ..parts };
        let pair = Pair::with(router.clone(), parts, asking).await;
        let send = async |body: Body, max_body: u64| {
            let request = Request::post("/").body(body).unwrap();
            pair.client.request(&gm(), request, &RequestMeta { max_body, ..meta() }).await
        };
        let streamed = |size: usize| {
            Body::from_stream(stream::iter(
                pattern(size)
                    .chunks(100)
                    .map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk)))
                    .collect::<Vec<_>>(),
            ))
        };
        for (body, limit) in [
            (Body::from(pattern(1001)), 1000),
            (streamed(1001), 1000),
            (streamed(5001), 5000),
            (Body::from(pattern(10_001)), u64::MAX),
            (streamed(10_001), u64::MAX),
        ] {
            let refused = send(body, limit).await.unwrap_err();
            assert!(matches!(refused, ForwardError::BodyTooLarge), "{refused}");
            assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
        assert_eq!(executed.load(Ordering::SeqCst), 0);
        assert_eq!(send(Body::from(pattern(2000)), u64::MAX).await.unwrap().status(), StatusCode::OK);

        // The service's own limit, which the door does not know.
        let pair = Pair::with(router, Limits { max_body: 2000, ..parts }, parts).await;
        for body in [Body::from(pattern(2001)), streamed(2001), streamed(9000)] {
            let refused = pair.ask(Request::post("/").body(body).unwrap()).await.unwrap();
            assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
        assert_eq!(executed.load(Ordering::SeqCst), 1);
        for path in ["/large", "/head"] {
            let refused = pair.get(path).await.unwrap();
            assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        }
        let long = Request::get("/large").header("user-agent", "x".repeat(70_000)).body(Body::empty()).unwrap();
        let refused = pair.ask(long).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_is_no_request() {
    within(LIMIT, async {
        let executed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&executed);
        let handler = async move |_body: Bytes| {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        let pair = Pair::new(Router::new().route("/", post(handler))).await;
        for parts in [0, 3] {
            let frames = (0..parts).map(|_| Ok(Bytes::from(vec![0; 128 << 10])));
            let broken = stream::iter(frames).chain(stream::once(async { Err("cable pulled".to_owned()) }));
            let request = Request::post("/").body(Body::from_stream(broken)).unwrap();
            let refused = pair.ask(request).await.unwrap_err();
            assert!(matches!(refused, ForwardError::BodyBroken(_)), "{refused}");
        }
        assert_eq!(bytes(pair.ask(Request::post("/").body(Body::empty()).unwrap()).await.unwrap()).await, "");
        assert_eq!(executed.load(Ordering::SeqCst), 1);
    })
    .await;
}
