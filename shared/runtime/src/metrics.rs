//! Metrics: one Prometheus recorder per process. Services count with the `metrics` macros.
//!
//! Names are `herald_<noun>_<unit>[_total]`, labels have few values. Histograms that end in `_seconds` and `_bytes` get
//! buckets of their own here.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Half a millisecond (loopback) to ten minutes (a game master at work).
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];
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

/// Names this build and process.
pub(crate) fn describe(service: &'static str, instance: &str) {
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
