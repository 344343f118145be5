//! The only writer of `app.*`: a request's events, acknowledged, side by side, all of them or none; under a key, once.
//!
//! **One event** goes by itself, with a message id. The stream remembers the ids for the window of the keys: who sends it again
//! is told the sequence of the first one, with whose `Herald-Digest` the request is compared. Ids are remembered for longer than
//! messages where the stream's limits are narrow: then nobody can tell any more whose the key was, and that is what is said.
//!
//! **Several** go as one atomic batch. Under a key its first message is a note, `app.<session>._key.<hash>`, that is stored only
//! if there is none (the server sees to it when it commits the batch): so of any number of instances one stores them, and the
//! others find the note, and by its place the sequences. Notes are control events: nobody is shown them, and they go by
//! themselves when their time is over. The note has the key's message id, as one event would have, so that a key is good for
//! one request of either kind.
//!
//! All or nothing is what a living server promises: one that is killed while it commits a batch may keep the first messages
//! of it. Whoever finds a note looks whether the last event is there, too, and else stores the rest behind a note of its own,
//! which follows the first one as that followed none. Events of one key are known by their `Herald-Key`.
//!
//! An acknowledgement that stays away leaves open what became of it. What has an id or a note is sent again until it is known,
//! or time is over. Several events without a key have neither, and whoever sent them is told at once.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use herald_protocol::{SessionId, headers, subject};
use herald_runtime::{
    jetstream::{
        ACK_WAIT, ApiError, BatchError, BatchMessage, Expect, PublishError, get_leader, last_by_subject_leader,
        publish, publish_batch, stream_info,
    },
    metrics::measured,
    nats::Nats,
    traces::{self, Kind},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout, timeout_at},
};
use uuid::Uuid;

use crate::{config::Config, event::Event, key::Key, metrics};

/// The stream of all that comes by HTTP.
pub(crate) const STREAM: &str = "APP";
/// How long to wait before something that could not be stored for the moment is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// By how much a note outlives the message ids: whoever is refused for the id finds the note.
const NOTE_MARGIN: Duration = Duration::from_secs(60);

/// Stores events.
pub(crate) struct Log {
    nats: Nats,
    /// Seconds that a note is kept, as text.
    note_age: String,
    batches: Arc<Semaphore>,
}

/// Where the events of a request are. Nothing stands between them, unless a server was killed while it stored them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Why events are not stored, or not known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// NATS is away, or nobody there takes them now. None is stored.
    #[error("nats is away")]
    Away,
    /// Too many requests are stored at a time. None of these is.
    #[error("too many requests at a time")]
    Busy,
    /// The stream refuses them. None is stored.
    #[error("the stream refuses")]
    Refused,
    /// They may be stored, or not, or be on their way.
    #[error("it is not known whether they are stored")]
    Unknown,
    /// The event at that place is larger than the server takes. None is stored.
    #[error("an event is larger than the server takes")]
    TooLarge(usize),
    /// The key was used for another request.
    #[error("the key was used for another request")]
    KeyReused,
    /// The key was used, and what was stored under it is there no more: whether it was this request can't be told.
    #[error("what was stored under the key is kept no more")]
    KeyGone,
}

/// What a note says of the events behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// So many events of the request stand before it, where an earlier attempt came so far.
    before: usize,
    /// The first one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
}

/// What is left to be stored of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rest {
    note: Note,
    /// The sequence of the note before this one; 0: there is none.
    follows: u64,
}

impl Rest {
    const WHOLE: Self = Self { note: Note { before: 0, first: None }, follows: 0 };
}

/// What the log says of a key.
enum Found {
    Nothing,
    All(Stored),
    Some(Rest),
}

impl Log {
    /// A log over that connection.
    pub(crate) fn new(nats: &Nats, config: &Config) -> Self {
        let note_age = (config.idempotency.window.get() + NOTE_MARGIN).as_secs().to_string();
        let most = config.publish.max_batches;
        let batches = Arc::new(Semaphore::new(most));
        let running = ::metrics::gauge!("herald_batches_running_count");
        measured(running, &batches, move |batches| most.saturating_sub(batches.available_permits()));
        Self { nats: nats.clone(), note_age, batches }
    }

