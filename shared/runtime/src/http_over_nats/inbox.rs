//! Many conversations over one subscription.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use herald_protocol::{headers::ABORT, subject};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::WINDOW;
use crate::nats::{Nats, Subscription};

/// What one conversation may hold unread: the window, and what ends it.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const CAPACITY: usize = WINDOW as usize + 4;
/// So many farewells may wait; beyond, the other side learns it by its own time limit.
const FAREWELLS: usize = 1024;
/// The longest wait for room in the connection's queue before a farewell is left unsaid.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// A subject space of our own, shared out to conversations.
pub(crate) struct Inbox {
    prefix: String,
    rooms: Arc<Rooms>,
    farewells: mpsc::Sender<Subject>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Rooms(Mutex<HashMap<u128, mpsc::Sender<Message>>>);

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, mpsc::Sender<Message>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Subscribes.
    ///
    /// # Errors
    /// Where the connection is closed for good.
    pub(crate) async fn open(nats: &Nats) -> Result<Arc<Self>, async_nats::SubscribeError> {
        let prefix = nats.client().new_inbox();
        let messages = nats.subscribe(format!("{prefix}.*"), None).await?;
        let rooms = Arc::new(Rooms::default());
        let (farewells, leaving) = mpsc::channel(FAREWELLS);
        let task = tokio::spawn(sort(nats.clone(), messages, prefix.len() + 1, Arc::clone(&rooms), leaving));
        Ok(Arc::new(Self { prefix, rooms, farewells, task }))
    }

    /// Opens a conversation. From its subject nobody can guess another one's: a service is told where to answer, and must not
    /// learn by it where others do.
    pub(crate) fn room(self: &Arc<Self>) -> Room {
        let number: u128 = rand::random();
        let (sender, messages) = mpsc::channel(CAPACITY);
        self.rooms.lock().insert(number, sender);
        Room {
            subject: format!("{}.{number:032x}", self.prefix).into(),
            number,
            messages,
            peer: None,
            inbox: Arc::clone(self),
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One conversation: a subject, and what arrives there. Dropping it ends it; a peer that waits is told.
pub(crate) struct Room {
    /// Where to write to it.
    pub(crate) subject: Subject,
    number: u128,
    messages: mpsc::Receiver<Message>,
    peer: Option<Subject>,
    inbox: Arc<Inbox>,
}

impl Room {
    /// The next message. `None` where the peer sent more than it may, or the connection is closed for good.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// Who is to be told when the conversation ends here.
    pub(crate) fn set_peer(&mut self, peer: Option<Subject>) {
        self.peer = peer;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.inbox.rooms.lock().remove(&self.number);
        if let Some(peer) = self.peer.take() {
            // Full: the peer learns it by its own time limit.
            let _unsaid = self.inbox.farewells.try_send(peer);
        }
    }
}

/// Brings each message to its conversation; tells those who write to an ended one.
async fn sort(
    nats: Nats,
    mut messages: Subscription,
    prefix: usize,
    rooms: Arc<Rooms>,
    mut leaving: mpsc::Receiver<Subject>,
) {
    loop {
        let gone = tokio::select! {
            // A farewell frees somebody else's resources; there are few.
            biased;
            Some(peer) = leaving.recv() => Some(peer),
            message = messages.next() => match message {
                Some(message) => deliver(&rooms, prefix, message),
                None => {
                    rooms.lock().clear();
                    return;
                }
            },
        };
        if let Some(peer) = gone.filter(|peer| subject::is_inbox(peer)) {
            let mut headers = HeaderMap::new();
            headers.insert(ABORT, "gone");
            let client = nats.client();
            let farewell = client.publish_with_headers(peer, headers, Bytes::new());
            if timeout(FAREWELL_WITHIN, farewell).await.is_err() {
                tracing::debug!("farewell not sent in time");
            }
        }
    }
}

/// Who has to be told that nobody is there any more.
fn deliver(rooms: &Rooms, prefix: usize, message: Message) -> Option<Subject> {
    let number = message.subject.get(prefix..).and_then(|number| u128::from_str_radix(number, 16).ok());
    let mut rooms = rooms.lock();
    let Some(room) = number.and_then(|number| rooms.get(&number).map(|room| (number, room))) else {
        return message.reply;
    };
    let (number, room) = room;
    match room.try_send(message) {
        Ok(()) => None,
        // More than the window: the conversation is over, its receiver sees the end.
        Err(mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message)) => {
            rooms.remove(&number);
            message.reply
        }
    }
}
