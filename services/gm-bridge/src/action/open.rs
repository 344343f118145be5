//! How many actions are open, on all bridges, and whether one more may be: each costs money while it runs.
//!
//! What others run is known by the watch of the records, what this bridge is about to open by itself; so one bridge alone
//! keeps to the number exactly, and several may be over it by what they open in the moment that a record takes to be seen.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use herald_protocol::SessionId;
use tokio::time::Instant;

use super::ActionError;

/// How long an action that was opened here counts without its record having been seen. The watch shows it at once, or stands
/// still.
const UNSEEN: Duration = Duration::from_secs(5);

/// The sessions in which an action is open, or about to be.
#[derive(Debug)]
pub(super) struct Open {
    /// 0: any number.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: HashSet<SessionId>,
    coming: HashMap<SessionId, Coming>,
}

/// An action whose record was not seen yet.
#[derive(Debug)]
struct Coming {
    /// Commands that try to open it.
    commands: usize,
    /// Until when it counts once there is none of them.
    until: Instant,
}

/// The right to open an action in a session, as long as it lives.
#[derive(Debug)]
#[must_use]
pub(crate) struct Admission {
    open: Arc<Open>,
    session: SessionId,
}

impl Open {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// Asks whether an action may be opened. One that takes over from another of its session always may.
    pub(super) fn admit(self: &Arc<Self>, session: &SessionId) -> Result<Admission, ActionError> {
        let now = Instant::now();
        let mut state = self.state();
        let State { seen, coming } = &mut *state;
        coming.retain(|_, it| it.commands > 0 || now < it.until);
        let known = seen.contains(session) || coming.contains_key(session);
        if !known && self.most > 0 && seen.len() + coming.len() >= self.most {
            return Err(ActionError::TooMany);
        }
        if !seen.contains(session) {
            coming.entry(session.clone()).or_insert(Coming { commands: 0, until: now }).commands += 1;
        }
        Ok(Admission { open: Arc::clone(self), session: session.clone() })
    }

    /// What the watch says of a session: whether it has a record.
    pub(super) fn seen(&self, session: &SessionId, record: bool) {
        let mut state = self.state();
        state.coming.remove(session);
        if record {
            state.seen.insert(session.clone());
        } else {
            state.seen.remove(session);
        }
    }

    /// How many are open, as far as the watch says.
    pub(super) fn count(&self) -> usize {
        self.state().seen.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// The action is open: it counts until its record is seen to be gone.
    pub(super) fn opened(self) {
        if let Some(coming) = self.open.state().coming.get_mut(&self.session) {
            coming.until = Instant::now() + UNSEEN;
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.open.state();
        // Once the watch has seen it, what it says counts.
        if let Some(coming) = state.coming.get_mut(&self.session) {
            coming.commands = coming.commands.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SessionId {
        SessionId::new(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_opened_than_may_be_wherever_they_run() {
        let open = Open::new(2);
        open.seen(&id("elsewhere"), true);
        let one = open.admit(&id("one")).unwrap();
        assert!(matches!(open.admit(&id("two")), Err(ActionError::TooMany)));
        drop(one);
        let two = open.admit(&id("two")).expect("the other one came to nothing");
        two.opened();
        assert!(open.admit(&id("one")).is_err(), "opened, and not seen yet");
        open.seen(&id("two"), true);
        assert!(open.admit(&id("one")).is_err());
        open.seen(&id("elsewhere"), false);
        let _one = open.admit(&id("one")).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_action_may_always_take_over_from_its_own_session() {
        let open = Open::new(1);
        let first = open.admit(&id("s")).unwrap();
        let second = open.admit(&id("s")).unwrap();
        drop(first);
        assert!(open.admit(&id("other")).is_err());
        second.opened();
        open.seen(&id("s"), true);
        open.admit(&id("s")).unwrap().opened();
        assert_eq!(open.state().coming.len(), 0, "the watch knows it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_before_it_is_said_to_be_open_does_not_count() {
        let open = Open::new(1);
        let fast = open.admit(&id("fast")).unwrap();
        open.seen(&id("fast"), true);
        open.seen(&id("fast"), false);
        fast.opened();
        open.admit(&id("next")).unwrap().opened();
        // Nor does what is never seen, for long.
        tokio::time::advance(UNSEEN).await;
        let _last = open.admit(&id("last")).unwrap();
    }

    #[test]
    fn without_a_number_there_is_none() {
        let open = Open::new(0);
        for session in 0..100 {
            open.seen(&id(&format!("s{session}")), true);
        }
        let _more = open.admit(&id("more")).unwrap();
    }
}