    /// Stores events in this order, until that moment at the latest. Cancelling it is safe in the sense of
    /// [`StoreError::Unknown`].
    pub(crate) async fn store(
        &self,
        session: &SessionId,
        events: &[Event],
        key: Option<&Key>,
        until: Instant,
    ) -> Result<Stored, StoreError> {
        // The library would keep it, and send it at a time of its own.
        if !self.nats.connected() {
            return Err(StoreError::Away);
        }
        let subjects: Vec<_> = events.iter().map(|event| subject::app_event(session, &event.topic)).collect();
        let begun = Instant::now();
        let mut span = traces::join(traces::current(), "publish", Kind::Producer);
        span.text("herald.session", session);
        span.number("herald.events", events.len() as u64);
        let mut unknown = false;
        let storing = async {
            match (events, &*subjects, key) {
                ([event], [subject], _) => self.one(subject, event, key, &mut unknown).await,
                (.., None) => self.several(&subjects, events, &mut unknown).await,
                (.., Some(key)) => self.several_once(&subjects, events, key, &mut unknown).await,
            }
        };
        let stored = traces::within(span.context(), timeout_at(until, storing)).await;
        let stored = stored.unwrap_or(Err(if unknown { StoreError::Unknown } else { StoreError::Busy }));
        match &stored {
            Ok(_) => metrics::stored(begun),
            Err(error) => span.fail(error),
        }
        stored
    }

    async fn one(
        &self,
        subject: &str,
        event: &Event,
        key: Option<&Key>,
        unknown: &mut bool,
    ) -> Result<Stored, StoreError> {
        let mut headers = traces::headers();
        let id = key.map_or_else(|| Uuid::new_v4().to_string(), |key| key.id.clone());
        if let Some(key) = key {
            headers.insert(headers::DIGEST, key.digest.as_str());
        }
        let expect = Expect { message_id: Some(&id), ..Expect::default() };
        loop {
            let sending = publish(&self.nats, subject, headers.clone(), event.data.clone(), expect);
            match under_way(unknown, timeout(ACK_WAIT, sending)).await.unwrap_or(Err(PublishError::Timeout)) {
                Ok(ack) => {
                    let before = key.filter(|_| ack.duplicate);
                    if let Some(key) = before {
                        self.same_request(ack.seq, key).await?;
                    }
                    // Most probably it was an attempt of this very request, where one was not answered.
                    if before.is_some() && !*unknown {
                        metrics::repeated()
                    } else {
                        metrics::published(1)
                    }
                    return Ok(Stored { first: ack.seq, last: ack.seq });
                }
                Err(PublishError::TooLarge) => return Err(StoreError::TooLarge(0)),
                Err(error) => again(error, unknown).await?,
            }
        }
    }

    /// Fine, if what is stored there under the key is that request's.
    async fn same_request(&self, sequence: u64, key: &Key) -> Result<(), StoreError> {
        let stored = get_leader(&self.nats, STREAM, sequence).await.map_err(|error| unread(&error))?;
        match header(&stored.ok_or(StoreError::KeyGone)?.headers, headers::DIGEST) {
            Some(digest) if digest == key.digest => Ok(()),
            _ => Err(StoreError::KeyReused),
        }
    }

