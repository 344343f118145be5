//! `/submit_news`: news for a session, or for whoever plays on the Game Master that sends them.

use std::time::Duration;

use herald_protocol::SessionId;
use herald_runtime::config::ByteSize;
use http::StatusCode;
use tokio::time::timeout;

use crate::{
    action::Actions,
    arena::{Arena, ArenaError, QueryParams},
    config::Config,
    metrics,
    pool::{Played, Pool},
    refusal::Refusal,
    sessions::Sessions,
};

/// Hands news in.
#[derive(Clone)]
pub(crate) struct News {
    sessions: Sessions,
    pool: Pool,
    arena: Arena,
    actions: Actions,
    longest: ByteSize,
    /// A Game Master waits no longer for the answer.
    limit: Duration,
}

impl News {
    pub(crate) fn new((sessions, pool, arena, actions): (&Sessions, &Pool, &Arena, &Actions), config: &Config) -> Self {
        Self {
            sessions: sessions.clone(),
            pool: pool.clone(),
            arena: arena.clone(),
            actions: actions.clone(),
            longest: config.action.max_news,
            limit: config.arena.news_timeout.get(),
        }
    }

    /// Publishes news for the session `id`, or, where `id` is a Game Master's own, for the session that plays there.
    pub(crate) async fn submit(
        &self,
        id: &SessionId,
        content: &str,
        query_params: &QueryParams,
    ) -> Result<(), Refusal> {
        let params: usize = query_params.iter().map(|(name, value)| name.len() + value.len()).sum();
        if content.len() + params > self.longest.as_usize() {
            metrics::news("failed");
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("content is larger than {}", self.longest),
            ));
        }
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
        self.actions.check_quota(&session).await?;
        self.arena.news(&session, known.lang, content, query_params).await?;
        metrics::news("published");
        Ok(())
    }
}
