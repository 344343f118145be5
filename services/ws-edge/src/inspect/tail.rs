//! The last events of a session, as clients of one of the routes see them, whether anybody watches it or not.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use herald_protocol::{Name, frame::Tail};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Answered, Asked, Who, bad_request, query, session_id, unavailable};
use crate::{
    config::{ListenerConfig, Transport},
    dialect::{Dialect, DialectName},
    event::Event,
    view::{Encoding, View, ViewOptions},
};

/// Events, unless asked otherwise, and at most.
const EVENTS: (usize, usize) = (20, 500);

/// What a route shows.
pub(super) struct Shown {
    listener: String,
    path: String,
    stream: String,
    view: Arc<View>,
}

impl Shown {
    /// That of all routes, sockets first: they are what the same path means in two ways.
    pub(super) fn all(listeners: &[ListenerConfig]) -> Vec<Self> {
        let mut routes: Vec<_> =
            listeners.iter().flat_map(|it| it.routes.iter().map(move |route| (it, route))).collect();
        routes.sort_by_key(|(_, route)| (route.alias.is_some(), route.transport != Transport::Socket));
        let shown = routes.into_iter().map(|(listener, route)| Self {
            listener: listener.name.to_string(),
            path: route.path.clone(),
            stream: route.stream.clone(),
            view: Arc::new(View {
                roots: route.roots.iter().map(Name::as_str).map(Arc::from).collect(),
                hidden: route.hidden.clone(),
                snapshot: Vec::new(),
                // Bare payloads would not say what they are, nor be JSON always.
                dialect: match route.dialect.unwrap_or(listener.dialect) {
                    DialectName::Raw => Dialect::Event,
                    dialect => Dialect::new(dialect, None),
                },
                encoding: Encoding::Plain,
                veils: Vec::new(),
                options: ViewOptions { topics: route.topics.clone(), ..ViewOptions::default() },
            }),
        });
        shown.collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TailAsked {
    n: Option<usize>,
    after: Option<u64>,
    listener: Option<String>,
    route: Option<String>,
}

#[derive(Serialize)]
pub(super) struct TailLook {
    session: String,
    stream: String,
    listener: String,
    route: String,
    /// Frames as clients get them.
    events: Vec<Box<RawValue>>,
    /// `after` of what follows.
    next: u64,
}

pub(super) async fn answer(
    State(inspector): Who,
    path: Result<Path<String>, PathRejection>,
    asked: Asked<TailAsked>,
) -> Answered<TailLook> {
    let (upstream, session, asked) = (inspector.upstream()?, session_id(path)?, query(asked)?);
    let most = asked.n.unwrap_or(EVENTS.0);
    if !(1..=EVENTS.1).contains(&most) {
        return Err(bad_request("n: expected 1 to 500"));
    }
    let is = |wanted: &Option<String>, it: &str| wanted.as_deref().is_none_or(|wanted| wanted == it);
    let wanted = |shown: &&Shown| is(&asked.listener, &shown.listener) && is(&asked.route, &shown.path);
    let shown = inspector.shown.iter().find(wanted);
    let shown = shown.ok_or_else(|| bad_request("route: there is none of that path, or no such listener"))?;
    let hub = upstream.hubs.get(&shown.stream).ok_or_else(|| unavailable("The stream is not there"))?;
    let _at_work = inspector.turn().await?;
    let (events, through) = match asked.after {
        None => {
            let events = hub.past.tail(&session, &shown.view, most).await;
            events.map(|events| {
                let last = events.last().map_or(0, |event: &Event| event.seq);
                (events, last)
            })
        }
        Some(after) => hub.past.behind(&session, &shown.view, after, most).await,
    }
    .map_err(|error| unavailable(&error.to_string()))?;
    let frames = events.iter().filter_map(|event| frame(&shown.view, event)).collect();
    let Shown { listener, path, stream, .. } = shown;
    let (stream, listener, route) = (stream.clone(), listener.clone(), path.clone());
    Ok(Json(TailLook { session: session.to_string(), stream, listener, route, events: frames, next: through }))
}

/// The text of a frame. A client of `herald.v1` gets `prev` beside it.
fn frame(view: &View, event: &Event) -> Option<Box<RawValue>> {
    let mut text = Vec::new();
    view.head(event)?.write(Tail::plain(event.seq, event.ts_ms), &mut text);
    RawValue::from_string(String::from_utf8(text).ok()?).ok()
}
