//! Who is connected: one [`Guest`] for each live connection, and the registry of them all.
//!
//! A connection's task owns its [`Stay`]: what it shows is told by [`Stay::show`], and dropping it is leaving, however the task
//! ends. [`Watcher`]s hear of each, in order. Others find a guest by its name and [`Guest::say`] something to it alone, which its
//! task says between the frames of the log.
//!
//! Invariants: a guest is in the registry exactly as long as its task lives; watchers hear of each guest strictly `entered`, `left`,
//! `entered`, ...; nobody who says something to a guest waits for it.

mod conn;
mod mail;
pub(crate) mod notes;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use herald_protocol::{Close, InstanceId, SessionId};

pub use conn::{Conn, InvalidConn};
use mail::Mail;
pub use mail::{MailLimits, Unsaid, Word};
pub(crate) use notes::Notes;

use crate::{
    config::{PresenceMode, Transport},
    newest::NewestRule,
    uplink::UplinkRule,
    view::View,
};

/// What all guests of a route have in common.
#[derive(Debug)]
pub struct Entrance {
    /// The listener's name.
    pub listener: String,
    /// The route's path, with `{sid}` for the session.
    pub path: String,
    /// The stream it shows.
    pub stream: String,
    /// Its first root: with it a session is named to engines, and in the registry.
    pub root: Arc<str>,
    /// How its events travel.
    pub transport: Transport,
    /// What its clients may send, if anything.
    pub uplink: Option<Arc<UplinkRule>>,
    /// Of which of them a session has one at a time, if of any.
    pub newest: Option<Arc<NewestRule>>,
    /// What they are told of who is there, and whether they count.
    pub presence: PresenceMode,
    /// How much may wait to be said to one of them.
    pub mail: MailLimits,
}

/// A live connection, as others see it. But for the session it shows it stays as it was let in.
#[derive(Debug)]
pub struct Guest {
    /// Its name.
    pub conn: Conn,
    /// Where it came in.
    pub entrance: Arc<Entrance>,
    /// What it sees, and how.
    pub view: Arc<View>,
    /// Who it is: as an engine said that was asked, else as their token did.
    pub user: Option<Arc<str>>,
    /// What they are, likewise.
    pub role: Option<Arc<str>>,
    /// What others call them.
    pub name: Option<Arc<str>>,
    /// Since when it is there, ms since 1970.
    pub since_ms: u64,
    /// The client's address, as far as the proxies in between are trusted.
    pub address: IpAddr,
    /// What it notes down of itself.
    pub(crate) notes: Arc<Notes>,
    shows: Mutex<Option<SessionId>>,
    mail: Mail,
}

/// Who somebody is, for [`Guest::new`].
#[derive(Debug, Clone, Default)]
pub struct Who {
    /// The user.
    pub user: Option<Arc<str>>,
    /// What they are.
    pub role: Option<Arc<str>>,
    /// What others call them.
    pub name: Option<Arc<str>>,
}

/// Hears of guests that come and go. Called by the connection's own task, with nothing locked: it must not block.
pub trait Watcher: Send + Sync {
    /// A guest shows a session, from now on.
    fn entered(&self, guest: &Arc<Guest>, session: &SessionId);
    /// It does no longer: it is gone, or about to show another one.
    fn left(&self, guest: &Arc<Guest>, session: &SessionId);
}

/// The live connections of this process.
pub struct Guests {
    edge: InstanceId,
    registry: Mutex<Registry>,
    watchers: Vec<Box<dyn Watcher>>,
}

/// What names a session to engines: its root and its id.
pub type RoomName = (Arc<str>, SessionId);

#[derive(Default)]
struct Registry {
    all: BTreeMap<Conn, Arc<Guest>>,
    /// Those that show a session.
    rooms: BTreeMap<RoomName, HashMap<Conn, Arc<Guest>>>,
}

/// A guest's place in the registry: its connection's task has it, and with it the guest goes.
pub struct Stay {
    guests: Arc<Guests>,
    guest: Arc<Guest>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guest {
    /// A connection that is let in now.
    #[must_use]
    pub fn new(entrance: &Arc<Entrance>, view: &Arc<View>, who: Who, address: IpAddr) -> Self {
        Self {
            conn: Conn::random(),
            entrance: entrance.clone(),
            view: view.clone(),
            user: who.user,
            role: who.role,
            name: who.name,
            since_ms: notes::now_ms(),
            address: address.to_canonical(),
            notes: Arc::default(),
            shows: Mutex::default(),
            mail: Mail::new(),
        }
    }

    /// The session it shows; none where it follows an alias that names nothing now.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        lock(&self.shows).clone()
    }

    /// Says something to it alone, between the frames it is shown. Never waits.
    ///
    /// # Errors
    /// [`Unsaid`]
    pub fn say(&self, word: Word) -> Result<(), Unsaid> {
        self.mail.put(word, &self.entrance.mail)
    }

