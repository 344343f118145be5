//! Owning a stream: it exists, and its epoch is true.

use std::time::Duration;

use async_nats::{Message, Subject};
use herald_protocol::{Epoch, subject};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    life::{Known, Sight, StreamLife, last_common, look, next_epoch},
    watcher::{EVERY, Observer, Outcome},
};
use crate::{
    Context,
    jetstream::{
        ApiError, BucketSpec, EnsureError, StreamInfo, StreamSpec,
        ensure::{ensure_bucket, ensure_stream, set_epoch, stream_info},
        unreadable::{Removal, remove},
    },
    nats::{Nats, NatsState},
};

/// How long after a change the stream is looked at again.
const SETTLE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts to create what is missing.
const SLOWEST: Duration = Duration::from_secs(5);

/// Keeps a stream, and the buckets that belong to it, in existence, and the stream's epoch true: creates what is missing,
/// sets a new epoch when the stream was recreated or rolled back, and answers on `epoch.<stream>`. Any number of processes
/// may own the same stream. Dropping it ends that.
#[derive(Debug)]
pub struct EpochOwner {
    life: watch::Receiver<StreamLife>,
    fault: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl EpochOwner {
    /// Begins to own the stream. Its life is `Unknown` until stream and buckets exist.
    #[must_use]
    pub fn spawn(nats: &Nats, stream: StreamSpec, buckets: Vec<BucketSpec>) -> Self {
        metrics::counter!("herald_unreadable_messages_removed_total", "stream" => stream.name.clone()).increment(0);
        let life = watch::Sender::new(StreamLife::Unknown);
        let fault = watch::Sender::new(None);
        let subscribed = (life.subscribe(), fault.subscribe());
        let replaced = replace_buckets(nats.clone(), buckets.clone(), life.subscribe());
        let owner = Owner {
            nats: nats.clone(),
            observer: Observer::new(stream.name.clone(), life, fault.clone()),
            stream,
            buckets,
            fault,
        };
        let task = tokio::spawn(async move {
            tokio::join!(owner.run(), replaced);
        });
        Self { life: subscribed.0, fault: subscribed.1, task }
    }

    /// The stream's life. It changes with each look that finds another head, too.
    #[must_use]
    pub fn life(&self) -> watch::Receiver<StreamLife> {
        self.life.clone()
    }

    /// Why stream and buckets can't be created or written at the moment, for a health condition; `None` where they can.
    #[must_use]
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.clone()
    }

    /// Keeps the health condition `streams` true, until this is dropped or the process ends.
    pub fn report(&self, context: &Context) {
        let condition = context.health.condition("streams");
        let stop = context.shutdown.token();
        let (mut life, mut fault) = (self.life(), self.fault());
        context.supervise("condition of the streams", async move {
            loop {
                let state = match (*life.borrow_and_update(), fault.borrow_and_update().clone()) {
                    (_, Some(fault)) => Err(fault),
                    (StreamLife::Alive { .. }, None) => Ok(()),
                    (StreamLife::Unknown, None) => Err("not known".to_owned()),
                    (StreamLife::Rewritten, None) => Err("rewritten".to_owned()),
                };
                condition.set(state);
                let changed = async {
                    tokio::select! {
                        changed = life.changed() => changed,
                        changed = fault.changed() => changed,
                    }
                };
                if !matches!(stop.run_until_cancelled(changed).await, Some(Ok(()))) {
                    return;
                }
            }
        });
    }

