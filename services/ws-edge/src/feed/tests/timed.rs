//! The past played again: whatever its viewer wants and whatever happens meanwhile, each event is shown once and in order behind
//! the place that was last asked for, or it is told where the gap is.

use herald_protocol::record::Purged;
use tokio::sync::Semaphore;

use super::*;
use crate::replay::{Command, Pace, Played};

fn pace(speed: &str) -> Pace {
    Pace::parse(speed).unwrap()
}

/// A client that plays what it begins with.
fn player(world: &World, speed: &str, start: Start) -> Client {
    let mut client = Client::new(&world.sessions, Encoding::V1, start, limits(u64::MAX));
    client.play(pace(speed));
    client
}

fn world(events: usize, frames: usize) -> World {
    let mut world = World::new(RingLimits { frames, bytes: 1 << 20 });
    for _ in 0..events {
        world.stream.publish("gm.s.state");
        world.hear(1);
    }
    world
}

const FROM_START: Start = Start::After(Position::Seq(0));
const PAUSE: Command = Command { pause: Some(true), speed: None, seek: None, live: false };
const GO_ON: Command = Command { pause: Some(false), ..PAUSE };

fn seek(seq: u64) -> Command {
    Command { pause: None, seek: Some(Position::Seq(seq)), ..PAUSE }
}

/// Steps until nothing is left to do now.
fn run(client: &mut Client, world: &World, page: usize) {
    for _ in 0..10_000 {
        if !client.step(&world.stream, page, false) {
            client.read(&world.stream);
            return;
        }
    }
    panic!("it never comes to rest");
}

impl Client {
    pub(super) fn play(&mut self, pace: Pace) {
        let turn = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        self.feed.at_pace(Played { pace, turn });
        self.pace = Some(pace);
    }

    /// As its connection does.
    pub(super) fn wants(&mut self, command: &Command, stream: &Stream) {
        {
            let mut state = self.socket.state();
            state.listens = false;
            if std::mem::take(&mut state.offered) {
                self.place = state.place;
                self.feed.go_on_from(state.place);
            }
        }
        self.read(stream);
        if self.feed.command(command, self.place.epoch) {
            self.pending = None;
            self.queue.clear();
            self.moves = true;
        }
    }

    fn lives(&self) -> bool {
        !self.feed.plays()
    }
}

#[test]
fn a_player_comes_to_now_however_busy_other_sessions_are() {
    let mut world = world(3, 9);
    let mut client = player(&world, "64", FROM_START);
    for _ in 0..200 {
        // Between any two steps the stream goes on.
        world.stream.publish("gm.other.state");
        world.hear(1);
        client.step(&world.stream, 9, false);
        std::thread::yield_now();
    }
    assert!(client.lives(), "its own session has said nothing since");
    assert_eq!((client.seen, client.gaps), (3, 0));
    world.stream.publish("gm.s.state");
    world.hear(1);
    run(&mut client, &world, 9);
    assert_eq!(client.seen, 4);
}

