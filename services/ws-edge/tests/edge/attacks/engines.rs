//! An engine that answers whatever it likes over `http.*`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all};
use herald_testkit::{Edge, Nats, Service, within, ws};
use tokio::{sync::Notify, task::JoinSet};

use super::{BOUND, MINUTE, exchange, get_raw, settle, status};
use crate::support::Engine;

/// One message of an answer: its headers, and its bytes.
type Message = (Vec<(&'static str, &'static str)>, &'static [u8]);

const OK: (&str, &str) = ("Herald-Status", "200");
const FIRST: (&str, &str) = ("Herald-Part", "0");
const END: (&str, &str) = ("Herald-End", "1");

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(*name, *value);
        map
    })
}

/// Answers each request by its path, as it is told; a path that it does not know by a good answer.
struct Liar {
    _answering: JoinSet<()>,
}

impl Liar {
    async fn start(client: Client, answers: HashMap<&'static str, Vec<Message>>) -> Self {
        let mut requests = client.queue_subscribe("http.gm", "gm".to_owned()).await.unwrap();
        settle(&client).await;
        let answers = Arc::new(answers);
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            let mut all = JoinSet::new();
            while let Some(request) = requests.next().await {
                let path =
                    request.headers.as_ref().and_then(|head| head.get("Herald-Path")).map(|path| path.to_string());
                let (client, answers) = (client.clone(), answers.clone());
                all.spawn(async move {
                    let (path, reply) = (path.unwrap_or_default(), request.reply.unwrap());
                    let good = vec![(vec![OK, FIRST, END], &b"fine"[..])];
                    if path == "/api/images/endless" {
                        return endless(&client, reply.to_string()).await;
                    }
                    for (lines, bytes) in answers.get(&*path).unwrap_or(&good) {
                        // All of them want an acknowledgement, and none waits for it.
                        let own = client.new_inbox();
                        let sent = client.publish_with_reply_and_headers(
                            reply.clone(),
                            own,
                            headers(lines),
                            Bytes::from_static(bytes),
                        );
                        sent.await.unwrap();
                    }
                });
            }
        });
        Self { _answering: answering }
    }
}

/// Sends parts as the format has it, and never ends.
async fn endless(client: &Client, reply: String) {
    let own = client.new_inbox();
    let mut acknowledged = client.subscribe(own.clone()).await.unwrap();
    let part = Bytes::from(vec![b'x'; 128 << 10]);
    for number in 0_u64.. {
        let number = number.to_string();
        let lines = headers(&[OK, ("Herald-Part", &number)]);
        client.publish_with_reply_and_headers(reply.clone(), own.clone(), lines, part.clone()).await.unwrap();
        let Some(said) = acknowledged.next().await else { return };
        if said.headers.is_some_and(|said| said.get("Herald-Abort").is_some()) {
            return;
        }
    }
}

async fn house() -> (Nats, Engine, Service) {
    let nats = Nats::start().await;
    let engine = Engine::start(&nats).await;
    let edge = Edge::new(&nats).start().await;
    (nats, engine, edge)
}

