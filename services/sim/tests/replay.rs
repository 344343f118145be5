//! Recorded traffic is played byte for byte, however it is cut.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "recorded/shapes.rs"]
mod recorded;

use std::time::Duration;

use clap::Parser;
use recorded::{fixture, path};
use sim::{
    cli::{Cli, Command, ReplayOptions},
    replay::{
        ndjson::{Plan, messages},
        sse::Recorded,
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn options(flags: &[&str], files: &[&str]) -> ReplayOptions {
    let files: Vec<String> = files.iter().map(|file| path(file)).collect();
    let flags = ["sim", "replay"].iter().copied().chain(flags.iter().copied()).chain(files.iter().map(String::as_str));
    match Cli::parse_from(flags).command {
        Command::Replay(options) => options,
        other => panic!("{other:?}"),
    }
}

async fn serve(flags: &[&str], files: &[&str]) -> (String, reqwest::Client) {
    let recorded = Recorded::load(&options(flags, files), CancellationToken::new()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, recorded.router()).await });
    (base, reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap())
}

#[tokio::test]
async fn bodies_are_the_recorded_ones_however_they_are_cut() {
    let recorded = fixture("gm-propose.turn1.sse");
    for flags in [&["--chunk", "1"][..], &["--chunk", "1000"], &["--cut", "37"], &["--cut", "999999"], &["--cut", "0"]]
    {
        let (base, http) = serve(flags, &["gm-propose.turn1.sse"]).await;
        let body = http.get(format!("{base}/api/stream/propose")).send().await.unwrap().text().await.unwrap();
        assert_eq!(body, recorded, "{flags:?}");
    }
}

#[tokio::test]
async fn each_request_gets_the_next_recording_and_a_start_rewinds() {
    let files = ["gm-propose.turn1.sse", "gm-choose.turn1.sse", "gm-propose.turn2.sse"];
    let (base, http) = serve(&["--speed", "max"], &files).await;
    let get = async |path: &str| http.get(format!("{base}{path}")).send().await.unwrap().text().await.unwrap();
    let start: serde_json::Value = serde_json::from_str(&get("/api/start").await).unwrap();
    assert_eq!(start, serde_json::from_str::<serde_json::Value>(&fixture("gm-start.json")).unwrap());
    for (path, file) in [
        ("/api/stream/propose", "gm-propose.turn1.sse"),
        ("/api/stream/propose", "gm-propose.turn2.sse"),
        ("/api/stream/propose", "gm-propose.turn2.sse"),
        ("/api/stream/choose", "gm-choose.turn1.sse"),
    ] {
        assert_eq!(get(path).await, fixture(file));
    }
    get("/api/start").await;
    assert_eq!(get("/api/stream/propose").await, fixture("gm-propose.turn1.sse"));
    assert!(http.get(format!("{base}/api/images/x/real.png")).send().await.unwrap().status().is_success());
}

#[test]
fn recorded_messages_have_the_size_they_had_on_nats() {
    let text = fixture("arena.ndjson");
    let all = messages(&text, &Plan { with_init: true, ..Plan::default() }).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), lines.len());
    for (message, line) in all.iter().zip(&lines) {
        assert_eq!(message.subject, line["subject"].as_str().unwrap());
        // The relay escaped its accents, the recording does not.
        if message.subject.ends_with("input.fakenews") {
            continue;
        }
        assert_eq!(Some(message.payload.len() as u64), line["size"].as_u64(), "{}", message.subject);
    }
}
