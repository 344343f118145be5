//! The gm-bridge process.

use std::process::ExitCode;

fn main() -> ExitCode {
    herald_runtime::service::main(gm_bridge::start)
}
