//! Who may come in: tokens in each of their places, and everybody who has none or another one.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::Request,
    routing::{any, get},
};
use herald_runtime::http_over_nats::Caller;
use herald_testkit::{
    Edge, Nats, Service, eventually,
    http::{self, send},
    sse, within, ws,
};
use hyper::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    forge::{self, SECRET, claims, hs256, mac, now, with},
    support::Engine,
};

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);

/// An edge whose door asks for tokens, with `jwt` for its section.
pub(crate) fn door(nats: &Nats, jwt: &str) -> Edge {
    Edge::new(nats).config(format!(
        "[ws-edge.jwt]\n{jwt}\n[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\norigins = [\"*\"]\n"
    ))
}

async fn edge(jwt: &str) -> (Nats, Engine, Service) {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    let edge = door(&nats, &format!("secret = \"{SECRET}\"\nleeway = \"0s\"\n{jwt}")).start().await;
    (nats, engine, edge)
}

/// A socket with that token in the header.
pub(crate) async fn with_token(url: &str, token: &str) -> ws::Client {
    let bearer = format!("Bearer {token}");
    let options = ws::Options { protocols: ws::V1, headers: &[("authorization", &bearer)], ..ws::Options::default() };
    ws::Client::open(url, options).await.unwrap_or_else(|refused| panic!("{url}: {refused:?}"))
}

/// How a socket with that token ends that is never shown anything.
pub(crate) async fn refused(url: &str, token: &str) -> (u16, String) {
    let socket = with_token(url, token).await;
    let end = socket.wait_end(BOUND).await;
    assert!(socket.frames().is_empty(), "{url}: {socket:?}");
    (end.code(), end.reason().to_owned())
}

fn frame(token: &str) -> String {
    json!({ "event": "herald.token", "data": { "token": token } }).to_string()
}

