//! Frames by which a connection on which nothing happens is known to live, in a route's own words.
//!
//! They are for clients that know no ping: browsers keep it to themselves. Clients of `herald.v1` have a beat of their own.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use herald_protocol::SessionId;
use rand::RngExt as _;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    config::HeartbeatConfig,
    template::{Places, Template},
};

/// What a heartbeat may say: when it is sent, and which session it is of, nothing while there is none.
pub(crate) const PLACES: &Places = &[("ts", "2025-01-15T10:30:00.123456Z"), ("sid", "s")];

/// A route's heartbeats.
#[derive(Debug)]
pub struct Beats {
    frame: Template,
    /// In its place while the stream is not served.
    degraded: Option<Template>,
    every: Duration,
}

impl Beats {
    /// The heartbeats that `config` describes; `None` where its texts are none, which the configuration's check refuses.
    #[must_use]
    pub fn new(config: &HeartbeatConfig) -> Option<Arc<Self>> {
        let degraded = config.degraded.as_ref().map(|text| Template::new(text, PLACES)).transpose();
        let (frame, degraded) = (Template::new(&config.frame, PLACES).ok()?, degraded.ok()?);
        Some(Arc::new(Self { frame, degraded, every: config.every.get() }))
    }

    /// Those of one connection. The first comes after a part of the time, so that connections opened together don't beat together.
    #[must_use]
    pub fn of_one(self: &Arc<Self>) -> Box<Beat> {
        let part = rand::rng().random();
        Box::new(Beat { beats: self.clone(), next: Instant::now() + self.every.mul_f64(part) })
    }
}

/// The heartbeats of one connection.
#[derive(Debug)]
pub struct Beat {
    beats: Arc<Beats>,
    next: Instant,
}

impl Beat {
    /// When the next one is due.
    pub(crate) const fn at(&self) -> Instant {
        self.next
    }

    /// Whether one is due; the next one then is a while later, whatever becomes of this one.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.beats.every;
        }
        due
    }

    /// What is said now, of that session. `well`: whether events come.
    pub(crate) fn text(&self, session: Option<&SessionId>, well: bool) -> String {
        let frame = self.beats.degraded.as_ref().filter(|_| !well).unwrap_or(&self.beats.frame);
        frame.filled(&[&timestamp(SystemTime::now()), session.map_or("", SessionId::as_str)])
    }
}

/// UTC as ISO 8601 has it, with microseconds: `2025-01-15T10:30:00.123456Z`.
fn timestamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}

#[cfg(test)]
mod tests {
    use herald_runtime::config::HumanDuration;

    use super::*;

    #[test]
    fn a_time_is_written_with_all_its_digits() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_736_937_000_123_456, "2025-01-15T10:30:00.123456Z"),
            (1_709_164_799_000_007, "2024-02-28T23:59:59.000007Z"),
        ] {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_micros(micros)), text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_beats_at_its_own_time_and_says_how_things_are() {
        let config = HeartbeatConfig {
            frame: r#"{"type":"heartbeat","sid":"{sid}"}"#.to_owned(),
            degraded: Some(r#"{"type":"heartbeat","degraded":true}"#.to_owned()),
            every: HumanDuration::from_secs(25),
        };
        let (beats, start) = (Beats::new(&config).unwrap(), Instant::now());
        let mut beat = beats.of_one();
        let first = beat.at();
        assert!(first <= start + config.every.get() && !beat.is_due(start.min(first - Duration::from_nanos(1))));
        assert!(beat.is_due(first) && !beat.is_due(first));
        assert_eq!(beat.at(), first + config.every.get());
        let session = "s-1".parse().unwrap();
        assert_eq!(beat.text(Some(&session), true), r#"{"type":"heartbeat","sid":"s-1"}"#);
        assert_eq!(beat.text(None, true), r#"{"type":"heartbeat","sid":""}"#);
        assert_eq!(beat.text(Some(&session), false), r#"{"type":"heartbeat","degraded":true}"#);
        let plain = HeartbeatConfig { degraded: None, ..config };
        assert!(Beats::new(&plain).unwrap().of_one().text(None, false).contains("\"sid\""), "nothing else to say");
    }
}
