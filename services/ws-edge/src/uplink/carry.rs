//! From the queue to NATS, one message after the other.

use std::sync::{Arc, atomic::Ordering};

use async_nats::client::PublishErrorKind;
use metrics::counter;
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Item, Refused, Uplink, Waiting};

/// How long what waits may take to leave at the end of the process.
const LAST: Duration = Duration::from_secs(1);
/// How long to wait before a message is sent once more whose client of NATS has ended: another one takes its place.
const AGAIN: Duration = Duration::from_millis(50);
/// How often: for ten seconds. Where NATS is there, it takes less than one.
const TIMES: u32 = 200;

impl Uplink {
    /// Carries what waits to NATS until `stop`, and then what still waits, as far as it leaves in time.
    pub async fn carry(self: Arc<Self>, Waiting(mut items): Waiting, stop: CancellationToken) {
        let mut until = None;
        loop {
            let item = tokio::select! {
                biased;
                () = stop.cancelled(), if until.is_none() => {
                    items.close();
                    until = Some(Instant::now() + LAST);
                    continue;
                }
                item = items.recv() => item,
            };
            let Some(item) = item else { return };
            let too_late = async {
                stop.cancelled().await;
                sleep_until(until.unwrap_or_else(|| Instant::now() + LAST)).await;
            };
            let sent = tokio::select! {
                biased;
                sent = self.carry_one(&item) => sent,
                () = too_late => {
                    items.close();
                    until.get_or_insert_with(Instant::now);
                    Err(Refused::Away)
                }
            };
            self.waiting.fetch_sub(item.bytes(), Ordering::Relaxed);
            match sent {
                Ok(()) => counter!("herald_uplink_messages_total", "kind" => item.kind.as_str()).increment(1),
                Err(refused) => {
                    refused.count(item.kind);
                    tracing::debug!(kind = item.kind.as_str(), %refused, "what waited did not go up");
                    if let Some(guest) = item.from.upgrade() {
                        guest.refuse(refused);
                    }
                }
            }
        }
    }

    /// Sends it by the client that there is then: one that has ended takes nothing any more.
    async fn carry_one(&self, item: &Item) -> Result<(), Refused> {
        for _ in 0..TIMES {
            let client = self.nats.client();
            let (subject, headers, payload) = (item.subject.clone(), item.headers.clone(), item.payload.clone());
            // Where the library's own queue is full, ours fills.
            let sent = match &item.reply {
                Some(reply) => client.publish_with_reply_and_headers(subject, reply.clone(), headers, payload).await,
                None => client.publish_with_headers(subject, headers, payload).await,
            };
            match sent.map_err(|error| error.kind()) {
                Ok(()) => return Ok(()),
                Err(PublishErrorKind::Send) => sleep(AGAIN).await,
                // By now the server takes less than it did.
                Err(PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject) => {
                    return Err(Refused::TooLarge);
                }
            }
        }
        Err(Refused::Away)
    }
}