/// The body of an answer that came in chunks; whether it is whole.
fn unchunked(answer: &str) -> (String, bool) {
    let (_, mut rest) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let mut body = String::new();
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(usize::MAX);
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = behind.get(..size) else { break };
        body.push_str(chunk);
        rest = behind[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    (body, false)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_a_502_and_what_breaks_off_is_cut() {
    within(MINUTE, async {
        let (nats, engine, edge) = house().await;
        let status_of = |status| vec![(vec![("Herald-Status", status), FIRST, END], &b"x"[..])];
        let with = |line| vec![(vec![OK, FIRST, END, line], &b"abc"[..])];
        let part = |number, bytes: &'static str| (vec![OK, ("Herald-Part", number)], bytes.as_bytes());
        let no_answers = [
            ("/api/nothing", vec![(vec![], &b"x"[..])]),
            ("/api/no-status", vec![(vec![FIRST, END], &b"x"[..])]),
            ("/api/status-0", status_of("0")),
            ("/api/status-99", status_of("99")),
            ("/api/status-101", status_of("101")),
            ("/api/status-100", status_of("100")),
            ("/api/status-600", status_of("600")),
            ("/api/status-1000", status_of("1000")),
            ("/api/status-text", status_of("200 OK")),
            ("/api/status-odd", status_of("2\u{bd}0")),
            ("/api/status-minus", status_of("-200")),
            ("/api/no-part", vec![(vec![OK, END], &b"x"[..])]),
            ("/api/late-part", vec![(vec![OK, ("Herald-Part", "1"), END], &b"x"[..])]),
            ("/api/odd-part", vec![(vec![OK, ("Herald-Part", "0x0"), END], &b"x"[..])]),
            ("/api/huge-part", vec![(vec![OK, ("Herald-Part", "18446744073709551616"), END], &b"x"[..])]),
            ("/api/abort", vec![(vec![OK, FIRST, ("Herald-Abort", "because")], &b""[..])]),
            ("/api/length-more", with(("Herald-H-content-length", "100"))),
            ("/api/length-less", with(("Herald-H-content-length", "1"))),
            ("/api/length-plus", with(("Herald-H-content-length", "+3"))),
            ("/api/length-text", with(("Herald-H-content-length", "three"))),
            ("/api/length-list", with(("Herald-H-content-length", "3, 3"))),
            (
                "/api/length-two",
                vec![(
                    vec![OK, FIRST, END, ("Herald-H-content-length", "3"), ("Herald-H-Content-Length", "5")],
                    &b"abc"[..],
                )],
            ),
        ];
        let broken = [
            ("/api/images/swapped", vec![part("0", "zero"), part("2", "two"), part("1", "one")], "zero"),
            ("/api/images/doubled", vec![part("0", "zero"), part("0", "zero")], "zero"),
            ("/api/images/aborted", vec![part("0", "zero"), (vec![("Herald-Abort", "because")], &b""[..])], "zero"),
            ("/api/images/flood", (0..200).map(|_| part("0", "zero")).collect(), "zero"),
            ("/api/images/no-more", vec![part("0", "zero")], "zero"),
        ];
        let too_long = vec![
            (vec![OK, FIRST, ("Herald-H-content-length", "6")], &b"zero"[..]),
            (vec![("Herald-Part", "1"), END], &b"GET /api/images/more HTTP/1.1\r\n\r\n"[..]),
        ];
        let too_short = vec![
            (vec![OK, FIRST, ("Herald-H-content-length", "60")], &b"zero"[..]),
            (vec![("Herald-Part", "1"), END], &b"one"[..]),
        ];
        let mut answers: HashMap<_, _> = no_answers.iter().cloned().collect();
        answers.extend(broken.iter().map(|(path, messages, _)| (*path, messages.clone())));
        answers.extend([("/api/images/long", too_long), ("/api/images/short", too_short)]);
        let _liar = Liar::start(nats.client().await, answers).await;
        let calm = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        for (path, _) in &no_answers {
            let answer = get_raw(&edge, path, "").await;
            assert_eq!(status(&answer), 502, "{path}: {answer}");
            assert!(answer.ends_with(r#"{"error":"gm-bridge gave no valid answer"}"#), "{path}: {answer}");
        }
        // One of them waits for as long as a part may take: all at once.
        let cut = broken.iter().map(|(path, _, begins)| {
            let edge = &edge;
            async move {
                let answer = get_raw(edge, path, "").await;
                let (body, whole) = unchunked(&answer);
                // What came in one with its end by force may not have left any more.
                assert!(!whole && (body == *begins || body.is_empty()), "{path}: {answer}");
                assert!(matches!(status(&answer), 200 | 0), "{path}: {answer}");
            }
        });
        let sized = async {
            for path in ["/api/images/long", "/api/images/short"] {
                let answer = get_raw(&edge, path, "").await;
                let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
                assert!(body == "zero" || body.is_empty(), "{path}: {answer}");
            }
        };
        let endless = async {
            let answer = get_raw(&edge, "/api/images/endless", "").await;
            let (body, whole) = unchunked(&answer);
            assert!(!whole && body.len() <= 32 << 20, "{}", body.len());
        };
        tokio::join!(join_all(cut), sized, endless);
        assert_eq!(edge.metric("herald_forward_failures_total", &["bad_response"]).await, no_answers.len() as f64);
        // Nobody else notices.
        assert!(get_raw(&edge, "/api/good", "").await.ends_with("fine"));
        engine.publish("gm.S.phase", "1").await;
        calm.wait_events(1, BOUND).await;
        assert_eq!(edge.readyz().await.0, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_speaks_for_itself_and_not_for_the_connection_or_the_door() {
    within(MINUTE, async {
        let (nats, _engine, edge) = house().await;
        let said = vec![
            OK,
            FIRST,
            END,
            ("Herald-H-connection", "keep-alive, x-named"),
            ("Herald-H-x-named", "1"),
            ("Herald-H-keep-alive", "timeout=999"),
            ("Herald-H-transfer-encoding", "chunked"),
            ("Herald-H-upgrade", "websocket"),
            ("Herald-H-te", "trailers"),
            ("Herald-H-trailer", "x"),
            ("Herald-H-proxy-authenticate", "Basic"),
            ("Herald-H-herald-user", "root"),
            ("Herald-H-access-control-allow-origin", "https://evil.example"),
            ("Herald-H-sec-websocket-accept", "x"),
            ("Herald-H-bad\"name", "1"),
            ("Herald-H-", "1"),
            ("Herald-H-x-bell", "a\u{7}b"),
            ("Herald-H-x-nul", "a\0b"),
            ("Herald-H-x-letters", "\u{e9}"),
            ("Herald-H-set-cookie", "a=1"),
            ("Herald-H-content-type", "text/html"),
            ("Set-Cookie", "b=2"),
            ("X-Not-Http", "1"),
        ];
        let smuggled = &b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled"[..];
        let with = |status, line: &[(&'static str, &'static str)]| {
            let lines: Vec<_> =
                [("Herald-Status", status), FIRST, END].into_iter().chain(line.iter().copied()).collect();
            vec![(lines, smuggled)]
        };
        let answers = HashMap::from([
            ("/api/said", vec![(said, &b"<script>"[..])]),
            ("/api/204", with("204", &[("Herald-H-content-length", "51")])),
            ("/api/205", with("205", &[])),
            ("/api/304", with("304", &[("Herald-H-content-length", "51")])),
            ("/api/head", with("200", &[("Herald-H-content-length", "51")])),
        ]);
        let _liar = Liar::start(nats.client().await, answers).await;
        let answer = get_raw(&edge, "/api/said", "").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        for name in [
            "keep-alive",
            "x-named",
            "transfer-encoding",
            "upgrade",
            "\nte:",
            "trailer",
            "proxy-authenticate",
            "herald",
            "evil",
            "bad",
            "x-bell",
            "x-nul",
            "b=2",
            "x-not-http",
        ] {
            assert!(!head.contains(name), "{name}: {answer}");
        }
        for line in [
            "content-length: 8",
            "set-cookie: a=1",
            "content-type: text/html",
            "x-content-type-options: nosniff",
            "connection: close",
        ] {
            assert_eq!(head.matches(line).count(), 1, "{line}: {answer}");
        }
        assert_eq!(body, "<script>");
        // Answers that have no body have none, whatever came: what follows on the connection is the next answer.
        let all = ["GET /api/204", "GET /api/304", "HEAD /api/head", "GET /api/205"]
            .map(|line| format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .concat();
        let last = "GET /api/good HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = exchange(&edge, format!("{all}{last}")).await;
        let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|it| it.split(' ').next().unwrap()).collect();
        let expected = ["204", "304", "200", "205"];
        assert_eq!(statuses[..4], expected, "{answer}");
        assert!(answer.ends_with("\r\n\r\nfine"), "{answer}");
        assert!(answer.matches("smuggled").count() <= 1, "only where an answer has a body: {answer}");
    })
    .await;
}

/// Each service is told where to answer what it is asked; none can guess where others answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_can_not_answer_what_another_one_was_asked() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let config = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\n[[ws-edge.listeners.forwards]]\nname = \"evil\"\n\
            service = \"evil\"\npaths = [\"/evil/*\"]\n";
        let edge = Edge::new(&nats).config(config).start().await;
        let client = nats.client().await;
        let mut honest = client.subscribe("http.gm").await.unwrap();
        let mut evil = client.subscribe("http.evil").await.unwrap();
        settle(&client).await;
        let asked = Notify::new();
        let forged = Notify::new();
        let good = [OK, FIRST, END];
        let of_honest = async {
            let request = honest.next().await.unwrap();
            asked.notify_one();
            forged.notified().await;
            client.publish_with_headers(request.reply.unwrap(), headers(&good), "honest".into()).await.unwrap();
            settle(&client).await;
        };
        let of_evil = async {
            let request = evil.next().await.unwrap();
            let reply = request.reply.unwrap().to_string();
            let (prefix, number) = reply.rsplit_once('.').unwrap();
            let near =
                |number: u128| (number.saturating_sub(50)..number.saturating_add(50)).filter(move |it| *it != number);
            let decimal = number.parse().into_iter().flat_map(near).map(|it| it.to_string());
            let hex = u128::from_str_radix(number, 16).into_iter().flat_map(near).map(|it| format!("{it:032x}"));
            for guess in decimal.chain(hex) {
                client
                    .publish_with_headers(format!("{prefix}.{guess}"), headers(&good), "forged".into())
                    .await
                    .unwrap();
            }
            client.publish_with_headers(reply, headers(&good), "evil".into()).await.unwrap();
            settle(&client).await;
        };
        let honest = async {
            let answer = get_raw(&edge, "/api/state", "").await;
            assert!(answer.ends_with("\r\n\r\nhonest"), "{answer}");
        };
        let evil = async {
            asked.notified().await;
            let answer = get_raw(&edge, "/evil/x", "").await;
            assert!(answer.ends_with("\r\n\r\nevil"), "{answer}");
            // What was forged came before this answer, over the same connection.
            forged.notify_one();
        };
        tokio::time::timeout(Duration::from_secs(40), async { tokio::join!(of_honest, of_evil, honest, evil) })
            .await
            .unwrap();
    })
    .await;
}
