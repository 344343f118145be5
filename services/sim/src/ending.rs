//! Ending a command that has no runtime of its own.

use std::{io, thread};

use tokio::signal::unix::{SignalKind, signal};

/// Ends the process with 0 at SIGTERM or Ctrl-C. The thread that waits for them sleeps until then.
///
/// # Errors
/// Where signals can't be had.
pub fn exit_on_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        std::process::exit(0);
    };
    thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(wait).map(drop)
}
