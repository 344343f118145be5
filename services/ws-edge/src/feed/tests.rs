//! The seam, against a model: whatever happens to stream, rings and connection, a client sees each event once and in
//! order, or is told where its gap is.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use async_nats::Subject;
use proptest::prelude::*;

use super::{
    past::{Found, begin, take_up},
    *,
};
use crate::{
    dialect::Dialect,
    event::Event,
    history::{Extent, HistoryError, Holes, Page, Proof, Snapshot},
    intake::{Life as StreamLife, Rings as _},
    log::{Batch, Budget, RingLimits},
    replay::Pace,
    sessions::{Goes, SessionLimits},
    view::{Encoding, ViewOptions},
};

mod options;
mod stream;
mod timed;
mod ways;
mod world;

use stream::Stream;
use world::{Deed, World, deeds, limits};

const SESSION: &str = "s";
const SUBJECTS: [&str; 7] = [
    "gm.s.state",
    "arena.s.agent.7.status",
    "gm.s.phase",
    "gm.s._action",
    "arena.s.input.fakenews",
    "gm.s.odd",
    "gm.other.state",
];

static VIEWS: std::sync::LazyLock<crate::view::Views> = std::sync::LazyLock::new(Default::default);

fn view(encoding: Encoding) -> View {
    View {
        roots: vec!["gm".into(), "arena".into()],
        hidden: vec!["arena.input.fakenews".parse().unwrap()],
        snapshot: vec!["gm.state".parse().unwrap()],
        dialect: Dialect::Event,
        encoding,
        veils: Vec::new(),
        options: ViewOptions::default(),
    }
}

fn event(subject: &str, seq: u64) -> Event {
    let payload = if subject.ends_with("odd") { b"\xff".to_vec() } else { format!("{{\"n\":{seq}}}").into_bytes() };
    Event::parse(Subject::from(subject), seq, 1000 + seq, Bytes::from(payload)).unwrap()
}

fn is_shown(view: &View, event: &Event) -> bool {
    view.shows(event) && view.head(event).is_some()
}

fn shown(view: &View, event: &Event) -> bool {
    event.session() == SESSION && is_shown(view, event)
}

fn number(epoch: Epoch) -> u32 {
    u32::from_str_radix(&epoch.to_string(), 16).unwrap()
}

/// A socket that is always or never writable.
#[derive(Default)]
struct Socket(Mutex<SocketState>);

#[derive(Default)]
struct SocketState {
    token: u64,
    listens: bool,
    blocked: bool,
    offered: bool,
    place: Place,
    received: Vec<Bytes>,
}

impl Socket {
    fn state(&self) -> std::sync::MutexGuard<'_, SocketState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Socket {
    fn offer(&self, token: u64, batch: &Batch) -> (usize, Goes) {
        let mut state = self.state();
        if state.token != token {
            return (0, Goes::Away);
        }
        state.listens &= !state.blocked;
        if !state.listens {
            return (0, Goes::Away);
        }
        let frames = batch.behind(state.place.seq).0;
        for frame in frames {
            state.place = state.place.at(frame);
            state.offered = true;
            state.received.push(frame.bytes.clone());
        }
        (frames.len(), Goes::On)
    }

    fn dismiss(&self, token: u64) {
        let mut state = self.state();
        state.listens &= state.token != token;
    }

    fn is_current(&self, token: u64) -> bool {
        let state = self.state();
        state.token == token && state.listens
    }
}

/// A client that checks every frame against the model, over as many connections as it takes.
struct Client {
    sessions: Arc<Sessions>,
    view: Arc<View>,
    limits: FeedLimits,
    socket: Arc<Socket>,
    feed: Feed,
    pending: Option<(Question, Option<Answer>)>,
    /// What is handed out and not yet sent, and how far everything is.
    queue: VecDeque<Out>,
    place: Place,
    /// It waits for its snapshot.
    snapshot: bool,
    epoch: u32,
    /// Everything up to here was seen, or told to be missing.
    at: Option<u64>,
    seen: u64,
    gaps: u64,
    /// Events and gaps since it began or went elsewhere.
    since: u64,
    /// So often it was told that it shows what happens.
    live: u64,
    /// How fast it plays the past, if it does; and that it goes elsewhere, as soon as it is told where.
    pace: Option<Pace>,
    moves: bool,
    /// It began with what there was: what was deleted up to here is no loss of its.
    excused: u64,
}

