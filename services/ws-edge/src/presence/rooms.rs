//! Who is there by all edges, in one table.
//!
//! What is done for somebody who comes or leaves is a search in the tree of their session and no more: it grows with the number
//! of its levels, and with nothing else of how many are there.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
    sync::Arc,
};

use herald_protocol::presence::{Person, PersonId};
use metrics::counter;
use tokio::time::Instant;

use super::{
    news::{Change, News, Pace, Told},
    person::RoomId,
};

/// An edge, by its number in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// This edge.
pub(super) const ME: Slot = Slot(0);

/// Some edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Slots(u128);

impl Slots {
    pub(super) const fn has(self, slot: Slot) -> bool {
        self.0 & (1 << slot.0) != 0
    }

    #[must_use]
    pub(super) const fn with(self, slot: Slot) -> Self {
        Self(self.0 | 1 << slot.0)
    }

    #[must_use]
    pub(super) const fn without(self, slot: Slot) -> Self {
        Self(self.0 & !(1 << slot.0))
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// An edge that is not among them; `None` where there is room for no more.
    pub(super) fn free(self) -> Option<Slot> {
        let number = self.0.trailing_ones();
        (number < u128::BITS).then_some(Slot(number))
    }
}

/// How many are known one by one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// Of one session.
    pub(super) of_session: usize,
    /// Of all; and so many sessions at most in which somebody is by other edges alone.
    pub(super) total: usize,
}

/// Some of those who are there.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// How many are there.
    pub count: u64,
    /// How many of them are only counted.
    pub unlisted: u64,
    /// Some, in the order of their ids.
    pub persons: Vec<Arc<Person>>,
    /// Behind whom it goes on; `None`: these were the last.
    pub next: Option<PersonId>,
}

/// Who is there.
#[derive(Debug)]
pub(super) struct Rooms {
    rooms: HashMap<RoomId, Room>,
    most: Most,
    pace: Pace,
    /// How many are known one by one.
    listed: usize,
    /// Sessions with something to tell.
    fresh: HashSet<RoomId>,
}

#[derive(Debug, Default)]
struct Room {
    persons: BTreeMap<PersonId, Entry>,
    /// How many are only counted, by edge.
    unlisted: Vec<(Slot, u64)>,
    /// Connections here that are told.
    audience: usize,
    news: News,
}

#[derive(Debug)]
struct Entry {
    person: Arc<Person>,
    by: Slots,
}

impl Rooms {
    pub(super) fn new(most: Most, pace: Pace) -> Self {
        Self { rooms: HashMap::new(), most, pace, listed: 0, fresh: HashSet::new() }
    }

    /// Somebody is there by that edge, who was not.
    pub(super) fn here(&mut self, slot: Slot, room_id: &RoomId, person: &Arc<Person>) {
        if slot != ME && self.rooms.len() >= self.most.total && !self.rooms.contains_key(room_id) {
            counter!("herald_presence_refused_total", "reason" => "too_many_sessions").increment(1);
            return;
        }
        let room = self.rooms.entry(room_id.clone()).or_default();
        if let Some(entry) = room.persons.get_mut(&person.id) {
            entry.by = entry.by.with(slot);
            if person.since < entry.person.since {
                entry.person = person.clone();
            }
        } else if room.persons.len() < self.most.of_session && self.listed < self.most.total {
            let entry = Entry { person: person.clone(), by: Slots::default().with(slot) };
            room.persons.insert(person.id, entry);
            self.listed += 1;
            room.changed(true, person, self.pace);
        } else {
            room.count_unlisted(slot, 1);
        }
        room.queue(room_id, &mut self.fresh);
    }

