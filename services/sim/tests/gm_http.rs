//! The game master stand-in over HTTP: the shapes are those of the recorded traffic, the errors those of the original.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "recorded/shapes.rs"]
mod recorded;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use recorded::{Shape, fixture, sse_events};
use serde_json::Value;
use sim::{
    check::numbered::CallEvent,
    cli::{Cli, Command},
    gm::{GameMaster, server},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(30);

struct Served {
    gm: Arc<GameMaster>,
    base: String,
    http: reqwest::Client,
    _stop: tokio_util::sync::DropGuard,
}

impl Served {
    async fn start(flags: &[&str]) -> Self {
        let speed: &[&str] = if flags.contains(&"--speed") { &[] } else { &["--speed", "max"] };
        let flags = ["sim", "gm", "--no-door"].iter().chain(speed).chain(flags);
        let Command::Gm(options) = Cli::parse_from(flags).command else { panic!("gm") };
        let token = CancellationToken::new();
        let gm = GameMaster::new(options, token.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let app = server::router(gm.clone());
        let stop = token.clone();
        tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await });
        let http = reqwest::Client::builder().no_proxy().timeout(BOUND).build().unwrap();
        Self { gm, base: format!("http://{address}"), http, _stop: token.drop_guard() }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await.text().await.unwrap()).unwrap()
    }

    async fn stream(&self, path: &str) -> Vec<Value> {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        sse_events(&response.text().await.unwrap())
    }
}

#[tokio::test]
async fn start_and_state_have_the_recorded_shapes() {
    let gm = Served::start(&[]).await;
    for (path, file) in [("/api/start?lang=fr", "gm-start.json"), ("/api/state", "gm-state.json")] {
        let recorded: Value = serde_json::from_str(&fixture(file)).unwrap();
        assert_eq!(Shape::of(&gm.json(path).await), Shape::of(&recorded), "{path}");
    }
    let text = gm.get("/api/start").await.text().await.unwrap();
    assert!(text.starts_with("{\"session_id\":\"") && text.ends_with("\"lang\":\"fr\"}"), "compact, in the same order");
}

#[tokio::test]
async fn a_turn_has_the_recorded_grammar_and_keys() {
    let gm = Served::start(&["--seed", "3"]).await;
    gm.get("/api/start?lang=en").await;
    for turn in ["turn1", "turn2"] {
        for (path, file) in [
            ("/api/stream/propose?lang=en", format!("gm-propose.{turn}.sse")),
            ("/api/stream/choose?kind=fake&lang=en", format!("gm-choose.{turn}.sse")),
        ] {
            let (ours, recorded) = (gm.stream(path).await, sse_events(&fixture(&file)));
            assert_eq!(recorded::grammar(&ours), recorded::grammar(&recorded), "{file}");
            assert_eq!(recorded::shapes(&ours, &recorded), Vec::<String>::new(), "{file}");
        }
    }
}

#[tokio::test]
async fn sizes_are_about_those_of_the_recording() {
    let gm = Served::start(&[]).await;
    let ours = gm.get("/api/stream/propose?lang=fr").await.text().await.unwrap();
    let recorded = fixture("gm-propose.turn1.sse");
    assert!((recorded.len() / 2..recorded.len() * 2).contains(&ours.len()), "{} bytes", ours.len());
    let texts = |body: &str| sse_events(body).iter().filter(|event| event["type"] == "llm_text").count();
    assert!((50..130).contains(&texts(&ours)), "{} tokens", texts(&ours));
}

#[tokio::test]
async fn posters_are_served_after_a_proposal_and_change_each_turn() {
    let gm = Served::start(&[]).await;
    let id = gm.json("/api/start").await["session_id"].as_str().unwrap().to_owned();
    let path = format!("/api/images/{id}/real.png");
    assert_eq!(gm.get(&path).await.status(), 404);
    let events = gm.stream("/api/stream/propose").await;
    let images = events.iter().find(|event| event["type"] == "images").unwrap();
    assert_eq!(images["data"]["real"].as_str(), Some(path.as_str()));
    let first = gm.get(&path).await;
    assert_eq!(first.headers()["content-type"], "image/png");
    let first = first.bytes().await.unwrap();
    assert!(first.starts_with(b"\x89PNG"));
    gm.stream("/api/stream/choose?kind=real").await;
    gm.stream("/api/stream/propose").await;
    assert_ne!(first, gm.get(&path).await.bytes().await.unwrap());
    for other in ["/api/images/x/real.png", &path.replace("real.png", "real.jpg"), &path.replace("real", "odd")] {
        let answer = gm.get(other).await;
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
            (404, r#"{"error":"not found"}"#)
        );
    }
}

