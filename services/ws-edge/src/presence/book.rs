//! Who is there, as this edge knows it: what it is told by its own connections and by other edges, and what it says to them.
//!
//! Nothing here waits or sends: whoever has a book brings it what was heard, and asks it now and then what is to be said.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use herald_protocol::{
    InstanceId,
    presence::{Asks, Part, Person, PersonId, Room, Said},
};
use metrics::{counter, gauge};
use tokio::time::Instant;

use super::{
    news::{Pace, Told},
    others::{News, Others},
    own::Own,
    person::RoomId,
    rooms::{ME, Most, Page, Rooms},
};
use crate::config::PresenceConfig;

/// About how many bytes of changes are said at once: well below the smallest limit that a server is given.
const AT_ONCE: usize = 128 << 10;
/// What a person takes in a message beside their names.
const PERSON: usize = 80;
/// What a session does.
const ROOM: usize = 160;
/// Who comes back to another edge at the last moment is heard of so many batches later.
const BATCHES: u32 = 4;
/// How often all of it is said at most, however often it is asked for.
const WHOLE_PAUSE: Duration = Duration::from_millis(500);

/// Who is there.
#[derive(Debug)]
pub struct Book {
    /// Our name among edges, for as long as this process lives.
    life: InstanceId,
    name: InstanceId,
    beat: Duration,
    grace: Duration,
    /// The roots whose sessions are of interest.
    roots: HashSet<Arc<str>>,
    rooms: Rooms,
    own: Own,
    others: Others,
    /// What others have yet to be told: who is there now, and (`None`) who is no more.
    pending: HashMap<RoomId, HashMap<PersonId, Option<Arc<Person>>>>,
    /// The number of the last message with changes.
    n: u64,
    beat_at: Instant,
    /// Whether everybody is to be asked for everything.
    greets: bool,
    /// Whether we are asked for everything, and when that may be said.
    whole_asked: bool,
    whole_at: Instant,
    /// When we last heard ourselves. An edge that does not even hear itself draws no conclusions about others.
    heard_self: Instant,
    deaf: bool,
    /// When all edges there are will have spoken.
    complete_at: Instant,
    /// Nothing more is said.
    ended: bool,
}

impl Book {
    /// A book with nobody in it. `life`: another one for each process that ever runs; `name`: what people call it.
    #[must_use]
    pub fn new(
        life: InstanceId,
        name: InstanceId,
        roots: impl IntoIterator<Item = Arc<str>>,
        config: &PresenceConfig,
        now: Instant,
    ) -> Self {
        let most = Most { of_session: config.max_persons, total: config.max_total };
        let pace = Pace { frames: config.frames, deliveries: config.deliveries };
        Self {
            life,
            name,
            beat: config.beat.get(),
            grace: config.grace.get(),
            roots: roots.into_iter().collect(),
            rooms: Rooms::new(most, pace),
            own: Own::new(config.grace.get() + config.batch.get() * BATCHES, config.max_total),
            others: Others::new(config.timeout.get()),
            pending: HashMap::new(),
            n: 0,
            beat_at: now,
            greets: true,
            whole_asked: false,
            whole_at: now,
            heard_self: now,
            deaf: false,
            complete_at: now + config.beat.get(),
            ended: false,
        }
    }

    /// A connection of somebody has come. `told`: whether it is told who is there.
    pub fn enter(&mut self, room_id: &RoomId, mut person: Person, told: bool) {
        if let Some(since) = self.rooms.since(room_id, person.id) {
            // By another edge they have been there for longer.
            person.since = person.since.min(since);
        }
        if told {
            self.rooms.audience(room_id, true);
        }
        if let Some(person) = self.own.enter(room_id, person) {
            self.rooms.here(ME, room_id, &person);
            self.note(room_id.clone(), person.id, Some(person));
        }
    }

    /// A connection of somebody has ended, who entered by this id.
    pub fn leave(&mut self, room_id: &RoomId, id: PersonId, told: bool, now: Instant) {
        self.own.leave(room_id, id, now);
        if told {
            self.rooms.audience(room_id, false);
        }
    }

