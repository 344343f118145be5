//! Which session plays on which Game Master.
//!
//! A Game Master plays one game: a start wipes whatever runs there, and its own id G is the same for every game. So each has
//! a record that all bridges share, and whoever wants to start claims it first, by compare-and-set.
//! [`record`] holds the rules, [`claim`] takes a Game Master for a start, [`watching`] asks the edges who looks on, [`pulse`]
//! whether a Game Master answers at all: one that does not is given to nobody while another one can be had.

mod claim;
mod look;
mod pulse;
mod record;
mod watching;

use futures_util::future::{BoxFuture, try_join_all};
use herald_protocol::{
    EventType, SessionId, headers,
    record::{ActionEvent, ActionKind, AliasTarget, SessionRecord},
    subject,
};
use herald_runtime::{
    bucket::{Bucket, BucketError, Slot},
    jetstream::{self, ApiError, Stored},
    nats::Nats,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{claim::Claim, look::MasterLook, record::now_ms};
use self::{
    pulse::Pulse,
    record::{Choose, GameMasterRecord, State},
    watching::Watching,
};
use crate::{
    action::{Lease, LeaseError},
    arena::EVENTS,
    config::GmConfig,
    game_master::{GameMaster, GameMasters},
    refusal::chain,
    starts::{StartRecord, start_key},
};

/// The bucket that holds them, beside the aliases G -> session that edges resolve.
pub(crate) const ALIASES: &str = "ALIASES";
/// Lost races of one note in a Game Master's record before it is given up.
const RACES: u32 = 16;

/// The Game Masters, in the order of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    seats: std::sync::Arc<[Seat]>,
    records: Bucket<GameMasterRecord>,
    aliases: Bucket<AliasTarget>,
    starts: Bucket<StartRecord>,
    nats: Nats,
    watching: Watching,
    rules: GmConfig,
    lapse: std::time::Duration,
}

/// One Game Master and the key of its record.
#[derive(Debug)]
pub(crate) struct Seat {
    /// `gm.<hash of its URL>`: no session id has a dot, so no alias can be taken for it.
    pub(crate) key: String,
    /// The Game Master itself.
    pub(crate) gm: GameMaster,
    /// Whether it answers.
    pub(crate) pulse: Pulse,
}

/// Whose news it is when a Game Master sends some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Played {
    /// The session that plays there now.
    pub(crate) session: SessionId,
    /// The news belong to a choose of an earlier game.
    pub(crate) dropped: bool,
}

/// Why no Game Master was to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// All of them are in use.
    #[error("all game masters are busy")]
    Busy,
    /// A record could not be read or written.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The log of a session could not be read.
    #[error("the log of a session could not be read")]
    Log(#[from] ApiError),
}

impl Pool {
    /// The Game Masters of the configuration.
    pub(crate) fn new(nats: &Nats, config: &GmConfig, lapse: std::time::Duration) -> anyhow::Result<Self> {
        let masters = GameMasters::new(config)?;
        let seats = config.base_urls.iter().enumerate().map(|(index, url)| {
            let gm = masters.at(url)?;
            Ok(Seat { key: key(url), pulse: Pulse::new(&gm, index + 1), gm })
        });
        Ok(Self {
            seats: seats.collect::<anyhow::Result<_>>()?,
            records: Bucket::new(nats, ALIASES),
            aliases: Bucket::new(nats, ALIASES),
            starts: Bucket::new(nats, crate::sessions::SESSIONS),
            nats: nats.clone(),
            watching: Watching::new(nats, config),
            rules: config.clone(),
            lapse,
        })
    }

