//! A thread that reads for many clients.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use mio::{Events, Poll, Token};

use super::{
    gauges::{Board, Gauges},
    hearing::Findings,
    link::{Ground, Link, Stage, Turn},
    options::Protocol,
    progress::Progress,
};

/// What all connections of a thread read into: it stays in the processor's caches.
const BUFFER: usize = 256 << 10;
/// Events of one wake-up.
const EVENTS: usize = 1024;
/// What wakes a thread up to look at its orders.
pub(super) const ORDERS: Token = Token(usize::MAX);
/// How long a connection that could not be made again waits for its next try, ns.
const RETRY_NS: u64 = 100_000_000;

/// What a thread is told.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// Open all connections, evenly in that time.
    Open(Duration),
    /// Close all.
    Close,
    /// The clients that are to stall stop reading, or read again.
    Stall(bool),
    /// So many events of each session were published, and no more come.
    Finish(Arc<Vec<u64>>),
}

pub(super) struct Reader {
    pub(super) poll: Poll,
    pub(super) number: usize,
    pub(super) ground: Arc<Ground>,
    pub(super) board: Arc<Board>,
    pub(super) orders: Receiver<Order>,
    pub(super) links: Vec<Link>,
    /// With a window.
    pub(super) progress: Option<Progress>,
    pub(super) findings: Findings,
    pub(super) opening: Opening,
    pub(super) buffer: Vec<u8>,
}

/// The connections that are still to be made.
pub(super) struct Opening {
    /// When, and which; in order.
    queue: VecDeque<(u64, usize)>,
    pub(super) under_way: usize,
    /// At most so many.
    most: usize,
}

impl Opening {
    pub(super) fn new(most: usize) -> Self {
        Self { queue: VecDeque::new(), under_way: 0, most }
    }
}

impl Reader {
    pub(super) fn buffer() -> Vec<u8> {
        vec![0; BUFFER]
    }

    fn gauges(&self) -> &Gauges {
        &self.board.readers[self.number]
    }

    /// Reads until told to finish; what was found.
    pub(super) fn run(mut self) -> io::Result<Findings> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.opening_wait()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    ORDERS => {}
                    Token(id) => self.ready(id, event.is_writable(), event.is_read_closed() || event.is_error()),
                }
            }
            self.tell();
            loop {
                match self.orders.try_recv() {
                    Ok(Order::Finish(published)) => return Ok(self.finish(&published)),
                    Ok(order) => self.obey(order),
                    Err(TryRecvError::Empty) => break,
                    // Whoever gives the orders failed.
                    Err(TryRecvError::Disconnected) => return Ok(self.findings),
                }
            }
            self.open_due();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(within) => {
                let (now, all) = (self.ground.clock.now(), self.links.len() as u64);
                let step = within.as_nanos() as u64 / all.max(1);
                let due = |id| (now + id as u64 * step, id);
                self.opening.queue.extend((0..self.links.len()).map(due));
            }
            Order::Close => {
                self.links.iter_mut().for_each(Link::close);
                self.gauges().open.store(0, Relaxed);
            }
            Order::Stall(stall) => {
                for id in 0..self.links.len() {
                    if !self.links[id].hearing.slow {
                        continue;
                    }
                    self.links[id].stalled = stall;
                    if !stall {
                        // What came meanwhile was not asked for, and no wake-up tells of it again.
                        self.ready(id, false, true);
                    }
                }
                self.tell();
            }
            Order::Finish(_) => {}
        }
    }

    fn finish(mut self, published: &[u64]) -> Findings {
        for link in &self.links {
            link.hearing.judge.finish(published[link.hearing.session as usize], &mut self.findings.tally);
        }
        self.findings
    }

    /// Lets the others know.
    fn tell(&mut self) {
        let gauges = &self.board.readers[self.number];
        let delivered = self.findings.tally.delivered;
        if delivered != gauges.delivered.load(Relaxed) {
            gauges.last.store(self.ground.clock.now(), Relaxed);
            gauges.delivered.store(delivered, Relaxed);
        }
        if let Some(freed) = self.progress.as_mut().map(Progress::freed).filter(|freed| *freed > 0) {
            self.board.free(freed);
        }
    }

    fn ready(&mut self, id: usize, writable: bool, ended: bool) {
        let Some(link) = self.links.get_mut(id).filter(|link| !link.stalled) else { return };
        match link.stage {
            Stage::Closed => return,
            Stage::Connecting if !writable && !ended => return,
            Stage::Connecting => {
                if let Err(error) = link.ask(&self.ground) {
                    self.ended(id, error.to_string());
                    return;
                }
            }
            Stage::Asking | Stage::Open => {}
        }
        let gauges = &self.board.readers[self.number];
        let (was, attached) = (link.hearing.judge.next(), link.hearing.attached);
        let turn = link.read(&self.ground, &mut self.buffer, ended, &mut self.findings);
        if link.hearing.attached && !attached {
            gauges.attached.fetch_add(1, Relaxed);
        }
        let is = link.hearing.judge.next();
        if let (Some(progress), true) = (&mut self.progress, is != was) {
            progress.moved(link.hearing.session, was, is, gauges);
        }
        match turn {
            Turn::On => {}
            Turn::Opened => self.opened(),
            Turn::Ended(why) => self.ended(id, why),
        }
    }

    fn opened(&mut self) {
        self.opening.under_way -= 1;
        self.gauges().open.fetch_add(1, Relaxed);
        self.open_due();
    }

    /// A connection is gone; where the door keeps a log, it comes back by its cursor.
    fn ended(&mut self, id: usize, why: String) {
        let opened = self.links[id].stage == Stage::Open;
        self.links[id].close();
        if opened {
            self.gauges().open.fetch_sub(1, Relaxed);
        } else {
            self.opening.under_way -= 1;
        }
        let comes_back = self.ground.door.protocol == Protocol::Herald && self.links[id].hearing.seq > 0;
        if comes_back {
            self.gauges().reopened.fetch_add(1, Relaxed);
            let again = self.ground.clock.now() + if opened { 0 } else { RETRY_NS };
            self.opening.queue.push_back((again, id));
        } else if !opened || !self.links[id].hearing.attached {
            self.board.fail(format!("a client could not connect: {why}"));
        }
        self.findings.end(why, 1);
    }

    /// How long nothing has to be opened.
    fn opening_wait(&self) -> Option<Duration> {
        let (due, _) = self.opening.queue.front().filter(|_| self.opening.under_way < self.opening.most)?;
        Some(Duration::from_nanos(due.saturating_sub(self.ground.clock.now())))
    }

    fn open_due(&mut self) {
        while self.opening.under_way < self.opening.most
            && let Some((due, id)) = self.opening.queue.front().copied()
            && due <= self.ground.clock.now()
        {
            self.opening.queue.pop_front();
            match self.links[id].connect(&self.ground.door, id, self.poll.registry()) {
                Ok(()) => self.opening.under_way += 1,
                Err(error) => self.board.fail(format!("a client could not connect: {error}")),
            }
        }
    }
}