    /// Another edge has said something, or we have.
    pub fn hear(&mut self, from: &InstanceId, mut said: Said, now: Instant) {
        if *from == self.life {
            self.heard_self = now;
            if std::mem::take(&mut self.deaf) {
                self.others.prolong(now);
            }
            return;
        }
        self.whole_asked |= match &said.asks {
            Asks::None => false,
            Asks::All => true,
            Asks::Of(some) => some.contains(&self.life),
        };
        let Some(other) = self.others.heard(from, &said, now) else {
            counter!("herald_presence_refused_total", "reason" => "too_many_edges").increment(1);
            return;
        };
        let slot = other.slot;
        match other.take(&mut said, &self.roots) {
            News::None => {}
            News::Whole(whole) => {
                counter!("herald_presence_wholes_total").increment(1);
                self.rooms.forget(slot, &whole);
                whole.iter().for_each(|(room_id, persons)| self.rooms.replace(slot, room_id, persons));
            }
            News::Changes => {
                for room in said.rooms {
                    let Some(root) = self.roots.get(&room.root) else { continue };
                    let room_id = RoomId { root: root.clone(), session: room.session };
                    counter!("herald_presence_changes_total", "by" => "others")
                        .increment((room.here.len() + room.gone.len()) as u64);
                    room.here.iter().for_each(|person| self.rooms.here(slot, &room_id, person));
                    room.gone.iter().for_each(|id| self.rooms.gone(slot, &room_id, *id));
                }
            }
        }
    }

    /// The connection to NATS is gone: nothing is heard until it is back.
    pub fn cut(&mut self) {
        self.deaf = true;
    }

    /// It is back: what was missed meanwhile is asked for.
    pub fn back(&mut self, now: Instant) {
        (self.beat_at, self.greets) = (now, true);
        self.complete_at = now + self.beat;
    }

    /// Does what is due at `now`, and returns what is to be said. `connected`: whether anybody hears it; if not, they will notice
    /// later that they have missed it.
    pub fn tick(&mut self, now: Instant, connected: bool) -> Vec<Said> {
        for (room_id, id) in self.own.left(now) {
            self.rooms.gone(ME, &room_id, id);
            self.note(room_id, id, None);
        }
        // Two of our own words were not heard; others count until three of theirs are missing.
        self.deaf |= now > self.heard_self + self.beat * 5 / 2;
        if !self.deaf {
            for slot in self.others.expire(now) {
                self.rooms.forget::<()>(slot, &HashMap::new());
            }
        }
        let (persons, sessions) = self.rooms.size();
        gauge!("herald_presence_persons_count").set(persons as f64);
        gauge!("herald_presence_sessions_count").set(sessions as f64);
        gauge!("herald_presence_edges_count").set(self.others.count() as f64);
        gauge!("herald_presence_silence_seconds").set(self.others.silence(now).as_secs_f64());
        gauge!("herald_presence_complete_count").set(if self.is_complete(now) { 1.0 } else { 0.0 });
        if !connected || self.ended {
            self.n += u64::from(!self.pending.is_empty());
            self.pending.clear();
            (self.whole_asked, self.beat_at) = (false, now + self.beat);
            return Vec::new();
        }
        let mut all = self.changes();
        if self.whole_asked && now >= self.whole_at {
            (self.whole_asked, self.whole_at) = (false, now + WHOLE_PAUSE);
            all.extend(self.whole());
        }
        let asks = match (std::mem::take(&mut self.greets), self.others.asked_now(now)) {
            (true, _) => Asks::All,
            (false, missing) if missing.is_empty() => Asks::None,
            (false, missing) => Asks::Of(missing),
        };
        if now >= self.beat_at || !asks.is_none() {
            self.beat_at = now + self.beat;
            all.push(Said { asks, ..self.said(Vec::new()) });
        }
        all
    }

    /// When something is due, if nothing happens before.
    #[must_use]
    pub fn due(&self) -> Instant {
        let whole_at = self.whole_asked.then_some(self.whole_at);
        [self.own.next(), whole_at].into_iter().flatten().fold(self.beat_at, Instant::min)
    }

    /// What is said at the end of this process: all who are there by it will have gone elsewhere, or will have gone.
    #[must_use]
    pub fn end(&mut self) -> Vec<Said> {
        let mut all = self.changes();
        self.ended = true;
        let ends_ms = u64::try_from(self.grace.as_millis()).ok();
        all.push(Said { ends_ms, ..self.said(Vec::new()) });
        all
    }

