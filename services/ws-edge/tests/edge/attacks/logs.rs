//! What ends lines, moves cursors or looks like a record of ours, on its way into the log.

use futures_util::StreamExt as _;
use herald_testkit::{Edge, Nats, Service, eventually, logs::check_lines, within, ws};
use serde_json::json;

use super::{BOUND, MINUTE, exchange, get_raw, knock, settle};
use crate::{
    floods::{frame, socket},
    forge::{SECRET, claims, hs256, mac, token, with},
    support::Engine,
};

/// A record of ours, if it stands at the beginning of a line.
const FORGED: &str = "2026-01-01T00:00:00.000000Z ERROR forged: it was the operator";
/// Clears a screen, colours, turns the writing around, ends lines in ways of its own.
const ODD: &str = "\u{9b}2J\u{9b}31m\u{85}\u{202e}\u{2028}\u{2066}";

/// An edge with two doors, one of which asks for tokens, that logs all there is to log.
async fn talkative(nats: &Nats, format: &str) -> Service {
    let config = format!(
        "[ws-edge.jwt]\nsecret = \"{SECRET}\"\nquery = true\nwait = \"200ms\"\n[[ws-edge.listeners]]\nbuiltin = \"arena\"\n\
         address = \"127.0.0.1:0\"\n[[ws-edge.listeners]]\nname = \"known\"\nbuiltin = \"arena\"\naddress = \"127.0.0.1:0\"\nauth = \"jwt\"\n"
    );
    let edge = Edge::new(nats).config(config).env("HERALD_LOG__FILTER", "trace").env("HERALD_LOG__FORMAT", format);
    edge.start().await
}

async fn attack(edge: &Service, engine: &Engine, answers: &async_nats::Client) {
    let (line, encoded) = (format!("\r\n{FORGED}"), format!("%0d%0a{}", FORGED.replace(' ', "%20")));
    for path in [
        format!("/ws/{encoded}"),
        format!("/sse/%1b[2J{encoded}"),
        format!("/api/{encoded}?x={encoded}"),
        format!("/{encoded}"),
    ] {
        get_raw(edge, &path, &format!("user-agent: {ODD}{FORGED}\r\norigin: {ODD}\r\nherald-x: {ODD}\r\n")).await;
    }
    for broken in [
        format!("GET / HTTP/1.1{line}\r\n\r\n"),
        format!("\u{1b}[31m{line}\r\n\r\n"),
        format!("GET /{ODD} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    ] {
        exchange(edge, broken).await;
    }
    // Up a socket: a message, a reason for its end, a ping.
    for frame in [
        frame(0x81, format!("{{\"event\":\"{line}{ODD}\"}}").as_bytes()),
        frame(0x81, json!({"event": "herald.token", "data": {"token": line}}).to_string().as_bytes()),
        frame(0x89, ODD.as_bytes()),
        frame(0x88, &[&4000_u16.to_be_bytes()[..], line.as_bytes(), b"\x1b[31m"].concat()),
    ] {
        let mut raw = socket(edge).await;
        raw.write([&frame[..], &crate::floods::frame(0x88, b"")].concat()).await;
        raw.read_to_end(BOUND).await;
    }
    // By what a token says, good or not.
    let user = with(claims(&format!("eve {FORGED}\u{202e}"), &["s1"]), "role", "\u{2028}x");
    let odd = with(claims("eve", &["s1"]), "sub", format!("eve{line}"));
    for token in [
        hs256(&user),
        hs256(&odd),
        token(&json!({"alg": format!("HS256{line}"), "kid": line}), &odd, mac(SECRET.as_bytes())),
        token(&json!({"alg": "RS256", "kid": format!("{line}{ODD}")}), &odd, mac(b"")),
    ] {
        let known = edge.listener(1);
        let bearer = format!("Bearer {token}");
        let options = ws::Options { headers: &[("authorization", &bearer)], ..ws::Options::default() };
        let _socket = ws::Client::open(&format!("ws://{known}/ws/s1"), options).await;
        herald_testkit::http::send(
            hyper::Method::GET,
            &format!("http://{known}/api/state"),
            &[("authorization", &bearer)],
            "",
        )
        .await;
    }
    let (_raw, _head, _) = knock(edge, "/ws/s1", &format!("sec-websocket-protocol: {ODD}\r\n")).await;
    // By an engine: in a subject, in an event, and in what it answers.
    engine.publish("arena._\u{1b}[31m\u{9b}2J\u{202e}.x", "x").await;
    engine.publish("arena.s1.\u{1b}[31m\u{9b}2J\u{202e}", format!("{line}{ODD}")).await;
    let mut requests = answers.subscribe("http.gm").await.unwrap();
    settle(answers).await;
    let abort = format!("\u{1b}[31m{ODD}{FORGED}");
    let answering = async {
        while let Some(request) = requests.next().await {
            let reply = request.reply.unwrap();
            let part = |lines: &[(&str, &str)]| {
                lines.iter().fold(async_nats::HeaderMap::new(), |mut map, (name, value)| {
                    map.insert(*name, *value);
                    map
                })
            };
            let head = part(&[("Herald-Status", "200"), ("Herald-Part", "0"), ("Herald-H-x", &abort)]);
            answers.publish_with_headers(reply.clone(), head, "x".into()).await.unwrap();
            answers.publish_with_headers(reply, part(&[("Herald-Abort", &abort)]), "".into()).await.unwrap();
        }
    };
    tokio::select! {
        () = answering => {}
        _broken = get_raw(edge, "/api/state", "") => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_the_log_is_one_line_that_says_only_what_we_say() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let client = nats.client().await;
        for format in ["pretty", "json"] {
            let edge = talkative(&nats, format).await;
            attack(&edge, &engine, &client).await;
            // What came last has been logged, and so has all before it.
            let log = eventually("it speaks of all that", BOUND, async || {
                let log = edge.log();
                let said = ["valid session id was skipped", "a response broke off", "not let in", "forwarding"];
                match said.iter().find(|said| !log.contains(**said)) {
                    None => Ok(log),
                    Some(said) => Err(*said),
                }
            })
            .await;
            check_lines(&log, format == "json");
            assert!(log.contains("forged"), "it is there, as text");
            assert!(!log.contains("panic"), "{log}");
        }
    })
    .await;
}