    /// Waits for a place among the batches.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let _waiting = metrics::BatchWait::begin();
        self.batches.acquire().await.map_err(|_| StoreError::Busy)
    }

    async fn several(&self, subjects: &[String], events: &[Event], unknown: &mut bool) -> Result<Stored, StoreError> {
        let _turn = self.turn().await?;
        loop {
            let messages = subjects.iter().zip(events).map(|(subject, event)| message(subject, event, None)).collect();
            match under_way(unknown, publish_batch(&self.nats, messages)).await {
                Ok(ack) => return Ok(side_by_side(ack.last, events.len())),
                Err(BatchError::TooLarge { index }) => return Err(StoreError::TooLarge(index)),
                Err(BatchError::Publish(PublishError::Timeout | PublishError::Failed(_))) => {
                    return Err(StoreError::Unknown);
                }
                Err(BatchError::Publish(error)) => again(error, unknown).await?,
                Err(error) => not_taken(&error).await,
            }
        }
    }

    async fn several_once(
        &self,
        subjects: &[String],
        events: &[Event],
        key: &Key,
        unknown: &mut bool,
    ) -> Result<Stored, StoreError> {
        let _turn = self.turn().await?;
        let mut rest = Rest::WHOLE;
        loop {
            let before = rest.note.before;
            let id = if rest.follows == 0 { key.id.clone() } else { format!("{}:{}", key.id, rest.follows) };
            let note = self.note(&rest, key, &id)?;
            let events_left = subjects.iter().zip(events).skip(before);
            let left = events_left.map(|(subject, event)| message(subject, event, Some(key)));
            let batch = std::iter::once(note).chain(left).collect();
            match under_way(unknown, publish_batch(&self.nats, batch)).await {
                Ok(ack) => {
                    let new = side_by_side(ack.last, events.len() - before);
                    if rest.follows > 0 {
                        metrics::completed();
                    }
                    return Ok(Stored { first: rest.note.first.unwrap_or(new.first), last: new.last });
                }
                Err(BatchError::TooLarge { index }) => {
                    return Err(StoreError::TooLarge(before + index.saturating_sub(1)));
                }
                Err(error @ (BatchError::Duplicate | BatchError::Publish(PublishError::WrongLast { .. }))) => {
                    match self.find(events.len(), key).await? {
                        Found::All(stored) => {
                            if *unknown {
                                metrics::published(events.len())
                            } else {
                                metrics::repeated()
                            }
                            return Ok(stored);
                        }
                        // From here on something is stored, whatever comes.
                        Found::Some(left) => (rest, *unknown) = (left, true),
                        Found::Nothing => {
                            if matches!(error, BatchError::Duplicate) {
                                self.without_note(key, unknown).await?;
                            }
                            rest = Rest::WHOLE;
                        }
                    }
                }
                Err(BatchError::Publish(error)) => again(error, unknown).await?,
                Err(error) => not_taken(&error).await,
            }
        }
    }

    /// The key's id is known, and no note is there: the id is that of the one event of another request, or of a note that is
    /// kept no more. Who publishes a note alone is told where that was; where the id was forgotten in this moment, the note is
    /// stored, as if a server had been killed behind it.
    async fn without_note(&self, key: &Key, unknown: &mut bool) -> Result<(), StoreError> {
        let BatchMessage { subject, headers, payload, .. } = self.note(&Rest::WHOLE, key, &key.id)?;
        let expect = Expect { message_id: Some(&key.id), ..Expect::default() };
        let sending = timeout(ACK_WAIT, publish(&self.nats, subject, headers, payload, expect));
        match under_way(unknown, sending).await.unwrap_or(Err(PublishError::Timeout)) {
            Ok(ack) if ack.duplicate => self.same_request(ack.seq, key).await,
            Ok(_) => Ok(()),
            Err(error) => again(error, unknown).await,
        }
    }

    /// The message that says what stands behind it under that key.
    fn note<'a>(&self, rest: &Rest, key: &'a Key, id: &'a str) -> Result<BatchMessage<'a>, StoreError> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::DIGEST, key.digest.as_str());
        headers.insert(headers::TTL, self.note_age.as_str());
        let payload = serde_json::to_vec(&rest.note).map_err(|_| StoreError::Refused)?.into();
        let expect = Expect { last_subject_sequence: Some(rest.follows), subject: None, message_id: Some(id) };
        Ok(BatchMessage { subject: &key.subject, headers, payload, expect })
    }

    /// What is stored under a key of `count` events.
    async fn find(&self, count: usize, key: &Key) -> Result<Found, StoreError> {
        let note = last_by_subject_leader(&self.nats, STREAM, &key.subject).await.map_err(|error| unread(&error))?;
        let Some(stored) = note else { return Ok(Found::Nothing) };
        if header(&stored.headers, headers::DIGEST) != Some(key.digest.as_str()) {
            return Err(StoreError::KeyReused);
        }
        let note: Note = serde_json::from_slice(&stored.payload).map_err(|error| {
            tracing::error!(%error, "a note in the log can't be read");
            StoreError::Refused
        })?;
        let (behind, left) = (stored.sequence, count.saturating_sub(note.before));
        let at = |place: usize| behind + place as u64;
        if self.holds(at(left), key).await? {
            return Ok(Found::All(Stored { first: note.first.unwrap_or(at(1)), last: at(left) }));
        }
        let mut kept = 0;
        while kept + 1 < left && self.holds(at(kept + 1), key).await? {
            kept += 1;
        }
        tracing::warn!(kept, of = left, "a server was ended while it stored a request, storing the rest");
        let first = note.first.or((kept > 0).then(|| at(1)));
        Ok(Found::Some(Rest { note: Note { before: note.before + kept, first }, follows: behind }))
    }

    /// Whether an event of the key was stored there.
    async fn holds(&self, sequence: u64, key: &Key) -> Result<bool, StoreError> {
        match get_leader(&self.nats, STREAM, sequence).await.map_err(|error| unread(&error))? {
            Some(stored) => Ok(header(&stored.headers, headers::KEY) == Some(key.hash.as_str())),
            // Removed since: sequences are given to nothing else.
            None => {
                let info = stream_info(&self.nats, STREAM).await.map_err(|error| unread(&error))?;
                Ok(info.last_seq >= sequence)
            }
        }
    }
}

