//! What the clients of a session here have yet to be told, and how much of it they may be.

use std::sync::Arc;

use herald_protocol::presence::Person;
use tokio::time::Instant;

/// How much the clients of one session are told in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Frames to each.
    pub(super) frames: u32,
    /// Frames to all together.
    pub(super) deliveries: u32,
}

/// Somebody who came or left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whether they came.
    pub joined: bool,
    /// Who.
    pub person: Arc<Person>,
    /// How many are there then.
    pub count: u64,
}

/// What clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Each change.
    Each(Vec<Change>),
    /// So many changed that only how many are there now is told.
    Count {
        /// So many are there.
        count: u64,
        /// So many changes are not told one by one.
        left_out: u64,
    },
}

/// What has yet to be told.
#[derive(Debug, Default)]
pub(super) struct News {
    each: Vec<Change>,
    /// Changes that are not among them.
    left_out: u64,
    allowance: Option<Allowance>,
}

/// Frames that may be sent by now.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    frames: f64,
    at: Instant,
}

impl Pace {
    /// Frames a second to each of so many.
    fn rate(self, audience: usize) -> f64 {
        let all = f64::from(self.deliveries) / audience.max(1) as f64;
        all.min(f64::from(self.frames))
    }
}

impl News {
    /// Whether there is nothing to tell.
    pub(super) const fn is_empty(&self) -> bool {
        self.each.is_empty() && self.left_out == 0
    }

    /// Takes up a change; beyond `most` of them, only that there was one.
    pub(super) fn add(&mut self, change: Change, most: u32) {
        if self.left_out == 0 && self.each.len() < most as usize {
            self.each.push(change);
        } else {
            self.add_unlisted();
        }
    }

    /// Takes up that somebody came or left who is not known one by one.
    pub(super) fn add_unlisted(&mut self) {
        self.left_out += self.each.len() as u64 + 1;
        self.each = Vec::new();
    }

    /// What to tell so many at `now`; `None`: not yet, or nothing.
    pub(super) fn take(&mut self, count: u64, audience: usize, pace: Pace, now: Instant) -> Option<Told> {
        if self.is_empty() {
            return None;
        }
        let rate = pace.rate(audience);
        // Where a frame may be sent only every few seconds, it may be sent all the same.
        let most = rate.max(1.0);
        let allowance = self.allowance.get_or_insert(Allowance { frames: most, at: now });
        let passed = now.saturating_duration_since(allowance.at).as_secs_f64();
        *allowance = Allowance { frames: (allowance.frames + passed * rate).min(most), at: now };
        let needed = self.each.len() as f64;
        if self.left_out == 0 && needed <= allowance.frames {
            allowance.frames -= needed;
            return Some(Told::Each(std::mem::take(&mut self.each)));
        }
        if allowance.frames < 1.0 {
            return None;
        }
        allowance.frames -= 1.0;
        let left_out = std::mem::take(&mut self.left_out) + std::mem::take(&mut self.each).len() as u64;
        Some(Told::Count { count, left_out })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use herald_protocol::presence::PersonId;

    use super::*;

    const LOOK: Duration = Duration::from_millis(100);
    const PACE: Pace = Pace { frames: 10, deliveries: 1000 };
    const MANY: usize = 10_000;

    fn change(number: u128) -> Change {
        let person = Person { id: PersonId::new(number), user: None, role: None, name: None, since: 0 };
        Change { joined: true, person: Arc::new(person), count: 1 }
    }

    #[test]
    fn a_few_changes_are_told_one_by_one_and_many_as_a_number() {
        let (start, mut news) = (Instant::now(), News::default());
        assert_eq!(news.take(0, 5, PACE, start), None);
        (0..4).for_each(|number| news.add(change(number), PACE.frames));
        assert_eq!(news.take(4, 5, PACE, start), Some(Told::Each((0..4).map(change).collect())));
        (0..7).for_each(|number| news.add(change(number), PACE.frames));
        assert_eq!(
            news.take(11, 5, PACE, start),
            Some(Told::Count { count: 11, left_out: 7 }),
            "six are left for them"
        );
        (0..11).for_each(|number| news.add(change(number), PACE.frames));
        assert_eq!(news.take(22, 5, PACE, start), Some(Told::Count { count: 22, left_out: 11 }));
        // All that was allowed is used up some time: then it waits, and nothing is forgotten.
        let mut told = 0;
        for _ in 0..20 {
            news.add_unlisted();
            told += u32::from(news.take(23, 5, PACE, start).is_some());
        }
        assert_eq!((told, news.is_empty()), (4, false));
        let Some(Told::Count { left_out: 16, .. }) = news.take(23, 5, PACE, start + LOOK) else { panic!("{news:?}") };
    }

    #[test]
    fn the_more_hear_it_the_rarer_it_is_told() {
        let (start, mut news) = (Instant::now(), News::default());
        let mut told = Vec::new();
        for tick in 0..1000 {
            news.add(change(tick), PACE.frames);
            let now = start + LOOK * tick as u32;
            told.extend(news.take(1, MANY, PACE, now).map(|_| tick));
        }
        assert_eq!(told, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900], "a frame in ten seconds");
    }
}
