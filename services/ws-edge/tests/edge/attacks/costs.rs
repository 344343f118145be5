//! Requests that are cheap to send and dear to read. Measured is what the edge computes, which no other work on the machine changes.

use std::time::Duration;

use herald_testkit::{Edge, Nats, within};

use super::{MINUTE, Notes, computed, exchange, status};
use crate::support::Engine;

/// So often each of them is sent.
const TIMES: u32 = 10;
/// What one may cost, with all of Herald's code as slow as in tests: some hundred times what an ordinary one costs, a thousandth of
/// what a quadratic one would.
const MOST: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn no_request_costs_much_more_than_its_bytes() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let notes = Notes::default();
        let _gm = engine.serve(notes.router()).await;
        // As dear as it can be: bodies are looked through for their session, and a proxy's words are believed.
        let config = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\ntrusted_proxies = \"127.0.0.0/8\"\norigins = [\"https://*.play.example\"]\n";
        let mut edge = Edge::new(&nats).set("limits.commands_per_session", 1_000_000).config(config).start().await;
        let pid = edge.process().id();
        let get = |target: &str, lines: &str| {
            format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n").into_bytes()
        };
        let post = |body: String| {
            let head = format!("POST /init_session HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            [head.into_bytes(), body.into_bytes()].concat()
        };
        let many = |one: &str, bytes: usize| one.repeat(bytes / one.len());
        let size = 1_000_000;
        let requests = [
            ("parameters", get(&format!("/sse/s1?{}after=x", many("a&", 28_000)), ""), 400),
            ("parameters that are ours", get(&format!("/sse/s1?{}", many("after=1&", 28_000)), ""), 400),
            ("parameters to decode", get(&format!("/sse/s1?{}after=x", many("%61%66=%25&", 28_000)), ""), 400),
            ("parameters of a command", get(&format!("/api/propose?{}", many("session%5fid&", 28_000)), ""), 200),
            ("segments", get(&format!("/{}", many("a/", 28_000)), ""), 404),
            ("percent signs", get(&format!("/sse/{}", many("%25", 28_000)), ""), 404),
            ("headers", get("/api/state", &many("x: y\r\n", 500)), 200),
            ("headers of names alike", get("/api/state", &(0..90).map(|at| format!("x-{at}: y\r\n")).collect::<String>()), 200),
            ("proxies", get("/api/state", &format!("x-forwarded-for: {}\r\n", many("127.0.0.1,", 28_000))), 200),
            ("proxies that are none", get("/api/state", &format!("x-forwarded-for: {}\r\n", many(",", 28_000))), 200),
            ("things to connect", get("/ws/s1", &format!("connection: {}\r\n", many("a,", 28_000))), 426),
            ("an origin", get("/api/start", &format!("origin: https://{}play.example.evil\r\n", many("a.", 28_000))), 403),
            ("a cursor", get(&format!("/sse/s1?after={}", many("9", 28_000)), ""), 400),
            ("purposes", get("/api/start", &format!("sec-purpose: {}\r\n", many("a;", 28_000))), 200),
            ("what a body opens", post(many("[", size)), 200),
            ("what it opens with names", post(many("{\"a\":", size)), 200),
            ("fields", post(format!("{{{}\"session_id\":\"s1\"}}", many("\"a\":1,", size))), 200),
            (
                "fields of their own",
                post(format!("{{{}\"session_id\":\"s1\"}}", (0..60_000).map(|at| format!("\"{at}\":1,")).collect::<String>())),
                200,
            ),
            ("the session, again and again", post(format!("{{{}\"x\":1}}", many("\"session_id\":\"s1\",", size))), 200),
            ("escapes", post(format!("{{\"session_id\":\"{}\"}}", many("\\u0061", size))), 200),
            ("escapes in names", post(format!("{{\"{}\":1}}", many("\\u0061", size))), 200),
            ("digits", post(format!("{{\"session_id\":{}}}", many("9", size))), 200),
            ("fractions", post(format!("{{\"x\":0.{}e-999999}}", many("9", size))), 200),
            ("blanks", post(format!("{}{{}}", many(" \n", size))), 200),
            ("nothing but quotes", post(many("\"", size)), 200),
        ];
        for (what, request, expected) in requests {
            let before = computed(pid);
            for _ in 0..TIMES {
                let answer = exchange(&edge, &request).await;
                assert_eq!(status(&answer), expected, "{what}: {answer:.300}");
            }
            if let (Some(before), Some(after)) = (before, computed(pid)) {
                let each = (after - before) / TIMES;
                assert!(each < MOST, "{what}: {each:?} each");
            }
        }
        // Too many headers are too many; so is a line that is too long.
        for (request, expected) in [
            (get("/api/state", &many("x: y\r\n", 1200)), 431),
            (get(&format!("/api/state?{}", many("a", 32 << 10)), ""), 431),
            (get(&format!("/api/state?{}", many("a", 40_000)), ""), 431),
            (get(&format!("/api/state?{}", many("a", 70_000)), ""), 431),
        ] {
            let answer = exchange(&edge, request).await;
            assert!([expected, 414, 400].contains(&status(&answer)), "{answer:.300}");
        }
        assert_eq!(edge.readyz().await.0, 200);
    })
    .await;
}
