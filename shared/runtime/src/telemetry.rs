//! Logs: for people on a terminal, JSON elsewhere, always on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Fault, LogConfig, LogFormat};

/// The NATS library logs each of its events at `info`; what matters of them is logged by [`crate::nats`].
const QUIET: [(&str, &str); 1] = [("async_nats", "async_nats=warn")];

/// Starts logging for the whole process and sends panics there too. A second call changes nothing.
///
/// # Errors
/// If the filter can't be understood.
pub fn init(config: &LogConfig) -> Result<(), Fault> {
    let filter = filter(&config.filter)?;
    let terminal = std::io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let first = if json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
    if first.is_ok() {
        log_panics();
    }
    Ok(())
}

/// The filter of these directives; the quiet targets stay so unless they are named.
fn filter(directives: &str) -> Result<EnvFilter, Fault> {
    let mut directives = directives.trim().to_owned();
    for (target, directive) in QUIET {
        if !directives.contains(target) {
            directives = format!("{directive},{directives}");
        }
    }
    EnvFilter::try_new(directives).map_err(|error| Fault::new("log.filter", error.to_string()))
}

/// What is wrong with the log's configuration.
pub(crate) fn faults(config: &LogConfig) -> Vec<Fault> {
    filter(&config.filter).err().into_iter().collect()
}

/// A panic becomes a log line like any other: in JSON, one object, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current().name().map(str::to_owned);
        let trace = std::backtrace::Backtrace::capture();
        tracing::error!(message = panic.payload_as_str().unwrap_or("panic"), place, thread, %trace, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_quiet_unless_named() {
        assert!(filter("info").expect("valid").to_string().contains("async_nats=warn"));
        assert!(!filter("info,async_nats=debug").expect("valid").to_string().contains("async_nats=warn"));
    }

    #[test]
    fn a_bad_filter_is_a_fault() {
        let config = LogConfig { filter: "ws_edge=loud".to_owned(), ..LogConfig::default() };
        assert_eq!(faults(&config)[0].key, "log.filter");
        assert!(faults(&LogConfig::default()).is_empty());
    }
}
