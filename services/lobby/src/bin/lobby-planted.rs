//! `lobby` that dies where it is told to, by the key `planted_bug`: for tests, and for nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    herald_runtime::service::main(lobby::start)
}
