//! NATS in: the one consumer of a process and stream, from which every ring is fed.

use herald_protocol::Epoch;

use crate::event::Event;

/// A life of a stream, as the intake takes it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its name.
    pub epoch: Epoch,
    /// The last sequence at that moment: what comes later is appended, what is there already is history.
    pub head: u64,
}

/// What the intake feeds: the rings of the watched sessions. Called from one task, in stream order, never blocking.
pub trait Rings: Send + Sync + 'static {
    /// The next event. All between the last one and this are no events of any session.
    fn append(&self, event: &Event);
    /// The stream has moved on to `seq` with something that is no event.
    fn advance(&self, seq: u64);
    /// The stream begins (or begins anew): forget everything, serve from `life` on, announce gaps.
    fn reset(&self, life: Life);
    /// Events were left out: rings know nothing up to and including `head`; what is missing is read from history.
    fn mark_broken(&self, head: u64);
    /// It is in doubt whether the stream is still the same one: serve nothing of it until [`Rings::reset`] or
    /// [`Rings::resume`].
    fn suspend(&self);
    /// The doubt is settled: it is the same stream, at the same place.
    fn resume(&self);
}
