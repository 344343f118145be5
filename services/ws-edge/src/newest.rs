//! Of some connections a session has one at a time: the newest. With a further one the one before is closed, on whichever edge.
//!
//! An edge that lets such a connection in closes its own older ones and says so to all (`edge.newest.<root>.<session>`). Who
//! hears it closes theirs. Nothing is stored: what an edge could not hear, because it was cut off, is said once more when it is
//! back, and every now and then in any case (`EVERY`), as a subscription that overflows says nothing of what it drops. Two that come at the same moment are both said to all, and each edge judges by the same numbers which of them goes:
//!
//! * a connection that was known to all (its edge has heard its own word, `SETTLED` ago) goes before any that comes after it,
//!   whatever the clocks say;
//! * of two that nobody could know of when they came, the one with the lower rank goes: the time at which it came, by its edge's
//!   clock, or one more than the highest rank its edge had heard of for that session, and its name where these are equal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use herald_protocol::{Close, Name, SessionId, subject};
use herald_runtime::{
    metrics::measured,
    nats::{Nats, NatsState},
};
use metrics::{counter, gauge};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::NewestConfig,
    guests::{Conn, Guest, Watcher, Word},
};

/// How long a word takes to reach all edges at the most.
const SETTLED: Duration = Duration::from_secs(2);
/// How long to wait before a lost subscription is made again.
const RETRY: Duration = Duration::from_millis(500);
/// How often all that is so is said anew.
const EVERY: Duration = Duration::from_secs(60);
/// How long a word may wait to be sent.
const SENDING: Duration = Duration::from_secs(1);
/// Words that wait to be sent; where there are more, all that is so is said anew.
const WAITING: usize = 1024;
/// Sessions of which the highest rank heard is remembered; where there are more, all are forgotten that are settled.
const REMEMBERED: usize = 4096;

/// Of which connections of a route a session has one at a time, and how the older ones are closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestRule {
    roles: Vec<Name>,
    code: u16,
    reason: Arc<str>,
}

impl NewestRule {
    /// That of a route.
    #[must_use]
    pub fn of(config: &NewestConfig) -> Self {
        Self { roles: config.roles.clone(), code: config.code, reason: config.reason.as_str().into() }
    }
}

/// What a session has one of: root, session, role.
type Key = (Arc<str>, SessionId, Arc<str>);

/// What an edge says of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    role: Arc<str>,
    conn: Arc<str>,
    rank: u64,
    /// It was there before: this is said once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    held: bool,
}

/// A word on its way to all.
#[derive(Debug)]
struct Said {
    root: Arc<str>,
    session: SessionId,
    claim: Claim,
}

/// The connections of this process of which sessions have one at a time.
pub struct Newest {
    book: Mutex<Book>,
    said: mpsc::Sender<Said>,
}

/// What waits to be said, to be taken along to [`Newest::run`].
pub struct Outbox(mpsc::Receiver<Said>);

#[derive(Default)]
struct Book {
    here: HashMap<Key, Vec<Held>>,
    /// The highest rank heard of lately.
    heard: HashMap<Key, (u64, Instant)>,
    /// Something could not be said: all is to be said anew.
    again: bool,
}

/// A connection of ours.
struct Held {
    guest: Arc<Guest>,
    rank: u64,
    /// When our own word of it was heard.
    heard: Option<Instant>,
}

impl Held {
    /// Whether the connection of that claim comes after this one.
    fn gives_way_to(&self, claim: &Claim, now: Instant) -> bool {
        let settled = self.heard.is_some_and(|heard| now.saturating_duration_since(heard) >= SETTLED);
        let lower = (self.rank, self.guest.conn.as_str()) < (claim.rank, &*claim.conn);
        lower || (settled && !claim.held)
    }

    fn close(&self) {
        let Some(rule) = &self.guest.entrance.newest else { return };
        counter!("herald_superseded_connections_total").increment(1);
        // One that is gone has given way.
        let _gone = self.guest.say(Word::Close(Close::Told { code: rule.code, reason: rule.reason.clone() }));
    }

    fn claim(&self, role: &Arc<str>, held: bool) -> Claim {
        Claim { role: role.clone(), conn: self.guest.conn.as_str().into(), rank: self.rank, held }
    }
}