    /// What clients here are to be told at `now`. Whether some of it has to wait.
    pub fn told(&mut self, now: Instant) -> (Vec<(RoomId, Told)>, bool) {
        self.rooms.told(now)
    }

    /// How many are there.
    #[must_use]
    pub fn count(&self, room_id: &RoomId) -> u64 {
        self.rooms.count(room_id)
    }

    /// At most `limit` of those who are there, behind `after`.
    #[must_use]
    pub fn page(&self, room_id: &RoomId, after: Option<PersonId>, limit: usize) -> Page {
        self.rooms.page(room_id, after, limit)
    }

    /// Whether all is known that there is to know.
    #[must_use]
    pub fn is_complete(&self, now: Instant) -> bool {
        !self.deaf && now >= self.complete_at && self.others.are_known()
    }

    /// Takes up what others are to be told. What is so again before they were told of the contrary was never otherwise.
    fn note(&mut self, room_id: RoomId, id: PersonId, person: Option<Arc<Person>>) {
        counter!("herald_presence_changes_total", "by" => "own").increment(1);
        let mut room = match self.pending.entry(room_id) {
            Entry::Occupied(room) => room,
            Entry::Vacant(new) => new.insert_entry(HashMap::new()),
        };
        let changes = room.get_mut();
        if changes.remove(&id).is_none() {
            changes.insert(id, person);
        }
        if changes.is_empty() {
            room.remove();
        }
    }

    fn said(&self, rooms: Vec<Room>) -> Said {
        Said { edge: self.name.clone(), n: self.n, rooms, part: None, asks: Asks::None, ends_ms: None }
    }

    /// What has changed since it was said last.
    fn changes(&mut self) -> Vec<Said> {
        let mut pages = Pages::default();
        for (room_id, changes) in std::mem::take(&mut self.pending) {
            for (id, person) in changes {
                pages.add(&room_id, person.as_ref().ok_or(id));
            }
        }
        let numbered = pages.all.into_iter().map(|rooms| {
            self.n += 1;
            self.said(rooms)
        });
        numbered.collect()
    }

    /// All that is so now.
    fn whole(&self) -> Vec<Said> {
        let mut pages = Pages::default();
        for (room_id, persons) in self.own.all() {
            persons.for_each(|person| pages.add(room_id, Ok(person)));
        }
        if pages.all.is_empty() {
            pages.all.push(Vec::new());
        }
        let of = u32::try_from(pages.all.len()).unwrap_or(u32::MAX);
        let parts = (0..).zip(pages.all);
        parts.map(|(at, rooms)| Said { part: Some(Part { at, of }), ..self.said(rooms) }).collect()
    }
}

/// What is to be said, in messages that are not too large.
#[derive(Default)]
struct Pages {
    all: Vec<Vec<Room>>,
    /// About how many bytes the last one has.
    bytes: usize,
}

impl Pages {
    /// Adds somebody who is there, or (`Err`) is there no more.
    fn add(&mut self, room_id: &RoomId, change: Result<&Arc<Person>, PersonId>) {
        let names = change.map_or(0, |person| {
            [&person.user, &person.role, &person.name].into_iter().flatten().map(|name| name.len() + 16).sum::<usize>()
        });
        self.bytes += PERSON + names;
        if self.all.is_empty() || self.bytes > AT_ONCE {
            self.all.push(Vec::new());
            self.bytes = PERSON + names;
        }
        let Some(page) = self.all.last_mut() else { return };
        let same = |room: &Room| (&room.root, &room.session) == (&room_id.root, &room_id.session);
        if !page.last().is_some_and(same) {
            self.bytes += ROOM;
            let (root, session) = (room_id.root.clone(), room_id.session.clone());
            page.push(Room { root, session, here: Vec::new(), gone: Vec::new() });
        }
        let Some(room) = page.last_mut() else { return };
        match change {
            Ok(person) => room.here.push(person.clone()),
            Err(id) => room.gone.push(id),
        }
    }
}

#[cfg(test)]
mod tests;
