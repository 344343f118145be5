//! What is published: over one plain connection to NATS, many messages per write where many are due.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::{
    gauges::Board,
    payload::{Clock, Payloads},
};
use crate::wire::nats::{self, Said};

/// What is written at once, at most.
const WRITE: usize = 64 << 10;
/// How long the publisher waits to look again where nobody woke it.
const LOOK: Duration = Duration::from_millis(1);
/// How long it waits for the stream's acknowledgements without any.
const ACKS_END_NS: u64 = 20_000_000_000;

/// How much is published, and how fast.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So many events a second in all, evenly, for so many ns.
    Rate { per_second: f64, ns: u64 },
    /// So many on their way per session, for so many ns; the first `watched` sessions have clients.
    Window { events: u64, watched: u32, ns: u64 },
    /// So many in all, at once.
    Burst(u64),
}

/// What the server said.
#[derive(Debug, Default)]
struct Line {
    /// It wants a pong.
    ping: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    ended: Mutex<Option<String>>,
}

pub(super) struct Publisher {
    stream: TcpStream,
    line: Arc<Line>,
    board: Arc<Board>,
    clock: Clock,
    payloads: Payloads,
    subjects: Vec<String>,
    /// How many of each session were published.
    counts: Vec<u64>,
    /// Events published, in all.
    published: Arc<AtomicU64>,
    all: u64,
    /// Where acknowledgements go, and how many may be outstanding.
    acks: Option<(String, u64)>,
    /// Every so manieth event is traced; 0: none.
    traced: u64,
    out: Vec<u8>,
}

impl Publisher {
    /// Connects.
    pub(super) fn connect(
        address: SocketAddr,
        board: Arc<Board>,
        clock: Clock,
        payloads: Payloads,
        sessions: u32,
        acks: u64,
        traced: u64,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let subjects: Vec<_> = (0..sessions).map(|index| format!("arena.{}.bench", payloads.session(index))).collect();
        let acks = (acks > 0).then(|| (format!("_INBOX.{}", payloads.session(0)), acks));
        let mut out = if traced > 0 { nats::connect_with_headers() } else { nats::CONNECT.to_vec() };
        if let Some((inbox, _)) = &acks {
            out.extend_from_slice(&nats::subscribe(inbox));
        }
        let line = Arc::new(Line::default());
        let (reading, heard, told) = (stream.try_clone()?, line.clone(), board.clone());
        // It ends with the connection.
        thread::Builder::new().name("nats".into()).spawn(move || {
            let why = listen(reading, &heard, &told).err().map_or_else(|| "ended".into(), |error| error.to_string());
            *heard.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(why);
            told.wake();
        })?;
        let counts = vec![0; subjects.len()];
        let published = Arc::default();
        Ok(Self { stream, line, board, clock, payloads, subjects, counts, published, all: 0, acks, traced, out })
    }

    /// How many events were published so far, for others to look at.
    pub(super) fn published(&self) -> Arc<AtomicU64> {
        self.published.clone()
    }

    /// How many of each session were published, and how many the stream refused.
    pub(super) fn counts(self) -> (Vec<u64>, u64) {
        (self.counts.clone(), self.line.refused.load(Relaxed))
    }

    /// Publishes one event that is not counted to each of the first `sessions` sessions.
    pub(super) fn probe(&mut self, sessions: u32) -> io::Result<()> {
        for session in 0..sessions {
            self.append(session, 0, false)?;
        }
        self.flush()
    }

    /// Publishes at that pace, from now on.
    pub(super) fn run(&mut self, pace: Pace) -> io::Result<()> {
        self.board.look();
        match pace {
            Pace::Rate { per_second, ns } => self.evenly(per_second, ns)?,
            Pace::Window { events, watched, ns } => self.windowed(events, watched, ns)?,
            Pace::Burst(events) => {
                for _ in 0..events {
                    self.next()?;
                }
                self.flush()?;
            }
        }
        self.acknowledged(0)
    }

    fn evenly(&mut self, per_second: f64, ns: u64) -> io::Result<()> {
        let start = self.clock.now();
        let end = (ns as f64 / 1e9 * per_second) as u64;
        let due = |k: u64| start + (k as f64 * 1e9 / per_second) as u64;
        for k in 0..end {
            let now = self.clock.now();
            if due(k) > now {
                self.flush()?;
                self.sleep_until(due(k))?;
            }
            self.next()?;
        }
        self.flush()
    }

    fn sleep_until(&mut self, due: u64) -> io::Result<()> {
        loop {
            let left = due.saturating_sub(self.clock.now());
            if left == 0 {
                return Ok(());
            }
            thread::park_timeout(Duration::from_nanos(left));
            if self.line.ping.load(Relaxed) {
                self.flush()?;
            }
            self.check()?;
        }
    }

