//! Metrics: one Prometheus recorder per process. Services count with the `metrics` macros.
//!
//! Names are `herald_<noun>_<unit>[_total]`, labels have few values. Histograms that end in `_seconds` and `_bytes` get
//! buckets of their own here. What can be known at any moment, such as how many wait in a queue, is measured when somebody
//! asks ([`measured`]), so that the queue itself does not have to count.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use metrics::{Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// A tenth of a millisecond (from the log to a client, on one machine) to ten minutes (a game master at work).
const SECONDS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
    600.0,
];
/// A token to the largest body.
const BYTES: [f64; 9] = [64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 33_554_432.0];
/// How often histograms are moved into their buckets; between two times they grow.
pub(crate) const UPKEEP: Duration = Duration::from_secs(5);

/// The process's metrics.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Makes the process's recorder at the first call and returns it at each.
    ///
    /// # Errors
    /// If another recorder was installed before.
    pub fn install() -> Result<Self, InstallError> {
        static INSTALLED: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
        let result = INSTALLED.get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
                .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES))
                .and_then(PrometheusBuilder::install_recorder)
                .map_err(|error| error.to_string())
        });
        result.clone().map(|handle| Self { handle }).map_err(InstallError)
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        process::measure();
        // Nothing in a look can leave the list halfway.
        LOOKS.lock().unwrap_or_else(PoisonError::into_inner).retain(|look| look());
        self.handle.render()
    }

    /// What has to be done from time to time.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// No recorder could be installed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("metrics not available: {0}")]
pub struct InstallError(String);

/// Measures something for a gauge; false once there is nothing left to measure.
type Look = Box<dyn Fn() -> bool + Send>;

static LOOKS: Mutex<Vec<Look>> = Mutex::new(Vec::new());

/// Has `look` called each time that somebody wants the metrics, for as long as it returns true.
pub(crate) fn at_scrape(look: impl Fn() -> bool + Send + 'static) {
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(look));
}

/// Sets a gauge each time that somebody wants the metrics, for as long as `of` lives; then it is 0.
pub fn measured<T: Send + Sync + 'static>(gauge: Gauge, of: &Arc<T>, count: impl Fn(&T) -> usize + Send + 'static) {
    let of = Arc::downgrade(of);
    at_scrape(move || {
        let of = of.upgrade();
        gauge.set(of.as_deref().map_or(0, &count) as f64);
        of.is_some()
    });
}

/// The metrics of a crate, by name and meaning.
#[derive(Debug, Clone, Copy)]
pub struct Meanings {
    /// What is counted.
    pub counters: &'static [(&'static str, &'static str)],
    /// What goes up and down.
    pub gauges: &'static [(&'static str, &'static str)],
    /// How long things take, in seconds, and how large they are, in bytes.
    pub histograms: &'static [(&'static str, &'static str)],
}

impl Meanings {
    /// Tells the recorder what they mean.
    pub fn describe(&self) {
        for (name, meaning) in self.counters {
            describe_counter!(*name, *meaning);
        }
        for (name, meaning) in self.gauges {
            describe_gauge!(*name, *meaning);
        }
        for (name, meaning) in self.histograms {
            let unit = if name.ends_with("_bytes") { Unit::Bytes } else { Unit::Seconds };
            describe_histogram!(*name, unit, *meaning);
        }
    }
}

