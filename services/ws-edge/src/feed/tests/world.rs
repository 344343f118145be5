//! What may happen to a stream, to the rings of an edge, and to a client.

use super::*;

/// What may happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Deed {
    /// An engine publishes.
    Publish(usize),
    /// The intake hears so many of what was published, and has them delivered, or more has arrived and will be.
    Hear(usize, bool),
    /// The intake leaves out what it has not heard yet.
    Skip,
    /// The stream drops its oldest.
    Trim(u64),
    /// The life of the stream is in doubt, or no longer.
    Suspend,
    Resume,
    /// An operator deletes one event.
    Delete(usize),
    /// The stream begins anew, keeping so many of its events; nobody notices until later.
    Anew(usize),
    Notice,
    /// The client does so many steps.
    Steps(usize, bool),
    Block,
    LetGo(bool),
    Unblock,
    Reconnect,
    /// The edge shuts down.
    Drain,
}

pub(super) fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        8 => (0..SUBJECTS.len()).prop_map(Deed::Publish),
        6 => (1_usize..6, any::<bool>()).prop_map(|(count, flush)| Deed::Hear(count, flush)),
        8 => (1_usize..6, any::<bool>()).prop_map(|(steps, early)| Deed::Steps(steps, early)),
        1 => Just(Deed::Skip),
        1 => (1_u64..6).prop_map(Deed::Trim),
        1 => Just(Deed::Suspend),
        1 => Just(Deed::Resume),
        1 => (0_usize..40).prop_map(Deed::Delete),
        1 => (0_usize..4).prop_map(Deed::Anew),
        2 => Just(Deed::Notice),
        1 => Just(Deed::Block),
        1 => any::<bool>().prop_map(Deed::LetGo),
        2 => Just(Deed::Unblock),
        1 => Just(Deed::Reconnect),
        2 => Just(Deed::Drain),
    ];
    prop::collection::vec(deed, 0..120)
}

/// The stream, the edge's rings, and how far the intake has come.
pub(super) struct World {
    pub(super) stream: Stream,
    pub(super) sessions: Arc<Sessions>,
    pub(super) heard: u64,
    pub(super) serving: bool,
}

impl World {
    pub(super) fn new(ring: RingLimits) -> Self {
        let limits = SessionLimits { ring, budget: Budget::new(1 << 20), linger: Duration::from_secs(60) };
        let sessions = Sessions::new("EVENTS", limits);
        sessions.reset(StreamLife { epoch: Epoch::new(1), head: 0 });
        let stream = Stream { epoch: 1, first: 1, ..Stream::default() };
        Self { stream, sessions, heard: 0, serving: true }
    }

    pub(super) fn hear(&mut self, count: usize) {
        self.take_in(count);
        self.sessions.flush();
    }

    pub(super) fn take_in(&mut self, count: usize) {
        // A consumer dies with its stream: what comes of the next one nobody hears before it is noticed.
        for _ in 0..if self.serving && self.stream.former.is_none() { count } else { 0 } {
            let next = |event: &&Event| event.seq > self.heard && self.stream.is_kept(event.seq);
            let Some(event) = self.stream.events.iter().find(next) else { return };
            if event.seq > self.heard + 1 {
                self.sessions.mark_broken(event.seq - 1);
            }
            self.sessions.append(event);
            self.heard = event.seq;
        }
    }

    pub(super) fn happens(&mut self, deed: Deed, client: &mut Client, page: usize) {
        match deed {
            Deed::Publish(subject) => drop(self.stream.publish(SUBJECTS[subject])),
            Deed::Hear(count, true) => self.hear(count),
            Deed::Hear(count, false) => self.take_in(count),
            Deed::Skip if self.serving && self.stream.former.is_none() => {
                self.heard = self.stream.last;
                self.sessions.mark_broken(self.heard);
            }
            Deed::Skip => {}
            Deed::Trim(count) => self.stream.first = (self.stream.first + count).min(self.stream.last + 1),
            Deed::Suspend => {
                self.serving = false;
                self.sessions.suspend();
            }
            Deed::Resume => {
                self.serving = true;
                self.sessions.resume();
            }
            Deed::Delete(at) if self.stream.former.is_none() => {
                // The latest is never among them: it is what the leader names as the last.
                let seqs: Vec<_> = self.stream.events.iter().rev().skip(1).map(|event| event.seq).collect();
                self.stream.holes.extend(seqs.get(at));
            }
            Deed::Delete(_) => {}
            Deed::Anew(keep) => {
                self.happens(Deed::Notice, client, page);
                let old = std::mem::take(&mut self.stream);
                let events: Vec<_> = old.events.iter().take(keep).cloned().collect();
                let last = events.last().map_or(0, |event| event.seq);
                let (first, holes) = (old.first.min(last + 1), old.holes.range(..=last).copied().collect());
                self.stream = Stream { epoch: old.epoch + 1, events, first, last, holes, former: Some(Box::new(old)) };
            }
            Deed::Notice => {
                if self.stream.former.is_none() {
                    return;
                }
                // What was read of the old life is on its way already, and is to be held against that.
                client.flush(&self.stream);
                self.stream.former = None;
                self.sessions.suspend();
                (self.heard, self.serving) = (self.stream.last, true);
                self.sessions.reset(StreamLife { epoch: Epoch::new(self.stream.epoch), head: self.heard });
            }
            Deed::Steps(steps, early) => {
                for _ in 0..steps {
                    if !client.step(&self.stream, page, early) {
                        break;
                    }
                }
            }
            Deed::Block => client.socket.state().blocked = true,
            Deed::LetGo(begun) => client.let_go(begun),
            Deed::Unblock => client.socket.state().blocked = false,
            Deed::Reconnect => client.reconnect(&self.stream),
            Deed::Drain => client.sent_away(&self.stream),
        }
    }

    /// Everything calms down, and the client comes to rest.
    pub(super) fn settle(&mut self, client: &mut Client, page: usize) {
        for deed in [Deed::Notice, Deed::Resume, Deed::Unblock, Deed::Hear(usize::MAX >> 1, true)] {
            self.happens(deed, client, page);
        }
        for _ in 0..1_000_000 {
            if !client.step(&self.stream, page, false) {
                client.read(&self.stream);
                return;
            }
        }
        panic!("the client never comes to rest");
    }
}

pub(super) fn limits(lag: u64) -> FeedLimits {
    let lag = Mark { frames: lag, bytes: u64::MAX };
    FeedLimits { lag, patience: Duration::from_secs(60), heartbeat: Duration::from_secs(25), held: 0 }
}
