//! A checker that can't fail proves nothing: ten bugs are planted, one at a time, and the same chaos that is to show that
//! Herald loses nothing shows each of them. Without the bug the same run, by the same seed, is without fault.

#![allow(clippy::print_stdout, reason = "what the checker said of a run is for people")]

use std::{cell::RefCell, time::Duration};

use herald_testkit::{
    Bridge, Edge, Launch,
    chaos::{self, Load, Plan, Verdict},
    faults::{Fault, Harm, Kind, Link, Way},
    service::printed_config,
    within,
};

/// What a configuration that makes no sense ends with.
const BAD_CONFIGURATION: i32 = 64;
/// A run takes 7 to 15 s where little else runs.
const LIMIT: Duration = Duration::from_secs(180);
/// What the load and the clients do by lot.
const SEED: u64 = 7;

/// What the checker is to say of a bug.
type Found = fn(&Verdict) -> u64;

const LOST: Found = |verdict| verdict.lost;
const DOUBLED: Found = |verdict| verdict.doubled;
const REORDERED: Found = |verdict| verdict.reordered;
const FOREIGN: Found = |verdict| verdict.foreign;
const GAPS: Found = |verdict| verdict.gaps;

/// A fault at a fixed time, done to a fixed one of its kind.
fn fault(at_ms: u64, kind: Kind, target: usize, hold_ms: u64, seed: u64) -> Fault {
    let ms = Duration::from_millis;
    Fault { at: ms(at_ms), kind, target: Some(target), hold: ms(hold_ms), seed }
}

/// Short: three sessions that live for the whole run, and everybody is hasty.
fn plan(name: &str, faults: Vec<Fault>, gm_sessions: u32) -> Plan {
    let more = ["--life", "10m"].map(str::to_owned).to_vec();
    let folder = std::env::temp_dir().join(format!("herald-planted-{name}-{}", std::process::id()));
    Plan {
        faults,
        load: Load { sessions: 3, clients: 8, rate: 30, gm_sessions, more },
        drain: 1,
        calm: Duration::from_millis(1_500),
        settle: Duration::from_secs(8),
        after_begin: true,
        ..Plan::new(SEED, false, folder)
    }
}

/// Edges die and clients are cut off, so that everybody comes back by cursor; what is older than a moment is history.
fn doors(name: &str) -> Plan {
    let cut = Kind::Link(Link::ClientEdge, Harm::Cut);
    let faults = vec![
        fault(0, cut, 0, 500, 1),
        fault(1_000, Kind::Edge(Way::Killed), 0, 300, 1),
        fault(2_500, cut, 1, 500, 2),
        fault(3_500, Kind::Edge(Way::Killed), 1, 300, 1),
    ];
    Plan { edge: small_rings, ..plan(name, faults, 0) }
}

/// The same with one session, whose events follow each other: a cursor that is read as one too far leaves one out.
fn alone(name: &str) -> Plan {
    let plan = doors(name);
    Plan { load: Load { sessions: 1, clients: 21, rate: 60, ..plan.load }, ..plan }
}

fn small_rings(edge: Edge) -> Edge {
    edge.set("ring.frames", 24)
}

/// The arena game, but a command that dies with NATS is given up soon: half a minute is longer than all of this takes.
const IMPATIENT: &str = r#"
[[ws-edge.listeners]]
builtin = "arena"
[[ws-edge.listeners.forwards]]
name = "gm-bridge"
service = "gm"
paths = ["/api/start", "/api/propose", "/api/choose", "/api/cancel"]
commands = true
timeout = "4s"
"#;

/// Seeds of a delay of about 40 ms either way, and of about 150 ms.
const NEAR: u64 = 5;
const FAR: u64 = 6;

/// Six games, each of which goes on until something else is asked for, over a longer way to NATS: something is always on it.
fn games(name: &str, distance: u64, faults: Vec<Fault>) -> Plan {
    let delayed = Kind::Link(Link::BridgeNats, Harm::Delayed);
    let delays = [0, 1].map(|bridge| fault(0, delayed, bridge, 6_000, distance));
    let plan = plan(name, delays.into_iter().chain(faults).collect(), 6);
    let load = Load { sessions: 6, clients: 3, ..plan.load };
    Plan { gm: |gm| gm.arg("--events=400"), load, ..plan }
}

/// NATS dies, and with it what is on its way there.
fn deaths(name: &str) -> Plan {
    let kill = |at_ms| fault(at_ms, Kind::Nats(Way::Killed), 0, 100, 1);
    Plan { edge: |edge| edge.config(IMPATIENT), ..games(name, FAR, [1_000, 2_300, 3_600, 4_900].map(kill).to_vec()) }
}

/// Bridges stand still for longer than they may: their actions are ended by the other one.
fn pauses(name: &str) -> Plan {
    let pause = |at_ms, bridge| fault(at_ms, Kind::Bridge(Way::Paused), bridge, 2_300, 1);
    Plan { bridge: hasty, ..games(name, NEAR, vec![pause(500, 0), pause(3_500, 1)]) }
}

fn hasty(bridge: Bridge) -> Bridge {
    bridge.set("action.renew", "500ms").set("action.lapse", "1500ms")
}

/// The stream begins another life while the edges are away: their clients come back with cursors of the former one.
fn recreated(name: &str) -> Plan {
    let faults = vec![
        fault(500, Kind::Edge(Way::Killed), 0, 1_000, 1),
        fault(500, Kind::Edge(Way::Killed), 1, 1_000, 1),
        fault(700, Kind::StreamRecreated, 0, 0, 1),
    ];
    Plan { edge: small_rings, ..plan(name, faults, 0) }
}