#[tokio::test]
async fn a_game_ends_and_reveals_what_was_secret() {
    let gm = Served::start(&["--tokens", "3"]).await;
    gm.get("/api/start?lang=fr").await;
    let recorded: Vec<Value> = fixture("ws-client.ndjson")
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["frame"].as_str().map(str::to_owned))
        .map(|frame| serde_json::from_str::<Value>(&frame).unwrap()["data"].take())
        .collect();
    let of_type = |events: &[Value], kind: &str| events.iter().find(|event| event["type"] == kind).cloned();
    for turn in 1..=10 {
        gm.stream("/api/stream/propose").await;
        let events = gm.stream("/api/stream/choose?kind=fake").await;
        assert_eq!(of_type(&events, "turn_update").unwrap()["data"]["turn"], turn + 1);
        let Some(end) = of_type(&events, "end") else { continue };
        assert_eq!(Shape::of(&end), Shape::of(&of_type(&recorded, "end").unwrap()), "a lost game");
        let reveal = of_type(&events, "game_over_reveal").unwrap();
        assert_eq!(Shape::of(&reveal), Shape::of(&of_type(&recorded, "game_over_reveal").unwrap()));
        assert_eq!(reveal["data"]["manipulation_history"].as_array().unwrap().len(), turn);
        assert_eq!(gm.json("/api/state").await["ended"], true);
        assert_eq!(gm.stream("/api/stream/propose").await[0]["type"], "error");
        assert_eq!(gm.json("/api/start").await["turn"], 1);
        return;
    }
    panic!("ten lies and no end");
}

#[tokio::test]
async fn the_seed_decides_every_byte_but_the_own_id() {
    let played = async |seed: &str| {
        let gm = Served::start(&["--seed", seed, "--id", "9e0d0000-0000-4000-8000-000000000001"]).await;
        let mut story = String::new();
        for path in ["/api/start", "/api/stream/propose", "/api/stream/choose?kind=satirical", "/api/state"] {
            story.push_str(&gm.get(path).await.text().await.unwrap());
        }
        story
    };
    assert_eq!(played("4").await, played("4").await);
    assert_ne!(played("4").await, played("5").await);
}

#[tokio::test]
async fn actions_keep_to_their_streams_unless_they_shall_leak() {
    for (flags, whole) in [(&["--speed", "8"][..], true), (&["--speed", "8", "--leak"], false)] {
        let gm = Served::start(flags).await;
        // The first propose has begun and is left alone; its tokens come for more than a second.
        let mut cut = gm.get("/api/stream/propose").await;
        assert!(cut.chunk().await.unwrap().is_some());
        let events = gm.stream("/api/stream/propose").await;
        let tokens: String = events.iter().filter_map(|event| event["text"].as_str()).collect();
        assert_eq!(serde_json::from_str::<Value>(&tokens).is_ok(), whole, "{flags:?}");
    }
}

#[tokio::test]
async fn mistakes_are_answered_as_the_original_answers_them() {
    let gm = Served::start(&[]).await;
    let mismatch = r#"{"detail":[{"ctx":{"pattern":"^(fr|en)$"},"input":"de","loc":["query","lang"],"msg":"String should match pattern '^(fr|en)$'","type":"string_pattern_mismatch"}]}"#;
    let table = [
        ("/api/start?lang=de", 422, mismatch),
        ("/api/stream/propose?lang=de", 422, mismatch),
        ("/api/stream/choose?kind=banana&lang=fr", 500, "Internal Server Error"),
        ("/api/nothing", 404, r#"{"detail":"Not Found"}"#),
    ];
    for (path, status, body) in table {
        let answer = gm.get(path).await;
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (status, body), "{path}");
    }
    assert_eq!(gm.get("/api/stream/choose").await.status(), 422);
    assert_eq!(
        gm.stream("/api/stream/choose?kind=real").await,
        sse_events("data: {\"type\": \"error\", \"error\": \"'NoneType' object has no attribute 'real'\"}\n\n")
    );
}

