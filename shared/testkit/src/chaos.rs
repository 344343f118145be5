//! Everything at once: a house under load, faults by seed, and a checker that misses nothing.
//!
//! A [`Plan`] is data. [`run`] builds its house, starts `sim check` on it, does the faults while telling the checker of each,
//! looks after the house, and returns what the checker made of it, with what went wrong beside: a process that died unasked, a
//! part that did not become ready again, a panic in a log.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::{
    Bridge, Edge, SimGm,
    faults::{Fault, Injector, Mark, Tally},
    house::{Blueprint, House},
    users,
};
use checker::Checker;
pub use figures::{Figures, Lengths};
use meter::measure;
pub use meter::{Connections, Trend, Vitals};
pub use scenarios::mix;
pub use verdict::Verdict;

mod checker;
mod figures;
mod meter;
mod scenarios;
mod verdict;

/// Lines for people.
pub type Say<'a> = &'a dyn Fn(&str);

/// How long sessions may take to begin, and how often it is looked whether they have.
const BEGIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// Marks on their way to the checker.
const MARKS: usize = 1024;

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all chance comes from.
    pub seed: u64,
    /// On the cluster, or on one nats-server.
    pub cluster: bool,
    /// What is done, in the order of its moments.
    pub faults: Vec<Fault>,
    /// Who watches and speaks.
    pub load: Load,
    /// The edges' `drain.period`, in seconds.
    pub drain: u32,
    /// Further settings of each edge.
    pub edge: fn(Edge) -> Edge,
    /// Further settings of each bridge.
    pub bridge: fn(Bridge) -> Bridge,
    /// Further settings of each Game Master.
    pub gm: fn(SimGm) -> SimGm,
    /// How long the load runs before the first fault, and how long behind the last one.
    pub calm: Duration,
    /// Whether the first fault also waits until every session and every game has begun.
    pub after_begin: bool,
    /// How long the sessions may take to become quiet behind the last fault.
    pub settle: Duration,
    /// How often what processes use is sampled.
    pub sample: Duration,
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
    fn blueprint(&self) -> Blueprint {
        let Self { drain, edge, bridge, gm, .. } = *self;
        Blueprint {
            cluster: self.cluster,
            edges: 2,
            bridges: 2,
            gms: 2,
            games: 3,
            edge: Box::new(move |it| edge(it.set("drain.period", format!("{drain}s")))),
            // A cut choose does not run on in a stand-in that tells numbers, and its sessions are short.
            bridge: Box::new(move |it| bridge(it.set("gm.cut_choose", "0s"))),
            gm: Box::new(gm),
            folder: self.folder.clone(),
        }
    }
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
    /// Connections that clients opened.
    pub connections: Connections,
    /// What each process used, by name; those that were started again have several lives in it.
    pub vitals: BTreeMap<String, Vitals>,
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
    let (seed, count) = (plan.seed, plan.faults.len());
    say(&format!("{place}, seed {seed}, {count} faults to come; logs in {}", plan.folder.display()));
    std::fs::create_dir_all(&plan.folder).expect("a folder for logs");
    let house = Arc::new(House::start(&plan.blueprint()).await);
    let (marks, told) = mpsc::channel(MARKS);
    let checker = Checker::start(plan, &house, told);
    let mut seen = Default::default();
    let (tally, judged) = tokio::select! {
        done = async { tokio::join!(inject(plan, &house, marks), checker.finish(say)) } => done,
        () = async { tokio::join!(house.watch(), measure(&house, plan, &mut seen)); } => unreachable!("for ever"),
    };
    let (connections, vitals) = seen;
    let mut troubles = house.troubles();
    troubles.extend(house.panics());
    let (mut verdict, figures) = judged.unwrap_or_else(|why| {
        troubles.push(why);
        (Verdict { seed: plan.seed, ..Verdict::default() }, Figures::default())
    });
    verdict.ok &= troubles.is_empty();
    Outcome { verdict, figures, tally, connections, vitals, troubles, folder: plan.folder.clone() }
}

/// Waits until every session has events of an arena, and as many as play of a Game Master. What keeps them from it for
/// longer is the checker's to find.
async fn begun(house: &House, load: &Load) {
    let heard = async || {
        let jetstream = async_nats::jetstream::new(users::connect(&house.nats_url).await.ok()?);
        let mut subjects = jetstream.get_stream("EVENTS").await.ok()?.info_with_subjects(">").await.ok()?;
        let (mut arenas, mut games) = (BTreeSet::new(), BTreeSet::new());
        while let Some(Ok((subject, _))) = subjects.next().await {
            match subject.splitn(3, '.').collect::<Vec<_>>()[..] {
                ["arena", session, _] => arenas.insert(session.to_owned()),
                // Names with `_` are formed by bridges.
                ["gm", session, topic] if !topic.starts_with('_') => games.insert(session.to_owned()),
                _ => false,
            };
        }
        Some((arenas.len(), games.len()))
    };
    let (sessions, games) = (load.sessions as usize, load.gm_sessions as usize);
    let since = Instant::now();
    while since.elapsed() < BEGIN && heard().await.is_none_or(|heard| heard.0 < sessions || heard.1 < games) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Does the faults between two times of calm; the marks end with it.
async fn inject(plan: &Plan, house: &Arc<House>, marks: mpsc::Sender<Mark>) -> Tally {
    tokio::time::sleep(plan.calm).await;
    if plan.after_begin {
        begun(house, &plan.load).await;
    }
    let tally = Injector::new(house.clone(), marks).run(plan.faults.clone()).await;
    tokio::time::sleep(plan.calm).await;
    tally
}
