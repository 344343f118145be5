//! How much a client sends: a small state machine, told what was read and asked when to read again.
//!
//! Each frame and each byte takes some of the time that it is worth at the allowed rate, and no more is read before that time
//! has come. A second's worth may be read at once. What is not read stays in the kernel, where TCP tells the client to
//! wait: it is slowed, and costs nobody else anything. Who always has more to send than it may is closed in the end.

use std::time::Duration;

use tokio::time::Instant;

/// How much a client may send.
#[derive(Debug, Clone, Copy)]
pub struct InflowLimits {
    /// Frames a second; 0: any number.
    pub frames: u32,
    /// Bytes a second; 0: any number.
    pub bytes: u64,
    /// What may be read ahead of its time.
    pub burst: Duration,
    /// How long a client may send more than that.
    pub patience: Duration,
}

/// What a client has sent.
#[derive(Debug)]
pub(super) struct Inflow {
    /// When all that was read would have come at the allowed rate.
    paid_until: Instant,
    /// Since when it has sent more than it may, without a rest.
    over_since: Option<Instant>,
}

/// A client sends too much for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flood;

impl InflowLimits {
    /// What may be read ahead of its time, where nothing else is said.
    pub const BURST: Duration = Duration::from_secs(1);

    /// The time that this much takes at the allowed rate.
    fn worth(&self, frames: u32, bytes: usize) -> Duration {
        let second = |count: f64, rate: f64| if rate > 0.0 { count / rate } else { 0.0 };
        Duration::from_secs_f64(
            second(f64::from(frames), f64::from(self.frames)) + second(bytes as f64, self.bytes as f64),
        )
    }
}

impl Inflow {
    pub(super) const fn new(now: Instant) -> Self {
        Self { paid_until: now, over_since: None }
    }

    /// Whether everything that was read by now has had its time.
    pub(super) fn is_paid(&self, now: Instant) -> bool {
        self.paid_until <= now
    }

    /// The client has rested: by each measure that it is held to, everything was paid before it sent more. By one of them alone
    /// it may be paid while it waits because of another.
    pub(super) const fn rested(&mut self) {
        self.over_since = None;
    }

    /// So much was read. Returns whether that was more than may be read at once: then the client is to wait.
    ///
    /// # Errors
    /// [`Flood`] where it has been too much for too long, without a rest.
    pub(super) fn read(
        &mut self,
        limits: &InflowLimits,
        frames: u32,
        bytes: usize,
        now: Instant,
    ) -> Result<bool, Flood> {
        self.paid_until = self.paid_until.max(now) + limits.worth(frames, bytes);
        if self.paid_until <= now + limits.burst {
            return Ok(false);
        }
        let first = self.over_since.is_none();
        let since = *self.over_since.get_or_insert(now);
        if now >= since + limits.patience { Err(Flood) } else { Ok(first) }
    }

    /// Until when nothing is to be read, if that is not over.
    pub(super) fn waits_until(&self, limits: &InflowLimits, now: Instant) -> Option<Instant> {
        let until = self.paid_until.checked_sub(limits.burst)?;
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: InflowLimits =
        InflowLimits { frames: 10, bytes: 10_000, burst: InflowLimits::BURST, patience: Duration::from_secs(5) };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_second_is_read_at_once_and_then_no_faster_than_allowed() {
        let start = Instant::now();
        let mut inflow = Inflow::new(start);
        assert_eq!(inflow.read(&LIMITS, 10, 0, start), Ok(false));
        assert_eq!(inflow.waits_until(&LIMITS, start), None);
        assert_eq!(inflow.read(&LIMITS, 5, 0, start), Ok(true));
        assert_eq!(inflow.waits_until(&LIMITS, start), Some(start + SECOND / 2));
        assert_eq!(inflow.waits_until(&LIMITS, start + SECOND / 2), None);
        assert_eq!(inflow.read(&LIMITS, 1, 0, start + SECOND / 2), Ok(false), "told once");
        // Bytes take their time, too, and both add up.
        let rested = start + 10 * SECOND;
        assert!(inflow.is_paid(rested) && !inflow.is_paid(start + SECOND));
        inflow.rested();
        assert_eq!(inflow.read(&LIMITS, 5, 10_000, rested), Ok(true));
        assert_eq!(inflow.waits_until(&LIMITS, rested), Some(rested + SECOND / 2));
    }

    #[test]
    fn who_never_rests_is_a_flood_and_who_rests_is_none() {
        let start = Instant::now();
        let mut inflow = Inflow::new(start);
        let mut now = start;
        let ended = loop {
            if inflow.read(&LIMITS, 20, 0, now).is_err() {
                break now;
            }
            now = inflow.waits_until(&LIMITS, now).unwrap_or(now);
        };
        assert!((5 * SECOND..8 * SECOND).contains(&(ended - start)), "{:?}", ended - start);

        let mut inflow = Inflow::new(start);
        for round in 0..20 {
            let now = start + 3 * SECOND * round;
            assert!(inflow.is_paid(now));
            inflow.rested();
            assert!(inflow.read(&LIMITS, 20, 0, now).is_ok());
        }
    }

    #[test]
    fn what_is_paid_is_no_rest_before_somebody_says_so() {
        let start = Instant::now();
        let mut inflow = Inflow::new(start);
        assert_eq!(inflow.read(&LIMITS, 15, 0, start), Ok(true));
        let late = |seconds: u32| start + seconds * SECOND;
        assert_eq!(inflow.read(&LIMITS, 1, 0, late(4)), Ok(false), "as fast as before");
        assert_eq!(inflow.waits_until(&LIMITS, late(4)), None);
        assert_eq!(inflow.read(&LIMITS, 15, 0, late(4)), Ok(false), "told once");
        assert_eq!(inflow.read(&LIMITS, 15, 0, late(8)), Err(Flood));
        inflow.rested();
        assert_eq!(inflow.read(&LIMITS, 1, 0, late(20)), Ok(false), "a rest is one");
        assert_eq!(inflow.over_since, None);
    }

    #[test]
    fn no_limit_is_none() {
        let (limits, now) = (InflowLimits { frames: 0, bytes: 0, ..LIMITS }, Instant::now());
        let mut inflow = Inflow::new(now);
        assert_eq!(inflow.read(&limits, u32::MAX, usize::MAX, now), Ok(false));
        assert_eq!(inflow.waits_until(&limits, now), None);
    }

    proptest! {
        #[test]
        fn however_a_client_sends_it_is_read_at_the_allowed_rate(reads in prop::collection::vec((0_u32..50, 0_usize..2048), 1..200)) {
            let limits = InflowLimits { patience: Duration::MAX / 4, ..LIMITS };
            let start = Instant::now();
            let (mut inflow, mut now, mut frames, mut bytes) = (Inflow::new(start), start, 0, 0);
            for (more_frames, more_bytes) in reads {
                // Everything it has sent so far, but for what was read ahead and the last read, has had its time.
                let worth = limits.worth(frames, bytes);
                prop_assert!(worth <= now - start + limits.burst + Duration::from_millis(1), "{worth:?} in {:?}", now - start);
                inflow.read(&limits, more_frames, more_bytes, now).unwrap();
                (frames, bytes) = (frames + more_frames, bytes + more_bytes);
                now = inflow.waits_until(&limits, now).unwrap_or(now);
            }
        }
    }
}
