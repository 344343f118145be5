//! What this service counts. Names and meanings stand here; each is counted where it happens.

use herald_protocol::UplinkKind;
use herald_runtime::metrics::{Meanings, zeros};
use metrics::{Gauge, counter, gauge, histogram};

use crate::uplink::Refused;

/// Tells the recorder what the metrics of this service mean, and shows those that have yet to count.
pub fn describe() {
    Meanings { counters: COUNTERS, gauges: GAUGES, histograms: HISTOGRAMS }.describe();
    for (name, label, values) in ZEROS {
        zeros(name, label, values);
    }
    for name in UNLABELLED {
        counter!(*name).increment(0);
    }
    for kind in ["events", "session"] {
        for outcome in ["read", "nothing", "late", "unavailable"] {
            counter!("herald_replay_requests_total", "kind" => kind, "outcome" => outcome).increment(0);
        }
        let _shown = histogram!("herald_replay_request_seconds", "kind" => kind);
    }
    // Where no route tells who is there, nothing is missing.
    gauge!("herald_presence_complete_count").set(1.0);
    for kind in ["page", "snapshot", "proof"] {
        for reason in ["unavailable", "timeout"] {
            counter!("herald_history_failures_total", "kind" => kind, "reason" => reason).increment(0);
        }
    }
    gauge!("herald_http_connections_count").set(0.0);
    for name in WAITING {
        gauge!(*name).set(0.0);
    }
    for kind in [UplinkKind::Text, UplinkKind::Binary] {
        for reason in Refused::ALL {
            let (kind, reason) = (kind.as_str(), reason.name());
            let _shown = counter!("herald_uplink_refused_total", "kind" => kind, "reason" => reason);
        }
    }
    for transport in ["socket", "sse"] {
        for name in ["herald_blocked_connections_count", "herald_watching_connections_count"] {
            gauge!(name, "transport" => transport).set(0.0);
        }
        for name in ["herald_blocked_lag_bytes", "herald_delivery_seconds"] {
            let _shown = histogram!(name, "transport" => transport);
        }
    }
}

/// What is of interest before it has ever happened, with each value of its label.
const ZEROS: &[(&str, &str, &[&str])] = &[
    ("herald_aliases_dropped_total", "reason", &["too_many"]),
    ("herald_auth_key_readings_total", "outcome", &["read", "failed"]),
    (
        "herald_auth_refused_total",
        "reason",
        &["missing", "malformed", "unknown_key", "signature", "expired", "claims", "session", "outlived", "no_keys"],
    ),
    ("herald_commands_refused_total", "reason", &["address", "user", "session"]),
    ("herald_connections_refused_total", "reason", &["accept", "half_open", "too_many", "opening", "handshakes"]),
    ("herald_feed_starts_total", "from", &["live", "snapshot", "replay", "ring", "history", "gap", "seek"]),
    ("herald_files_total", "outcome", &["sent", "unchanged", "not_found", "busy", "refused"]),
    (
        "herald_forwarded_for_refused_total",
        "reason",
        &["malformed", "untrusted", "proxy_untrusted", "proxy_missing", "proxy_malformed", "proxy_late"],
    ),
    ("herald_frames_delivered_total", "way", &["direct", "task"]),
    ("herald_gaps_total", "reason", &["trimmed", "epoch", "beyond", "removed"]),
    ("herald_presence_changes_total", "by", &["own", "others"]),
    ("herald_presence_frames_total", "event", &["herald.presence", "herald.join", "herald.leave"]),
    ("herald_presence_refused_total", "reason", &["malformed", "too_many_edges", "too_many_sessions"]),
    ("herald_requests_refused_total", "reason", &["head_slow", "head_too_large", "head_malformed"]),
    ("herald_shelf_cleared_total", "reason", &["disk", "disk_too_slow", "skipped"]),
    ("herald_skipped_events_total", "reason", &["not_utf8"]),
    ("herald_uplink_messages_total", "kind", UP),
    ("herald_words_refused_total", "reason", &["full", "total", "too_large", "gone"]),
    ("herald_words_total", "outcome", &["ok", "gone", "busy", "closed", "bad"]),
];

/// What waits, or is there, where a route wants such a thing; else nothing.
const WAITING: &[&str] = &[
    "herald_newest_waiting_count",
    "herald_presence_edges_count",
    "herald_presence_persons_count",
    "herald_presence_sessions_count",
    "herald_presence_silence_seconds",
    "herald_timed_replays_count",
    "herald_uplink_unfinished_bytes",
    "herald_uplink_waiting_bytes",
    "herald_uplink_waiting_count",
    "herald_words_waiting_bytes",
];

/// The kinds of what goes up.
const UP: &[&str] = &["text", "binary", "join", "leave"];

