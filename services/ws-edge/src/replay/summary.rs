//! What there is of a session: its first and last event, and how many of each kind.

use std::{collections::BTreeMap, sync::Arc};

use async_nats::Subject;
use bytes::Bytes;
use herald_protocol::SessionId;
use serde_json::{Value, json};

use super::Unread;
use crate::{config::ReplayConfig, event::Event, feed::Past, view::View};

/// Reads it, as the view shows it.
pub(super) async fn read(
    past: &Past,
    session: &SessionId,
    view: &Arc<View>,
    limits: &ReplayConfig,
) -> Result<Value, Unread> {
    let before = past.proof().await?;
    let (epoch, head) = (before.epoch.ok_or(Unread::InDoubt)?, before.extent.last);
    let kept = past.counts(session, &view.roots, limits.max_events).await?;
    let words = past.last_words(session).await?;
    let known = kept.subjects.keys().any(|subject| is_of(&view.roots, subject));
    let counts = Counts::of(kept.subjects, view, limits.max_types);
    // Of one that was removed no more is left than that it is over; and what other paths show is no business of this one.
    if !known || counts.all == 0 && words.is_over() {
        return Err(Unread::Nothing);
    }
    let first = first(past, session, view, (before.extent.first.saturating_sub(1), head), limits.max_events).await?;
    let last = last(past, session, view, head).await?;
    // All of it was read in one life, or nothing of it counts.
    if past.proof().await?.epoch != Some(epoch) {
        return Err(Unread::InDoubt);
    }
    let place = |event: &Event| json!({ "seq": event.seq, "ts": event.ts_ms });
    let mut summary = json!({
        "session": session.as_str(),
        "epoch": epoch.to_string(),
        "head": head,
        "events": counts.all,
        "types": counts.types,
        "first": first.as_ref().map(place),
        "last": last.as_ref().map(place),
        "over": words.is_over(),
    });
    if let Some(at) = past.forked_at(session).await? {
        summary["forked_at"] = at.into();
    }
    if !kept.whole {
        summary["uncounted"] = true.into();
    }
    if counts.others > 0 {
        summary["other_types"] = counts.others.into();
    }
    Ok(summary)
}

/// Whether a subject is of one of these roots.
fn is_of(roots: &[Arc<str>], subject: &str) -> bool {
    subject.split_once('.').is_some_and(|(root, _)| roots.iter().any(|known| **known == *root))
}

/// How many events there are of each kind.
#[derive(Debug, PartialEq)]
struct Counts {
    all: u64,
    types: BTreeMap<String, u64>,
    /// Of the kinds beyond those.
    others: u64,
}

impl Counts {
    /// Of what is shown, `most` kinds one by one: the most frequent.
    fn of(subjects: BTreeMap<String, u64>, view: &View, most: usize) -> Self {
        let named = subjects.into_iter().filter_map(|(subject, count)| {
            let event = Event::parse(Subject::from(subject), 0, 0, Bytes::new())?;
            view.shows(&event).then(|| (format!("{}.{}", event.root(), event.topic()), count))
        });
        let mut named: Vec<_> = named.collect();
        let all = named.iter().map(|(_, count)| count).sum();
        named.sort_by(|(one, count), (other, than)| than.cmp(count).then_with(|| one.cmp(other)));
        let others = named.drain(named.len().min(most)..).map(|(_, count)| count).sum();
        Self { all, types: named.into_iter().collect(), others }
    }
}

/// The first event that is shown; `None` where it is not among the first `most` ones.
async fn first(
    past: &Past,
    session: &SessionId,
    view: &Arc<View>,
    (mut at, head): (u64, u64),
    most: usize,
) -> Result<Option<Event>, Unread> {
    let mut looked = 0;
    while at < head && looked < most {
        let answer = past.page(session, view, at, head).await?;
        let page = answer.page().ok_or(Unread::InDoubt)?;
        if let Some(event) = page.events.iter().find(|event| event.seq > at && shown(view, event)) {
            return Ok(Some(event.clone()));
        }
        looked += page.events.len().max(1);
        at = page.through;
    }
    Ok(None)
}

/// The last event that is shown.
async fn last(past: &Past, session: &SessionId, view: &Arc<View>, head: u64) -> Result<Option<Event>, Unread> {
    let seq = past.last_shown(session, view, head).await?;
    if seq == 0 {
        return Ok(None);
    }
    let answer = past.page(session, view, seq - 1, seq).await?;
    let page = answer.page().ok_or(Unread::InDoubt)?;
    Ok(page.events.iter().find(|event| event.seq == seq).cloned())
}

fn shown(view: &View, event: &Event) -> bool {
    view.shows(event) && view.head(event).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dialect::Dialect,
        view::{Encoding, ViewOptions},
    };

    #[test]
    fn what_is_hidden_is_not_counted_and_the_rarest_are_counted_together() {
        let view = View {
            roots: vec!["gm".into(), "arena".into()],
            hidden: vec!["arena.input.fakenews".parse().unwrap()],
            snapshot: vec![],
            dialect: Dialect::Event,
            encoding: Encoding::Plain,
            veils: vec![],
            options: ViewOptions::default(),
        };
        let subjects = [
            ("gm.s._action", 9),
            ("arena.s.input.fakenews", 9),
            ("lobby.s.x", 9),
            ("gm.s.phase", 3),
            ("arena.s.agent.7.status", 5),
            ("gm.s.end", 1),
            ("gm.s.error", 1),
        ];
        let subjects: BTreeMap<_, _> = subjects.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        let types = |all: &[(&str, u64)]| all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let two = Counts { all: 10, types: types(&[("arena.agent.7.status", 5), ("gm.phase", 3)]), others: 2 };
        assert_eq!(Counts::of(subjects.clone(), &view, 2), two);
        assert_eq!(Counts::of(subjects, &view, 99).others, 0);
    }
}