#[tokio::test]
async fn a_head_or_a_post_moves_no_game() {
    let gm = Served::start(&[]).await;
    gm.gm.game().turn = 5;
    for method in [reqwest::Method::HEAD, reqwest::Method::POST] {
        let answer = gm.http.request(method, format!("{}/api/start", gm.base)).send().await.unwrap();
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers().get_all("allow").iter().count(), 1);
    }
    assert_eq!(gm.gm.game().turn, 5);
}

#[tokio::test]
async fn an_action_runs_on_when_its_client_leaves() {
    let gm = Served::start(&[]).await;
    gm.stream("/api/stream/propose").await;
    drop(gm.get("/api/stream/choose?kind=real").await);
    let moved = async {
        while gm.json("/api/state").await["turn"] != 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, moved).await.expect("the choose ends without a listener");
}

#[tokio::test]
async fn each_silent_second_has_a_heartbeat() {
    // At this speed drawing the posters takes longer than a second, and nothing else does.
    let gm = Served::start(&["--speed", "2", "--article-bytes", "1"]).await;
    let events = gm.stream("/api/stream/propose").await;
    let heartbeats: Vec<_> = events.iter().filter(|event| event["type"] == "heartbeat").collect();
    assert!(!heartbeats.is_empty());
    assert_eq!(heartbeats[0].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn stamps_say_when_a_token_was_sent() {
    let gm = Served::start(&["--stamp"]).await;
    let before = sim::gm::stream::now_ns();
    let events = gm.stream("/api/stream/propose").await;
    let stamps: Vec<_> = events
        .iter()
        .filter(|event| event["type"] == "llm_text")
        .map(|event| event["sent_ns"].as_u64().unwrap())
        .collect();
    assert!(stamps.is_sorted() && stamps[0] >= before && stamps[stamps.len() - 1] <= sim::gm::stream::now_ns());
}

#[tokio::test]
async fn numbered_calls_have_every_number_once_and_the_last_choose_ends_the_game() {
    let served = Served::start(&["--numbered", "--events", "300", "--pace", "1ms", "--turns", "2"]).await;
    let mut calls = std::collections::BTreeSet::new();
    let mut call = async |path: &str, last: [&str; 2]| {
        let text = served.get(path).await.text().await.unwrap();
        let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let events: Vec<CallEvent<'_>> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = events[0].of;
        assert!((150..=450).contains(&of) && events.len() == of as usize, "{of}, {}", events.len());
        for (k, event) in (0..).zip(&events) {
            assert!(event.is_sound() && (event.k, event.of, &event.call) == (k, of, &events[0].call), "{event:?}");
        }
        let types = [&*events[events.len() - 2].kind, &*events[events.len() - 1].kind];
        assert_eq!(types, last, "{path}");
        assert!(calls.insert(events[0].call.to_string()), "each call has its own id");
    };
    served.json("/api/start").await;
    for _ in 0..8 {
        call("/api/stream/propose", ["proposal", "result"]).await;
    }
    call("/api/stream/choose?kind=real", ["turn_update", "result"]).await;
    call("/api/stream/choose?kind=fake", ["end", "result"]).await;
    let over = served.stream("/api/stream/propose").await;
    assert!(over.len() == 1 && over[0]["type"] == "error", "{over:?}");
    served.json("/api/start").await;
    call("/api/stream/propose", ["proposal", "result"]).await;
    call("/api/stream/choose?kind=satirical", ["end", "result"]).await;
    let told = served.json("/calls").await;
    let told = told["calls"].as_array().unwrap();
    assert_eq!(told.len(), calls.len() + 1);
    assert!(told.iter().all(|call| call["said"] == call["of"] && call["cut"] == false), "{told:?}");
}
