//! A recorded `arena.ndjson`, published to NATS: one line per message, `{t_ms, subject, payload}`.

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use herald_protocol::{
    EventSubject, SessionId, TopicPattern,
    subject::{ARENA_INIT, FAKENEWS_TOPIC, session_topics},
};
use herald_runtime::{Context, nats};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::read;
use crate::cli::ReplayOptions;

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// When it came, ms since some moment.
    pub at_ms: f64,
    /// Where to.
    pub subject: String,
    /// What.
    pub payload: Vec<u8>,
}

/// What to make of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Recorded session to played session.
    pub maps: HashMap<String, SessionId>,
    /// Whether sessions without a map are left out.
    pub only_mapped: bool,
    /// Whether `arena.init` is published too.
    pub with_init: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    t_ms: f64,
    subject: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// The messages of a recording, as planned, in their order.
///
/// # Errors
/// With the number of the first line that is no message.
pub fn messages(text: &str, plan: &Plan) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty()) {
        let line: Line<'_> = serde_json::from_str(line).with_context(|| format!("line {number}"))?;
        let Some(subject) = subject(&line.subject, plan) else { continue };
        // The relay wrote its commands as Python does, with spaces, as they are recorded.
        let command = line.subject == ARENA_INIT || line.subject.ends_with(FAKENEWS_TOPIC);
        let recorded = line.payload.get();
        let mut payload = if command { recorded.to_owned() } else { compact(recorded) };
        // The session stands in payloads too (`state.global`); ids are too long to be found by chance.
        for (old, new) in &plan.maps {
            payload = payload.replace(old, new.as_str());
        }
        messages.push(Message { at_ms: line.t_ms, subject, payload: payload.into_bytes() });
    }
    Ok(messages)
}

/// The session with the most messages.
#[must_use]
pub fn busiest(text: &str) -> Option<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Line<'_>>(line) else { continue };
        if let Some(subject) = EventSubject::parse(&line.subject) {
            *counts.entry(subject.session.to_owned()).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .max_by(|one, other| one.1.cmp(&other.1).then_with(|| other.0.cmp(&one.0)))
        .map(|(session, _)| session)
}

fn subject(recorded: &str, plan: &Plan) -> Option<String> {
    if recorded == ARENA_INIT {
        return plan.with_init.then(|| recorded.to_owned());
    }
    let parsed = EventSubject::parse(recorded)?;
    let mapped = plan.maps.get(parsed.session);
    if mapped.is_none() && plan.only_mapped {
        return None;
    }
    let session = mapped.cloned().or_else(|| SessionId::new(parsed.session).ok())?;
    Some(session_topics(parsed.root, &session, &TopicPattern::parse(parsed.topic).ok()?))
}

/// JSON without the spaces outside its strings: the engine's bytes, which the recording spaced out.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |character: &char| {
        let inside = in_string;
        match (*character, escaped) {
            ('\\', false) if in_string => escaped = true,
            (_, true) => escaped = false,
            ('"', false) => in_string = !in_string,
            _ => {}
        }
        inside || !character.is_ascii_whitespace()
    };
    json.chars().filter(keep).collect()
}

/// Publishes a recording with its timing, then ends.
///
/// # Errors
/// If the file is no recording or NATS' URL can't be used.
pub(super) async fn run(file: &Path, options: &ReplayOptions, context: &Context) -> Result<()> {
    let text = String::from_utf8(read(file)?).with_context(|| file.display().to_string())?;
    let mut maps: HashMap<String, SessionId> =
        options.maps.iter().map(|(old, new)| (old.to_string(), new.clone())).collect();
    if let Some(session) = &options.session {
        maps.insert(busiest(&text).context("no message of any session")?, session.clone());
    }
    let plan = Plan { only_mapped: options.session.is_some(), with_init: options.with_init, maps };
    let messages = messages(&text, &plan).with_context(|| file.display().to_string())?;
    let nats = match nats::connect(&context.common.nats, "nats", context).await {
        Err(nats::ConnectError::ShuttingDown) => return Ok(()),
        connected => connected?,
    };
    tracing::info!(messages = messages.len(), maps = ?plan.maps, "recorded traffic, no engine");
    let playing = async {
        let mut now = messages.first().map_or(0.0, |first| first.at_ms);
        for Message { at_ms, subject, payload } in messages {
            let pause = Duration::from_secs_f64((at_ms - now).clamp(0.0, 86_400_000.0) / 1000.0);
            now = at_ms;
            if !options.speed.scale(pause).is_zero() {
                nats.client().flush().await?;
                options.speed.pause(pause).await;
            }
            nats.client().publish(subject, payload.into()).await?;
        }
        nats.client().flush().await?;
        anyhow::Ok(())
    };
    let token = context.shutdown.token();
    if token.run_until_cancelled(playing).await.transpose()?.is_some() {
        tracing::info!("played to its end");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = concat!(
        "{\"t_ms\": -5.5, \"subject\": \"arena.init\", \"payload\": {\"session_id\": \"old-1\"}}\n",
        "{\"t_ms\": 1.0, \"subject\": \"arena.old-1.round.start\", \"payload\": {\"a b\": \"c \\\" : d\", \"s\": [1, \"old-1\"]}}\n",
        "\n",
        "{\"t_ms\": 2.0, \"subject\": \"arena.other.x\", \"payload\": 7}\n",
        "{\"t_ms\": 3.0, \"subject\": \"arena.old-1.input.waiting\", \"payload\": {}}\n",
    );

    fn played(plan: &Plan) -> Vec<(String, String)> {
        let text = |message: Message| (message.subject, String::from_utf8(message.payload).unwrap());
        messages(TEXT, plan).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn sessions_are_mapped_in_subjects_and_payloads() {
        let maps = HashMap::from([("old-1".to_owned(), SessionId::new("new").unwrap())]);
        let plan = Plan { maps, only_mapped: true, with_init: false };
        let expected = [
            ("arena.new.round.start".to_owned(), "{\"a b\":\"c \\\" : d\",\"s\":[1,\"new\"]}".to_owned()),
            ("arena.new.input.waiting".to_owned(), "{}".to_owned()),
        ];
        assert_eq!(played(&plan), expected);
        let all = played(&Plan { with_init: true, ..Plan::default() });
        assert_eq!(all.len(), 4);
        assert_eq!(all[0], ("arena.init".to_owned(), "{\"session_id\": \"old-1\"}".to_owned()));
    }

    #[test]
    fn the_busiest_session_is_found_and_bad_lines_are_named() {
        assert_eq!(busiest(TEXT).as_deref(), Some("old-1"));
        assert_eq!(busiest(""), None);
        let error = messages("{\"t_ms\":1}", &Plan::default()).unwrap_err();
        assert!(format!("{error:#}").starts_with("line 1: missing field"));
    }
}