    /// Keeps itself informed about which edges there are, until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.watching.clone().call_the_roll(stop).await;
    }

    /// All Game Masters.
    pub(crate) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// The Game Master with that key, if the configuration still has it.
    pub(crate) fn seat(&self, key: &str) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.key == key)
    }

    /// The Game Master on which the session plays now. The session's own record says where to look first.
    pub(crate) async fn of(&self, session: &SessionId, known: &SessionRecord) -> Result<Option<&Seat>, BucketError> {
        let Some(key) = known.gm.as_deref() else { return Ok(None) };
        if let Some(seat) = self.seat(key) {
            let slot = self.records.get(&seat.key).await?;
            if slot.record().is_some_and(|record| record.is_played_by(session)) {
                return Ok(Some(seat));
            }
        }
        Ok(self.played_by(session).await?.map(|(seat, ..)| seat))
    }

    /// Leaves every other Game Master on which the session played before it started at `seat`.
    pub(crate) async fn leave_others(&self, session: &SessionId, seat: &Seat) -> Result<(), PoolError> {
        for (other, slot) in self.read().await? {
            let Some(record) = slot.record.filter(|record| record.is_played_by(session)) else { continue };
            if other.key != seat.key {
                let choose = self.last_choose(&record).await?;
                // Where somebody else was faster it has been taken.
                let _taken = self.note(other, &record.left(now_ms(), choose), slot.revision).await?;
            }
        }
        Ok(())
    }

    /// Leaves every Game Master on which the session has played since before the action whose `_action` has the stream sequence
    /// `before`: one that it has started on since is another game's. With `starting`, also where it was about to.
    pub(crate) async fn leave(&self, session: &SessionId, before: u64, starting: bool) -> Result<(), PoolError> {
        let of_it = |record: &GameMasterRecord| {
            record.is_played_by(session) && record.after < before
                || starting && record.state == State::Starting && record.session.as_ref() == Some(session)
        };
        for _ in 0..RACES {
            let slots = self.read().await?;
            let mut left = true;
            for (seat, slot) in slots {
                let Some(record) = slot.record.filter(of_it) else { continue };
                let choose = self.last_choose(&record).await?;
                // Where somebody else was faster it is looked at again.
                left &= self.note(seat, &record.left(now_ms(), choose), slot.revision).await?;
            }
            if left {
                return Ok(());
            }
        }
        Err(BucketError::Conflict { bucket: ALIASES }.into())
    }

    /// Whether the session plays at `seat` since the start whose `_action` has the stream sequence `after`.
    pub(crate) async fn is_played(&self, seat: &Seat, session: &SessionId, after: u64) -> Result<bool, BucketError> {
        let record = self.records.get(&seat.key).await?.record;
        Ok(record.is_some_and(|record| record.is_played_by(session) && record.after == after))
    }

    /// Deletes the aliases that show the session from behind a place before `before`.
    pub(crate) async fn forget_aliases(&self, session: &SessionId, before: u64) -> Result<(), PoolError> {
        // The records of Game Masters have keys of two tokens.
        let prefix = format!("$KV.{ALIASES}.");
        let keys = jetstream::subjects(&self.nats, &format!("KV_{ALIASES}"), &format!("{prefix}*")).await?;
        for subject in keys.keys() {
            let Some(key) = subject.strip_prefix(&prefix) else { continue };
            let slot = self.aliases.get(key).await?;
            if slot.record().is_some_and(|target| target.session == *session && target.after < before) {
                match self.aliases.delete(key, slot.revision).await {
                    // It shows something else by now.
                    Err(error) if error.is_conflict() => {}
                    deleted => drop(deleted?),
                }
            }
        }
        Ok(())
    }

    /// Forgets a start whose action is lost, so that nobody waits for its answer. Not a newer one.
    async fn forget_start(&self, session: &SessionId, action: u64) -> Result<(), PoolError> {
        let key = start_key(session);
        let slot = self.starts.get(&key).await?;
        let opened = jetstream::get_leader(&self.nats, EVENTS, action).await?;
        let claimed = |start: StartRecord| start.has_claimed(opened.as_ref().and_then(Stored::message_id));
        if slot.record.is_some_and(claimed) {
            self.starts.delete(&key, slot.revision).await?;
        }
        Ok(())
    }

    /// The Game Master whose own id is `g`, with its record.
    pub(crate) async fn by_game(&self, g: &str) -> Result<Option<(&Seat, Option<Played>)>, BucketError> {
        let slots = self.read().await?;
        Ok(slots.into_iter().find_map(|(seat, slot)| {
            let record = slot.record.filter(|record| record.g.as_deref() == Some(g))?;
            let dropped = record.drop_news;
            Some((seat, record.session.map(|session| Played { session, dropped })))
        }))
    }

    /// Who plays on the Game Master at `seat`.
    pub(crate) async fn player(&self, seat: &Seat) -> Result<Option<SessionId>, BucketError> {
        let record = self.records.get(&seat.key).await?.record.filter(|record| record.state == State::Playing);
        Ok(record.and_then(|record| record.session))
    }

    /// The game's own id of the Game Master at `seat`, once known.
    pub(crate) async fn game_of(&self, seat: &Seat) -> Result<Option<String>, BucketError> {
        Ok(self.records.get(&seat.key).await?.record.and_then(|record| record.g))
    }

    /// Notes that an action of the session is about to ask for something, where the session still plays.
    async fn begin(&self, session: &SessionId, kind: ActionKind, action: u64) -> Result<Option<&Seat>, PoolError> {
        for _ in 0..RACES {
            let Some((seat, mut record, revision)) = self.played_by(session).await? else { return Ok(None) };
            let choose = self.last_choose(&record).await?;
            record.begin(kind, action, now_ms(), choose);
            if self.note(seat, &record, revision).await? {
                return Ok(Some(seat));
            }
        }
        Err(BucketError::Conflict { bucket: ALIASES }.into())
    }

    /// Notes that the stream of an action is over.
    async fn finish(&self, session: &SessionId, action: u64, by_itself: bool) -> Result<(), PoolError> {
        for _ in 0..RACES {
            let Some((seat, mut record, revision)) = self.played_by(session).await? else { return Ok(()) };
            if !record.finish(action, by_itself, now_ms()) || self.note(seat, &record, revision).await? {
                return Ok(());
            }
        }
        Err(BucketError::Conflict { bucket: ALIASES }.into())
    }

    /// The Game Master on which the session plays, with its record and that one's revision. Should a start have left it
    /// with two, then the one where it started last.
    async fn played_by(&self, session: &SessionId) -> Result<Option<(&Seat, GameMasterRecord, u64)>, BucketError> {
        let played = self.read().await?.into_iter().filter_map(|(seat, slot)| {
            let record = slot.record.filter(|record| record.is_played_by(session))?;
            Some((seat, record, slot.revision))
        });
        Ok(played.max_by_key(|(_, record, _)| record.after))
    }

    /// Writes a record; false where somebody else was faster.
    async fn note(&self, seat: &Seat, record: &GameMasterRecord, revision: u64) -> Result<bool, BucketError> {
        match self.records.write(&seat.key, record, revision).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What became of a Game Master's last choose whose end nobody has noted, as happens when a bridge dies. The log says
    /// it: a choose is over with its `result` or the Game Master's own `error`, and cut where a bridge ended it, or another
    /// action was claimed before that.
    async fn last_choose(&self, record: &GameMasterRecord) -> Result<Choose, ApiError> {
        let (Some(session), Some(choose)) = (&record.session, record.choose) else { return Ok(Choose::Over) };
        let fence = subject::gm_action(session);
        let opened = jetstream::get_leader(&self.nats, EVENTS, choose).await?;
        let Some(opened) = opened.filter(|opened| *opened.subject == *fence) else {
            // The log was lost, and nothing will ever tell: it runs on inside for as long as one that was cut.
            return Ok(Choose::Cut(record.since));
        };
        let action = self.next_event(choose, &fence).await?;
        let its_own = |event: &Stored| action.as_ref().is_none_or(|action| event.sequence < action.sequence);
        let topic = |name| subject::gm_event(session, &EventType::from_wire(name));
        if self.next_event(choose, &topic("result")).await?.is_some_and(|result| its_own(&result)) {
            return Ok(Choose::Over);
        }
        let opened = serde_json::from_slice::<ActionEvent>(&opened.payload);
        let number = opened.ok().map(|opened| opened.n.to_string());
        let mut from = choose;
        while let Some(error) = self.next_event(from, &topic("error")).await?.filter(its_own) {
            match error.headers.get(headers::ENDS) {
                None => return Ok(Choose::Over),
                Some(ends) if Some(ends.as_str()) == number.as_deref() => return Ok(Choose::Cut(error.time_ms())),
                // Its first word, by which it ended the action before.
                Some(_) => from = error.sequence,
            }
        }
        Ok(action.map_or(Choose::Running, |action| Choose::Cut(action.time_ms())))
    }

    async fn next_event(&self, after: u64, subject: &str) -> Result<Option<Stored>, ApiError> {
        jetstream::next_by_subject_leader(&self.nats, EVENTS, after + 1, subject).await
    }

    /// The records of all Game Masters, each read through the leader.
    async fn read(&self) -> Result<Vec<(&Seat, Slot<GameMasterRecord>)>, BucketError> {
        let slots = try_join_all(self.seats.iter().map(|seat| self.records.get(&seat.key))).await?;
        Ok(self.seats.iter().zip(slots).collect())
    }
}

