//! The clients of a session: every kind with every behaviour, in turn.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use herald_protocol::{Position, SessionId};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinError, JoinHandle},
    time::{Instant, sleep},
};

use super::{
    client::{Client, Status},
    doors::Door,
    notes::{Kind, Notes, Start},
};
use crate::dice::Dice;

/// How often those who wait for clients look.
const LOOK: Duration = Duration::from_millis(20);

/// What a session is in, as its clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// They come and go as they like.
    Free,
    /// They come, stay, and read.
    Calm,
    /// They go.
    Over,
}

/// How a client comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Behaviour {
    /// There from the beginning; never leaves of its own accord.
    Staying,
    /// Leaves at random, and comes back by cursor.
    Leaving,
    /// Comes at random and wants everything from the beginning.
    Late,
    /// Comes at random with a snapshot, leaves, and comes back by cursor or with another one.
    Snapshot,
    /// Leaves at random, and comes back without a cursor.
    Live,
    /// Stops reading for seconds at a time.
    Slow,
    /// As `Leaving`, but it cuts the connection.
    Abrupt,
}

impl Behaviour {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::Staying, Self::Leaving, Self::Late, Self::Snapshot, Self::Live, Self::Slow, Self::Abrupt];

    /// Where it begins.
    #[must_use]
    pub const fn first(self) -> Start {
        match self {
            Self::Late => Start::After(Position::Seq(0)),
            Self::Snapshot => Start::Snapshot,
            _ => Start::Live,
        }
    }

    /// When it comes.
    pub(super) fn comes_after(self, dice: &mut Dice) -> Duration {
        match self {
            Self::Late | Self::Snapshot => span(dice, 1.0, 25.0),
            _ => Duration::ZERO,
        }
    }

    /// When it leaves a connection, if it does.
    pub(super) fn leaves_after(self, dice: &mut Dice) -> Option<Duration> {
        match self {
            Self::Staying | Self::Late | Self::Slow => None,
            Self::Leaving | Self::Live | Self::Abrupt | Self::Snapshot => Some(span(dice, 0.3, 8.0)),
        }
    }

    /// How long it stays away then.
    pub(super) fn stays_away(self, dice: &mut Dice) -> Duration {
        span(dice, 0.0, 4.0)
    }

    /// Whether it comes back to where it was.
    pub(super) fn keeps_place(self, dice: &mut Dice) -> bool {
        match self {
            Self::Live => false,
            Self::Snapshot => dice.chance(0.5),
            _ => true,
        }
    }

    /// How long one that reads slowly reads.
    pub(super) fn reads_for(dice: &mut Dice) -> Duration {
        span(dice, 0.2, 3.0)
    }

    /// How long it does not.
    pub(super) fn pauses_for(dice: &mut Dice) -> Duration {
        span(dice, 1.0, 8.0)
    }
}

fn span(dice: &mut Dice, from: f64, to: f64) -> Duration {
    Duration::from_secs_f64(from + dice.fraction() * (to - from))
}

/// Who watches session `number`: one that stays, of each kind in turn, and then whoever's turn it is among all kinds and
/// behaviours, so that a handful of sessions has seen all of them.
#[must_use]
pub fn roster(number: u64, clients: usize) -> Vec<(Kind, Behaviour)> {
    const KINDS: [Kind; 3] = [Kind::V1, Kind::Plain, Kind::Sse];
    let number = usize::try_from(number).unwrap_or(0);
    let first = (KINDS[number % KINDS.len()], Behaviour::Staying);
    let others = clients.saturating_sub(1);
    let from = number * others;
    // 3 and 7 have no common divisor: both going round together meet in every pair.
    let others = (from..from + others).map(|at| (KINDS[at % KINDS.len()], Behaviour::ALL[at % Behaviour::ALL.len()]));
    std::iter::once(first).chain(others).take(clients).collect()
}

/// Who watches where all of them stay: half of them prove what they got, a quarter is plain, a quarter reads event streams.
#[must_use]
pub fn crowd(clients: usize) -> Vec<(Kind, Behaviour)> {
    const KINDS: [Kind; 4] = [Kind::V1, Kind::Plain, Kind::V1, Kind::Sse];
    (0..clients).map(|at| (KINDS[at % KINDS.len()], Behaviour::Staying)).collect()
}

/// What all clients share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Whether all of them stay ([`crowd`]) instead of coming and going ([`roster`]).
    pub crowd: bool,
    /// The doors.
    pub doors: Arc<[Door]>,
    /// Handshakes at once.
    pub handshakes: Arc<Semaphore>,
}

/// The clients of one session. They end when this is dropped.
#[derive(Debug)]
pub struct Clients {
    phase: watch::Sender<Phase>,
    statuses: Vec<Arc<Status>>,
    tasks: Vec<JoinHandle<Notes>>,
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What became of some clients, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Clients.
    pub clients: u64,
    /// Of them those with an open connection.
    pub open: u64,
    /// Connections opened.
    pub connections: u64,
    /// Events seen.
    pub deliveries: u64,
    /// Connections refused for good: nothing that a checker asks for is wrong.
    pub refused: u64,
}

