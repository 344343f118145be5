//! Many who take their time: with their handshake, with the body of a request, with reading an answer.

use std::time::{Duration, Instant};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use herald_protocol::Name;
use herald_runtime::{
    http_over_nats::{Limits, serve},
    jetstream::stream_info,
};
use herald_testkit::{Edge, Nats, Service, eventually, http::Raw, process::raise_descriptors, within, ws};
use tokio::io::AsyncWriteExt as _;

use super::{BOUND, Notes, get_raw, memory, status};
use crate::{
    limits::{ONE, ask, upgrade},
    support::Engine,
};

const MINUTES: Duration = Duration::from_secs(120);
/// As many as there may be descriptors for, here and in the edge.
const HANDSHAKES: usize = 10_000;
/// Of memory, for each connection that says little: hyper's buffer for its head, and what else a task needs.
const EACH: u64 = 48 << 10;

/// Connections that begin a request with `head` and never end it.
async fn begin(edge: &Service, count: usize, head: &str) -> Vec<Raw> {
    let address = edge.address();
    let open = |_| async move {
        let mut raw = Raw::connect(address).await;
        raw.write(head).await;
        raw
    };
    stream::iter(0..count).map(open).buffer_unordered(64).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_half_open_handshakes_cost_a_known_piece_of_memory_and_keep_nobody_out() {
    within(MINUTES, async {
        raise_descriptors(3 * HANDSHAKES as u64);
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // As it is delivered: of those that are opening, the oldest give way.
        let mut edge = Edge::new(&nats).start().await;
        let pid = edge.process().id();
        let calm = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let before = memory(pid);
        let held = begin(&edge, HANDSHAKES, "GET /ws/S HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
        eventually("the first of them had their time", BOUND, async || {
            let (_raw, head) = ask(&edge, ONE, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
            if crate::limits::status(&head) == 200 { Ok(()) } else { Err(head) }
        })
        .await;
        for number in 0..20 {
            let begun = Instant::now();
            let (_raw, head) = ask(&edge, ONE, &upgrade("/ws/S")).await;
            assert_eq!(crate::limits::status(&head), 101, "{head}");
            engine.publish("gm.S.phase", number.to_string()).await;
            calm.wait_events(number + 1, BOUND).await;
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        }
        assert_eq!(edge.readyz().await.0, 200);
        if let (Some(before), Some(after)) = (before, memory(pid)) {
            let each = after.saturating_sub(before) / HANDSHAKES as u64;
            assert!(each < EACH, "{before} -> {after} bytes, {each} each");
        }
        drop(held);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_as_large_as_can_be_and_never_end_are_bounded_too() {
    within(MINUTES, async {
        const COUNT: usize = 500;
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut edge = Edge::new(&nats).start().await;
        let pid = edge.process().id();
        let before = memory(pid);
        let head = format!("GET /ws/S HTTP/1.1\r\nhost: x\r\nx-slow: {}", "x".repeat(31 << 10));
        let held = begin(&edge, COUNT, &head).await;
        edge.get("/health").await;
        if let (Some(before), Some(after)) = (before, memory(pid)) {
            let each = after.saturating_sub(before) / COUNT as u64;
            assert!(each < 96 << 10, "{each} bytes each");
        }
        drop(held);
    })
    .await;
}

/// A request whose body is being waited for: the edge has said so.
async fn slow(edge: &Service, length: usize, sent: usize) -> Raw {
    let mut raw = Raw::connect(edge.address()).await;
    let head =
        format!("POST /init_session HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
    raw.write(head).await;
    let said = raw.read_until(b"\r\n\r\n", BOUND).await;
    assert!(said.starts_with(b"HTTP/1.1 100 "), "{}", said.escape_ascii());
    raw.write(vec![b'x'; sent]).await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_a_body_slowly_takes_no_place_from_others() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let notes = Notes::default();
        let _gm = engine.serve(notes.router()).await;
        let edge = Edge::new(&nats)
            .set("http.max_forwards", 4)
            .set("http.max_body", "64KiB")
            .set("http.body_timeout", "8s")
            .start()
            .await;
        let mut held = Vec::new();
        for _ in 0..60 {
            held.push(slow(&edge, 60_000, 10).await);
        }
        let post = "POST /init_session HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        for _ in 0..10 {
            assert_eq!(status(&super::exchange(&edge, post).await), 200);
            assert_eq!(status(&get_raw(&edge, "/api/state", "").await), 200);
        }
        assert_eq!(notes.all().len(), 20, "nothing of the slow ones has gone on");
        // What has come of bodies is in memory: as much as that of all requests that may be on their way, and no more.
        for _ in 0..10 {
            held.push(slow(&edge, 60_000, 59_000).await);
        }
        let told = eventually("those that there is no room for are told", BOUND, async || {
            let told = edge.metric("herald_forward_failures_total", &["too_many"]).await;
            if told >= 5.0 { Ok(told) } else { Err(told) }
        });
        let told = told.await;
        assert!(told <= 7.0, "four of 64 KiB there is room for: {told}");
        assert_eq!(status(&get_raw(&edge, "/api/state", "").await), 200, "what has no body needs none of it");
        // Each is told when its time is over, and all the room is there again.
        for raw in &mut held {
            let answer = raw.read_to_end(BOUND).await;
            assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 ") || answer.starts_with(b"HTTP/1.1 503 "),
                "{}",
                answer.escape_ascii()
            );
        }
        let large = "x".repeat(60_000);
        let whole = format!(
            "POST /init_session HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 60000\r\n\r\n{large}"
        );
        for _ in 0..8 {
            assert_eq!(status(&super::exchange(&edge, &whole).await), 200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_an_answer_slowly_keeps_nobody_from_asking() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let picture = || async { Body::from(Bytes::from(vec![7_u8; 8 << 20])) };
        let router =
            Router::new().route("/api/images/s/large.png", get(picture)).route("/api/state", get(|| async { "state" }));
        // A service has room for so many, those that wait for their answers to be taken included.
        let limits = Limits { concurrent: 16, waiting: 16, ..Limits::default() };
        let name = Name::new("gm").unwrap();
        let _gm = serve(&engine.nats, &name, &engine.context.instance, router, limits).await.unwrap();
        stream_info(&engine.nats, "EVENTS").await.unwrap();
        let edge = Edge::new(&nats).set("http.max_forwards", 4).start().await;
        let request = "GET /api/images/s/large.png HTTP/1.1\r\nhost: x\r\n\r\n";
        let (mut held, mut refused) = (Vec::new(), 0);
        for _ in 0..40 {
            let (raw, head) = ask(&edge, ONE, request).await;
            match crate::limits::status(&head) {
                200 => held.push(raw),
                503 => refused += 1,
                other => panic!("{other}: {head}"),
            }
        }
        assert_eq!((held.len(), refused), (16, 24));
        for _ in 0..10 {
            edge.get("/api/state").await.expect_status(200);
        }
        // Their places are free as soon as they are gone.
        drop(held);
        eventually("a picture is to be had again", BOUND, async || {
            let reply = edge.get("/api/images/s/large.png").await;
            if reply.status == 200 && reply.body.len() == 8 << 20 { Ok(()) } else { Err(reply.status) }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_sending_to_a_closed_socket_is_read_slowly() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let secret = format!("secret = \"{}\"", crate::forge::SECRET);
        let edge = crate::auth::door(&nats, &secret).start().await;
        let mut raw = Raw::connect(edge.address()).await;
        let offered = "sec-websocket-protocol: herald.v1, herald.token.x.y.z\r\n\r\n";
        raw.write(upgrade("/ws/S").replacen("\r\n\r\n", &format!("\r\n{offered}"), 1)).await;
        let head = raw.read_until(b"\r\n\r\n", BOUND).await;
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
        let mut tcp = raw.into_inner();
        let (flood, mut sent) = (vec![0; 64 << 10], 0);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            match tokio::time::timeout(Duration::from_millis(100), tcp.write(&flood)).await {
                Ok(Ok(written)) => sent += written,
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
        // What the kernel takes, and little more.
        assert!(sent < 24 << 20, "{sent} bytes");
    })
    .await;
}
