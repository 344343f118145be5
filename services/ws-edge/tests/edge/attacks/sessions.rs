//! Another session's events, by whatever name.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use herald_runtime::jetstream::{StreamSpec, epoch::EpochOwner};
use herald_testkit::{Edge, Nats, NatsOptions, within, ws};

use super::{BOUND, MINUTE, get_raw, knock, settle, status};
use crate::support::Engine;

/// What is no name of session `s2`, though somebody may take it for one.
const SPELLINGS: &[&str] = &[
    "*",
    "%2a",
    "%2A",
    ">",
    "%3e",
    "s%2a",
    "s2.%3e",
    "s2.>",
    "*.*",
    "%2e",
    "%2e%2e",
    ".",
    "..",
    "s2.",
    "s2..",
    ".s2",
    "s1.s2",
    "s1%2es2",
    "s1%2Fs2",
    "s1%2f..%2fs2",
    "s1%5c..%5cs2",
    "s1/../s2",
    "x/../s2",
    "./s2",
    "/s2",
    "s2/",
    "s2//",
    "s2/.",
    "s2%2f",
    "s2%00",
    "%00s2",
    "s2%00.png",
    "s2%0a",
    "s2%0d%0a",
    "s2%20",
    "%20s2",
    "s2+",
    "s2%09",
    "s2%7f",
    "%2573%32",
    "%25%37%33%32",
    "%u0073%u0032",
    "%c1%b3%32",
    "%e0%81%b3%32",
    "%f0%80%81%b3%32",
    "%ef%bd%93%32",
    "%73%cc%b2",
    "s2%c2%a0",
    "s2%e2%80%8b",
    "s2%e2%80%ae",
    "%ed%a0%80",
    "%ff",
    "%fe%ff",
    "%",
    "%7",
    "%zz",
    "s2;a=b",
    "s2,s1",
    "s2%3fafter=0",
    "s2%23",
    "{sid}",
    "%7Bsid%7D",
    "$JS.API.%3e",
    "%24KV",
    "_INBOX.%3e",
    "_s2",
    "-s2",
    "~s2",
    "s2:1",
    "s2@x",
    "[s2]",
    "'s2'",
    "\"s2\"",
    "s2|s1",
    "s2&s1",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_is_the_session_of_somebody_else() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // Whatever is read of a session's past is then asked of the stream, where we hear it.
        let edge = Edge::new(&nats).set("history.shelf", "0B").start().await;
        for subject in ["gm.s2.proposal", "arena.s2.round.start"] {
            engine.publish(subject, r#"{"text":"secret"}"#).await;
        }
        let client = nats.client().await;
        let mut reads = client.subscribe("$JS.API.*.MSG.GET.EVENTS").await.unwrap();
        let mut pages = client.subscribe("$JS.API.DIRECT.GET.EVENTS").await.unwrap();
        settle(&client).await;
        for prefix in ["/ws/", "/app/ws/", "/gm/ws/", "/sse/", "/app/sse/", "/gm/sse/"] {
            for id in SPELLINGS {
                let path = format!("{prefix}{id}?after=0");
                let answer = if prefix.contains("ws") {
                    let (mut raw, head, behind) = knock(&edge, &path, "").await;
                    raw.finish().await;
                    let rest = raw.read_to_end(BOUND).await;
                    head + &String::from_utf8_lossy(&[behind, rest].concat())
                } else {
                    get_raw(&edge, &path, "").await
                };
                assert!(matches!(status(&answer), 400 | 404), "{path}: {answer}");
                assert!(!answer.contains("secret"), "{path}: {answer}");
            }
        }
        for path in
            ["//ws/s2", "/ws%2fs2", "/WS/s2", "/./ws/s2", "/x/../ws/s2", "/ws\\s2", "/sse/../ws/s2", "/ws/s2/after=0"]
        {
            let answer = get_raw(&edge, path, "").await;
            assert!(matches!(status(&answer), 400 | 404), "{path}: {answer}");
        }
        // Another case is another session, in which nothing has happened.
        let other = ws::Client::connect(&edge.ws("/ws/S2?after=0"), ws::V1).await;
        engine.publish("gm.S2.phase", r#"{"text":"theirs"}"#).await;
        let seen = other.wait_events(1, BOUND).await;
        assert_eq!((seen.len(), &seen[0].data()["text"]), (1, &"theirs".into()));
        // Of all that NATS was asked only that one speaks.
        settle(&client).await;
        let mut asked = 0;
        for questions in [&mut reads, &mut pages] {
            while let Some(Some(question)) = questions.next().now_or_never() {
                let text = String::from_utf8_lossy(&question.payload).into_owned();
                assert!(!text.contains("s2"), "{text}");
                asked += 1;
            }
        }
        assert!(asked > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_query_nor_a_header_names_another_session() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        engine.publish("gm.s2.proposal", r#"{"text":"secret"}"#).await;
        engine.publish("gm.s1.proposal", r#"{"text":"mine"}"#).await;
        let query = "after=0&session=s2&session_id=s2&sid=s2&%7Bsid%7D=s2&path=%2Fws%2Fs2&alias=s2&subject=gm.%3E&root=%3E&stream=KV_SESSIONS";
        let headers = [
            ("x-original-url", "/ws/s2"),
            ("x-rewrite-url", "/ws/s2"),
            ("x-http-method-override", "POST"),
            ("x-forwarded-prefix", "/ws/s2"),
            ("x-forwarded-host", "s2"),
            ("herald-path", "/ws/s2"),
            ("herald-sessions", "s2"),
            ("referer", "http://x/ws/s2"),
            ("cookie", "session=s2; sid=s2"),
        ];
        let options = ws::Options { protocols: ws::V1, headers: &headers, ..ws::Options::default() };
        let shown = ws::Client::open(&edge.ws(&format!("/ws/s1?{query}")), options).await.unwrap();
        shown.wait_events(1, BOUND).await;
        // Nor does the whole address in the request's line.
        let (mut raw, head, mut read) = knock(&edge, "http://s2.example/ws/s1?after=0", "").await;
        assert_eq!(status(&head), 101, "{head}");
        if !String::from_utf8_lossy(&read).contains("mine") {
            read.extend(raw.read_until(b"mine", BOUND).await);
        }
        let read = String::from_utf8_lossy(&read);
        assert!(read.contains("mine") && !read.contains("secret"), "{read}");
        engine.publish("gm.s2.proposal", r#"{"text":"secret"}"#).await;
        engine.publish("gm.s1.proposal", r#"{"text":"mine"}"#).await;
        let events = shown.wait_events(2, BOUND).await;
        assert!(events.iter().all(|event| event.data()["text"] == "mine"), "{events:?}");
        // Twice is not half.
        for twice in ["after=0&after=1", "after=0&%61fter=0", "snapshot=1&after=0", "dialect=app&dialect=event"] {
            assert_eq!(status(&get_raw(&edge, &format!("/sse/s1?{twice}"), "").await), 400, "{twice}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_stream_shows_nothing_of_it_and_skips_nothing_here() {
    within(MINUTE, async {
        // A door to two games; the users that we ship have no rights for the second one.
        let nats = Nats::start_with(NatsOptions { config: "single.conf".into(), ..NatsOptions::default() }).await;
        let engine = Engine::start(&nats).await;
        let owner = EpochOwner::spawn(&engine.nats, StreamSpec::new("OTHER", ["other.>"]), Vec::new());
        owner.ready().await;
        let config = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\n[[ws-edge.listeners.routes]]\npath = \"/other/{sid}\"\n\
            stream = \"OTHER\"\nroots = [\"other\"]\n";
        let edge = Edge::new(&nats).config(config).start().await;
        for number in 0..10 {
            engine.publish("other.s1.x", format!("{{\"text\":\"other {number}\"}}")).await;
        }
        engine.publish("gm.s1.phase", r#"{"text":"one"}"#).await;
        engine.publish("gm.s1.phase", r#"{"text":"two"}"#).await;
        let elsewhere = ws::Client::connect(&edge.ws("/other/s1?after=0"), ws::V1).await;
        elsewhere.wait_events(10, BOUND).await;
        let hello = elsewhere.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        let epoch = hello.data()["epoch"].as_str().unwrap().to_owned();
        for cursor in [format!("{epoch}-1"), format!("{epoch}-10"), "10".to_owned()] {
            let here = ws::Client::connect(&edge.ws(&format!("/ws/s1?after={cursor}")), ws::V1).await;
            here.wait_for("the gap", BOUND, |frame| frame.event() == "herald.gap").await;
            let events = here.wait_events(2, BOUND).await;
            let texts: Vec<_> = events.iter().map(|event| event.data()["text"].clone()).collect();
            assert_eq!(texts, ["one", "two"], "{cursor}");
            here.check_order();
            let plain = ws::Client::connect(&edge.ws(&format!("/ws/s1?after={cursor}")), ws::PLAIN).await;
            assert_eq!(plain.wait_end(Duration::from_secs(20)).await.code(), 4410, "{cursor}");
        }
    })
    .await;
}
