//! The registry under threads: whoever comes while events are appended misses none, and nothing stays behind.

use std::sync::atomic::AtomicBool;

use async_nats::Subject;
use bytes::Bytes;

use super::*;
use crate::{
    dialect::Dialect,
    view::{Encoding, ViewOptions, Views},
};

const EPOCH: Epoch = Epoch::new(7);
const RING: RingLimits = RingLimits { frames: 64, bytes: 1 << 20 };

fn sessions(linger: Duration) -> Arc<Sessions> {
    let sessions = Sessions::new("EVENTS", SessionLimits { ring: RING, budget: Budget::new(1 << 20), linger });
    sessions.reset(Life { epoch: EPOCH, head: 0 });
    sessions
}

fn view(encoding: Encoding) -> Arc<View> {
    static VIEWS: std::sync::LazyLock<Views> = std::sync::LazyLock::new(Views::default);
    VIEWS.intern(View {
        roots: vec!["gm".into()],
        hidden: Vec::new(),
        snapshot: Vec::new(),
        dialect: Dialect::Event,
        encoding,
        veils: Vec::new(),
        options: ViewOptions::default(),
    })
}

fn event(session: &str, seq: u64) -> Event {
    let payload = Bytes::from(format!("{{\"n\":{seq}}}"));
    Event::parse(Subject::from(format!("gm.{session}.x")), seq, 0, payload).unwrap()
}

fn id(session: &str) -> SessionId {
    session.parse().unwrap()
}

/// What a burst of events does.
fn take(sessions: &Sessions, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| sessions.append(&event));
    sessions.flush();
}

fn watched(sessions: &Sessions) -> usize {
    lock(&sessions.registry).sessions.len()
}

/// Takes frames until it has had so many in a row, then does not any more for a while.
#[derive(Default)]
struct Reader {
    token: AtomicU64,
    /// Its place when it began to listen.
    place: AtomicU64,
    /// Sequences, in the order they came.
    got: Mutex<Vec<u64>>,
    most: usize,
}

impl Listener for Reader {
    fn offer(&self, token: u64, batch: &Batch) -> (usize, Goes) {
        let mut got = lock(&self.got);
        let frames = batch.behind(got.last().copied().unwrap_or_else(|| self.place.load(Ordering::Acquire))).0;
        let taken = if self.is_current(token) { frames.len().min(self.most.saturating_sub(got.len())) } else { 0 };
        got.extend(frames[..taken].iter().map(|frame| frame.seq));
        if taken == frames.len() && self.is_current(token) {
            return (taken, Goes::On);
        }
        self.dismiss(token);
        (taken, Goes::Away)
    }

    fn dismiss(&self, token: u64) {
        let _other = self.token.compare_exchange(token, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_current(&self, token: u64) -> bool {
        self.token.load(Ordering::Acquire) == token
    }
}

/// One connection's life: begins live, reads and listens in turn, and checks that not one event is missing. In this
/// session every sequence is one of its events.
fn watch(sessions: &Arc<Sessions>, encoding: Encoding, most: usize) {
    let reader = Arc::new(Reader { most, ..Reader::default() });
    let weak: Weak<Reader> = Arc::downgrade(&reader);
    let seat = sessions.attach(&id("s"), &view(encoding), weak, true);
    let opening = seat.opening().unwrap();
    let (mut at, mut token) = (opening.head, 0);
    while at < opening.head + 200 {
        if reader.token.load(Ordering::Acquire) != 0 {
            std::thread::yield_now();
            continue;
        }
        for seq in std::mem::take(&mut *lock(&reader.got)) {
            assert_eq!(seq, at + 1, "offered");
            at = seq;
        }
        token += 1;
        lock(&reader.got).clear();
        reader.place.store(at, Ordering::Release);
        reader.token.store(token, Ordering::Release);
        let read = seat.read(opening.generation, at, 16, 1 << 20, token);
        if !matches!(read, SeatRead::UpToDate) {
            reader.token.store(0, Ordering::Release);
        }
        match read {
            SeatRead::Frames { frames, .. } => {
                for frame in frames {
                    assert_eq!(frame.seq, at + 1, "read");
                    at = frame.seq;
                }
            }
            // History would have it.
            SeatRead::Behind { floor, .. } => at = floor,
            SeatRead::Unchained { floor } => seat.chain(opening.generation, floor, floor),
            SeatRead::UpToDate => {}
            SeatRead::Suspended | SeatRead::OtherLife | SeatRead::Stop(_) | SeatRead::Over { .. } => panic!("{read:?}"),
        }
    }
}

#[test]
fn who_comes_while_events_are_appended_misses_none() {
    let sessions = sessions(Duration::ZERO);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seq = 0;
            for burst in (1..=5).cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                take(&sessions, (seq + 1..=seq + burst).map(|seq| event("s", seq)));
                seq += burst;
                if burst == 5 {
                    sessions.sweep(Instant::now());
                }
            }
        });
        let readers: Vec<_> = (0..4_usize)
            .map(|reader| {
                let sessions = &sessions;
                scope.spawn(move || {
                    for round in 0..50 {
                        let encoding = if (reader + round) % 2 == 0 { Encoding::V1 } else { Encoding::Plain };
                        watch(sessions, encoding, 1 + round % 30);
                    }
                })
            })
            .collect();
        let all = readers.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>();
        done.store(true, Ordering::Relaxed);
        assert!(all.iter().all(Result::is_ok));
    });
    assert_eq!(sessions.count("s"), 0);
}

