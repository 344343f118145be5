//! `ws-edge`: the public door of Herald.

use std::process::ExitCode;

/// The edge makes and frees a few small things for every event: a quarter of its CPU where all of them are watched, with the
/// system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    herald_runtime::service::main(ws_edge::start)
}
