//! `ws-edge` with a bug, by the key `planted_bug`: for tests of the checker, and for nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    herald_runtime::service::main(ws_edge::start)
}
