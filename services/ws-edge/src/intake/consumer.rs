//! An ordered push consumer that hides nothing.
//!
//! The library's own ordered consumer recreates itself behind the last message it delivered. So it can't show that the
//! message at that place has become another one, it falls back to the stream's beginning when it has delivered nothing, and
//! it tries for ever and without a word when the stream is gone. This one is created, delivers without a hole, and ends
//! with a reason; whoever owns it knows the place, looks at the stream, and creates the next one.

use std::time::Duration;

use async_nats::{
    Client, Message, StatusCode, Subject, SubscribeError, Subscriber,
    header::{HeaderMap, NATS_LAST_CONSUMER},
    jetstream::{
        consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, push},
        stream::ConsumerError,
    },
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use herald_runtime::nats::Nats;
use tokio::time::{Instant, sleep, timeout};

use super::position::Delivery;

/// A consumer nobody listens to any more is removed by the server after this time.
const INACTIVE: Duration = Duration::from_secs(10);
/// In a heartbeat: where to say that what was sent has arrived, as the server waits for that.
const STALLED: &str = "Nats-Consumer-Stalled";
/// How long to wait before the server is asked again for a consumer: the request may have come to nobody. It is the same one,
/// by its name, so it is made once.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The pause before a server that can't make one now, as the cluster elects its leader, is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long all that may take.
const CREATED_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer to the server may wait for its place in the connection's queue.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// One consumer of a stream, from its creation to the first hole.
pub(super) struct Consumer {
    client: Client,
    messages: Subscriber,
    continuity: Continuity,
}

/// Why a consumer could not be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    #[error("can't subscribe to the consumer's messages")]
    Subscribe(#[source] SubscribeError),
    #[error("the server created no consumer")]
    Create(#[source] ConsumerError),
    #[error("the server did not answer the request for a consumer")]
    Unanswered,
}

/// Why a consumer is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// A delivery went missing: dropped by a full queue, or the server's consumer is another one.
    #[error("a delivery is missing")]
    Hole,
    /// The server ended it.
    #[error("the server ended the consumer with status {0}")]
    Ended(u16),
    /// The subscription is over: the client was closed.
    #[error("the subscription ended")]
    Closed,
    /// The server could not be told that messages have arrived.
    #[error("flow control could not be answered")]
    Mute,
}

impl Consumer {
    /// Creates a consumer that delivers from sequence `start` on. Also returns how many messages wait for it.
    pub(super) async fn create(
        nats: &Nats,
        stream: &str,
        start: u64,
        heartbeat: Duration,
        description: &str,
    ) -> Result<(Self, u64), CreateError> {
        let client = nats.client();
        let inbox = client.new_inbox();
        // Before the consumer exists: nothing it sends is missed.
        let messages = client.subscribe(inbox.clone()).await.map_err(CreateError::Subscribe)?;
        let config = push::Config {
            // As unique as its inbox.
            name: inbox.rsplit('.').next().map(str::to_owned),
            deliver_subject: inbox,
            description: Some(description.to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            max_deliver: 1,
            flow_control: true,
            idle_heartbeat: heartbeat,
            inactive_threshold: INACTIVE,
            num_replicas: 1,
            memory_storage: true,
            ..push::Config::default()
        };
        let jetstream = nats.jetstream();
        let deadline = Instant::now() + CREATED_WITHIN;
        let created = loop {
            let creating = jetstream.create_consumer_on_stream(config.clone(), stream);
            let in_time = Instant::now() + ASK_AGAIN < deadline;
            match timeout(ASK_AGAIN, creating).await {
                Ok(Ok(created)) => break created,
                Ok(Err(_)) if in_time => sleep(PAUSE).await,
                Ok(Err(error)) => return Err(CreateError::Create(error)),
                Err(_) if in_time => {}
                Err(_) => return Err(CreateError::Unanswered),
            }
        };
        let pending = created.cached_info().num_pending;
        Ok((Self { client, messages, continuity: Continuity::default() }, pending))
    }

    /// Whatever the server sends next. Safe to cancel.
    pub(super) async fn receive(&mut self) -> Result<Message, Fault> {
        self.messages.next().await.ok_or(Fault::Closed)
    }

    /// What has arrived already, if anything has.
    pub(super) fn received(&mut self) -> Option<Result<Message, Fault>> {
        self.receive().now_or_never()
    }

    /// What a received message is to the intake: a delivery, or nothing (then the server was answered, if it asked).
    pub(super) async fn accept(&mut self, message: &Message) -> Result<Option<Delivery>, Fault> {
        let answer_to = match self.continuity.check(message)? {
            Signal::Delivery(delivery) => return Ok(Some(delivery)),
            Signal::Alive => return Ok(None),
            Signal::Question(subject) => subject,
        };
        match timeout(ANSWER_WITHIN, self.client.publish(answer_to, Bytes::new())).await {
            Ok(Ok(())) => Ok(None),
            _ => Err(Fault::Mute),
        }
    }
}

/// What a message of a consumer says.
#[derive(Debug, PartialEq, Eq)]
enum Signal {
    /// An event, without a hole before it.
    Delivery(Delivery),
    /// The consumer lives, and nothing is missing.
    Alive,
    /// The same, and the server wants a word on that subject before it goes on.
    Question(Subject),
}

/// Checks that nothing is missing.
#[derive(Debug, Default)]
struct Continuity {
    /// Number of the last delivery.
    delivered: u64,
}

impl Continuity {
    fn check(&mut self, message: &Message) -> Result<Signal, Fault> {
        // First: a message of the stream may have a status, too, if its publisher gave it one.
        let Some(delivery) = message.reply.as_deref().and_then(Delivery::parse) else {
            match message.status {
                None => {}
                Some(StatusCode::IDLE_HEARTBEAT) => return self.heartbeat(message),
                Some(status) => return Err(Fault::Ended(status.as_u16())),
            }
            // Not from the consumer: somebody else knows the inbox.
            tracing::warn!("a message that is no delivery came to the consumer's inbox, skipped");
            return Ok(Signal::Alive);
        };
        if delivery.consumer_seq != self.delivered + 1 {
            return Err(Fault::Hole);
        }
        self.delivered = delivery.consumer_seq;
        Ok(Signal::Delivery(delivery))
    }