impl Client {
    fn new(sessions: &Arc<Sessions>, encoding: Encoding, start: Start, limits: FeedLimits) -> Self {
        let (sessions, view) = (sessions.clone(), VIEWS.intern(view(encoding)));
        let (socket, feed) = Self::connect(&sessions, &view, start, limits);
        let at = (start == Start::After(Position::Seq(0))).then_some(0);
        let (queue, place, snapshot) = (VecDeque::new(), Place::default(), start == Start::Snapshot);
        let pending = None;
        Self {
            sessions,
            view,
            limits,
            socket,
            feed,
            pending,
            queue,
            place,
            snapshot,
            epoch: 1,
            at,
            seen: 0,
            gaps: 0,
            since: 0,
            live: 0,
            pace: None,
            moves: false,
            excused: 0,
        }
    }

    fn connect(sessions: &Arc<Sessions>, view: &Arc<View>, start: Start, limits: FeedLimits) -> (Arc<Socket>, Feed) {
        let socket = Arc::new(Socket::default());
        let target = Target::Session(SESSION.parse().unwrap());
        let weak: Weak<Socket> = Arc::downgrade(&socket);
        let feed = Feed::new(sessions.clone(), view.clone(), &target, start, None, limits, weak);
        (socket, feed)
    }

    /// History's answer, which goes into the ring, too.
    fn asked(&self, stream: &Stream, question: &Question, page: usize) -> Answer {
        let answer = stream.answer(question, page);
        take_up(&self.sessions, &question.session, &question.view, question.ask, &answer, self.sessions.purges());
        answer
    }

    /// Comes back with what it knows.
    fn reconnect(&mut self, stream: &Stream) {
        self.read(stream);
        let start = match self.at {
            None => Start::Live,
            Some(0) if self.gaps == 0 => Start::After(Position::Seq(0)),
            Some(at) => Start::After(Position::Cursor(cursor(Epoch::new(self.epoch), at))),
        };
        (self.pending, self.place, self.snapshot, self.excused) = (None, Place::default(), false, 0);
        self.queue.clear();
        (self.socket, self.feed) = Self::connect(&self.sessions, &self.view, start, self.limits);
        self.moves = false;
        if let Some(pace) = self.pace {
            self.play(pace);
        }
    }

    /// Gets what was made for it, at once.
    fn flush(&mut self, stream: &Stream) {
        let blocked = std::mem::take(&mut self.socket.state().blocked);
        while !self.queue.is_empty() || !self.feed.ready.is_empty() {
            self.step(stream, 1, false);
        }
        self.socket.state().blocked = blocked;
        self.read(stream);
    }

    /// Is told to come back, with the place to which everything was sent: no event lies between that and what it has.
    fn sent_away(&mut self, stream: &Stream) {
        self.read(stream);
        let sent = {
            let socket = self.socket.state();
            if socket.offered { socket.place } else { self.place }
        };
        let told = sent.cursor().filter(|cursor| cursor.seq > 0);
        if let (Some(told), Some(at)) = (told, self.at) {
            assert!(!self.snapshot, "it has no snapshot yet, and is told to come back without");
            if number(told.epoch) != self.epoch {
                // It was not yet told of its gap.
                (self.epoch, self.at) = (number(told.epoch), Some(told.seq));
            } else if self.moves {
                // There, or where it was before, as far as word of it was sent.
                self.at = Some(told.seq);
            } else if self.epoch == stream.told().epoch {
                let stream = stream.told();
                let (from, to) = (at.min(told.seq), at.max(told.seq));
                let shown = |event: &&Event| stream.is_kept(event.seq) && shown(&self.view, event);
                let between = stream.events.iter().filter(shown).find(|event| event.seq > from && event.seq <= to);
                assert_eq!(between, None, "it has come to {at} and is told to come back to {}", told.seq);
            }
        }
        self.reconnect(stream);
    }

