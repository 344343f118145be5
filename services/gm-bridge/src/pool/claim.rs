//! Takes a Game Master for a start.

use std::time::Duration;

use futures_util::future::join_all;
use herald_protocol::{EventType, SessionId, record::AliasTarget, subject};
use herald_runtime::bucket::{BucketError, Slot};
use herald_runtime::jetstream::{self, ApiError};
use tokio::time::{Instant, sleep};

use super::{
    Pool, PoolError, RACES, Seat,
    record::{GameMasterRecord, Previous, Standing, State, now_ms},
};
use crate::{arena::EVENTS, config::WhenBusy, starts::start_key};

/// How often the record of somebody else's start is looked at while it decides something.
const LOOK: Duration = Duration::from_millis(150);

/// A Game Master claimed for a start.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    pool: &'a Pool,
    seat: &'a Seat,
    record: GameMasterRecord,
    revision: u64,
    /// As it was before.
    old: GameMasterRecord,
}

/// What came of watching somebody else's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Observed {
    /// Its bridge is at work.
    Alive,
    /// Its bridge is gone.
    Lapsed,
    /// It is over.
    Changed,
}

type Seats<'a> = Vec<(&'a Seat, Slot<GameMasterRecord>)>;

impl Pool {
    /// Claims a Game Master for the session: the one it has, else one that is free, else one that nobody watches, else what
    /// `gm.when_busy` says.
    pub(crate) async fn claim(&self, session: &SessionId) -> Result<Claim<'_>, PoolError> {
        let deadline = Instant::now() + self.rules.claim_wait.get();
        while Instant::now() < deadline {
            let mut seats = self.read().await?;
            let Some(index) = self.choose(session, &seats).await? else {
                if self.others_are_starting(session, &seats) && self.rules.when_busy == WhenBusy::Takeover {
                    sleep(LOOK).await;
                    continue;
                }
                return Err(PoolError::Busy);
            };
            let (seat, slot) = seats.swap_remove(index);
            match self.take(session, seat, slot).await {
                Ok(claim) => return Ok(claim),
                Err(PoolError::Bucket(error)) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(PoolError::Busy)
    }

    async fn take<'a>(
        &'a self,
        session: &SessionId,
        seat: &'a Seat,
        slot: Slot<GameMasterRecord>,
    ) -> Result<Claim<'a>, PoolError> {
        let old = slot.record.unwrap_or_default();
        let choose = self.last_choose(&old).await?;
        let record = old.claimed(session, now_ms(), choose, &self.rules);
        let revision = self.records.write(&seat.key, &record, slot.revision).await?;
        Ok(Claim { pool: self, seat, record, revision, old })
    }

    /// Which one to take; `None` if they are all in use. One that does not answer is taken only where there is no other: then
    /// that is what the start is answered.
    async fn choose(&self, session: &SessionId, seats: &Seats<'_>) -> Result<Option<usize>, PoolError> {
        let mut standings = Vec::with_capacity(seats.len());
        for (_, slot) in seats {
            standings.push(self.standing(session, slot).await?);
        }
        let own = (0..seats.len()).filter(|index| standings[*index] == Standing::Own);
        let own = own.max_by_key(|index| seats[*index].1.record().map(|record| record.after));
        if let Some(index) = own
            && seats[index].0.pulse.beats().await
        {
            return Ok(Some(index));
        }
        let mut free: Vec<usize> = (0..seats.len()).filter(|index| standings[*index] == Standing::Free).collect();
        // Those known to be out come last, so that one that hangs costs a start its time only once.
        free.sort_by_key(|index| seats[*index].0.pulse.is_out());
        for index in &free {
            if seats[*index].0.pulse.beats().await {
                return Ok(Some(*index));
            }
        }
        let up = join_all(seats.iter().map(|(seat, _)| seat.pulse.beats())).await;
        for (index, standing) in standings.iter().enumerate() {
            if let (true, Standing::Played { rested }, Some(record)) = (up[index], standing, seats[index].1.record())
                && let Some(player) = &record.session
                && (self.saw_end(player, record.after).await?
                    || (*rested && self.watching.nobody_watches(player).await))
            {
                return Ok(Some(index));
            }
        }
        let starting = (0..seats.len()).filter(|index| up[*index] && standings[*index] == Standing::Starting);
        let starting: Vec<usize> = starting.collect();
        let observed = join_all(starting.iter().map(|index| self.observe(&seats[*index]))).await;
        for (index, observed) in starting.into_iter().zip(observed) {
            if observed? != Observed::Alive {
                // What has changed meanwhile refuses the claim, and is looked at again.
                return Ok(Some(index));
            }
        }
        let unreachable = own.or_else(|| free.first().copied()).filter(|_| !up.contains(&true));
        if unreachable.is_some() || self.rules.when_busy == WhenBusy::Refuse {
            return Ok(unreachable);
        }
        let played = (0..seats.len()).filter(|index| up[*index] && standings[*index] != Standing::Starting);
        Ok(played.min_by_key(|index| seats[*index].1.record().map_or(0, |record| record.since)))
    }

    async fn standing(&self, session: &SessionId, slot: &Slot<GameMasterRecord>) -> Result<Standing, PoolError> {
        let Some(record) = slot.record() else { return Ok(Standing::Free) };
        let choose = self.last_choose(record).await?;
        Ok(record.standing(session, now_ms(), choose, &self.rules))
    }

    /// Whether the game of `session` whose start stands at `after` in the log has come to its end.
    async fn saw_end(&self, session: &SessionId, after: u64) -> Result<bool, ApiError> {
        let end = subject::gm_event(session, &EventType::from_wire("end"));
        let last = jetstream::last_by_subject_leader(&self.nats, EVENTS, &end).await?;
        Ok(last.is_some_and(|last| last.sequence > after))
    }

    fn others_are_starting(&self, session: &SessionId, seats: &Seats<'_>) -> bool {
        let starting =
            |record: &GameMasterRecord| record.state == State::Starting && record.session.as_ref() != Some(session);
        seats.iter().any(|(_, slot)| slot.record().is_some_and(starting))
    }

    /// Watches a start that is somebody else's until it is clear whether its bridge lives. The bridge rewrites the start's
    /// record; one that has no new revision for as long as an action's record may have none has lapsed. Each look is a
    /// round trip to the leader, so that a bad connection is never taken for somebody's death.
    async fn observe(&self, (seat, slot): &(&Seat, Slot<GameMasterRecord>)) -> Result<Observed, BucketError> {
        let Some(starter) = slot.record().and_then(|record| record.session.as_ref()) else {
            return Ok(Observed::Changed);
        };
        let since = Instant::now();
        let mut first = None;
        loop {
            let start = self.starts.get(&start_key(starter)).await?;
            if !start.record().is_some_and(|record| record.is_running()) {
                return Ok(Observed::Lapsed);
            }
            if *first.get_or_insert(start.revision) != start.revision {
                return Ok(Observed::Alive);
            }
            if since.elapsed() >= self.lapse {
                return Ok(Observed::Lapsed);
            }
            sleep(LOOK).await;
            if self.records.get(&seat.key).await?.revision != slot.revision {
                return Ok(Observed::Changed);
            }
        }
    }
}

