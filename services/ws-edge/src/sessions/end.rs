//! Sessions that are over: somebody has said so (`<root>.<sid>._over`), and nothing was begun in it since (`_action`).
//!
//! What is said while a session is watched is heard with everything else. What was said before is asked for, of each session
//! that is opened, beside everything else: nobody waits for the answer, and who listens already is dismissed if it is over.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use herald_protocol::{SessionId, subject};
use tokio::{sync::Notify, time::sleep};

use super::{Room, Session, Sessions, lock};
use crate::event::Event;

/// Sessions asked about at a time: those who wait for their history come first.
const QUESTIONS: usize = 4;
/// Sessions that are listed. Where nobody can say anything for long, those that come and go meanwhile are not remembered for ever.
const LISTED: usize = 16_384;
/// Pause before those are asked about again of which nobody could say anything.
const AGAIN: Duration = Duration::from_secs(1);

/// The last words that decide whether a session is over, by their sequences; 0: never said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastWords {
    /// Of the last `_over`.
    pub over: u64,
    /// Of the last `_action`.
    pub action: u64,
}

impl LastWords {
    /// Whether it is over.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.over > self.action
    }

    /// Takes in what else is known, in whatever order it becomes known. Whether it is over by that: then those who listen are to
    /// look again, as it may have been known before they could be sent away.
    fn learn(&mut self, words: Self) -> bool {
        *self = Self { over: self.over.max(words.over), action: self.action.max(words.action) };
        self.is_over()
    }

    /// As [`LastWords::learn`], of a control event.
    pub(super) fn hear(&mut self, event: &Event) -> bool {
        self.learn(match event.topic() {
            subject::OVER_TOPIC => Self { over: event.seq, action: 0 },
            subject::ACTION_TOPIC => Self { over: 0, action: event.seq },
            _ => return false,
        })
    }
}

/// Sessions to be asked about.
#[derive(Default)]
pub(super) struct Opened {
    list: Mutex<List>,
    added: Notify,
}

#[derive(Default)]
struct List {
    sessions: Vec<Arc<Session>>,
    /// There were more than are listed: then it is all that there are.
    all: bool,
}

impl Opened {
    pub(super) fn add<'a>(&self, sessions: impl IntoIterator<Item = &'a Arc<Session>>) {
        let mut list = lock(&self.list);
        for session in sessions {
            if list.sessions.len() >= LISTED {
                *list = List { sessions: Vec::new(), all: true };
            }
            if !list.all {
                list.sessions.push(session.clone());
            }
        }
        drop(list);
        self.added.notify_one();
    }

    /// Those that are listed; `None`: all.
    fn take(&self) -> Option<Vec<Arc<Session>>> {
        let List { sessions, all } = std::mem::take(&mut *lock(&self.list));
        (!all).then_some(sessions)
    }
}

impl Sessions {
    /// Finds out of each session that is opened whether it is over, for ever.
    pub async fn look_for_ends<F, E>(&self, ask: impl Fn(SessionId) -> F)
    where
        F: Future<Output = Result<LastWords, E>>,
    {
        loop {
            self.opened.added.notified().await;
            loop {
                let all = || lock(&self.registry).sessions.values().cloned().collect();
                let opened: Vec<_> = self.opened.take().unwrap_or_else(all);
                if opened.is_empty() {
                    break;
                }
                let answers = stream::iter(opened).map(|session| {
                    let asked = session.generation().map(|generation| (generation, ask(session.id.clone())));
                    async move {
                        let (generation, asked) = asked?;
                        Some((session, generation, asked.await))
                    }
                });
                let mut unanswered = Vec::new();
                let mut answers = std::pin::pin!(answers.buffer_unordered(QUESTIONS));
                while let Some(answer) = answers.next().await {
                    match answer {
                        Some((session, generation, Ok(words))) => session.learn(generation, words),
                        Some((session, _, Err(_))) => unanswered.push(session),
                        None => {}
                    }
                }
                if !unanswered.is_empty() {
                    self.opened.add(&unanswered);
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// The last words of a session, if it is watched here and they are known.
    #[must_use]
    pub fn last_words(&self, session: &SessionId) -> Option<LastWords> {
        let session = lock(&self.registry).sessions.get(session).cloned()?;
        let state = lock(&session.state);
        (state.asked && state.now.serving).then_some(state.words)
    }
}

impl Session {
    /// In which life there is somebody to ask for; none before the first life: with that it is asked again.
    fn generation(&self) -> Option<u64> {
        let state = lock(&self.state);
        (state.now.generation > 0 && !state.rooms.is_empty()).then_some(state.now.generation)
    }

    fn learn(&self, generation: u64, words: LastWords) {
        let mut state = lock(&self.state);
        if state.now.generation != generation {
            return;
        }
        state.asked = true;
        if state.words.learn(words) {
            state.rooms.iter_mut().for_each(Room::dismiss_all);
        }
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::Epoch;

    use super::{
        super::{Now, State},
        *,
    };

    #[test]
    fn who_can_not_be_asked_about_takes_no_more_memory_than_those_who_are_here() {
        let opened = Opened::default();
        let words = LastWords::default();
        let now = Now { generation: 0, epoch: Epoch::new(0), serving: false };
        let state = State { now, rooms: Vec::new(), queued: false, fresh: false, words, asked: false };
        let session = Arc::new(Session { id: SessionId::new("s").unwrap(), state: Mutex::new(state) });
        opened.add(std::iter::repeat_n(&session, LISTED));
        assert_eq!(opened.take().map(|listed| listed.len()), Some(LISTED));
        opened.add(std::iter::repeat_n(&session, LISTED + 5));
        assert_eq!(lock(&opened.list).sessions.len(), 0);
        assert_eq!((opened.take().map(drop), opened.take().map(|listed| listed.len())), (None, Some(0)));
    }

    #[test]
    fn the_later_word_counts_in_whatever_order_they_become_known() {
        let (over, action) = (LastWords { over: 7, action: 0 }, |action| LastWords { over: 0, action });
        let mut words = LastWords::default();
        assert!(!words.is_over() && words.learn(over) && words.learn(over));
        assert!(words.learn(action(5)), "begun before that");
        assert!(!words.learn(action(9)) && !words.learn(LastWords { over: 8, action: 2 }));
        assert!(words.learn(LastWords { over: 10, action: 0 }));
    }
}