async fn sees(socket: &ws::Client, text: &str) {
    socket.wait_for(text, BOUND, |frame| frame.data()["text"] == text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_session_from_each_of_its_places() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge("query = true").await;
        engine.publish("gm.s1.phase", r#"{"text":"past"}"#).await;
        let token = hs256(&claims("ann", &["s1"]));
        let url = edge.ws("/ws/s1?after=0");
        let offered = format!("herald.token.{token}");
        let in_header = with_token(&url, &token).await;
        let v1 = ws::Client::connect(&url, &["herald.v1", &offered]).await;
        let plain = ws::Client::connect(&url, &[&offered, "herald.plain"]).await;
        assert_eq!(
            (v1.protocol(), plain.protocol()),
            (Some("herald.v1"), Some("herald.plain")),
            "the token is not said back"
        );
        let in_query = ws::Client::connect(&format!("{url}&token={token}"), ws::PLAIN).await;
        let in_frame = ws::Client::connect(&url, ws::V1).await;
        in_frame.send_text(frame(&token)).await;
        let frame_plain = ws::Client::connect(&url, ws::PLAIN).await;
        frame_plain.send_text(frame(&token)).await;
        let stream = sse::Client::connect(&edge.http(&format!("/sse/s1?after=0&token={token}")), None).await;
        engine.publish("gm.s1.phase", r#"{"text":"live"}"#).await;
        for socket in [&in_header, &v1, &plain, &in_query, &in_frame, &frame_plain] {
            let events = socket.wait_events(2, BOUND).await;
            assert_eq!((&events[0].data()["text"], &events[1].data()["text"]), (&json!("past"), &json!("live")));
        }
        assert_eq!(plain.frames()[0].event(), "gm.phase", "who names the plain protocol sees no frame of ours");
        stream.wait_events(2, BOUND).await;
        let resumed =
            sse::Client::connect(&edge.http(&format!("/sse/s1?token={token}")), stream.last_id().as_deref()).await;
        engine.publish("gm.s1.phase", r#"{"text":"more"}"#).await;
        resumed.wait_events(1, BOUND).await;

        let bearer = format!("bearer {token}");
        let open = http::open(Method::GET, &edge.http("/sse/s1"), &[("authorization", &bearer)], "").await.unwrap();
        assert_eq!(open.status(), 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_good_token_is_told_why_and_shown_nothing() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge("issuers = [\"us\"]\naudiences = [\"herald\"]").await;
        engine.publish("gm.s1.phase", r#"{"text":"secret"}"#).await;
        let good = with(with(claims("ann", &["s1"]), "iss", "us"), "aud", "herald");
        let changed = |name: &str, value: Value| hs256(&with(good.clone(), name, value));
        let table = [
            ("foreign", forge::token(&json!({"alg": "HS256"}), &good, mac(&[1; 32])), 4401, "signature"),
            ("expired", changed("exp", json!(now() - 1)), 4401, "expired"),
            ("not yet", changed("nbf", json!(now() + 60)), 4401, "not valid yet"),
            ("issuer", changed("iss", json!("them")), 4401, "issuer"),
            ("audience", changed("aud", json!("them")), 4401, "audience"),
            ("alg none", forge::token(&json!({"alg": "none"}), &good, |_| Vec::new()), 4401, "malformed"),
            ("no token", "x".to_owned(), 4401, "malformed"),
            ("empty", String::new(), 4401, "malformed"),
            ("no sessions", changed("sessions", json!([])), 4403, "not yours"),
            ("another session", changed("sessions", json!(["s2"])), 4403, "not yours"),
        ];
        for (what, token, code, reason) in &table {
            let (closed, why) = refused(&edge.ws("/ws/s1?after=0"), token).await;
            assert!(closed == *code && why.contains(reason), "{what}: {closed} {why}");
            let offered = format!("herald.token.{token}");
            let socket = ws::Client::connect(&edge.ws("/ws/s1?after=0"), &["herald.v1", &offered]).await;
            assert_eq!(socket.wait_end(BOUND).await.code(), *code, "{what}");
            let late = ws::Client::connect(&edge.ws("/ws/s1?after=0"), ws::V1).await;
            late.send_text(frame(token)).await;
            assert_eq!(late.wait_end(BOUND).await.code(), *code, "{what}");
            assert!(late.frames().is_empty() && socket.frames().is_empty());
            let bearer = format!("Bearer {token}");
            let reply = send(Method::GET, &edge.http("/sse/s1?after=0"), &[("authorization", &bearer)], "").await;
            let challenge = if *code == 4401 { "invalid_token" } else { "insufficient_scope" };
            assert_eq!(reply.status, code - 4000, "{what}");
            assert!(reply.header("www-authenticate").contains(challenge) && reply.error().contains(reason), "{what}");
            if *code == 4401 {
                send(Method::GET, &edge.http("/api/state"), &[("authorization", &bearer)], "").await.expect_status(401);
            }
        }
        for path in [
            "/sse/s1?after=0",
            "/sse/s1",
            "/app/sse/s1",
            "/gm/sse/s1",
            // Not what else is wrong with it.
            "/sse/s1?speed=0.1&snapshot=0",
            "/api/state",
            "/api/start",
            "/app/api/state",
            "/submit_news",
        ] {
            let reply = edge.get(path).await.expect_status(401);
            assert_eq!(
                (reply.header("www-authenticate"), reply.error().as_str()),
                ("Bearer", "A token is needed"),
                "{path}"
            );
        }
        // In a URL only where an operator allows it.
        let token = hs256(&good);
        edge.get(&format!("/sse/s1?token={token}")).await.expect_status(401);
        let twice = [("authorization", format!("Bearer {token}")), ("authorization", format!("Bearer {token}"))];
        let twice = twice.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert!(
            send(Method::GET, &edge.http("/sse/s1"), &twice, "")
                .await
                .expect_status(401)
                .error()
                .contains("More than one")
        );
        for (reason, least) in
            [("signature", 3.0), ("expired", 3.0), ("session", 6.0), ("missing", 8.0), ("several", 1.0)]
        {
            let counted = edge.metric("herald_auth_refused_total", &[&format!("reason=\"{reason}\"")]).await;
            assert!(counted >= least, "{reason}: {counted}");
        }
        assert!(with_token(&edge.ws("/ws/s1?after=0"), &token).await.wait_events(1, BOUND).await.len() == 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_says_nothing_of_itself_is_shown_nothing_and_closed() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge("wait = \"700ms\"").await;
        engine.publish("gm.s1.phase", r#"{"text":"secret"}"#).await;
        let token = hs256(&claims("ann", &["s1"]));
        let silent = ws::Client::connect(&edge.ws("/ws/s1?after=0"), ws::V1).await;
        silent.send(Message::Ping("x".into())).await;
        let end = silent.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (4401, "A token is needed"));
        assert!(silent.frames().is_empty() && silent.pongs() == ["x"]);
        for other in [frame("").replace("herald.token", "x"), token.clone(), "{}".to_owned(), "x".repeat(60_000)] {
            let socket = ws::Client::connect(&edge.ws("/ws/s1?after=0"), ws::V1).await;
            socket.send_text(other).await;
            socket.send_text(frame(&token)).await;
            assert_eq!(socket.wait_end(BOUND).await.code(), 4401, "the first frame counts");
            assert!(socket.frames().is_empty());
        }
        let binary = ws::Client::connect(&edge.ws("/ws/s1"), ws::V1).await;
        binary.send(Message::Binary(frame(&token).into())).await;
        assert_eq!(binary.wait_end(BOUND).await.code(), 4401);
        let huge = ws::Client::connect(&edge.ws("/ws/s1"), ws::V1).await;
        huge.send_text("x".repeat(70_000)).await;
        assert_eq!(huge.wait_end(BOUND).await.code(), 1009);
        let polite = ws::Client::connect(&edge.ws("/ws/s1"), ws::V1).await;
        assert_eq!(polite.close().await.code(), 1000);
        assert_eq!(edge.metric("herald_watching_connections_count", &[]).await, 0.0, "nobody watched");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pings_and_never_says_who_it_is_is_closed() {
    within(MINUTE, async {
        let (_nats, _engine, edge) = edge("wait = \"15s\"").await;
        let socket = ws::Client::connect(&edge.ws("/ws/s1"), ws::V1).await;
        for _ in 0..100 {
            socket.send(Message::Ping("x".into())).await;
        }
        let end = socket.wait_end(BOUND).await;
        assert_eq!((end.code(), end.reason()), (1008, "too many frames before a token"));
        assert!(socket.pongs().len() <= 32, "{}", socket.pongs().len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token_unless_a_fresh_one_comes() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge("grace = \"200ms\"\nquery = true").await;
        let short = with(claims("ann", &["s1"]), "exp", now() + 3);
        let (url, token) = (edge.ws("/ws/s1"), hs256(&short));
        let left = with_token(&url, &token).await;
        let stream = sse::Client::connect(&edge.http(&format!("/sse/s1?token={token}")), None).await;
        let (renewed, wider) = (with_token(&url, &token).await, with_token(&url, &token).await);
        let of_another = with_token(&url, &token).await;
        let (narrower, foreign) = (with_token(&url, &token).await, with_token(&url, &token).await);
        renewed.send_text(r#"{"event":"hello"}"#).await;
        renewed.send_text(frame(&hs256(&claims("ann", &["s1"])))).await;
        wider.send_text(frame(&hs256(&claims("ann", &["*"])))).await;
        of_another.send_text(frame(&hs256(&claims("bob", &["s1"])))).await;
        narrower.send_text(frame(&hs256(&claims("ann", &["s2"])))).await;
        foreign.send_text(frame(&forge::token(&json!({"alg": "HS256"}), &claims("ann", &["s1"]), mac(&[1; 32])))).await;
        for (socket, code, reason) in [
            (&of_another, 4403, "another user's"),
            (&narrower, 4403, "allows less"),
            (&foreign, 4401, "signature"),
            (&left, 4401, "expired"),
        ] {
            let end = socket.wait_end(BOUND).await;
            assert!(end.code() == code && end.reason().contains(reason), "{end:?}");
        }
        assert!(now() >= short["exp"].as_u64().unwrap(), "not before its time");
        stream.wait_end(BOUND).await;
        engine.publish("gm.s1.phase", r#"{"text":"on"}"#).await;
        sees(&renewed, "on").await;
        sees(&wider, "on").await;
        // Replayed after its end it opens nothing, in no place.
        assert_eq!(refused(&url, &token).await.0, 4401);
        edge.get(&format!("/sse/s1?token={token}")).await.expect_status(401);
        renewed.send_text(frame(&token)).await;
        assert_eq!(renewed.wait_end(BOUND).await.code(), 4401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trick_opens_another_session_or_its_past() {
    within(MINUTE, async {
        let (_nats, engine, edge) = edge("query = true").await;
        engine.alias("g1", "s2", 0).await;
        let seq = engine.publish("gm.s2.proposal", r#"{"text":"secret"}"#).await;
        engine.publish("arena.s2.round.start", r#"{"text":"secret"}"#).await;
        let token = hs256(&claims("ann", &["s1", "g1"]));
        let bearer = format!("Bearer {token}");
        // Ours in another spelling is ours; what is no session id is nobody's.
        let ours = with_token(&edge.ws("/ws/%73%31?after=0"), &token).await;
        ours.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        for prefix in ["", "/app"] {
            for id in ["s2", "%732", "%73%32", "S1", "s1-", "s"] {
                for query in ["", "?after=0", &format!("?after={}", seq - 1), "?snapshot=1", "?dialect=gm&after=0"] {
                    let url = edge.ws(&format!("{prefix}/ws/{id}{query}"));
                    assert_eq!(refused(&url, &token).await.0, 4403, "{url}");
                    let reply = edge
                        .get(&format!(
                            "{prefix}/sse/{id}{query}{}token={token}",
                            if query.is_empty() { "?" } else { "&" }
                        ))
                        .await;
                    assert_eq!((reply.status, reply.text().contains("secret")), (403, false), "{url}");
                }
                let headers = [("authorization", bearer.as_str()), ("last-event-id", "0")];
                send(Method::GET, &edge.http(&format!("{prefix}/sse/{id}")), &headers, "").await.expect_status(403);
            }
            for id in [
                "*", "%2A", "%3E", "s1.s2", "s1%2Fs2", "s1%00", "s1,s2", "s1/../s2", "..%2Fs2", "s1%0A", "s1;s2",
                "%C0%AE",
            ] {
                let reply = edge.get(&format!("{prefix}/sse/{id}?token={token}")).await;
                assert_eq!(reply.status, 404, "{id}");
            }
        }
        // An alias may come to stand for any session: a token for some of them opens none.
        assert_eq!(refused(&edge.ws("/gm/ws/g1"), &token).await.0, 4403);
        let all = with_token(&edge.ws("/gm/ws/g1"), &hs256(&claims("gm", &["*"]))).await;
        engine.publish("arena.s2.round.start", r#"{"text":"seen"}"#).await;
        all.wait_for("the alias", BOUND, |frame| frame.text.contains("seen")).await;
        assert!(ours.events().is_empty(), "{ours:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_list_of_sessions_or_connections_at_the_door() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        engine.publish("gm.hidden-session.phase", "{}").await;
        let _watching = ws::Client::connect(&edge.ws("/ws/hidden-session"), ws::V1).await;
        for path in [
            "/",
            "/ws",
            "/ws/",
            "/sse",
            "/sse/",
            "/sessions",
            "/connections",
            "/stats",
            "/metrics",
            "/livez",
            "/readyz",
            "/debug",
            "/status",
            "/admin",
            "/varz",
            "/connz",
            "/.well-known/jwks.json",
            "/health",
        ] {
            let reply = edge.get(path).await;
            assert!(path == "/health" || reply.status == 404, "{path}: {}", reply.status);
            assert!(!reply.text().contains("hidden-session"), "{path}");
        }
    })
    .await;
}

/// Says who it thinks it is asked by, and what else it got.
async fn whoami(request: Request) -> Json<Value> {
    let caller = request.extensions().get::<Caller>();
    let caller = caller.map(|caller| json!([caller.user(), caller.role(), caller.sessions().to_string()]));
    let headers: Vec<_> =
        request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    Json(json!({ "caller": caller, "headers": headers, "uri": request.uri().to_string() }))
}

fn gm() -> Router {
    Router::new().route("/health", get(|| async { Json(json!({"status": "ok"})) })).fallback(any(whoami))
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_are_told_who_asks_and_nobody_else_can_tell_them() {
    within(MINUTE, async {
        let (nats, engine, edge) = edge("query = true").await;
        let _gm = engine.serve(gm()).await;
        let token = hs256(&with(claims("Zoë", &["s2", "s1"]), "role", "player"));
        let smuggled = [
            ("herald-user", "root"),
            ("Herald-Role", "operator"),
            ("HERALD-SESSIONS", "*"),
            ("herald-h-herald-user", "root"),
            ("herald-door", "gm"),
            ("herald-path", "/other"),
            ("herald-deadline", "1"),
            ("connection", "herald-user"),
            ("user-agent", "x"),
        ];
        let bearer = format!("Bearer {token}");
        let headers = [&smuggled[..], &[("authorization", bearer.as_str())]].concat();
        let reply = send(Method::GET, &edge.http("/api/state?x=1"), &headers, "").await.expect_status(200).json();
        assert_eq!(reply["caller"], json!(["Zoë", "player", "s1,s2"]));
        let text = reply.to_string();
        assert!(!text.contains("root") && !text.contains("operator") && !text.contains("herald-"), "{text}");
        assert!(!text.contains(&token) && !text.contains("authorization"), "the token stays at the door: {text}");
        let asked = edge.get(&format!("/api/state?a=1&token={token}&b=%2F")).await.expect_status(200).json();
        assert_eq!(asked["uri"], "/api/state?a=1&b=%2F");
        assert_eq!(asked["caller"][0], "Zoë");
        // Whoever asks whether we are well has no token.
        edge.get("/health").await.expect_status(200);
        send(Method::GET, &edge.http("/health"), &[("authorization", "Bearer x")], "").await.expect_status(200);
        send(Method::OPTIONS, &edge.http("/api/state"), &[], "").await.expect_status(200);

        let open = Edge::new(&nats).start().await;
        let reply = send(Method::GET, &open.http("/api/state"), &headers, "").await.expect_status(200).json();
        assert_eq!(reply["caller"], Value::Null, "where nobody is asked, nobody is known");
        assert!(!reply.to_string().contains("root"));
        assert!(reply.to_string().contains("authorization"), "where the door asks for none it may be the engine's");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_secrets_are_in_no_log_and_an_open_public_door_is_warned_of() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(gm()).await;
        let jwt = format!("secret = \"{SECRET}\"\nquery = true\nwait = \"1s\"");
        let edge = door(&nats, &jwt).env("HERALD_LOG__FILTER", "trace").env("HERALD_HOST", "0.0.0.0").start().await;
        let port = edge.address().port();
        let (good, bad) = (
            hs256(&claims("ann", &["s1"])),
            forge::token(&json!({"alg": "HS256"}), &claims("eve", &["s1"]), mac(&[1; 32])),
        );
        for token in [&good, &bad] {
            let url = format!("ws://127.0.0.1:{port}/ws/s1");
            drop(with_token(&url, token).await);
            drop(ws::Client::connect(&url, &["herald.v1", &format!("herald.token.{token}")]).await);
            drop(ws::Client::connect(&format!("{url}?token={token}"), ws::PLAIN).await);
            let late = ws::Client::connect(&url, ws::PLAIN).await;
            late.send_text(frame(token)).await;
            http::get(&format!("http://127.0.0.1:{port}/api/state?token={token}")).await;
            drop(late);
        }
        eventually("all have gone", BOUND, async || {
            let count = edge.metric("herald_watching_connections_count", &[]).await;
            if count == 0.0 { Ok(()) } else { Err(count) }
        })
        .await;
        let log = edge.log();
        assert!(log.contains("TRACE") || log.contains("DEBUG"));
        for token in [&good, &bad] {
            for part in token.split('.').skip(1) {
                assert!(!log.contains(part), "a token is in the log");
            }
        }
        assert!(!log.contains(SECRET));
        assert!(!log.contains("auth is off"), "it is not");
        let open = Edge::new(&nats).env("HERALD_HOST", "0.0.0.0").start().await;
        assert_eq!(open.log().matches("auth is off").count(), 1);
        assert!(!Edge::new(&nats).start().await.log().contains("auth is off"), "nobody else can reach it");
    })
    .await;
}