    /// Waits until stream and buckets exist and the epoch is set. Safe to cancel.
    pub async fn ready(&self) -> Epoch {
        let mut life = self.life();
        loop {
            if let Some(epoch) = life.borrow_and_update().epoch() {
                return epoch;
            }
            if life.changed().await.is_err() {
                // The task ended with the runtime; whoever waits here ends with it.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for EpochOwner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Creates, for ever, the buckets that somebody has deleted. What was in them is lost; those who write there begin anew. Beside
/// the looks at the stream, as each bucket may keep it waiting for as long as a request: questions for the epoch don't wait.
async fn replace_buckets(nats: Nats, buckets: Vec<BucketSpec>, life: watch::Receiver<StreamLife>) {
    loop {
        sleep(EVERY).await;
        // Before the stream is known to exist, so are its buckets not: they are created first.
        if life.borrow().epoch().is_none() || !nats.connected() {
            continue;
        }
        for bucket in &buckets {
            if !matches!(stream_info(&nats, &bucket.stream()).await, Err(ApiError::StreamNotFound)) {
                continue;
            }
            match ensure_bucket(&nats, bucket).await {
                Ok(_) => tracing::error!(bucket = bucket.name, "bucket was deleted, created again without its records"),
                Err(error) => {
                    tracing::error!(bucket = bucket.name, %error, "bucket was deleted, not created again yet")
                }
            }
        }
    }
}

struct Owner {
    nats: Nats,
    stream: StreamSpec,
    buckets: Vec<BucketSpec>,
    observer: Observer,
    fault: watch::Sender<Option<String>>,
}

impl Owner {
    async fn run(mut self) {
        let mut questions = loop {
            // A subscription is refused only where the client is closed for good.
            let subject = subject::epoch(&self.stream.name);
            match self.nats.subscribe(subject, Some("owner".to_owned())).await {
                Ok(questions) => break questions,
                Err(error) => tracing::warn!(%error, "can't subscribe to the questions for the epoch"),
            }
            sleep(SLOWEST).await;
        };
        self.ensure().await;
        let mut state = self.nats.state();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                Ok(()) = state.changed() => {}
                Some(question) = questions.next() => {
                    self.answer(question).await;
                    continue;
                }
            }
            if *state.borrow_and_update() == NatsState::Disconnected {
                next = Instant::now() + Outcome::NoAnswer.pause();
                continue;
            }
            let outcome = self.observer.look(&self.nats, None).await;
            next = Instant::now() + outcome.pause();
            if let Outcome::Rewritten(known) | Outcome::Nameless(known) | Outcome::Unnamed(known) = outcome {
                match self.renew(&known).await {
                    // Soon, not at once: what was just written may take a moment to be seen.
                    Ok(_) => next = Instant::now() + SETTLE,
                    Err(error) => tracing::warn!(stream = self.stream.name, %error, "can't set a new epoch yet"),
                }
            }
        }
    }

    /// Creates what is missing, for as long as it takes.
    async fn ensure(&self) {
        let mut pause = Duration::from_millis(250);
        loop {
            let error = match self.ensure_once().await {
                Ok(()) => {
                    self.fault.send_replace(None);
                    return;
                }
                Err(error) => error,
            };
            let news = self.fault.send_if_modified(|fault| {
                let text = error.to_string();
                let news = fault.as_ref() != Some(&text);
                *fault = Some(text);
                news
            });
            if news {
                tracing::warn!(stream = self.stream.name, %error, "stream and buckets can't be had yet");
            }
            sleep(pause).await;
            pause = (pause * 2).min(SLOWEST);
        }
    }

    async fn ensure_once(&self) -> Result<(), EnsureError> {
        for bucket in &self.buckets {
            ensure_bucket(&self.nats, bucket).await?;
        }
        // Last, so that a stream that is alive has its buckets.
        ensure_stream(&self.nats, &self.stream).await.map(drop)
    }

    /// Makes the stream's epoch one that whoever knows `known` has never seen, if `known` is not what the stream shows.
    async fn renew(&mut self, known: &Known) -> Result<Option<Epoch>, ApiError> {
        let sight = look(&self.nats, &self.stream.name, known, None).await?;
        let (info, anchor) = match sight {
            Sight::Renewed(epoch, _) => return Ok(Some(epoch)),
            Sight::Same(info) if info.epoch.is_some() => return Ok(info.epoch),
            // The metadata was lost, the life was not.
            Sight::Same(info) => return self.set(known.epoch().unwrap_or_else(|| Epoch::of(&info.created, 0))).await,
            Sight::Nameless | Sight::Mismatch(None, _) => {
                self.ensure().await;
                return Ok(None);
            }
            Sight::Mismatch(Some(info), anchor) => (info, anchor),
        };
        let epoch = self.following(&info, known, anchor).await?;
        self.set(epoch).await
    }

    async fn following(
        &self,
        info: &StreamInfo,
        known: &Known,
        anchor: Option<super::Anchor>,
    ) -> Result<Epoch, ApiError> {
        if info.created != known.created {
            let first = Epoch::of(&info.created, 0);
            return Ok(if known.seen.contains(&first) { next_epoch(info, &known.seen, 0) } else { first });
        }
        Ok(next_epoch(info, &known.seen, last_common(&self.nats, info, anchor).await?))
    }

    async fn set(&self, epoch: Epoch) -> Result<Option<Epoch>, ApiError> {
        let info = set_epoch(&self.nats, &self.stream.name, epoch).await?;
        tracing::warn!(stream = self.stream.name, %epoch, head = info.last_seq, "stream has a new epoch");
        Ok(info.epoch)
    }

    async fn answer(&mut self, question: Message) {
        let Some(reply) = question.reply.filter(|reply| subject::is_inbox(reply)) else { return };
        if let Ok(Removal { unreadable }) = serde_json::from_slice(&question.payload) {
            let removed = remove(&self.nats, &self.stream.name, unreadable).await.unwrap_or_else(|error| {
                tracing::warn!(stream = self.stream.name, sequence = unreadable, %error, "can't be removed");
                false
            });
            return self.say(reply, json!({"removed": removed})).await;
        }
        let answer = match serde_json::from_slice::<Known>(&question.payload) {
            Ok(known) => match self.renew(&known).await {
                Ok(epoch) => json!({"epoch": epoch}),
                Err(error) => {
                    tracing::warn!(stream = self.stream.name, %error, "a question for the epoch can't be answered yet");
                    json!({"error": "the stream does not answer"})
                }
            },
            Err(error) => {
                tracing::warn!(stream = self.stream.name, %error, "a question for the epoch can't be understood");
                json!({"error": "not understood"})
            }
        };
        self.say(reply, answer).await;
    }

    async fn say(&self, reply: Subject, answer: Value) {
        if let Err(error) = self.nats.client().publish(reply, answer.to_string().into()).await {
            tracing::debug!(%error, "the answer could not be sent");
        }
    }
}
