//! The lobby process.

use std::process::ExitCode;

fn main() -> ExitCode {
    herald_runtime::service::main(lobby::start)
}
