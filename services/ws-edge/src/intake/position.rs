//! Where the intake stands, and what a delivered message means for it.

/// What the server says about a delivered message, in its reply subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Counts the deliveries of this consumer from 1.
    pub(super) consumer_seq: u64,
    /// The message's sequence in the stream.
    pub(super) seq: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub(super) time_ns: u64,
    /// Messages waiting behind it.
    pub(super) pending: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.<stream>.<consumer>.<deliveries>.<seq>.<consumer seq>.<time>.<pending>`, also in the newer form with
    /// domain and account behind `ACK`, and possibly more at the end. Allocates nothing, and looks at each byte once: it is
    /// read for each event of the stream, watched here or not.
    pub(super) fn parse(reply: &str) -> Option<Self> {
        // Where the tokens begin; the newer form has the most of interest, 11 behind the prefix.
        let rest = reply.strip_prefix("$JS.ACK.")?.as_bytes();
        let (mut tokens, mut count, mut start) = ([&rest[..0]; 11], 0, 0);
        for (at, byte) in rest.iter().enumerate() {
            if *byte == b'.' && count < tokens.len() {
                tokens[count] = &rest[start..at];
                (count, start) = (count + 1, at + 1);
            }
        }
        if count < tokens.len() {
            tokens[count] = &rest[start..];
            count += 1;
        }
        let [seq, consumer_seq, time_ns, pending] = match count {
            7 | 8 => [tokens[3], tokens[4], tokens[5], tokens[6]],
            9.. => [tokens[5], tokens[6], tokens[7], tokens[8]],
            _ => return None,
        };
        Some(Self {
            seq: number(seq)?,
            consumer_seq: number(consumer_seq)?,
            time_ns: number(time_ns)?,
            pending: number(pending)?,
        })
    }
}

/// A decimal number.
fn number(digits: &[u8]) -> Option<u64> {
    let next = |value: u64, digit: &u8| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| value.checked_mul(10)?.checked_add(u64::from(digit))).flatten()
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, next) }
}

/// The last message that was taken, or the place to begin behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Its sequence; 0 before the first.
    pub(super) seq: u64,
    /// When it was stored, once that is known. Another time at the same place is another log.
    pub(super) time_ns: Option<u64>,
    /// Whether it can't be read: then it must not be delivered again.
    unreadable: bool,
}

/// What a message is to whoever stands at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one.
    New,
    /// Known already.
    Known,
    /// The position's own message, stored at another time: the log was rewritten.
    Rewritten,
}

impl Position {
    /// Begins behind `seq`.
    pub(super) const fn behind(seq: u64) -> Self {
        Self { seq, time_ns: None, unreadable: false }
    }

    /// Stands at a message that can't be read, and begins behind it.
    pub(super) const fn over(seq: u64) -> Self {
        Self { seq, time_ns: None, unreadable: true }
    }

    /// Where a consumer has to start: *at* the position, so that its message shows whether the log is still the same.
    pub(super) const fn start(self) -> u64 {
        if self.seq == 0 || self.unreadable { self.seq + 1 } else { self.seq }
    }

    /// Judges a message, and moves on if it is new.
    pub(super) fn judge(&mut self, delivery: &Delivery) -> Verdict {
        let time = Some(delivery.time_ns);
        if delivery.seq > self.seq {
            *self = Self { seq: delivery.seq, time_ns: time, unreadable: false };
            return Verdict::New;
        }
        if delivery.seq == self.seq {
            if self.time_ns.is_some() && self.time_ns != time {
                return Verdict::Rewritten;
            }
            self.time_ns = time;
        }
        Verdict::Known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64, time_ns: u64) -> Delivery {
        Delivery { consumer_seq: 1, seq, time_ns, pending: 0 }
    }

    #[test]
    fn deliveries_are_read_in_both_forms() {
        let expected = Some(Delivery { consumer_seq: 7, seq: 12, time_ns: 1_700_000_000_000_000_001, pending: 3 });
        for reply in [
            "$JS.ACK.EVENTS.c1.1.12.7.1700000000000000001.3",
            "$JS.ACK.hub.hash.EVENTS.c1.1.12.7.1700000000000000001.3",
            "$JS.ACK._.hash.EVENTS.c1.1.12.7.1700000000000000001.3.random",
        ] {
            assert_eq!(Delivery::parse(reply), expected, "{reply}");
        }
        for odd in
            ["", "_INBOX.x.y", "$JS.ACK.", "$JS.ACK.EVENTS.c1.1.12.7.1700000000000000001", "$JS.ACK.a.b.c.d.e.f.g"]
        {
            assert_eq!(Delivery::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn each_message_is_new_once() {
        let mut position = Position::behind(4);
        assert_eq!(position.start(), 4, "at the position, not behind it");
        let verdicts = [3, 4, 5, 5, 4, 9].map(|seq| position.judge(&at(seq, seq * 10)));
        use Verdict::{Known, New};
        assert_eq!(verdicts, [Known, Known, New, Known, Known, New]);
        assert_eq!(position, Position { seq: 9, time_ns: Some(90), unreadable: false });
        assert_eq!(Position::behind(0).start(), 1);
        assert_eq!(Position::over(9).start(), 10, "never at what can't be read");
    }

    #[test]
    fn another_message_at_the_own_place_is_another_log() {
        let mut position = Position::behind(4);
        assert_eq!(position.judge(&at(4, 40)), Verdict::Known, "the time was not known yet");
        assert_eq!(position.judge(&at(4, 41)), Verdict::Rewritten);
        assert_eq!(position, Position { seq: 4, time_ns: Some(40), unreadable: false }, "what was known stays known");
    }
}
