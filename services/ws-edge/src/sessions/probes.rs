//! A few events, followed from the stream to the first sockets that they are written to: how long that takes, and the spans of
//! those that are traced.
//!
//! An event that is not followed costs a counter, and whoever writes frames a look at whether any is.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use herald_runtime::traces::{self, Kind, Span};
use metrics::{Histogram, histogram};

use super::lock;
use crate::{event::Event, log::Frame};

/// Every so manieth event that somebody waits for is followed, beside those that are traced.
const EVERY: usize = 16;
/// So many are followed at a time; beyond that, the oldest is left alone: those who wait for it take nothing.
const MOST: usize = 64;
/// An event that was stored so much earlier than another one is followed no longer, in ns.
const LONGEST: u64 = 10_000_000_000;

/// How a frame left this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a write to a WebSocket.
    Socket,
    /// By a hand over to an event stream's connection.
    Sse,
}

/// An event that is followed.
#[derive(Debug)]
struct Probe {
    seq: u64,
    /// When the stream stored it.
    time_ns: u64,
    /// Its way from here to the first sockets.
    deliver: Span,
}

/// Those that are on their way.
pub(super) struct Probes {
    /// Counts the events; by one thread.
    turn: AtomicUsize,
    /// How many of `list` there are.
    count: AtomicUsize,
    list: Mutex<Vec<Probe>>,
    socket: Histogram,
    sse: Histogram,
}

impl Probes {
    pub(super) fn new() -> Self {
        let seconds = |transport: &'static str| histogram!("herald_delivery_seconds", "transport" => transport);
        Self {
            turn: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            list: Mutex::default(),
            socket: seconds("socket"),
            sse: seconds("sse"),
        }
    }

    /// Follows an event that is about to be encoded, if it is its turn and anybody awaits it. The step until it is encoded.
    pub(super) fn follow(&self, event: &Event, awaited: impl FnOnce() -> bool) -> Span {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        if event.trace.is_none() && !turn.is_multiple_of(EVERY) {
            return Span::none();
        }
        let mut intake = traces::join(event.trace.as_deref().copied(), "intake", Kind::Consumer);
        intake.text("herald.session", event.session());
        intake.text("messaging.destination.name", event.subject());
        intake.number("herald.seq", event.seq);
        if awaited() {
            let deliver = intake.child("deliver", Kind::Producer);
            self.add(Probe { seq: event.seq, time_ns: event.time_ns, deliver });
        }
        intake
    }

    fn add(&self, probe: Probe) {
        let mut list = lock(&self.list);
        let late = list.iter().take_while(|other| other.time_ns.saturating_add(LONGEST) < probe.time_ns).count();
        let given_up = late.max(usize::from(list.len() >= MOST));
        for mut never in list.drain(..given_up) {
            never.deliver.fail("nobody took it");
        }
        list.push(probe);
        self.count.store(list.len(), Ordering::Relaxed);
    }

    /// Frames were offered to those who listen, who took `deliveries` of them.
    pub(super) fn fanned_out(&self, frames: &[Frame], deliveries: usize) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let among = |probe: &Probe| frames.binary_search_by_key(&probe.seq, |frame| frame.seq).is_ok();
            // About as many each of them.
            self.arrived(among, Way::Socket, deliveries.div_ceil(frames.len().max(1)));
        }
    }

    /// A connection's own task has written, or handed over, the event of that sequence.
    pub(super) fn wrote(&self, seq: u64, way: Way) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.arrived(|probe| probe.seq == seq, way, 1);
        }
    }

    fn arrived(&self, which: impl Fn(&Probe) -> bool, way: Way, deliveries: usize) {
        let mut list = lock(&self.list);
        let arrived: Vec<_> = list.extract_if(.., |probe| which(probe)).collect();
        self.count.store(list.len(), Ordering::Relaxed);
        drop(list);
        if arrived.is_empty() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, transport) = match way {
            Way::Socket => (&self.socket, "socket"),
            Way::Sse => (&self.sse, "sse"),
        };
        for Probe { time_ns, mut deliver, .. } in arrived {
            // The server's clock may be ahead of ours.
            seconds.record(now.saturating_sub(std::time::Duration::from_nanos(time_ns)));
            deliver.text("herald.transport", transport);
            deliver.number("herald.deliveries", deliveries as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;
    use bytes::Bytes;

    use super::*;
    use crate::log::Mark;

    fn event(seq: u64) -> Event {
        Event::parse(Subject::from_static("gm.s.phase"), seq, 1, Bytes::new()).unwrap()
    }

    fn traced(seq: u64) -> Event {
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let mut event = event(seq);
        event.trace = Some(Box::new(context));
        event
    }

    fn followed(probes: &Probes) -> Vec<u64> {
        let list = lock(&probes.list);
        assert_eq!(probes.count.load(Ordering::Relaxed), list.len());
        list.iter().map(|probe| probe.seq).collect()
    }

    /// Follows what is awaited.
    fn follow(probes: &Probes, event: &Event) {
        drop(probes.follow(event, || true));
    }

    #[test]
    fn some_events_are_followed_and_all_that_are_traced() {
        let probes = Probes::new();
        (1..=40).for_each(|seq| follow(&probes, &event(seq)));
        follow(&probes, &traced(41));
        follow(&probes, &event(42));
        assert_eq!(followed(&probes), [1, 17, 33, 41]);
    }

    #[test]
    fn an_event_is_followed_to_the_first_write_and_no_further() {
        let probes = Probes::new();
        [3, 5, 9].into_iter().for_each(|seq| follow(&probes, &traced(seq)));
        drop(probes.follow(&traced(4), || false));
        let frame = |seq| Frame { seq, prev: 0, mark: Mark::default(), bytes: Bytes::new() };
        probes.fanned_out(&[frame(4), frame(5), frame(6)], 2);
        assert_eq!(followed(&probes), [3, 9]);
        probes.wrote(4, Way::Socket);
        probes.wrote(9, Way::Sse);
        assert_eq!(followed(&probes), [3]);
        probes.wrote(3, Way::Socket);
        probes.wrote(3, Way::Socket);
        assert_eq!(followed(&probes), [0_u64; 0]);
    }

    #[test]
    fn those_that_never_arrive_give_way() {
        let probes = Probes::new();
        (1..=MOST as u64 + 2).for_each(|seq| follow(&probes, &traced(seq)));
        let left = followed(&probes);
        assert_eq!((left.len(), left[0]), (MOST, 3));
        let mut much_later = traced(1000);
        much_later.time_ns = LONGEST * 2;
        follow(&probes, &much_later);
        assert_eq!(followed(&probes), [1000]);
    }
}
