//! Watching over the actions of all bridges, and ending those whose bridge is gone.
//!
//! Every bridge follows the records, and looks several times within `action.lapse` which `_action`s have come to the log: a
//! bridge may die between the two. An action has lapsed when there was no sign of its life for `action.lapse`, as seen by a
//! watcher that could have seen one: at each look meanwhile it was connected, **wrote** to the bucket (a leader that has
//! lost its quorum still answers reads, and takes nobody's renewals), and was not halted itself. After anything else it
//! counts anew. Before an action is taken for lapsed the leader is asked for it, so a watch that has fallen behind proves
//! nothing either. If several bridges come to the same conclusion, one claim wins, and the others find the record changed.

mod book;

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::kv::{Entry, Operation};
use futures_util::{StreamExt, stream, stream::BoxStream};
use herald_protocol::{
    EventSubject, SessionId,
    record::{ActionEvent, ActionKind, ActionRecord},
    subject::{self, TopicPattern},
};
use herald_runtime::{
    jetstream::{self, BatchGet, Stored, stream_info},
    nats::NatsState,
};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use self::book::Book;
use super::{
    ACTIONS, Shared,
    claim::{Claim, Condition, NotClaimed},
    ending::Ending,
    ledger::Ledger,
    runner,
};
use crate::{arena::EVENTS, metrics};

/// How often the watch is begun anew: one that asks beyond the end of a bucket that was rolled back would hear nothing.
const WATCH_AGAIN: Duration = Duration::from_secs(60);
/// Pause before a watch that could not be begun is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// So many looks fall into the time an action may go without a sign of life.
const LOOKS: u32 = 5;
/// So many sessions are asked about at a time: a bridge that dies may leave a thousand actions.
const QUESTIONS: usize = 16;
/// A bridge that begins looks for claims so far back in the log: of the last one, it may be itself that died.
const LOOK_BACK: u64 = 1_000;
/// `_action`s read at a look; what is behind them is read at the next one.
const PAGE: u32 = 1_000;
/// How long the mark of a look is kept, so that bridges that are gone leave none.
const MARK: Duration = Duration::from_secs(60);

/// All actions, as this bridge sees them.
struct Watcher {
    shared: Arc<Shared>,
    book: Book,
    state: Receiver<NatsState>,
    /// When the last look ended, in this watch or the one before.
    last_look: Instant,
    /// All `_action`s up to here have been seen.
    position: Option<u64>,
    /// Where the stream ended at the last look.
    head: u64,
    actions: String,
}

type Entries = BoxStream<'static, Result<Entry, async_nats::Error>>;

/// Watches until it is cancelled.
pub(super) async fn watch(shared: &Arc<Shared>) {
    let topic = TopicPattern::parse(subject::ACTION_TOPIC);
    let actions = topic.map(|topic| subject::any_session_topics(subject::GM, &topic)).unwrap_or_default();
    let (book, state) = (Book::default(), shared.nats.state());
    let (shared, last_look) = (Arc::clone(shared), Instant::now());
    let mut watcher = Watcher { shared, book, state, last_look, position: None, head: 0, actions };
    loop {
        // Before the watch: another one than this is another bucket than the watched one.
        let created = watcher.created().await;
        match watcher.entries().await {
            Ok(mut entries) => watcher.follow(&mut entries, created.as_deref()).await,
            Err(error) => {
                tracing::debug!(error = &*error, "records of actions can't be watched yet");
                sleep(RETRY).await;
                watcher.count_anew("not_watched");
            }
        }
    }
}

impl Watcher {
    /// The records as they are and as they change. Where the log's claims begin is known, too.
    async fn entries(&mut self) -> Result<Entries, async_nats::Error> {
        let last = self.shared.publisher.last(&self.actions).await?.map_or(0, |last| last.sequence);
        let head = self.shared.publisher.last(">").await?.map_or(0, |last| last.sequence);
        // Not in a log that was rolled back, or lost.
        let known = self.position.filter(|position| *position <= head);
        self.position = Some(known.unwrap_or_else(|| last.saturating_sub(LOOK_BACK)));
        self.head = self.head.min(head);
        let bucket = self.shared.nats.jetstream().get_key_value(ACTIONS).await?;
        let entries = bucket.watch_with_history(">").await?;
        Ok(entries.map(|entry| entry.map_err(async_nats::Error::from)).boxed())
    }

