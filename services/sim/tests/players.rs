//! The players find what is lost, doubled or late, come back when they are told to, and say so with their exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "door/stub.rs"]
mod stub;

use std::{process::Output, time::Duration};

use herald_testkit::within;
use serde_json::{Value, json};
use stub::Door;
use tokio::{process::Command, sync::mpsc, task::JoinHandle};

const LIMIT: Duration = Duration::from_secs(60);
const S: &str = "5e551040-0000-4000-8000-000000000001";

/// A debate as a door shows it; each event with its sequence and the one before.
fn debate() -> Vec<(u64, u64, &'static str, Value)> {
    let mut events = vec![("arena.input.waiting", json!({"round": 1})), ("arena.round.start", json!({"round": 1}))];
    for phase in 1..=4 {
        events.push(("arena.phase.start", json!({"phase": phase})));
        events.push(("arena.agent.7.output", json!({"phase": phase})));
    }
    events.push(("arena.state.global", json!({})));
    events.push(("arena.input.waiting", json!({"round": 2})));
    let number = |(at, (event, data)): (u64, (&'static str, Value))| (at * 10 + 10, at * 10, event, data);
    (0..).zip(events).map(number).collect()
}

fn frame((seq, prev, event, data): &(u64, u64, &str, Value)) -> String {
    json!({"event": event, "data": data, "seq": seq, "ts": 1, "prev": prev}).to_string()
}

fn hello(head: u64) -> String {
    json!({"event": "herald.hello", "data": {"epoch": "000000ab", "head": head, "heartbeat_ms": 25_000}}).to_string()
}

fn players(url: &str) -> JoinHandle<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["players", "--debates", "--timeout", "20s", "--session", S, "--url", url]).kill_on_drop(true);
    tokio::spawn(async move { command.output().await.unwrap() })
}

/// The path of the next call.
async fn path(called: &mut mpsc::Receiver<(String, Value)>) -> String {
    called.recv().await.unwrap().0
}

/// Lets a player open its socket, start, and hand its news in.
async fn begin(door: &Door, called: &mut mpsc::Receiver<(String, Value)>, frames: &[String]) {
    assert_eq!(path(called).await, format!("/ws/{S}"));
    door.say(hello(0));
    assert_eq!(path(called).await, "/init_session");
    door.say(&*frames[0]);
    assert_eq!(path(called).await, "/submit_news");
}

#[tokio::test]
async fn what_is_lost_doubled_or_late_fails_the_report() {
    type Fault = fn(&mut Vec<(u64, u64, &'static str, Value)>);
    let table: [(&str, i32, Fault); 5] = [
        ("every frame came, once and in order", 0, |_| {}),
        ("FAILED", 1, |debate| drop(debate.remove(4))),
        ("FAILED", 1, |debate| debate.insert(4, debate[3].clone())),
        ("FAILED", 1, |debate| debate.swap(3, 5)),
        ("FAILED", 1, |debate| debate[4].1 = 1_000_000),
    ];
    for (verdict, code, fault) in table {
        within(LIMIT, async {
            let (url, door, mut called) = Door::open().await;
            let output = players(&url);
            let mut debate = debate();
            fault(&mut debate);
            let frames: Vec<_> = debate.iter().map(frame).collect();
            begin(&door, &mut called, &frames).await;
            frames[1..].iter().for_each(|frame| door.say(&**frame));
            // Where the debate lost a part, the player waits for another: the next one is whole.
            let whole = debate_again();
            whole.iter().for_each(|frame| door.say(&**frame));
            let output = output.await.unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains(&format!("verdict: {verdict}")), "{text}");
            assert_eq!(output.status.code(), Some(code), "{text}");
        })
        .await;
    }
}

/// A second round behind the first.
fn debate_again() -> Vec<String> {
    debate().into_iter().map(|(seq, prev, event, data)| frame(&(seq + 120, prev + 120, event, data))).collect()
}

#[tokio::test]
async fn a_planned_restart_is_resumed_by_cursor() {
    within(LIMIT, async {
        let (url, door, mut called) = Door::open().await;
        let output = players(&url);
        let frames: Vec<_> = debate().iter().map(frame).collect();
        begin(&door, &mut called, &frames).await;
        frames[1..5].iter().for_each(|frame| door.say(&**frame));
        door.say(json!({"event": "herald.bye", "data": {"after": "000000ab-50", "retry_ms": 1}}).to_string());
        door.close(1012, "restart after=000000ab-50");
        assert_eq!(path(&mut called).await, format!("/ws/{S}?after=000000ab-50"));
        door.say(hello(90));
        frames[5..].iter().for_each(|frame| door.say(&**frame));
        let output = output.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("every frame came") && output.status.success(), "{text}");
        let resumes = text.lines().nth(1).unwrap().split_whitespace().last().map(str::to_owned);
        assert_eq!(resumes.as_deref(), Some("1"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_for_good_fails_at_once() {
    within(LIMIT, async {
        let (url, door, mut called) = Door::open().await;
        let output = players(&url);
        assert_eq!(path(&mut called).await, format!("/ws/{S}"));
        door.close(4403, "not allowed");
        let output = output.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("closed with 4403 not allowed") && output.status.code() == Some(1), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_watcher_prints_one_line_per_frame() {
    within(LIMIT, async {
        let (url, door, mut called) = Door::open().await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.args(["players", "--watch", "--after", "7", "--session", S, "--url", &url]).kill_on_drop(true);
        let mut watcher = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        assert_eq!(path(&mut called).await, format!("/ws/{S}?after=7"));
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(watcher.stdout.take().unwrap()));
        door.say(frame(&debate()[1]));
        let line = lines.next_line().await.unwrap().unwrap();
        assert_eq!(line, r#"00:00:00.001       20 arena.round.start        {"round":1}"#);
        door.close(1001, "going away");
        assert_eq!(path(&mut called).await, format!("/ws/{S}?after=20"), "it comes back behind the last frame");
    })
    .await;
}
