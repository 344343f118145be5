//! One step on the way of a request or an event.

use std::{
    borrow::Cow,
    fmt::{self, Display},
    num::NonZeroU64,
    time::SystemTime,
};

use herald_protocol::TraceContext;

use super::Tracer;

/// What a step is to the ones around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work of its own.
    Internal = 1,
    /// The answering of a request.
    Server = 2,
    /// A request to somebody else.
    Client = 3,
    /// The sending of an event.
    Producer = 4,
    /// The taking in of an event.
    Consumer = 5,
}

/// A step that goes on until this is dropped. One that is not traced costs nothing, and does nothing but to pass on the trace
/// that it belongs to.
#[must_use]
pub struct Span {
    context: Option<TraceContext>,
    open: Option<Box<(Tracer, Finished)>>,
}

/// A span as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finished {
    pub(super) context: TraceContext,
    pub(super) parent: Option<NonZeroU64>,
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) begun: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) failure: Option<String>,
}

/// What is known of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
}

impl Span {
    /// None at all.
    pub const fn none() -> Self {
        Self { context: None, open: None }
    }

    pub(super) fn of(context: TraceContext, open: Option<(Tracer, Finished)>) -> Self {
        Self { context: Some(context), open: open.map(Box::new) }
    }

    /// What is sent along with a request that is a part of this step.
    #[must_use]
    pub const fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// The same for an event, which is kept: only where it is traced.
    #[must_use]
    pub fn sampled(&self) -> Option<TraceContext> {
        self.context.filter(|context| context.sampled)
    }

    /// Whether anybody will see it.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        self.open.is_some()
    }

    /// A step within this one, if this one is traced.
    pub fn child(&self, name: &'static str, kind: Kind) -> Self {
        match (&self.open, self.context) {
            (Some(open), Some(context)) => open.0.join(context, name.into(), kind),
            _ => Self { context: self.context, open: None },
        }
    }

    /// Says a text of it. Session ids are fine, secrets and what people said are not.
    pub fn text(&mut self, key: &'static str, value: impl Display) {
        if let Some(open) = &mut self.open {
            open.1.attributes.push((key, Value::Text(value.to_string())));
        }
    }

    /// Says a number of it.
    pub fn number(&mut self, key: &'static str, value: u64) {
        if let Some(open) = &mut self.open {
            open.1.attributes.push((key, Value::Number(value)));
        }
    }

    /// Says that it failed, and why.
    pub fn fail(&mut self, why: impl Display) {
        if let Some(open) = &mut self.open {
            open.1.failure = Some(why.to_string());
        }
    }

    /// It began at another moment than now.
    pub fn begun_at(mut self, moment: SystemTime) -> Self {
        if let Some(open) = &mut self.open {
            open.1.begun = moment;
        }
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let (tracer, span) = *open;
            tracer.hand_on(Finished { ended: SystemTime::now().max(span.begun), ..span });
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("context", &self.context).field("recorded", &self.is_recorded()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::TracesConfig;

    #[test]
    fn a_span_says_what_was_said_of_it_once_it_has_ended() {
        let (tracer, mut spans) = Tracer::new(&TracesConfig { ratio: 1.0, ..TracesConfig::default() });
        let before = SystemTime::now() - Duration::from_secs(1);
        let mut span = tracer.follow(None, "action".into(), Kind::Internal).begun_at(before);
        span.text("herald.session", "s1");
        span.number("herald.events", 3);
        let child = span.child("publish", Kind::Producer);
        assert_eq!(child.sampled().map(|it| it.trace), span.sampled().map(|it| it.trace));
        drop(child);
        span.fail("superseded");
        assert_eq!(spans.try_recv().expect("the child").parent, span.context().map(|it| it.span));
        drop(span);
        let ended = spans.try_recv().expect("the span");
        assert_eq!((ended.begun, ended.failure.as_deref()), (before, Some("superseded")));
        assert!(ended.ended >= before + Duration::from_secs(1));
        let said = [("herald.session", Value::Text("s1".to_owned())), ("herald.events", Value::Number(3))];
        assert_eq!(ended.attributes, said);
    }

    #[test]
    fn what_is_not_traced_passes_the_decision_on_but_not_with_events() {
        let (tracer, mut spans) = Tracer::new(&TracesConfig { ratio: 0.0, ..TracesConfig::default() });
        let span = tracer.follow(None, "x".into(), Kind::Server);
        assert!(span.context().is_some() && span.sampled().is_none());
        assert_eq!(span.child("y", Kind::Internal).context(), span.context());
        drop(span);
        drop(Span::none());
        assert!(spans.try_recv().is_err());
    }
}