    /// Somebody is there by that edge no more, who was.
    pub(super) fn gone(&mut self, slot: Slot, room_id: &RoomId, id: PersonId) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        match room.persons.get_mut(&id) {
            Some(entry) if entry.by.has(slot) => {
                entry.by = entry.by.without(slot);
                if entry.by.is_empty() {
                    self.listed -= 1;
                    if let Some(entry) = room.persons.remove(&id) {
                        room.changed(false, &entry.person, self.pace);
                    }
                }
            }
            // By this edge they were only counted.
            _ => room.count_unlisted(slot, -1),
        }
        room.queue(room_id, &mut self.fresh);
        self.drop_if_empty(room_id);
    }

    /// By that edge exactly these are there.
    pub(super) fn replace(&mut self, slot: Slot, room_id: &RoomId, wanted: &HashMap<PersonId, Arc<Person>>) {
        if let Some(room) = self.rooms.get_mut(room_id) {
            let by_it = room.persons.iter().filter(|(id, entry)| entry.by.has(slot) && !wanted.contains_key(*id));
            let gone: Vec<_> = by_it.map(|(id, _)| *id).collect();
            // Those who were only counted are counted anew.
            let counted = room.unlisted.iter().position(|(by, _)| *by == slot);
            if let Some(at) = counted {
                room.unlisted.swap_remove(at);
                room.changed_unlisted();
                room.queue(room_id, &mut self.fresh);
            }
            gone.into_iter().for_each(|id| self.gone(slot, room_id, id));
        }
        wanted.values().for_each(|person| self.here(slot, room_id, person));
        self.drop_if_empty(room_id);
    }

    /// By that edge nobody is there, in any session but `those`.
    pub(super) fn forget<T>(&mut self, slot: Slot, those: &HashMap<RoomId, T>) {
        let others: Vec<_> = self.rooms.keys().filter(|room_id| !those.contains_key(*room_id)).cloned().collect();
        others.iter().for_each(|room_id| self.replace(slot, room_id, &HashMap::new()));
    }

    /// One more connection here is told, or one less.
    pub(super) fn audience(&mut self, room_id: &RoomId, one_more: bool) {
        let room = self.rooms.entry(room_id.clone()).or_default();
        room.audience = if one_more { room.audience + 1 } else { room.audience.saturating_sub(1) };
        if room.audience == 0 {
            // Nobody is left to be told.
            room.news = News::default();
        }
        self.drop_if_empty(room_id);
    }

    /// How many are there.
    pub(super) fn count(&self, room_id: &RoomId) -> u64 {
        self.rooms.get(room_id).map_or(0, Room::count)
    }

    /// How many are known one by one, in all sessions, and in how many sessions anybody is.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.listed, self.rooms.len())
    }

    /// Since when somebody is there.
    pub(super) fn since(&self, room_id: &RoomId, id: PersonId) -> Option<u64> {
        Some(self.rooms.get(room_id)?.persons.get(&id)?.person.since)
    }

    /// At most `limit` of those who are there, behind `after`.
    pub(super) fn page(&self, room_id: &RoomId, after: Option<PersonId>, limit: usize) -> Page {
        let Some(room) = self.rooms.get(room_id) else {
            return Page { count: 0, unlisted: 0, persons: Vec::new(), next: None };
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = room.persons.range((from, Bound::Unbounded));
        let persons: Vec<_> = behind.by_ref().take(limit).map(|(_, entry)| entry.person.clone()).collect();
        let next = behind.next().and(persons.last()).map(|person| person.id);
        Page { count: room.count(), unlisted: room.count() - room.persons.len() as u64, persons, next }
    }

    /// What clients here are to be told at `now`. Whether some of it has to wait.
    pub(super) fn told(&mut self, now: Instant) -> (Vec<(RoomId, Told)>, bool) {
        let mut told = Vec::new();
        for room_id in std::mem::take(&mut self.fresh) {
            let Some(room) = self.rooms.get_mut(&room_id) else { continue };
            let count = room.count();
            let news = room.news.take(count, room.audience, self.pace, now);
            room.queue(&room_id, &mut self.fresh);
            told.extend(news.map(|news| (room_id, news)));
        }
        (told, !self.fresh.is_empty())
    }

    fn drop_if_empty(&mut self, room_id: &RoomId) {
        if self.rooms.get(room_id).is_some_and(Room::is_empty) {
            self.rooms.remove(room_id);
        }
    }
}

impl Room {
    fn count(&self) -> u64 {
        self.persons.len() as u64 + self.unlisted.iter().map(|(_, count)| count).sum::<u64>()
    }

    fn is_empty(&self) -> bool {
        self.audience == 0 && self.persons.is_empty() && self.unlisted.is_empty()
    }

