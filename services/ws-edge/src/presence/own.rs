//! Who is there by this edge: its own connections, put together to people.
//!
//! Whoever's last connection ends stays for a while. Who comes back meanwhile was never gone, by whichever edge, as no edge is
//! told of it before. Of nobody known it can't be said who comes back: they take the place of one who has just left.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use herald_protocol::presence::{Person, PersonId};
use tokio::time::Instant;

use super::person::RoomId;

/// So many may stand in the queue of those who leave, beside two for each who is there, before it is looked who came back.
const SPARE: usize = 1000;

/// Who is there by this edge.
#[derive(Debug)]
pub(super) struct Own {
    grace: Duration,
    /// How many there may be before those without a connection are no longer waited for.
    most: usize,
    rooms: HashMap<RoomId, Room>,
    /// Who may leave when, in the order of time; those among them who came back are passed over.
    leaving: VecDeque<(Instant, RoomId, PersonId)>,
    persons: usize,
}

#[derive(Debug, Default)]
struct Room {
    persons: HashMap<PersonId, Member>,
    /// Of nobody known: whose places may be taken, in the order in which they left.
    vacant: VecDeque<PersonId>,
    /// Who has taken another one's place.
    taken: HashMap<PersonId, PersonId>,
}

#[derive(Debug)]
struct Member {
    person: Arc<Person>,
    connections: u32,
    /// Without a connection: until when they are waited for.
    until: Option<Instant>,
}

impl Own {
    pub(super) fn new(grace: Duration, most: usize) -> Self {
        Self { grace, most, rooms: HashMap::new(), leaving: VecDeque::new(), persons: 0 }
    }

    /// A connection of somebody has come. Who is there by that who was not.
    pub(super) fn enter(&mut self, room_id: &RoomId, mut person: Person) -> Option<Arc<Person>> {
        let room = self.rooms.entry(room_id.clone()).or_default();
        if person.user.is_none()
            && let Some(place) = room.vacancy()
        {
            room.taken.insert(person.id, place);
            person.id = place;
        }
        match room.persons.entry(person.id) {
            Entry::Occupied(mut known) => {
                let member = known.get_mut();
                member.connections += 1;
                member.until = None;
                None
            }
            Entry::Vacant(new) => {
                let person = Arc::new(person);
                new.insert(Member { person: person.clone(), connections: 1, until: None });
                self.persons += 1;
                Some(person)
            }
        }
    }

    /// A connection of somebody has ended.
    pub(super) fn leave(&mut self, room_id: &RoomId, id: PersonId, now: Instant) {
        let crowded = self.persons > self.most;
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let id = room.taken.remove(&id).unwrap_or(id);
        let Some(member) = room.persons.get_mut(&id) else { return };
        member.connections = member.connections.saturating_sub(1);
        if member.connections > 0 {
            return;
        }
        let until = if crowded { now } else { now + self.grace };
        member.until = Some(until);
        let entry = (until, room_id.clone(), id);
        if crowded {
            self.leaving.push_front(entry);
            return;
        }
        if member.person.user.is_none() {
            room.vacant.push_back(id);
        }
        self.leaving.push_back(entry);
        if self.leaving.len() > 2 * self.persons + SPARE {
            // Who comes and goes again and again stands in it each time: only the last one counts.
            let rooms = &self.rooms;
            self.leaving.retain(|(at, room_id, id)| {
                let member = rooms.get(room_id).and_then(|room| room.persons.get(id));
                member.and_then(|member| member.until) == Some(*at)
            });
        }
    }

    /// When somebody is to leave next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.leaving.front().map(|(at, ..)| *at)
    }

    /// Who has left by `now`.
    pub(super) fn left(&mut self, now: Instant) -> Vec<(RoomId, PersonId)> {
        let mut left = Vec::new();
        while self.leaving.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((at, room_id, id)) = self.leaving.pop_front() else { break };
            let Some(room) = self.rooms.get_mut(&room_id) else { continue };
            if room.persons.get(&id).and_then(|member| member.until) != Some(at) {
                continue;
            }
            room.persons.remove(&id);
            // Who left first leaves first: it is the first place, if it is one, or behind some that are none any more.
            while room.vacant.front().is_some_and(|vacant| !room.persons.contains_key(vacant)) {
                room.vacant.pop_front();
            }
            self.persons -= 1;
            if room.persons.is_empty() {
                self.rooms.remove(&room_id);
            }
            left.push((room_id, id));
        }
        left
    }

    /// Everybody who is there.
    pub(super) fn all(&self) -> impl Iterator<Item = (&RoomId, impl Iterator<Item = &Arc<Person>>)> {
        self.rooms.iter().map(|(room_id, room)| (room_id, room.persons.values().map(|member| &member.person)))
    }
}