impl Tally {
    /// Counts these clients.
    pub fn of<'a>(statuses: impl IntoIterator<Item = &'a Arc<Status>>) -> Self {
        let one = |status: &Status| Self {
            clients: 1,
            open: status.is_open().into(),
            connections: status.connections.load(Ordering::Relaxed),
            deliveries: status.deliveries.load(Ordering::Relaxed),
            refused: status.refused.load(Ordering::Relaxed),
        };
        statuses.into_iter().fold(Self::default(), |all, status| all + one(status))
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            clients: self.clients + other.clients,
            open: self.open + other.open,
            connections: self.connections + other.connections,
            deliveries: self.deliveries + other.deliveries,
            refused: self.refused + other.refused,
        }
    }
}

impl Clients {
    /// Starts the clients of a session; `number` counts the sessions of the run.
    #[must_use]
    pub fn start(shared: &Shared, session: &SessionId, number: u64, clients: usize, seed: u64) -> Self {
        let (phase, _) = watch::channel(Phase::Free);
        let (mut statuses, mut tasks) = (Vec::new(), Vec::new());
        let who = if shared.crowd { crowd(clients) } else { roster(number, clients) };
        for (at, (kind, behaviour)) in who.into_iter().enumerate() {
            let status = Arc::<Status>::default();
            let mut dice = Dice::new(seed, &format!("session {number} client {at}"));
            let client = Client {
                session: session.clone(),
                kind,
                behaviour,
                doors: shared.doors.clone(),
                door: dice.index(shared.doors.len()),
                dice,
                phase: phase.subscribe(),
                handshakes: shared.handshakes.clone(),
                status: status.clone(),
            };
            statuses.push(status);
            tasks.push(tokio::spawn(client.run()));
        }
        Self { phase, statuses, tasks }
    }

    /// Asks all of them to come, stay and read, and waits until they are there, or the deadline.
    pub async fn gather(&self, deadline: Instant) -> bool {
        self.phase.send_replace(Phase::Calm);
        self.wait(deadline, Status::is_open).await
    }

    /// Waits until each of them has everything up to that event, or the deadline.
    pub async fn reach(&self, seq: u64, ts_ms: u64, deadline: Instant) -> bool {
        self.wait(deadline, |status| status.has(seq, ts_ms)).await
    }

    async fn wait(&self, deadline: Instant, is: impl Fn(&Status) -> bool) -> bool {
        loop {
            if self.statuses.iter().all(|status| is(status)) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    /// What others may look at, client by client.
    #[must_use]
    pub fn statuses(&self) -> &[Arc<Status>] {
        &self.statuses
    }

    /// Ends them; what they saw.
    pub async fn end(mut self) -> Vec<Notes> {
        self.phase.send_replace(Phase::Over);
        // A client that panicked has no notes: a panic of the checker is no verdict, and is passed on.
        let notes = join_all(std::mem::take(&mut self.tasks)).await;
        notes.into_iter().filter_map(unpanicked).collect()
    }
}

fn unpanicked(notes: Result<Notes, JoinError>) -> Option<Notes> {
    match notes {
        Ok(notes) => Some(notes),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process ends.
            Err(_) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn whoever_asks_anew_has_nothing_until_it_came_again() {
        use std::sync::atomic::Ordering::Relaxed;

        let status = Status::default();
        let see = |seq, ts| status.note_event(seq, ts);
        see(7, 70);
        assert!(!status.has(7, 70), "it is not there");
        status.note_opened(Start::After(Position::Seq(7)), 100);
        assert!(status.has(7, 70) && !status.has(8, 80));
        status.note_opened(Start::Snapshot, 200);
        assert!(!status.has(7, 70), "a snapshot begins with nothing");
        see(7, 70);
        assert!(status.has(7, 70));
        status.note_opened(Start::Live, 300);
        assert!(status.has(9, 299) && status.connections.load(Relaxed) == 3);
    }

    #[test]
    fn a_few_sessions_have_every_kind_with_every_behaviour() {
        let seen: HashSet<_> = (0..4).flat_map(|number| roster(number, 8)).collect();
        assert_eq!(seen.len(), 21);
        for number in 0..30 {
            let roster = roster(number, 5);
            assert!(roster.len() == 5 && roster[0].1 == Behaviour::Staying);
        }
        let proving = crowd(1000).iter().filter(|(kind, _)| *kind == Kind::V1).count();
        assert_eq!((crowd(1000).len(), proving), (1000, 500));
        assert_eq!(roster(3, 1).len(), 1);
        assert!(roster(3, 0).is_empty());
    }
}
