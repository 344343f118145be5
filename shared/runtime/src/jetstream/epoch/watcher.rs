//! Noticing that a stream's life has ended.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::Request;
use herald_protocol::{Epoch, subject};
use serde::Deserialize;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::life::{Anchor, Known, Sight, StreamLife, look};
use crate::nats::{Nats, NatsState};

/// How often the leader is asked.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// How soon the leader is asked again where it did not answer: whoever waits for its word waits no longer than it must.
const AGAIN: Duration = Duration::from_millis(300);
/// Trouble that lasts longer is told: an election may take nine seconds, and is over by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// A mismatch counts when it is seen again so much later: a leader just elected may answer from behind.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// Follows the life of a stream that somebody else owns. Dropping it ends the following.
#[derive(Debug)]
pub struct EpochWatcher {
    life: watch::Receiver<StreamLife>,
    fault: watch::Receiver<Option<String>>,
    position: Arc<Mutex<Option<(Epoch, Anchor)>>>,
    wanted: watch::Sender<u64>,
    done: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl EpochWatcher {
    /// Begins to follow `stream`; its life is `Unknown` until the leader has answered and the owner has set an epoch.
    #[must_use]
    pub fn spawn(nats: &Nats, stream: &str) -> Self {
        let life = watch::Sender::new(StreamLife::Unknown);
        let wanted = watch::Sender::new(0);
        let done = watch::Sender::new(0);
        let position = Arc::new(Mutex::new(None));
        let fault = watch::Sender::new(None);
        let subscribed = (life.subscribe(), fault.subscribe());
        let observer = Observer::new(stream.to_owned(), life, fault);
        Self {
            life: subscribed.0,
            fault: subscribed.1,
            position: Arc::clone(&position),
            done: done.subscribe(),
            task: tokio::spawn(follow(nats.clone(), observer, position, wanted.subscribe(), done)),
            wanted,
        }
    }

    /// Why nothing can be stored in the stream, or known of it, for longer than an election takes; for a health condition.
    #[must_use]
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.clone()
    }

    /// The stream's life. It changes with each look that finds another head, too.
    #[must_use]
    pub fn life(&self) -> watch::Receiver<StreamLife> {
        self.life.clone()
    }

    /// Says how far a consumer in this process has come in the life named `epoch`: the next looks compare that message, too.
    /// Cheap enough for every message.
    pub fn position(&self, epoch: Epoch, seq: u64, time_ns: u64) {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        *position = Some((epoch, Anchor { seq, time_ns }));
    }

    /// Looks now, for whoever has seen something odd (a message at the own position with another time), and waits for what
    /// comes of it: `Alive` or `Rewritten` beyond doubt. Waits for as long as NATS is away. Safe to cancel.
    pub async fn check(&self) -> StreamLife {
        let mut number = 0;
        self.wanted.send_modify(|wanted| {
            *wanted += 1;
            number = *wanted;
        });
        // The task lives as long as `self`.
        let mut done = self.done.clone();
        let _alive = done.wait_for(|done| *done >= number).await.is_ok();
        *self.life.borrow()
    }
}

impl Drop for EpochWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    nats: Nats,
    mut observer: Observer,
    position: Arc<Mutex<Option<(Epoch, Anchor)>>>,
    mut wanted: watch::Receiver<u64>,
    done: watch::Sender<u64>,
) {
    let mut state = nats.state();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(next) => {}
            Ok(()) = state.changed() => {}
            Ok(()) = wanted.changed() => {}
        }
        let number = *wanted.borrow_and_update();
        if *state.borrow_and_update() == NatsState::Disconnected {
            next = Instant::now() + EVERY;
            continue;
        }
        let reported = *position.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = observer.look(&nats, reported).await;
        if matches!(outcome, Outcome::Same | Outcome::Unnamed(_) | Outcome::Rewritten(_)) {
            done.send_replace(number);
        }
        next = Instant::now() + outcome.pause();
        if let Outcome::Rewritten(question) | Outcome::Nameless(question) | Outcome::Unnamed(question) = outcome
            && ask(&nats, &observer.stream, &question).await.is_some_and(|epoch| !question.seen.contains(&epoch))
        {
            next = Instant::now();
        }
    }
}

/// Asks the owner to look, and for the epoch after that. Only what the stream itself shows counts in the end.
async fn ask(nats: &Nats, stream: &str, question: &Known) -> Option<Epoch> {
    #[derive(Deserialize)]
    struct Answer {
        epoch: Option<Epoch>,
    }
    let payload = serde_json::to_vec(question).ok()?;
    let request = Request::new().payload(payload.into()).timeout(Some(EVERY));
    match nats.client().send_request(subject::epoch(stream), request).await {
        Ok(answer) => serde_json::from_slice::<Answer>(&answer.payload).ok()?.epoch,
        Err(error) => {
            tracing::debug!(stream, %error, "the stream's owner does not answer");
            None
        }
    }
}