/// What is of interest before it has ever happened, and has no label.
const UNLABELLED: &[&str] = &[
    "herald_admission_shared_total",
    "herald_blocked_bytes_dropped_total",
    "herald_conflated_frames_total",
    "herald_history_lagging_reads_total",
    "herald_history_shared_reads_total",
    "herald_ignored_messages_total",
    "herald_inbound_slowed_total",
    "herald_newest_unsaid_total",
    "herald_presence_coalesced_total",
    "herald_presence_edges_lost_total",
    "herald_presence_said_total",
    "herald_presence_untold_frames_total",
    "herald_presence_wholes_total",
    "herald_shelf_refused_total",
    "herald_superseded_connections_total",
    "herald_uplink_slowed_total",
];

const COUNTERS: &[(&str, &str)] = &[
    ("herald_admission_allowed_total", "Times that an engine's yes let somebody in, by service"),
    ("herald_admission_asked_total", "Questions to engines about who may come in, by service"),
    ("herald_admission_refused_total", "Times that somebody was not let in by an engine, by service and reason"),
    ("herald_admission_reused_total", "Times that an engine's earlier answer counted, by service"),
    ("herald_admission_shared_total", "Times that somebody waited for the answer to another one's equal question"),
    ("herald_aliases_dropped_total", "Aliases not followed, by reason"),
    ("herald_auth_key_readings_total", "Readings of the keys that tokens are verified by, by outcome: read or failed"),
    ("herald_auth_refused_total", "Requests and connections that were not let in, or not let go on, by reason"),
    ("herald_blocked_bytes_dropped_total", "Frames that blocked connections let go of, to read them again, in bytes"),
    ("herald_closed_connections_total", "Watching connections that ended, by transport, reason and close code"),
    ("herald_commands_refused_total", "Commands over a limit of their address, user or session"),
    (
        "herald_conflated_frames_total",
        "Frames that connections were not sent because a newer one had taken their place, as their route wants it",
    ),
    ("herald_connections_refused_total", "Connections not served, handshakes refused and places lost, by reason"),
    ("herald_connections_total", "Connections taken, by listener"),
    ("herald_feed_starts_total", "Beginnings of a connection in a log, by where it began"),
    ("herald_forward_failures_total", "Forwarded requests without an answer of their service, by forward and reason"),
    ("herald_forwarded_for_refused_total", "Requests whose X-Forwarded-For was not believed, by reason"),
    ("herald_frames_delivered_total", "Frames handed to connections, by way: direct, or by the connection's own task"),
    ("herald_frames_encoded_total", "Frames made, once for all connections that share a view"),
    ("herald_gaps_total", "Gaps that connections were told of, by reason"),
    ("herald_history_failures_total", "Reads from the stream that failed, by reason"),
    ("herald_history_lagging_reads_total", "Reads repeated because a replica was behind its leader"),
    ("herald_history_shared_reads_total", "Reads answered by another connection's equal read"),
    ("herald_ignored_messages_total", "Messages that clients sent up their sockets"),
    ("herald_inbound_slowed_total", "Times that a client sent more than it may and was read no faster"),
    ("herald_intake_events_total", "Events taken in, by stream"),
    ("herald_intake_restarts_total", "Consumers begun anew, by stream and reason"),
    (
        "herald_intake_skipped_messages_total",
        "Messages that were not taken in, by stream and reason: commands, broken, vanished, unreadable, too far behind",
    ),
    ("herald_files_total", "Requests for files of a listener's folder, by outcome"),
    (
        "herald_newest_unsaid_total",
        "Times that other edges could not be told of a newer connection, and are told of all",
    ),
    ("herald_presence_changes_total", "Comings and goings of people, by whose clients they are: own or others"),
    ("herald_presence_coalesced_total", "Changes of who is there that clients were only told the sum of"),
    ("herald_presence_edges_lost_total", "Other edges that fell silent without having said that they end"),
    ("herald_presence_frames_total", "Frames about who is there that were handed to connections, by event"),
    ("herald_presence_refused_total", "Messages about who is there that were not understood or not taken, by reason"),
    ("herald_presence_said_total", "Messages about who is there to other edges"),
    ("herald_presence_untold_frames_total", "Frames about who is there that connections had no room for"),
    ("herald_presence_wholes_total", "Times that all was heard anew of who is there by another edge"),
    ("herald_replay_requests_total", "Requests for a session's past, by kind and outcome"),
    ("herald_requests_refused_total", "Requests whose head was too large, malformed or too slow"),
    ("herald_shelf_cleared_total", "Shelves that began anew with nothing, by reason"),
    ("herald_shelf_refused_total", "Reads that waited too long for the shelf and went to the stream"),
    ("herald_skipped_events_total", "Events that can't be shown, by reason"),
    (
        "herald_superseded_connections_total",
        "Connections closed because a session has one of their kind, and a newer came",
    ),
    ("herald_uplink_messages_total", "Messages of clients that went up to engines, joins and leaves included, by kind"),
    ("herald_uplink_refused_total", "Messages of clients that did not go up, or that nobody heard, by kind and reason"),
    ("herald_uplink_slowed_total", "Times that a client sent more messages than it may and was told so"),
    (
        "herald_words_refused_total",
        "Frames for one connection that it was not sent, by reason: full, total (too much for all), too_large or gone",
    ),
    ("herald_words_total", "Messages of engines to one connection, by outcome"),
];

