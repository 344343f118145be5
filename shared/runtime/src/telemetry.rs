//! Logs: for people on a terminal, JSON elsewhere, always on standard error.
//!
//! A record is one line, whatever it tells of: characters that end a line, move a cursor or turn the writing around are
//! written as escapes. Most of what is logged came from somebody else.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
};

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
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(terminal);
    let first = if json {
        lines.json().flatten_event(true).with_writer(|| PlainJson(io::stderr())).try_init()
    } else {
        lines.fmt_fields(PlainFields).with_writer(io::stderr).try_init()
    };
    if first.is_ok() {
        log_panics();
    }
    Ok(())
}

/// Whether a terminal would obey a character instead of showing it.
fn is_obeyed(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Fields as the library writes them, without what would be obeyed.
#[derive(Debug)]
struct PlainFields;

impl<'writer> FormatFields<'writer> for PlainFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        for char in text.chars() {
            if is_obeyed(char) {
                write!(writer, "{}", char.escape_default())?;
            } else {
                writer.write_char(char)?;
            }
        }
        Ok(())
    }
}

/// Records in JSON, which escapes what ends a line, but not all that a terminal obeys.
struct PlainJson<W>(W);

impl<W: io::Write> io::Write for PlainJson<W> {
    /// Takes a whole record at once, as the library writes it.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(record) {
            Ok(text) if text.contains(|char| char != '\n' && is_obeyed(char)) => {
                let escaped = text.chars().fold(String::with_capacity(text.len() + 16), |mut escaped, char| {
                    if char != '\n' && is_obeyed(char) {
                        // All of them are below U+10000.
                        escaped.push_str(&format!("\\u{:04x}", u32::from(char)));
                    } else {
                        escaped.push(char);
                    }
                    escaped
                });
                self.0.write_all(escaped.as_bytes())?;
            }
            _ => self.0.write_all(record)?,
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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

    const ODD: &str = "a\r\n\t\u{1b}[2J\u{7f}\u{9b}m\u{85}\u{2028}\u{202e}\u{2066}\0é🎲";

    #[test]
    fn what_a_terminal_would_obey_is_written_as_an_escape() {
        let mut written = Vec::new();
        let record = format!("{{\"message\":{},\"odd\":\"\u{9b}\u{202e}\"}}\n", serde_json::json!(ODD));
        assert_eq!(io::Write::write(&mut PlainJson(&mut written), record.as_bytes()).expect("written"), record.len());
        let line = String::from_utf8(written).expect("text");
        assert!(!line.trim_end_matches('\n').contains(is_obeyed), "{line:?}");
        let read: serde_json::Value = serde_json::from_str(&line).expect("still JSON");
        assert_eq!((read["message"].as_str(), read["odd"].as_str()), (Some(ODD), Some("\u{9b}\u{202e}")));
    }

    #[derive(Clone, Default)]
    struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_is_one_line_whatever_its_fields_hold() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Odd(&'static str, #[source] Option<Box<Odd>>);
        let kept = Kept::default();
        let writer = kept.clone();
        let log =
            tracing_subscriber::fmt().fmt_fields(PlainFields).with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(log.finish(), || {
            let _span = tracing::info_span!("session", id = %ODD).entered();
            let error = Odd(ODD, Some(Odd(ODD, None).into()));
            tracing::info!(text = ODD, shown = %ODD, debug = ?ODD, error = &error as &dyn std::error::Error, "all of {ODD}");
        });
        let line = String::from_utf8(kept.0.lock().expect("not poisoned").clone()).expect("text");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.trim_end_matches('\n').contains(is_obeyed), "{line:?}");
        assert!(line.contains("shown=a\\r\\n\\t\\u{1b}[2J") && line.contains("error.sources=["), "{line}");
    }

    #[test]
    fn a_bad_filter_is_a_fault() {
        let config = LogConfig { filter: "ws_edge=loud".to_owned(), ..LogConfig::default() };
        assert_eq!(faults(&config)[0].key, "log.filter");
        assert!(faults(&LogConfig::default()).is_empty());
    }
}