/// What came of one look.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The leader did not answer, or said nothing that can be used.
    NoAnswer,
    /// The stream lives: the known life, or one that has just been adopted.
    Same,
    /// The known life goes on, but its name was lost with the stream's metadata.
    Unnamed(Known),
    /// A mismatch, seen for the first time.
    Doubt,
    /// A mismatch, confirmed; with the evidence.
    Rewritten(Known),
    /// No epoch was ever seen.
    Nameless(Known),
}

impl Outcome {
    /// How long until the next look.
    pub(super) const fn pause(&self) -> Duration {
        match self {
            Self::Same | Self::Unnamed(_) => EVERY,
            Self::NoAnswer => AGAIN,
            Self::Doubt | Self::Rewritten(_) | Self::Nameless(_) => CONFIRM_AFTER,
        }
    }
}

/// Looks, remembers, and says how the stream's life looks.
pub(super) struct Observer {
    pub(super) stream: String,
    pub(super) known: Known,
    doubt: Option<Instant>,
    life: watch::Sender<StreamLife>,
    fault: watch::Sender<Option<String>>,
    /// Since when nothing can be stored, or known.
    trouble: Option<Instant>,
}

impl Observer {
    pub(super) fn new(stream: String, life: watch::Sender<StreamLife>, fault: watch::Sender<Option<String>>) -> Self {
        Self { stream, known: Known::default(), doubt: None, life, fault, trouble: None }
    }

    /// One look at the leader, and what it means. `position` counts only in the life it was reported for.
    pub(super) async fn look(&mut self, nats: &Nats, position: Option<(Epoch, Anchor)>) -> Outcome {
        let position = position.filter(|(epoch, _)| Some(*epoch) == self.known.epoch()).map(|(_, anchor)| anchor);
        let began = Instant::now();
        let looked = look(nats, &self.stream, &self.known, position).await;
        self.note(began, looked.as_ref().map_or_else(|error| Some(error.to_string()), Sight::trouble));
        match looked {
            Ok(sight) => self.judge(sight),
            Err(error) => {
                tracing::debug!(stream = self.stream, %error, "the stream's leader does not answer");
                Outcome::NoAnswer
            }
        }
    }

    /// Tells of trouble that lasts, and of its end.
    fn note(&mut self, looked: Instant, trouble: Option<String>) {
        self.trouble = trouble.as_ref().map(|_| self.trouble.unwrap_or(looked));
        if trouble.is_none() || self.trouble.is_some_and(|since| since.elapsed() >= PATIENCE) {
            self.fault.send_if_modified(|fault| {
                let news = *fault != trouble;
                *fault = trouble;
                news
            });
        }
    }

    fn judge(&mut self, sight: Sight) -> Outcome {
        match sight {
            Sight::Same(info) => {
                self.doubt = None;
                self.known.raise(&info);
                self.show(self.known.epoch().map_or(StreamLife::Unknown, |epoch| StreamLife::Alive {
                    epoch,
                    first: info.first_seq,
                    last: info.last_seq,
                }));
                if info.epoch.is_none() { Outcome::Unnamed(self.known.clone()) } else { Outcome::Same }
            }
            Sight::Renewed(epoch, info) => {
                self.doubt = None;
                tracing::info!(stream = self.stream, %epoch, former = ?self.known.epoch(), head = info.last_seq, "stream found");
                self.known.adopt(epoch, &info);
                self.show(StreamLife::Alive { epoch, first: info.first_seq, last: info.last_seq });
                Outcome::Same
            }
            Sight::Nameless => Outcome::Nameless(self.known.clone()),
            Sight::Mismatch(info, anchor) => {
                let since = *self.doubt.get_or_insert_with(Instant::now);
                let head = info.map(|info| info.last_seq);
                if since.elapsed() < CONFIRM_AFTER {
                    tracing::warn!(
                        stream = self.stream,
                        ?head,
                        ?anchor,
                        "stream is not the one we know, looking again"
                    );
                    self.show(StreamLife::Unknown);
                    return Outcome::Doubt;
                }
                if self.show(StreamLife::Rewritten) {
                    let epoch = self.known.epoch();
                    tracing::error!(
                        stream = self.stream,
                        ?head,
                        ?anchor,
                        ?epoch,
                        "stream was recreated or rolled back"
                    );
                }
                Outcome::Rewritten(Known { anchor, ..self.known.clone() })
            }
        }
    }

    /// Whether that was news.
    fn show(&self, life: StreamLife) -> bool {
        self.life.send_if_modified(|old| std::mem::replace(old, life) != life)
    }
}