    /// When the bucket was created; `None` where that can't be known now.
    async fn created(&self) -> Option<String> {
        let info = stream_info(&self.shared.nats, &format!("KV_{ACTIONS}")).await;
        info.ok().map(|info| info.created)
    }

    /// Follows one watch until it is time for a new one: one of a bucket that was deleted hears nothing of the next.
    async fn follow(&mut self, entries: &mut Entries, created: Option<&str>) {
        let again = Instant::now() + WATCH_AGAIN;
        let every = self.shared.config.lapse.get() / LOOKS;
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < again {
            tokio::select! {
                // What was written is taken note of before it is judged what was not.
                biased;
                changed = self.state.changed() => {
                    self.count_anew("disconnected");
                    if changed.is_err() || self.shared.nats.connected() {
                        return;
                    }
                }
                entry = entries.next() => match entry {
                    Some(Ok(entry)) => self.note(entry),
                    // A missed heartbeat among others, of which the watch recovers by itself. But once its connection was
                    // closed, to ask it again is a panic.
                    Some(Err(error)) => {
                        tracing::debug!(error = &*error, "watch of the records stumbled");
                        return sleep(RETRY).await;
                    }
                    None => return sleep(RETRY).await,
                },
                _ = looks.tick() => {
                    // A process that was halted has missed what was written meanwhile. One that waited so long for a new
                    // watch had no leader to ask, and the other bridges perhaps none to write to.
                    if self.last_look.elapsed() > every * 2 {
                        self.count_anew("halted");
                    }
                    if !self.look(every).await {
                        // Who can't hear may not conclude anything from silence.
                        self.count_anew("unanswered");
                    }
                    self.last_look = Instant::now();
                    let now = timeout(every, self.created()).await.unwrap_or_default();
                    if now.is_some_and(|now| Some(now.as_str()) != created) {
                        return self.count_anew("bucket made anew");
                    }
                }
            }
        }
    }

    fn note(&mut self, entry: Entry) {
        // Marks of looks have keys that are no session ids.
        let Ok(session) = SessionId::new(&entry.key) else { return };
        if entry.operation != Operation::Put {
            self.book.deleted(&session, Instant::now());
            self.shared.open.seen(&session, false);
        } else if let Ok(record) = serde_json::from_slice::<ActionRecord>(&entry.value) {
            self.see(session, record);
        } else {
            tracing::error!(%session, "unreadable record of an action");
        }
        metrics::actions_open(self.book.records());
    }

    fn see(&mut self, session: SessionId, record: ActionRecord) {
        self.shared.running.supersede(session.as_str(), record.n);
        self.shared.open.seen(&session, true);
        self.book.written(session, record, Instant::now());
    }

    fn count_anew(&mut self, reason: &'static str) {
        if !self.book.is_quiet() {
            metrics::watch_counted_anew(reason);
        }
        self.book.count_all_anew(Instant::now());
    }

    /// Looks which actions have lapsed, and ends them. False if silence proves nothing: the leader did not take a mark, or
    /// did not answer, soon enough.
    async fn look(&mut self, good: Duration) -> bool {
        let begun = Instant::now();
        let written = timeout(good, self.mark()).await;
        let read = timeout(good, self.read_claims()).await;
        if !matches!((written, read), (Ok(true), Ok(true))) || begun.elapsed() > good * 2 {
            return false;
        }
        let lapse = self.shared.config.lapse.get();
        let due = self.book.due(lapse, Instant::now());
        let shared = Arc::clone(&self.shared);
        let ask = |session: SessionId| {
            let shared = Arc::clone(&shared);
            async move {
                let begun = Instant::now();
                let asked = timeout(good, Ledger::read(&shared, &session)).await;
                // An answer that lay here while this process was halted is none.
                let ledger = asked.ok().and_then(Result::ok).filter(|_| begun.elapsed() <= good);
                (session, ledger)
            }
        };
        let mut answers = stream::iter(due).map(ask).buffer_unordered(QUESTIONS);
        let mut all = true;
        while let Some((session, ledger)) = answers.next().await {
            match ledger {
                Some(ledger) => self.judge(session, &ledger),
                None => all = false,
            }
        }
        all
    }

