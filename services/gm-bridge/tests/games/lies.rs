//! A Game Master that lies: in what it says, in how long it says it is, in where it says to go. All in processes of their own.

use std::{collections::BTreeSet, time::Duration};

use futures_util::StreamExt;
use herald_testkit::{
    Bridge, Edge, Nats, Service,
    game_master::{Answer, Gate, PROPOSE, START, STATE, Scripted, sse},
    http,
    logs::check_lines,
    traces::GM_SESSION,
    within, ws,
};
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};

use crate::house::SOON;

const MINUTE: Duration = Duration::from_secs(60);
/// A record of ours, if it stands at the beginning of a line.
const FORGED: &str = "\r\n2026-01-01T00:00:00.000000Z ERROR forged: \u{1b}[31m\u{9b}2J\u{85}\u{2028}\u{202e}";

struct Stage {
    nats: Nats,
    gm: Scripted,
    bridge: Service,
    edge: Service,
}

async fn stage(change: impl FnOnce(Bridge) -> Bridge) -> Stage {
    let nats = Nats::start().await;
    let gm = Scripted::start().await;
    let bridge = change(Bridge::new(&nats).gm(&gm.url())).start().await;
    let edge = Edge::new(&nats).start().await;
    Stage { nats, gm, bridge, edge }
}

impl Stage {
    async fn get(&self, path: &str) -> http::Reply {
        self.edge.get(path).await
    }