    /// One step. `false`: there is nothing to do until something happens. `early`: history answers at once, and the
    /// answer is late.
    fn step(&mut self, stream: &Stream, page: usize, early: bool) -> bool {
        if self.socket.state().blocked {
            // History answers all the same.
            if let Some((question, answer)) = self.pending.take() {
                let answer = answer.unwrap_or_else(|| self.asked(stream, &question, page));
                self.feed.answer(Ok(answer));
                return true;
            }
            return false;
        }
        if let Some(out) = self.queue.pop_front() {
            self.place = out.place;
            self.socket.state().received.push(out.bytes);
            self.read(stream);
            return true;
        }
        if let Some((question, answer)) = self.pending.take() {
            let answer = answer.unwrap_or_else(|| self.asked(stream, &question, page));
            self.feed.answer(Ok(answer));
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
            state.token += 1;
            state.listens = true;
            self.place = self.feed.place().unwrap_or(self.place);
            state.place = self.place;
            state.token
        };
        let step = self.feed.step(token);
        if self.feed.from_start {
            self.excused = self.feed.owed_from;
        }
        self.socket.state().listens &= matches!(step, Step::Listen);
        match step {
            Step::Listen => {}
            Step::Idle => unreachable!("it has a session"),
            Step::Rest => {
                let wakes = self.feed.wakes_at().is_some();
                std::thread::yield_now();
                return wakes;
            }
            Step::Send(outs) => self.queue = outs.into(),
            Step::Ask(question) => {
                let answer = early.then(|| self.asked(stream, &question, page));
                self.pending = Some((question, answer));
            }
            Step::Close(close) => {
                self.read(stream);
                match close {
                    Close::Gap { after } => {
                        assert_eq!(self.view.encoding, Encoding::Plain);
                        (self.epoch, self.at) = (number(after.epoch), Some(after.seq));
                        (self.gaps, self.since) = (self.gaps + 1, self.since + 1);
                    }
                    Close::TooSlow { after } => assert!(self.at.is_none_or(|at| at <= after.seq)),
                    other => panic!("closed: {other:?}"),
                }
                self.reconnect(stream);
            }
        }
        self.read(stream);
        true
    }

    fn read(&mut self, stream: &Stream) {
        let received = std::mem::take(&mut self.socket.state().received);
        for bytes in received {
            self.receive(&bytes, stream);
        }
    }

    /// Lets go of what it holds, as who can't be written to. `begun`: a part of the first is sent.
    fn let_go(&mut self, begun: bool) {
        if self.socket.state().blocked && self.pending.is_none() {
            let begun = begun && !self.queue.is_empty();
            self.feed.let_go(&mut self.queue, begun, self.place);
        }
    }

    fn receive(&mut self, bytes: &[u8], stream: &Stream) {
        let stream = stream.told();
        self.epoch = if self.view.has_control() { self.epoch } else { stream.epoch };
        let (header, length) = match bytes[1] {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            length => (2, usize::from(length)),
        };
        let (text, more) = bytes[header..].split_at(length);
        self.receive_one(text, stream);
        if !more.is_empty() {
            self.receive(more, stream);
        }
    }

    /// Deleted before it began with what there was.
    fn is_excused(&self, event: &Event, stream: &Stream) -> bool {
        event.seq <= self.excused && stream.holes.contains(&event.seq)
    }

