//! A question to whoever answers on a subject, and the answer.
//!
//! The library's own requests keep, for as long as the connection lives, a place for each answer that never came. Whoever asks
//! those who may be silent, and is made to ask by others, asks here.

use std::{sync::Arc, time::Duration};

use async_nats::StatusCode;
use bytes::Bytes;
use tokio::time::timeout;

use crate::{http_over_nats::inbox::Inbox, nats::Nats};

/// Asks over one connection; all answers come to one subscription. Clones share it.
#[derive(Clone)]
pub struct Questions {
    nats: Nats,
    inbox: Arc<Inbox>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// There is no connection to NATS.
    #[error("NATS is not connected")]
    NotConnected,
    /// Nobody listens there.
    #[error("nobody listens")]
    NoResponders,
    /// Nobody answered in time.
    #[error("no answer in time")]
    Timeout,
    /// The question could not be sent.
    #[error("the question could not be sent")]
    Send(#[source] async_nats::PublishError),
}

impl Questions {
    /// Subscribes to the answers.
    ///
    /// # Errors
    /// Where the connection is closed for good.
    pub async fn new(nats: &Nats) -> Result<Self, async_nats::SubscribeError> {
        Ok(Self { nats: nats.clone(), inbox: Inbox::open(nats).await? })
    }

    /// Asks once and takes the first answer that comes within `limit`. Safe to cancel.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask(&self, subject: String, question: Bytes, limit: Duration) -> Result<Bytes, Unanswered> {
        if !self.nats.connected() {
            return Err(Unanswered::NotConnected);
        }
        let mut room = self.inbox.room();
        let exchange = async {
            let client = self.nats.client();
            let sent = client.publish_with_reply(subject, room.subject.clone(), question);
            sent.await.map_err(Unanswered::Send)?;
            // The room is closed by nobody before it was written to, but with the connection.
            let answer = room.next().await.ok_or(Unanswered::NotConnected)?;
            let nobody = answer.status == Some(StatusCode::NO_RESPONDERS);
            if nobody { Err(Unanswered::NoResponders) } else { Ok(answer.payload) }
        };
        match timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) if self.nats.connected() => Err(Unanswered::Timeout),
            Err(_) => Err(Unanswered::NotConnected),
        }
    }
}
