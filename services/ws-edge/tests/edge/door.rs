//! The door by itself: what is refused, what is forwarded, what is said where nobody answers.

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    response::IntoResponse,
    routing::{any, get, post},
};
use herald_runtime::http_over_nats::Door;
use herald_testkit::{
    Edge, Nats, NatsOptions, eventually,
    http::{self, send},
    port::Reserved,
    within, ws,
};
use serde_json::{Value, json};

use crate::support::Engine;

const MINUTE: Duration = Duration::from_secs(60);
/// Session ids that are none, as they stand in a path.
const BAD_IDS: [&str; 9] = [
    "",
    "a.b",
    "*",
    "%3E",
    "abc%0A",
    "%00",
    "%F0%9F%8E%B2",
    "_x",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Says what it got.
async fn echo(Extension(door): Extension<Door>, request: Request) -> impl IntoResponse {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 30).await.unwrap();
    let headers: Vec<_> =
        head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    Json(json!({
        "method": head.method.as_str(), "uri": head.uri.to_string(), "door": &*door.0, "headers": headers, "body": body.len(),
    }))
}

fn gm() -> Router {
    let big = || async { Body::from(Bytes::from(vec![7_u8; 3_000_000])) };
    let slow = || std::future::pending::<()>();
    Router::new()
        .route("/api/images/big.png", get(big))
        .route("/submit_news", post(slow))
        .route("/api/kept", get(|| async { ([(header::CACHE_CONTROL, "max-age=5")], "kept") }))
        .route(
            "/api/teapot",
            get(|| async { (StatusCode::IM_A_TEAPOT, [("x-secret-internal", "1")], "short and stout") }),
        )
        .route("/health", get(|| async { Json(json!({"status": "ok", "service": "herald"})) }))
        .fallback(any(echo))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_in_json_before_any_upgrade() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        for path in ["/", "/nope", "/ws", "/ws/a/b", "/api", "/app", "/static/agent-skins/pavel.png", "/app/api"] {
            let reply = edge.get(path).await.expect_status(404);
            assert!(!reply.error().is_empty(), "{path}: {}", reply.text());
            assert_eq!(reply.header("access-control-allow-origin"), "*", "{path}");
            assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        }
        for prefix in ["/ws", "/app/ws", "/gm/ws", "/sse", "/app/sse", "/gm/sse"] {
            for id in BAD_IDS {
                edge.get(&format!("{prefix}/{id}")).await.expect_status(404);
                let opened = ws::Client::open(&edge.ws(&format!("{prefix}/{id}")), ws::Options::default()).await;
                let Err(ws::Refused::Status { status: 404, body }) = opened else { panic!("{prefix}/{id}") };
                assert!(body.contains("\"error\""), "{body}");
            }
            for query in ["after=-1", "after=x", "dialect=klingon", "snapshot=2", "after=1&snapshot=1"] {
                let reply = edge.get(&format!("{prefix}/s?{query}")).await.expect_status(400);
                let name = query.split('=').next().unwrap();
                assert!(reply.error().contains(name), "{query}: {}", reply.text());
                if !prefix.ends_with("sse") {
                    let opened =
                        ws::Client::open(&edge.ws(&format!("{prefix}/s?{query}")), ws::Options::default()).await;
                    assert!(matches!(opened, Err(ws::Refused::Status { status: 400, .. })), "{prefix} {query}");
                }
            }
            for method in [Method::POST, Method::HEAD, Method::DELETE, Method::PUT] {
                let reply = send(method.clone(), &edge.http(&format!("{prefix}/s")), &[], "").await.expect_status(405);
                assert_eq!(reply.header("allow"), "GET", "{method}");
            }
        }
        let reply = edge.get("/ws/s").await.expect_status(426);
        assert_eq!(reply.header("upgrade"), "websocket");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_200_on_any_path() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        for path in ["/init_session", "/nope", "/ws/s", "/app/api/start"] {
            let headers = [
                ("origin", "https://play.example"),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "content-type,x-mine"),
            ];
            let reply = send(Method::OPTIONS, &edge.http(path), &headers, "").await.expect_status(200);
            assert_eq!(reply.header("access-control-allow-origin"), "*");
            assert_eq!(reply.header("access-control-allow-methods"), "POST");
            assert_eq!(reply.header("access-control-allow-headers"), "content-type,x-mine");
            send(Method::OPTIONS, &edge.http(path), &[], "").await.expect_status(200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_may_ask_with_credentials_where_the_listener_says_so() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let (any, mine) = ("", "origins = [\"https://play.example\"]");
        for (credentials, origins, origin, expected) in [
            (true, any, "https://play.example", ("https://play.example", "true")),
            (true, mine, "https://play.example", ("https://play.example", "true")),
            (true, mine, "https://evil.example", ("", "true")),
            (false, any, "https://play.example", ("*", "")),
            (false, mine, "https://play.example", ("https://play.example", "")),
        ] {
            let listener =
                format!("[[ws-edge.listeners]]\nbuiltin = \"arena\"\ncredentials = {credentials}\n{origins}\n");
            let edge = Edge::new(&nats).config(listener).start().await;
            let preflight = [("origin", origin), ("access-control-request-method", "POST")];
            for (method, headers, path) in
                [(Method::OPTIONS, &preflight[..], "/init_session"), (Method::GET, &preflight[..1], "/openapi.json")]
            {
                let reply = send(method, &edge.http(path), headers, "").await.expect_status(200);
                let allowed = ["access-control-allow-origin", "access-control-allow-credentials"];
                assert_eq!(
                    allowed.map(|name| reply.header(name)),
                    [expected.0, expected.1],
                    "{origins} {origin} {path}"
                );
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_without_their_doors_prefix_and_with_its_name() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(gm()).await;
        let edge = Edge::new(&nats).start().await;
        for (prefix, door) in [("", "event"), ("/app", "app"), ("/gm", "gm")] {
            let path = format!("{prefix}/api/start?lang=fr&session_id=a%2Fb&x");
            let reply = edge.get(&path).await.expect_status(200);
            assert_eq!(reply.json()["uri"], "/api/start?lang=fr&session_id=a%2Fb&x");
            assert_eq!((&reply.json()["method"], &reply.json()["door"]), (&json!("GET"), &json!(door)));
            assert_eq!(reply.header("cache-control"), "no-store", "a command's answer is nobody's to keep");
            assert_eq!(reply.header("access-control-allow-origin"), "*");
        }
        let headers = [("content-type", "application/json"), ("cookie", "secret"), ("x-forwarded-for", "203.0.113.7")];
        let reply =
            send(Method::POST, &edge.http("/init_session?lang=en"), &headers, "{}").await.expect_status(200).json();
        assert_eq!(
            (&reply["method"], &reply["uri"], &reply["body"]),
            (&json!("POST"), &json!("/init_session?lang=en"), &json!(2))
        );
        let sent: Vec<_> = reply["headers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(sent.contains(&"content-type: application/json"), "{sent:?}");
        assert!(sent.contains(&"x-forwarded-for: 127.0.0.1"), "{sent:?}");
        assert!(!sent.iter().any(|header| header.starts_with("cookie")), "{sent:?}");

        let head = send(Method::HEAD, &edge.http("/api/state"), &[], "").await.expect_status(200);
        assert!(head.body.is_empty());
        let big = edge.get("/api/images/big.png").await.expect_status(200);
        assert_eq!((big.body.len(), big.body.iter().all(|byte| *byte == 7)), (3_000_000, true));
        assert_eq!(edge.get("/api/kept").await.header("cache-control"), "max-age=5");
        let teapot = edge.get("/api/teapot").await.expect_status(418);
        assert_eq!(teapot.text(), "short and stout");
        assert_eq!(edge.get("/health").await.json()["status"], "ok");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_a_limit_and_prefetches_no_effect() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(gm()).await;
        let edge = Edge::new(&nats).start().await;
        let url = edge.http("/init_session");
        let reply = send(Method::POST, &url, &[], vec![b'x'; 1 << 20]).await.expect_status(200);
        assert_eq!(reply.json()["body"], 1 << 20);
        for size in [(1 << 20) + 1, 3 << 20] {
            let reply = send(Method::POST, &url, &[], vec![b'x'; size]).await.expect_status(413);
            assert!(!reply.error().is_empty());
        }
        // One that is far beyond is not even read.
        let request = format!("POST /init_session HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40);
        let answer = http::raw(edge.address(), request, Duration::from_secs(10)).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

        for (name, value) in [("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch"), ("x-moz", "prefetch")] {
            send(Method::GET, &edge.http("/api/start"), &[(name, value)], "").await.expect_status(503);
            send(Method::GET, &edge.http("/api/state"), &[(name, value)], "").await.expect_status(200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_service_and_a_silent_one_are_named() {
    within(MINUTE, async {
        let mut nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut edge = Edge::new(&nats).start().await;
        for path in ["/api/start", "/app/api/state", "/submit_news"] {
            let reply = edge.get(path).await.expect_status(503);
            assert_eq!(reply.error(), "gm-bridge is not available");
        }
        let degraded =
            json!({"status": "degraded", "service": "herald", "nats_connected": true, "gm_client_ready": false});
        assert_eq!(edge.get("/health").await.expect_status(200).json(), degraded);
        let head = send(Method::HEAD, &edge.http("/health"), &[], "").await.expect_status(200);
        assert!(head.body.is_empty());

        let _gm = engine.serve(gm()).await;
        let reply = edge.post("/submit_news", &json!({})).await.expect_status(504);
        assert_eq!(reply.error(), "gm-bridge did not answer in time");

        nats.stop().await;
        edge.wait_not_ready(Duration::from_secs(20)).await;
        eventually("the forwards know that NATS is away", Duration::from_secs(20), async || {
            let reply = edge.get("/api/start").await.expect_status(503);
            if reply.error() == "NATS is not connected" { Ok(()) } else { Err(reply.text()) }
        })
        .await;
        assert_eq!(edge.get("/health").await.expect_status(200).json()["nats_connected"], false);
        nats.resume().await;
        edge.wait_ready(Duration::from_secs(20)).await;
        eventually("the engine is back too", Duration::from_secs(20), async || {
            let reply = edge.get("/api/state").await;
            if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_started_before_nats_says_so_and_comes_up() {
    within(MINUTE, async {
        let mut nats = Nats::reserve(NatsOptions::default());
        let mut edge = Edge::new(&nats).spawn();
        edge.wait_listeners(1, Duration::from_secs(20)).await;
        assert_eq!(edge.get("/api/start").await.expect_status(503).error(), "NATS is not connected");
        assert_eq!(edge.get("/health").await.expect_status(200).json()["nats_connected"], false);
        let opened = ws::Client::open(&edge.ws("/ws/s"), ws::Options::default()).await;
        assert!(matches!(opened, Err(ws::Refused::Status { status: 503, .. })));
        edge.wait_not_ready(Duration::from_secs(5)).await;
        nats.resume().await;
        let engine = Engine::start(&nats).await;
        edge.wait_ready(Duration::from_secs(20)).await;
        let _gm = engine.serve(gm()).await;
        edge.get("/api/start").await.expect_status(200);
    })
    .await;
}

/// Where the stream is not known there is no now: whoever was let in would miss what is stored until it is.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_starts_live_before_the_stream_is_known() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let mut edge = Edge::new(&nats).spawn();
        edge.wait_readyz("waits for the stream", Duration::from_secs(20), |_, body| {
            let conditions = &body["conditions"];
            conditions["nats"] == "ok" && conditions["started"] == "ok" && conditions["stream EVENTS"] != "ok"
        })
        .await;
        let door = edge.address();
        let open = async |path: &str| ws::Client::open(&format!("ws://{door}{path}"), ws::Options::default()).await;
        let opened = open("/ws/s").await;
        assert!(matches!(opened, Err(ws::Refused::Status { status: 503, .. })), "{opened:?}");
        assert_eq!(edge.get("/sse/s").await.expect_status(503).error(), "Not ready");
        // A place in the log is one, whoever knows it; and a Game Master, who opens its socket once, is never sent away.
        let replay = open("/ws/s?after=0").await.expect("let in");
        let _gm = open("/gm/ws/g").await.expect("let in");

        let engine = Engine::start(&nats).await;
        let first = engine.publish("gm.s.phase", "1").await;
        replay.wait_for("the first event", MINUTE, |frame| frame.seq() == Some(first)).await;
        edge.wait_ready(Duration::from_secs(20)).await;
        let live = open("/ws/s").await.expect("let in");
        let second = engine.publish("gm.s.phase", "2").await;
        live.wait_for("the second event", MINUTE, |frame| frame.seq() == Some(second)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_for_its_origins_alone() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pavel.png"), b"\x89PNG picture").unwrap();
        std::fs::write(folder.path().join("secret.txt"), b"secret").unwrap();
        let config = format!(
            "[[ws-edge.listeners]]\nbuiltin = \"arena\"\norigins = [\"https://play.example\"]\navatars = {:?}\n",
            folder.path()
        );
        let edge = Edge::new(&nats).config(config).start().await;
        let asks =
            async |origin: &str, path: &str| send(Method::GET, &edge.http(path), &[("origin", origin)], "").await;
        let ours = asks("https://play.example", "/health").await.expect_status(200);
        assert_eq!(ours.header("access-control-allow-origin"), "https://play.example");
        assert!(ours.header("vary").to_lowercase().contains("origin"));
        assert_eq!(asks("https://evil.example", "/health").await.header("access-control-allow-origin"), "");
        asks("https://evil.example", "/ws/s").await.expect_status(403);
        asks("https://play.example", "/ws/s").await.expect_status(426);

        let picture = edge.get("/static/agent-skins/pavel.png").await.expect_status(200);
        assert_eq!((picture.header("content-type"), &picture.body[..]), ("image/png", &b"\x89PNG picture"[..]));
        let since = [("if-modified-since", picture.header("last-modified"))];
        let url = edge.http("/static/agent-skins/pavel.png");
        send(Method::GET, &url, &since, "").await.expect_status(304);
        assert!(send(Method::HEAD, &url, &[], "").await.expect_status(200).body.is_empty());
        assert_eq!(send(Method::POST, &url, &[], "").await.expect_status(405).header("allow"), "GET, HEAD");
        for path in ["secret.txt", "..%2fpavel.png", "../pavel.png", "", "nobody.png", "pavel.png%00", "pavel.png/x"] {
            edge.get(&format!("/static/agent-skins/{path}")).await.expect_status(404);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_have_limits_and_their_bytes_deadlines() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(gm()).await;
        let edge = Edge::new(&nats)
            .set("http.header_timeout", "1s")
            .set("http.body_timeout", "1s")
            .set("http.max_header", "8KiB")
            .set("http.max_connections", 4)
            .start()
            .await;
        let bound = Duration::from_secs(10);
        let mut silent = http::Raw::connect(edge.address()).await;
        silent.write("GET /health HTTP/1.1\r\nhost: x\r\n").await;
        silent.read_to_end(bound).await;
        let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(10_000));
        let answer = http::raw(edge.address(), long, bound).await;
        assert!(answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 414 "), "{answer}");
        let answer = http::raw(edge.address(), "complete nonsense\r\n\r\n", bound).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let mut slow = http::Raw::connect(edge.address()).await;
        slow.write("POST /init_session HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc").await;
        let answer = String::from_utf8(slow.read_to_end(bound).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

        eventually("all places are free again", bound, async || {
            let mut held = Vec::new();
            for _ in 0..4 {
                let mut raw = http::Raw::connect(edge.address()).await;
                raw.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
                if raw.read_until(b"\r\n\r\n", bound).await.is_empty() {
                    return Err("refused");
                }
                held.push(raw);
            }
            let mut fifth = http::Raw::connect(edge.address()).await;
            assert!(fifth.read_to_end(bound).await.is_empty(), "one too many is closed at once");
            Ok(())
        })
        .await;
        assert!(edge.metric("herald_connections_refused_total", &["reason=\"too_many\""]).await >= 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_work_is_said_in_one_sentence() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let taken = Reserved::take();
        let _listener = tokio::net::TcpListener::bind(taken.address()).await.unwrap();
        let mut edge = Edge::new(&nats).env("PORT", taken.port().to_string()).spawn();
        assert_eq!(edge.process().wait(MINUTE).await.code(), Some(1));
        assert!(edge.log().contains("already in use"), "{}", edge.log());

        let plain = Nats::start_with(NatsOptions { jetstream: false, ..NatsOptions::default() }).await;
        let mut edge = Edge::new(&plain).spawn();
        assert_eq!(edge.process().wait(MINUTE).await.code(), Some(1));
        assert!(edge.log().contains("has no JetStream"), "{}", edge.log());

        let mut edge = Edge::new(&nats).set("http.max_connections", "0").set("nonsense", "1").spawn();
        assert_eq!(edge.process().wait(MINUTE).await.code(), Some(64));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_answers_and_takes_no_new_connections() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let (begun, mut begins) = tokio::sync::mpsc::channel::<()>(1);
        let (let_go, gate) = tokio::sync::watch::channel(false);
        let waits = move |_: HeaderMap| {
            let (begun, mut gate) = (begun.clone(), gate.clone());
            async move {
                begun.send(()).await.unwrap();
                gate.wait_for(|open| *open).await.unwrap();
                "late but there"
            }
        };
        let _gm = engine.serve(Router::new().route("/api/start", get(waits))).await;
        let mut edge = Edge::new(&nats).start().await;
        let url = edge.http("/api/start");
        let answer = tokio::spawn(async move { http::get(&url).await });
        begins.recv().await.unwrap();
        let mut idle = http::Raw::connect(edge.address()).await;
        edge.process().signal(rustix::process::Signal::TERM);
        assert!(idle.read_to_end(Duration::from_secs(10)).await.is_empty(), "a connection without a request is closed");
        eventually("no new connections", Duration::from_secs(10), async || {
            match tokio::net::TcpStream::connect(edge.address()).await {
                Ok(_) => Err("connected"),
                Err(_) => Ok(()),
            }
        })
        .await;
        let_go.send(true).unwrap();
        assert_eq!(answer.await.unwrap().expect_status(200).text(), "late but there");
        assert_eq!(edge.process().wait(MINUTE).await.code(), Some(0));
    })
    .await;
}
