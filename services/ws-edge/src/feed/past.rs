//! What a feed asks history, and what it gets.
//!
//! Many ask at once: an edge has died, and its clients come back to another one whose rings are empty. So what is read for
//! one goes into the ring ([`take_up`]), and who finds a read under way that covers its own waits for that and looks into
//! the ring again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use herald_protocol::{Epoch, Position, SessionId, frame::Tail};
use tokio::time::{sleep, timeout};

use crate::{
    event::Event,
    history::{Counts, Extent, Flights, History, HistoryError, Holes, Page, Proof, SHARED_READS, Snapshot},
    log::{Old, Piece},
    sessions::{LastWords, Sessions},
    view::{View, cursor},
};

/// A read that has to find out which event came before its first one begins so many sequences earlier: it mostly finds it
/// there, and those who are a little further behind find what they miss.
const LOOK_BACK: u64 = if cfg!(test) { 3 } else { 256 };

/// How long a fork that has just been made is waited for, and how often it is looked for.
const COME: Duration = Duration::from_secs(5);
const LOOK_FOR: Duration = Duration::from_millis(5);

/// A question to history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// What the stream holds.
    Extent,
    /// The session's events behind `after`, up to `upto`.
    Page {
        /// The life of the stream in which the places are what they are: in another one nothing is known of them.
        epoch: Epoch,
        after: u64,
        upto: u64,
        /// Which shown event came before them, if that is known or of no interest.
        prev: Option<u64>,
        /// Whether it has waited for the read of another one, in vain.
        alone: bool,
    },
    /// Which shown event came before `seq`.
    Before { seq: u64 },
    /// The state of the snapshot topics.
    Snapshot,
    /// The newest event of each topic that is shown.
    Latest,
}

/// Its answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) found: Found,
    /// What the stream holds and which life it lives, as it was *after* `found` was read: whatever is behind the first
    /// sequence in it was there to be read, and all of it in that life.
    pub(crate) proof: Arc<Proof>,
}

impl Answer {
    /// The page, if it is one.
    pub(crate) fn page(&self) -> Option<&Page> {
        match &self.found {
            Found::Page { page, .. } => Some(page),
            _ => None,
        }
    }
}

/// What was found, of the same name as the question; the newest events are a snapshot, too.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Extent,
    /// The page may begin before the asked position. `prev`: which shown event came before that position.
    Page {
        page: Arc<Page>,
        prev: u64,
    },
    Before {
        seq: u64,
        prev: u64,
    },
    Snapshot(Arc<Snapshot>),
    /// Another one's page was waited for: the ring may have it.
    Another,
}

/// A question on its way: whom to ask, about what, and when.
pub(crate) struct Question {
    pub(crate) view: Arc<View>,
    pub(crate) session: SessionId,
    pub(crate) ask: Ask,
    pub(crate) delay: Duration,
}

/// Whose log, and how it is seen.
type Room = (SessionId, Arc<View>);

/// A stream's history as feeds ask it: who asks the same in the same view at the same time shares one answer.
pub struct Past {
    history: History,
    sessions: Arc<Sessions>,
    under_way: Flights<(Room, Ask, Option<Epoch>), Result<Answer, HistoryError>>,
    /// The widest page under way.
    widest: Arc<Mutex<HashMap<Room, Ask>>>,
}

impl Past {
    /// Questions go to `history`, and what is found of a ring's time before into the rings of `sessions`.
    #[must_use]
    pub fn new(history: History, sessions: Arc<Sessions>) -> Self {
        Self { history, sessions, under_way: Flights::new(SHARED_READS), widest: Arc::default() }
    }

    /// Asks. Cancelling is safe.
    pub(crate) async fn answer(&self, question: Question) -> Result<Answer, HistoryError> {
        let Question { view, session, ask, delay } = question;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let room = (session, view);
        match ask {
            // Never shared with an earlier question: what it knew of the head may be older than the cursor in question.
            Ask::Extent => Ok(Answer { found: Found::Extent, proof: self.history.proof().await? }),
            Ask::Page { .. } => match self.wider(&room, ask) {
                Some(wider) => {
                    let answer = self.join(room, wider).await?;
                    Ok(Answer { found: Found::Another, ..answer })
                }
                None => self.join(room, ask).await,
            },
            Ask::Before { .. } | Ask::Snapshot | Ask::Latest => self.join(room, ask).await,
        }
    }