impl<'a> Claim<'a> {
    /// The Game Master.
    pub(crate) const fn seat(&self) -> &'a Seat {
        self.seat
    }

    /// Whose game it was, and has to be told. Nobody who has started anew elsewhere, as happens while a start that died
    /// holds the Game Master: the game that would be ended is another one.
    pub(crate) async fn previous(&mut self) -> Result<Option<Previous>, BucketError> {
        let Some(previous) = self.record.previous.clone() else { return Ok(None) };
        let newer = |record: &GameMasterRecord| {
            record.session.as_ref() == Some(&previous.session)
                && (record.state == State::Starting || record.after > previous.after)
        };
        let seats = self.pool.read().await?;
        if seats.iter().any(|(seat, slot)| seat.key != self.seat.key && slot.record().is_some_and(newer)) {
            self.told();
        }
        Ok(self.record.previous.clone())
    }

    /// Whether the previous game had come to its end.
    pub(crate) async fn previous_saw_end(&self) -> Result<bool, ApiError> {
        match &self.record.previous {
            Some(previous) => self.pool.saw_end(&previous.session, previous.after).await,
            None => Ok(true),
        }
    }

    /// The previous player has been told that the game is over.
    pub(crate) fn told(&mut self) {
        self.record.previous = None;
    }

    /// Makes sure that the claim still stands.
    pub(crate) async fn confirm(&mut self) -> Result<(), BucketError> {
        self.revision = self.pool.records.write(&self.seat.key, &self.record, self.revision).await?;
        Ok(())
    }

    /// The game has started: its alias shows the session from behind `after`, the sequence of the start's `_action`.
    pub(crate) async fn playing(mut self, g: Option<String>, after: u64) -> Result<(), BucketError> {
        if let Some(g) = g.as_deref() {
            self.show(g, after).await?;
        }
        self.record =
            GameMasterRecord { g: g.or(self.record.g), state: State::Playing, since: now_ms(), after, ..self.record };
        self.pool.records.write(&self.seat.key, &self.record, self.revision).await.map(drop)
    }

    /// The start came to nothing. Who played here before plays on, unless told that the game is over; a session that
    /// wanted to start anew does, too: what became of its game is not known.
    pub(crate) async fn release(self) -> Result<(), BucketError> {
        let plays_on = self.old.state == State::Playing
            && (self.old.session == self.record.session || self.record.previous.is_some());
        let record = if plays_on {
            GameMasterRecord { choose: None, cut: self.record.cut, ..self.old }
        } else {
            GameMasterRecord { session: None, state: State::Free, ..self.record }
        };
        self.pool.records.write(&self.seat.key, &record, self.revision).await.map(drop)
    }

    async fn show(&mut self, g: &str, after: u64) -> Result<(), BucketError> {
        let (Ok(alias), Some(session)) = (SessionId::new(g), self.record.session.clone()) else {
            tracing::warn!("the game master's id is no session id: its socket will show nothing");
            return Ok(());
        };
        let target = AliasTarget { session, after };
        let mut races = 0;
        loop {
            let slot = self.pool.aliases.get(alias.as_str()).await?;
            // Between the two: who took the Game Master before this is seen here, and who takes it later writes the alias
            // later, too. So a start that was taken for dead never undoes what a newer one has shown.
            self.confirm().await?;
            match self.pool.aliases.write(alias.as_str(), &target, slot.revision).await {
                Err(error) if error.is_conflict() && races < RACES => races += 1,
                written => return written.map(drop),
            }
        }
    }
}
