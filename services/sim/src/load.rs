//! A load on a door, and what it costs.
//!
//! Events are published to NATS by one thread, over a plain connection of its own (`publisher`); they come back over many
//! WebSockets, which one thread (or a few) reads (`reader`, `link`). Every event says whose it is, which one it is and
//! when it was published, at places that are always the same (`payload`), so that every delivery is judged, at some 50 ns
//! each (`hearing`, `judge`): its session, its number, its latency. The CPU and the memory of the server's processes are
//! read from `/proc` (`process`): its CPU from the end of the warm-up to the last delivery.
//!
//! A run: connect all clients; publish probes, which are not counted, until each client heard one; publish for the warm-up
//! and the time asked for; wait for what is missing, as long as anything comes; judge.

mod gauges;
mod hearing;
mod judge;
mod link;
mod options;
mod payload;
mod process;
mod progress;
mod publisher;
mod reader;
mod report;
mod run;

use std::process::ExitCode;

use anyhow::Result;

pub use options::{LoadOptions, Protocol};
pub use report::{Faults, Report};

/// Runs one load and prints what came of it. 1 where an event was lost, doubled, out of order or foreign.
///
/// # Errors
/// Where a client can't connect, NATS can't be reached, or a process is not there.
#[allow(clippy::print_stdout, reason = "the result is what it is for")]
pub fn run(options: &LoadOptions) -> Result<ExitCode> {
    let report = run::measure(options)?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
