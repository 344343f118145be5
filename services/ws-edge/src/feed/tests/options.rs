//! The newest alone, and events behind which a connection is closed: against the same stream, rings and sockets.

use super::*;
use crate::view::{CloseOn, Delivery};

/// A viewer, over as many connections as it takes.
struct Viewer {
    sessions: Arc<Sessions>,
    view: Arc<View>,
    socket: Arc<Socket>,
    feed: Feed,
    pending: Option<Question>,
    queue: VecDeque<Out>,
    place: Place,
    /// Life, sequence and topic of what it was shown on this connection, in order.
    shown: Vec<(Epoch, u64, String)>,
    /// The same of all connections.
    ever: Vec<(Epoch, u64)>,
    closed: Option<Close>,
}

fn viewer(world: &World, options: ViewOptions, start: Start) -> Viewer {
    let view = VIEWS.intern(View { options, ..view(Encoding::Plain) });
    let (socket, feed) = Client::connect(&world.sessions, &view, start, limits(3));
    let (queue, place, sessions) = (VecDeque::new(), Place::default(), world.sessions.clone());
    Viewer { sessions, view, socket, feed, pending: None, queue, place, shown: vec![], ever: vec![], closed: None }
}

impl Viewer {
    /// One step. `false`: there is nothing to do until something happens.
    fn step(&mut self, stream: &Stream) -> bool {
        self.hear();
        if self.closed.is_some() {
            return false;
        }
        let blocked = self.socket.state().blocked;
        if let Some(out) = if blocked { None } else { self.queue.pop_front() } {
            self.place = out.place;
            self.take(&out.bytes, out.place.epoch);
            return true;
        }
        if let Some(question) = self.pending.take() {
            let answer = stream.answer(&question, 2);
            let (session, view, purges) = (&question.session, &question.view, self.sessions.purges());
            take_up(&self.sessions, session, view, question.ask, &answer, purges);
            self.feed.answer(Ok(answer));
            return true;
        }
        if blocked {
            return false;
        }
        let token = {
            let mut state = self.socket.state();
            if state.listens {
                return false;
            }
            if std::mem::take(&mut state.offered) {
                self.place = state.place;
                self.feed.go_on_from(state.place);
            }
            (state.token, state.listens) = (state.token + 1, true);
            self.place = self.feed.place().unwrap_or(self.place);
            state.place = self.place;
            state.token
        };
        let step = self.feed.step(token);
        self.socket.state().listens &= matches!(step, Step::Listen);
        match step {
            Step::Listen | Step::Idle | Step::Rest => {}
            Step::Send(outs) => self.queue = outs.into(),
            Step::Ask(question) => self.pending = Some(question),
            Step::Close(close) => self.closed = Some(close),
        }
        true
    }

