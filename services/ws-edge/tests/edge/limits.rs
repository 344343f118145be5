//! How much one address, session or everybody may have: who is over a limit is told so, and the others notice nothing.

use std::{net::IpAddr, time::Duration};

use axum::{Router, extract::Request, routing::any};
use herald_protocol::SessionId;
use herald_runtime::http_over_nats::Caller;
use herald_testkit::{
    Edge, Nats, Service, eventually,
    http::{self, Raw, send},
    sse, within, ws,
};
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{
    auth,
    forge::{SECRET, claims, hs256},
    support::Engine,
};

const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const BOUND: Duration = Duration::from_secs(20);
pub(crate) const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
pub(crate) const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";

/// The request for a socket.
pub(crate) fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Asks over a new connection from `source`; the connection and the head of the answer, empty if it was closed before.
pub(crate) async fn ask(edge: &Service, source: IpAddr, request: &str) -> (Raw, String) {
    let mut raw = Raw::connect_from(source, edge.address()).await;
    raw.write(request).await;
    let head = raw.read_until(b"\r\n\r\n", BOUND).await;
    (raw, String::from_utf8_lossy(&head).to_lowercase())
}

pub(crate) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The seconds after which to come back.
pub(crate) fn retry_after(head: &str) -> Option<u64> {
    head.lines().find_map(|line| line.strip_prefix("retry-after: "))?.parse().ok()
}

