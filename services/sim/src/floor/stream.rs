//! A JetStream stream, read as ws-edge reads it: by an ordered push consumer, without acknowledgements, paced by the
//! server's flow control. What comes has its place in the stream.

use std::process;

use crate::wire::nats;

/// ns between the server's signs of life, where nothing else comes.
const HEARTBEAT_NS: u64 = 5_000_000_000;
/// ns after which the server forgets a consumer that nobody reads.
const INACTIVE_NS: u64 = 30_000_000_000;

/// An ordered consumer of a stream, from what is published next on.
#[derive(Debug)]
pub(super) struct Consumer {
    stream: String,
    name: String,
    /// Deliveries so far.
    delivered: u64,
}

/// Where an event is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) stored_ms: u64,
    /// Which one of the consumer's deliveries it is.
    pub(super) delivery: u64,
}

impl Consumer {
    /// One that is not made yet.
    pub(super) fn new(stream: &str) -> Self {
        Self { stream: stream.to_owned(), name: format!("floor-{}", process::id()), delivered: 0 }
    }

    /// Where it delivers: events, which keep their own subjects, and signs of life. No wildcard: the server finds nobody
    /// there who is interested behind one.
    fn inbox(&self) -> String {
        format!("_INBOX.{}.events", self.name)
    }

    /// The subscriptions, and the request that makes it.
    pub(super) fn create(&self) -> Vec<u8> {
        let Self { stream, name, .. } = self;
        let answer = format!("_INBOX.{name}.created");
        let config = serde_json::json!({
            "stream_name": stream,
            "config": {
                "name": name, "deliver_subject": self.inbox(), "deliver_policy": "new", "ack_policy": "none",
                "replay_policy": "instant", "max_deliver": 1, "flow_control": true, "idle_heartbeat": HEARTBEAT_NS,
                "inactive_threshold": INACTIVE_NS, "num_replicas": 1, "mem_storage": true,
            },
        });
        let config = config.to_string();
        let mut out = Vec::new();
        let subject = format!("$JS.API.CONSUMER.CREATE.{stream}.{name}");
        nats::publish_head(&mut out, &subject, Some(&answer), config.len());
        let subscriptions = [nats::subscribe(&self.inbox()), format!("SUB {answer} 2\r\n").into_bytes()].concat();
        [subscriptions, out, config.into_bytes(), nats::END.to_vec()].concat()
    }

    /// Whether a message is the answer to the request.
    pub(super) fn is_answer(&self, subject: &[u8]) -> bool {
        self.to_us(subject) == Some(b".created")
    }

    /// Whether a message is a sign of life, or a question of the flow control.
    pub(super) fn is_control(&self, subject: &[u8]) -> bool {
        self.to_us(subject) == Some(b".events")
    }

    fn to_us<'a>(&self, subject: &'a [u8]) -> Option<&'a [u8]> {
        subject.strip_prefix(b"_INBOX.")?.strip_prefix(self.name.as_bytes())
    }

    /// Where the next event is; `None` where it is not the next, or was not said.
    pub(super) fn place(&mut self, reply: Option<&[u8]>) -> Option<Place> {
        let place = place(reply?)?;
        self.delivered += 1;
        (place.delivery == self.delivered).then_some(place)
    }
}

/// What a delivery says: `$JS.ACK.<stream>.<consumer>.<times>.<sequence>.<delivery>.<ns>.<pending>`.
fn place(reply: &[u8]) -> Option<Place> {
    let mut tokens = reply.strip_prefix(b"$JS.ACK.")?.rsplit(|byte| *byte == b'.').skip(1).map(number);
    let (ns, delivery, seq) = (tokens.next()??, tokens.next()??, tokens.next()??);
    Some(Place { seq, stored_ms: ns / 1_000_000, delivery })
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_says_where_it_is() {
        let mut consumer = Consumer::new("EVENTS");
        let reply = |delivery| format!("$JS.ACK.EVENTS.floor-7.1.48.{delivery}.1767225600000000017.3");
        let first = Place { seq: 48, stored_ms: 1_767_225_600_000, delivery: 1 };
        assert_eq!(consumer.place(Some(reply(1).as_bytes())), Some(first));
        assert_eq!(consumer.place(Some(reply(2).as_bytes())).unwrap().delivery, 2);
        // One is missing.
        assert_eq!(consumer.place(Some(reply(4).as_bytes())), None);
        for odd in [None, Some("$JS.ACK.EVENTS.c"), Some("_INBOX.a.b.c.d.e"), Some("$JS.ACK.E.c.1.x.1.1.1")] {
            assert_eq!(Consumer::new("E").place(odd.map(str::as_bytes)), None, "{odd:?}");
        }
    }

    #[test]
    fn what_comes_to_the_inbox_is_told_apart() {
        let consumer = Consumer::new("EVENTS");
        let subject = |last: &str| consumer.inbox().replace("events", last).into_bytes();
        assert!(consumer.is_answer(&subject("created")) && !consumer.is_control(&subject("created")));
        assert!(consumer.is_control(&subject("events")) && !consumer.is_answer(&subject("events")));
        assert!(!consumer.is_control(b"arena.s.bench"));
    }
}
