//! Is the client still there? A small state machine, told what happens and asked what is due.

use std::time::Duration;

use tokio::time::Instant;

/// Pings on time, and the answers they owe.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next: Instant,
    /// By when something must be heard, after a ping.
    answer_by: Option<Instant>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before [`Heartbeat::at`].
    Nothing,
    /// A ping: [`Heartbeat::pinged`], or [`Heartbeat::skipped`] if it can't be sent.
    Ping,
    /// The client is gone.
    Dead,
}

impl Heartbeat {
    /// The first ping comes after a part of the interval, so that connections opened together don't beat together.
    pub(super) fn new(interval: Duration, timeout: Duration, part: f64, now: Instant) -> Self {
        Self { interval, timeout, next: now + interval.mul_f64(part.clamp(0.0, 1.0)), answer_by: None }
    }

    /// When something is due.
    pub(super) fn at(&self) -> Instant {
        self.answer_by.map_or(self.next, |answer_by| answer_by.min(self.next))
    }

    /// What is due at `now`.
    pub(super) fn due(&self, now: Instant) -> Due {
        if self.answer_by.is_some_and(|answer_by| now >= answer_by) {
            Due::Dead
        } else if now >= self.next {
            Due::Ping
        } else {
            Due::Nothing
        }
    }

    /// A ping was sent. An answer that an earlier one owes is still due when it was.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.next = now + self.interval;
        self.answer_by.get_or_insert(now + self.timeout);
    }

    /// No ping could be sent: the client doesn't read. That has a limit of its own.
    pub(super) fn skipped(&mut self, now: Instant) {
        self.next = now + self.interval;
    }

    /// Something was heard.
    pub(super) const fn heard(&mut self) {
        self.answer_by = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_lives_and_one_that_does_not_is_dead() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut heartbeat = Heartbeat::new(25 * second, 20 * second, 0.5, start);
        let first = start + Duration::from_millis(12_500);
        assert_eq!((heartbeat.at(), heartbeat.due(start)), (first, Due::Nothing));
        assert_eq!(heartbeat.due(first), Due::Ping);
        heartbeat.pinged(first);
        assert_eq!(heartbeat.at(), first + 20 * second);
        assert_eq!(heartbeat.due(first + 19 * second), Due::Nothing);
        heartbeat.heard();
        assert_eq!((heartbeat.at(), heartbeat.due(first + 20 * second)), (first + 25 * second, Due::Nothing));
        heartbeat.pinged(first + 25 * second);
        assert_eq!(heartbeat.due(first + 45 * second), Due::Dead);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_ping_does_not_prolong_a_life() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut heartbeat = Heartbeat::new(second, 5 * second, 1.0, start);
        for tick in 1..=5 {
            assert_eq!(heartbeat.due(start + tick * second), Due::Ping);
            heartbeat.pinged(start + tick * second);
        }
        assert_eq!(heartbeat.due(start + 6 * second), Due::Dead);
        heartbeat.skipped(start + 6 * second);
        assert_eq!(heartbeat.at(), start + 6 * second);
    }
}
