//! The metrics of gm-bridge.

use std::time::Duration;

use herald_runtime::metrics::{Meanings, zeros};
use metrics::{Gauge, counter, gauge, histogram};

/// Tells the recorder what they mean, and shows those that have yet to count.
pub(crate) fn describe() {
    MEANINGS.describe();
    for (name, label, values) in ZEROS {
        zeros(name, label, values);
    }
    for name in [
        "herald_actions_lapsed_total",
        "herald_actions_lost_total",
        "herald_batched_events_total",
        "herald_batches_published_total",
        "herald_commands_over_quota_total",
        "herald_events_published_total",
        "herald_gm_events_total",
        "herald_gm_heartbeats_total",
        "herald_gm_received_bytes_total",
        "herald_messages_purged_total",
        "herald_sessions_purged_total",
    ] {
        counter!(name).increment(0);
    }
    let _shown = histogram!("herald_publish_seconds");
    for request in ["start", "state", "propose", "choose"] {
        let _shown = histogram!("herald_gm_request_seconds", "request" => request, "outcome" => "ok");
    }
    for request in ["propose", "choose"] {
        for name in ["herald_gm_first_event_seconds", "herald_gm_stream_seconds"] {
            let _shown = histogram!(name, "request" => request);
        }
    }
    for name in ["herald_actions_open_count", "herald_actions_running_count", "herald_gm_streams_count"] {
        gauge!(name).set(0.0);
    }
}

/// What is of interest before it has ever happened, with each value of its label.
const ZEROS: &[(&str, &str, &[&str])] = &[
    ("herald_actions_total", "kind", &["start", "propose", "choose", "cancel", "lost"]),
    ("herald_arena_inits_total", "cause", &["new", "silent"]),
    ("herald_news_total", "outcome", &["published", "dropped", "failed"]),
    ("herald_starts_total", "outcome", &["started", "refused", "unreachable", "unavailable"]),
    ("herald_watch_counted_anew_total", "reason", &["disconnected", "halted", "unanswered", "not_watched"]),
    (
        "herald_stream_failures_total",
        "reason",
        &[
            "no_game",
            "stopped",
            "too_large",
            "quota",
            "unreachable",
            "status",
            "not_events",
            "silent",
            "broke_off",
            "ended",
        ],
    ),
    ("herald_publish_retries_total", "reason", &["timeout", "no_responders", "write_under_way", "failed", "refused"]),
    ("herald_skipped_events_total", "reason", &["not_json", "not_redactable"]),
];

const MEANINGS: Meanings = Meanings {
    counters: &[
        ("herald_actions_lapsed_total", "Actions that gave no sign of life for too long, as this bridge saw it"),
        ("herald_actions_lost_total", "Actions of other bridges that this one ended, as their bridge was gone"),
        ("herald_actions_total", "Actions claimed, by kind"),
        ("herald_arena_inits_total", "Times that the arena engine was told of a session, by cause: new, silent"),
        ("herald_batched_events_total", "Events that were stored as parts of batches"),
        ("herald_batches_published_total", "Batches stored"),
        ("herald_commands_over_quota_total", "Commands refused because the session's quota is used up"),
        ("herald_events_published_total", "Events stored"),
        ("herald_gm_events_total", "Events of Game Masters' streams"),
        ("herald_gm_heartbeats_total", "Heartbeats of Game Masters' streams"),
        ("herald_gm_received_bytes_total", "Bytes of the data of Game Masters' streams"),
        ("herald_messages_purged_total", "Messages of removed sessions"),
        ("herald_news_total", "News handed in, by outcome: published, dropped, failed"),
        ("herald_publish_retries_total", "Messages that had to be published again, by what became of the last try"),
        ("herald_refusals_total", "Requests answered with an error, by status"),
        ("herald_sessions_purged_total", "Sessions removed"),
        ("herald_skipped_events_total", "Events of Game Masters that were left out, by reason"),
        ("herald_starts_total", "Starts, by outcome: started, refused, unreachable, unavailable"),
        ("herald_stream_failures_total", "Streams of actions that did not come to their own end, by reason"),
        ("herald_watch_counted_anew_total", "Times that the silence of other bridges proved nothing, by reason"),
    ],
    gauges: &[
        ("herald_actions_open_count", "Actions open on all bridges"),
        ("herald_actions_running_count", "Actions that run in this bridge"),
        ("herald_game_master_up_count", "1 while a Game Master answers, by its number in gm.base_urls"),
        ("herald_gm_streams_count", "Streams of Game Masters that are open here"),
    ],
    histograms: &[
        ("herald_gm_first_event_seconds", "From a request for a stream to its first event, by request"),
        (
            "herald_gm_request_seconds",
            "From a request to a Game Master to its answer (of a stream: its head), by request and outcome",
        ),
        ("herald_gm_stream_seconds", "From a request for a stream to that stream's end, by request"),
        ("herald_publish_seconds", "From messages that are to be stored, one or a batch, to their acknowledgement"),
    ],
};

