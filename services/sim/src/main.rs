//! Entry point: arguments, logs, signals, exit code.

#![allow(clippy::print_stderr, reason = "the last word of a program that could not start")]

use std::process::ExitCode;

use clap::Parser;
use sim::cli::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
