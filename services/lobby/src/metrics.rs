//! The metrics of the lobby.

use herald_runtime::metrics::{Meanings, zeros};
use http::StatusCode;
use metrics::{counter, gauge};

/// Tells the recorder what they mean, and shows those that have yet to count.
pub(crate) fn describe() {
    MEANINGS.describe();
    zeros("herald_lobby_commits_total", "outcome", &["written", "unchanged", "conflict", "failed"]);
    zeros("herald_lobby_statuses_total", "outcome", &["told", "newer", "failed"]);
    zeros("herald_lobby_swept_total", "what", &["session", "player", "binding", "status"]);
    for name in ["herald_lobby_changes_total", "herald_lobby_events_lost_total"] {
        counter!(name).increment(0);
    }
    for (status, reason) in [("503", "away"), ("503", "busy"), ("504", "unknown"), ("409", "full"), ("429", "sessions")]
    {
        counter!("herald_refusals_total", "status" => status, "reason" => reason).increment(0);
    }
    gauge!("herald_lobby_open_sessions_count").set(0.0);
}

const MEANINGS: Meanings = Meanings {
    counters: &[
        ("herald_lobby_changes_total", "Changes of sessions that were written, each alone or in a group"),
        ("herald_lobby_commits_total", "Groups of changes of a session, by what became of them"),
        ("herald_lobby_events_lost_total", "Events of sessions that were not stored"),
        ("herald_lobby_statuses_total", "Statuses of sessions that were to be told, by what became of them"),
        ("herald_lobby_swept_total", "What crashes or ended eras had left and was put in order, by what it was"),
        ("herald_refusals_total", "Requests answered with an error, by status and reason"),
    ],
    gauges: &[("herald_lobby_open_sessions_count", "Sessions that exist, as of the last sweep")],
    histograms: &[],
};

/// A group of changes was decided.
pub(crate) fn commit(outcome: &'static str) {
    counter!("herald_lobby_commits_total", "outcome" => outcome).increment(1);
}

/// So many changes were written at once.
pub(crate) fn changes(many: usize) {
    counter!("herald_lobby_changes_total").increment(many as u64);
}

/// A status was told, or a newer one was there, or it could not be told.
pub(crate) fn status(outcome: &'static str) {
    counter!("herald_lobby_statuses_total", "outcome" => outcome).increment(1);
}

/// An event was not stored.
pub(crate) fn event_lost() {
    counter!("herald_lobby_events_lost_total").increment(1);
}

/// Something was put in order.
pub(crate) fn swept(what: &'static str) {
    counter!("herald_lobby_swept_total", "what" => what).increment(1);
}

/// So many sessions exist.
pub(crate) fn sessions(many: usize) {
    gauge!("herald_lobby_open_sessions_count").set(many as f64);
}

/// A request was answered with an error of that status, for that reason.
pub(crate) fn refused(status: StatusCode, reason: &'static str) {
    counter!("herald_refusals_total", "status" => status.as_u16().to_string(), "reason" => reason).increment(1);
}