fn message<'a>(subject: &'a str, event: &Event, key: Option<&Key>) -> BatchMessage<'a> {
    let mut headers = traces::headers();
    if let Some(key) = key {
        headers.insert(headers::KEY, key.hash.as_str());
    }
    BatchMessage { subject, headers, payload: Bytes::clone(&event.data), expect: Expect::default() }
}

fn side_by_side(last: u64, count: usize) -> Stored {
    metrics::published(count);
    Stored { first: last + 1 - count as u64, last }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::as_str)
}

/// Awaits what is being stored. Until it is answered nobody knows what becomes of it, and whoever gives up by then never learns.
async fn under_way<T>(unknown: &mut bool, storing: impl Future<Output = T>) -> T {
    let before = std::mem::replace(unknown, true);
    let outcome = storing.await;
    *unknown = before;
    outcome
}

/// Waits a moment before the next attempt, if there is to be one.
async fn again(error: PublishError, unknown: &mut bool) -> Result<(), StoreError> {
    let reason = match error {
        PublishError::Timeout | PublishError::Failed(_) => {
            *unknown = true;
            "unanswered"
        }
        // Of the same request, perhaps, which somebody has sent twice.
        PublishError::Retry => {
            *unknown = true;
            "under_way"
        }
        // What came of the attempts before will be seen when somebody answers again.
        PublishError::NoResponders if *unknown => "no_responders",
        PublishError::NoResponders => return Err(StoreError::Away),
        PublishError::WrongLast { .. } | PublishError::TooLarge | PublishError::Other { .. } => {
            tracing::error!(%error, "the stream refuses events");
            return Err(if *unknown { StoreError::Unknown } else { StoreError::Refused });
        }
    };
    metrics::publish_again(reason);
    sleep(PAUSE).await;
    Ok(())
}

/// Waits a moment: batches that others have open are over soon.
async fn not_taken(error: &BatchError) {
    tracing::warn!(%error, "a batch was not taken, trying again");
    metrics::publish_again("not_taken");
    sleep(PAUSE).await;
}

fn unread(error: &ApiError) -> StoreError {
    tracing::warn!(%error, "the log can't be read");
    StoreError::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_short_and_reads_back() {
        for (note, text) in
            [(Rest::WHOLE.note, r#"{"before":0}"#), (Note { before: 2, first: Some(7) }, r#"{"before":2,"first":7}"#)]
        {
            assert_eq!(serde_json::to_string(&note).unwrap(), text);
            assert_eq!(serde_json::from_str::<Note>(text).unwrap(), note);
        }
    }

    #[test]
    fn events_of_a_batch_stand_side_by_side() {
        assert_eq!(side_by_side(7, 3), Stored { first: 5, last: 7 });
        assert_eq!(side_by_side(1, 1), Stored { first: 1, last: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_stored_is_asked_for_until_it_is_known() {
        let mut unknown = false;
        assert_eq!(again(PublishError::NoResponders, &mut unknown).await, Err(StoreError::Away));
        let refused = || PublishError::Other { code: 10077, description: String::new() };
        assert_eq!(again(refused(), &mut unknown).await, Err(StoreError::Refused));
        assert!(!unknown);
        for error in [PublishError::Retry, PublishError::Timeout] {
            unknown = false;
            assert_eq!(again(error, &mut unknown).await, Ok(()));
            assert!(unknown);
        }
        assert_eq!(again(PublishError::NoResponders, &mut unknown).await, Ok(()));
        assert_eq!(again(refused(), &mut unknown).await, Err(StoreError::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_before_it_was_answered_is_unknown() {
        let mut unknown = false;
        assert_eq!(under_way(&mut unknown, async { 1 }).await, 1);
        assert!(!unknown, "answered");
        assert!(timeout(PAUSE, under_way(&mut unknown, std::future::pending::<()>())).await.is_err());
        assert!(unknown);
        under_way(&mut unknown, async {}).await;
        assert!(unknown, "an attempt before it was not answered");
    }
}