    /// The last events of a session that a view shows, `most` at most, in order.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub(crate) async fn tail(&self, session: &SessionId, view: &View, most: usize) -> Result<Vec<Event>, HistoryError> {
        let shown = |event: &Event| view.shows(event) && view.head(event).is_some();
        self.history.tail(session, &view.roots, most, shown).await
    }

    /// The events of a session that a view shows behind `after`, `most` at most, in order, and up to where these are all of them.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub(crate) async fn behind(
        &self,
        session: &SessionId,
        view: &Arc<View>,
        after: u64,
        most: usize,
    ) -> Result<(Vec<Event>, u64), HistoryError> {
        let last = self.history.proof().await?.extent.last;
        let (mut through, mut found) = (after, Vec::new());
        while through < last && found.len() < most {
            let answer = self.page(session, view, through, last).await?;
            let Some(page) = answer.page() else { break };
            let shown = |event: &&Event| event.seq > through && view.shows(event) && view.head(event).is_some();
            found.extend(page.events.iter().filter(shown).take(most - found.len()).cloned());
            through = page.through;
        }
        let through = found.last().filter(|_| found.len() == most).map_or(through, |event: &Event| event.seq);
        Ok((found, through))
    }

    /// What was last said of a session's end.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn last_words(&self, session: &SessionId) -> Result<LastWords, HistoryError> {
        self.history.last_words(session).await
    }

    /// Whether nothing is to come for a client at that place: the session is over, and it has all that is shown of it.
    pub(crate) async fn is_finished(
        &self,
        session: &SessionId,
        view: &Arc<View>,
        at: Position,
    ) -> Result<bool, HistoryError> {
        let words = match self.sessions.last_words(session) {
            Some(words) => words,
            None => self.history.last_words(session).await?,
        };
        if !words.is_over() {
            return Ok(false);
        }
        let room = (session.clone(), view.clone());
        let last = self.history.proof().await?.extent.last;
        let answer = self.join(room, Ask::Before { seq: last + 1 }).await?;
        let Answer { found: Found::Before { prev, .. }, proof } = answer else { return Ok(false) };
        let same = match at {
            Position::Cursor(cursor) => proof.epoch == Some(cursor.epoch),
            Position::Seq(_) => proof.epoch.is_some(),
        };
        let (at, extent) = (at.seq(), &proof.extent);
        let missing = extent.holes.last_in(at, extent.last).is_some() || at + 1 < extent.first;
        Ok(same && prev <= at && at <= extent.last && !missing)
    }

    /// A page of a session's past for somebody who has no ring, behind `after` and up to `upto`, which the stream has reached.
    pub(crate) async fn page(
        &self,
        session: &SessionId,
        view: &Arc<View>,
        after: u64,
        upto: u64,
    ) -> Result<Answer, HistoryError> {
        // The epoch is of interest where a ring takes it up, and what came before where frames are chained.
        let ask = Ask::Page { epoch: Epoch::new(0), after, upto, prev: Some(0), alone: true };
        read(&self.history, &(session.clone(), view.clone()), ask).await
    }

    /// The sequence of the last event up to `upto` that the view shows; 0: none is kept.
    pub(crate) async fn last_shown(
        &self,
        session: &SessionId,
        view: &Arc<View>,
        upto: u64,
    ) -> Result<u64, HistoryError> {
        let ask = Ask::Before { seq: upto.saturating_add(1) };
        match self.join((session.clone(), view.clone()), ask).await?.found {
            Found::Before { prev, .. } => Ok(prev),
            _ => Ok(0),
        }
    }

    /// What the stream holds, and which life it lives.
    pub(crate) async fn proof(&self) -> Result<Arc<Proof>, HistoryError> {
        self.history.proof().await
    }

    /// The sequence of the session's first kept event of `roots`, shown or not.
    pub(crate) async fn first(&self, session: &SessionId, roots: &[Arc<str>]) -> Result<Option<u64>, HistoryError> {
        self.history.first(session, roots).await
    }

    /// Waits until the rings have come to where a session begins, if it is a fork: what it begins with is no event of its own,
    /// so a ring must not be opened before. `false`: that takes too long, or nobody knows.
    pub(crate) async fn has_come_to(&self, session: &SessionId) -> bool {
        if !session.is_fork() {
            return true;
        }
        let come = async {
            let written = self.history.lineage(session).await.ok()?.map_or(0, |lineage| lineage.written());
            while self.sessions.settled() < written {
                sleep(LOOK_FOR).await;
            }
            Some(())
        };
        matches!(timeout(COME, come).await, Ok(Some(())))
    }

    /// Where a session's own log begins, if it is a fork.
    pub(crate) async fn forked_at(&self, session: &SessionId) -> Result<Option<u64>, HistoryError> {
        Ok(self.history.lineage(session).await?.map(|lineage| lineage.own_from()))
    }

    /// How many events of a session are kept, by subject; `most` of them are read for that.
    pub(crate) async fn counts(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        most: usize,
    ) -> Result<Counts, HistoryError> {
        self.history.counts(session, roots, most).await
    }

    async fn join(&self, room: Room, ask: Ask) -> Result<Answer, HistoryError> {
        let begin = || {
            let (history, sessions, room) = (self.history.clone(), self.sessions.clone(), room.clone());
            let mark = Widest::mark(&self.widest, &room, ask);
            let read = async move {
                let purges = sessions.purges();
                let answer = read(&history, &room, ask).await?;
                take_up(&sessions, &room.0, &room.1, ask, &answer, purges);
                drop(mark);
                Ok(answer)
            };
            read.boxed()
        };
        // A read that began in a former life says nothing to those who ask in this one.
        self.under_way.join((room.clone(), ask, self.history.believed()), begin).await
    }

    /// A page under way that may bring the asked one into the ring.
    fn wider(&self, room: &Room, asked: Ask) -> Option<Ask> {
        let wider = lock(&self.widest).get(room).copied()?;
        (wider != asked && covers(wider, asked)).then_some(wider)
    }
}

