//! The metrics of gm-bridge.

use metrics::{counter, gauge};

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
    gauge!("herald_actions_running").increment(change);
}

/// So many actions are open, on all bridges.
pub(crate) fn actions_open(count: usize) {
    gauge!("herald_actions_open").set(count as f64);
}

/// So many events of a Game Master are in the log.
pub(crate) fn published(events: usize) {
    counter!("herald_events_published_total").increment(events as u64);
}

/// So many events went as one batch.
pub(crate) fn batch(events: usize) {
    counter!("herald_batches_published_total").increment(1);
    counter!("herald_batched_events_total").increment(events as u64);
}

/// An event of a Game Master was left out: it is `not_json`, or `not_redactable`.
pub(crate) fn skipped(reason: &'static str) {
    counter!("herald_events_skipped_total", "reason" => reason).increment(1);
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