/// Runs a plan; what the checker said, in one line and in full.
async fn run(plan: &Plan) -> (Verdict, Vec<String>) {
    let lines = RefCell::new(Vec::new());
    let outcome = chaos::run(plan, &|line| lines.borrow_mut().push(line.to_owned())).await;
    let mut lines = lines.into_inner();
    lines.extend(outcome.troubles.iter().map(|trouble| format!("TROUBLE {trouble}")));
    lines.push(outcome.verdict.to_string());
    (outcome.verdict, lines)
}

/// The bug is found, as any of `found`.
async fn finds(plan: Plan, found: &[Found]) {
    within(LIMIT, async {
        let (verdict, lines) = run(&plan).await;
        println!("{}", lines.join("\n"));
        assert!(!verdict.ok && found.iter().any(|found| found(&verdict) > 0), "not found; logs in {:?}", plan.folder);
        let _left = std::fs::remove_dir_all(&plan.folder);
    })
    .await;
}

/// Nothing is found where there is nothing. Whatever is late there comes: it is waited for, as nothing is lost.
async fn finds_nothing(plan: Plan) {
    let plan = Plan { settle: Duration::from_secs(45), ..plan };
    within(LIMIT, async {
        let (verdict, lines) = run(&plan).await;
        println!("{}", lines.join("\n"));
        assert!(verdict.ok && verdict.deliveries > 0 && verdict.faults > 0, "logs in {:?}", plan.folder);
        let _left = std::fs::remove_dir_all(&plan.folder);
    })
    .await;
}

/// The edges of a plan with a bug.
macro_rules! edges_with {
    ($bug:literal, $plan:expr) => {
        Plan { edge: |edge| small_rings(edge).program("ws-edge-planted").set("planted_bug", $bug), ..$plan($bug) }
    };
}

/// The bridges of a plan with a bug.
macro_rules! bridges_with {
    ($bug:literal, $settings:expr, $plan:expr) => {
        Plan { bridge: |bridge| $settings(bridge).program("gm-bridge-planted").set("planted_bug", $bug), ..$plan($bug) }
    };
}

#[tokio::test]
async fn without_a_bug_nothing_is_found_at_the_doors() {
    finds_nothing(doors("doors")).await;
}

#[tokio::test]
async fn without_a_bug_nothing_is_found_where_nats_dies() {
    finds_nothing(deaths("deaths")).await;
}

#[tokio::test]
async fn without_a_bug_nothing_is_found_where_bridges_pause() {
    finds_nothing(pauses("pauses")).await;
}

#[tokio::test]
async fn without_a_bug_nothing_is_found_in_a_session_alone() {
    finds_nothing(alone("alone")).await;
}

#[tokio::test]
async fn without_a_bug_nothing_is_found_in_another_life() {
    finds_nothing(recreated("recreated")).await;
}

#[tokio::test]
async fn without_a_bug_nothing_is_found_where_a_replica_lags() {
    finds_nothing(edges_with!("lagging-replica", doors)).await;
}

#[tokio::test]
async fn a_resume_that_is_off_by_one_is_found() {
    finds(edges_with!("resume-off-by-one", alone), &[LOST]).await;
}

#[tokio::test]
async fn a_reversed_seam_is_found() {
    finds(edges_with!("seam-reversed", doors), &[REORDERED]).await;
}

#[tokio::test]
async fn an_ignored_epoch_is_found() {
    finds(edges_with!("epoch-ignored", recreated), &[GAPS]).await;
}

#[tokio::test]
async fn a_ring_that_evicts_silently_is_found() {
    finds(edges_with!("ring-evicts-silently", doors), &[LOST]).await;
}

#[tokio::test]
async fn a_wrong_prev_is_found() {
    finds(edges_with!("prev-wrong", doors), &[GAPS]).await;
}

#[tokio::test]
async fn an_event_of_another_session_is_found() {
    finds(edges_with!("another-session", doors), &[FOREIGN]).await;
}

#[tokio::test]
async fn a_duplicate_after_a_reconnect_is_found() {
    finds(edges_with!("duplicate-after-reconnect", doors), &[DOUBLED]).await;
}

#[tokio::test]
async fn a_history_ended_early_is_found() {
    finds(edges_with!("history-ended-early", doors), &[LOST]).await;
}

#[tokio::test]
async fn an_ignored_acknowledgement_is_found() {
    finds(bridges_with!("acknowledgement-ignored", std::convert::identity::<Bridge>, deaths), &[LOST]).await;
}

#[tokio::test]
async fn a_fence_left_out_is_found() {
    finds(bridges_with!("fence-left-out", hasty, pauses), &[REORDERED, DOUBLED]).await;
}

#[tokio::test]
async fn only_the_programs_for_this_test_know_of_bugs() {
    within(Duration::from_secs(30), async {
        for (service, bug) in [("ws-edge", "prev-wrong"), ("gm-bridge", "fence-left-out")] {
            let planted = format!("{service}-planted");
            for (program, bug, fault) in [
                (service, bug, "planted_bug (flag --set planted_bug): unknown key"),
                (&planted, "prev-wrongly", "unknown variant `prev-wrongly`"),
            ] {
                let mut refused = Launch::new(program).set("planted_bug", bug).spawn();
                let status = refused.process().wait(Duration::from_secs(10)).await;
                assert_eq!(status.code(), Some(BAD_CONFIGURATION), "{program}");
                assert!(refused.log().contains(fault), "{}", refused.log());
            }
            assert!(!printed_config(service).contains("planted") && printed_config(&planted).contains("planted_bug"));
        }
    })
    .await;
}
