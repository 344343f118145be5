//! Sending a response, part by part, no faster than it is taken.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_nats::{HeaderMap, Message, StatusCode as NatsStatus, Subject};
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt;
use herald_protocol::headers::{ABORT, ACK, END, PART};
use http::{Response, StatusCode, header};
use tokio::time::timeout;

use super::{
    Limits, WINDOW,
    inbox::{Inbox, Room},
    parts::{Part, Parts},
    server::error,
    wire,
};
use crate::nats::Nats;

/// Sends for a server.
pub(super) struct Responder {
    pub(super) nats: Nats,
    pub(super) inbox: Arc<Inbox>,
    pub(super) limits: Limits,
}

/// Why a response ended before its body did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// The receiver wants no more, or has gone: nobody is to be told.
    #[error("its receiver has gone")]
    Gone,
    #[error("no acknowledgement, or no more of the body, in time")]
    Idle,
    #[error("its body broke off: {0}")]
    Body(String),
}

impl Responder {
    /// Sends the whole response. What goes wrong is logged and told to the receiver.
    pub(super) async fn respond(&self, reply: Subject, response: Response<Body>, is_head: bool) {
        if let Err(reason) = self.try_respond(&reply, response, is_head).await {
            tracing::debug!(%reason, "a response broke off");
            metrics::counter!("herald_http_served_aborts_total", "reason" => reason.label()).increment(1);
            if reason != Broken::Gone {
                let mut headers = HeaderMap::new();
                // The receiver shows nobody the reason; ours is in the log.
                headers.insert(ABORT, reason.label());
                self.send(&reply, None, headers, Bytes::new()).await;
            }
        }
    }

    async fn try_respond(&self, reply: &Subject, response: Response<Body>, is_head: bool) -> Result<(), Broken> {
        let (mut head, body) = response.into_parts();
        let status = head.status;
        let bodiless = is_head || without_body(status);
        if without_body(status) {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let Ok(mut headers) = wire::write_response(status, &head.headers) else {
            tracing::error!(%status, "the headers of a response are too large");
            return Box::pin(self.try_respond(reply, internal("internal error"), is_head)).await;
        };
        let body = if bodiless { Body::empty() } else { body };
        let too_large = Parts::declares_more_than(&body, self.limits.max_body);
        let size = self.limits.part_on(self.nats.max_payload());
        let mut parts = Parts::new(body, size, self.limits.max_body);
        let first = if too_large { Err("larger than the limit".to_owned()) } else { caught(parts.first()).await };
        let first = match first {
            Ok(first) => first,
            Err(reason) => {
                tracing::error!(%status, reason, "the body of a response can't be sent");
                return Box::pin(self.try_respond(reply, internal("internal error"), is_head)).await;
            }
        };
        headers.insert(PART, "0");
        if first.last {
            headers.insert(END, "1");
            self.send(reply, None, headers, first.bytes).await;
            return Ok(());
        }
        let room = self.inbox.room();
        self.send(reply, Some(&room.subject), headers, first.bytes).await;
        self.go_on(reply, room, parts).await
    }

    /// Everything behind part 0.
    async fn go_on(&self, reply: &Subject, mut room: Room, mut parts: Parts) -> Result<(), Broken> {
        let mut window = Window::default();
        let mut next: Option<Part> = None;
        loop {
            if window.is_open()
                && let Some(part) = next.take()
            {
                let mut headers = HeaderMap::new();
                headers.insert(PART, window.send().to_string());
                if part.last {
                    headers.insert(END, "1");
                    self.send(reply, None, headers, part.bytes).await;
                    return Ok(());
                }
                self.send(reply, Some(&room.subject), headers, part.bytes).await;
            }
            let step = async {
                tokio::select! {
                    // The receiver's word first: it may be that no more is wanted.
                    biased;
                    message = room.next() => Ok(Step::Heard(message)),
                    part = caught(parts.next()), if next.is_none() => part.map(Step::Read).map_err(Broken::Body),
                }
            };
            match timeout(self.limits.idle, step).await.map_err(|_| Broken::Idle)?? {
                Step::Read(part) => next = Some(part),
                Step::Heard(message) => window.hear(message)?,
            }
        }
    }

    /// Publishes. What can't be sent is missed by the other side, which has its own time limit.
    pub(super) async fn send(&self, subject: &Subject, reply: Option<&Subject>, headers: HeaderMap, payload: Bytes) {
        let (client, subject) = (self.nats.client(), subject.clone());
        let sending = async {
            match reply {
                Some(reply) => client.publish_with_reply_and_headers(subject, reply.clone(), headers, payload).await,
                None => client.publish_with_headers(subject, headers, payload).await,
            }
        };
        match timeout(self.limits.idle, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a part of an exchange could not be sent"),
            Err(_) => tracing::warn!("a part of an exchange could not be sent in time"),
        }
    }
}

enum Step {
    Heard(Option<Message>),
    Read(Part),
}

/// How far a response in parts is. Part 0 has left.
#[derive(Debug)]
pub(super) struct Window {
    /// Parts that were sent.
    sent: u64,
    /// Parts that its receiver has taken.
    taken: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { sent: 1, taken: 0 }
    }
}

