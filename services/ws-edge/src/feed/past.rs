//! What a feed asks history, and what it gets.

use std::{sync::Arc, time::Duration};

use herald_protocol::SessionId;

use crate::{
    history::{Extent, History, HistoryError, Page, Snapshot},
    view::View,
};

/// A question to history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// What the stream holds.
    Extent,
    /// The session's events behind `after`, up to `upto`; with `before`, also which shown event came before them.
    Page { after: u64, upto: u64, before: bool },
    /// Which shown event came before `seq`.
    Before { seq: u64 },
    /// The state of the snapshot topics.
    Snapshot,
}

/// Its answer, of the same name.
#[derive(Debug)]
pub(crate) enum Answer {
    Extent(Extent),
    /// `extent` was read after the page: whatever is behind its first sequence was there to be read.
    Page {
        page: Arc<Page>,
        extent: Extent,
        before: Option<u64>,
    },
    Before {
        seq: u64,
        prev: u64,
    },
    Snapshot(Arc<Snapshot>),
}

/// A question on its way: whom to ask, about what, and when.
pub(crate) struct Question {
    pub(crate) view: Arc<View>,
    pub(crate) session: SessionId,
    pub(crate) ask: Ask,
    pub(crate) delay: Duration,
}

impl Question {
    /// Asks. Cancelling is safe.
    pub(crate) async fn answer(self, history: &History) -> Result<Answer, HistoryError> {
        let Self { view, session, ask, delay } = self;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let before = async |seq| {
            let shown = |event: &_| view.shows(event) && view.head(event).is_some();
            history.before(&session, &view.roots, seq, shown).await
        };
        Ok(match ask {
            Ask::Extent => Answer::Extent(history.extent().await?),
            Ask::Before { seq } => Answer::Before { seq, prev: before(seq).await? },
            Ask::Snapshot => Answer::Snapshot(history.snapshot(&session, &view.snapshot_filters(&session)).await?),
            Ask::Page { after, upto, before: wanted } => {
                let prev = if wanted { Some(before(after + 1).await?) } else { None };
                let page = history.page(&session, &view.roots, after, upto).await?;
                Answer::Page { page, extent: history.extent().await?, before: prev }
            }
        })
    }
}