fn idle() -> Weak<dyn Listener> {
    Weak::<Reader>::new()
}

#[test]
fn a_session_is_kept_for_the_linger_time_after_its_last_connection() {
    let linger = Duration::from_secs(60);
    let sessions = sessions(linger);
    let begun = Instant::now();
    let (first, second) = (
        sessions.attach(&id("s"), &view(Encoding::Plain), idle(), true),
        sessions.attach(&id("s"), &view(Encoding::Sse), idle(), false),
    );
    assert_eq!((watched(&sessions), sessions.count("s")), (1, 1), "who only follows does not count");
    take(&sessions, [event("s", 1)]);
    drop(first);
    drop(second);
    sessions.sweep(begun + linger / 2);
    assert_eq!(watched(&sessions), 1);
    let back = sessions.attach(&id("s"), &view(Encoding::Plain), idle(), true);
    assert!(matches!(back.read(1, 0, 9, 999, 1), SeatRead::Frames { .. }), "its ring was kept");
    sessions.sweep(Instant::now() + linger);
    assert_eq!(watched(&sessions), 1, "somebody is there");
    drop(back);
    sessions.sweep(Instant::now() + linger);
    assert_eq!((watched(&sessions), sessions.limits.budget.used()), (0, 0));
}

#[test]
fn rings_that_nobody_reads_go_first_where_memory_is_tight() {
    let sessions = sessions(Duration::from_secs(60));
    let seats = ["a", "b"].map(|name| sessions.attach(&id(name), &view(Encoding::Plain), idle(), true));
    let mut seq = 0;
    while !sessions.limits.budget.is_tight() {
        seq += 1;
        let payload = Bytes::from(format!("\"{}\"", "x".repeat(50_000)));
        take(&sessions, Event::parse(Subject::from_static("gm.a.x"), seq, 0, payload));
    }
    let [a, b] = seats;
    drop(a);
    sessions.sweep(Instant::now());
    assert_eq!((watched(&sessions), sessions.limits.budget.used()), (1, 0), "without waiting");
    drop(b);
}

#[test]
fn a_ring_that_never_learnt_its_beginning_goes_with_its_last_connection() {
    let sessions = sessions(Duration::from_secs(60));
    let seat = sessions.attach(&id("s"), &view(Encoding::V1), idle(), true);
    take(&sessions, [event("s", 1)]);
    assert!(matches!(seat.read(1, 0, 9, 999, 1), SeatRead::Unchained { floor: 0 }));
    drop(seat);
    assert_eq!(watched(&sessions), 0);
}

#[test]
fn what_is_held_back_is_bounded_and_the_chain_stays_true() {
    let sessions = sessions(Duration::from_secs(60));
    let seat = sessions.attach(&id("s"), &view(Encoding::V1), idle(), true);
    for seq in 1..=RING.frames as u64 + 3 {
        take(&sessions, [event("s", seq)]);
    }
    let floor = RING.frames as u64 + 1;
    assert!(matches!(seat.read(1, 0, 9, 999, 1), SeatRead::Behind { floor: at, .. } if at == floor));
    seat.chain(1, 0, 0);
    let SeatRead::Frames { frames, .. } = seat.read(1, floor, 9, 999, 1) else { panic!("the ring goes on") };
    assert_eq!(
        frames.iter().map(|frame| (frame.prev, frame.seq)).collect::<Vec<_>>(),
        [(floor, floor + 1), (floor + 1, floor + 2)]
    );
}

