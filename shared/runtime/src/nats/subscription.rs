//! A subscription that lives as long as the connection, not only as long as the library's client.

use async_nats::{Message, SubscribeError, Subscriber, UnsubscribeError};
use futures_util::{Stream, StreamExt as _, stream};

use super::Nats;

/// What comes on a subject. Where the client was replaced, it is subscribed to anew; what came in between is lost, as after a
/// lost connection.
#[derive(Debug)]
pub struct Subscription {
    nats: Nats,
    subject: String,
    queue: Option<String>,
    current: Subscriber,
    /// Which client `current` belongs to.
    life: u64,
    /// Messages since `current` began: the server and the library count the same.
    received: u64,
    /// Whether it is to end, by our own wish.
    ending: bool,
}

impl Nats {
    /// Subscribes to `subject`, within the group `queue` if there is one.
    ///
    /// # Errors
    /// Where the connection is closed for good, or the subject is none.
    pub async fn subscribe(
        &self,
        subject: impl Into<String>,
        queue: Option<String>,
    ) -> Result<Subscription, SubscribeError> {
        let subject = subject.into();
        // Before the client is asked for: if another one comes in between, the subscription only begins once more.
        let life = self.inner.life.borrow().unwrap_or_default();
        let current = self.begin(&subject, queue.as_ref()).await?;
        Ok(Subscription { nats: self.clone(), subject, queue, current, life, received: 0, ending: false })
    }

    async fn begin(&self, subject: &str, queue: Option<&String>) -> Result<Subscriber, SubscribeError> {
        let client = self.client();
        match queue {
            Some(queue) => client.queue_subscribe(subject.to_owned(), queue.clone()).await,
            None => client.subscribe(subject.to_owned()).await,
        }
    }
}

impl Subscription {
    /// The next message. `None` once the connection is closed for good, or behind the last message that was asked for. Safe to cancel.
    pub async fn next(&mut self) -> Option<Message> {
        let mut lives = self.nats.inner.life.subscribe();
        loop {
            if let Some(message) = self.current.next().await {
                self.received += 1;
                return Some(message);
            }
            if self.ending {
                return None;
            }
            // Ended with its client: another one is on its way, unless the connection is closed.
            self.nats.suspect();
            let own = self.life;
            self.life = (*lives.wait_for(|life| *life != Some(own)).await.ok()?)?;
            match self.nats.begin(&self.subject, self.queue.as_ref()).await {
                Ok(subscriber) => (self.current, self.received) = (subscriber, 0),
                Err(error) => tracing::warn!(self.subject, %error, "not subscribed anew yet"),
            }
        }
    }

    /// How many messages came since the server counts them for this subscription.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Ends it behind its `count`-th message.
    ///
    /// # Errors
    /// Where the client has ended.
    pub(crate) async fn end_after(&mut self, count: u64) -> Result<(), UnsubscribeError> {
        self.ending = true;
        self.current.unsubscribe_after(count).await
    }

    /// Its messages, one after the other.
    pub fn into_stream(self) -> impl Stream<Item = Message> + Send + Unpin {
        Box::pin(stream::unfold(self, async |mut subscription| {
            let message = subscription.next().await?;
            Some((message, subscription))
        }))
    }
}
