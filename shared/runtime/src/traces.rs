//! Traces: what became of one request, or of one event, in all the processes on its way, in the OpenTelemetry Protocol.
//!
//! Off unless `traces.endpoint` names a collector; then a [`Span`] is nothing, and nothing of a message is read or written.
//! On, whoever begins something decides whether it is traced (`traces.ratio`), and everybody behind goes by that: the decision
//! travels with requests and events as W3C Trace Context, header `traceparent` ([`TraceContext`]). Requests carry it either
//! way, so that nobody decides again; events are kept, and carry it only where they are traced.
//!
//! The way of one event, span by span, all in one trace: `forward` (the door), `http.gm` (the bridge takes the command),
//! `action` (until its last event), in it `gm.request` and, for each event, `gm.event` from its last byte to the stream's
//! acknowledgement with `publish` in it; then, in each edge where somebody watches, `intake` and `deliver`, up to the write to
//! the sockets.
//!
//! A span that has ended waits in a bounded queue for a task that sends many at a time. Nobody ever waits for it: where the
//! queue is full, or the collector away for too long, spans are dropped and counted.
//!
//! Written by ourselves, not taken from the OpenTelemetry crates: those bring a second way of doing most things here (queues,
//! tasks, time limits, an HTTP client's wrapper, protobuf and gRPC types even where neither is spoken), and keep to themselves
//! how many spans they drop. What Herald needs of all that is a few spans with times of their own, and one JSON document.

mod exporter;
mod otlp;
mod span;

use std::{
    borrow::Cow,
    num::{NonZeroU64, NonZeroU128},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use async_nats::{HeaderMap, HeaderName};
use herald_protocol::{TraceContext, headers::TRACEPARENT};
use metrics::{Counter, counter, gauge};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::span::{Kind, Span};
use self::{exporter::Exporter, span::Finished};
use crate::{Context, config::TracesConfig, metrics::at_scrape};

/// How long the last spans may take to leave at the end of a process.
const LAST_WORDS: Duration = Duration::from_secs(2);

static TRACER: OnceLock<Tracer> = OnceLock::new();

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// Whether anything is traced in this process.
#[must_use]
pub fn enabled() -> bool {
    TRACER.get().is_some()
}

/// A span below what came with a request or event. Where nothing came, the first of a trace, if this one is to be traced.
pub fn follow(parent: Option<TraceContext>, name: impl Into<Cow<'static, str>>, kind: Kind) -> Span {
    TRACER.get().map_or_else(Span::none, |tracer| tracer.follow(parent, name.into(), kind))
}

/// A span below what came with an event. Where nothing came, none.
pub fn join(parent: Option<TraceContext>, name: impl Into<Cow<'static, str>>, kind: Kind) -> Span {
    match (parent, TRACER.get()) {
        (Some(parent), Some(tracer)) => tracer.join(parent, name.into(), kind),
        _ => Span::none(),
    }
}

/// The trace that a message belongs to, where it says so and that is of interest here.
#[must_use]
pub fn incoming(headers: Option<&HeaderMap>) -> Option<TraceContext> {
    if !enabled() {
        return None;
    }
    headers?.get(HeaderName::from_static(TRACEPARENT))?.as_str().parse().ok()
}

/// The trace that the request belongs to which is being served, within its handler.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok().flatten()
}

/// The headers of an event that is published as a part of [`current`]: its trace, if it is traced.
#[must_use]
pub fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(context) = current().filter(|context| context.sampled) {
        headers.insert(TRACEPARENT, context.to_string());
    }
    headers
}

/// Does some work as a part of a trace: [`current`] is `context` in it, but not in tasks that it spawns.
pub async fn within<T>(context: Option<TraceContext>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(context, work).await
}

/// Makes spans, and hands on those that have ended.
#[derive(Clone)]
struct Tracer {
    ended: mpsc::Sender<Finished>,
    ratio: f64,
    full: Counter,
}

impl Tracer {
    /// A tracer, and where its spans come out.
    fn new(config: &TracesConfig) -> (Self, mpsc::Receiver<Finished>) {
        let (ended, spans) = mpsc::channel(config.queue);
        let full = counter!("herald_spans_dropped_total", "reason" => "queue_full");
        (Self { ended, ratio: config.ratio, full }, spans)
    }

    fn follow(&self, parent: Option<TraceContext>, name: Cow<'static, str>, kind: Kind) -> Span {
        match parent {
            Some(parent) => self.join(parent, name, kind),
            None => {
                let trace = rand::random();
                self.span(TraceContext { trace, span: rand::random(), sampled: self.takes(trace) }, None, name, kind)
            }
        }
    }

    fn join(&self, parent: TraceContext, name: Cow<'static, str>, kind: Kind) -> Span {
        self.span(TraceContext { span: rand::random(), ..parent }, Some(parent.span), name, kind)
    }

    fn span(&self, context: TraceContext, parent: Option<NonZeroU64>, name: Cow<'static, str>, kind: Kind) -> Span {
        let begun = SystemTime::now();
        let span = Finished { context, parent, name, kind, begun, ended: begun, attributes: Vec::new(), failure: None };
        Span::of(context, context.sampled.then(|| (self.clone(), span)))
    }

