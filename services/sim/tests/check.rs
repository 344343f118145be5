//! `sim check` on real services: it finds nothing where nothing is wrong, and everything that is put wrong in between.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "check/meddler.rs"]
mod meddler;

use std::{path::PathBuf, process::Stdio, time::Duration};

use herald_testkit::{Bridge, Edge, Nats, Service, Sim, SimGm, within};
use meddler::Meddling;
use serde_json::Value;
use sim::check::report::Report;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

const LIMIT: Duration = Duration::from_secs(120);

/// What a checker needs: a server, two edges, a bridge, and a Game Master that tells numbers.
struct House {
    edges: [Service; 2],
    _bridge: Service,
    gm: Sim,
    nats: Nats,
    folder: tempfile::TempDir,
}

impl House {
    async fn build() -> Self {
        let nats = Nats::start().await;
        let numbered = |gm: SimGm| gm.arg("--numbered").arg("--events=40").arg("--pace=5ms");
        let gm = numbered(SimGm::at(([127, 0, 0, 1], 0).into(), "1")).start().await;
        let bridge = Bridge::new(&nats).gm(&gm.url()).set("gm.cut_choose", "0s").set("gm.unwatched", "1s");
        let bridge = bridge.start().await;
        let edges = [Edge::new(&nats).start().await, Edge::new(&nats).start().await];
        Self { edges, _bridge: bridge, gm, nats, folder: tempfile::tempdir().unwrap() }
    }

    fn report(&self) -> PathBuf {
        self.folder.path().join("report.json")
    }

    fn checker(&self, urls: &[String], flags: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.arg("check").args(["--nats", &self.nats.url(), "--seed", "1"]);
        command.args(urls.iter().flat_map(|url| ["--url", url])).args(flags.split(' '));
        command.arg("--json").arg(self.report()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a checker to its end: the code, what it printed, and its report.
    async fn check(&self, urls: &[String], flags: &str) -> (i32, String, Report) {
        let output = self.checker(urls, flags).output().await.unwrap();
        self.outcome(output)
    }

    fn outcome(&self, output: std::process::Output) -> (i32, String, Report) {
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        let json = std::fs::read(self.report()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        (output.status.code().unwrap(), text, serde_json::from_slice(&json).unwrap())
    }

    fn doors(&self) -> Vec<String> {
        self.edges.iter().map(|edge| edge.http("")).collect()
    }
}

#[tokio::test]
async fn a_run_without_faults_finds_nothing() {
    within(LIMIT, async {
        let house = House::build().await;
        let flags = "--seconds 12 --life 6s --sessions 4 --clients 8 --gm-sessions 1 --rate 20";
        let (code, text, report) = house.check(&house.doors(), flags).await;
        assert_eq!(code, 0, "{text}");
        let verdict = text.lines().find(|line| line.starts_with("VERDICT")).unwrap();
        assert!(verdict.starts_with("VERDICT ok lost=0 doubled=0 reordered=0 foreign=0 gaps=0 unstored=0 faults=0 "));
        assert!(report.holds() && report.deliveries() > 2000, "{text}");
        let kinds: Vec<_> = report.clients.keys().map(String::as_str).collect();
        assert_eq!(kinds, ["herald.v1", "plain", "sse"]);
        assert!(report.clients.values().all(|kind| kind.deliveries > 100 && kind.reconnects > 0), "{text}");
        assert!(report.sessions >= 6 && report.sources.arena_stored > 500 && report.sources.whole > 0, "{text}");
        // Every call that the log knows was made, and none that was made is unknown to the Game Master.
        let calls: Value = serde_json::from_str(&house.gm.get("/calls").await.text()).unwrap();
        assert!(calls["calls"].as_array().unwrap().len() as u64 >= report.sources.calls, "{text}");
    })
    .await;
}

#[tokio::test]
async fn whatever_is_put_wrong_in_between_is_found() {
    let table = [
        (Meddling::No, None),
        (Meddling::Drop, Some("lost")),
        (Meddling::Double, Some("doubled")),
        (Meddling::Swap, Some("reordered")),
        (Meddling::Prev, Some("gaps")),
        (Meddling::Payload, Some("foreign")),
    ];
    within(LIMIT, async {
        let house = House::build().await;
        for (meddling, class) in table {
            let door = meddler::listen(house.edges[0].address(), meddling).await;
            let flags = "--seconds 4 --life 10s --sessions 2 --clients 4 --rate 20 --settle 3s";
            let (code, text, report) = house.check(&[format!("http://{door}")], flags).await;
            let found = report.found.counts;
            let count = match class {
                None => {
                    assert!(code == 0 && report.holds(), "{text}");
                    continue;
                }
                Some("lost") => found.lost,
                Some("doubled") => found.doubled,
                Some("reordered") => found.reordered,
                Some("foreign") => found.foreign,
                Some(_) => found.gaps,
            };
            assert!(code == 1 && count > 0, "{meddling:?}: {text}");
            assert!(text.contains("VERDICT failed"), "{text}");
            assert!(report.found.examples.iter().any(|example| example.class.as_str() == class.unwrap()), "{text}");
        }
    })
    .await;
}

/// Starts a checker, and waits until it says how it goes: then it plays.
async fn playing(mut command: Command) -> Child {
    let mut checker = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(checker.stderr.take().unwrap()).lines();
    let line = said.next_line().await.unwrap().unwrap();
    assert!(line.contains("2 sessions"), "{line}");
    tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
    checker
}

#[tokio::test]
async fn with_marks_it_goes_on_to_the_end_of_the_input() {
    within(LIMIT, async {
        let house = House::build().await;
        let mut checker = playing(house.checker(&house.doors(), "--marks --life 4s --sessions 2 --clients 3")).await;
        let now = sim::check::clock::now_ms();
        let fault = format!(r#"{{"mark":"fault","id":1,"kind":"edge killed","target":"edge 1","at_ms":{}}}"#, now - 9);
        let over = format!(r#"{{"mark":"over","id":1,"at_ms":{now}}}"#);
        let mut marks = checker.stdin.take().unwrap();
        marks.write_all(format!("{fault}\n{over}\n").as_bytes()).await.unwrap();
        drop(marks);
        let (code, text, report) = house.outcome(checker.wait_with_output().await.unwrap());
        assert_eq!(code, 0, "{text}");
        assert!(report.faults.get("edge killed") == Some(&1) && text.contains(" faults=1 "), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_signal_brings_it_to_its_verdict_early() {
    within(LIMIT, async {
        let house = House::build().await;
        let checker = playing(house.checker(&house.doors(), "--seconds 100000 --sessions 2 --clients 3")).await;
        let pid = checker.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let (code, text, report) = house.outcome(checker.wait_with_output().await.unwrap());
        assert!(code == 0 && report.sessions >= 2, "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_run_that_can_not_be_played_says_so() {
    within(LIMIT, async {
        let house = House::build().await;
        for flags in ["--gm-sessions 9 --sessions 2", "--rate 0", "--seconds 0"] {
            let output = house.checker(&house.doors(), flags).output().await.unwrap();
            assert!(!output.status.success(), "{flags}");
        }
        let output = house.checker(&["https://127.0.0.1:1".to_owned()], "--seconds 1").output().await.unwrap();
        assert!(String::from_utf8(output.stderr).unwrap().contains("expected http://"));
    })
    .await;
}
