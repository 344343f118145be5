//! What a Game Master says while an earlier event is being stored.
//!
//! An event that finds nothing under way is published alone and at once. What arrives until that is stored is gathered, and
//! published as soon as it is: nobody waits for company, and the slower the store, the more goes at a time. So a burst costs
//! few acknowledgements instead of one for each event, and a single event takes no longer than it did. Where no batches are
//! made nothing is gathered.

use std::{pin::pin, sync::Arc};

use herald_runtime::traces::{Kind, Span};
use tokio::time::{Instant, sleep_until};

use super::Failure;
use crate::{
    action::{Shared, claim::Claim},
    config::ActionConfig,
    game_master::{GmEvent, GmStream},
    metrics,
    publisher::PublishFailure,
};

/// Events that came and are not published yet, and how the stream ended if it did.
#[derive(Debug)]
pub(super) struct Burst<'a> {
    action: &'a Span,
    events: Vec<GmEvent>,
    /// Of each event, where the action is traced.
    spans: Vec<Span>,
    bytes: u64,
    end: Option<Result<(), Failure>>,
}

impl<'a> Burst<'a> {
    /// Nothing yet, of that action.
    pub(super) const fn of(action: &'a Span) -> Self {
        Self { action, events: Vec::new(), spans: Vec::new(), bytes: 0, end: None }
    }

    /// Takes what the stream brought. Nothing more comes behind an end.
    pub(super) fn take(&mut self, shared: &Shared, next: Result<GmEvent, Failure>) {
        let event = match next {
            Ok(event) => event,
            Err(failure) => return self.end = Some(Err(failure)),
        };
        if event.is_last() {
            self.end = Some(Ok(()));
        }
        let mut span = self.action.child("gm.event", Kind::Consumer);
        span.text("herald.event_type", &event.event_type);
        span.number("herald.bytes", event.json.len() as u64);
        let Ok(json) = shared.redactor.apply(&event.event_type, event.json) else {
            tracing::error!("event that can't be redacted skipped");
            span.fail("not_redactable");
            return metrics::skipped("not_redactable");
        };
        self.bytes += json.len() as u64;
        self.events.push(GmEvent { json, ..event });
        if span.is_recorded() {
            self.spans.push(span);
        }
    }

    /// Whether there is nothing to publish.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How the stream ended, once nothing is left to publish.
    pub(super) fn end(&mut self) -> Option<Result<(), Failure>> {
        self.end.take_if(|_| self.events.is_empty())
    }

    /// Publishes what there is, and gathers what comes meanwhile.
    pub(super) async fn publish(&mut self, claim: &mut Claim, stream: &mut GmStream) -> Result<(), PublishFailure> {
        let shared = Arc::clone(claim.shared());
        let (mut events, mut spans) = (std::mem::take(&mut self.events), std::mem::take(&mut self.spans));
        let mut publishing: Vec<_> = spans.iter().map(|span| span.child("publish", Kind::Producer)).collect();
        for (event, span) in events.iter_mut().zip(&publishing) {
            event.trace = span.sampled();
        }
        self.bytes = 0;
        let batches = shared.publisher.batch_from().is_some();
        let until = Instant::now() + shared.config.batch_window.get();
        let mut published = pin!(claim.publish(&events));
        let published = loop {
            let open = batches && self.is_open(&shared.config);
            tokio::select! {
                biased;
                published = &mut published => break published,
                () = shared.cut.cancelled(), if open => self.take(&shared, Err(Failure::Stopped)),
                next = stream.next(), if open => self.take(&shared, next.map_err(Failure::Stream)),
                // Whoever waits for NATS stops listening: what a Game Master has to say waits in its connection then, and
                // its silence is not held against it.
                () = sleep_until(until), if open => break published.await,
            }
        };
        if let Err(failure) = &published {
            publishing.iter_mut().chain(&mut spans).for_each(|span| span.fail(failure));
        }
        published
    }

    /// Whether more may be gathered.
    fn is_open(&self, config: &ActionConfig) -> bool {
        self.end.is_none() && self.events.len() < config.batch_events && self.bytes < config.batch_bytes.as_u64()
    }
}
