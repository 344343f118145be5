//! How much of the log one session may take, so that it does not push the others out of it: the stream is limited by its bytes
//! and their age, and loses its oldest, whosever they are.
//!
//! How many messages of a session are kept, of whatever root, its stream's leader says, when an action is about to ask for
//! something; what the action adds is counted by itself, as nobody else adds to `gm.<sid>.>` meanwhile. How many bytes they are
//! nobody says: each message carries what there was with it ([`headers::KEPT`]), so the last one says it, whichever bridge wrote
//! it; where fewer are kept than had been written by then, because they have aged or were removed, by that part of it. News are
//! written by all bridges at once and say nothing of each other: each counts as the longest there may be.

use async_nats::HeaderMap;
use herald_protocol::{SessionId, headers, subject};
use herald_runtime::{
    jetstream::{self, ApiError, Stored},
    nats::Nats,
};

use crate::{arena::EVENTS, config::ActionConfig};

/// What a message takes beside subject and payload, about: headers by which it is fenced and recognised, and the store's own.
const OVERHEAD: u64 = 300;

/// What is kept of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kept {
    /// Messages of all roots.
    all: u64,
    /// Of them, those of `gm.<sid>.>`,
    own: u64,
    /// and their bytes, about.
    bytes: u64,
    /// Bytes of news, at most.
    news: u64,
}

/// How much may be kept of a session; 0: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    events: u64,
    bytes: u64,
    /// What one news may take.
    news: u64,
}

impl Quota {
    pub(super) const fn of(config: &ActionConfig) -> Self {
        Self {
            events: config.quota_events,
            bytes: config.quota_bytes.as_u64(),
            news: config.max_news.as_u64().saturating_add(OVERHEAD),
        }
    }

    /// Whether there is any.
    pub(super) const fn is_set(self) -> bool {
        self.events > 0 || self.bytes > 0
    }

    /// Whether nothing more is to be asked for in a session of which so much is kept.
    pub(super) const fn is_used_up(self, kept: Kept) -> bool {
        let bytes = kept.bytes.saturating_add(kept.news);
        (self.events > 0 && kept.all >= self.events) || (self.bytes > 0 && bytes >= self.bytes)
    }
}

impl Kept {
    /// What a message says was kept with it.
    pub(super) fn said(message: Option<&Stored>) -> Self {
        let said = message.and_then(|message| message.headers.get(headers::KEPT));
        let read = |text: &str| {
            let (own, bytes) = text.split_once(' ')?;
            Some(Self { own: own.parse().ok()?, bytes: bytes.parse().ok()?, ..Self::default() })
        };
        said.and_then(|said| read(said.as_str())).unwrap_or_default()
    }

    /// What is kept now, as the stream's leader has it.
    pub(super) async fn read(nats: &Nats, session: &SessionId, quota: Quota) -> Result<Self, ApiError> {
        let (everything, own) = (subject::session_any_root(session), subject::session_all(subject::GM, session));
        let (subjects, last) = futures_util::try_join!(
            jetstream::subjects(nats, EVENTS, &everything),
            jetstream::last_by_subject_leader(nats, EVENTS, &own)
        )?;
        let own = own.trim_end_matches('>');
        let of_it = subjects.iter().filter(|(subject, _)| subject.starts_with(own)).map(|(_, count)| count);
        let news = subjects.get(&subject::arena_fakenews(session)).copied().unwrap_or_default();
        let kept = Self::said(last.as_ref()).of_which(of_it.sum(), subjects.values().sum());
        Ok(Self { news: news.saturating_mul(quota.news), ..kept })
    }

    /// As much of it as `own` of its messages are, with `all` of the session.
    fn of_which(self, own: u64, all: u64) -> Self {
        let part = u128::from(self.bytes) * u128::from(own) / u128::from(self.own.max(1));
        let bytes = if own < self.own { u64::try_from(part).unwrap_or(u64::MAX) } else { self.bytes };
        Self { all, own, bytes, news: self.news }
    }

    /// With one message more.
    pub(super) const fn with(self, subject: &str, payload: usize) -> Self {
        let bytes = self.bytes.saturating_add(subject.len() as u64 + payload as u64 + OVERHEAD);
        Self { all: self.all.saturating_add(1), own: self.own.saturating_add(1), bytes, ..self }
    }

    /// Says it in a message.
    pub(super) fn say(self, headers: &mut HeaderMap) {
        headers.insert(headers::KEPT, format!("{} {}", self.own, self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Kept {
        let mut headers = HeaderMap::new();
        headers.insert(headers::KEPT, text);
        let (subject, payload) = ("gm.s.phase".into(), bytes::Bytes::new());
        Kept::said(Some(&Stored { subject, sequence: 1, time_ns: 0, headers, payload }))
    }

    #[test]
    fn what_is_said_is_read_back_and_nonsense_is_nothing() {
        let kept = Kept { all: 9, own: 5, bytes: 1000, news: 70 };
        let mut headers = HeaderMap::new();
        kept.with("gm.s.x", 94).say(&mut headers);
        assert_eq!(headers.get(headers::KEPT).unwrap().as_str(), "6 1400");
        assert_eq!(said("6 1400"), Kept { own: 6, bytes: 1400, ..Kept::default() });
        for odd in ["", "6", "x 1", "6 -1", "6 1 2"] {
            assert_eq!(said(odd), Kept::default(), "{odd}");
        }
        assert_eq!(Kept::said(None), Kept::default());
    }

    #[test]
    fn what_has_aged_or_was_removed_counts_no_more() {
        let kept = said("1000 500000");
        assert_eq!(kept.of_which(1000, 1400), Kept { all: 1400, own: 1000, bytes: 500_000, news: 0 });
        assert_eq!(kept.of_which(250, 250).bytes, 125_000);
        assert_eq!(kept.of_which(0, 0), Kept::default());
        assert_eq!(kept.of_which(1002, 1002).bytes, 500_000, "claims that came to no word");
        assert_eq!(
            Kept::default().of_which(7, 7),
            Kept { all: 7, own: 7, ..Kept::default() },
            "of a time before it was said"
        );
    }

    #[test]
    fn either_limit_is_one_and_none_is_none() {
        let kept = Kept { all: 10, own: 4, bytes: 600, news: 300 };
        let used_up = |events, bytes| Quota { events, bytes, news: 100 }.is_used_up(kept);
        assert!(used_up(10, 0) && used_up(0, 900) && used_up(5, 5000));
        assert!(!used_up(11, 901) && !used_up(0, 0));
        assert!(!Quota { events: 0, bytes: 0, news: 100 }.is_set());
    }
}
