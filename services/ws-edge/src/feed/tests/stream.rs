//! A stream, as history and clients are to see it.

use super::*;

/// A stream: all it ever held in this life, and what of it is kept.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) epoch: u32,
    pub(super) events: Vec<Event>,
    pub(super) first: u64,
    pub(super) last: u64,
    /// Deleted one by one.
    pub(super) holes: BTreeSet<u64>,
    /// The life before this one, as long as nobody has noticed that it is over.
    pub(super) former: Option<Box<Stream>>,
}

impl Stream {
    /// The life that clients are told of.
    pub(super) fn told(&self) -> &Self {
        self.former.as_deref().unwrap_or(self)
    }

    pub(super) fn is_kept(&self, seq: u64) -> bool {
        seq >= self.first && !self.holes.contains(&seq)
    }

    pub(super) fn publish(&mut self, subject: &str) -> Event {
        self.last += 1;
        let event = event(subject, self.last);
        self.events.push(event.clone());
        event
    }

    pub(super) fn kept(&self, session: &str) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter().filter(move |event| self.is_kept(event.seq) && event.session() == session)
    }

    pub(super) fn answer(&self, question: &Question, page: usize) -> Answer {
        let holes = Holes::At(self.holes.range(self.first..).copied().collect());
        let extent = Extent { first: self.first, last: self.last, holes };
        let session = question.session.as_str();
        let shown = |event: &&Event| is_shown(&question.view, event);
        let before = |seq| self.kept(session).filter(shown).rfind(|event| event.seq < seq).map_or(0, |event| event.seq);
        let found = match question.ask {
            Ask::Extent => Found::Extent,
            Ask::Before { seq } => Found::Before { seq, prev: before(seq) },
            Ask::Page { after, upto, prev, .. } => {
                let begin = begin(after, prev);
                let asked = |event: &&Event| event.seq > begin && event.seq <= upto;
                let all: Vec<_> = self.kept(session).filter(asked).cloned().collect();
                let events: Vec<_> = all.iter().take(page).cloned().collect();
                let through = if events.len() < all.len() { events[events.len() - 1].seq } else { upto };
                let page = Arc::new(Page { events, through });
                Found::Page { page, prev: prev.unwrap_or_else(|| before(after + 1)) }
            }
            Ask::Snapshot => {
                let last = self.kept(session).rfind(|event| event.topic() == "state");
                Found::Snapshot(Arc::new(Snapshot { events: last.into_iter().cloned().collect(), cut: self.last }))
            }
            Ask::Latest => {
                let last: std::collections::BTreeMap<_, _> =
                    self.kept(session).map(|event| (event.subject(), event)).collect();
                let mut events: Vec<_> = last.into_values().cloned().collect();
                events.sort_unstable_by_key(|event| event.seq);
                Found::Snapshot(Arc::new(Snapshot { events, cut: self.last }))
            }
        };
        Answer { found, proof: Arc::new(Proof { extent, epoch: Some(Epoch::new(self.epoch)) }) }
    }
}
