//! HTTP over NATS, both sides, over a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, a failed step is a failed test")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::HeaderMap;
use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, RawQuery, State},
    response::IntoResponse,
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use herald_protocol::{InstanceId, Name};
use herald_runtime::{
    Context,
    config::Common,
    http_over_nats::{Client, Deadline, Door, ForwardError, Limits, RequestMeta, ServerHandle, WINDOW, serve},
    nats::{self, Nats},
};
use herald_testkit::{Nats as Server, eventually, within};
use http::{HeaderMap as HttpHeaders, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

async fn connect(server: &Server) -> Nats {
    let mut common = Common::with_operations_port(0);
    common.nats.url = server.url();
    let context = Context::new("test", common);
    nats::connect(&context.common.nats, "nats", &context).await.unwrap()
}

fn gm() -> Name {
    Name::new("gm").unwrap()
}

fn meta() -> RequestMeta {
    RequestMeta {
        door: Name::new("app").unwrap(),
        timeout: Duration::from_secs(10),
        max_body: u64::MAX,
        confirm: false,
    }
}

async fn serve_on(nats: &Nats, router: Router, limits: Limits) -> ServerHandle {
    let handle = serve(nats, &gm(), &InstanceId::new("one").unwrap(), router, limits).await.unwrap();
    nats.client().flush().await.unwrap();
    handle
}

/// A server, a service on a connection of its own, a client on another.
struct Pair {
    server: Server,
    service: Nats,
    client: Client,
    handle: ServerHandle,
}

impl Pair {
    async fn new(router: Router) -> Self {
        Self::with(router, Limits::default(), Limits::default()).await
    }

    async fn with(router: Router, serving: Limits, asking: Limits) -> Self {
        let server = Server::start().await;
        let service = connect(&server).await;
        let client = Client::new(&connect(&server).await, asking).await.unwrap();
        let handle = serve_on(&service, router, serving).await;
        // The subscription must be known before the first request.
        service.client().request("$SRV.PING.gm.one", Bytes::new()).await.unwrap();
        Self { server, service, client, handle }
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, ForwardError> {
        self.client.request(&gm(), request, &meta()).await
    }

    async fn get(&self, uri: &str) -> Result<Response<Body>, ForwardError> {
        self.ask(Request::get(uri).body(Body::empty()).unwrap()).await
    }
}

async fn bytes(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&bytes(response).await).unwrap()
}

/// Bytes that show where they stand.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at / 251 + at) % 256).unwrap()).collect()
}

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

/// A handler that waits to be let go, and counts.
#[derive(Clone, Default)]
struct Gate {
    go: Arc<Notify>,
    begun: Arc<AtomicUsize>,
}

impl Gate {
    fn router(&self) -> Router {
        let handler = async |State(gate): State<Self>| {
            gate.begun.fetch_add(1, Ordering::SeqCst);
            gate.go.notified().await;
            "done"
        };
        Router::new().route("/", get(handler)).with_state(self.clone())
    }

