//! Whether a Game Master answers: asked for its state when somebody wants to know, at most once a second.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::time::Instant;

use crate::{
    game_master::{GameMaster, RequestError},
    metrics,
};

/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The pulse of one Game Master. A look is shared by all who ask meanwhile.
pub(crate) struct Pulse {
    gm: GameMaster,
    number: usize,
    last: Mutex<Option<(Instant, Look)>>,
    out: Arc<AtomicBool>,
}

type Look = Shared<BoxFuture<'static, bool>>;

impl Pulse {
    /// Of the Game Master that stands at that place in the configuration, counted from 1.
    pub(super) fn new(gm: &GameMaster, number: usize) -> Self {
        metrics::game_master_up(number, true);
        Self { gm: gm.clone(), number, last: Mutex::default(), out: Arc::default() }
    }

    /// Whether it answers. What it answers is its own matter; it may refuse to tell the state of a game that nobody has
    /// started.
    pub(crate) async fn beats(&self) -> bool {
        self.look().await
    }

    /// Whether it did not answer when it was last asked.
    pub(super) fn is_out(&self) -> bool {
        self.out.load(Ordering::Relaxed)
    }

    /// It could not be reached just now.
    pub(crate) fn missed(&self) {
        let look = std::future::ready(false).boxed().shared();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), look));
        note(&self.out, self.number, &self.gm, false);
    }

    /// The look that is under way or good still, else a new one.
    fn look(&self) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((begun, look)) if begun.elapsed() < GOOD_FOR || look.peek().is_none() => look.clone(),
            _ => {
                let (gm, number, out) = (self.gm.clone(), self.number, Arc::clone(&self.out));
                let look = async move {
                    let up = !matches!(gm.probe().await, Err(RequestError::Unreachable(_) | RequestError::Timeout));
                    note(&out, number, &gm, up);
                    up
                };
                let look = look.boxed().shared();
                *last = Some((Instant::now(), look.clone()));
                look
            }
        }
    }
}

fn note(out: &AtomicBool, number: usize, gm: &GameMaster, up: bool) {
    if out.swap(!up, Ordering::Relaxed) == up {
        if up {
            tracing::info!(number, ?gm, "game master answers again");
        } else {
            tracing::warn!(number, ?gm, "game master does not answer");
        }
    }
    metrics::game_master_up(number, up);
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulse").field("number", &self.number).field("out", &self.is_out()).finish_non_exhaustive()
    }
}
