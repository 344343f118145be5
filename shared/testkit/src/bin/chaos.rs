//! `chaos`: Herald under load while everything fails, and the checker's verdict as the last line.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "it is for people, and without threads there is nothing to do"
)]

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use futures_util::FutureExt as _;
use herald_testkit::{
    chaos::{self, Figures, Outcome, Plan, Verdict, Vitals},
    dice::Dice,
    faults::{Kinds, Schedule},
    process::raise_descriptors,
};
use tokio::signal::unix::{SignalKind, signal};

/// Proves that nothing is lost while processes die and networks fail.
#[derive(Debug, Parser)]
#[command(name = "chaos", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    mix: Mix,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// An edge is killed with all sockets on it, several times: how soon are they back on the other one, and complete?
    Storm {
        /// Sockets: half of them `herald.v1`, a quarter plain, a quarter server-sent events.
        #[arg(long, default_value_t = 2_000)]
        sockets: u32,
        /// How often.
        #[arg(long, default_value_t = 3)]
        times: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Edges and bridges are stopped and started one after the other, under load.
    Roll {
        /// How often each of them.
        #[arg(long, default_value_t = 2)]
        rounds: u32,
        #[command(flatten)]
        common: Common,
    },
    /// For a long time clients come and go and connections break: what every process uses must stay flat.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Mix {
    /// How long it takes, in seconds: one half on one nats-server, one half on a cluster of three.
    #[arg(default_value_t = 600, value_parser = clap::value_parser!(u64).range(20..=86_400))]
    seconds: u64,
    /// Only faults of this kind, such as `edge killed` or `link cut`; may be repeated.
    #[arg(long = "faults", value_name = "KIND")]
    kinds: Vec<Kinds>,
    /// The mean time between two faults, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.4)]
    every: f64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Repeats a run's faults and its load; a fresh one unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// On one nats-server or on a cluster of three. Unless given: the mix on both, the others on one.
    #[arg(long)]
    only: Option<Half>,
    /// Sessions at a time.
    #[arg(long)]
    sessions: Option<u32>,
    /// Clients of each session.
    #[arg(long)]
    clients: Option<u32>,
    /// Events a second in each session, on the arena's path.
    #[arg(long)]
    rate: Option<u32>,
    /// Keep logs here; without, they are in a temporary folder and stay there only where something failed.
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Half {
    One,
    Cluster,
}

/// What a half of a mix takes beside its faults, in seconds, to start and to settle: on one nats-server, on the cluster.
const AROUND: [u64; 2] = [12, 26];
/// KiB that a nats-server may grow by in a soak, beyond what is granted to all: its caches of what it stored.
const NATS_MEMORY: f64 = 32.0 * 1024.0;
/// So many descriptors are enough for the sockets of a storm, each of which passes a proxy.
const DESCRIPTORS: u64 = 20_000;

fn main() -> ExitCode {
    let cli = Cli::parse();
    raise_descriptors(DESCRIPTORS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let handler = |kind| signal(kind).expect("a signal handler");
        let (mut terminate, mut interrupt) = (handler(SignalKind::terminate()), handler(SignalKind::interrupt()));
        // Whatever was started ends with what is dropped here.
        tokio::select! {
            ok = run(&cli) => if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE },
            _ = terminate.recv() => ExitCode::from(143),
            _ = interrupt.recv() => ExitCode::from(130),
        }
    })
}

async fn run(cli: &Cli) -> bool {
    let common = cli.common();
    let seed = common.seed.unwrap_or_else(fresh_seed);
    let name = format!("herald-chaos-{seed}-{}", std::process::id());
    let folder = common.logs.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
    let mut sum: Option<(Verdict, Figures)> = None;
    for plan in cli.plans(seed, &folder) {
        let run = chaos::run(&plan, &|line| println!("{line}"));
        // It has told why; whoever reads the last line is to find a verdict there all the same.
        let Ok(mut outcome) = AssertUnwindSafe(run).catch_unwind().await else {
            println!("logs: {}\n{}", folder.display(), Verdict { seed, ..Verdict::default() });
            return false;
        };
        cli.judge(&mut outcome);
        tell(&outcome, matches!(cli.scenario, Some(Scenario::Soak { .. })));
        sum = Some(match sum {
            Some((verdict, figures)) => (verdict.and(&outcome.verdict), figures.and(&outcome.figures)),
            None => (outcome.verdict, outcome.figures),
        });
    }
    let Some((verdict, figures)) = sum else { return false };
    println!("\n{figures}");
    if verdict.ok && common.logs.is_none() {
        let _left = std::fs::remove_dir_all(&folder);
    } else {
        println!("logs: {}", folder.display());
    }
    println!("{verdict}");
    verdict.ok
}

