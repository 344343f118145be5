//! Who is there, over all edges.
//!
//! A person is a user in a role, however many connections they have, by whichever edge; of nobody known each connection is one.
//! Who that is in a session can be asked for (`GET /presence/{sid}`), and is told to those who watch it, as far as their route says
//! so (`presence`): `herald.join`, `herald.leave`, or, where that would be too much, `herald.presence` with how many are there.
//!
//! **How edges know of each other.** The truth about a connection is in the edge that serves it, and dies with it. So nothing is
//! stored: each edge keeps a log of who has come and left by it, says it on `edge.presence.<edge>`, a batch at a time, and repeats
//! every few seconds how far it has come. Every edge puts together what all of them say ([`Book`]): all of them have the same table,
//! and any can be asked. Who finds a number missing, or has just come, asks for the whole, which is said to all in parts; an edge of
//! which nothing is heard for `presence.timeout` counts for nothing any more. What was lost on the way is so made up within a beat;
//! an edge killed leaves nothing behind that somebody would have to clear away; and one that does not even hear itself (NATS is
//! away) draws no conclusions about others. A bucket would have to be cleared, kept from growing, and read through by whoever
//! begins; and it would store on three disks, for each tab that is opened, what is of no use a moment later.
//!
//! **What a change costs.** One search in the tree of its session at each edge, and its part of a message: the same in a session of
//! ten and of ten thousand. Only the frames to those who watch are as many as they are, which `presence.deliveries` bounds.
//!
//! **Who comes back.** An edge says that somebody has left when they have been away for `presence.grace`. Until then they are
//! there, for it and for all others, so that a reload changes nothing, wherever it lands.
//!
//! | file | |
//! |---|---|
//! | [`person`] | who somebody is |
//! | `own` | our own connections, put together to people, and those who are waited for |
//! | `others` | how far the logs of other edges are known |
//! | `rooms` | the table of all |
//! | `news` | how much of it clients are told |
//! | `book` | all of these together: what was heard goes in, what is to be said comes out |
//! | `post` | what is said and heard, over NATS and to clients |
//! | `answer` | what is answered, by HTTP and to engines |

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use herald_protocol::{InstanceId, SessionId, frame::Control};
use rand::RngExt as _;
use tokio::{sync::Notify, time::Instant};

use crate::{
    config::{Config, PresenceConfig, PresenceMode},
    guests::{Guest, Watcher},
};

mod answer;
mod book;
mod news;
mod others;
mod own;
mod person;
mod post;
mod rooms;

pub use book::Book;
pub use news::{Change, Told};
pub use person::{RoomId, of_connection, of_user, person};
pub use rooms::Page;

/// Who is there, over all edges, as this one knows it.
pub struct Presence {
    book: Mutex<Book>,
    /// Something is to be said or told.
    changed: Notify,
    life: InstanceId,
    /// Those whose sessions are shown here.
    roots: Vec<Arc<str>>,
    config: PresenceConfig,
}

impl Presence {
    /// Nobody yet. `edge`: what people call this edge; `roots`: those whose sessions are asked about here.
    #[must_use]
    pub fn new(edge: &InstanceId, roots: impl IntoIterator<Item = Arc<str>>, config: &PresenceConfig) -> Arc<Self> {
        // Not the name: two may have the same, and one that is started again is another.
        let life = InstanceId::new(&format!("{:032x}", rand::rng().random::<u128>()));
        let life = life.unwrap_or_else(|_| edge.clone());
        let roots: Vec<_> = roots.into_iter().collect();
        let book = Book::new(life.clone(), edge.clone(), roots.iter().cloned(), config, Instant::now());
        Arc::new(Self { book: Mutex::new(book), changed: Notify::new(), life, roots, config: config.clone() })
    }

    /// That of a process, where any of its routes tells who is there.
    #[must_use]
    pub fn of(config: &Config, edge: &InstanceId) -> Option<Arc<Self>> {
        let listeners = config.listeners();
        let routes = listeners.iter().flat_map(|listener| listener.routes.iter().map(move |route| (listener, route)));
        let telling = routes.filter(|(listener, route)| route.tells(listener) != PresenceMode::Off);
        let roots: BTreeSet<&str> = telling.filter_map(|(_, route)| Some(route.roots.first()?.as_str())).collect();
        (!roots.is_empty()).then(|| Self::new(edge, roots.into_iter().map(Arc::from), &config.presence))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing in here panics halfway through a change; and an edge that stopped serving would be worse.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Arc<Presence> {
    fn entered(&self, guest: &Arc<Guest>, session: &SessionId) {
        let Some(room_id) = room_of(guest, session) else { return };
        let (user, role, name) = (guest.user.as_ref(), guest.role.as_ref(), guest.name.as_ref());
        let person = person(guest.conn.as_str(), user, role, name, now_ms());
        {
            let mut book = self.book();
            book.enter(&room_id, person, post::is_told(guest));
            // Before anybody can find out what has changed since then, and tell it: else the older number would come behind the newer.
            post::say(guest, &Control::Presence { count: book.count(&room_id) });
        }
        self.changed.notify_one();
    }

    fn left(&self, guest: &Arc<Guest>, session: &SessionId) {
        let Some(room_id) = room_of(guest, session) else { return };
        let id = guest
            .user
            .as_ref()
            .map_or_else(|| of_connection(guest.conn.as_str()), |user| of_user(user, guest.role.as_deref()));
        self.book().leave(&room_id, id, post::is_told(guest), Instant::now());
        self.changed.notify_one();
    }
}

/// Where a guest counts, if it counts at all.
fn room_of(guest: &Guest, session: &SessionId) -> Option<RoomId> {
    let counts = guest.entrance.presence != PresenceMode::Off;
    counts.then(|| RoomId { root: guest.entrance.root.clone(), session: session.clone() })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