impl Room {
    /// The place of nobody known who has just left.
    fn vacancy(&mut self) -> Option<PersonId> {
        while let Some(id) = self.vacant.pop_front() {
            if self.persons.get(&id).is_some_and(|member| member.until.is_some()) {
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::SessionId;

    use super::{
        super::person::{of_connection, of_user, person},
        *,
    };

    const GRACE: Duration = Duration::from_secs(5);
    const SECOND: Duration = Duration::from_secs(1);

    fn room() -> RoomId {
        RoomId { root: "gm".into(), session: SessionId::new("s").unwrap() }
    }

    fn user(name: &str) -> Person {
        person("c", Some(&name.into()), None, None, 0)
    }

    fn nobody(connection: &str) -> Person {
        person(connection, None, None, None, 0)
    }

    #[test]
    fn three_tabs_are_one_and_a_reload_in_time_is_silent() {
        let (mut own, room, start) = (Own::new(GRACE, 100), room(), Instant::now());
        let ann = of_user("ann", None);
        assert_eq!(own.enter(&room, user("ann")).map(|person| person.id), Some(ann));
        assert_eq!((own.enter(&room, user("ann")), own.enter(&room, user("ann"))), (None, None));
        (0..3).for_each(|_| own.leave(&room, ann, start));
        assert_eq!(own.next(), Some(start + GRACE));
        assert!(own.left(start + 4 * SECOND).is_empty());
        assert_eq!(own.enter(&room, user("ann")), None, "back in time");
        assert!(own.left(start + 9 * SECOND).is_empty());
        own.leave(&room, ann, start + 10 * SECOND);
        assert!(own.left(start + 14 * SECOND).is_empty(), "counted from the last one's end");
        assert_eq!(own.left(start + 15 * SECOND), [(room.clone(), ann)]);
        assert_eq!((own.persons, own.rooms.len(), own.next()), (0, 0, None));
        assert!(own.enter(&room, user("ann")).is_some(), "too late: anew");
    }

    #[test]
    fn nobody_known_counts_each_and_takes_the_place_of_who_has_just_left() {
        let (mut own, room, start) = (Own::new(GRACE, 100), room(), Instant::now());
        assert!(own.enter(&room, nobody("c1")).is_some() && own.enter(&room, nobody("c2")).is_some());
        own.leave(&room, of_connection("c1"), start);
        assert_eq!(own.enter(&room, nobody("c3")), None, "a reload, for all that is known");
        assert!(own.enter(&room, nobody("c4")).is_some(), "one more");
        assert!(own.enter(&room, user("ann")).is_some());
        assert!(own.left(start + 9 * SECOND).is_empty());
        assert_eq!(own.persons, 4);
        // Whoever sits in it leaves it by its own connection.
        own.leave(&room, of_connection("c3"), start + 10 * SECOND);
        assert_eq!(own.left(start + 15 * SECOND), [(room.clone(), of_connection("c1"))]);
        own.leave(&room, of_connection("c2"), start + 20 * SECOND);
        own.leave(&room, of_connection("c4"), start + 20 * SECOND);
        own.leave(&room, of_connection("c9"), start + 20 * SECOND);
        assert_eq!(own.left(start + 25 * SECOND).len(), 2);
        let left = &own.rooms[&room];
        assert_eq!((left.persons.len(), left.vacant.len(), left.taken.len()), (1, 0, 0), "nothing gathers");
    }

    #[test]
    fn where_there_are_too_many_nobody_is_waited_for() {
        let (mut own, room, start) = (Own::new(GRACE, 2), room(), Instant::now());
        for name in ["a", "b", "c"] {
            own.enter(&room, user(name));
        }
        own.leave(&room, of_user("c", None), start);
        assert_eq!(own.left(start), [(room.clone(), of_user("c", None))]);
        own.leave(&room, of_user("b", None), start);
        assert!(own.left(start).is_empty());
        assert_eq!(own.all().map(|(_, persons)| persons.count()).sum::<usize>(), 2);
    }

    #[test]
    fn who_comes_and_goes_again_and_again_leaves_nothing_behind() {
        let (mut own, room, start) = (Own::new(GRACE, 100), room(), Instant::now());
        for number in 0..50_000 {
            own.enter(&room, user("ann"));
            own.enter(&room, nobody(&number.to_string()));
            let now = start + Duration::from_micros(number);
            own.leave(&room, of_user("ann", None), now);
            own.leave(&room, of_connection(&number.to_string()), now);
            assert!(own.leaving.len() <= SPARE + 5 && own.persons == 2, "{number}: {}", own.leaving.len());
        }
        assert_eq!(own.left(start + GRACE + SECOND).len(), 2);
        assert_eq!((own.leaving.len(), own.rooms.len()), (0, 0));
    }
}