impl Cli {
    fn common(&self) -> &Common {
        match &self.scenario {
            None => &self.mix.common,
            Some(Scenario::Storm { common, .. } | Scenario::Roll { common, .. } | Scenario::Soak { common, .. }) => {
                common
            }
        }
    }

    fn plans(&self, seed: u64, folder: &Path) -> Vec<Plan> {
        let common = self.common();
        let cluster = common.only == Some(Half::Cluster);
        let place = |cluster| folder.join(if cluster { "cluster" } else { "one" });
        let mut plans = match &self.scenario {
            Some(Scenario::Storm { sockets, times, .. }) => {
                vec![Plan::storm(seed, cluster, *sockets, *times, place(cluster))]
            }
            Some(Scenario::Roll { rounds, .. }) => vec![Plan::roll(seed, cluster, *rounds, place(cluster))],
            Some(Scenario::Soak { minutes, .. }) => {
                vec![Plan::soak(seed, cluster, Duration::from_secs(minutes * 60), place(cluster))]
            }
            None => {
                let halves: Vec<_> = common.only.map_or_else(|| vec![false, true], |_| vec![cluster]);
                let half = self.mix.seconds / halves.len() as u64;
                let every = Duration::from_secs_f64(self.mix.every.clamp(0.1, 3600.0));
                let named: Vec<_> = self.mix.kinds.iter().flat_map(|kinds| &kinds.0).map(|kind| (*kind, 1)).collect();
                let mixed = |cluster| {
                    let length = Duration::from_secs(half.saturating_sub(AROUND[usize::from(cluster)]).max(5));
                    if named.is_empty() {
                        Plan::mixed(seed, cluster, length, every, place(cluster))
                    } else {
                        let schedule = Schedule { seed, length, every, mix: named.clone() };
                        Plan::scheduled(&schedule, cluster, place(cluster))
                    }
                };
                halves.into_iter().map(mixed).collect()
            }
        };
        for load in plans.iter_mut().map(|plan| &mut plan.load) {
            load.sessions = common.sessions.unwrap_or(load.sessions);
            load.clients = common.clients.unwrap_or(load.clients);
            load.rate = common.rate.unwrap_or(load.rate);
            load.gm_sessions = load.gm_sessions.min(load.sessions);
        }
        plans
    }

    /// What a scenario asks beyond the checker's verdict.
    fn judge(&self, outcome: &mut Outcome) {
        if let Some(Scenario::Soak { .. }) = self.scenario {
            let grown = |(name, vitals): (&String, &Vitals)| {
                let more = if name.starts_with("nats") { NATS_MEMORY } else { 0.0 };
                vitals.grown(more).into_iter().map(|what| format!("{name}: {what} not flat")).collect::<Vec<_>>()
            };
            outcome.troubles.extend(outcome.vitals.iter().flat_map(grown));
            outcome.verdict.ok &= outcome.troubles.is_empty();
        }
    }
}

fn tell(outcome: &Outcome, vitals: bool) {
    let (done, chaos::Connections { opened, peak }) = (outcome.tally.done.values().sum::<u64>(), outcome.connections);
    println!(
        "{done} faults done, {} left out; {opened} connections, at most {peak} in a second",
        outcome.tally.left_out
    );
    // Where processes are started again all the time, trends mean nothing.
    for (name, vitals) in outcome.vitals.iter().filter(|_| vitals) {
        for ((what, _), trend) in Vitals::NAMES.iter().zip(vitals.trends()) {
            if let Some(trend) = trend {
                println!("{name:<10} {what:<12} {trend}");
            }
        }
    }
    for trouble in &outcome.troubles {
        println!("TROUBLE {trouble}");
    }
    println!("{}", outcome.verdict.to_string().replacen("VERDICT", "this run:", 1));
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Dice::new(u64::from(since.subsec_nanos()) ^ since.as_secs() ^ u64::from(std::process::id())).any() % 1_000_000
}