    /// Ends a session's action if it has lapsed by what the leader says, too.
    fn judge(&mut self, session: SessionId, ledger: &Ledger) {
        let now = Instant::now();
        match ledger.record() {
            Some(record) => self.see(session.clone(), record.clone()),
            None if ledger.ended() => {
                self.shared.open.seen(&session, false);
                return self.book.closed(&session);
            }
            None => {}
        }
        if let Some(n) = ledger.number() {
            self.book.opened(session.clone(), n, now);
        }
        if self.book.is_due(&session, self.shared.config.lapse.get(), now) {
            // If this bridge can't end it now, it is found again.
            self.book.count_anew(&session, now);
            self.end(session, Condition::Lapsed { revision: ledger.revision(), fence: ledger.fence() });
        }
    }

    /// Proves that the bucket takes writes. Only where somebody's silence matters.
    async fn mark(&self) -> bool {
        self.book.is_quiet() || self.shared.records.mark(&format!("watcher.{}", self.shared.bridge), MARK).await.is_ok()
    }

    /// Reads which actions were claimed since the last look.
    async fn read_claims(&mut self) -> bool {
        let Some(position) = self.position else { return false };
        // A stream has many events between two claims: those that are known to be none are not searched again. Up to the
        // head of the look before, so that whoever leads now surely knows them.
        let Ok(head) = self.shared.publisher.last(">").await else { return false };
        let request = BatchGet { filter: &self.actions, from: position + 1, batch: PAGE, max_bytes: 1 << 20 };
        let Ok(batch) = jetstream::batch_get(&self.shared.nats, EVENTS, &request).await else { return false };
        batch.messages.iter().for_each(|claim| self.note_claim(claim));
        // A replica that lags has told less than there is.
        let from = self.position.map_or(1, |position| position + 1);
        match self.shared.publisher.next(from, &self.actions).await {
            Ok(Some(claim)) => self.note_claim(&claim),
            Ok(None) => {
                let searched = std::mem::replace(&mut self.head, head.map_or(0, |head| head.sequence));
                self.position = self.position.max(Some(searched));
            }
            Err(_) => return false,
        }
        true
    }

    fn note_claim(&mut self, claim: &Stored) {
        self.position = Some(claim.sequence);
        let session = EventSubject::parse(&claim.subject).and_then(|parsed| SessionId::new(parsed.session).ok());
        let opened = serde_json::from_slice::<ActionEvent>(&claim.payload);
        if let (Some(session), Ok(opened)) = (session, opened) {
            self.shared.running.supersede(session.as_str(), opened.n);
            self.book.opened(session, opened.n, Instant::now());
        }
    }

    /// Ends a lapsed action, in a task of its own. One that can't be taken on now is found again at a later look.
    fn end(&self, session: SessionId, condition: Condition) {
        let Ok(permit) = self.shared.permit(ActionKind::Lost) else { return };
        let shared = Arc::clone(&self.shared);
        tracing::warn!(%session, "the bridge of an action is gone");
        metrics::action_lapsed();
        self.shared.tasks.spawn(async move {
            match Claim::claim(&shared, &session, ActionKind::Lost, condition, permit, "").await {
                Ok(claim) => end(claim).await,
                Err(NotClaimed::Otherwise | NotClaimed::Over | NotClaimed::Superseded) => {
                    tracing::debug!(%session, "another bridge was faster")
                }
                Err(NotClaimed::Unavailable(error)) => {
                    tracing::debug!(%session, error = &*error, "lost action not claimed");
                }
            }
        });
    }
}

async fn end(mut claim: Claim) {
    let session = claim.session().clone();
    let finished = match claim.end_predecessor(Ending::Lost).await {
        Ok(_) => claim.finish_and_claim_next().await,
        Err(failure) => Err(failure.into()),
    };
    match finished {
        Ok(Some((claim, command))) => runner::drive(claim, command).await,
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%session, error = &error as &dyn std::error::Error, "lost action not ended, its record lapses");
        }
    }
}
