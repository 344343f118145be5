//! The metrics of ingest.

use herald_runtime::metrics::{Meanings, zeros};
use http::StatusCode;
use metrics::{counter, histogram};
use tokio::time::Instant;

/// Tells the recorder what they mean, and shows those that have yet to count.
pub(crate) fn describe() {
    MEANINGS.describe();
    zeros("herald_publish_retries_total", "reason", &["unanswered", "under_way", "no_responders", "not_taken"]);
    for name in ["herald_events_published_total", "herald_requests_completed_total", "herald_requests_repeated_total"] {
        counter!(name).increment(0);
    }
    for (status, reason) in REFUSED {
        counter!("herald_refusals_total", "status" => status, "reason" => reason).increment(0);
    }
    let _shown = histogram!("herald_batch_wait_seconds");
}

/// Refusals that are of interest before they have ever happened, by status and reason.
const REFUSED: [(&str, &str); 6] = [
    ("410", "key_gone"),
    ("422", "key_reused"),
    ("503", "away"),
    ("503", "busy"),
    ("503", "refused"),
    ("504", "unknown"),
];

const MEANINGS: Meanings = Meanings {
    counters: &[
        ("herald_events_published_total", "Events stored"),
        ("herald_publish_retries_total", "Messages that had to be published again, by what became of the last try"),
        ("herald_refusals_total", "Requests answered with an error, by status and reason"),
        ("herald_requests_completed_total", "Requests whose rest was stored after a server had been ended"),
        ("herald_requests_repeated_total", "Requests answered from the log, as their events were there"),
    ],
    gauges: &[("herald_batches_running_count", "Requests of several events that are being stored")],
    histograms: &[
        ("herald_batch_wait_seconds", "How long requests of several events waited for their turn, or gave up waiting"),
        ("herald_publish_seconds", "From messages that are to be stored, one or a batch, to their acknowledgement"),
    ],
};

/// So many events are in the log.
pub(crate) fn published(events: usize) {
    counter!("herald_events_published_total").increment(events as u64);
}

/// Storing a request's events began then, and is over.
pub(crate) fn stored(begun: Instant) {
    histogram!("herald_publish_seconds").record(begun.elapsed());
}

/// A request was answered from the log: its events were there, under its key.
pub(crate) fn repeated() {
    counter!("herald_requests_repeated_total").increment(1);
}

/// The rest of a request's events was stored, whose first ones were all that a server had kept at its end.
pub(crate) fn completed() {
    counter!("herald_requests_completed_total").increment(1);
}

/// Events have to be published again; `reason` is what became of the last try.
pub(crate) fn publish_again(reason: &'static str) {
    counter!("herald_publish_retries_total", "reason" => reason).increment(1);
}

/// A request was answered with an error of that status, for that reason.
pub(crate) fn refused(status: StatusCode, reason: &'static str) {
    counter!("herald_refusals_total", "status" => status.as_u16().to_string(), "reason" => reason).increment(1);
}

/// A request of several events that waits for its turn, until it is dropped.
#[must_use]
pub(crate) struct BatchWait(Instant);

impl BatchWait {
    /// From now on.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }
}

impl Drop for BatchWait {
    fn drop(&mut self) {
        histogram!("herald_batch_wait_seconds").record(self.0.elapsed());
    }
}
