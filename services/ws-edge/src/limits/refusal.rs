//! What somebody is told who is over a limit: which one, and when to come back.

use std::time::Duration;

use herald_protocol::Close;
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};

use crate::answer::{self, Answer, ErrorBody};

/// A limit of the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Connections in all.
    Connections,
    /// Connections whose first request is still to come, in all.
    Opening,
    /// Connections of one address.
    Address,
    /// Connections that watch, in all.
    Watching,
    /// Connections of one user that watch.
    WatchingUser,
    /// Connections that watch one session.
    WatchingSession,
    /// Handshakes a second, in all.
    Handshakes,
    /// Handshakes a second of one address.
    HandshakesAddress,
    /// Commands a minute of one address.
    CommandsAddress,
    /// Commands a minute of one user.
    CommandsUser,
    /// Commands a minute in one session.
    CommandsSession,
    /// Forwarded requests at a time of one address, or answers to them.
    ForwardsAddress,
    /// Self-tests at a time of one address.
    SelftestsAddress,
}

impl Limit {
    /// Its name in metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Connections => "too_many",
            Self::Opening => "opening",
            Self::Address => "address",
            Self::Watching => "too_many_watching",
            Self::WatchingUser => "user",
            Self::WatchingSession => "session",
            Self::Handshakes => "handshakes",
            Self::HandshakesAddress => "handshakes_address",
            Self::CommandsAddress => "address",
            Self::CommandsUser => "user",
            Self::CommandsSession => "session",
            Self::ForwardsAddress => "forwards_address",
            Self::SelftestsAddress => "selftests_address",
        }
    }

    /// What counts those who were refused for it.
    pub(super) const fn counter(self) -> &'static str {
        match self {
            Self::CommandsAddress | Self::CommandsUser | Self::CommandsSession => "herald_commands_refused_total",
            Self::ForwardsAddress | Self::SelftestsAddress => "herald_requests_refused_total",
            _ => "herald_connections_refused_total",
        }
    }

    /// Whether it is the same for all: then nobody has done anything wrong.
    const fn is_everybodys(self) -> bool {
        matches!(self, Self::Connections | Self::Opening | Self::Watching | Self::Handshakes)
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Connections | Self::Watching => "Too many connections",
            Self::Opening | Self::Handshakes => "Too many connections at once",
            Self::Address => "Too many connections from this address",
            Self::WatchingUser => "Too many connections of this user",
            Self::WatchingSession => "Too many connections to this session",
            Self::HandshakesAddress => "Too many connections at once from this address",
            Self::CommandsAddress => "Too many commands from this address",
            Self::CommandsUser => "Too many commands of this user",
            Self::CommandsSession => "Too many commands in this session",
            Self::ForwardsAddress => "Too many requests at a time from this address",
            Self::SelftestsAddress => "Too many self-tests at a time from this address",
        }
    }
}

/// Something is not done, as that would be over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", limit.text())]
pub struct Refusal {
    /// Which limit.
    pub limit: Limit,
    /// When it is worth trying again, in seconds.
    pub retry: u32,
}

impl Refusal {
    /// To be tried again after `wait`, a second at least.
    pub(super) fn after(limit: Limit, wait: Duration) -> Self {
        let whole = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        Self { limit, retry: whole.saturating_add(u32::from(wait.subsec_nanos() > 0)).max(1) }
    }

    /// Its status: 503 where all of them together are too many, 429 where it is this client.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        if self.limit.is_everybodys() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::TOO_MANY_REQUESTS }
    }

    /// As the answer to a request.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut answer = answer::error(self.status(), self.limit.text());
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(self.retry));
        answer
    }

    /// As the close of a socket.
    #[must_use]
    pub const fn close(&self) -> Close {
        Close::Full { what: self.limit.text(), retry: self.retry }
    }

    /// As bytes for a connection that nothing was read from.
    #[must_use]
    pub fn raw(&self, shape: ErrorBody) -> String {
        let (status, retry) = (self.status(), self.retry);
        let body = shape.body(self.limit.text());
        format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncache-control: no-store\r\nretry-after: {retry}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            body.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whose_fault_it_is_and_when_to_come_back() {
        let mine = Refusal::after(Limit::CommandsSession, Duration::from_millis(2_100));
        let answer = mine.answer();
        assert_eq!((answer.status().as_u16(), &answer.headers()[RETRY_AFTER]), (429, &HeaderValue::from(3)));
        let all = Refusal::after(Limit::Watching, Duration::ZERO);
        assert_eq!((all.answer().status().as_u16(), all.retry, all.close().code()), (503, 1, 1013));
        assert_eq!(all.close().reason(), "Too many connections; retry in 1 s");
        let raw = Refusal::after(Limit::Address, Duration::from_secs(5)).raw(ErrorBody::Error);
        assert!(raw.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && raw.contains("retry-after: 5\r\n"), "{raw}");
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{raw}");
    }
}