    fn windowed(&mut self, events: u64, watched: u32, ns: u64) -> io::Result<()> {
        let end = self.clock.now() + ns;
        let watched = watched as usize;
        while self.clock.now() < end {
            self.board.look();
            let (before, mut most) = (self.all, 0);
            for session in 0..self.counts.len() {
                // Sessions that nobody watches go as fast as the fastest of the others.
                let end = if session < watched { self.board.floor(session) + events } else { most };
                while self.counts[session] < end {
                    self.event(session as u32)?;
                }
                most = most.max(self.counts[session]);
            }
            self.flush()?;
            if self.all == before {
                self.check()?;
                thread::park_timeout(LOOK);
            }
        }
        Ok(())
    }

    /// The next event, of the next session.
    fn next(&mut self) -> io::Result<()> {
        let session = self.all % self.counts.len() as u64;
        self.event(session as u32)
    }

    fn event(&mut self, session: u32) -> io::Result<()> {
        if let Some((_, most)) = self.acks
            && self.all - self.line.acknowledged.load(Relaxed) >= most
        {
            self.flush()?;
            self.acknowledged(most / 2)?;
        }
        self.all += 1;
        self.counts[session as usize] += 1;
        self.append(session, self.counts[session as usize], true)
    }

    fn append(&mut self, session: u32, n: u64, counted: bool) -> io::Result<()> {
        let reply = self.acks.as_ref().filter(|_| counted).map(|(inbox, _)| inbox.as_str());
        let (subject, size) = (&self.subjects[session as usize], self.payloads.size());
        if counted && self.traced > 0 && self.all.is_multiple_of(self.traced) {
            // A trace of its own: nobody else publishes in this run.
            let context = format!("00-{:016x}{:016x}-{:016x}-01", self.clock.now() | 1, self.all, self.all | 1);
            nats::publish_head_with(&mut self.out, subject, reply, ("traceparent", &context), size);
        } else {
            nats::publish_head(&mut self.out, subject, reply, size);
        }
        self.payloads.append(&mut self.out, session, n, self.clock.now());
        self.out.extend_from_slice(nats::END);
        if self.out.len() >= WRITE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.line.ping.swap(false, Relaxed) {
            self.out.extend_from_slice(nats::PONG);
        }
        if !self.out.is_empty() {
            self.stream.write_all(&self.out)?;
            self.out.clear();
            self.published.store(self.all, Relaxed);
        }
        Ok(())
    }

    /// Waits until at most so many are unacknowledged.
    fn acknowledged(&mut self, most: u64) -> io::Result<()> {
        if self.acks.is_none() {
            return Ok(());
        }
        let (mut seen, mut since) = (0, self.clock.now());
        loop {
            let acknowledged = self.line.acknowledged.load(Relaxed);
            if self.all - acknowledged <= most {
                return Ok(());
            }
            if acknowledged > seen {
                (seen, since) = (acknowledged, self.clock.now());
            } else if self.clock.now() - since > ACKS_END_NS {
                return Err(io::Error::other(format!("{} events were not acknowledged", self.all - acknowledged)));
            }
            self.flush()?;
            self.check()?;
            thread::park_timeout(LOOK);
        }
    }

    fn check(&self) -> io::Result<()> {
        match &*self.line.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            None => Ok(()),
            Some(why) => Err(io::Error::other(format!("the connection to NATS: {why}"))),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Ends the thread that listens.
        let _closed = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Hears what the server says until it ends.
fn listen(mut stream: TcpStream, line: &Line, board: &Board) -> io::Result<()> {
    let mut buffer = vec![0; WRITE];
    let mut have = 0;
    loop {
        let read = stream.read(&mut buffer[have..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        have += read;
        let mut at = 0;
        let mut acknowledged = 0;
        while let Some((said, taken)) = nats::next(&buffer[at..have]).map_err(io::Error::other)? {
            at += taken;
            match said {
                Said::Message { payload, .. } => {
                    acknowledged += 1;
                    if payload.windows(7).any(|window| window == b"\"error\"") {
                        line.refused.fetch_add(1, Relaxed);
                    }
                }
                Said::Ping => {
                    line.ping.store(true, Relaxed);
                    board.wake();
                }
                Said::Error(text) => return Err(io::Error::other(String::from_utf8_lossy(text).into_owned())),
                Said::Pong | Said::Other => {}
            }
        }
        buffer.copy_within(at..have, 0);
        have -= at;
        if acknowledged > 0 {
            line.acknowledged.fetch_add(acknowledged, Relaxed);
            board.wake();
        }
    }
}