    /// Waits until something is to be said to it. Cancelling is safe.
    pub(crate) async fn rung(&self) {
        self.mail.rung().await;
    }

    /// What is to be said to it next.
    pub(crate) fn next_word(&self) -> Option<Word> {
        self.mail.take(&self.entrance.mail)
    }

    /// Whether it was told to go, and how.
    pub(crate) fn told_to_go(&self) -> Option<Close> {
        self.mail.close_word()
    }

    /// This frame could not be said yet.
    pub(crate) fn not_said(&self, frame: bytes::Bytes) {
        self.mail.put_back(frame, &self.entrance.mail);
    }
}

impl Guests {
    /// Nobody yet. `edge` is what engines call this process; `watchers` hear of everybody, in this order.
    #[must_use]
    pub fn new(edge: &InstanceId, watchers: Vec<Box<dyn Watcher>>) -> Arc<Self> {
        Arc::new(Self { edge: edge.clone(), registry: Mutex::default(), watchers })
    }

    /// What engines call this process: `conn.<edge>.<conn>`.
    #[must_use]
    pub const fn edge(&self) -> &InstanceId {
        &self.edge
    }

    /// Takes up a guest, who shows nothing yet.
    #[must_use]
    pub fn admit(self: &Arc<Self>, guest: Guest) -> Stay {
        let guest = Arc::new(guest);
        lock(&self.registry).all.insert(guest.conn, guest.clone());
        Stay { guests: self.clone(), guest }
    }

    /// The guest of that name.
    #[must_use]
    pub fn find(&self, conn: &Conn) -> Option<Arc<Guest>> {
        lock(&self.registry).all.get(conn).cloned()
    }

    /// Who shows a session.
    #[must_use]
    pub fn of_session(&self, root: &Arc<str>, session: &SessionId) -> Vec<Arc<Guest>> {
        let registry = lock(&self.registry);
        let room = registry.rooms.get(&(root.clone(), session.clone()));
        room.map_or_else(Vec::new, |room| room.values().cloned().collect())
    }

    /// How many show a session.
    #[must_use]
    pub fn count(&self, root: &Arc<str>, session: &SessionId) -> usize {
        lock(&self.registry).rooms.get(&(root.clone(), session.clone())).map_or(0, HashMap::len)
    }

    /// The guests behind `after`, `most` at most, by their names.
    #[must_use]
    pub fn page(&self, after: Option<&Conn>, most: usize) -> Vec<Arc<Guest>> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        lock(&self.registry).all.range((behind, Bound::Unbounded)).map(|(_, guest)| guest.clone()).take(most).collect()
    }

    /// The sessions shown behind `after`, `most` at most, by root and id, each with the number of its guests.
    #[must_use]
    pub fn sessions(&self, after: Option<&RoomName>, most: usize) -> Vec<(RoomName, usize)> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let registry = lock(&self.registry);
        let rooms = registry.rooms.range::<RoomName, _>((behind, Bound::Unbounded));
        rooms.map(|(name, room)| (name.clone(), room.len())).take(most).collect()
    }

    /// As [`Guests::sessions`], each with one of its guests.
    pub(crate) fn rooms(&self, after: Option<&RoomName>, most: usize) -> Vec<(RoomName, usize, Arc<Guest>)> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let registry = lock(&self.registry);
        let rooms = registry.rooms.range::<RoomName, _>((behind, Bound::Unbounded));
        let rooms = rooms.filter_map(|(name, room)| Some((name.clone(), room.len(), room.values().next()?.clone())));
        rooms.take(most).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.registry).all.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn enter(&self, guest: &Arc<Guest>, session: &SessionId) {
        let name = (guest.entrance.root.clone(), session.clone());
        lock(&self.registry).rooms.entry(name).or_default().insert(guest.conn, guest.clone());
        self.watchers.iter().for_each(|watcher| watcher.entered(guest, session));
    }

    fn leave(&self, guest: &Arc<Guest>, session: &SessionId) {
        let name = (guest.entrance.root.clone(), session.clone());
        let mut registry = lock(&self.registry);
        if let Some(room) = registry.rooms.get_mut(&name) {
            room.remove(&guest.conn);
            if room.is_empty() {
                registry.rooms.remove(&name);
            } else if room.capacity() > 4 * room.len() + 16 {
                room.shrink_to(2 * room.len());
            }
        }
        drop(registry);
        self.watchers.iter().for_each(|watcher| watcher.left(guest, session));
    }
}

impl Stay {
    /// Whose it is.
    #[must_use]
    pub const fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// What engines call this process.
    #[must_use]
    pub fn edge(&self) -> &InstanceId {
        &self.guests.edge
    }

    /// It shows that session from now on, or none. Watchers hear that it has left the former one first.
    pub fn show(&mut self, session: Option<&SessionId>) {
        let former = {
            let mut shows = lock(&self.guest.shows);
            if shows.as_ref() == session {
                return;
            }
            std::mem::replace(&mut *shows, session.cloned())
        };
        if let Some(former) = former {
            self.guests.leave(&self.guest, &former);
        }
        if let Some(session) = session {
            self.guests.enter(&self.guest, session);
        }
    }
}