impl Window {
    /// Whether one more may be sent.
    pub(super) const fn is_open(&self) -> bool {
        self.sent < self.taken + WINDOW
    }

    /// The number of the part that is sent now.
    pub(super) const fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }

    /// Counts what the receiver says to have taken, which is nothing that was never sent.
    pub(super) fn hear(&mut self, message: Option<Message>) -> Result<(), Broken> {
        let message = message.ok_or(Broken::Gone)?;
        if message.status == Some(NatsStatus::NO_RESPONDERS) {
            return Err(Broken::Gone);
        }
        let headers = message.headers.unwrap_or_default();
        let Some(Ok(last)) = headers.get(ACK).map(|number| number.as_str().parse::<u64>()) else {
            return Err(Broken::Gone);
        };
        self.taken = self.taken.max(last.saturating_add(1).min(self.sent));
        Ok(())
    }
}

/// A step of the body, which is a handler's code and may panic.
async fn caught(step: impl Future<Output = Result<Part, super::parts::PartError>>) -> Result<Part, String> {
    match AssertUnwindSafe(step).catch_unwind().await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_panic) => Err("a panic".to_owned()),
    }
}

/// Whether a response with that status has no body, and so no length.
pub(super) fn without_body(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

fn internal(text: &str) -> Response<Body> {
    error(StatusCode::INTERNAL_SERVER_ERROR, text)
}

impl Broken {
    const fn label(&self) -> &'static str {
        match self {
            Self::Gone => "receiver gone",
            Self::Idle => "idle",
            Self::Body(_) => "body broke off",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(number: &str) -> Option<Message> {
        let mut headers = HeaderMap::new();
        headers.insert(ACK, number);
        let (subject, payload) = ("r".into(), Bytes::new());
        Some(Message {
            subject,
            reply: None,
            payload,
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        })
    }

    #[test]
    fn what_was_never_sent_is_not_acknowledged() {
        for claim in ["0", "7", "18446744073709551615"] {
            let mut window = Window::default();
            window.hear(acknowledged(claim)).unwrap();
            let mut on_the_way = 0;
            while window.is_open() {
                window.send();
                on_the_way += 1;
            }
            assert_eq!(on_the_way, WINDOW, "after the acknowledgement of {claim}, which only part 0 can be");
        }
        for odd in ["", "-1", "x", "18446744073709551616"] {
            assert_eq!(Window::default().hear(acknowledged(odd)), Err(Broken::Gone), "{odd}");
        }
        assert_eq!(Window::default().hear(None), Err(Broken::Gone));
    }
}