#[test]
fn the_ring_of_a_fork_begins_where_it_was_named_however_far_the_intake_is() {
    let sessions = sessions(Duration::from_secs(60));
    take(&sessions, [event("s", 1)]);
    let fork = "fork-1";
    let named = sessions.attach_behind(7, &id(fork), &view(Encoding::Plain), idle(), false);
    assert_eq!(named.opening().map(|opening| (opening.floor, opening.head)), Some((7, 7)));
    // What it begins with, up to the third, comes by history alone, and so does what follows up to where it was named.
    take(&sessions, [event("s", 2), event("s", 3), event(fork, 6)]);
    assert!(matches!(named.read(1, 1, 9, 999, 1), SeatRead::Behind { floor: 7, .. }));
    take(&sessions, [event(fork, 9)]);
    let SeatRead::Frames { frames, .. } = named.read(1, 7, 9, 999, 1) else { panic!("the ring goes on") };
    assert_eq!(frames.iter().map(|frame| frame.seq).collect::<Vec<_>>(), [9]);
    // Who comes in later finds it open.
    let other = sessions.attach_behind(99, &id(fork), &view(Encoding::Plain), idle(), true);
    assert_eq!(other.opening().map(|opening| (opening.floor, opening.head)), Some((7, 9)));
}

#[test]
fn who_does_not_listen_any_more_is_cleared_from_the_list() {
    let sessions = sessions(Duration::from_secs(60));
    let reader = Arc::new(Reader { most: 9, ..Reader::default() });
    let weak: Weak<Reader> = Arc::downgrade(&reader);
    let seat = sessions.attach(&id("s"), &view(Encoding::Plain), weak, true);
    for token in 1..=1000 {
        reader.token.store(token, Ordering::Release);
        assert_eq!(seat.read(1, 0, 9, 999, token), SeatRead::UpToDate);
        reader.token.store(0, Ordering::Release);
        seat.stopped_listening();
    }
    let session = lock(&sessions.registry).sessions["s"].clone();
    let listening = lock(&session.state).rooms[0].listening.len();
    assert!(listening < 20, "{listening}");
}

#[test]
fn nothing_is_served_while_the_life_of_the_stream_is_in_doubt() {
    let sessions = sessions(Duration::from_secs(60));
    let reader = Arc::new(Reader { most: 9, ..Reader::default() });
    let weak: Weak<Reader> = Arc::downgrade(&reader);
    let seat = sessions.attach(&id("s"), &view(Encoding::Plain), weak, true);
    take(&sessions, [event("s", 1)]);
    reader.token.store(1, Ordering::Release);
    assert_eq!(seat.read(1, 1, 9, 999, 1), SeatRead::UpToDate);
    sessions.suspend();
    assert_eq!((reader.token.load(Ordering::Acquire), seat.opening()), (0, None), "it is told");
    take(&sessions, [event("s", 2)]);
    reader.token.store(2, Ordering::Release);
    assert_eq!(seat.read(1, 0, 9, 999, 2), SeatRead::Suspended);
    sessions.resume();
    assert_eq!(reader.token.load(Ordering::Acquire), 0, "it is told again");
    let SeatRead::Frames { frames, .. } = seat.read(1, 0, 9, 999, 3) else { panic!("what was there is there") };
    assert_eq!(frames.len(), 2);
    sessions.reset(Life { epoch: Epoch::new(8), head: 0 });
    assert_eq!(seat.read(1, 0, 9, 999, 4), SeatRead::OtherLife);
    assert_eq!(seat.opening().map(|opening| (opening.generation, opening.epoch)), Some((2, Epoch::new(8))));
}

fn control(topic: &str, seq: u64) -> Event {
    Event::parse(Subject::from(format!("gm.s.{topic}")), seq, 0, Bytes::from_static(b"{}")).unwrap()
}

#[test]
fn who_is_up_to_date_is_told_that_it_is_over_and_nobody_before() {
    let sessions = sessions(Duration::ZERO);
    let reader = Arc::new(Reader { most: 100, ..Reader::default() });
    let weak: Weak<Reader> = Arc::downgrade(&reader);
    let seat = sessions.attach(&id("s"), &view(Encoding::Plain), weak, true);
    let follower = sessions.attach(&id("s"), &view(Encoding::Plain), Weak::<Nobody>::new(), false);
    let generation = seat.opening().unwrap().generation;
    let read = |seat: &Seat, after| {
        reader.token.store(1, Ordering::Release);
        seat.read(generation, after, 16, 1 << 20, 1)
    };
    take(&sessions, [event("s", 1)]);
    assert_eq!(read(&seat, 1), SeatRead::UpToDate);
    take(&sessions, [event("s", 2), control("_over", 3)]);
    assert_eq!(reader.token.load(Ordering::Acquire), 0, "dismissed: it is to look again");
    assert!(matches!(read(&seat, 1), SeatRead::Frames { .. }), "what came before, first");
    assert_eq!((read(&seat, 2), read(&follower, 2)), (SeatRead::Over { at: 3 }, SeatRead::UpToDate));
    take(&sessions, [event("s", 4)]);
    assert!(matches!(read(&seat, 2), SeatRead::Frames { .. }), "what comes late is shown");
    assert_eq!(read(&seat, 4), SeatRead::Over { at: 3 });
    take(&sessions, [control("_action", 5)]);
    assert_eq!(read(&seat, 4), SeatRead::UpToDate, "alive again");
}

