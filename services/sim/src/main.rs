//! Entry point: arguments, logs, signals, exit code.

#![allow(clippy::print_stderr, reason = "the last word of a program that could not start")]

use std::process::ExitCode;

use clap::Parser;
use sim::cli::{Cli, run};

/// The exit code of a bad command line, as Herald's services have it (`EX_USAGE` of sysexits).
const BAD_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no faults. A closed pipe is nobody to tell.
            let _told = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
