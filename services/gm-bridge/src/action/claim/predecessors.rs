//! How a claim tells the ends of the actions before it.
//!
//! Usually that is one at most. But a bridge may die between its `_action` and its first word, by which it would have ended
//! the action before: then both are open, and each gets its own end, the older one first. Each `_action` says where the one
//! before it stands, and each of these ends names in `Herald-Ends` whose it is, so a claimer that dies in the middle of
//! them is followed by one that goes on where it stopped.

use async_nats::HeaderMap;
use bytes::Bytes;
use herald_protocol::{EventType, headers, record::ActionKind, subject};
use herald_runtime::jetstream::Stored;

use super::Claim;
use crate::{
    action::{
        ending::Ending,
        ledger::{LedgerError, ends, opened},
    },
    metrics,
    publisher::PublishFailure,
};

/// More claims in a row than this, none of which came to its first word, are not followed back.
const FARTHEST: usize = 64;

/// An action that has not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    n: u64,
    kind: ActionKind,
    /// Sequence of its `_action`.
    action: u64,
}

impl Claim {
    /// Ends what was open before this action, as its first words. Whether there was anything to say.
    pub(in crate::action) async fn end_predecessor(&mut self, ending: Ending) -> Result<bool, PublishFailure> {
        let mut patience = self.shared.patience();
        let open = loop {
            match self.open_before().await {
                Ok(open) => break open,
                Err(error) => patience.after(&error).await?,
            }
        };
        self.before.last = None;
        let words = words(&open, ending, self.before.kind);
        for (index, (of, ending, kind)) in words.iter().enumerate() {
            tracing::info!(session = %self.session, n = of.n, ?ending, "action ended by another one");
            // Whoever has nothing else to do ends itself with the last word.
            let last_word = matches!(self.kind, ActionKind::Cancel | ActionKind::Lost) && index + 1 == words.len();
            self.publish_end(ending.payload(*kind), if last_word { self.n } else { of.n }).await?;
            self.shared.lease.finish(&self.session, of.action, false).await;
            if *ending == Ending::Lost {
                metrics::action_lost();
                self.shared.lease.lost(&self.session, *kind, of.action).await;
            }
        }
        Ok(!words.is_empty())
    }

    /// What is open before this action, the latest first. It can't change any more: what belongs to an earlier action is
    /// refused from here on.
    async fn open_before(&self) -> Result<Vec<Open>, LedgerError> {
        let mut open = Vec::new();
        let Some((event, mut action)) = self.before.action.clone() else { return Ok(open) };
        let (mut event, mut from, mut last) = (event, action, self.before.last.clone());
        let mut until = self.sequence;
        // The latest one whose end is told already.
        let mut told = 0;
        while open.len() < FARTHEST && event.n > told {
            last = self.last_between(last, from, until).await?;
            let Some(last_word) = last.take() else { break };
            if ends(&last_word, event.n) {
                break;
            }
            open.push(Open { n: event.n, kind: event.kind, action });
            let Some(before) = event.before else { break };
            if last_word.sequence != action {
                // It has said something, and had told the ends before it first.
                match told_end(&last_word) {
                    // A claim that died over its first words may have told less than the one that followed it.
                    Some(n) => told = told.max(n),
                    None => break,
                }
            }
            let Some(earlier) = self.shared.publisher.at(before.action).await? else { break };
            (until, action, from) = (action, before.action, before.last);
            event = opened(&earlier);
        }
        Ok(open)
    }

    /// The session's last event below `until`, at or behind `from`, if it is not the one given already.
    async fn last_between(&self, known: Option<Stored>, from: u64, until: u64) -> Result<Option<Stored>, LedgerError> {
        let all = subject::session_all(subject::GM, &self.session);
        let mut last = known;
        loop {
            let from = last.as_ref().map_or(from, |last| last.sequence + 1);
            match self.shared.publisher.next(from, &all).await? {
                Some(next) if next.sequence < until => last = Some(next),
                _ => return Ok(last),
            }
        }
    }

    /// Publishes an error of our own making, the end of the action number `ends`.
    pub(super) async fn publish_end(&mut self, payload: Bytes, ends: u64) -> Result<(), PublishFailure> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::ENDS, ends.to_string());
        let subject = subject::gm_event(&self.session, &EventType::from_wire("error"));
        self.publish_on(&subject, payload, headers).await?;
        self.ended = ends == self.n;
        Ok(())
    }
}

/// What is to be said of what is open, the oldest first: which action, how it ended, and what it was. `about` is what the
/// latest one is about, where it is one that only ends others and it is not known which.
fn words(open: &[Open], ending: Ending, about: ActionKind) -> Vec<(Open, Ending, ActionKind)> {
    let mut words = Vec::new();
    for (index, of) in open.iter().enumerate() {
        let ending = match index.checked_sub(1).and_then(|later| open.get(later)).map(|later| later.kind) {
            None => ending,
            Some(ActionKind::Lost) => Ending::Lost,
            Some(ActionKind::Cancel) => Ending::Cancelled,
            Some(_) => Ending::Superseded,
        };
        let ender = matches!(of.kind, ActionKind::Lost | ActionKind::Cancel);
        // One that only ends others has nothing to say of itself, as long as those others are known.
        if !ender {
            words.push((*of, ending, of.kind));
        } else if open.len() == 1 && !matches!(about, ActionKind::Lost | ActionKind::Cancel) {
            words.push((*of, ending, about));
        }
    }
    words.reverse();
    words
}

/// Whose end this event tells, if it is an end that a bridge told.
fn told_end(event: &Stored) -> Option<u64> {
    event.headers.get(headers::ENDS)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(n: u64, kind: ActionKind) -> Open {
        Open { n, kind, action: n * 10 }
    }

    fn said(open: &[Open], ending: Ending) -> Vec<(u64, Ending, ActionKind)> {
        let about = open.first().map_or(ActionKind::Lost, |open| open.kind);
        words(open, ending, about).into_iter().map(|(of, ending, kind)| (of.n, ending, kind)).collect()
    }

    #[test]
    fn each_open_action_gets_its_own_end_the_oldest_first() {
        use ActionKind::{Cancel, Choose, Lost, Propose, Start};
        assert_eq!(said(&[], Ending::Lost), []);
        assert_eq!(said(&[open(1, Propose)], Ending::Lost), [(1, Ending::Lost, Propose)]);
        // The choose that superseded the propose died before it could say so.
        let both = [open(2, Choose), open(1, Propose)];
        assert_eq!(said(&both, Ending::Lost), [(1, Ending::Superseded, Propose), (2, Ending::Lost, Choose)]);
        // Enders that died: what they were to say is said, of themselves there is nothing to say.
        assert_eq!(said(&[open(2, Cancel), open(1, Propose)], Ending::Lost), [(1, Ending::Cancelled, Propose)]);
        assert_eq!(said(&[open(2, Lost), open(1, Choose)], Ending::Superseded), [(1, Ending::Lost, Choose)]);
        assert_eq!(said(&[open(1, Cancel)], Ending::Lost), []);
        let three = [open(3, Lost), open(2, Start), open(1, Choose)];
        assert_eq!(said(&three, Ending::Lost), [(1, Ending::Superseded, Choose), (2, Ending::Lost, Start)]);
        // One that does not say what it was to end; its record does.
        let of = open(2, Lost);
        assert_eq!(words(&[of], Ending::Lost, Choose), [(of, Ending::Lost, Choose)]);
    }
}
