//! What the intake does, round by round.

use std::{convert::Infallible, error::Error, pin::pin, sync::Arc, time::Duration};

use async_nats::{Message, Subject};
use bytes::Bytes;
use herald_protocol::{Epoch, TraceContext, subject::PURGED_END};
use herald_runtime::{
    Context,
    health::Condition,
    jetstream::{
        ApiError, BatchGet, Stored, ask_removal, batch_get,
        epoch::{EpochWatcher, StreamLife},
        next_unreadable, stream_info,
    },
    nats::{Nats, NatsState},
    traces,
};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at},
};

use super::{
    Life, Rings,
    consumer::{Consumer, CreateError, Fault},
    pace::Pace,
    position::{Delivery, Position, Verdict},
};
use crate::{config::IntakeConfig, event::Event};

/// How often the server says that there is nothing to say.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// So many heartbeats may be missing before the consumer is taken for dead: one may be late on a loaded machine.
const MISSED_HEARTBEATS: u32 = 3;
/// How often the stream is read while there is no consumer, how much at a time, and how long that may take.
const READ_ALONG: Duration = Duration::from_millis(200);
const READ_BATCH: u32 = 512;
const READ_BYTES: u32 = 4 << 20;
const READ_WITHIN: Duration = Duration::from_secs(1);
/// A look at the stream that takes longer than this is worth saying: nothing is taken in meanwhile.
const LATE: Duration = Duration::from_secs(2);
/// The first pause before a consumer that failed is created again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// So often the intake may begin anew at the same place before it looks at what stands there.
const STUCK: u32 = 2;
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// At most one log line about broken events in this time; all of them are counted.
const QUIET: Duration = Duration::from_secs(10);

/// The task behind an [`super::Intake`].
pub(super) struct Actor<R> {
    nats: Nats,
    stream: String,
    description: String,
    skip: u64,
    burst_time: Duration,
    burst_bytes: usize,
    rings: Arc<R>,
    watcher: Arc<EpochWatcher>,
    life: watch::Receiver<StreamLife>,
    fault: watch::Receiver<Option<String>>,
    state: watch::Receiver<NatsState>,
    condition: Condition,
    meters: Meters,
    /// The life the position belongs to.
    epoch: Option<Epoch>,
    suspended: bool,
    position: Position,
    broken_logged: Option<Instant>,
    pace: Pace,
}

struct Meters {
    stream: String,
    taken: Counter,
    no_event: Counter,
    broken: Counter,
    skipped: Counter,
    vanished: Counter,
    unreadable: Counter,
    pending: Gauge,
}

