//! What hot paths are fed with when they are measured: events, views, those who listen.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicUsize, Ordering},
};

use async_nats::Subject;
use bytes::Bytes;
use herald_protocol::{Epoch, SessionId};
use ws_edge::{
    dialect::{Dialect, DialectName},
    event::Event,
    intake::{Life, Rings as _},
    log::{Batch, Budget, RingLimits},
    sessions::{Goes, Listener, Seat, SeatRead, SessionLimits, Sessions},
    view::{Encoding, View, ViewOptions},
};

/// That of ws-edge.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The session that is watched.
pub const SESSION: &str = "0b9d3c52-6f0e-4b57-9a57-3f1d2c8e7a41";
/// The name of the stream's life.
pub const EPOCH: Epoch = Epoch::new(0x5eed);
/// When everything was stored, ms since 1970.
pub const STORED_MS: u64 = 1_767_225_600_000;
/// As ws-edge is delivered.
pub const RING: RingLimits = RingLimits { frames: 1024, bytes: 1 << 20 };
/// What a connection that is behind reads at once: frames, bytes.
pub const READ_AT_ONCE: (usize, usize) = (64, 256 << 10);

/// What an agent of an arena says, in about `size` bytes.
pub fn agent_output(size: usize) -> Bytes {
    let head = r#"{"agent_id":"agent-3","agent_name":"Vera","round":4,"phase":2,"confidence":0.72,"content":""#;
    filled(head, r#"","rankings":["agent-1","agent-4"]}"#, size)
}

/// What a Game Master proposes, in about `size` bytes.
pub fn proposal(size: usize) -> Bytes {
    filled(r#"{"type":"strategy","data":{"turn":4,"indices":{"credulity":51.5,"rage":12},"text":""#, r#""}}"#, size)
}

/// Prose with an escape now and then, as language models write it.
fn filled(head: &str, tail: &str, size: usize) -> Bytes {
    let prose = r#"The minister \"knew\" – so they say – and nobody asked. "#.chars().cycle();
    let room = size.saturating_sub(head.len() + tail.len() + 4);
    let mut text = head.to_owned();
    for char in prose {
        // Not between a backslash and what it escapes.
        if text.len() >= head.len() + room && !text.ends_with('\\') {
            break;
        }
        text.push(char);
    }
    (text + tail).into()
}

/// An event of the watched session.
pub fn event(seq: u64, payload: &Bytes) -> Event {
    static SUBJECT: std::sync::LazyLock<Subject> =
        std::sync::LazyLock::new(|| format!("arena.{SESSION}.agent.agent-3.output").into());
    Event::parse(SUBJECT.clone(), seq, STORED_MS, payload.clone()).unwrap()
}

/// What the built-in listener shows.
pub fn view(dialect: DialectName, encoding: Encoding) -> Arc<View> {
    Arc::new(View {
        roots: vec!["gm".into(), "arena".into()],
        hidden: vec!["arena.input.fakenews".parse().unwrap()],
        snapshot: Vec::new(),
        dialect: Dialect::new(dialect, None),
        encoding,
        veils: Vec::new(),
        options: ViewOptions::default(),
    })
}

/// The sessions of a stream that is served and still empty.
pub fn sessions() -> Arc<Sessions> {
    let limits =
        SessionLimits { ring: RING, budget: Budget::new(256 << 20), linger: std::time::Duration::from_secs(60) };
    let sessions = Sessions::new("EVENTS", limits);
    sessions.reset(Life { epoch: EPOCH, head: 0 });
    sessions
}

/// Somebody who listens as a socket does, but for the system call.
pub struct Ear {
    /// Token and place.
    lane: Mutex<(u64, u64)>,
    heard: AtomicUsize,
}

impl Listener for Ear {
    fn offer(&self, token: u64, batch: &Batch) -> (usize, Goes) {
        let mut lane = self.lane.lock().unwrap();
        if lane.0 != token {
            return (0, Goes::Away);
        }
        let (frames, bytes) = batch.behind(lane.1);
        let Some(last) = frames.last() else { return (0, Goes::On) };
        std::hint::black_box(bytes);
        lane.1 = last.seq;
        self.heard.fetch_add(frames.len(), Ordering::Relaxed);
        (frames.len(), Goes::On)
    }

    fn dismiss(&self, _: u64) {}

    fn is_current(&self, token: u64) -> bool {
        self.lane.lock().unwrap().0 == token
    }
}

/// Those who listen to the watched session.
pub struct Audience {
    ears: Vec<(Arc<Ear>, Seat)>,
}

impl Audience {
    /// So many, all up to date.
    pub fn of(sessions: &Arc<Sessions>, view: &Arc<View>, count: usize) -> Self {
        Self { ears: (0..count).map(|_| listening(sessions, SESSION, view)).collect() }
    }

    /// How many frames all of them together were given.
    pub fn heard(&self) -> usize {
        self.ears.iter().map(|(ear, _)| ear.heard.load(Ordering::Relaxed)).sum()
    }

    /// The place of the first of them, and the life it is of.
    pub fn first_seat(&self) -> (&Seat, u64) {
        let seat = &self.ears[0].1;
        (seat, seat.generation().unwrap())
    }
}

/// One who listens to a session.
pub fn listening(sessions: &Arc<Sessions>, session: &str, view: &Arc<View>) -> (Arc<Ear>, Seat) {
    const TOKEN: u64 = 1;
    let session: SessionId = session.parse().unwrap();
    let ear = Arc::new(Ear { lane: Mutex::new((TOKEN, 0)), heard: AtomicUsize::new(0) });
    let weak: Weak<Ear> = Arc::downgrade(&ear);
    let seat = sessions.attach(&session, view, weak, true);
    let opening = seat.open(TOKEN).unwrap();
    seat.chain(opening.generation, opening.floor, 0);
    let read = seat.read(opening.generation, opening.head, READ_AT_ONCE.0, READ_AT_ONCE.1, TOKEN);
    assert_eq!(read, SeatRead::UpToDate);
    (ear, seat)
}

/// What clients send, masked as browsers do it: a text, a ping, a pong.
pub fn client_frames() -> (Vec<u8>, usize) {
    let masked = |opcode: u8, payload: &[u8]| {
        let mask = [0x12, 0x9a, 0x4f, 0xe3];
        let head = [0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        head.into_iter().chain(mask).chain(payload).collect::<Vec<_>>()
    };
    ([masked(1, br#"{"type":"ready","n":1}"#), masked(9, b"12345678"), masked(10, b"")].concat(), 3)
}