#[test]
fn what_is_read_while_a_viewer_halts_is_held_behind_what_it_was_shown() {
    let mut world = world(2, 2);
    let mut client = player(&world, "64", FROM_START);
    run(&mut client, &world, 9);
    assert!(client.lives());
    world.stream.publish("gm.s.state");
    world.hear(1);
    run(&mut client, &world, 9);
    // It can't be written to while the ring loses what it lacks, and so asks history.
    client.socket.state().blocked = true;
    for _ in 0..6 {
        world.stream.publish("gm.s.state");
        world.hear(1);
    }
    client.socket.state().blocked = false;
    while client.pending.is_none() {
        assert!(client.step(&world.stream, 9, false));
    }
    client.wants(&PAUSE, &world.stream);
    run(&mut client, &world, 9);
    assert!(client.feed.holds());
    assert_eq!((client.at, client.feed.shown()), (Some(3), 3), "where it comes back to in another life");
    client.wants(&GO_ON, &world.stream);
    run(&mut client, &world, 9);
    assert_eq!((client.seen, client.gaps, client.lives()), (9, 0, true));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_of_a_session_that_is_removed_is_not_shown() {
    let mut world = world(6, 9);
    let mut client = player(&world, "0.1", FROM_START);
    // All are read, and the first is due at once.
    while client.seen == 0 {
        assert!(client.step(&world.stream, 9, false));
    }
    client.wants(&PAUSE, &world.stream);
    run(&mut client, &world, 9);
    let (seen, at) = (client.seen, client.at.unwrap());
    assert!(seen == 1 && client.feed.holds());
    world.stream.holes.extend(1..=6);
    world.stream.last = 7;
    world.sessions.purged(7, &Purged { session: SESSION.parse().unwrap(), upto: 6, events: 6 });
    world.sessions.advance(7);
    client.wants(&GO_ON, &world.stream);
    run(&mut client, &world, 9);
    assert_eq!(client.seen, seen, "nothing of it is shown any more");
    assert_eq!((client.gaps, client.at, client.lives()), (1, Some(6), true), "and that is told, behind {at}");
}

#[tokio::test(start_paused = true)]
async fn word_of_a_halt_does_not_skip_what_is_held() {
    let world = world(3, 9);
    let mut client = player(&world, "64", FROM_START);
    while client.seen == 0 {
        assert!(client.step(&world.stream, 9, false));
    }
    client.wants(&PAUSE, &world.stream);
    run(&mut client, &world, 9);
    assert_eq!((client.at, client.place.seq), (Some(1), 1), "where it is told to come back to");
}

#[test]
fn who_goes_elsewhere_before_it_was_greeted_is_greeted_there() {
    let world = world(6, 9);
    let mut client = player(&world, "64", FROM_START);
    // The greeting is handed out, and not sent.
    client.step(&world.stream, 9, false);
    assert!(!client.queue.is_empty());
    client.wants(&seek(3), &world.stream);
    client.epoch = 0;
    run(&mut client, &world, 9);
    assert_eq!((client.epoch, client.at), (1, Some(6)));
}

#[test]
fn that_it_shows_what_happens_is_said_again_to_whom_it_was_not_sent() {
    let mut world = world(3, 9);
    let mut client = player(&world, "64", FROM_START);
    while client.queue.iter().all(|out| !contains(&out.bytes, b"herald.live")) {
        assert!(client.step(&world.stream, 9, false));
    }
    client.socket.state().blocked = true;
    world.stream.publish("gm.s.state");
    world.hear(1);
    client.let_go(false);
    assert!(client.queue.is_empty());
    client.socket.state().blocked = false;
    run(&mut client, &world, 9);
    assert_eq!((client.live, client.seen), (1, 4));
}

#[test]
fn who_goes_elsewhere_while_it_can_not_be_written_to_is_not_brought_back() {
    let mut world = world(6, 9);
    let mut client = player(&world, "64", FROM_START);
    run(&mut client, &world, 9);
    client.socket.state().blocked = true;
    client.wants(&seek(2), &world.stream);
    // Word of it is handed out, and not sent.
    client.queue = match client.feed.step(99) {
        Step::Send(outs) => outs.into(),
        _ => panic!("it has something to say"),
    };
    client.let_go(false);
    assert_eq!(client.queue.len(), 1);
    client.socket.state().blocked = false;
    world.stream.publish("gm.s.state");
    world.hear(1);
    run(&mut client, &world, 9);
    assert_eq!((client.seen, client.gaps, client.at), (6 + 5, 0, Some(7)));
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What a viewer may want.
fn wish() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => Just(PAUSE),
        4 => Just(GO_ON),
        2 => (0_u64..40).prop_map(seek),
        1 => (0_u64..40).prop_map(|seq| Command { pause: Some(true), ..seek(seq) }),
        1 => Just(Command { pause: None, live: true, ..PAUSE }),
        1 => Just(Command { pause: None, speed: Some(pace("64")), ..PAUSE }),
    ]
}

#[derive(Debug, Clone)]
enum Next {
    Deed(Deed),
    Wish(Command),
}

fn all() -> impl Strategy<Value = Vec<Next>> {
    (deeds(), prop::collection::vec((any::<prop::sample::Index>(), wish()), 0..20)).prop_map(|(deeds, wishes)| {
        let mut all: Vec<_> = deeds.into_iter().map(Next::Deed).collect();
        for (at, wish) in wishes {
            all.insert(at.index(all.len() + 1), Next::Wish(wish));
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_player_sees_each_event_once_or_is_told_where_its_gap_is(
        before in prop::collection::vec(0..SUBJECTS.len(), 0..20),
        all in all(),
        frames in 1_usize..12,
        page in 1_usize..5,
        start in prop_oneof![
            Just(FROM_START),
            (0_u64..30).prop_map(|seq| Start::After(Position::Seq(seq))),
            (0_u64..30, 0_u32..3).prop_map(|(seq, epoch)| Start::After(Position::Cursor(cursor(Epoch::new(epoch), seq)))),
        ],
    ) {
        let mut world = World::new(RingLimits { frames, bytes: 1 << 20 });
        for subject in before {
            world.stream.publish(SUBJECTS[subject]);
            world.hear(1);
        }
        let mut client = Client::new(&world.sessions, Encoding::V1, start, limits(u64::MAX));
        client.play(pace("64"));
        if let Start::After(position) = start {
            client.at = Some(position.seq());
        }
        for next in all {
            match next {
                Next::Deed(deed) => world.happens(deed, &mut client, page),
                Next::Wish(wish) => client.wants(&wish, &world.stream),
            }
        }
        client.wants(&GO_ON, &world.stream);
        world.settle(&mut client, page);
        client.wants(&GO_ON, &world.stream);
        world.settle(&mut client, page);
        prop_assert!(client.lives());
        let last = world.stream.kept(SESSION).rfind(|event| shown(&client.view, event)).map_or(0, |event| event.seq);
        prop_assert!(client.at.is_none_or(|at| at >= last), "ends at {:?}, the stream at {last}", client.at);
    }
}
