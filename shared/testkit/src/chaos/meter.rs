//! What is measured from outside while a run lasts: connections at the doors, and what processes use.

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Plan;
use crate::{faults::Link, house::House};

/// How often connections are counted.
const COUNT: Duration = Duration::from_millis(100);
/// Counts that make a second.
const SECOND: usize = 10;

/// Connections that clients opened, commands included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// In all.
    pub opened: u64,
    /// The most within one second, from the first fault on.
    pub peak: u64,
}

/// What one process used, sample by sample: resident memory in KiB, file descriptors, threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vitals {
    /// When, from the beginning, in seconds.
    pub at: Vec<f64>,
    /// One row for each name in [`Vitals::NAMES`].
    pub rows: [Vec<f64>; 3],
}

/// How something went: its first value, its median, its last one, and its growth in an hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// The first sample.
    pub first: f64,
    /// The median of all.
    pub median: f64,
    /// The last sample.
    pub last: f64,
    /// The slope of the straight line through the second half, per hour.
    pub slope: f64,
    /// From the median of the second quarter to that of the last.
    pub growth: f64,
}

impl Vitals {
    /// What is sampled, with the growth that still counts as flat: what the last quarter's median may be above that of the
    /// second quarter, the first one being for warming up. A tenth is granted in any case.
    pub const NAMES: [(&'static str, f64); 3] = [("memory KiB", 6.0 * 1024.0), ("descriptors", 16.0), ("threads", 2.0)];

    /// What became of each.
    #[must_use]
    pub fn trends(&self) -> [Option<Trend>; 3] {
        [0, 1, 2].map(|row| Trend::of(&self.at, &self.rows[row]))
    }

    /// The names of what is not flat. `memory` more KiB are granted: a nats-server keeps what it has stored of late at hand.
    #[must_use]
    pub fn grown(&self, memory: f64) -> Vec<&'static str> {
        let trends = self.trends();
        let grew = |(index, (name, slack)): (usize, &(&'static str, f64))| {
            let trend = trends[index]?;
            let slack = slack + if index == 0 { memory } else { 0.0 };
            (trend.growth > slack.max(trend.median / 10.0)).then_some(*name)
        };
        Self::NAMES.iter().enumerate().filter_map(grew).collect()
    }

    fn add(&mut self, at: f64, values: [f64; 3]) {
        self.at.push(at);
        self.rows.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
    }
}

impl Trend {
    fn of(at: &[f64], values: &[f64]) -> Option<Self> {
        let (first, last) = (*values.first()?, *values.last()?);
        let quarter = values.len() / 4;
        let growth = median(&values[values.len() - quarter.max(1)..])?
            - median(&values[quarter..(quarter * 2).max(quarter + 1)])?;
        let half = values.len() / 2;
        Some(Self { first, median: median(values)?, last, slope: slope(&at[half..], &values[half..]) * 3600.0, growth })
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Of the straight line with the least squares.
fn slope(at: &[f64], values: &[f64]) -> f64 {
    let count = at.len().max(1) as f64;
    let (mean_at, mean) = (at.iter().sum::<f64>() / count, values.iter().sum::<f64>() / count);
    let covariance: f64 = at.iter().zip(values).map(|(at, value)| (at - mean_at) * (value - mean)).sum();
    let variance: f64 = at.iter().map(|at| (at - mean_at).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, median, last, slope, growth } = self;
        write!(f, "first {first:.0}  median {median:.0}  last {last:.0}  growth {growth:+.0}  slope {slope:+.0}/h")
    }
}

/// Measures until it is dropped; what it has measured is where the caller said.
pub(super) async fn measure(house: &House, plan: &Plan, seen: &mut (Connections, BTreeMap<String, Vitals>)) {
    let (begun, sample) = (Instant::now(), plan.sample);
    // Before the first fault all of them come for the first time.
    let first = plan.faults.first().map_or(Duration::ZERO, |fault| fault.at);
    let calm_until = begun + plan.calm + first;
    let opened = || house.links[&Link::ClientEdge].iter().flat_map(|wire| &wire.proxies).map(|it| it.accepted()).sum();
    let (mut window, mut next): (Vec<u64>, Instant) = (Vec::new(), begun);
    let mut tick = interval(COUNT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now: u64 = opened();
        window.push(now);
        let before = window[window.len().saturating_sub(SECOND + 1)];
        let rate = if Instant::now() > calm_until { now - before } else { 0 };
        seen.0 = Connections { opened: now, peak: seen.0.peak.max(rate) };
        if window.len() > 2 * SECOND {
            window.drain(..SECOND);
        }
        if Instant::now() >= next {
            next += sample;
            for (name, pid) in house.pids() {
                if let Some(values) = used(pid) {
                    seen.1.entry(name).or_default().add(begun.elapsed().as_secs_f64(), values);
                }
            }
        }
    }
}

/// What a process uses, where the system says it.
pub(super) fn used(pid: u32) -> Option<[f64; 3]> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |name: &str| -> Option<f64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some([value("VmRSS:")?, descriptors as f64, value("Threads:")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals(memory: impl Fn(usize) -> f64) -> Vitals {
        let mut vitals = Vitals::default();
        (0..180).for_each(|index| vitals.add(index as f64 * 10.0, [memory(index), 20.0, 4.0]));
        vitals
    }

    #[test]
    fn what_warms_up_is_flat_and_what_leaks_is_not() {
        let warms =
            vitals(|index| 20_000.0 + 500.0 * (index.min(40) as f64) + if index % 7 == 0 { 3_000.0 } else { 0.0 });
        assert!(warms.grown(0.0).is_empty(), "{:?}", warms.trends());
        // 200 KiB in 10 s.
        let leaks = vitals(|index| 20_000.0 + 200.0 * index as f64);
        assert_eq!(leaks.grown(0.0), ["memory KiB"]);
        assert!(leaks.grown(20_000.0).is_empty());
        let trend = leaks.trends()[0].unwrap();
        assert_eq!((trend.first, trend.last, trend.slope.round()), (20_000.0, 55_800.0, 72_000.0));
    }

    #[test]
    fn a_single_sample_is_a_trend_too() {
        let mut vitals = Vitals::default();
        assert_eq!(vitals.trends(), [None, None, None]);
        vitals.add(0.0, [1.0, 2.0, 3.0]);
        assert!(vitals.grown(0.0).is_empty());
        assert_eq!(vitals.trends()[1].unwrap().growth, 0.0);
    }

    #[test]
    fn this_process_uses_something() {
        if let Some([memory, descriptors, threads]) = used(std::process::id()) {
            assert!(memory > 1000.0 && descriptors >= 3.0 && threads >= 1.0);
        }
    }
}
