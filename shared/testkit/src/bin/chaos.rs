//! `chaos`: Herald under load while everything fails, and the checker's verdict as the last line.

#![allow(clippy::print_stdout, reason = "what it says is for people")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use herald_testkit::{
    chaos::{self, Figures, Outcome, Plan, Verdict},
    dice::Dice,
    faults::Kinds,
};
use tokio::signal::unix::{SignalKind, signal};

/// Proves that nothing is lost while processes die and networks fail.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// How long it takes, in seconds: one half on one nats-server, one half on a cluster of three.
    #[arg(default_value_t = 600, value_parser = clap::value_parser!(u64).range(20..=86_400))]
    seconds: u64,
    /// Repeats a run's faults and its load; a fresh one unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only one of the two halves, for the whole time.
    #[arg(long)]
    only: Option<Half>,
    /// Only faults of this kind, such as `edge killed` or `link cut`; may be repeated.
    #[arg(long = "faults", value_name = "KIND")]
    kinds: Vec<Kinds>,
    /// The mean time between two faults, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.4)]
    every: f64,
    /// Sessions at a time.
    #[arg(long, default_value_t = 8)]
    sessions: u32,
    /// Clients of each session.
    #[arg(long, default_value_t = 12)]
    clients: u32,
    /// Keep logs here; without, they are in a temporary folder and stay there only where something failed.
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Half {
    One,
    Cluster,
}

/// Of each half: the time it takes to start, and to settle at the end. What is left is for faults.
const AROUND: u64 = 30;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate()).expect("a signal handler"),
            signal(SignalKind::interrupt()).expect("a signal handler"),
        );
        // Whatever was started ends with what is dropped here.
        tokio::select! {
            ok = run(&arguments) => if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE },
            _ = terminate.recv() => ExitCode::from(143),
            _ = interrupt.recv() => ExitCode::from(130),
        }
    })
}

async fn run(arguments: &Arguments) -> bool {
    let seed = arguments.seed.unwrap_or_else(|| Dice::new(u64::from(std::process::id()) ^ now()).any() % 1_000_000);
    let halves: Vec<_> =
        [Half::One, Half::Cluster].into_iter().filter(|half| arguments.only.is_none_or(|only| only == *half)).collect();
    let length = Duration::from_secs((arguments.seconds / halves.len() as u64).saturating_sub(AROUND).max(5));
    let folder = arguments
        .logs
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("herald-chaos-{seed}-{}", std::process::id())));
    let mut sum: Option<(Verdict, Figures)> = None;
    for half in halves {
        let cluster = half == Half::Cluster;
        let mut plan = Plan::mixed(seed, length, cluster, folder.join(if cluster { "cluster" } else { "one" }));
        plan.every = Duration::from_secs_f64(arguments.every.clamp(0.1, 3600.0));
        plan.load.sessions = arguments.sessions;
        plan.load.clients = arguments.clients;
        if !arguments.kinds.is_empty() {
            plan.mix = arguments.kinds.iter().flat_map(|kinds| kinds.0.iter().map(|kind| (*kind, 1))).collect();
        }
        let outcome = chaos::run(&plan, &|line| println!("{line}")).await;
        tell(&outcome);
        sum = Some(match sum {
            Some((verdict, figures)) => (verdict.and(&outcome.verdict), figures.and(&outcome.figures)),
            None => (outcome.verdict, outcome.figures),
        });
    }
    let Some((verdict, figures)) = sum else { return false };
    println!("\n{figures}");
    if verdict.ok && arguments.logs.is_none() {
        let _left = std::fs::remove_dir_all(&folder);
    } else {
        println!("logs: {}", folder.display());
    }
    println!("{verdict}");
    verdict.ok
}

fn tell(outcome: &Outcome) {
    println!("{} faults done, {} left out", outcome.tally.done.values().sum::<u64>(), outcome.tally.left_out);
    for trouble in &outcome.troubles {
        println!("TROUBLE {trouble}");
    }
    println!("{}", outcome.verdict.to_string().replacen("VERDICT", "this half:", 1));
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::from(since.subsec_nanos()))
}