impl Book {
    /// A connection has come: the older ones go. What is to be said of it.
    fn enter(&mut self, key: Key, guest: &Arc<Guest>, now: Instant) -> Said {
        self.here.remove(&key).into_iter().flatten().for_each(|older| older.close());
        let above = self.heard.get(&key).map_or(0, |(rank, _)| rank.saturating_add(1));
        let held = Held { guest: guest.clone(), rank: guest.since_ms.max(above), heard: None };
        let said = Said { root: key.0.clone(), session: key.1.clone(), claim: held.claim(&key.2, false) };
        self.note(key.clone(), held.rank, now);
        self.here.insert(key, vec![held]);
        said
    }

    fn leave(&mut self, key: &Key, conn: Conn) {
        if let Some(all) = self.here.get_mut(key) {
            all.retain(|held| held.guest.conn != conn);
            if all.is_empty() {
                self.here.remove(key);
            }
        }
    }

    /// A word was heard. What is to be said to it, if anything: who said it does not know of a newer one.
    fn hear(&mut self, key: Key, claim: &Claim, now: Instant) -> Option<Said> {
        self.note(key.clone(), claim.rank, now);
        let all = self.here.get_mut(&key)?;
        let mut answer = None;
        all.retain_mut(|held| {
            if held.guest.conn.as_str() == &*claim.conn {
                held.heard.get_or_insert(now);
                return true;
            }
            let gives_way = held.gives_way_to(claim, now);
            if gives_way {
                held.close();
            } else if claim.held {
                answer = Some(held.claim(&key.2, true));
            }
            !gives_way
        });
        if all.is_empty() {
            self.here.remove(&key);
        }
        answer.map(|claim| Said { root: key.0, session: key.1, claim })
    }

    fn note(&mut self, key: Key, rank: u64, now: Instant) {
        if self.heard.len() >= REMEMBERED {
            self.heard.retain(|_, (_, at)| now.saturating_duration_since(*at) < SETTLED);
        }
        if self.heard.len() < 2 * REMEMBERED {
            let known = self.heard.entry(key).or_insert((rank, now));
            *known = (known.0.max(rank), now);
        }
    }

    /// Everything that is so, to be said anew. `unheard`: others may not know of any of it.
    fn all(&mut self, unheard: bool) -> Vec<Said> {
        self.again = false;
        let mut all = Vec::new();
        for ((root, session, role), held) in &mut self.here {
            for held in held {
                if unheard {
                    held.heard = None;
                }
                all.push(Said { root: root.clone(), session: session.clone(), claim: held.claim(role, true) });
            }
        }
        all
    }
}

impl Newest {
    /// None yet.
    #[must_use]
    pub fn new() -> (Arc<Self>, Outbox) {
        let (said, unsaid) = mpsc::channel(WAITING);
        let newest = Arc::new(Self { book: Mutex::default(), said });
        let waiting = |newest: &Self| newest.said.max_capacity() - newest.said.capacity();
        measured(gauge!("herald_newest_waiting_count"), &newest, waiting);
        (newest, Outbox(unsaid))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says and hears until `stop`.
    pub async fn run(self: Arc<Self>, nats: Nats, Outbox(mut unsaid): Outbox, stop: CancellationToken) {
        let endless = async {
            loop {
                match nats.client().subscribe(subject::NEWEST_ALL).await {
                    Ok(heard) => self.exchange(&nats, heard, &mut unsaid).await,
                    Err(error) => tracing::warn!(%error, "other edges are not heard, trying again"),
                }
                sleep(RETRY).await;
            }
        };
        stop.run_until_cancelled(endless).await;
    }

    /// Until nothing is heard any more.
    async fn exchange(&self, nats: &Nats, mut heard: Subscriber, unsaid: &mut mpsc::Receiver<Said>) {
        let mut state = nats.state();
        let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut anew, mut unheard) = (true, true);
        loop {
            if anew && nats.connected() {
                let all = self.book().all(unheard);
                (anew, unheard) = (false, false);
                for said in all {
                    self.say(nats, said).await;
                }
            }
            tokio::select! {
                message = heard.next() => {
                    let Some(message) = message else { return };
                    if let Some(answer) = self.hear(&message) {
                        self.say(nats, answer).await;
                    }
                }
                said = unsaid.recv() => {
                    // The other end lives as long as we do.
                    let Some(said) = said else { return };
                    self.say(nats, said).await;
                    anew |= self.book().again;
                    unheard |= anew;
                }
                _ = ticks.tick() => anew = true,
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    anew |= matches!(*state.borrow_and_update(), NatsState::Connected { .. });
                    unheard |= anew;
                }
            }
        }
    }

    fn hear(&self, message: &Message) -> Option<Said> {
        let named = subject::parse_newest(&message.subject);
        let Some(((root, session), claim)) = named.zip(serde_json::from_slice::<Claim>(&message.payload).ok()) else {
            tracing::debug!(subject = %message.subject, "another edge said something that can't be read");
            return None;
        };
        self.book().hear((root.into(), session, claim.role.clone()), &claim, Instant::now())
    }

    async fn say(&self, nats: &Nats, Said { root, session, claim }: Said) {
        let Ok(bytes) = serde_json::to_vec(&claim) else { return };
        let client = nats.client();
        let sending = client.publish(subject::newest(&root, &session), bytes.into());
        if !matches!(timeout(SENDING, sending).await, Ok(Ok(()))) {
            self.unsaid(&mut self.book());
        }
    }

    /// A word could not be said: all are said anew.
    fn unsaid(&self, book: &mut Book) {
        counter!("herald_newest_unsaid_total").increment(1);
        book.again = true;
    }
}

