//! Everything at once: a house under load, faults by seed, and a checker that misses nothing.
//!
//! A [`Plan`] is data. [`run`] builds its house, starts `sim check` on it, does the faults while telling the checker of each,
//! looks after the house, and returns what the checker made of it, with what went wrong beside: a process that died unasked, a
//! part that did not become ready again, a panic in a log.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    faults::{Injector, Kind, Mark, Schedule, Tally},
    house::{Blueprint, House},
};
use checker::Checker;
pub use figures::{Figures, Lengths};
pub use verdict::Verdict;

mod checker;
mod figures;
mod verdict;

/// Lines for people.
pub type Say<'a> = &'a dyn Fn(&str);

/// How long the load runs before the first fault, and how long behind the last one.
const CALM: Duration = Duration::from_secs(3);
/// Marks on their way to the checker.
const MARKS: usize = 1024;

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all chance comes from.
    pub seed: u64,
    /// How long faults are done.
    pub length: Duration,
    /// On the cluster, or on one nats-server.
    pub cluster: bool,
    /// The mean time from one fault to the next.
    pub every: Duration,
    /// Which faults, and how often each of them comes, in proportion.
    pub mix: Vec<(Kind, u32)>,
    /// Who watches and speaks.
    pub load: Load,
    /// The edges' `drain.period`, in seconds.
    pub drain: u32,
    /// Where logs are kept.
    pub folder: PathBuf,
    /// The checker in place of `sim`: a program with the same flags and output.
    pub checker: Option<PathBuf>,
}

/// The load: flags of `sim check`.
#[derive(Clone, Debug)]
pub struct Load {
    /// Sessions at a time.
    pub sessions: u32,
    /// Clients of each.
    pub clients: u32,
    /// Events a second of each, on the arena's path.
    pub rate: u32,
    /// Of the sessions those with a Game Master.
    pub gm_sessions: u32,
    /// Further flags.
    pub more: Vec<String>,
}

impl Plan {
    /// Mixed faults, about one each 1.5 s.
    #[must_use]
    pub fn mixed(seed: u64, length: Duration, cluster: bool, folder: PathBuf) -> Self {
        let load = Load { sessions: 8, clients: 12, rate: 20, gm_sessions: 3, more: Vec::new() };
        let every = Duration::from_millis(1_500);
        Self { seed, length, cluster, every, mix: mix(cluster), load, drain: 3, folder, checker: None }
    }

    fn blueprint(&self) -> Blueprint {
        let drain = self.drain;
        Blueprint {
            cluster: self.cluster,
            edges: 2,
            bridges: 2,
            gms: 2,
            games: 3,
            edge: Box::new(move |edge| edge.set("drain.period", format!("{drain}s"))),
            // A cut choose does not run on in a stand-in that tells numbers, and its sessions are short.
            bridge: Box::new(|bridge| bridge.set("gm.cut_choose", "0s")),
            gm: Box::new(|gm| gm),
            folder: self.folder.clone(),
        }
    }
}

/// How often each kind comes.
fn mix(cluster: bool) -> Vec<(Kind, u32)> {
    use crate::faults::{Harm::*, Kind::*, Link::*, Way::*};
    let mut mix = vec![
        (Edge(Killed), 14),
        (Edge(Stopped), 4),
        (Edge(Paused), 5),
        (Bridge(Killed), 10),
        (Bridge(Stopped), 4),
        (Bridge(Paused), 5),
        (Gm(Killed), 5),
        (Gm(Paused), 2),
    ];
    for link in [EdgeNats, BridgeNats, BridgeGm, ClientEdge] {
        mix.extend([
            (Link(link, Delayed), 3),
            (Link(link, Cut), 4),
            (Link(link, HalfOpen), 3),
            (Link(link, Trickling), 2),
        ]);
    }
    mix.extend(if cluster {
        vec![
            (Node(Killed), 5),
            (Node(Stopped), 2),
            (Node(Paused), 4),
            (LeaderKilled, 7),
            (NodesRolled, 1),
            (QuorumLost, 1),
        ]
    } else {
        vec![(Nats(Killed), 6), (Nats(Stopped), 2), (Nats(Paused), 4)]
    });
    mix
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The checker's, failed where there were troubles.
    pub verdict: Verdict,
    /// What the checker measured.
    pub figures: Figures,
    /// The faults done.
    pub tally: Tally,
    /// What went wrong beside.
    pub troubles: Vec<String>,
    /// Where the logs are.
    pub folder: PathBuf,
}

/// Runs a plan to its end. Dropped before that, everything that it started ends.
///
/// # Panics
/// If the house can't be built.
pub async fn run(plan: &Plan, say: Say<'_>) -> Outcome {
    let place = if plan.cluster { "a cluster of three nats-servers" } else { "one nats-server" };
    say(&format!("{place}, seed {}, {:?} of faults; logs in {}", plan.seed, plan.length, plan.folder.display()));
    std::fs::create_dir_all(&plan.folder).expect("a folder for logs");
    let house = Arc::new(House::start(&plan.blueprint()).await);
    let (marks, told) = mpsc::channel(MARKS);
    let checker = Checker::start(plan, &house, told);
    let work = async {
        let (tally, judged) = tokio::join!(inject(plan, &house, marks), checker.finish(say));
        (tally, judged)
    };
    let (tally, judged) = tokio::select! {
        done = work => done,
        () = house.watch() => unreachable!("it looks after the house for ever"),
    };
    let mut troubles = house.troubles();
    troubles.extend(house.panics());
    let (mut verdict, figures) = judged.unwrap_or_else(|why| {
        troubles.push(why);
        (Verdict { seed: plan.seed, ..Verdict::default() }, Figures::default())
    });
    verdict.ok &= troubles.is_empty();
    Outcome { verdict, figures, tally, troubles, folder: plan.folder.clone() }
}

/// Does the faults between two times of calm; the marks end with it.
async fn inject(plan: &Plan, house: &Arc<House>, marks: mpsc::Sender<Mark>) -> Tally {
    let schedule = Schedule { seed: plan.seed, length: plan.length, every: plan.every, mix: plan.mix.clone() };
    tokio::time::sleep(CALM).await;
    let tally = Injector::new(house.clone(), marks).run(schedule.faults()).await;
    tokio::time::sleep(CALM).await;
    tally
}
