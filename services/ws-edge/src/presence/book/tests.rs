//! Some edges, what lies between them, and time, all made up.

use std::collections::BTreeSet;

use herald_protocol::SessionId;

use super::*;
use crate::presence::{
    news::Change,
    person::{of_connection, of_user, person},
};

const TICK: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

/// Edges by number, some of them dead (`None`) or cut off.
struct World {
    now: Instant,
    edges: Vec<Option<Book>>,
    cut: BTreeSet<usize>,
    /// Whether those who are cut off notice it.
    aware: bool,
    /// Of a hundred messages so many are lost on their way to each.
    loss: u64,
    dice: u64,
    said: usize,
}

fn room() -> RoomId {
    RoomId { root: "gm".into(), session: SessionId::new("s").unwrap() }
}

fn user(name: &str) -> Person {
    person("c", Some(&name.into()), None, None, 0)
}

impl World {
    fn new(edges: usize) -> Self {
        let (now, cut) = (Instant::now(), BTreeSet::new());
        let mut world = Self { now, edges: Vec::new(), cut, aware: true, loss: 0, dice: 0x9e37, said: 0 };
        (0..edges).for_each(|_| world.start());
        world.pass(SECOND * 4);
        world
    }

    fn start(&mut self) {
        let id = |kind: &str| InstanceId::new(&format!("{kind}-{}", self.edges.len())).unwrap();
        let roots = [Arc::from("gm")];
        self.edges.push(Some(Book::new(id("life"), id("edge"), roots, &PresenceConfig::default(), self.now)));
    }

    fn edge(&mut self, edge: usize) -> &mut Book {
        self.edges[edge].as_mut().unwrap()
    }

    fn enters(&mut self, edge: usize, who: Person) {
        self.edge(edge).enter(&room(), who, true);
    }

    fn leaves(&mut self, edge: usize, id: PersonId) {
        let now = self.now;
        self.edge(edge).leave(&room(), id, true, now);
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += TICK;
            for edge in 0..self.edges.len() {
                let cut = self.cut.contains(&edge);
                let Some(book) = &mut self.edges[edge] else { continue };
                let (life, said) = (book.life.clone(), book.tick(self.now, !cut || !self.aware));
                if !cut {
                    said.into_iter().for_each(|said| self.send(&life, &said));
                }
            }
        }
    }

    fn send(&mut self, life: &InstanceId, said: &Said) {
        self.said += 1;
        let bytes = serde_json::to_vec(said).unwrap();
        for edge in 0..self.edges.len() {
            let lost = self.roll(100) < self.loss || self.cut.contains(&edge);
            if let (false, Some(book)) = (lost, &mut self.edges[edge]) {
                book.hear(life, serde_json::from_slice(&bytes).unwrap(), self.now);
            }
        }
    }

    fn news(&mut self, edge: usize) -> Vec<(RoomId, Told)> {
        let now = self.now;
        self.edge(edge).told(now).0
    }

    fn is_complete(&mut self, edge: usize) -> bool {
        let now = self.now;
        self.edge(edge).is_complete(now)
    }

    /// Each change that the clients of an edge are told.
    fn told(&mut self, edge: usize) -> Vec<Change> {
        let each = self.news(edge).into_iter().flat_map(|(_, told)| match told {
            Told::Each(changes) => changes,
            Told::Count { .. } => panic!("few enough"),
        });
        each.collect()
    }

    fn counts(&self) -> Vec<u64> {
        self.edges.iter().flatten().map(|book| book.count(&room())).collect()
    }

    fn all_know(&self, ids: &BTreeSet<PersonId>) -> bool {
        self.edges.iter().flatten().all(|book| {
            let page = book.page(&room(), None, 100_000);
            page.unlisted == 0 && page.persons.iter().map(|person| person.id).eq(ids.iter().copied())
        })
    }
}