    /// Whether a new trace is one of those to be recorded: everybody who is asked says the same of it.
    fn takes(&self, trace: NonZeroU128) -> bool {
        // Its lower half as a part of all that it may be.
        self.ratio >= 1.0 || ((trace.get() as u64) as f64) < self.ratio * 2_f64.powi(64)
    }

    fn hand_on(&self, span: Finished) {
        match self.ended.try_send(span) {
            Ok(()) => {}
            // Nobody takes them any more: the process ends.
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.full.increment(1),
        }
    }
}

/// The task that sends spans away.
#[derive(Debug)]
pub(crate) struct Sending {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Sending {
    /// Sends what is left, for `limit` at most, and ends.
    pub(crate) async fn finish(self, limit: Duration) {
        drop(self.stop);
        // What can't be sent by then is lost with the process.
        let _late = timeout(LAST_WORDS.min(limit), self.task).await;
    }
}

/// Begins to trace, once in a process, if that is wanted.
///
/// # Errors
/// Where the HTTP client can't be made.
pub(crate) fn start(context: &Context) -> Result<Option<Sending>, reqwest::Error> {
    let config = &context.common.traces;
    let Some(url) = config.url() else { return Ok(None) };
    let (tracer, spans) = Tracer::new(config);
    let (ended, waiting) = (tracer.ended.clone(), gauge!("herald_spans_waiting_count"));
    at_scrape(move || {
        waiting.set((ended.max_capacity() - ended.capacity()) as f64);
        true
    });
    let exporter = Exporter::new(spans, config, &url, context.service, context.instance.as_str())?;
    if TRACER.set(tracer).is_err() {
        return Ok(None);
    }
    tracing::info!(ratio = config.ratio, "tracing");
    let stop = CancellationToken::new();
    let task = tokio::spawn(exporter.run(stop.clone()));
    Ok(Some(Sending { stop: stop.drop_guard(), task }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(ratio: f64, queue: usize) -> (Tracer, mpsc::Receiver<Finished>) {
        Tracer::new(&TracesConfig { ratio, queue, ..TracesConfig::default() })
    }

    fn context(text: &str) -> Option<TraceContext> {
        Some(text.parse().expect("a traceparent"))
    }

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[test]
    fn nothing_is_traced_unless_it_was_begun() {
        assert!(!enabled());
        let span = follow(context(SAMPLED), "x", Kind::Server);
        assert!(span.context().is_none() && !span.is_recorded());
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, SAMPLED);
        assert_eq!(incoming(Some(&headers)), None);
    }

    #[test]
    fn who_begins_decides_and_everybody_behind_goes_by_it() {
        let (never, _spans) = tracer(0.0, 8);
        let (always, mut spans) = tracer(1.0, 8);
        let first = always.follow(None, "first".into(), Kind::Server);
        let there = never.follow(first.context(), "there".into(), Kind::Consumer);
        assert!(there.is_recorded());
        assert_eq!(there.context().map(|it| it.trace), first.context().map(|it| it.trace));
        let not = always.follow(context(NOT_SAMPLED), "not".into(), Kind::Server);
        assert!(!not.is_recorded() && not.context().is_some_and(|context| !context.sampled));
        assert!(never.follow(None, "none".into(), Kind::Server).context().is_some_and(|it| !it.sampled));
        let first_span = first.context().map(|it| it.span);
        drop(first);
        assert_eq!(spans.try_recv().expect("ended").parent, None);
        let child = always.join(context(SAMPLED).expect("one"), "child".into(), Kind::Internal);
        assert_ne!(child.context().map(|it| it.span), first_span);
        drop(child);
        assert_eq!(spans.try_recv().expect("ended").parent, context(SAMPLED).map(|it| it.span));
    }

    #[test]
    fn about_the_wanted_part_is_traced() {
        let (tracer, _spans) = tracer(0.25, 1);
        let taken = (0..4000).filter(|_| tracer.takes(rand::random())).count();
        assert!((800..1200).contains(&taken), "{taken}");
        for (ratio, all) in [(0.0, 0), (1.0, 1000)] {
            let (tracer, _spans) = self::tracer(ratio, 1);
            assert_eq!((0..1000).filter(|_| tracer.takes(rand::random())).count(), all);
        }
    }

    #[test]
    fn a_full_queue_drops_and_nobody_waits() {
        let (tracer, mut spans) = tracer(1.0, 2);
        for n in 0..5 {
            drop(tracer.follow(None, format!("{n}").into(), Kind::Internal));
        }
        let kept: Vec<_> = std::iter::from_fn(|| spans.try_recv().ok()).map(|span| span.name).collect();
        assert_eq!(kept, ["0", "1"]);
    }

    #[tokio::test]
    async fn work_knows_the_trace_it_is_a_part_of() {
        assert_eq!(current(), None);
        let seen = within(context(SAMPLED), async { current() }).await;
        assert_eq!(seen, context(SAMPLED));
        assert_eq!(within(None, async { current() }).await, None);
        let written = within(context(SAMPLED), async { headers() }).await;
        assert_eq!(written.get(TRACEPARENT).map(async_nats::HeaderValue::as_str), Some(SAMPLED));
        assert!(within(context(NOT_SAMPLED), async { headers() }).await.is_empty(), "events are kept");
    }
}
