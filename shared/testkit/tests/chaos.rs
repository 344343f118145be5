//! The machinery that breaks things, with a stand-in for the checker: what it does is done, told, counted, and looked after.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use herald_testkit::{
    chaos::{Plan, Verdict, run},
    eventually,
    faults::{Fault, Harm, Kind, Link, Way},
    house::{Blueprint, House},
    process::Signal,
    within,
};

const LIMIT: Duration = Duration::from_secs(150);

/// Counts the marks it hears of, and says `end` of its own when they end.
fn stand_in(folder: &Path, end: &str) -> std::path::PathBuf {
    let program = folder.join("stand-in");
    let script = format!(
        r#"#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --json) json=$2 ;; --seed) seed=$2 ;; esac; shift; done
faults=0; open=0
while read -r line; do
    case $line in
        *'"mark":"fault"'*) faults=$((faults + 1)); open=$((open + 1)) ;;
        *'"mark":"over"'*) open=$((open - 1)) ;;
    esac
done
echo '{{"faults":{{"edge killed":'$faults'}}}}' > "$json"
echo "left open: $open"
{end}
"#
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

const OK: &str = r#"echo "VERDICT ok lost=0 doubled=0 reordered=0 foreign=0 gaps=0 unstored=0 faults=$faults deliveries=1 seed=$seed""#;

fn fault(seconds: u64, kind: Kind) -> Fault {
    Fault { at: Duration::from_secs(seconds), kind, target: Some(0), hold: Duration::from_millis(300), seed: seconds }
}

fn plan(folder: &Path, end: &str, faults: Vec<Fault>) -> Plan {
    let folder = folder.to_owned();
    let checker = Some(stand_in(&folder, end));
    Plan { faults, checker, ..Plan::new(7, false, folder) }
}

#[tokio::test]
async fn every_fault_of_a_plan_is_done_told_and_over() {
    within(LIMIT, async {
        let folder = tempfile::tempdir().unwrap();
        let kinds = [
            Kind::Edge(Way::Killed),
            Kind::Bridge(Way::Paused),
            Kind::Gm(Way::Killed),
            Kind::Link(Link::EdgeNats, Harm::Cut),
            Kind::Nats(Way::Killed),
            Kind::Link(Link::ClientEdge, Harm::HalfOpen),
            Kind::Bridge(Way::Stopped),
        ];
        let faults = (0..).zip(kinds).map(|(second, kind)| fault(second, kind)).collect();
        let said = std::sync::Mutex::new(Vec::new());
        let outcome = run(&plan(folder.path(), OK, faults), &|line| said.lock().unwrap().push(line.to_owned())).await;
        assert_eq!(outcome.troubles, Vec::<String>::new());
        assert_eq!(outcome.tally.left_out, 0);
        assert_eq!(outcome.tally.done, kinds.into_iter().map(|kind| (kind, 1)).collect());
        assert!(outcome.verdict.ok && outcome.verdict.faults == 7, "{}", outcome.verdict);
        assert_eq!(outcome.figures.faults["edge killed"], 7);
        assert!(said.lock().unwrap().contains(&"left open: 0".to_owned()), "{said:?}");
        assert!(outcome.vitals.contains_key("edge 2") && outcome.vitals.contains_key("nats 1"), "{:?}", outcome.vitals);
        let marks = std::fs::read_to_string(folder.path().join("marks.ndjson")).unwrap();
        assert_eq!(marks.lines().filter(|line| line.contains(r#""target":"edge-nats 1""#)).count(), 1, "{marks}");
        for log in ["edge-1", "bridge-2", "gm-1", "nats"] {
            assert!(folder.path().join(log).join("log").is_file(), "{log}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_checker_without_a_verdict_fails_the_run() {
    within(LIMIT, async {
        for (end, why) in [("exit 0", "no verdict: \"left open: 0\""), ("kill -9 $$", "signal: 9")] {
            let folder = tempfile::tempdir().unwrap();
            let outcome = run(&plan(folder.path(), end, Vec::new()), &|_| {}).await;
            assert!(!outcome.verdict.ok);
            assert!(outcome.troubles.iter().any(|trouble| trouble.contains(why)), "{:?}", outcome.troubles);
        }
    })
    .await;
}

#[tokio::test]
async fn what_dies_unasked_is_found_and_started_again() {
    within(LIMIT, async {
        let folder = tempfile::tempdir().unwrap();
        let house = House::start(&Blueprint {
            cluster: false,
            edges: 1,
            bridges: 1,
            gms: 1,
            games: 1,
            edge: Box::new(|edge| edge),
            bridge: Box::new(|bridge| bridge),
            gm: Box::new(|gm| gm),
            folder: folder.path().to_owned(),
        })
        .await;
        assert_eq!(house.panics(), Vec::<String>::new());
        let look = async {
            house.edges[0].service.lock().await.process().signal(Signal::KILL);
            house.nats.lock().await.servers()[0].process().expect("running").signal(Signal::TERM);
            eventually("both are told of", Duration::from_secs(30), async || {
                let troubles = house.troubles();
                if troubles.len() == 2 { Ok(()) } else { Err(troubles) }
            })
            .await;
            house.edges[0].ready().await.expect("ready again");
        };
        tokio::select! {
            () = look => {}
            () = house.watch() => {}
        }
        let mut troubles = house.troubles();
        troubles.sort();
        assert_eq!(troubles, ["edge 1 died unasked: signal: 9 (SIGKILL)", "nats-server 1 died unasked"]);
    })
    .await;
}

#[tokio::test]
async fn a_house_that_cannot_be_built_is_a_verdict_too() {
    within(LIMIT, async {
        let folder = tempfile::tempdir().unwrap();
        let mut chaos = tokio::process::Command::new(env!("CARGO_BIN_EXE_chaos"));
        chaos.args(["20", "--only", "one", "--seed", "7", "--logs"]).arg(folder.path().join("logs"));
        // No nats-server, although it can be started.
        let run = chaos.env("HERALD_NATS_SERVER", "/bin/true").kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        let verdict: Verdict =
            said.lines().last().unwrap_or_default().parse().unwrap_or_else(|why| panic!("{why}: {said}"));
        assert_eq!((verdict.ok, verdict.seed, run.status.code()), (false, 7, Some(1)), "{said}");
    })
    .await;
}