/// Why a consumer's time was over.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("no consumer")]
    NotCreated(#[from] CreateError),
    #[error("the consumer failed")]
    Failed(#[from] Fault),
    #[error("nothing was heard of the consumer")]
    Silent,
    #[error("too much waits to be taken in")]
    Backlog,
    #[error("the stream's head is not known")]
    NoHead(#[source] ApiError),
    #[error("the message at the own position is another one")]
    Rewritten,
    #[error("the stream's life is in doubt")]
    InDoubt,
    #[error("the connection is another one")]
    Reconnected,
}

impl<R: Rings> Actor<R> {
    pub(super) fn new(
        nats: &Nats,
        stream: &str,
        watcher: Arc<EpochWatcher>,
        config: &IntakeConfig,
        rings: Arc<R>,
        context: &Context,
    ) -> Self {
        let condition = context.health.condition(&format!("stream {stream}"));
        condition.fail("waiting for the stream");
        Self {
            nats: nats.clone(),
            stream: stream.to_owned(),
            description: format!("intake of {} {}", context.service, context.instance),
            skip: config.skip,
            burst_time: config.burst_time.get(),
            burst_bytes: config.burst_bytes.as_usize(),
            rings,
            life: watcher.life(),
            fault: watcher.fault(),
            state: nats.state(),
            watcher,
            condition,
            meters: Meters::new(stream),
            epoch: None,
            suspended: true,
            position: Position::behind(0),
            broken_logged: None,
            pace: Pace::new(config.burst_time.get()),
        }
    }

    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let connection = self.connected().await;
            self.settle().await;
            self.alive().await;
            if failures >= STUCK {
                self.unblock().await;
            }
            let begun = self.position;
            let end = self.consume(connection).await;
            self.report_position();
            self.meters.ended(&end);
            failures = if self.position == begun { failures + 1 } else { 0 };
            match &end {
                // Nothing failed; the next round looks at what changed.
                End::InDoubt | End::Reconnected => {
                    tracing::info!(stream = self.stream, reason = %end, at = self.position.seq, "intake begins again");
                }
                End::Backlog if self.position != begun => {}
                end => {
                    let at = self.position.seq;
                    tracing::warn!(stream = self.stream, error = end as &dyn Error, at, "intake begins again");
                    self.pause(failures).await;
                }
            }
        }
    }

    /// Where the place itself, or the message behind it, can't be read, the stream's owner is asked to remove it. If nobody
    /// does, the intake steps over it: here it goes on, and who reads the past of that session will fail.
    async fn unblock(&mut self) {
        let from = self.position.start();
        let look = next_unreadable(&self.nats, &self.stream, &[">"], from, 2);
        let Ok(Ok(Some(seq))) = timeout(READ_WITHIN, look).await else { return };
        if ask_removal(&self.nats, &self.stream, seq).await {
            return;
        }
        tracing::error!(stream = self.stream, seq, "a message that can't be read was skipped, and nobody removes it");
        self.meters.unreadable.increment(1);
        if seq > self.position.seq + 1 {
            self.rings.mark_broken(seq - 1);
        }
        self.position = Position::over(seq);
        self.rings.advance(seq);
    }

    /// Waits for the connection; returns which one it is.
    async fn connected(&mut self) -> NatsState {
        if !self.nats.connected() {
            self.condition.fail("not connected to NATS");
        }
        // The sender lives as long as `nats`.
        let connected = self.state.wait_for(|state| matches!(state, NatsState::Connected { .. })).await;
        connected.map_or(NatsState::Disconnected, |state| *state)
    }

    /// Has the stream looked at, with the own position, until it is beyond doubt whether it is still the same.
    async fn settle(&mut self) {
        self.report_position();
        let mut looked = pin!(self.watcher.check());
        let mut late = pin!(sleep(LATE));
        let mut is_late = false;
        loop {
            // The doubt counts from the moment it is there, not from when it is settled.
            if self.life.borrow_and_update().epoch().is_none() {
                hold(&*self.rings, &mut self.suspended);
            }
            tokio::select! {
                _ = &mut looked => return,
                Ok(()) = self.life.changed() => {}
                () = &mut late, if !is_late => {
                    is_late = true;
                    if self.epoch.is_some() {
                        self.condition.fail("the stream does not answer");
                    }
                }
            }
        }
    }

    /// Waits until the stream is alive, and moves into its life.
    async fn alive(&mut self) {
        loop {
            let life = *self.life.borrow_and_update();
            if let StreamLife::Alive { epoch, last, .. } = life {
                return self.enter(epoch, last);
            }
            hold(&*self.rings, &mut self.suspended);
            self.condition.fail(match life {
                StreamLife::Rewritten => "stream is gone or another one, waiting for its owner",
                _ => "waiting for the stream",
            });
            // The sender lives as long as `watcher`.
            let _changed = self.life.changed().await;
        }
    }

    fn enter(&mut self, epoch: Epoch, head: u64) {
        if self.epoch != Some(epoch) {
            tracing::info!(stream = self.stream, %epoch, head, "intake takes up the stream");
            self.epoch = Some(epoch);
            self.position = Position::behind(head);
            self.rings.reset(Life { epoch, head });
        } else if self.suspended {
            self.rings.resume();
        }
        self.suspended = false;
    }

    /// What is delivered is taken in; whether anything can be stored is another matter, and worth saying.
    fn show_fault(&mut self) {
        self.condition.set(self.fault.borrow_and_update().clone().map_or(Ok(()), Err));
    }

    fn report_position(&self) {
        if let (Some(epoch), Some(time_ns)) = (self.epoch, self.position.time_ns) {
            self.watcher.position(epoch, self.position.seq, time_ns);
        }
    }

    /// Takes what one consumer delivers, until its end.
    async fn consume(&mut self, connection: NatsState) -> End {
        match self.consume_from_here(connection).await {
            Ok(never) => match never {},
            Err(End::Backlog) => self.skip().await,
            Err(End::NotCreated(error)) => {
                self.condition.fail("no consumer can be created");
                End::NotCreated(error)
            }
            Err(end) => end,
        }
    }

    async fn consume_from_here(&mut self, connection: NatsState) -> Result<Infallible, End> {
        let (mut consumer, pending) = self.create(connection).await?;
        if pending > self.skip {
            return Err(End::Backlog);
        }
        // A stream made anew between the last look and this consumer would deliver its events as the old one's.
        self.settle().await;
        if self.suspended || self.life.borrow_and_update().epoch() != self.epoch {
            return Err(End::InDoubt);
        }
        self.show_fault();
        let patience = HEARTBEAT * MISSED_HEARTBEATS;
        // The timer is not set anew for each message: when it is up, it looks how long ago the last one was.
        let (mut silence, mut heard) = (pin!(sleep(patience)), Instant::now());
        loop {
            tokio::select! {
                // What may make the deliveries worthless is looked at before them; they come before the silence, as one
                // that waits proves the opposite.
                biased;
                Ok(()) = self.life.changed() => {
                    if self.life.borrow_and_update().epoch() != self.epoch {
                        return Err(End::InDoubt);
                    }
                }
                Ok(()) = self.state.changed() => {
                    if *self.state.borrow_and_update() != connection {
                        return Err(End::Reconnected);
                    }
                }
                Ok(()) = self.fault.changed() => self.show_fault(),
                message = consumer.receive() => {
                    let begun = std::time::Instant::now();
                    self.burst(&mut consumer, message?).await?;
                    self.report_position();
                    self.pace.rest(begun).await;
                    heard = Instant::now();
                }
                () = &mut silence => {
                    if heard.elapsed() >= patience {
                        return Err(End::Silent);
                    }
                    silence.as_mut().reset(heard + patience);
                }
            }
        }
    }

    /// Creates a consumer. In a cluster that may take as long as an election, for which the stream itself need not wait:
    /// meanwhile it is read without one.
    async fn create(&mut self, connection: NatsState) -> Result<(Consumer, u64), End> {
        let (nats, stream, description) = (self.nats.clone(), self.stream.clone(), self.description.clone());
        let start = self.position.start();
        let mut creating = pin!(Consumer::create(&nats, &stream, start, HEARTBEAT, &description));
        let mut reads = interval_at(Instant::now() + READ_ALONG, READ_ALONG);
        reads.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.life.changed() => {
                    if self.life.borrow_and_update().epoch() != self.epoch {
                        return Err(End::InDoubt);
                    }
                }
                Ok(()) = self.state.changed() => {
                    if *self.state.borrow_and_update() != connection {
                        return Err(End::Reconnected);
                    }
                }
                created = &mut creating => return Ok(created?),
                _ = reads.tick() => self.read_along().await?,
            }
        }
    }

    /// Takes what any replica has behind the own position, if that is the same message there: a replica may lag, but what
    /// it has is the log.
    async fn read_along(&mut self) -> Result<(), End> {
        let Some(time_ns) = self.position.time_ns else { return Ok(()) };
        let request = BatchGet { filter: ">", from: self.position.seq, batch: READ_BATCH, max_bytes: READ_BYTES };
        let read = timeout(READ_WITHIN, batch_get(&self.nats, &self.stream, &request)).await;
        let Ok(Ok(batch)) = read else { return Ok(()) };
        let same = |first: &Stored| (first.sequence, first.time_ns) == (self.position.seq, time_ns);
        if !batch.messages.first().is_some_and(same) {
            return Ok(());
        }
        let mut messages = batch.messages.into_iter();
        let taken = messages.try_for_each(|Stored { sequence: seq, time_ns, subject, payload, .. }| {
            self.take(&Delivery { consumer_seq: 0, seq, time_ns, pending: batch.pending }, subject, payload, None)
        });
        self.rings.flush();
        taken?;
        self.report_position();
        Ok(())
    }

    /// Takes a message and those behind it, then has them delivered together: one write for many.
    async fn burst(&mut self, consumer: &mut Consumer, message: Message) -> Result<(), End> {
        let gathered = self.gather(consumer, message).await;
        self.rings.flush();
        let Some(pending) = gathered? else { return Ok(()) };
        self.meters.pending.set(pending as f64);
        if pending > self.skip { Err(End::Backlog) } else { Ok(()) }
    }

    /// Takes a message and those behind it: what has arrived, and what is on its way (the server says with each how many
    /// it has behind it), up to the limits of a burst. Returns how many the server has left, if it said so.
    async fn gather(&mut self, consumer: &mut Consumer, message: Message) -> Result<Option<u64>, End> {
        let (mut next, mut pending, mut bytes, mut until) = (Some(Ok(message)), None, 0, None);
        loop {
            let message = match next.take().or_else(|| consumer.received()) {
                Some(message) => message?,
                None if pending.is_none_or(|pending| pending == 0) => break,
                None => {
                    let until = *until.get_or_insert_with(|| Instant::now() + self.burst_time);
                    let Ok(message) = timeout_at(until, consumer.receive()).await else { break };
                    message?
                }
            };
            if let Some(delivery) = consumer.accept(&message).await? {
                bytes += message.length;
                let trace = traces::incoming(message.headers.as_ref()).filter(|context| context.sampled);
                self.take(&delivery, message.subject, message.payload, trace)?;
                pending = Some(delivery.pending);
            }
            if bytes >= self.burst_bytes {
                break;
            }
        }
        Ok(pending)
    }

    fn take(
        &mut self,
        delivery: &Delivery,
        subject: Subject,
        payload: Bytes,
        trace: Option<TraceContext>,
    ) -> Result<(), End> {
        let before = self.position.seq;
        match self.position.judge(delivery) {
            Verdict::New if delivery.seq > before + 1 => {
                // Trimmed or deleted before it was delivered. Whose it was can't be known: history says what is left.
                self.meters.vanished.increment(delivery.seq - before - 1);
                self.rings.mark_broken(delivery.seq - 1);
            }
            Verdict::New => {}
            Verdict::Known => return Ok(()),
            Verdict::Rewritten => return Err(End::Rewritten),
        }
        if subject.ends_with(PURGED_END) {
            self.purged(delivery.seq, &subject, &payload);
        }
        match Event::parse(subject.clone(), delivery.seq, delivery.time_ns / 1_000_000, payload) {
            Some(mut event) => {
                (event.time_ns, event.trace) = (delivery.time_ns, trace.map(Box::new));
                self.rings.append(&event);
                self.meters.taken.increment(1);
            }
            None => {
                self.rings.advance(delivery.seq);
                self.no_event(&subject, delivery.seq);
            }
        }
        Ok(())
    }

    /// Perhaps word that a session is being removed.
    fn purged(&self, seq: u64, subject: &str, payload: &[u8]) {
        if subject.split('.').count() != 2 {
            return;
        }
        match serde_json::from_slice(payload) {
            Ok(purged) => self.rings.purged(seq, &purged),
            Err(error) => tracing::warn!(stream = self.stream, %error, "unreadable word of a removed session"),
        }
    }

    /// A message of the stream that is no event: a command (fewer than three tokens), or something broken.
    fn no_event(&mut self, subject: &str, seq: u64) {
        if subject.split('.').count() < 3 {
            self.meters.no_event.increment(1);
            return;
        }
        self.meters.broken.increment(1);
        if self.broken_logged.is_none_or(|logged| logged.elapsed() >= QUIET) {
            self.broken_logged = Some(Instant::now());
            tracing::warn!(stream = self.stream, subject, seq, "an event without a valid session id was skipped");
        }
    }

    /// Leaves out everything up to the head.
    async fn skip(&mut self) -> End {
        let info = match stream_info(&self.nats, &self.stream).await {
            Ok(info) => info,
            Err(error) => return End::NoHead(error),
        };
        let left_out = info.last_seq.saturating_sub(self.position.seq);
        if left_out > 0 {
            tracing::warn!(stream = self.stream, left_out, head = info.last_seq, "intake was too far behind");
            self.meters.skipped.increment(left_out);
            self.position = Position::behind(info.last_seq);
            self.rings.mark_broken(info.last_seq);
        }
        End::Backlog
    }

    async fn pause(&self, failures: u32) {
        let longest = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE);
        // Jitter: edges that lost the same server don't come back in step.
        sleep(longest.mul_f64(rand::random_range(0.5..=1.0))).await;
    }
}

