//! A cluster whose nodes die, stand still and are rolled under a running game: sockets stay open, and everything arrives once
//! and in order.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed step is a failed test, and its output is for people"
)]

#[path = "cluster/house.rs"]
mod house;

use std::time::{Duration, Instant};

use herald_testkit::{
    game_master::{Answer, PROPOSE, sse},
    within, ws,
};
use serde_json::json;

use crate::house::{Audience, House, SOON, Source};

/// As long as a node stands still: longer than the others wait before they elect another leader.
const FROZEN: Duration = Duration::from_secs(6);
/// No silence is longer, on whatever machine: an election takes up to nine seconds, and more where it is repeated.
const LONGEST: Duration = Duration::from_secs(25);
/// How often the Game Master speaks.
const TOKEN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    FollowerKilled,
    LeaderKilled,
    MetaLeaderKilled,
    LeaderSteppedDown,
    LeaderFrozen,
    FollowerFrozen,
    NodesRolled,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::FollowerKilled,
        Self::LeaderKilled,
        Self::MetaLeaderKilled,
        Self::LeaderSteppedDown,
        Self::LeaderFrozen,
        Self::FollowerFrozen,
        Self::NodesRolled,
    ];

    /// Does it, and returns when it is over, a killed node still missing: that one's number.
    async fn happen(self, house: &mut House) -> Option<usize> {
        let cluster = &mut house.cluster;
        let leader = cluster.wait_leader("EVENTS").await;
        let node = match self {
            Self::LeaderKilled | Self::LeaderFrozen | Self::LeaderSteppedDown | Self::NodesRolled => leader,
            Self::FollowerKilled | Self::FollowerFrozen => (leader + 1) % 3,
            Self::MetaLeaderKilled => cluster.meta_leader().await.expect("the cluster's own leader"),
        };
        match self {
            Self::FollowerKilled | Self::LeaderKilled | Self::MetaLeaderKilled => {
                cluster.servers[node].kill().await;
                return Some(node);
            }
            Self::LeaderSteppedDown => assert!(cluster.step_down("EVENTS").await),
            Self::LeaderFrozen | Self::FollowerFrozen => {
                cluster.servers[node].freeze().await;
                // Who comes now reads history, and a third of what it asks goes to the node that stands still.
                let late = join_late(&house.edges).await;
                tokio::time::sleep(FROZEN.saturating_sub(late)).await;
                house.cluster.servers[node].thaw();
            }
            Self::NodesRolled => {
                for node in 0..3 {
                    cluster.servers[node].stop().await;
                    cluster.servers[node].resume().await;
                    cluster.wait_healthy(SOON).await;
                }
            }
        }
        None
    }
}

/// A client that comes late gets the whole past; how long that took.
async fn join_late(edges: &[herald_testkit::Service]) -> Duration {
    let began = Instant::now();
    for edge in edges {
        let late = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        let past = late.wait_events(100, SOON).await;
        let numbers: Vec<_> = past.iter().filter_map(|frame| frame.data()["n"].as_u64()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        late.check_order();
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_node_dies_a_session_goes_on_whole() {
    within(Duration::from_secs(230), async {
        let mut house = House::start().await;
        let tokens = (0..3000)
            .fold(Answer::sse(), |answer, k| answer.send(sse([json!({"type": "llm_text", "k": k})])).pause(TOKEN));
        house.gm.on(PROPOSE, [tokens]);
        house.edges[0].get("/api/start?session_id=G").await.expect_status(200);
        let game = ws::Client::connect(&house.edges[1].ws("/ws/G?after=0"), ws::V1).await;
        house.edges[0].get("/api/propose?session_id=G").await.expect_status(202);
        let source = Source::start(&house.cluster, "S").await;
        let audience = Audience::open(&house, "S").await;
        source.go_on(120).await;

        for fault in Fault::ALL {
            house.cluster.wait_healthy(SOON).await;
            let began = Instant::now();
            let missing = fault.happen(&mut house).await;
            source.go_on(25).await;
            let pause = audience.longest_pause(began);
            println!("{fault:?}: longest pause {pause:.2?}, load {}", load());
            assert!(pause < LONGEST, "{fault:?}: {pause:?}");
            if let Some(node) = missing {
                house.cluster.servers[node].resume().await;
            }
        }

        let stored = source.stop().await;
        audience.check_complete(stored).await;
        // The command is answered again, too, and is the first that the action hears of all this.
        herald_testkit::http::post(&house.edges[0].http("/api/cancel?session_id=G")).await.expect_status(200);
        let end = game.wait_for("the end", SOON, |frame| frame.event() == "gm.error").await;
        assert_eq!(end.data(), &json!({"error": "Cancelled"}), "no bridge was given up: {}", end.text);
        game.check_order();
        let ks: Vec<_> = game.events().iter().filter_map(|frame| frame.data()["k"].as_u64()).collect();
        assert_eq!(ks, (0..ks.len() as u64).collect::<Vec<_>>());
        assert!(ks.len() > 100, "it went on: {}", ks.len());
        assert_eq!(house.gm.asked(PROPOSE).len(), 1);
        house.check_running();
    })
    .await;
}

/// What else this machine does, for whoever reads the figures.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