/// Shows a counter before anything was counted, by each value that its label may have: a rate of what was never seen is
/// nothing, and an alert on it never comes.
pub fn zeros(name: &'static str, label: &'static str, values: &[&'static str]) {
    for value in values {
        counter!(name, label => *value).increment(0);
    }
}

/// The metrics of what every service has.
const MEANINGS: Meanings = Meanings {
    counters: &[
        ("herald_http_served_aborts_total", "Answers to requests over NATS that broke off, by reason"),
        ("herald_http_served_dropped_total", "Requests over NATS that were not executed, by service and reason"),
        ("herald_http_served_requests_total", "Requests over NATS that were answered, by service and class of status"),
        (
            "herald_nats_clients_replaced_total",
            "Times that a client of NATS ended by a fault of its own, by connection",
        ),
        ("herald_nats_connects_total", "Times that the connection to NATS was made, by connection"),
        ("herald_nats_dropped_messages_total", "Messages that the NATS library dropped, by reason"),
        ("herald_nats_received_bytes_total", "Bytes from NATS, by connection"),
        ("herald_nats_refused_total", "What NATS did not allow, by connection and operation"),
        ("herald_nats_sent_bytes_total", "Bytes to NATS, by connection"),
        ("herald_spans_dropped_total", "Spans that were not sent, by reason: queue_full, unreachable, refused"),
        ("herald_spans_exported_total", "Spans that the collector took"),
        (
            "herald_unreadable_messages_removed_total",
            "Messages that can't be read and were removed by the owner of their stream, by stream",
        ),
    ],
    gauges: &[
        ("herald_build_info", "1, by service, version and instance"),
        ("herald_http_served_running_count", "Requests over NATS in work, by service"),
        ("herald_http_served_taken_count", "Requests over NATS in work or waiting for it, by service"),
        ("herald_nats_connected_count", "1 while there is a connection to NATS, by connection"),
        ("herald_ready", "1 while the service is ready, as /readyz says it"),
        ("herald_spans_waiting_count", "Spans that wait to be sent"),
    ],
    histograms: &[("herald_http_served_seconds", "From a request over NATS in work to its answer, by service")],
};

/// Says what all services' metrics mean, and names this build and process.
pub(crate) fn describe(service: &'static str, instance: &str) {
    MEANINGS.describe();
    zeros("herald_http_served_aborts_total", "reason", &["receiver gone", "idle", "body broke off"]);
    zeros("herald_nats_dropped_messages_total", "reason", &["slow_subscription"]);
    zeros("herald_spans_dropped_total", "reason", &["queue_full", "unreachable", "refused"]);
    counter!("herald_spans_exported_total").increment(0);
    metrics::gauge!("herald_spans_waiting_count").set(0.0);
    let version = env!("CARGO_PKG_VERSION");
    metrics::gauge!("herald_build_info", "service" => service, "version" => version, "instance" => instance.to_owned())
        .set(1.0);
}

/// The process as the kernel sees it, under Prometheus' customary names. Nothing where there is no `/proc`.
mod process {
    use std::fs;

    /// Linux has had 4 KiB pages in `statm` and 100 ticks a second in `stat` on all platforms we run on.
    const PAGE: f64 = 4096.0;
    const TICKS: f64 = 100.0;

    pub(super) fn measure() {
        if let Ok(statm) = fs::read_to_string("/proc/self/statm")
            && let Some(resident) = field(&statm, 1)
        {
            metrics::gauge!("process_resident_memory_bytes").set(resident * PAGE);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            metrics::gauge!("process_open_fds").set(u32::try_from(entries.count()).map_or(f64::MAX, f64::from));
        }
        // The second field is the name in parentheses and may contain blanks: count from behind it.
        if let Ok(stat) = fs::read_to_string("/proc/self/stat")
            && let Some((_, rest)) = stat.rsplit_once(") ")
            && let (Some(user), Some(system), Some(threads)) = (field(rest, 11), field(rest, 12), field(rest, 17))
        {
            metrics::gauge!("process_cpu_seconds_total").set((user + system) / TICKS);
            metrics::gauge!("process_threads").set(threads);
        }
    }

    fn field(text: &str, index: usize) -> Option<f64> {
        text.split_ascii_whitespace().nth(index)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered_with_buckets() {
        let metrics = Metrics::install().expect("recorder");
        metrics::counter!("herald_test_events_total", "kind" => "a").increment(2);
        metrics::histogram!("herald_test_seconds").record(0.003);
        describe("test", "one");
        let text = Metrics::install().expect("the same again").render();
        assert!(text.contains("herald_test_events_total{kind=\"a\"} 2"), "{text}");
        assert!(text.contains("herald_test_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("herald_build_info{service=\"test\""), "{text}");
        metrics.upkeep();
    }

    #[test]
    fn what_is_measured_is_so_when_somebody_asks_and_as_long_as_it_lives() {
        let metrics = Metrics::install().expect("recorder");
        let queue = Arc::new(Mutex::new(vec![1, 2]));
        measured(metrics::gauge!("herald_test_waiting_count"), &queue, |queue| queue.lock().expect("fine").len());
        assert!(metrics.render().contains("herald_test_waiting_count 2"));
        queue.lock().expect("fine").push(3);
        assert!(metrics.render().contains("herald_test_waiting_count 3"));
        drop(queue);
        assert!(metrics.render().contains("herald_test_waiting_count 0"));
    }

    #[test]
    fn a_counter_is_there_before_it_counts() {
        let metrics = Metrics::install().expect("recorder");
        zeros("herald_test_zeros_total", "reason", &["a", "b"]);
        let text = metrics.render();
        for line in ["herald_test_zeros_total{reason=\"a\"} 0", "herald_test_zeros_total{reason=\"b\"} 0"] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_is_measured() {
        let text = Metrics::install().expect("recorder").render();
        for name in
            ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total", "process_threads"]
        {
            assert!(text.contains(&format!("\n{name} ")) || text.starts_with(name), "{name} in {text}");
        }
    }
}
