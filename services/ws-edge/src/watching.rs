//! Answers `edge.watching.<sid>`: how many connections of this edge watch a session.

use std::time::Duration;

use futures_util::StreamExt;
use herald_protocol::{InstanceId, SessionId, subject};
use herald_runtime::nats::Nats;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// How long to wait before a lost subscription is made again.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Watching<'a> {
    edge: &'a InstanceId,
    count: usize,
}

/// Answers until `stop`, also with 0: who asks counts the answers, not only the connections.
pub async fn answer(
    nats: Nats,
    edge: InstanceId,
    count: impl Fn(&SessionId) -> usize + Send + Sync,
    stop: CancellationToken,
) {
    let endless = async {
        loop {
            if let Err(error) = answer_once(&nats, &edge, &count).await {
                tracing::warn!(%error, "nobody can be told who watches, trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    stop.run_until_cancelled(endless).await;
}

async fn answer_once(
    nats: &Nats,
    edge: &InstanceId,
    count: &(impl Fn(&SessionId) -> usize + Send + Sync),
) -> Result<(), async_nats::Error> {
    let client = nats.client();
    let mut questions = client.subscribe(subject::WATCHING_ALL).await?;
    while let Some(question) = questions.next().await {
        let Some(reply) = question.reply.filter(|reply| subject::is_inbox(reply)) else { continue };
        let Some(session) = subject::parse_watching(&question.subject) else { continue };
        let answer = serde_json::to_vec(&Watching { edge, count: count(&session) })?;
        client.publish(reply, answer.into()).await?;
    }
    Err("the subscription has ended".into())
}