async fn refused(edge: &Service, reason: &str) -> f64 {
    edge.metric("herald_connections_refused_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_and_another_one_its_own() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("limits.connections_per_address", 3).start().await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let (raw, head) = ask(&edge, ONE, HEALTH).await;
            assert_eq!(status(&head), 200, "{head}");
            held.push(raw);
        }
        // Said at once, whatever is asked for, and also to who asks for nothing.
        for request in [HEALTH, &upgrade("/ws/S"), ""] {
            let (mut fourth, head) = ask(&edge, ONE, request).await;
            assert_eq!((status(&head), retry_after(&head)), (429, Some(5)), "{head}");
            assert!(fourth.read_to_end(BOUND).await.is_empty() || head.contains("error"));
        }
        let (_served, head) = ask(&edge, OTHER, HEALTH).await;
        assert_eq!(status(&head), 200, "{head}");
        drop(held.pop());
        eventually("its place is free again", BOUND, async || {
            let (_raw, head) = ask(&edge, ONE, HEALTH).await;
            if status(&head) == 200 { Ok(()) } else { Err(head) }
        })
        .await;
        assert!(refused(&edge, "address").await >= 3.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_so_many_watchers_and_another_one_its_own() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("limits.connections_per_session", 2).start().await;
        let one = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let _two = sse::Client::connect(&edge.http("/sse/S"), None).await;
        let end = ws::Client::connect(&edge.ws("/ws/S"), ws::PLAIN).await.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (1013, "Too many connections to this session; retry in 5 s"));
        let reply = http::get(&edge.http("/sse/S")).await.expect_status(429);
        assert_eq!((reply.header("retry-after"), &*reply.error()), ("5", "Too many connections to this session"));

        let other = ws::Client::connect(&edge.ws("/ws/T"), ws::PLAIN).await;
        engine.publish("gm.T.phase", "1").await;
        engine.publish("gm.S.phase", "2").await;
        other.wait_events(1, BOUND).await;
        one.wait_events(1, BOUND).await;
        assert_eq!(refused(&edge, "session").await, 2.0);
        one.close().await;
        // The client may hear of its end before its place is given back.
        eventually("its place is free again", BOUND, async || {
            let client = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
            eventually("hello or the end", BOUND, async || {
                if client.ended().is_some() || !client.frames().is_empty() { Ok(()) } else { Err("neither") }
            })
            .await;
            client.ended().map_or(Ok(()), Err)
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_knocks_so_often_and_another_one_as_it_likes() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).set("limits.handshakes_per_address", 4).start().await;
        let mut refusals = 0;
        for _ in 0..40 {
            let (_raw, head) = ask(&edge, ONE, &upgrade("/ws/S")).await;
            if status(&head) == 429 {
                assert_eq!(retry_after(&head), Some(1), "{head}");
                refusals += 1;
            } else {
                assert_eq!(status(&head), 101, "{head}");
            }
        }
        assert!(refusals > 0);
        let (_raw, head) = ask(&edge, OTHER, &upgrade("/ws/S")).await;
        assert_eq!(status(&head), 101, "{head}");
        // What is no handshake is not counted as one.
        assert_eq!(edge.get("/health").await.status, 200);
        assert_eq!(refused(&edge, "handshakes_address").await, f64::from(refusals));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_have_a_price_for_the_session_and_the_address() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(Router::new().fallback(any(|| async { "done" }))).await;
        let edge = Edge::new(&nats).set("limits.commands_per_session", 2).start().await;
        let propose = |session: &str| edge.http(&format!("/api/propose?lang=fr&session_id={session}"));
        http::get(&propose("S")).await.expect_status(200);
        http::get(&propose("S")).await.expect_status(200);
        for path in ["/api/propose", "/app/api/choose", "/gm/api/start"] {
            let reply = edge.get(&format!("{path}?session_id=%53")).await.expect_status(429);
            assert_eq!(reply.error(), "Too many commands in this session");
            let retry: u64 = reply.header("retry-after").parse().unwrap();
            assert!((1..=30).contains(&retry), "{retry}");
            assert_eq!(reply.header("access-control-allow-origin"), "*", "a page can read it");
            assert_eq!(reply.header("access-control-expose-headers"), "etag,retry-after", "and when to come back");
        }
        // By the body, too; and two in it are one.
        let news = json!({"session_id": "S", "content": "x"});
        let reply = edge.post("/submit_news", &news).await.expect_status(429);
        assert_eq!(reply.error(), "Too many commands in this session");
        edge.post("/submit_news?session_id=T", &json!({"session_id": "T"})).await.expect_status(200);
        edge.post("/init_session", &json!({"session_id": "T"})).await.expect_status(200);
        edge.post("/init_session", &json!({"session_id": "T"})).await.expect_status(429);
        // What is no command, what saves money, and what is of no session.
        for _ in 0..5 {
            edge.get("/api/state?session_id=S").await.expect_status(200);
            edge.get("/api/start").await.expect_status(200);
            send(Method::POST, &edge.http("/api/cancel?session_id=S"), &[], "").await.expect_status(200);
        }
        assert_eq!(edge.metric("herald_commands_refused_total", &["reason=\"session\""]).await, 5.0);

        let edge = Edge::new(&nats).set("limits.commands_per_address", 3).start().await;
        let command = |session: &str| format!("GET /api/propose?session_id={session} HTTP/1.1\r\nhost: x\r\n\r\n");
        for (session, expected) in [("A", 200), ("B", 200), ("C", 200), ("D", 429), ("A", 429)] {
            let (_raw, head) = ask(&edge, ONE, &command(session)).await;
            assert_eq!(status(&head), expected, "{head}");
        }
        let (_raw, head) = ask(&edge, OTHER, &command("D")).await;
        assert_eq!(status(&head), 200, "{head}");
        edge.get("/api/state").await.expect_status(200);
        assert_eq!(edge.metric("herald_commands_refused_total", &["reason=\"address\""]).await, 2.0);

        // On this machine, as long as nothing else is asked for, none of this is.
        let edge = Edge::new(&nats).start().await;
        for _ in 0..200 {
            edge.get("/api/propose?session_id=S").await.expect_status(200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_path_names_the_session_of_a_command_nothing_else_does() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(Router::new().fallback(any(|| async { "done" }))).await;
        let forward = "[[ws-edge.listeners]]\n[[ws-edge.listeners.forwards]]\nname = \"own\"\nservice = \"gm\"\n\
                       paths = [\"/sessions/{sid}/events\"]\ncommands = true\n";
        let edge = Edge::new(&nats).config(forward).set("limits.commands_per_session", 2).start().await;
        let publish = async |path: &str| edge.post(path, &json!({"session_id": "victim"})).await;
        for _ in 0..2 {
            publish("/sessions/S/events?session_id=victim").await.expect_status(200);
        }
        let reply = publish("/sessions/%53/events").await.expect_status(429);
        assert_eq!(reply.error(), "Too many commands in this session");
        // What others say of it costs it nothing.
        for _ in 0..2 {
            publish("/sessions/victim/events").await.expect_status(200);
        }
        publish("/sessions/victim/events").await.expect_status(429);
        publish("/sessions").await.expect_status(404);
    })
    .await;
}

/// Answers as gm-bridge does: 403 for who may not open session `a`.
async fn of_a(request: Request) -> StatusCode {
    let a = SessionId::new("a").unwrap();
    let theirs = request.extensions().get::<Caller>().is_some_and(|caller| caller.may_open(&a));
    if theirs { StatusCode::OK } else { StatusCode::FORBIDDEN }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_uses_up_the_commands_of_a_session_that_is_not_theirs() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(Router::new().fallback(any(of_a))).await;
        let edge = auth::door(&nats, &format!("secret = \"{SECRET}\"")).set("limits.commands_per_session", 2);
        let edge = edge.start().await;
        let bearer = |user, session| format!("Bearer {}", hs256(&claims(user, &[session])));
        let (ann, bob) = (bearer("ann", "a"), bearer("bob", "b"));
        let propose = async |bearer: &str| {
            send(Method::GET, &edge.http("/api/propose?session_id=a"), &[("authorization", bearer)], "").await.status
        };
        let news = [("authorization", &*bob), ("content-type", "application/json")];
        for _ in 0..3 {
            assert_eq!(propose(&bob).await, 403);
            let reply = send(Method::POST, &edge.http("/submit_news"), &news, r#"{"session_id":"a"}"#).await;
            assert_eq!(reply.status, 403);
        }
        assert_eq!((propose(&ann).await, propose(&ann).await, propose(&ann).await), (200, 200, 429));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knocks_too_often_is_told_so_before_its_token_is_looked_at() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = auth::door(&nats, &format!("secret = \"{SECRET}\""))
            .set("limits.commands_per_address", 2)
            .set("limits.handshakes_per_address", 2)
            .start()
            .await;
        let ask = async |path: &str| {
            let reply = send(Method::GET, &edge.http(path), &[("authorization", "Bearer x.y.z")], "").await;
            reply.status
        };
        for expected in [401, 401, 429, 429] {
            assert_eq!(ask("/api/propose?session_id=a").await, expected);
        }
        let mut told = Vec::new();
        for _ in 0..20 {
            told.push(ask("/sse/a").await);
        }
        assert!(told[..2] == [401, 401] && told.contains(&429), "{told:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_its_part_of_the_requests_at_a_time() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(Router::new().fallback(any(|| async { "done" }))).await;
        let edge = Edge::new(&nats).set("http.max_forwards_per_address", 2).start().await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut raw = Raw::connect_from(ONE, edge.address()).await;
            // Who is told to go on has its place.
            raw.write("POST /init_session HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n")
                .await;
            assert_eq!(raw.read_until(b"\r\n\r\n", BOUND).await, b"HTTP/1.1 100 Continue\r\n\r\n");
            held.push(raw);
        }
        let state = "GET /api/state HTTP/1.1\r\nhost: x\r\n\r\n";
        let (_raw, head) = ask(&edge, ONE, state).await;
        assert_eq!((status(&head), retry_after(&head)), (429, Some(1)), "{head}");
        let (_raw, head) = ask(&edge, OTHER, state).await;
        assert_eq!(status(&head), 200, "{head}");
        assert!(edge.metric("herald_requests_refused_total", &["reason=\"forwards_address\""]).await >= 1.0);
        drop(held);
        eventually("their places are free again", BOUND, async || {
            let (_raw, head) = ask(&edge, ONE, state).await;
            if status(&head) == 200 { Ok(()) } else { Err(head) }
        })
        .await;
    })
    .await;
}