/// Of what a guest is the newest, if of anything.
fn key_of(guest: &Guest, session: &SessionId) -> Option<Key> {
    let (rule, role) = guest.entrance.newest.as_ref().zip(guest.role.as_ref())?;
    let has_one = rule.roles.iter().any(|one| one.as_str() == &**role);
    has_one.then(|| (guest.entrance.root.clone(), session.clone(), role.clone()))
}

impl Watcher for Arc<Newest> {
    fn entered(&self, guest: &Arc<Guest>, session: &SessionId) {
        let Some(key) = key_of(guest, session) else { return };
        let mut book = self.book();
        let said = book.enter(key, guest, Instant::now());
        if self.said.try_send(said).is_err() {
            self.unsaid(&mut book);
        }
    }

    fn left(&self, guest: &Arc<Guest>, session: &SessionId) {
        if let Some(key) = key_of(guest, session) {
            self.book().leave(&key, guest.conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::{
        Entrance,
        tests::{entrance, guest},
    };

    /// Edges that hear each other's words whenever a test says so.
    struct World {
        edges: Vec<Book>,
        entrance: Arc<Entrance>,
        key: Key,
        now: Instant,
    }

    impl World {
        fn new(edges: usize) -> Self {
            let rule = NewestRule {
                roles: vec![Name::new("dm").unwrap()],
                code: 4409,
                reason: "Superseded DM connection".into(),
            };
            let entrance = Arc::new(Entrance { newest: Some(Arc::new(rule)), ..entrance("table") });
            let key = ("table".into(), SessionId::new("s").unwrap(), "dm".into());
            Self { edges: (0..edges).map(|_| Book::default()).collect(), entrance, key, now: Instant::now() }
        }

        /// One comes to an edge whose clock is `since`.
        fn come(&mut self, edge: usize, since: u64) -> (Arc<Guest>, Claim) {
            let mut guest = guest(&self.entrance, None, Some("dm"));
            guest.since_ms = since;
            let guest = Arc::new(guest);
            let said = self.edges[edge].enter(self.key.clone(), &guest, self.now);
            (guest, said.claim)
        }

        fn hear(&mut self, edge: usize, claim: &Claim) -> Option<Claim> {
            self.edges[edge].hear(self.key.clone(), claim, self.now).map(|said| said.claim)
        }

        /// All edges hear it.
        fn tell(&mut self, claim: &Claim) -> Vec<Claim> {
            (0..self.edges.len()).filter_map(|edge| self.hear(edge, claim)).collect()
        }
    }

    fn is_closed(guest: &Guest) -> bool {
        match guest.next_word() {
            None => false,
            Some(word) => {
                let told = Close::Told { code: 4409, reason: "Superseded DM connection".into() };
                assert_eq!(word, Word::Close(told));
                true
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_comes_later_stays_whatever_the_clocks_say() {
        for (first, second) in [(1000, 2000), (2000, 1000)] {
            for elsewhere in [0, 1] {
                let mut world = World::new(2);
                let (one, claim) = world.come(0, first);
                world.tell(&claim);
                world.now += SETTLED;
                let (two, claim) = world.come(elsewhere, second);
                world.tell(&claim);
                assert!(is_closed(&one) && !is_closed(&two), "{first} {second} {elsewhere}");
            }
        }
        // Right behind the first: its edge has heard of that.
        let mut world = World::new(2);
        let (one, claim) = world.come(0, 2000);
        world.tell(&claim);
        let (two, claim) = world.come(1, 1000);
        world.tell(&claim);
        assert!(is_closed(&one) && !is_closed(&two));
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_come_at_once_exactly_one_stays_in_whatever_order_their_edges_hear() {
        for order in 0..8 {
            let mut world = World::new(2);
            let ((one, of_one), (two, of_two)) = (world.come(0, 1000), world.come(1, 1000));
            for edge in 0..2 {
                let first_two = order & (1 << edge) != 0;
                let (first, second) = if first_two { (&of_two, &of_one) } else { (&of_one, &of_two) };
                assert_eq!((world.hear(edge, first), world.hear(edge, second)), (None, None));
            }
            assert_ne!(is_closed(&one), is_closed(&two), "{order}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_cut_off_hears_it_when_it_is_back() {
        let mut world = World::new(2);
        let (one, claim) = world.come(0, 1000);
        world.tell(&claim);
        world.now += 10 * SETTLED;
        // The first edge does not hear of it; then it says what it has.
        let (two, claim) = world.come(1, 9000);
        world.hear(1, &claim);
        world.now += 10 * SETTLED;
        let held = world.edges[0].all(true);
        assert_eq!((held.len(), held[0].claim.held), (1, true));
        let answers = world.tell(&held[0].claim);
        assert_eq!(answers.len(), 1, "who knows better says so");
        assert!(world.tell(&answers[0]).is_empty());
        assert!(is_closed(&one) && !is_closed(&two));
        // Both were cut off, and both are back.
        let mut world = World::new(2);
        let ((one, _), (two, _)) = (world.come(0, 1000), world.come(1, 2000));
        world.now += 10 * SETTLED;
        for edge in [1, 0] {
            for held in world.edges[edge].all(true) {
                for answer in world.tell(&held.claim) {
                    assert!(world.tell(&answer).is_empty());
                }
            }
        }
        assert!(is_closed(&one) && !is_closed(&two));
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_that_was_dropped_on_its_way_is_made_up_for_by_what_is_said_every_now_and_then() {
        let mut world = World::new(2);
        let (one, claim) = world.come(0, 1000);
        world.tell(&claim);
        world.now += SETTLED;
        // The edge of the first was not cut off, but this word was dropped.
        let (two, claim) = world.come(1, 900);
        world.hear(1, &claim);
        world.now += EVERY;
        for edge in [0, 1] {
            for held in world.edges[edge].all(false) {
                for answer in world.tell(&held.claim) {
                    assert!(world.tell(&answer).is_empty());
                }
            }
        }
        assert!(is_closed(&one) && !is_closed(&two));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_and_who_has_another_role_is_nobody_s_rival() {
        let mut world = World::new(1);
        let (one, _) = world.come(0, 1000);
        world.edges[0].leave(&world.key, one.conn);
        assert!(world.edges[0].here.is_empty());
        let (_two, _) = world.come(0, 2000);
        assert!(!is_closed(&one));
        let session = SessionId::new("s").unwrap();
        let of = |role| key_of(&guest(&world.entrance, None, role), &session);
        assert!(of(Some("dm")).is_some() && of(Some("player")).is_none() && of(None).is_none());
        for number in 0..3 * REMEMBERED {
            let key = ("table".into(), SessionId::new(&number.to_string()).unwrap(), "dm".into());
            world.edges[0].note(key, 1, world.now);
        }
        assert!(world.edges[0].heard.len() <= 2 * REMEMBERED);
    }
}