/// Whether what one page brings into the ring may serve whoever asks for the other.
fn covers(wide: Ask, asked: Ask) -> bool {
    match (wide, asked) {
        (
            Ask::Page { epoch: of, after: wide, upto: to, prev, .. },
            Ask::Page { epoch, after, upto, alone: false, .. },
        ) => of == epoch && begin(wide, prev) <= after && to == upto,
        _ => false,
    }
}

/// Where the read of a page begins.
pub(super) const fn begin(after: u64, prev: Option<u64>) -> u64 {
    if prev.is_some() { after } else { after.saturating_sub(LOOK_BACK) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says for as long as it lives which page is under way.
struct Widest {
    all: Arc<Mutex<HashMap<Room, Ask>>>,
    room: Room,
    ask: Ask,
}

impl Widest {
    /// `None` where it is no page, or a wider one is under way.
    fn mark(all: &Arc<Mutex<HashMap<Room, Ask>>>, room: &Room, ask: Ask) -> Option<Self> {
        let Ask::Page { after, .. } = ask else { return None };
        let mut widest = lock(all);
        if let Some(Ask::Page { after: wide, .. }) = widest.get(room)
            && *wide <= after
        {
            return None;
        }
        widest.insert(room.clone(), ask);
        Some(Self { all: all.clone(), room: room.clone(), ask })
    }
}

impl Drop for Widest {
    fn drop(&mut self) {
        let mut widest = lock(&self.all);
        if widest.get(&self.room) == Some(&self.ask) {
            widest.remove(&self.room);
        }
    }
}

async fn read(history: &History, room: &Room, ask: Ask) -> Result<Answer, HistoryError> {
    let (life, asked_shelf) = (history.believed(), history.asks_shelf());
    let answer = answered(history, room, ask, life).await?;
    if !asked_shelf {
        return Ok(answer);
    }
    if answer.proof.extent.holes == Holes::None {
        let first = answer.proof.extent.first;
        return Ok(Answer { found: trim(answer.found, ask, first), ..answer });
    }
    // Somebody has deleted from the stream, but not from the shelf.
    answered(&history.without_shelf(), room, ask, history.believed()).await
}

/// What is found, with its proof: that is none where the stream is believed to live another life than before.
async fn answered(history: &History, room: &Room, ask: Ask, life: Option<Epoch>) -> Result<Answer, HistoryError> {
    let (found, proof) = (find(history, room, ask).await?, history.proof().await?);
    let (same, removed) = (proof.epoch.is_none() || proof.epoch == life, history.purges().of(&room.0));
    let lineage = history.lineage(&room.0).await?;
    let lost = lineage.map_or(0, |lineage| lineage.lost(proof.extent.first, |session| history.purges().of(session)));
    if same && removed == 0 && lost == 0 {
        return Ok(Answer { found, proof });
    }
    let holes = proof.extent.holes.with_removed(removed).with_lost_beginning(lost);
    let extent = Extent { holes, ..proof.extent.clone() };
    let epoch = proof.epoch.filter(|_| same);
    Ok(Answer { found, proof: Arc::new(Proof { extent, epoch }) })
}

/// What was found as the stream has it that begins with `first`: a shelf may still hold what was before.
fn trim(found: Found, ask: Ask, first: u64) -> Found {
    let kept = |events: &[Event]| events.iter().filter(|event| event.seq >= first).cloned().collect();
    let before = |prev| if prev < first { 0 } else { prev };
    match (found, ask) {
        (Found::Page { page, prev }, Ask::Page { upto, prev: known, .. }) => {
            let prev = known.unwrap_or_else(|| before(prev));
            if page.events.first().is_none_or(|event| event.seq >= first) {
                return Found::Page { page, prev };
            }
            // Nothing that is kept lies before the first.
            let through = page.through.max(upto.min(first - 1));
            Found::Page { page: Arc::new(Page { events: kept(&page.events), through }), prev }
        }
        (Found::Before { seq, prev }, _) => Found::Before { seq, prev: before(prev) },
        (Found::Snapshot(snapshot), _) if snapshot.events.first().is_some_and(|event| event.seq < first) => {
            Found::Snapshot(Arc::new(Snapshot { events: kept(&snapshot.events), cut: snapshot.cut }))
        }
        (found, _) => found,
    }
}

async fn find(history: &History, room: &Room, ask: Ask) -> Result<Found, HistoryError> {
    let (session, view) = room;
    let shown = |event: &_| view.shows(event) && view.head(event).is_some();
    Ok(match ask {
        Ask::Extent => Found::Extent,
        Ask::Before { seq } => Found::Before { seq, prev: history.before(session, &view.roots, seq, shown).await? },
        Ask::Snapshot => Found::Snapshot(history.snapshot(session, &view.snapshot_filters(session)).await?),
        Ask::Latest => Found::Snapshot(history.snapshot(session, &view.filters(session)).await?),
        Ask::Page { after, upto, prev, .. } => {
            let page = history.page(session, &view.roots, begin(after, prev), upto).await?;
            let prev = match prev.or_else(|| last_shown(&page, after, shown)) {
                Some(prev) => prev,
                None => history.before(session, &view.roots, after + 1, shown).await?,
            };
            Found::Page { page, prev }
        }
    })
}

/// The last event of a page up to `upto` that is shown.
fn last_shown(page: &Page, upto: u64, shown: impl Fn(&Event) -> bool) -> Option<u64> {
    page.events.iter().rev().find(|event| event.seq <= upto && shown(event)).map(|event| event.seq)
}

/// Puts a page that reaches the ring into it, as far as it is complete. `purges`: [`Sessions::purges`] before it was read.
pub(super) fn take_up(
    sessions: &Sessions,
    session: &SessionId,
    view: &Arc<View>,
    ask: Ask,
    answer: &Answer,
    purges: u64,
) {
    let (Ask::Page { epoch, after, upto, prev: known, .. }, Found::Page { page, prev }) = (ask, &answer.found) else {
        return;
    };
    let Proof { extent, epoch: read_in } = &*answer.proof;
    if *read_in != Some(epoch) {
        return;
    }
    let begun = begin(after, known);
    let missing = extent.holes.last_in(begun, upto).unwrap_or(0).max(extent.first.saturating_sub(1));
    if page.through < upto || missing > after {
        return;
    }
    // Up to `after` the page is a look back. Of its first event nobody knows what came before, unless that lies before all.
    let mut last = (known.is_some() || *prev <= begun).then_some(*prev);
    let mut floor = begun.max(missing);
    let mut frames = Vec::new();
    for event in page.events.iter().filter(|event| view.shows(event)) {
        let Some(head) = view.head(event) else { continue };
        let Some(prev) = last.replace(event.seq) else {
            floor = floor.max(event.seq);
            continue;
        };
        if event.seq > floor {
            let tail = Tail { prev: Some(prev), ..Tail::plain(event.seq, event.ts_ms) };
            let bytes = view.encode(&head, tail, Some(cursor(epoch, event.seq)));
            frames.push(Old { seq: event.seq, prev, bytes });
        }
    }
    let stops = page.events.iter().filter_map(|event| view.stop(event)).filter(|stop| stop.seq > floor).collect();
    let piece = Piece { epoch, floor, upto, purges, frames, stops, last: last.unwrap_or(*prev) };
    sessions.fill(session, view, piece);
}
