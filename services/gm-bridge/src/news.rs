//! `/submit_news`: news for a session, or for whoever plays on the Game Master that sends them.

use std::time::Duration;

use herald_protocol::SessionId;
use tokio::time::timeout;

use crate::{
    arena::{Arena, ArenaError, QueryParams},
    metrics,
    pool::{Played, Pool},
    refusal::Refusal,
    sessions::Sessions,
};

/// Hands news in.
#[derive(Debug, Clone)]
pub(crate) struct News {
    sessions: Sessions,
    pool: Pool,
    arena: Arena,
    /// A Game Master waits no longer for the answer.
    limit: Duration,
}

impl News {
    pub(crate) fn new(sessions: &Sessions, pool: &Pool, arena: &Arena, limit: Duration) -> Self {
        Self { sessions: sessions.clone(), pool: pool.clone(), arena: arena.clone(), limit }
    }

    /// Publishes news for the session `id`, or, where `id` is a Game Master's own, for the session that plays there.
    pub(crate) async fn submit(
        &self,
        id: &SessionId,
        content: &str,
        query_params: &QueryParams,
    ) -> Result<(), Refusal> {
        let result = timeout(self.limit, self.publish(id, content, query_params)).await;
        let result = result.unwrap_or_else(|_| Err(ArenaError::Timeout.into()));
        if result.is_err() {
            metrics::news("failed");
        }
        result
    }

    async fn publish(&self, id: &SessionId, content: &str, query_params: &QueryParams) -> Result<(), Refusal> {
        // A Game Master's id first: its own init has made that a session's, too.
        let session = match self.pool.by_game(id.as_str()).await? {
            Some((_, Some(Played { session, dropped: true }))) => {
                tracing::info!(%session, "news of a game that is over dropped");
                metrics::news("dropped");
                return Ok(());
            }
            Some((_, Some(played))) => played.session,
            Some((_, None)) => return Err(Refusal::session_not_found()),
            None => id.clone(),
        };
        let known = self.sessions.touch(&session).await?.ok_or_else(Refusal::session_not_found)?;
        self.arena.news(&session, known.lang, content, query_params).await?;
        metrics::news("published");
        Ok(())
    }
}