const GAUGES: &[(&str, &str)] = &[
    ("herald_admission_questions_count", "Questions to engines that wait for their answers, by service"),
    ("herald_blocked_connections_count", "Connections that can't be written to at the moment, by transport"),
    ("herald_forward_answers_count", "Answers in parts that are on their way to clients"),
    ("herald_forward_bodies_bytes", "Memory of the bodies of forwarded requests"),
    ("herald_forwards_running_count", "Forwarded requests at services"),
    ("herald_history_running_count", "Reads from the stream under way, by stream"),
    ("herald_http_connections_count", "Connections that speak HTTP now, event streams included"),
    ("herald_intake_pending_count", "Messages between the intake and the end of its stream"),
    ("herald_limited_keys_count", "Addresses, users or sessions whose rate is remembered, by limit"),
    ("herald_newest_waiting_count", "What waits to be said to other edges about newer connections"),
    ("herald_presence_complete_count", "1 while this edge knows all there is to know of who is there"),
    ("herald_presence_edges_count", "Other edges that are heard of"),
    ("herald_presence_persons_count", "People who are there and known one by one, over all edges"),
    ("herald_presence_sessions_count", "Sessions in which anybody is, over all edges"),
    ("herald_presence_silence_seconds", "How long nothing was heard of the other edge that was silent for longest"),
    ("herald_ring_bytes", "Memory of all rings"),
    ("herald_shelf_bytes", "What the shelf of a stream takes on the disk, by stream"),
    ("herald_shelf_looks_back", "1 while the shelf of a stream takes in what was stored before it began, by stream"),
    ("herald_shelf_messages", "Messages that the shelf of a stream spans, by stream"),
    ("herald_shelf_writing_count", "Parts of the shelf that wait to be written, by stream"),
    ("herald_timed_replays_count", "Connections that are shown the past in its own time, or may go back to it"),
    ("herald_uplink_unfinished_bytes", "Messages of clients that have arrived in part, beyond 4 KiB of each"),
    ("herald_uplink_waiting_bytes", "What clients sent that waits for NATS"),
    ("herald_uplink_waiting_count", "Messages of clients, joins and leaves included, that wait for NATS"),
    ("herald_watched_sessions", "Sessions with a ring, by stream"),
    ("herald_watching_connections_count", "Connections that watch a session now, by transport"),
    ("herald_words_waiting_bytes", "Frames for one connection alone that wait for their clients"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (
        "herald_admission_seconds",
        "From a question to an engine about who may come in to its answer, or its silence, by service",
    ),
    ("herald_blocked_lag_bytes", "How far connections are behind that can't be written to, by transport, each second"),
    (
        "herald_delivery_seconds",
        "From the moment an event was stored (by the server's clock) to its first write to clients (by ours), by transport; each 16th event",
    ),
    ("herald_forward_seconds", "From a forwarded request to the head of its answer, by forward"),
    ("herald_history_read_seconds", "One read from the stream or the shelf, by kind"),
    ("herald_replay_request_seconds", "From a request for a session's past to its answer, by kind"),
];

/// Something that is counted in a gauge for as long as it lives.
#[derive(Debug)]
#[must_use]
pub(crate) struct Counted(Gauge);

impl Counted {
    /// A connection that speaks HTTP.
    pub(crate) fn http() -> Self {
        Self::new(gauge!("herald_http_connections_count"))
    }

    /// A connection that can't be written to.
    pub(crate) fn blocked(transport: &'static str) -> Self {
        Self::new(gauge!("herald_blocked_connections_count", "transport" => transport))
    }

    /// A connection that watches a session.
    pub(crate) fn watching(transport: &'static str) -> Self {
        Self::new(gauge!("herald_watching_connections_count", "transport" => transport))
    }

    fn new(gauge: Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// The metrics named in the sources of this service, this file aside.
    fn named_in(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named_in(&path, names);
            } else if path.file_name().is_some_and(|name| name != "metrics.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let quoted = text.split('"').skip(1).step_by(2).filter(|text| text.starts_with("herald_"));
                names.extend(quoted.map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_metric_has_a_meaning_and_every_meaning_a_metric() {
        let here =
            ["herald_blocked_connections_count", "herald_http_connections_count", "herald_watching_connections_count"];
        let mut named = BTreeSet::from(here.map(str::to_owned));
        named_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut named);
        let described = [COUNTERS, GAUGES, HISTOGRAMS].concat();
        let described: BTreeSet<_> = described.into_iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(named, described);
    }
}