impl Stay {
    /// It is about to go: nobody finds it any more, nothing is said to it, it shows nothing.
    pub fn end(&mut self) {
        lock(&self.guests.registry).all.remove(&self.guest.conn);
        self.guest.mail.close(&self.guest.entrance.mail);
        self.show(None);
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        dialect::Dialect,
        view::{Encoding, View},
    };

    /// A guest that shows nothing, for tests.
    pub(crate) fn guest(entrance: &Arc<Entrance>, user: Option<&str>, role: Option<&str>) -> Guest {
        let view = View {
            roots: vec![entrance.root.clone()],
            hidden: vec![],
            snapshot: vec![],
            dialect: Dialect::Event,
            encoding: Encoding::V1,
            veils: vec![],
            options: crate::view::ViewOptions::default(),
        };
        let who = Who { user: user.map(Arc::from), role: role.map(Arc::from), name: None };
        Guest::new(entrance, &Arc::new(view), who, IpAddr::from([192, 0, 2, 1]))
    }

    /// The entrance of a route that allows nothing.
    pub(crate) fn entrance(root: &str) -> Entrance {
        Entrance {
            listener: "public".to_owned(),
            path: "/ws/{sid}".to_owned(),
            stream: "EVENTS".to_owned(),
            root: root.into(),
            transport: Transport::Socket,
            uplink: None,
            newest: None,
            presence: PresenceMode::Off,
            mail: MailLimits::new(4, 1000, 10_000),
        }
    }

    #[derive(Clone, Default)]
    struct Book(Arc<Mutex<Vec<String>>>);

    impl Watcher for Book {
        fn entered(&self, guest: &Arc<Guest>, session: &SessionId) {
            lock(&self.0).push(format!("{} enters {session}", guest.user.as_deref().unwrap_or("?")));
        }

        fn left(&self, guest: &Arc<Guest>, session: &SessionId) {
            lock(&self.0).push(format!("{} leaves {session}", guest.user.as_deref().unwrap_or("?")));
        }
    }

    fn session(id: &str) -> SessionId {
        SessionId::new(id).unwrap()
    }

    #[test]
    fn a_guest_is_known_as_long_as_its_connection_lives() {
        let (book, edge) = (Book::default(), InstanceId::new("edge-1").unwrap());
        let guests = Guests::new(&edge, vec![Box::new(book.clone())]);
        let entrance = Arc::new(entrance("dice"));
        let (root, one, two) = (entrance.root.clone(), session("one"), session("two"));
        let mut ann = guests.admit(guest(&entrance, Some("ann"), None));
        let name = ann.guest().conn;
        assert!(guests.find(&name).is_some() && guests.count(&root, &one) == 0);
        ann.show(Some(&one));
        ann.show(Some(&one));
        let mut bob = guests.admit(guest(&entrance, Some("bob"), Some("dm")));
        bob.show(Some(&one));
        assert_eq!((guests.count(&root, &one), guests.of_session(&root, &one).len(), guests.len()), (2, 2, 2));
        assert_eq!(guests.count(&"gm".into(), &one), 0, "another game's session of that name is another one");
        ann.show(Some(&two));
        assert_eq!(ann.guest().session(), Some(two.clone()));
        let rooms = guests.sessions(None, 10);
        assert_eq!(rooms, [((root.clone(), one.clone()), 1), ((root.clone(), two.clone()), 1)]);
        assert_eq!(guests.sessions(Some(&rooms[0].0), 10), rooms[1..]);
        let page = guests.page(None, 1);
        assert_eq!(guests.page(Some(&page[0].conn), 10).len(), 1);
        drop(ann);
        assert!(guests.find(&name).is_none() && guests.count(&root, &two) == 0);
        bob.show(None);
        assert_eq!((guests.len(), guests.sessions(None, 10).len()), (1, 0));
        drop(bob);
        assert!(guests.is_empty());
        let told = [
            "ann enters one",
            "bob enters one",
            "ann leaves one",
            "ann enters two",
            "ann leaves two",
            "bob leaves one",
        ];
        assert_eq!(*lock(&book.0), told);
    }

    #[test]
    fn to_a_guest_that_is_gone_nothing_is_said() {
        let guests = Guests::new(&InstanceId::new("e").unwrap(), vec![]);
        let stay = guests.admit(guest(&Arc::new(entrance("dice")), None, None));
        let guest = stay.guest().clone();
        assert_eq!(guest.say(Word::Ready("x".into())), Ok(()));
        assert_eq!(guest.next_word(), Some(Word::Ready("x".into())));
        drop(stay);
        assert_eq!(guest.say(Word::Ready("x".into())), Err(Unsaid::Gone));
    }
}
