//! Saying which sessions there are, to the doors that are asked for one: whoever watches a session that does not exist is told
//! so before there is a socket.

use std::{sync::Arc, time::Duration};

use herald_protocol::{Name, subject};
use herald_runtime::{Context, nats::Nats};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{input, lobby::Lobby};

/// Questions that are answered at a time; whoever asks beyond gets no answer, and is told by its door to come back.
const AT_ONCE: usize = 512;
/// How long an answer may take: a door does not wait for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers on `admit.<service>`, in turn with every other instance, until the shutdown.
///
/// # Errors
/// Where the connection is closed for good.
pub(crate) async fn answer(
    nats: &Nats,
    service: &Name,
    lobby: Lobby,
    context: &Context,
) -> Result<(), async_nats::SubscribeError> {
    let mut questions = nats.subscribe(subject::admission(service), Some(service.to_string())).await?;
    let (nats, stop) = (nats.clone(), context.shutdown.token());
    context.supervise("admission", async move {
        let (room, tasks) = (Arc::new(Semaphore::new(AT_ONCE)), TaskTracker::new());
        while let Some(Some(question)) = stop.run_until_cancelled(questions.next()).await {
            let Some(reply) = question.reply.filter(|reply| subject::is_inbox(reply)) else { continue };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
            let (nats, lobby) = (nats.clone(), lobby.clone());
            tasks.spawn(async move {
                let _place = place;
                let Ok(Some(answer)) = timeout(PATIENCE, decide(&lobby, &question.payload)).await else { return };
                if let Err(error) = nats.client().publish(reply, answer.to_string().into()).await {
                    tracing::warn!(%error, "an answer did not leave");
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    });
    Ok(())
}

/// Whether there is such a session; nothing where that can't be known.
async fn decide(lobby: &Lobby, question: &[u8]) -> Option<Value> {
    #[derive(Deserialize)]
    struct Question {
        #[serde(default)]
        sid: String,
    }
    let asked: Question = serde_json::from_slice(question).ok()?;
    let session = match input::session_id(&asked.sid) {
        Some(id) => lobby.session(&id).await.ok()?,
        None => None,
    };
    Some(match session {
        // Not for the next one: it may be destroyed by then.
        Some(session) => json!({ "allow": true, "sid": session.id, "reuse_s": 0 }),
        None => json!({ "allow": false, "code": 4404, "reason": "Session not found", "reuse_s": 0 }),
    })
}