impl Lease for Pool {
    fn begin<'a>(
        &'a self,
        session: &'a SessionId,
        kind: ActionKind,
        action: u64,
    ) -> BoxFuture<'a, Result<Option<GameMaster>, LeaseError>> {
        Box::pin(async move {
            let seat = self.begin(session, kind, action).await.map_err(|error| LeaseError(error.into()))?;
            Ok(seat.map(|seat| seat.gm.clone()))
        })
    }

    fn finish<'a>(&'a self, session: &'a SessionId, action: u64, by_itself: bool) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(error) = self.finish(session, action, by_itself).await {
                tracing::warn!(%session, error = chain(&error), "the end of an action was not noted; the log tells it, too");
            }
        })
    }

    fn lost<'a>(&'a self, session: &'a SessionId, kind: ActionKind, action: u64) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if kind == ActionKind::Start
                && let Err(error) = self.forget_start(session, action).await
            {
                tracing::debug!(%session, error = chain(&error), "a lost start was not forgotten; it lapses");
            }
        })
    }
}

impl GameMasterRecord {
    fn is_played_by(&self, session: &SessionId) -> bool {
        self.state == State::Playing && self.session.as_ref() == Some(session)
    }
}

/// The key of the record of the Game Master at `url`.
fn key(url: &str) -> String {
    let url = url.trim_end_matches('/');
    format!("gm.{}", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, url.as_bytes()).simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_no_session_id_and_does_not_show_the_url() {
        let key = key("http://user:secret@host:1/");
        assert!(SessionId::new(&key).is_err() && !key.contains("host"));
        assert_eq!(key, super::key("http://user:secret@host:1"));
    }
}