#[test]
fn who_is_there_by_any_edge_is_known_to_all_and_to_those_who_come_late() {
    let mut world = World::new(2);
    world.enters(0, user("ann"));
    world.enters(0, user("ann"));
    world.enters(1, user("bob"));
    world.enters(1, person("c7", None, None, None, 0));
    world.pass(TICK * 2);
    assert_eq!(world.counts(), [3, 3], "within two ticks");
    world.start();
    assert!(!world.is_complete(2), "it has heard nobody yet");
    world.pass(TICK * 6);
    assert_eq!(world.counts(), [3, 3, 3], "at once");
    world.pass(SECOND * 4);
    assert!((0..3).all(|edge| world.is_complete(edge)));
    // From then on nothing is said but that everybody lives.
    let said = world.said;
    world.pass(SECOND * 30);
    assert_eq!(world.said - said, 3 * 10);
}

#[test]
fn a_reload_in_time_is_silent_wherever_it_lands() {
    let mut world = World::new(3);
    world.enters(2, user("watches"));
    world.enters(0, user("ann"));
    world.pass(SECOND);
    assert_eq!(world.told(2).len(), 2);
    for (from, to) in [(0, 0), (0, 1), (1, 0)] {
        world.leaves(from, of_user("ann", None));
        world.pass(SECOND * 9 / 2);
        world.enters(to, user("ann"));
        world.pass(SECOND * 10);
        assert_eq!((world.told(2), world.counts()), (vec![], vec![2; 3]), "{from} to {to}");
    }
    world.leaves(0, of_user("ann", None));
    world.pass(SECOND * 4);
    assert!(world.told(2).is_empty());
    world.pass(SECOND * 3 / 2);
    let told = world.told(2);
    assert_eq!((told.len(), told[0].joined, told[0].count), (1, false, 1));
}

#[test]
fn of_nobody_known_a_reload_on_the_same_edge_changes_nothing() {
    let mut world = World::new(2);
    world.enters(1, user("watches"));
    world.enters(0, person("c1", None, None, None, 0));
    world.pass(SECOND);
    world.told(1);
    world.leaves(0, of_connection("c1"));
    world.pass(SECOND);
    world.enters(0, person("c2", None, None, None, 0));
    world.pass(SECOND * 10);
    assert_eq!((world.told(1), world.counts()), (vec![], vec![2, 2]));
    world.leaves(0, of_connection("c2"));
    world.pass(SECOND * 6);
    assert_eq!(world.counts(), [1, 1]);
}

#[test]
fn an_edge_that_dies_leaves_nothing_behind_and_who_is_back_in_time_was_never_gone() {
    let mut world = World::new(3);
    for number in 0..40 {
        world.enters(0, user(&format!("u{number}")));
    }
    world.enters(1, user("watches"));
    world.pass(SECOND);
    world.news(1);
    world.edges[0] = None;
    world.pass(SECOND * 3);
    // Half of them come back elsewhere.
    for number in 0..20 {
        world.enters(1 + number % 2, user(&format!("u{number}")));
    }
    world.pass(SECOND * 7);
    assert_eq!(world.counts(), [41, 41], "nobody says that they are gone");
    world.pass(SECOND * 5);
    assert_eq!(world.counts(), [21, 21], "after 15 seconds");
    let told = world.news(1);
    assert_eq!(told, [(room(), Told::Count { count: 21, left_out: 20 })], "twenty left, and nobody else was told of");
    assert_eq!(world.edge(1).others.count(), 1);
}

#[test]
fn an_edge_that_ends_by_plan_is_waited_for_as_long_as_a_reload() {
    let mut world = World::new(2);
    world.enters(0, user("ann"));
    world.enters(1, user("bob"));
    world.pass(SECOND);
    let (life, said) = (world.edge(0).life.clone(), world.edge(0).end());
    world.edges[0] = None;
    said.iter().for_each(|said| world.send(&life, said));
    world.pass(SECOND * 4);
    assert_eq!(world.counts(), [2]);
    world.pass(SECOND * 2);
    assert_eq!(world.counts(), [1]);
}

