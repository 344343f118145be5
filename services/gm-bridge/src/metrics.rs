//! The metrics of gm-bridge.

use metrics::counter;

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