    fn changed(&mut self, joined: bool, person: &Arc<Person>, pace: Pace) {
        if self.audience > 0 {
            let count = self.count();
            self.news.add(Change { joined, person: person.clone(), count }, pace.frames);
        }
    }

    fn count_unlisted(&mut self, slot: Slot, by: i64) {
        let known = self.unlisted.iter().position(|(it, _)| *it == slot);
        match (known, by > 0) {
            (Some(at), true) => self.unlisted[at].1 += 1,
            (Some(at), false) if self.unlisted[at].1 > 1 => self.unlisted[at].1 -= 1,
            (Some(at), false) => {
                self.unlisted.swap_remove(at);
            }
            (None, true) => self.unlisted.push((slot, 1)),
            (None, false) => return,
        }
        self.changed_unlisted();
    }

    fn changed_unlisted(&mut self) {
        if self.audience > 0 {
            self.news.add_unlisted();
        }
    }

    fn queue(&self, room_id: &RoomId, fresh: &mut HashSet<RoomId>) {
        if !self.news.is_empty() && self.audience > 0 && !fresh.contains(room_id) {
            fresh.insert(room_id.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use herald_protocol::SessionId;
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace { frames: 10, deliveries: 10_000 };
    const MOST: Most = Most { of_session: 100, total: 1000 };

    fn room_id(session: &str) -> RoomId {
        RoomId { root: "gm".into(), session: SessionId::new(session).unwrap() }
    }

    fn person(number: u128, since: u64) -> Arc<Person> {
        Arc::new(Person { id: PersonId::new(number), user: None, role: None, name: None, since })
    }

    fn told(rooms: &mut Rooms) -> Vec<(bool, u64)> {
        let (told, waits) = rooms.told(Instant::now());
        assert!(!waits);
        let each = told.into_iter().flat_map(|(_, told)| match told {
            Told::Each(changes) => changes,
            Told::Count { .. } => panic!("few enough"),
        });
        each.map(|change| (change.joined, change.count)).collect()
    }

    #[test]
    fn who_is_there_by_two_edges_is_one_and_leaves_with_the_last() {
        let (mut rooms, here, other) = (Rooms::new(MOST, PACE), room_id("s"), Slot(5));
        rooms.audience(&here, true);
        rooms.here(ME, &here, &person(1, 50));
        rooms.here(other, &here, &person(1, 20));
        rooms.here(other, &here, &person(2, 60));
        assert_eq!((rooms.count(&here), rooms.since(&here, PersonId::new(1))), (2, Some(20)));
        assert_eq!(told(&mut rooms), [(true, 1), (true, 2)]);
        rooms.gone(ME, &here, PersonId::new(1));
        assert!(told(&mut rooms).is_empty());
        rooms.forget::<()>(other, &HashMap::new());
        assert_eq!(told(&mut rooms), [(false, 1), (false, 0)]);
        assert_eq!(rooms.size(), (0, 1));
        rooms.audience(&here, false);
        assert_eq!(rooms.size(), (0, 0), "nothing is left of it");
        rooms.here(ME, &here, &person(1, 50));
        assert_eq!((rooms.count(&here), rooms.count(&room_id("other"))), (1, 0));
        assert!(rooms.fresh.is_empty(), "nobody is there to be told");
    }

    #[test]
    fn a_list_is_read_in_pages_and_nobody_stands_in_two() {
        let (mut rooms, here) = (Rooms::new(MOST, PACE), room_id("s"));
        (0..25).for_each(|number| rooms.here(ME, &here, &person(number * 7 % 25, 0)));
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = rooms.page(&here, after, 10);
            assert_eq!((page.count, page.unlisted), (25, 0));
            read.extend(page.persons.iter().map(|person| person.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(read, (0..25).map(PersonId::new).collect::<Vec<_>>());
        let gone_meanwhile = rooms.page(&here, Some(PersonId::new(99)), 10);
        assert!(gone_meanwhile.persons.is_empty() && gone_meanwhile.next.is_none());
    }

    #[test]
    fn beyond_the_limit_people_are_counted_and_their_leaving_too() {
        let (mut rooms, here) = (Rooms::new(Most { of_session: 3, total: 4 }, PACE), room_id("s"));
        (0..5).for_each(|number| rooms.here(ME, &here, &person(number, 0)));
        rooms.here(Slot(1), &here, &person(9, 0));
        rooms.here(Slot(1), &here, &person(0, 0));
        let page = rooms.page(&here, None, 10);
        assert_eq!((page.count, page.unlisted, page.persons.len()), (6, 3, 3));
        (0..2).for_each(|number| rooms.here(ME, &room_id("t"), &person(number, 0)));
        assert_eq!((rooms.count(&room_id("t")), rooms.size().0), (2, 4), "one of them only counted");
        (0..5).for_each(|number| rooms.gone(ME, &here, PersonId::new(number)));
        assert_eq!(
            (rooms.count(&here), rooms.page(&here, None, 10).persons.len()),
            (2, 1),
            "0 is there by another edge"
        );
        rooms.gone(Slot(1), &here, PersonId::new(9));
        rooms.gone(Slot(1), &here, PersonId::new(0));
        assert_eq!(rooms.count(&here), 0);
    }

    #[test]
    fn sessions_of_other_edges_are_known_up_to_a_number_and_ours_all() {
        let mut rooms = Rooms::new(Most { of_session: 3, total: 2 }, PACE);
        (0..5).for_each(|number| rooms.here(Slot(1), &room_id(&format!("s{number}")), &person(number, 0)));
        assert_eq!(rooms.size(), (2, 2));
        rooms.here(ME, &room_id("s4"), &person(4, 0));
        assert_eq!((rooms.count(&room_id("s4")), rooms.count(&room_id("s3"))), (1, 0));
        (0..5).for_each(|number| rooms.gone(Slot(1), &room_id(&format!("s{number}")), PersonId::new(number)));
        rooms.gone(ME, &room_id("s4"), PersonId::new(4));
        assert_eq!(rooms.size(), (0, 0));
    }

    #[test]
    fn there_is_room_for_so_many_edges_and_no_more() {
        let mut slots = Slots::default().with(ME);
        while let Some(slot) = slots.free() {
            assert!(!slots.has(slot));
            slots = slots.with(slot);
        }
        assert_eq!(slots.0.count_ones(), 128);
        assert_eq!(slots.without(Slot(77)).free(), Some(Slot(77)));
    }

    proptest! {
        /// Whatever edges say, in whatever order, the table says what is so.
        #[test]
        fn the_table_is_the_union_of_what_edges_say(
            said in prop::collection::vec((0_u32..3, 0_u128..6, any::<bool>(), 0_u8..10), 0..200), most in 1_usize..8,
        ) {
            let (mut rooms, here) = (Rooms::new(Most { of_session: most, total: 1000 }, PACE), room_id("s"));
            let mut truth: HashMap<u32, BTreeSet<u128>> = HashMap::new();
            for (edge, number, comes, what) in said {
                let (slot, by_it) = (Slot(edge), truth.entry(edge).or_default());
                if what == 0 {
                    // It says all of it anew.
                    let wanted = by_it.iter().map(|number| (PersonId::new(*number), person(*number, 0))).collect();
                    rooms.replace(slot, &here, &wanted);
                } else if what == 1 {
                    by_it.clear();
                    rooms.forget::<()>(slot, &HashMap::new());
                } else if comes && by_it.insert(number) {
                    rooms.here(slot, &here, &person(number, 0));
                } else if !comes && by_it.remove(&number) {
                    rooms.gone(slot, &here, PersonId::new(number));
                }
                let all: BTreeSet<_> = truth.values().flatten().copied().collect();
                let page = rooms.page(&here, None, 100);
                let said: usize = truth.values().map(BTreeSet::len).sum();
                prop_assert!((all.len() as u64..=said as u64).contains(&page.count));
                if page.unlisted == 0 {
                    prop_assert_eq!(page.count, all.len() as u64);
                    let ids: Vec<_> = page.persons.iter().map(|person| person.id).collect();
                    prop_assert_eq!(ids, all.iter().copied().map(PersonId::new).collect::<Vec<_>>());
                }
                prop_assert_eq!(rooms.size().0, page.persons.len());
            }
        }
    }
}
