//! `ws-edge` that sends back what its clients send, for `scripts/conformance` and for nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    herald_runtime::service::main(ws_edge::start)
}