/// Suspends the rings, once.
fn hold(rings: &impl Rings, suspended: &mut bool) {
    if !std::mem::replace(suspended, true) {
        rings.suspend();
    }
}

/// Why a consumer is begun anew.
const RESTARTS: [&str; 9] =
    ["not_created", "hole", "failed", "silent", "backlog", "no_head", "rewritten", "in_doubt", "reconnected"];

fn restarts(stream: &str, reason: &'static str) -> Counter {
    counter!("herald_intake_restarts_total", "stream" => stream.to_owned(), "reason" => reason)
}

impl Meters {
    fn new(stream: &str) -> Self {
        // That there were none yet is worth knowing, too.
        RESTARTS.iter().for_each(|reason| restarts(stream, reason).increment(0));
        let left_out = |reason: &'static str| counter!("herald_intake_skipped_messages_total", "stream" => stream.to_owned(), "reason" => reason);
        Self {
            stream: stream.to_owned(),
            taken: counter!("herald_intake_events_total", "stream" => stream.to_owned()),
            no_event: left_out("command"),
            broken: left_out("broken"),
            skipped: left_out("backlog"),
            vanished: left_out("vanished"),
            unreadable: left_out("unreadable"),
            pending: gauge!("herald_intake_pending_count", "stream" => stream.to_owned()),
        }
    }

    fn ended(&self, end: &End) {
        let reason = match end {
            End::NotCreated(_) => "not_created",
            End::Failed(Fault::Hole) => "hole",
            End::Failed(_) => "failed",
            End::Silent => "silent",
            End::Backlog => "backlog",
            End::NoHead(_) => "no_head",
            End::Rewritten => "rewritten",
            End::InDoubt => "in_doubt",
            End::Reconnected => "reconnected",
        };
        restarts(&self.stream, reason).increment(1);
    }
}
