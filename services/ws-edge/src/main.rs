//! `ws-edge`: the public door of Herald.

use std::process::ExitCode;

fn main() -> ExitCode {
    herald_runtime::service::main(ws_edge::start)
}