/// A start was answered; `outcome` is `started`, `refused`, `unreachable` (the Game Master) or `unavailable`.
pub(crate) fn start(outcome: &'static str) {
    counter!("herald_starts_total", "outcome" => outcome).increment(1);
}

/// `arena.init` was sent; `cause` is `new` for a session's first, `silent` where the engine was told again.
pub(crate) fn arena_init(cause: &'static str) {
    counter!("herald_arena_inits_total", "cause" => cause).increment(1);
}

/// News were handed in; `outcome` is `published`, `dropped` (of a game that is over) or `failed`.
pub(crate) fn news(outcome: &'static str) {
    counter!("herald_news_total", "outcome" => outcome).increment(1);
}

/// A request was answered with an error of that status.
pub(crate) fn refused(status: u16) {
    counter!("herald_refusals_total", "status" => status.to_string()).increment(1);
}

/// An action of that kind was claimed.
pub(crate) fn action(kind: &'static str) {
    counter!("herald_actions_total", "kind" => kind).increment(1);
}

/// An action began to run in this process (1), or ended (-1).
pub(crate) fn actions_running(change: f64) {
    gauge!("herald_actions_running_count").increment(change);
}

/// So many actions are open, on all bridges.
pub(crate) fn actions_open(count: usize) {
    gauge!("herald_actions_open_count").set(count as f64);
}

/// So many events of a Game Master are in the log.
pub(crate) fn published(events: usize) {
    counter!("herald_events_published_total").increment(events as u64);
}

/// Storing messages took so long.
pub(crate) fn stored(took: Duration) {
    histogram!("herald_publish_seconds").record(took);
}

/// A Game Master has answered that request, or what became of it in place of an answer.
pub(crate) fn gm_request(request: &'static str, outcome: &'static str, took: Duration) {
    histogram!("herald_gm_request_seconds", "request" => request, "outcome" => outcome).record(took);
}

/// The first event of a stream has come.
pub(crate) fn gm_first_event(request: &'static str, took: Duration) {
    histogram!("herald_gm_first_event_seconds", "request" => request).record(took);
}

/// A stream was closed.
pub(crate) fn gm_stream(request: &'static str, took: Duration) {
    histogram!("herald_gm_stream_seconds", "request" => request).record(took);
}

/// The streams that are open.
pub(crate) fn gm_streams() -> Gauge {
    gauge!("herald_gm_streams_count")
}

/// A stream has brought an event of so many bytes.
pub(crate) fn gm_event(bytes: usize) {
    counter!("herald_gm_events_total").increment(1);
    counter!("herald_gm_received_bytes_total").increment(bytes as u64);
}

/// A stream has shown that it lives.
pub(crate) fn gm_heartbeat() {
    counter!("herald_gm_heartbeats_total").increment(1);
}

/// So many events went as one batch.
pub(crate) fn batch(events: usize) {
    counter!("herald_batches_published_total").increment(1);
    counter!("herald_batched_events_total").increment(events as u64);
}

/// An event of a Game Master was left out: it is `not_json`, or `not_redactable`.
pub(crate) fn skipped(reason: &'static str) {
    counter!("herald_skipped_events_total", "reason" => reason).increment(1);
}

/// A message has to be published again; `reason` is what became of the last try.
pub(crate) fn publish_again(reason: &'static str) {
    counter!("herald_publish_retries_total", "reason" => reason).increment(1);
}

/// A command was refused, as its session's quota is used up.
pub(crate) fn command_over_quota() {
    counter!("herald_commands_over_quota_total").increment(1);
}

/// A session was removed, with so many messages of its log.
pub(crate) fn session_purged(messages: u64) {
    counter!("herald_sessions_purged_total").increment(1);
    counter!("herald_messages_purged_total").increment(messages);
}

/// The stream of an action failed.
pub(crate) fn stream_failed(reason: &'static str) {
    counter!("herald_stream_failures_total", "reason" => reason).increment(1);
}

/// An action gave no sign of life for too long, as this bridge saw it; whether it or another one then ended it, is counted
/// elsewhere.
pub(crate) fn action_lapsed() {
    counter!("herald_actions_lapsed_total").increment(1);
}

/// This bridge told a session that the bridge of its action is gone.
pub(crate) fn action_lost() {
    counter!("herald_actions_lost_total").increment(1);
}

/// The silence of other bridges proves nothing: this one was `disconnected` or `halted`, or the leader left it
/// `unanswered`, or the records are `not_watched` yet.
pub(crate) fn watch_counted_anew(reason: &'static str) {
    counter!("herald_watch_counted_anew_total", "reason" => reason).increment(1);
}

/// Whether the Game Master at that place of the configuration answered when it was last asked.
pub(crate) fn game_master_up(number: usize, up: bool) {
    gauge!("herald_game_master_up_count", "number" => number.to_string()).set(if up { 1.0 } else { 0.0 });
}