    fn rest(&mut self, stream: &Stream) {
        for _ in 0..10_000 {
            if !self.step(stream) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn hear(&mut self) {
        let (received, epoch) = {
            let mut state = self.socket.state();
            (std::mem::take(&mut state.received), state.place.epoch)
        };
        received.iter().for_each(|bytes| self.take(bytes, epoch));
    }

    fn take(&mut self, bytes: &[u8], epoch: Option<Epoch>) {
        let frame: serde_json::Value = serde_json::from_slice(&bytes[if bytes[1] < 126 { 2 } else { 4 }..]).unwrap();
        let (seq, epoch) = (frame["seq"].as_u64().unwrap(), epoch.unwrap());
        if let Some((of, last, _)) = self.shown.last() {
            assert!(*of != epoch || seq > *last, "{seq} behind {last}");
        }
        self.shown.push((epoch, seq, frame["event"].as_str().unwrap().to_owned()));
        self.ever.push((epoch, seq));
    }

    /// Nothing can be written any more: it lets go of what it has not begun to write, at once.
    fn block(&mut self) {
        self.socket.state().blocked = true;
        if self.pending.is_none() {
            self.feed.let_go(&mut self.queue, false, self.place);
        }
    }

    /// Comes back with what it has.
    fn reconnect(&mut self) {
        self.hear();
        let last = self.shown.last().map(|(epoch, seq, _)| Position::Cursor(cursor(*epoch, *seq)));
        let start = Start::After(last.unwrap_or(Position::Seq(0)));
        let blocked = self.socket.state().blocked;
        (self.socket, self.feed) = Client::connect(&self.sessions, &self.view, start, limits(3));
        self.socket.state().blocked = blocked;
        (self.pending, self.place, self.closed) = (None, Place::default(), None);
        self.queue.clear();
    }

    fn seqs(&self) -> Vec<u64> {
        self.shown.iter().map(|(_, seq, _)| *seq).collect()
    }
}

fn newest(delivery: Delivery) -> ViewOptions {
    ViewOptions { delivery, ..ViewOptions::default() }
}

fn closing(delivery: Delivery) -> ViewOptions {
    let rules: [CloseOn; 2] = ["gm.phase:4001:enough", "arena.input.fakenews:1001"].map(|text| text.parse().unwrap());
    ViewOptions { delivery, close_on: rules.into(), ..ViewOptions::default() }
}

fn publish(world: &mut World, subjects: &[&str]) {
    for subject in subjects {
        world.stream.publish(subject);
        world.hear(1);
    }
}

const STATE: &str = "gm.s.state";
const AGENT: &str = "arena.s.agent.7.status";

#[test]
fn who_comes_from_before_the_ring_gets_the_newest_of_each_topic() {
    let mut world = World::new(RingLimits { frames: 64, bytes: 1 << 20 });
    publish(&mut world, &[STATE, AGENT, STATE, "gm.s._action", "gm.s.odd", STATE]);
    for (delivery, after, expected) in [
        (Delivery::Latest, 0, &[2, 6][..]),
        (Delivery::Latest, 2, &[6]),
        (Delivery::Latest, 6, &[]),
        (Delivery::All, 0, &[1, 2, 3, 6]),
    ] {
        let mut viewer = viewer(&world, newest(delivery), Start::After(Position::Seq(after)));
        viewer.rest(&world.stream);
        assert_eq!(viewer.seqs(), expected, "{delivery:?} behind {after}");
    }
    // A cursor of another life, or beyond the end, is as good as none.
    for at in [Position::Cursor(cursor(Epoch::new(9), 5)), Position::Seq(99)] {
        let mut viewer = viewer(&world, newest(Delivery::Latest), Start::After(at));
        viewer.rest(&world.stream);
        assert_eq!((viewer.seqs(), viewer.closed), (vec![2, 6], None), "{at:?}");
    }
}

#[test]
fn a_blocked_viewer_gets_what_is_the_newest_when_it_wakes() {
    let mut world = World::new(RingLimits { frames: 64, bytes: 1 << 20 });
    let mut viewer = viewer(&world, newest(Delivery::Latest), Start::Live);
    viewer.rest(&world.stream);
    publish(&mut world, &[STATE, STATE]);
    viewer.rest(&world.stream);
    viewer.block();
    // By far more than it may lag behind who gets all.
    publish(&mut world, &[STATE; 40]);
    publish(&mut world, &[AGENT]);
    publish(&mut world, &[STATE; 10]);
    viewer.rest(&world.stream);
    viewer.socket.state().blocked = false;
    viewer.rest(&world.stream);
    assert_eq!((viewer.seqs(), viewer.closed), (vec![1, 2, 43, 53], None));
}

#[test]
fn a_connection_is_closed_behind_the_event_wherever_it_reads_it() {
    let expected = |world: &World, seq| Close::ByEvent {
        code: 4001,
        reason: Some("enough".into()),
        after: cursor(Epoch::new(world.stream.epoch), seq),
    };
    for frames in [1, 64] {
        let mut world = World::new(RingLimits { frames, bytes: 1 << 20 });
        let mut live = viewer(&world, closing(Delivery::All), Start::Live);
        live.rest(&world.stream);
        // In one go, with what comes behind it.
        for subject in [STATE, STATE, "gm.s.phase", STATE, AGENT] {
            world.stream.publish(subject);
        }
        world.hear(5);
        live.rest(&world.stream);
        assert_eq!((live.seqs(), live.closed.clone()), (vec![1, 2, 3], Some(expected(&world, 3))), "{frames}");
        for (after, shown) in [(0, &[1, 2, 3][..]), (2, &[3])] {
            let mut past = viewer(&world, closing(Delivery::All), Start::After(Position::Seq(after)));
            past.rest(&world.stream);
            assert_eq!((past.seqs(), past.closed.clone()), (shown.to_vec(), Some(expected(&world, 3))), "{frames}");
        }
        let mut behind = viewer(&world, closing(Delivery::All), Start::After(Position::Seq(3)));
        behind.rest(&world.stream);
        assert_eq!((behind.seqs(), behind.closed.clone()), (vec![4, 5], None));
        // One that is never shown.
        publish(&mut world, &["arena.s.input.fakenews"]);
        behind.rest(&world.stream);
        let close = behind.closed.clone().unwrap();
        assert_eq!(
            (behind.seqs(), close.code(), close.reason()),
            (vec![4, 5], 1001, "closed after=00000001-6".to_owned())
        );
    }
}

#[test]
fn a_viewer_of_the_newest_is_closed_as_well_and_has_what_was_the_newest_then() {
    let mut world = World::new(RingLimits { frames: 64, bytes: 1 << 20 });
    let mut slow = viewer(&world, closing(Delivery::Latest), Start::Live);
    slow.rest(&world.stream);
    slow.block();
    publish(&mut world, &[STATE, STATE, AGENT, STATE, "gm.s.phase", STATE, STATE]);
    slow.socket.state().blocked = false;
    slow.rest(&world.stream);
    assert_eq!((slow.seqs(), slow.closed.as_ref().map(Close::code)), (vec![3, 4, 5], Some(4001)));
    // From the stream only the newest of all is to be had, which here came later; it is closed all the same.
    let mut late = viewer(&world, closing(Delivery::Latest), Start::After(Position::Seq(0)));
    world.sessions.mark_broken(world.heard);
    late.rest(&world.stream);
    assert_eq!((late.seqs(), late.closed.as_ref().map(Close::code)), (vec![3, 5], Some(4001)));
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Publish(usize),
    Hear(usize),
    Skip,
    Trim(u64),
    Suspend,
    Resume,
    Anew,
    Steps(usize),
    Block,
    Unblock,
    Reconnect,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        10 => (0..SUBJECTS.len()).prop_map(Happening::Publish),
        6 => (1_usize..6).prop_map(Happening::Hear),
        8 => (1_usize..6).prop_map(Happening::Steps),
        1 => Just(Happening::Skip),
        1 => (1_u64..6).prop_map(Happening::Trim),
        1 => Just(Happening::Suspend),
        1 => Just(Happening::Resume),
        1 => Just(Happening::Anew),
        2 => Just(Happening::Block),
        3 => Just(Happening::Unblock),
        1 => Just(Happening::Reconnect),
    ];
    prop::collection::vec(happening, 0..120)
}

impl World {
    fn has(&mut self, viewer: &mut Viewer, happening: Happening) {
        match happening {
            Happening::Publish(subject) => drop(self.stream.publish(SUBJECTS[subject])),
            Happening::Hear(count) => self.hear(count),
            Happening::Skip if self.serving => {
                self.heard = self.stream.last;
                self.sessions.mark_broken(self.heard);
            }
            Happening::Skip => {}
            Happening::Trim(count) => self.stream.first = (self.stream.first + count).min(self.stream.last + 1),
            Happening::Suspend => {
                self.serving = false;
                self.sessions.suspend();
            }
            Happening::Resume => {
                self.serving = true;
                self.sessions.resume();
            }
            Happening::Anew => {
                self.stream = Stream { epoch: self.stream.epoch + 1, first: 1, ..Stream::default() };
                self.sessions.suspend();
                (self.heard, self.serving) = (0, true);
                self.sessions.reset(StreamLife { epoch: Epoch::new(self.stream.epoch), head: 0 });
            }
            Happening::Steps(steps) => drop((0..steps).take_while(|_| viewer.step(&self.stream)).count()),
            Happening::Block => viewer.block(),
            Happening::Unblock => viewer.socket.state().blocked = false,
            Happening::Reconnect => viewer.reconnect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens: in order, never too slow, never told of a gap, and in the end with the newest of all there is.
    #[test]
    fn a_viewer_of_the_newest_always_comes_to_have_it(
        happenings in happenings(),
        frames in 1_usize..8,
    ) {
        let mut world = World::new(RingLimits { frames, bytes: 1 << 20 });
        let mut viewer = viewer(&world, newest(Delivery::Latest), Start::After(Position::Seq(0)));
        for happening in happenings {
            world.has(&mut viewer, happening);
            prop_assert_eq!(&viewer.closed, &None);
        }
        for happening in [Happening::Resume, Happening::Unblock, Happening::Hear(usize::MAX >> 1)] {
            world.has(&mut viewer, happening);
        }
        viewer.rest(&world.stream);
        prop_assert_eq!(&viewer.closed, &None);
        let mut last = std::collections::BTreeMap::new();
        for event in world.stream.kept(SESSION).filter(|event| shown(&viewer.view, event)) {
            last.insert(event.topic().to_owned(), event.seq);
        }
        let epoch = Epoch::new(world.stream.epoch);
        for (topic, seq) in last {
            prop_assert!(viewer.ever.contains(&(epoch, seq)), "{seq} of {topic:?} is missing in {:?}", viewer.ever);
        }
    }
}