    async fn begun(&self, count: usize) {
        eventually("requests have begun", SOON, async || {
            let begun = self.begun.load(Ordering::SeqCst);
            if begun == count { Ok(()) } else { Err(begun) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_found_past_its_deadline_is_dropped_unexecuted() {
    within(LIMIT, async {
        let gate = Gate::default();
        let limits = Limits { concurrent: 1, ..Limits::default() };
        let pair = Pair::with(gate.router(), limits, Limits::default()).await;
        let (first, late) = tokio::join!(pair.get("/"), async {
            gate.begun(1).await;
            let hasty = RequestMeta { timeout: Duration::from_millis(200), ..meta() };
            let late = pair.client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &hasty).await;
            gate.go.notify_one();
            late
        });
        assert_eq!(first.unwrap().status(), StatusCode::OK);
        let late = late.unwrap_err();
        assert!(matches!(late, ForwardError::Timeout), "{late}");
        assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);

        // One that lay in NATS: no time left when it arrives.
        let mut headers = HeaderMap::new();
        for (name, value) in [("Herald-Method", "GET"), ("Herald-Path", "/"), ("Herald-Deadline", "0")] {
            headers.insert(name, value);
        }
        let nats = pair.service.client();
        nats.publish_with_reply_and_headers("http.gm", nats.new_inbox(), headers, Bytes::new()).await.unwrap();
        gate.go.notify_one();
        assert_eq!(pair.get("/").await.unwrap().status(), StatusCode::OK);
        assert_eq!(gate.begun.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_request_is_executed_only_while_its_caller_waits() {
    within(LIMIT, async {
        let gate = Gate::default();
        let pair = Pair::new(gate.router()).await;
        let confirmed = RequestMeta { confirm: true, ..meta() };
        gate.go.notify_one();
        let fine =
            pair.client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &confirmed).await.unwrap();
        assert_eq!(bytes(fine).await, "done");

        // Two messages as they lie in a connection's queue while NATS is away: the one confirmed, the other not.
        let nats = pair.service.client();
        let mut waiting = nats.subscribe("test.caller").await.unwrap();
        nats.flush().await.unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("Herald-Method", "GET"), ("Herald-Path", "/"), ("Herald-Deadline", "60000")] {
            headers.insert(name, value);
        }
        headers.insert("Herald-Body", "test.nobody");
        nats.publish_with_reply_and_headers("http.gm", "test.caller", headers.clone(), Bytes::new()).await.unwrap();
        headers.insert("Herald-Body", "test.body");
        let mut body = nats.subscribe("test.body").await.unwrap();
        nats.publish_with_reply_and_headers("http.gm", "test.caller", headers, Bytes::new()).await.unwrap();
        let ask = body.next().await.unwrap();
        assert_eq!(ask.headers.unwrap().get("Herald-Part").unwrap().as_str(), "0");
        let mut gone = HeaderMap::new();
        gone.insert("Herald-Abort", "gone");
        nats.publish_with_headers(ask.reply.unwrap(), gone, Bytes::new()).await.unwrap();

        gate.go.notify_one();
        assert_eq!(pair.get("/").await.unwrap().status(), StatusCode::OK);
        assert_eq!(gate.begun.load(Ordering::SeqCst), 2, "neither was executed");
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting.next()).await.is_err(), "nor answered");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_wait_is_refused_at_once() {
    within(LIMIT, async {
        let gate = Gate::default();
        let limits = Limits { concurrent: 1, waiting: 1, ..Limits::default() };
        let pair = Pair::with(gate.router(), limits, Limits::default()).await;
        let (first, second, third) = tokio::join!(pair.get("/"), pair.get("/"), async {
            gate.begun(1).await;
            let third = eventually("a refusal", SOON, async || {
                let hasty = RequestMeta { timeout: Duration::from_millis(100), ..meta() };
                pair.client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &hasty).await
            })
            .await;
            gate.go.notify_one();
            gate.begun(2).await;
            gate.go.notify_one();
            third
        });
        assert_eq!((first.unwrap().status(), second.unwrap().status()), (StatusCode::OK, StatusCode::OK));
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(json_of(third).await, json!({"error": "gm is overloaded"}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_nats_away_are_said_at_once() {
    within(LIMIT, async {
        let gate = Gate::default();
        let mut pair = Pair::new(gate.router()).await;
        let begun = Instant::now();
        let nobody = pair.client.request(&Name::new("lobby").unwrap(), Request::new(Body::empty()), &meta()).await;
        let nobody = nobody.unwrap_err();
        assert!(matches!(nobody, ForwardError::NoResponders), "{nobody}");
        assert_eq!(nobody.status(), StatusCode::SERVICE_UNAVAILABLE);

        pair.server.stop().await;
        let away = eventually("the loss is seen", SOON, async || match pair.get("/").await {
            Err(error @ ForwardError::NotConnected) => Ok(error),
            other => Err(other.map(|response| response.status())),
        });
        assert_eq!(away.await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(begun.elapsed() < Duration::from_secs(12));
        pair.server.resume().await;
        gate.go.notify_one();
        eventually("both come back by themselves", SOON, async || {
            let hasty = RequestMeta { timeout: Duration::from_secs(1), ..meta() };
            gate.go.notify_one();
            pair.client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &hasty).await
        })
        .await;
    })
    .await;
}

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

        let mut replies = nats.subscribe("test.replies").await.unwrap();
        let mut body = nats.subscribe("test.body").await.unwrap();
        headers.insert("Herald-Method", "POST");
        headers.insert("Herald-Path", "/large");
        headers.insert("Herald-Body", "test.body");
        nats.publish_with_reply_and_headers("http.gm", "test.replies", headers, Bytes::new()).await.unwrap();
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
async fn the_service_tools_see_every_instance() {
    within(LIMIT, async {
        let router =
            Router::new().route("/fine", get(async || "fine")).route("/bad", get(async || StatusCode::BAD_GATEWAY));
        let pair = Pair::new(router.clone()).await;
        let other = connect(&pair.server).await;
        let two = serve(&other, &gm(), &InstanceId::new("two").unwrap(), router, Limits::default()).await.unwrap();
        other.client().request("$SRV.PING.gm.two", Bytes::new()).await.unwrap();
        for path in ["/fine", "/bad", "/fine"] {
            pair.get(path).await.unwrap();
        }
        let nats = pair.service.client();
        for subject in ["$SRV.PING", "$SRV.INFO.gm", "$SRV.STATS.gm"] {
            let inbox = nats.new_inbox();
            let answers = nats.subscribe(inbox.clone()).await.unwrap();
            nats.publish_with_reply(subject, inbox, Bytes::new()).await.unwrap();
            let answers: Vec<Value> =
                answers.take(2).map(|answer| serde_json::from_slice(&answer.payload).unwrap()).collect().await;
            let mut ids: Vec<&str> = answers.iter().map(|answer| answer["id"].as_str().unwrap()).collect();
            ids.sort_unstable();
            assert_eq!(ids, ["one", "two"], "{subject}");
            if subject == "$SRV.STATS.gm" {
                let sum = |field: &str| -> u64 {
                    answers.iter().map(|one| one["endpoints"][0][field].as_u64().unwrap()).sum()
                };
                assert_eq!((sum("num_requests"), sum("num_errors")), (3, 1));
            }
        }
        assert_eq!(two.drain(SOON).await, 0);
        let gone = nats.request("$SRV.PING.gm.two", Bytes::new()).await.unwrap_err();
        assert_eq!(gone.kind(), async_nats::RequestErrorKind::NoResponders);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_service_finishes_what_it_took_and_loses_nothing() {
    within(LIMIT, async {
        let router = || {
            Router::new().route(
                "/",
                get(async || {
                    tokio::task::yield_now().await;
                    pattern(2000)
                }),
            )
        };
        let pair = Pair::with(router(), Limits::default(), Limits::default()).await;
        // A steady stream of requests while instances come and go.
        let stop = tokio_util::sync::CancellationToken::new();
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let (client, stop) = (pair.client.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut count = 0;
                    while !stop.is_cancelled() {
                        let request = Request::get("/").body(Body::empty()).unwrap();
                        let response = client.request(&gm(), request, &meta()).await.unwrap();
                        assert_eq!(bytes(response).await.len(), 2000);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for number in 0..10 {
            let nats = connect(&pair.server).await;
            let name = InstanceId::new(&format!("i{number}")).unwrap();
            let handle = serve(&nats, &gm(), &name, router(), Limits::default()).await.unwrap();
            eventually("it takes requests", SOON, async || {
                let stats = nats.client().request(format!("$SRV.STATS.gm.{name}"), Bytes::new()).await.unwrap();
                let stats: Value = serde_json::from_slice(&stats.payload).unwrap();
                let count = stats["endpoints"][0]["num_requests"].as_u64().unwrap();
                if count > 20 { Ok(()) } else { Err(count) }
            })
            .await;
            assert_eq!(handle.drain(SOON).await, 0, "nothing cut off");
        }
        stop.cancel();
        for task in asking {
            assert!(task.await.expect("no request failed") > 0);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_in_time_and_says_what_it_cut_off() {
    within(LIMIT, async {
        let gate = Gate::default();
        let Pair { server: _server, service, client, handle } = Pair::new(gate.router()).await;
        let hasty = RequestMeta { timeout: Duration::from_secs(3), ..meta() };
        let name = gm();
        let (cut, asked) = tokio::join!(
            async {
                gate.begun(1).await;
                handle.drain(Duration::from_millis(100)).await
            },
            client.request(&name, Request::get("/").body(Body::empty()).unwrap(), &hasty)
        );
        assert_eq!(cut, 1);
        assert!(matches!(asked, Err(ForwardError::Timeout)));
        let nobody = service.client().request("http.gm", Bytes::new()).await.unwrap_err();
        assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
    })
    .await;
}