#[tokio::test]
async fn an_end_that_was_said_before_is_asked_for_and_waits_for_what_came_before_it() {
    let sessions = sessions(Duration::ZERO);
    let reader = Arc::new(Reader { most: 100, ..Reader::default() });
    let weak: Weak<Reader> = Arc::downgrade(&reader);
    let seat = sessions.attach(&id("s"), &view(Encoding::Plain), weak, true);
    let generation = seat.opening().unwrap().generation;
    let tries = AtomicU64::new(0);
    let ask = |_| {
        let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
        async move { if first { Err("away") } else { Ok(LastWords { over: 2, action: 0 }) } }
    };
    let known = async {
        while sessions.last_words(&id("s")).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = sessions.look_for_ends(ask) => unreachable!("for ever"),
        () = known => {}
    }
    reader.token.store(1, Ordering::Release);
    assert_eq!(seat.read(generation, 0, 16, 1 << 20, 1), SeatRead::UpToDate, "event 1 is on its way");
    take(&sessions, [event("s", 1), control("_over", 2)]);
    assert_eq!(reader.token.load(Ordering::Acquire), 0, "dismissed");
    assert_eq!(seat.read(generation, 1, 16, 1 << 20, 2), SeatRead::Over { at: 2 });
    sessions.reset(Life { epoch: Epoch::new(8), head: 9 });
    assert_eq!(sessions.last_words(&id("s")), None, "another life");
    let generation = seat.opening().unwrap().generation;
    assert_eq!(seat.read(generation, 9, 16, 1 << 20, 3), SeatRead::UpToDate);
}

#[test]
fn a_removed_session_is_forgotten_and_what_was_read_before_is_not_put_back() {
    let sessions = sessions(Duration::ZERO);
    let [seat, other] = ["s", "other"].map(|of| sessions.hold(&id(of), &view(Encoding::Plain)));
    let generation = seat.opening().unwrap().generation;
    take(&sessions, [event("s", 1), event("other", 2), event("s", 3)]);
    let read_before = sessions.purges();
    sessions.purged(5, &Purged { session: id("s"), upto: 4, events: 2 });
    let read = |seat: &Seat, after| seat.read(generation, after, 16, 1 << 20, 1);
    assert!(matches!(read(&seat, 0), SeatRead::Behind { floor: 3, .. }));
    assert_eq!(read(&seat, 3), SeatRead::UpToDate);
    let old = crate::log::Old { seq: 1, prev: 0, bytes: Bytes::from_static(b"old") };
    let piece =
        |purges| Piece { epoch: EPOCH, floor: 0, upto: 3, purges, frames: vec![old.clone()], stops: vec![], last: 1 };
    sessions.fill(&id("s"), &view(Encoding::Plain), piece(read_before));
    assert!(matches!(read(&seat, 0), SeatRead::Behind { .. }));
    sessions.fill(&id("s"), &view(Encoding::Plain), piece(sessions.purges()));
    assert!(matches!(read(&seat, 0), SeatRead::Frames { .. }), "what was read after is");
    assert!(matches!(read(&other, 0), SeatRead::Frames { .. }), "nobody else's");
}

#[test]
fn before_an_event_that_closes_everything_is_offered_and_the_event_is_read() {
    let sessions = sessions(Duration::from_secs(60));
    let rule = "gm.x.end:4001".parse().unwrap();
    let options = ViewOptions { close_on: vec![rule], ..ViewOptions::default() };
    let view = Arc::new(View { options, ..View::clone(&view(Encoding::Plain)) });
    let reader = Arc::new(Reader { most: 9, ..Reader::default() });
    let listener: Weak<Reader> = Arc::downgrade(&reader);
    let seat = sessions.attach(&id("s"), &view, listener, true);
    reader.token.store(1, Ordering::Release);
    assert_eq!(seat.read(1, 0, 9, 999, 1), SeatRead::UpToDate);
    let end = Event::parse(Subject::from("gm.s.x.end"), 3, 0, Bytes::from_static(b"3")).unwrap();
    take(&sessions, [event("s", 1), event("s", 2), end, event("s", 4)]);
    assert_eq!(*lock(&reader.got), [1, 2], "in one go, up to there");
    let SeatRead::Frames { frames, stop, .. } = seat.read(1, 2, 9, 999, 2) else { panic!("the end itself") };
    assert_eq!((frames.len(), frames[0].seq, stop.map(|stop| stop.seq)), (1, 3, Some(3)));
    let SeatRead::Frames { frames, stop, .. } = seat.read(1, 3, 9, 999, 3) else { panic!("what came later") };
    assert_eq!((frames.len(), frames[0].seq, stop), (1, 4, None));
}
