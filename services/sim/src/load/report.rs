//! What came of a load.

use std::fmt;

use serde::Serialize;

use super::judge::Tally;

/// One result. Times without a unit in their name are seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// `stream` (a rate), `window`, `burst`, `idle`, `connect`, `resume`.
    pub work: &'static str,
    /// Sessions that events were published to.
    pub sessions: u32,
    /// Clients of each session that has some.
    pub clients: u32,
    /// Connections in all.
    pub connections: u64,
    /// Bytes of an event's payload.
    pub size: u32,
    /// Events published, those of the warm-up included.
    pub events: u64,
    /// Events that came, each connection's counted once.
    pub deliveries: u64,
    /// Events that should have.
    pub expected: u64,
    /// Whether every connection saw each event once and in order, and nothing else.
    pub exact: bool,
    /// What is wrong if not.
    #[serde(flatten)]
    pub faults: Faults,
    /// Events that the stream refused, where it was asked for acknowledgements.
    pub not_stored: u64,
    /// `herald.gap` frames.
    pub gaps: u64,
    /// Connections that the server ended, by reason.
    pub ends: Vec<(String, u64)>,
    /// Connections that were made again, by cursor.
    pub reopened: u64,
    /// From the end of the warm-up to the last delivery.
    pub seconds: f64,
    /// Events published in that time.
    pub measured_events: u64,
    /// Events that came in that time.
    pub measured_deliveries: u64,
    /// The same a second.
    pub deliveries_per_s: f64,
    /// CPU of the processes measured, in that time.
    pub cpu_s: Option<f64>,
    /// The same per delivery, µs.
    pub cpu_us_per_delivery: Option<f64>,
    /// The same per event, µs.
    pub cpu_us_per_event: Option<f64>,
    /// Latencies from publishing to reading, µs, of clients that never stalled.
    pub p50_us: Option<f64>,
    /// The same.
    pub p99_us: Option<f64>,
    /// The same.
    pub p999_us: Option<f64>,
    /// The same.
    pub max_us: Option<f64>,
    /// Memory of the processes measured, before there were connections.
    pub rss_kib_empty: Option<u64>,
    /// With all connections.
    pub rss_kib_before: Option<u64>,
    /// At the end.
    pub rss_kib_after: Option<u64>,
    /// The most, from when all connections were there.
    pub rss_kib_peak: Option<u64>,
    /// What each connection took, from nothing to open.
    pub rss_kib_per_connection: Option<f64>,
    /// Connections opened a second, all handshakes included.
    pub connect_per_s: Option<f64>,
    /// CPU of the processes measured while they opened, per connection, µs.
    pub connect_cpu_us: Option<f64>,
    /// CPU of the processes measured while nothing happened.
    pub idle_cpu_ms_per_s: Option<f64>,
    /// From the first client that came back to the last event of the last one.
    pub caught_up_s: Option<f64>,
    /// CPU of this process, in the time measured.
    pub load_cpu_s: f64,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Faults {
    /// Events that never came.
    pub lost: u64,
    /// Events that came again.
    pub doubled: u64,
    /// Events that came behind a later one.
    pub reordered: u64,
    /// Events of other sessions.
    pub foreign: u64,
    /// Frames that are nothing that was published.
    pub odd: u64,
}

impl From<&Tally> for Faults {
    fn from(tally: &Tally) -> Self {
        let &Tally { delivered: _, lost, doubled, reordered, foreign, odd } = tally;
        Self { lost, doubled, reordered, foreign, odd }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, sessions, clients, connections, size, events, deliveries, expected, .. } = self;
        writeln!(f, "{work}: {sessions} sessions, {clients} clients each, {connections} connections, {size} B")?;
        if let Some(rate) = self.connect_per_s {
            writeln!(f, "  connected   {rate:.0}/s")?;
        }
        if *expected > 0 {
            let exact = if self.exact { "exact" } else { "NOT EXACT" };
            writeln!(f, "  events      {events}, {deliveries} of {expected} deliveries, {exact}")?;
            if !self.exact {
                writeln!(f, "  faults      {:?}, {} gaps, {} not stored", self.faults, self.gaps, self.not_stored)?;
            }
            writeln!(f, "  speed       {:.0} deliveries/s in {:.2} s", self.deliveries_per_s, self.seconds)?;
        }
        for (why, times) in &self.ends {
            writeln!(f, "  ended       {times} x {why}")?;
        }
        if let (Some(p50), Some(p99), Some(p999), Some(max)) = (self.p50_us, self.p99_us, self.p999_us, self.max_us) {
            writeln!(f, "  latency     p50 {p50:.0} µs, p99 {p99:.0} µs, p99.9 {p999:.0} µs, max {max:.0} µs")?;
        }
        if let Some(seconds) = self.caught_up_s {
            writeln!(f, "  caught up   in {seconds:.2} s")?;
        }
        if let Some(cpu) = self.cpu_s {
            write!(f, "  cpu         {cpu:.2} s")?;
            if let (Some(delivery), Some(event)) = (self.cpu_us_per_delivery, self.cpu_us_per_event) {
                write!(f, ", {delivery:.2} µs per delivery, {event:.2} µs per event")?;
            }
            writeln!(f)?;
        }
        if let Some(idle) = self.idle_cpu_ms_per_s {
            writeln!(f, "  idle        {idle:.2} ms of CPU a second")?;
        }
        if let (Some(empty), Some(before), Some(after), Some(peak)) =
            (self.rss_kib_empty, self.rss_kib_before, self.rss_kib_after, self.rss_kib_peak)
        {
            let each = self.rss_kib_per_connection.unwrap_or_default();
            writeln!(f, "  memory      {empty} KiB, connected {before} ({each:.2} each), end {after}, peak {peak}")?;
        }
        write!(f, "  generator   {:.2} s of CPU", self.load_cpu_s)
    }
}