    /// Plays one propose of session `s` to its end, and returns all that a socket was shown.
    async fn propose(&self, dialect: &str) -> ws::Client {
        let url = self.edge.ws(&format!("/ws/s?after=0&dialect={dialect}"));
        let socket = ws::Client::connect(&url, ws::V1).await;
        self.get("/api/start?session_id=s").await.expect_status(200);
        self.get("/api/propose?session_id=s").await.expect_status(202);
        socket.wait_for("the end", SOON, |frame| ["gm.result", "gm.error"].contains(&frame.event())).await;
        socket
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_it_says_becomes_a_word_of_heralds() {
    within(MINUTE, async {
        let stage = stage(|bridge| bridge).await;
        let long = "x".repeat(65);
        let types = [
            "herald.bye",
            "herald.hello",
            "herald.gap",
            "herald.live",
            "herald.token",
            "herald",
            "_action",
            "_done",
            "_",
            "$SYS",
            "$JS.API",
            "gm.s2.proposal",
            "gm.s._action",
            "a.b",
            ".",
            "..",
            ">",
            "*",
            "a.>",
            " ",
            "",
            "a b",
            "phase\r\nPUB gm.s2.x 0\r\n",
            "phase\n",
            "\u{0}",
            "\u{1b}[31m",
            "\u{e9}",
            "\u{a0}",
            "\u{3000}",
            "-x",
            &long,
        ];
        let mut body =
            sse(types.map(|kind| json!({"type": kind, "data": {"after": "0-0", "retry_ms": 1, "epoch": "0"}})))
                .to_vec();
        body.extend_from_slice(b"data: {\"type\":\"phase\",\"type\":\"_action\",\"n\":99}\n\n");
        body.extend_from_slice(b"data: {\"type\":\"_action\",\"type\":\"phase\",\"n\":99}\n\n");
        body.extend_from_slice(b"event: herald.bye\nid: 9\nretry: 1\ndata: {\"type\":{\"x\":1}}\n\n");
        body.extend_from_slice(b"data: {\"event\":\"herald.bye\",\"data\":{},\"seq\":1,\"prev\":99}\n\n");
        body.extend_from_slice(&sse([json!({"type": "result", "data": {}})]));
        stage.gm.on(PROPOSE, [Answer::sse().send(body)]);
        let other = ws::Client::connect(&stage.edge.ws("/ws/s2?after=0"), ws::V1).await;
        let socket = stage.propose("event").await;
        let app = ws::Client::connect(&stage.edge.ws("/app/ws/s?after=0"), ws::V1).await;
        let count = socket.events().len();
        app.wait_events(count, SOON).await;
        for client in [&socket, &app] {
            client.check_order();
            for frame in client.frames() {
                let (event, seq) = (frame.event(), frame.seq());
                let ours = seq.is_none() && ["herald.hello", "herald.live"].contains(&event);
                let theirs = seq.is_some() && ["gm.unknown", "gm.herald", "gm.phase", "gm.result"].contains(&event);
                assert!(ours || theirs, "{}", frame.text);
            }
        }
        assert_eq!(count, types.len() + 5, "each of them is shown, as what it is");
        let stream = stage.nats.jetstream().await.get_stream("EVENTS").await.unwrap();
        let mut stored = stream.info_with_subjects(">").await.unwrap();
        let mut subjects = BTreeSet::new();
        while let Some(Ok((subject, _))) = stored.next().await {
            subjects.insert(subject);
        }
        let expected =
            ["arena.init", "gm.s._action", "gm.s._done", "gm.s.herald", "gm.s.phase", "gm.s.result", "gm.s.unknown"]
                .map(str::to_owned);
        assert!(subjects.is_subset(&BTreeSet::from(expected)), "{subjects:?}");
        assert!(other.events().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_depth_nor_size_of_what_it_says_harms_anybody() {
    within(MINUTE, async {
        let mut stage = stage(|bridge| bridge).await;
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let objects = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
        let digits = "9".repeat(400_000);
        let wide = (0..40_000).map(|at| format!("\"{at}\":{at},")).collect::<String>();
        let events = [
            format!("{{\"type\":\"proposal\",\"data\":{{\"gm_secret\":{deep},\"shown\":{deep}}}}}"),
            format!("{{\"type\":\"strategy\",\"data\":{objects}}}"),
            format!("{{\"data\":{deep},\"type\":\"strategy\"}}"),
            format!("{{\"type\":\"strategy\",\"data\":{{\"n\":{digits}e{digits}}}}}"),
            format!("{{\"type\":\"strategy\",\"data\":{{{wide}\"last\":1}}}}"),
            format!("{{\"type\":\"strategy\",\"data\":\"{}\"}}", "\\u0000".repeat(100_000)),
            "{\"type\":\"strategy\",\"data\":\"\\ud800\"}".to_owned(),
        ];
        let mut body = events.map(|event| format!("data: {event}\n\n")).concat().into_bytes();
        body.extend_from_slice(b"data: {\"type\":\"strategy\",\"data\":\"\xff\xc0\xaf\xed\xa0\x80\"}\n\n");
        body.extend_from_slice(&sse([json!({"type": "result", "data": {}})]));
        stage.gm.on(START, [Answer::json(format!("{{\"x\":{deep},\"session_id\":\"{GM_SESSION}\",\"y\":{objects}}}"))]);
        stage.gm.on(PROPOSE, [Answer::sse().split(body, 7001)]);
        for dialect in ["event", "app"] {
            let socket = stage.propose(dialect).await;
            let frames = socket.frames();
            let shown = |text: &str| frames.iter().filter(|frame| frame.text.contains(text)).count();
            assert!(shown("\"gm.strategy\"") >= 7 && shown("[[[[[[[[[[") >= 2 && shown("9999999999") >= 1, "{dialect}");
            assert_eq!(shown("gm_secret"), 0, "{dialect}");
        }
        // One that is larger than it may be is one error, not many megabytes.
        stage.gm.on(
            PROPOSE,
            [Answer::sse().send(format!("data: {{\"type\":\"x\",\"data\":\"{}\"}}\n\n", "x".repeat(2 << 20)))],
        );
        let socket = ws::Client::connect(&stage.edge.ws("/ws/s"), ws::V1).await;
        stage.get("/api/propose?session_id=s").await.expect_status(202);
        socket.wait_for("the error", SOON, |frame| frame.data()["detail"] == "an event is larger than 1MiB").await;
        assert!(stage.bridge.process().running() && stage.edge.process().running());
        assert_eq!((stage.bridge.readyz().await.0, stage.edge.readyz().await.0), (200, 200));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_leads_nobody_to_another_place() {
    within(MINUTE, async {
        let stage = stage(|bridge| bridge).await;
        let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let elsewhere = format!("http://{}/latest/meta-data/", trap.local_addr().unwrap());
        let image = format!("/api/images/{GM_SESSION}/real.png");
        stage.get("/api/start?session_id=s").await.expect_status(200);
        for status in [301, 302, 303, 307, 308] {
            let to = || {
                let answer = Answer::status(status)
                    .header("location", &elsewhere)
                    .header("refresh", &format!("0; url={elsewhere}"));
                [answer.header("alt-svc", &format!("h2=\"{}\"", trap.local_addr().unwrap())).send("{}")]
            };
            for path in [START, STATE, PROPOSE, &image] {
                stage.gm.on(path, to());
            }
            assert_eq!(stage.get("/api/state?session_id=s").await.expect_status(502).error(), "GM unreachable");
            let picture = stage.get(&image).await.expect_status(502);
            assert_eq!((picture.error().as_str(), picture.header("location")), ("Image fetch failed", ""));
            let socket = ws::Client::connect(&stage.edge.ws("/ws/s"), ws::V1).await;
            stage.get("/api/propose?session_id=s").await.expect_status(202);
            let error = socket.wait_for("the error", SOON, |frame| frame.event() == "gm.error").await;
            assert_eq!(error.data()["detail"], format!("the game master answered {status}"));
            assert_eq!(stage.get("/api/start?session_id=t").await.status / 100, 5);
        }
        assert!(timeout(Duration::ZERO, trap.accept()).await.is_err(), "somebody went there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_what_they_say_are_refused_in_time() {
    within(MINUTE, async {
        let stage = stage(|bridge| {
            bridge.set("gm.request_timeout", "1s").set("gm.max_answer", "64KiB").set("gm.max_image", "256KiB")
        })
        .await;
        stage.get("/api/start?session_id=s").await.expect_status(200);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        let raw = |rest: &str| Answer::raw(format!("{head}{rest}"));
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0";
        let closed = Gate::new();
        let bad = [
            ("more than comes", raw("content-length: 1000\r\n\r\n{}")),
            ("more than there is", raw("content-length: 99999999999999\r\n\r\n{}")),
            ("two lengths", raw("content-length: 2\r\ncontent-length: 3\r\n\r\n{}")),
            ("no length", raw("content-length: -1\r\n\r\n{}")),
            ("no chunk", raw("transfer-encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n")),
            ("a chunk beyond all", raw("transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{}")),
            ("no end", raw("transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n")),
            ("no line", Answer::raw("HTTP/1.1 2000 OK\r\n\r\n{}")),
            ("a head without end", Answer::raw("HTTP/1.1 200 OK\r\n").endless("x-more: 1\r\n")),
            ("compressed", Answer::json(&gzip[..]).header("content-encoding", "gzip")),
            ("too large", Answer::json(format!("{{\"x\":\"{}\"}}", "x".repeat(100_000)))),
            ("endless", Answer::json("{").endless(" ".repeat(1000))),
            (
                "a drop now and then",
                Answer::json("{").pause(Duration::from_millis(400)).split(" ".repeat(20), 1).until(&closed),
            ),
            ("silence", Answer::json("").until(&closed)),
        ];
        let count = bad.len();
        for (what, answer) in bad {
            stage.gm.on(STATE, [answer]);
            let begun = std::time::Instant::now();
            let reply = stage.get("/api/state?session_id=s").await;
            assert_eq!((reply.status, reply.error().as_str()), (502, "GM unreachable"), "{what}: {}", reply.text());
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}", begun.elapsed());
        }
        assert!(count > 10);
        // What stands behind an answer is no part of it.
        stage.gm.on(STATE, [raw("content-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled")]);
        assert_eq!(stage.get("/api/state?session_id=s").await.expect_status(200).text(), "{}");
        // Pictures are shown as what it says they are, and nothing in them runs.
        let image = format!("/api/images/{GM_SESSION}/real.png");
        for kind in ["image/png", "image/svg+xml", "text/html; charset=utf-8", "application/javascript", "x", ""] {
            let page = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
            let answer =
                Answer::status(200).header("content-type", kind).header("set-cookie", "a=1").header("x-other", "1");
            stage.gm.on(&image, [answer.header("content-security-policy", "default-src *").send(page)]);
            let picture = stage.get(&image).await.expect_status(200);
            assert_eq!(picture.text(), page, "{kind}");
            assert_eq!(picture.header("x-content-type-options"), "nosniff", "{kind}");
            let policy: Vec<_> = picture.headers.get_all("content-security-policy").iter().collect();
            assert!(policy.len() == 1 && policy[0].to_str().unwrap().ends_with("sandbox"), "{kind}: {policy:?}");
            assert_eq!((picture.header("set-cookie"), picture.header("x-other")), ("", ""), "{kind}");
        }
        for (what, answer) in [
            ("endless", Answer::status(200).header("content-type", "image/png").endless("x".repeat(1000))),
            ("too large", Answer::status(200).header("content-type", "image/png").send("x".repeat(300_000))),
            ("never", Answer::status(200).header("content-type", "image/png").send("x").until(&closed)),
        ] {
            stage.gm.on(&image, [answer]);
            assert_eq!(stage.get(&image).await.expect_status(502).error(), "Image fetch failed", "{what}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_end_are_ended_by_a_cancel_and_nonsense_fills_no_log() {
    within(MINUTE, async {
        let stage = stage(|bridge| bridge).await;
        stage.gm.on(
            PROPOSE,
            [
                Answer::sse().endless("data: {\"type\":\"llm_text\",\"text\":\"on and on\"}\n\n"),
                Answer::sse()
                    .send("data: nonsense\n\n".repeat(5000))
                    .send(sse([json!({"type": "result", "data": {}})])),
            ],
        );
        let socket = ws::Client::connect(&stage.edge.ws("/ws/s"), ws::V1).await;
        stage.get("/api/start?session_id=s").await.expect_status(200);
        stage.get("/api/propose?session_id=s").await.expect_status(202);
        socket.wait_events(200, SOON).await;
        http::post(&stage.edge.http("/api/cancel?session_id=s")).await.expect_status(200);
        stage.gm.wait_hung_up(PROPOSE, 0, SOON).await;
        socket.wait_for("its end", SOON, |frame| frame.event() == "gm.error").await;
        stage.get("/api/propose?session_id=s").await.expect_status(202);
        socket.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        let skipped = stage.bridge.metric("herald_skipped_events_total", &["not_json"]).await;
        assert_eq!(skipped, 5000.0);
        assert_eq!(stage.bridge.log().matches("is not JSON").count(), 1, "{}", stage.bridge.log());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_is_one_line_in_the_log_or_none() {
    within(MINUTE, async {
        for format in ["pretty", "json"] {
            let stage =
                stage(|bridge| bridge.env("HERALD_LOG__FILTER", "trace").env("HERALD_LOG__FORMAT", format)).await;
            let start = json!({"session_id": format!("G{FORGED}"), "turn": 1}).to_string();
            stage.gm.on(START, [Answer::status(422).send(json!({"detail": FORGED}).to_string()), Answer::json(start)]);
            stage.gm.on(
                STATE,
                [Answer::status(400).send(FORGED), Answer::status(500).header("x-odd", "\u{9b}").send(FORGED)],
            );
            let odd = [json!({"type": FORGED}), json!({"type": "error", "error": FORGED})];
            stage.gm.on(
                PROPOSE,
                [Answer::sse().send(format!("data: {}\n\n", FORGED.replace(['\r', '\n'], ""))).send(sse(odd))],
            );
            assert!(stage.get("/api/start?session_id=t").await.expect_status(400).error().contains("forged"));
            stage.get("/api/start?session_id=s").await.expect_status(200);
            for path in ["/api/state?session_id=s", "/api/state?session_id=s", "/api/images/s/real.png"] {
                stage.get(path).await;
            }
            let socket = ws::Client::connect(&stage.edge.ws("/ws/s?after=0"), ws::V1).await;
            stage.get("/api/propose?session_id=s").await.expect_status(202);
            socket.wait_for("its end", SOON, |frame| frame.event() == "gm.error").await;
            let news = json!({"session_id": "s", "content": FORGED});
            stage.edge.post(&format!("/submit_news?x={}", "%0d%0aforged"), &news).await;
            for body in [json!({"session_id": FORGED}), json!({"session_id": "s", (FORGED): 1})] {
                stage.edge.post("/init_session", &body).await;
            }
            let log = stage.bridge.log();
            assert!(log.contains("game started") && log.contains("forged"), "{log}");
            check_lines(&log, format == "json");
            check_lines(&stage.edge.log(), false);
        }
    })
    .await;
}