    fn receive_one(&mut self, text: &[u8], stream: &Stream) {
        let frame: serde_json::Value = serde_json::from_slice(text).unwrap();
        let data = &frame["data"];
        match frame["event"].as_str().unwrap() {
            "herald.hello" => {
                self.epoch = u32::from_str_radix(data["epoch"].as_str().unwrap(), 16).unwrap();
                self.at.get_or_insert(data["head"].as_u64().unwrap());
            }
            "herald.gap" => {
                let (from, to) = (data["from"].as_u64().unwrap(), data["to"].as_u64().unwrap());
                if data["reason"] == "trimmed" {
                    let begun = self.since > 0 || self.at != Some(0);
                    let after = |event: &&Event| begun && self.at.is_some_and(|at| event.seq > at);
                    let missed =
                        |event: &&Event| shown(&self.view, event) && after(event) && !self.is_excused(event, stream);
                    assert_eq!(stream.events.iter().filter(missed).find(|event| event.seq < from), None);
                }
                // What it is told by then is of no life until the next greeting, and never of the former one.
                if data["reason"] == "epoch" {
                    self.epoch = 0;
                }
                self.at = Some(to);
                (self.gaps, self.since) = (self.gaps + 1, self.since + 1);
            }
            "herald.live" => {
                (self.at, self.snapshot) = (data["after"].as_u64(), false);
                self.live += 1;
            }
            "herald.replay" => {
                if data["state"] != "refused" && std::mem::take(&mut self.moves) {
                    (self.at, self.since) = (data["after"].as_u64(), 0);
                }
            }
            _ if frame["snapshot"] == true => {}
            _ => {
                let seq = frame["seq"].as_u64().unwrap();
                let shown = |event: &&Event| shown(&self.view, event);
                assert!(
                    stream.events.iter().any(|event| event.seq == seq && shown(&event)),
                    "{seq} is not to be shown"
                );
                let at = self.at.unwrap_or(seq - 1);
                assert!(seq > at, "{seq} again, at {at}");
                // Who begins with what there is does not miss what there is no more.
                let from = if self.since == 0 && at == 0 { stream.first - 1 } else { at };
                assert!(!self.view.has_control() || self.epoch == stream.epoch, "of life {}", self.epoch);
                let missed = stream.events.iter().filter(shown).filter(|event| !self.is_excused(event, stream));
                let missed = missed.clone().find(|event| event.seq > from && event.seq < seq);
                assert_eq!(missed, None, "a hole between {at} and {seq}");
                if self.view.is_chained() {
                    let prev = frame["prev"].as_u64().unwrap();
                    assert!(prev <= at, "prev {prev} says that something is missing behind {at}");
                    // Those between it and this one are kept no more.
                    let between = |event: &&Event| event.seq > prev && event.seq < seq && stream.is_kept(event.seq);
                    let between = stream.events.iter().filter(shown).find(between);
                    assert_eq!(between, None, "prev {prev} of {seq}");
                }
                self.at = Some(seq);
                (self.seen, self.since) = (self.seen + 1, self.since + 1);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_client_sees_each_event_once_or_is_told_where_its_gap_is(
        before in prop::collection::vec(0..SUBJECTS.len(), 0..20),
        deeds in deeds(),
        frames in 1_usize..12,
        page in 1_usize..5,
        lag in prop_oneof![Just(u64::MAX), 1_u64..20],
        plain: bool,
        start in prop_oneof![
            Just(Start::Live), Just(Start::Snapshot), Just(Start::After(Position::Seq(0))),
            (0_u64..30).prop_map(|seq| Start::After(Position::Seq(seq))),
            (0_u64..30, 0_u32..3).prop_map(|(seq, epoch)| Start::After(Position::Cursor(cursor(Epoch::new(epoch), seq)))),
        ],
    ) {
        let mut world = World::new(RingLimits { frames, bytes: 1 << 20 });
        for subject in before {
            world.stream.publish(SUBJECTS[subject]);
            world.hear(1);
        }
        let (encoding, start) = match (plain, start) {
            // A plain client can't tell a snapshot from what follows it.
            (true, Start::Snapshot) => (Encoding::Plain, Start::Live),
            (true, start) => (Encoding::Plain, start),
            (false, start) => (Encoding::V1, start),
        };
        let mut client = Client::new(&world.sessions, encoding, start, limits(lag));
        if let Start::After(position) = start {
            client.at = Some(position.seq());
        }
        for deed in deeds {
            world.happens(deed, &mut client, page);
        }
        world.settle(&mut client, page);
        // What is no longer kept is of no interest to a client that asked for what there is.
        let last = world.stream.kept(SESSION).rfind(|event| shown(&client.view, event)).map_or(0, |event| event.seq);
        prop_assert!(client.at.is_none_or(|at| at >= last), "ends at {:?}, the stream at {last}", client.at);
    }
}