#[test]
fn an_outage_of_the_network_is_no_reason_to_leave_and_heals_to_the_truth() {
    let mut world = World::new(3);
    for (edge, name) in [(0, "a"), (1, "b"), (2, "c"), (2, "d")] {
        world.enters(edge, user(name));
    }
    world.pass(SECOND);
    // The server is away: everybody is cut off, and c's tab closes meanwhile; and the third edge dies.
    world.cut = (0..3).collect();
    (0..3).for_each(|edge| world.edge(edge).cut());
    world.pass(SECOND * 10);
    world.leaves(2, of_user("c", None));
    world.enters(0, user("e"));
    world.pass(SECOND * 20);
    assert_eq!(world.counts(), [5, 4, 3]);
    assert!(!world.is_complete(0));
    world.cut.clear();
    let now = world.now;
    (0..3).for_each(|edge| world.edge(edge).back(now));
    world.pass(SECOND * 2);
    assert_eq!(world.counts(), [4, 4, 4]);
    // The same, and the third one dies meanwhile.
    world.cut = (0..3).collect();
    (0..3).for_each(|edge| world.edge(edge).cut());
    world.pass(SECOND * 30);
    world.edges[2] = None;
    world.cut.clear();
    let now = world.now;
    (0..2).for_each(|edge| world.edge(edge).back(now));
    world.pass(SECOND * 13);
    assert_eq!(world.counts(), [3, 3]);
}

#[test]
fn an_edge_alone_cut_off_is_missed_by_others_and_misses_nobody() {
    let mut world = World::new(2);
    world.enters(0, user("a"));
    world.enters(1, user("b"));
    world.pass(SECOND);
    // It does not notice that nothing goes through.
    world.aware = false;
    world.cut.insert(1);
    world.pass(SECOND * 30);
    assert_eq!(world.counts(), [1, 2], "who hears not even itself draws no conclusions");
    world.cut.clear();
    world.pass(SECOND * 4);
    assert_eq!(world.counts(), [2, 2]);
}

#[test]
fn whatever_is_lost_and_whoever_comes_and_goes_in_the_end_all_know_the_same() {
    for seed in 1..40 {
        let mut world = World::new(3);
        world.dice = seed * 0x9e37_79b9;
        world.loss = 20;
        let mut there: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); 3];
        for _ in 0..300 {
            let (edge, number) = (world.roll(3) as usize, world.roll(30));
            let name = format!("u{number}");
            if there[edge].remove(&number) {
                world.leaves(edge, of_user(&name, None));
            } else {
                there[edge].insert(number);
                world.enters(edge, user(&name));
            }
            if world.roll(4) == 0 {
                world.pass(TICK * 3);
            }
        }
        world.loss = 0;
        world.pass(SECOND * 10);
        let truth: BTreeSet<_> = there.iter().flatten().map(|number| of_user(&format!("u{number}"), None)).collect();
        assert!(world.all_know(&truth), "{seed}: {:?} of {}", world.counts(), truth.len());
    }
}

#[test]
fn a_crowd_is_said_in_messages_of_a_bounded_size() {
    let mut world = World::new(2);
    for number in 0..3000 {
        world.enters(0, user(&format!("{number}{}", "x".repeat(200))));
    }
    world.edge(1).enter(&room(), user("watches"), true);
    let said = world.edge(0).changes();
    assert!((5..20).contains(&said.len()), "{}", said.len());
    let life = world.edge(0).life.clone();
    for said in &said {
        assert!(serde_json::to_vec(said).unwrap().len() < 256 << 10);
        world.send(&life, said);
    }
    assert_eq!(world.counts()[1], 3001);
    world.start();
    world.pass(SECOND);
    assert_eq!(world.counts()[2], 3001, "the whole, in parts");
}

#[test]
fn roots_of_other_games_are_no_concern_of_ours() {
    let mut world = World::new(2);
    let mut other = room();
    other.root = "lobby".into();
    world.edge(0).enter(&other, user("ann"), false);
    world.pass(SECOND);
    assert_eq!((world.edge(0).count(&other), world.edge(1).count(&other)), (1, 0));
    assert!(world.is_complete(1));
}