    /// A heartbeat or a flow control question: both come with this status, in order with the deliveries.
    fn heartbeat(&self, message: &Message) -> Result<Signal, Fault> {
        let header = |name| message.headers.as_ref().and_then(|headers: &HeaderMap| headers.get_last(name));
        let sent = header(NATS_LAST_CONSUMER.as_ref()).and_then(|value| value.as_str().parse::<u64>().ok());
        if sent.is_some_and(|sent| sent != self.delivered) {
            return Err(Fault::Hole);
        }
        let stalled = || header(STALLED).map(|subject| Subject::from(subject.as_str()));
        Ok(message.reply.clone().or_else(stalled).map_or(Signal::Alive, Signal::Question))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: Option<u16>, reply: Option<&str>, headers: &[(&'static str, &str)]) -> Message {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        Message {
            subject: "_INBOX.x".into(),
            reply: reply.map(Subject::from),
            payload: Bytes::new(),
            headers: Some(map),
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            description: None,
            length: 0,
        }
    }

    fn delivery(number: u64) -> Message {
        message(None, Some(&format!("$JS.ACK.EVENTS.c.1.{}.{number}.1.0", number + 10)), &[])
    }

    #[test]
    fn a_missing_delivery_is_noticed_at_the_next_one() {
        let mut continuity = Continuity::default();
        assert!(matches!(continuity.check(&delivery(1)), Ok(Signal::Delivery(Delivery { seq: 11, .. }))));
        assert!(continuity.check(&delivery(2)).is_ok());
        assert_eq!(continuity.check(&delivery(4)), Err(Fault::Hole));
    }

    #[test]
    fn a_missing_delivery_is_noticed_at_the_next_heartbeat() {
        let mut continuity = Continuity::default();
        let heartbeat = |sent| message(Some(100), None, &[("Nats-Last-Consumer", sent)]);
        assert_eq!(continuity.check(&heartbeat("0")), Ok(Signal::Alive));
        assert!(continuity.check(&delivery(1)).is_ok());
        assert_eq!(continuity.check(&heartbeat("1")), Ok(Signal::Alive));
        assert_eq!(continuity.check(&heartbeat("2")), Err(Fault::Hole));
    }

    #[test]
    fn the_server_is_answered_where_it_asks() {
        let mut continuity = Continuity::default();
        let question = Ok(Signal::Question("$JS.FC.x".into()));
        assert_eq!(continuity.check(&message(Some(100), Some("$JS.FC.x"), &[])), question);
        let stalled = [("Nats-Last-Consumer", "0"), ("Nats-Consumer-Stalled", "$JS.FC.x")];
        assert_eq!(continuity.check(&message(Some(100), None, &stalled)), question);
    }

    #[test]
    fn another_status_is_the_end() {
        let ended = Continuity::default().check(&message(Some(409), None, &[]));
        assert_eq!(ended, Err(Fault::Ended(409)));
    }

    #[test]
    fn a_status_that_a_publisher_gave_an_event_means_nothing() {
        let mut continuity = Continuity::default();
        for (number, status) in [(1, 100), (2, 503)] {
            let odd = message(Some(status), delivery(number).reply.as_deref(), &[]);
            assert!(
                matches!(continuity.check(&odd), Ok(Signal::Delivery(Delivery { consumer_seq, .. })) if consumer_seq == number)
            );
        }
    }

    #[test]
    fn what_did_not_come_from_the_consumer_is_skipped() {
        let mut continuity = Continuity::default();
        assert_eq!(continuity.check(&message(None, None, &[])), Ok(Signal::Alive));
        assert!(continuity.check(&delivery(1)).is_ok());
    }
}
