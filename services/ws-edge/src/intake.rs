//! NATS in: the one consumer of a process and stream, from which every ring is fed.
//!
//! The intake stands at a position, the last message it has seen, and goes on from there whatever happens to connection,
//! server or consumer:
//!
//! 1. It waits for the connection, and lets the watcher of the stream's life look, position in hand: is this still the
//!    stream we know? A doubt suspends the rings, another life resets them and moves the position to its head.
//! 2. It creates a consumer that begins *at* the position. The first delivery is known already and is discarded, but the
//!    time it was stored proves that the log is still the same. Too much behind it: it begins at the head, and the rings
//!    learn that history has what they missed. Once the consumer is there, the watcher looks once more: from a stream that
//!    still lives the life we know now, this consumer delivers nothing else.
//! 3. It takes deliveries as long as nothing is missing. A hole, silence, a new connection or a doubt about the stream's
//!    life ends the consumer, and it begins again at 1.
//!
//! So a ring can't miss an event without being told: what is not above the position was seen, what is above it comes from
//! a consumer without a hole. Where the stream itself has one, because something was trimmed or deleted before it was
//! delivered, the rings learn that, too.

mod actor;
mod consumer;
mod pace;
mod position;

use std::sync::Arc;

use herald_protocol::{Epoch, record::Purged};
use herald_runtime::{Context, jetstream::epoch::EpochWatcher, nats::Nats};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{config::IntakeConfig, event::Event};
use actor::Actor;
use position::Delivery;

/// A life of a stream, as the intake takes it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its name.
    pub epoch: Epoch,
    /// The last sequence at that moment: what comes later is appended, what is there already is history.
    pub head: u64,
}

/// The sequence of a delivered message and when it was stored (ns since 1970), as its reply subject says. `None`: it is no
/// delivery's. Public to be measured.
#[must_use]
pub fn sequence_and_time(reply: &str) -> Option<(u64, u64)> {
    Delivery::parse(reply).map(|delivery| (delivery.seq, delivery.time_ns))
}

/// What the intake feeds: the rings of the watched sessions. Called from one task, in stream order, never blocking.
pub trait Rings: Send + Sync + 'static {
    /// The next event. All between the last one and this are no events of any session.
    fn append(&self, event: &Event);
    /// Nothing more has arrived for now: what was appended is to be delivered.
    fn flush(&self);
    /// The stream has moved on to `seq` with something that is no event.
    fn advance(&self, seq: u64);
    /// What was stored of a session up to a place before `seq` is no more. [`Rings::advance`] to `seq` follows.
    fn purged(&self, seq: u64, purged: &Purged);
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

/// Takes in one stream until it is dropped.
#[derive(Debug)]
pub struct Intake {
    _stop: DropGuard,
}

impl Intake {
    /// Begins to feed `rings` with `stream`, whose life `watcher` follows, in a task of its own. The condition
    /// `stream <name>` in `/readyz` holds while the stream is there and being taken in.
    #[must_use]
    pub fn spawn<R: Rings>(
        nats: &Nats,
        stream: &str,
        watcher: &Arc<EpochWatcher>,
        config: &IntakeConfig,
        rings: Arc<R>,
        context: &Context,
    ) -> Self {
        let stop = CancellationToken::new();
        let actor = Actor::new(nats, stream, watcher.clone(), config, rings, context);
        let stopped = stop.clone();
        context.supervise("intake", async move {
            stopped.run_until_cancelled_owned(actor.run()).await;
        });
        Self { _stop: stop.drop_guard() }
    }
}
