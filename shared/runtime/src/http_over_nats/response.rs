//! What comes of a response: what its first message says, and whether the next one is the part that must come. Pure.

use async_nats::HeaderMap;
use herald_protocol::headers::{ABORT, END, PART};
use http::{StatusCode, header};

use super::{
    respond::without_body,
    wire::{self, BadHead},
};

/// The head of a response as its client gets it.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    /// There is no body, whatever comes.
    pub(super) bodiless: bool,
}

/// The parts of a response, counted.
#[derive(Debug)]
pub(super) struct Progress {
    expected: u64,
    left: u64,
    declared: Option<u64>,
    received: u64,
    ended: bool,
}

/// Why the body of a response broke off. It reaches the HTTP client as a connection that is cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BrokenBody {
    #[error("the service broke off: {0}")]
    Aborted(String),
    #[error("a part of the response was lost")]
    Lost,
    #[error("no part of the response came in time")]
    Idle,
    #[error("the response is larger than the limit, or than it said")]
    TooLarge,
    #[error("the response is shorter than it said")]
    TooShort,
}

/// Reads the headers of the first message, of which [`Progress::take`] then takes the part. The body may have `limit` bytes.
pub(super) fn open(head: &HeaderMap, is_head: bool, limit: u64) -> Result<(Opening, Progress), BadHead> {
    let (status, mut headers) = wire::read_response(head)?;
    let bodiless = is_head || without_body(status);
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let single = head.get(END).is_some();
    if without_body(status) || !bodiless && (single || declared.is_none()) {
        // hyper says how long a body is that it has whole.
        headers.remove(header::CONTENT_LENGTH);
    }
    let declared = declared.filter(|_| !bodiless);
    let progress = Progress { expected: 0, left: limit, declared, received: 0, ended: false };
    Ok((Opening { status, headers, bodiless }, progress))
}

impl Progress {
    /// Takes a message for the part it must be, by its headers and size. The number of the part.
    pub(super) fn take(&mut self, headers: &HeaderMap, size: usize) -> Result<u64, BrokenBody> {
        if let Some(reason) = headers.get(ABORT) {
            return Err(BrokenBody::Aborted(reason.to_string()));
        }
        let number: Option<u64> = headers.get(PART).and_then(|number| number.as_str().parse().ok());
        if number != Some(self.expected) {
            return Err(BrokenBody::Lost);
        }
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(size).ok_or(BrokenBody::TooLarge)?;
        self.received += size;
        self.ended = headers.get(END).is_some();
        match self.declared {
            Some(declared) if self.received > declared => return Err(BrokenBody::TooLarge),
            Some(declared) if self.ended && self.received < declared => return Err(BrokenBody::TooShort),
            _ => {}
        }
        self.expected += 1;
        Ok(self.expected - 1)
    }

    /// Whether that was the last one.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }
}
