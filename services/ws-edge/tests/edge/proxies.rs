//! Who is at the other end, with proxies in between that are trusted, and with others.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    http::{HeaderMap, Method},
};
use herald_testkit::{
    Edge, Nats, eventually,
    http::{self, send},
    service::Service,
    within, ws,
};
use serde_json::json;

use crate::{
    forge::{SECRET, claims, hs256},
    support::Engine,
};

const MINUTE: Duration = Duration::from_secs(60);
/// What the proxy in front of us says of its client.
const V1: &str = "PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n";

/// Says from where a request came, as an engine sees it.
fn gm() -> Router {
    Router::new().fallback(|headers: HeaderMap| async move {
        let of =
            |name: &str| headers.get_all(name).iter().map(|it| it.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        Json(json!({ "for": of("x-forwarded-for"), "forwarded": of("forwarded"), "real": of("x-real-ip") }))
    })
}

async fn edge(nats: &Nats) -> Service {
    let listener = |name: &str, more: &str| {
        format!("[[ws-edge.listeners]]\nname = {name:?}\naddress = \"127.0.0.1:0\"\nbuiltin = \"arena\"\n{more}\n")
    };
    let ours = "trusted_proxies = \"127.0.0.0/8, 10.0.0.0/8\"";
    let config = [
        listener("bare", ""),
        listener("forwarded", ours),
        listener("accept", &format!("{ours}\nproxy_protocol = \"accept\"")),
        listener("require", &format!("{ours}\nproxy_protocol = \"require\"")),
        listener("others", "trusted_proxies = \"192.0.2.0/24\"\nproxy_protocol = \"require\""),
    ];
    Edge::new(nats).config(config.concat()).start().await
}

/// What the engine is told of a request that is written as it stands.
async fn asked(address: SocketAddr, before: &str, headers: &str) -> String {
    let request = format!("{before}GET /api/state HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    let answer = http::raw(address, request, Duration::from_secs(20)).await;
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}

fn told(way: &str) -> String {
    json!({ "for": [way], "forwarded": [], "real": [] }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_told_the_client_that_trusted_proxies_vouch_for() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(gm()).await;
        let edge = edge(&nats).await;
        let claims = "x-forwarded-for: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.7\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\n";
        // From nobody we trust, nothing of it survives.
        assert_eq!(asked(edge.listener(0), "", claims).await, told("127.0.0.1"));
        assert_eq!(asked(edge.listener(0), "", "").await, told("127.0.0.1"));
        let believed = |client: &str| told(&format!("{client}, 127.0.0.1"));
        let proxied = edge.listener(1);
        assert_eq!(asked(proxied, "", claims).await, believed("203.0.113.7"));
        let two = "x-forwarded-for: 6.6.6.6, 203.0.113.7, 10.0.0.2\r\n";
        assert_eq!(asked(proxied, "", two).await, believed("203.0.113.7, 10.0.0.2"));
        for nonsense in ["unknown", "203.0.113.7, ", "a\tb", "\u{e9}", "127.0.0.1\\n6.6.6.6", "203.0.113.7;x"] {
            let header = format!("x-forwarded-for: {nonsense}\r\n");
            assert_eq!(asked(proxied, "", &header).await, told("127.0.0.1"), "{nonsense}");
        }
        // The proxy's client is no proxy: what it claims is its own affair.
        for listener in [2, 3] {
            let address = edge.listener(listener);
            assert_eq!(asked(address, V1, claims).await, told("203.0.113.7"));
            assert_eq!(asked(address, &V1.replace("203.0.113.7", "10.0.0.9"), claims).await, told("203.0.113.7, 10.0.0.9"));
        }
        assert_eq!(asked(edge.listener(2), "", "").await, told("127.0.0.1"));
        assert!(edge.metric("herald_forwarded_for_refused_total", &["reason=\"untrusted\""]).await >= 3.0);
        assert!(edge.metric("herald_forwarded_for_refused_total", &["reason=\"malformed\""]).await >= 5.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_begin_as_it_must_is_closed_without_a_word() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = edge(&nats).await;
        let bound = Duration::from_secs(20);
        let request = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let from =
            |listener: usize, before: &str| http::raw(edge.listener(listener), format!("{before}{request}"), bound);
        for (listener, before) in
            [(3, ""), (3, "PROXY TCP4 nobody 1.1.1.1 1 2\r\n"), (2, "PROXY TCP9\r\n"), (4, V1), (4, "")]
        {
            assert_eq!(from(listener, before).await, "", "{listener} {before}");
        }
        // Where nobody speaks that protocol it is a bad request as any other.
        for listener in [0, 1] {
            assert!(from(listener, V1).await.starts_with("HTTP/1.1 400 "), "{listener}");
        }
        for (listener, before) in [(0, ""), (1, ""), (2, ""), (2, V1), (3, V1), (3, "PROXY UNKNOWN\r\n")] {
            let answer = from(listener, before).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{listener} {before} {answer}");
        }
        for reason in ["proxy_missing", "proxy_malformed", "proxy_untrusted"] {
            let label = format!("reason=\"{reason}\"");
            assert!(edge.metric("herald_connections_refused_total", &[&label]).await >= 1.0, "{reason}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_behind_the_proxy_protocol_gets_its_events() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = edge(&nats).await;
        let handshake = "GET /ws/s HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut socket = http::Raw::connect(edge.listener(3)).await;
        // In two writes that part the proxy's words.
        let whole = format!("{V1}{handshake}");
        let (one, other) = whole.split_at(17);
        assert!(socket.write(one).await && socket.write(other).await);
        let head = socket.read_until(b"\r\n\r\n", MINUTE).await;
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
        engine.publish("gm.s.phase", r#"{"n":1}"#).await;
        let frame = socket.read_until(br#""data":{"n":1}"#, MINUTE).await;
        assert_eq!(frame.first(), Some(&0x81), "{}", frame.escape_ascii());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_another_origin_watches_or_commands() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(gm()).await;
        let config =
            "[[ws-edge.listeners]]\nbuiltin = \"arena\"\norigins = \"https://play.example, https://*.games.example\"\n";
        let edge = Edge::new(&nats).config(config).start().await;
        let asks = async |path: &str, headers: &[(&str, &str)]| send(Method::GET, &edge.http(path), headers, "").await;
        for origin in ["https://play.example", "https://a.games.example"] {
            let options = ws::Options { headers: &[("origin", origin)], ..ws::Options::default() };
            drop(ws::Client::open(&edge.ws("/ws/s"), options).await.expect("let in"));
            let reply = asks("/api/start", &[("origin", origin)]).await.expect_status(200);
            assert_eq!(reply.header("access-control-allow-origin"), origin);
        }
        for origin in ["https://play.example.evil", "https://games.example", "https://play.example.", "null"] {
            let options = ws::Options { headers: &[("origin", origin)], ..ws::Options::default() };
            let opened = ws::Client::open(&edge.ws("/ws/s"), options).await;
            assert!(matches!(opened, Err(ws::Refused::Status { status: 403, .. })), "{origin}");
            for path in ["/ws/s", "/sse/s", "/app/sse/s", "/api/start", "/init_session"] {
                let reply = asks(path, &[("origin", origin)]).await.expect_status(403);
                assert_eq!(reply.header("access-control-allow-origin"), "", "{origin} {path}");
            }
            // What changes nothing is the browser's to keep from the page.
            asks("/api/state", &[("origin", origin)]).await.expect_status(200);
        }
        asks("/ws/s", &[("origin", "https://play.example"), ("origin", "https://evil.example")])
            .await
            .expect_status(403);
        asks("/api/start", &[("sec-fetch-site", "cross-site")]).await.expect_status(403);
        asks("/api/start", &[("sec-fetch-site", "none")]).await.expect_status(200);
        asks("/api/state", &[("sec-fetch-site", "cross-site")]).await.expect_status(200);
    })
    .await;
}

/// The head of what is answered to a request behind a proxy that speaks for `client`, with the connection.
async fn behind(address: SocketAddr, request: &str) -> (http::Raw, String) {
    let mut raw = http::Raw::connect(address).await;
    raw.write(request).await;
    let head = raw.read_until(b"\r\n\r\n", MINUTE).await;
    (raw, String::from_utf8_lossy(&head).into_owned())
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_its_clients_as_soon_as_the_proxy_has_said_whose_it_is() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let config = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\ntrusted_proxies = \"127.0.0.0/8\"\nproxy_protocol = \"require\"\n";
        let edge = Edge::new(&nats).config(config).set("limits.connections_per_address", 2).start().await;
        let health = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 4711 80\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n");
        let one = health("203.0.113.7");
        let (first, head) = behind(edge.address(), &one).await;
        assert_eq!(status(&head), 200, "{head}");
        let (_second, head) = behind(edge.address(), &one).await;
        assert_eq!(status(&head), 200, "{head}");
        let (_third, head) = behind(edge.address(), &one).await;
        assert!(status(&head) == 429 && head.contains("retry-after: 5"), "{head}");
        let (_other, head) = behind(edge.address(), &health("203.0.113.8")).await;
        assert_eq!(status(&head), 200, "{head}");
        drop(first);
        eventually("its place is free again", MINUTE, async || {
            let (_raw, head) = behind(edge.address(), &one).await;
            if status(&head) == 200 { Ok(()) } else { Err(head) }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_are_asked_who_they_are_are_places_of_their_address() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let config = format!(
            "[ws-edge.jwt]\nsecret = \"{SECRET}\"\nwait = \"30s\"\n[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\n\
             trusted_proxies = \"127.0.0.0/8\"\n"
        );
        let edge = Edge::new(&nats).config(config).set("limits.connections_per_address", 2).start().await;
        let of = |client: &'static str| ws::Options {
            protocols: ws::V1,
            headers: Box::leak(Box::new([("x-forwarded-for", client)])),
            ..ws::Options::default()
        };
        let url = edge.ws("/ws/s1");
        let open = async |client| ws::Client::open(&url, of(client)).await;
        let (one, _two) = (open("203.0.113.7").await.unwrap(), open("203.0.113.7").await.unwrap());
        let third = open("203.0.113.7").await;
        assert!(matches!(third, Err(ws::Refused::Status { status: 429, .. })), "{third:?}");
        let _other = open("203.0.113.8").await.unwrap();
        // Whoever has said it has the same place as one that watches.
        let token = hs256(&claims("ann", &["s1"]));
        one.send_text(json!({ "event": "herald.token", "data": { "token": token } }).to_string()).await;
        one.wait_for("the hello", MINUTE, |frame| frame.event() == "herald.hello").await;
        engine.publish("gm.s1.phase", "1").await;
        one.wait_events(1, MINUTE).await;
        assert!(open("203.0.113.7").await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_run_all_the_self_tests() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = edge(&nats).await;
        let ask = async |client: &str| {
            let request = format!("GET /sse/_selftest HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\n\r\n");
            let (raw, head) = behind(edge.listener(1), &request).await;
            (raw, status(&head))
        };
        let mut held = Vec::new();
        for expected in [200, 200, 200, 200, 429] {
            let (raw, status) = ask("203.0.113.7").await;
            assert_eq!(status, expected);
            held.push(raw);
        }
        assert_eq!(ask("203.0.113.8").await.1, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_own_name_leads_here_is_told_that_this_is_another_place() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(gm()).await;
        let config = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\nhosts = \"play.example, 127.0.0.1\"\n";
        let edge = Edge::new(&nats).config(config).start().await;
        edge.get("/api/state").await.expect_status(200);
        // What a browser says of a page of evil.example, whose name was made to lead here: it is of the same origin.
        for path in ["/api/start?session_id=s", "/sse/s", "/ws/s", "/health"] {
            for (host, expected) in [("evil.example:8000", 421), ("localhost", 421)] {
                let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nsec-fetch-site: same-origin\r\n\r\n");
                let (_raw, head) = behind(edge.address(), &request).await;
                assert_eq!(status(&head), expected, "{path} {host}: {head}");
            }
        }
        let (_raw, head) =
            behind(edge.address(), "GET http://evil.example/api/state HTTP/1.1\r\nhost: play.example\r\n\r\n").await;
        assert_eq!(status(&head), 421, "{head}");
        let (_raw, head) = behind(edge.address(), "GET /api/state HTTP/1.1\r\nhost: play.example:443\r\n\r\n").await;
        assert_eq!(status(&head), 200, "{head}");
    })
    .await;
}
