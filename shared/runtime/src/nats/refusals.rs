//! What the server refuses for want of rights: counted, said now and then with what to do, and shown where the service can do
//! nothing without it.
//!
//! The server tells a connection of it beside everything else; who published or subscribed only hears nothing. So this is the
//! place that knows why.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Event, ServerError};
use herald_protocol::subject::{ARENA, GM};
use tokio::time::Instant;

/// How often a connection's refusals are logged at most; those between are counted in the next line.
const QUIET: Duration = Duration::from_secs(10);
/// How long a refused publish is held against the connection's health: those that matter are repeated sooner.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The refusals of one connection.
#[derive(Debug)]
pub(super) struct Refusals {
    connection: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first subscription refused since the connection was made: it stays so until the next connection.
    deaf: Option<String>,
    /// The last publish refused that the service can't do without.
    mute: Option<(Instant, String)>,
    logged: Option<Instant>,
    unlogged: u64,
}

/// What a user may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal<'a> {
    operation: &'static str,
    subject: &'a str,
}

impl Refusals {
    pub(super) fn new(connection: &'static str) -> Self {
        for operation in ["publish", "subscribe"] {
            metrics::counter!("herald_nats_refused_total", "connection" => connection, "operation" => operation)
                .increment(0);
        }
        Self { connection, state: Mutex::default() }
    }

    /// Takes in what the library reports; true if it was a refusal, or ends what was refused before.
    pub(super) fn note(&self, event: &Event) -> bool {
        match event {
            // Everything is subscribed to again, perhaps with other rights.
            Event::Connected => {
                self.state.lock().unwrap_or_else(PoisonError::into_inner).deaf = None;
                false
            }
            Event::ServerError(ServerError::Other(text)) => match Refusal::parse(text) {
                Some(refusal) => {
                    self.refused(refusal);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// Why the service can't do its work over this connection, if that is so; for `/readyz`.
    pub(super) fn fault(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subject) = &state.deaf {
            return Some(format!("the NATS user may not subscribe to {subject}"));
        }
        let mute = state.mute.as_ref().filter(|(at, _)| at.elapsed() < REMEMBERED);
        mute.map(|(_, subject)| format!("the NATS user may not publish to {subject}"))
    }

    fn refused(&self, refusal: Refusal<'_>) {
        let Refusal { operation, subject } = refusal;
        let connection = self.connection;
        metrics::counter!("herald_nats_refused_total", "connection" => connection, "operation" => operation)
            .increment(1);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if operation == "subscribe" {
            state.deaf.get_or_insert_with(|| subject.to_owned());
        } else if refusal.essential() {
            state.mute = Some((Instant::now(), subject.to_owned()));
        }
        if state.logged.is_some_and(|at| at.elapsed() < QUIET) {
            state.unlogged += 1;
            return;
        }
        state.logged = Some(Instant::now());
        let others = std::mem::take(&mut state.unlogged);
        drop(state);
        tracing::error!(
            connection,
            operation,
            subject,
            others,
            "NATS refuses it: the user lacks the right; give it those of nats/users.conf, or connect as the right user"
        );
    }
}

impl<'a> Refusal<'a> {
    /// Reads the server's words: `Permissions Violation for Publish to "x"`, `... for Subscription to "x" using queue "y"`.
    fn parse(text: &'a str) -> Option<Self> {
        let (_, what) = text.split_once("Permissions Violation for ")?;
        let operation = if what.starts_with("Subscription") { "subscribe" } else { "publish" };
        let subject = what.split('"').nth(1)?;
        Some(Self { operation, subject })
    }

    /// Whether nothing goes on without it: requests to JetStream, records, events. Not so an answer to whoever asked from a
    /// place of his choice, nor a forward to a service that clients name by their path: they must not be able to make a
    /// service look broken.
    fn essential(self) -> bool {
        let first = self.subject.split('.').next().unwrap_or_default();
        matches!(first, "$JS" | "$KV" | GM | ARENA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Event {
        Event::ServerError(ServerError::Other(text.to_owned()))
    }

    #[test]
    fn the_server_s_words_are_understood() {
        let read = |text| Refusal::parse(text).map(|refusal| (refusal.operation, refusal.subject));
        assert_eq!(read("Permissions Violation for Publish to \"gm.s.x\""), Some(("publish", "gm.s.x")));
        let queue = "Permissions Violation for Subscription to \"http.gm\" using queue \"gm\"";
        assert_eq!(read(queue), Some(("subscribe", "http.gm")));
        for other in ["maximum payload exceeded", "", "Permissions Violation for Publish to nothing"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_service_can_not_do_without_is_its_health() {
        let refusals = Refusals::new("nats");
        assert!(!refusals.note(&error("slow consumer")));
        for harmless in ["http.dice", "_INBOX.somebody.x", "anywhere"] {
            assert!(refusals.note(&error(&format!("Permissions Violation for Publish to \"{harmless}\""))));
            assert_eq!(refusals.fault(), None, "{harmless}");
        }
        refusals.note(&error("Permissions Violation for Publish to \"$JS.API.STREAM.INFO.EVENTS\""));
        let fault = refusals.fault().expect("without the stream nothing goes on");
        assert!(fault.contains("publish to $JS.API.STREAM.INFO.EVENTS"), "{fault}");
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(refusals.fault(), None, "not repeated: somebody has given it the right");

        refusals.note(&error("Permissions Violation for Subscription to \"edge.watching.*\""));
        tokio::time::advance(REMEMBERED * 100).await;
        assert!(refusals.fault().expect("it hears nothing").contains("subscribe to edge.watching.*"));
        refusals.note(&Event::Connected);
        assert_eq!(refusals.fault(), None, "subscribed to again");
    }
}
