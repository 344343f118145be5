//! What this bridge has in hand, as JSON at the operations port, for the operator: actions that run here with the streams of their
//! Game Masters, and who plays on which Game Master. Nothing of what they say, and no address but host and port.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use herald_protocol::InstanceId;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    action::Actions,
    pool::{MasterLook, Pool},
};

/// How long the records may take to be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who looks.
struct Inspector {
    instance: InstanceId,
    begun: Instant,
    actions: Actions,
    pool: Pool,
}

/// What is answered, below `/inspect`.
pub(crate) fn router(instance: InstanceId, actions: Actions, pool: Pool) -> Router {
    let inspector = Arc::new(Inspector { instance, begun: Instant::now(), actions, pool });
    Router::new()
        .route("/inspect", get(index))
        .route("/inspect/actions", get(actions_of))
        .route("/inspect/game-masters", get(game_masters))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "Not found: see /inspect for what there is"))
        .method_not_allowed_fallback(async || refusal(StatusCode::METHOD_NOT_ALLOWED, "Only GET"))
        .with_state(inspector)
}

async fn index(State(inspector): State<Arc<Inspector>>) -> Json<Value> {
    let (running, open) = inspector.actions.look();
    Json(json!({
        "service": "gm-bridge",
        "instance": inspector.instance.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "up_s": inspector.begun.elapsed().as_secs(),
        "actions": running.len(),
        "actions_open": open,
        "paths": ["/inspect/actions", "/inspect/game-masters"],
    }))
}

/// Actions that run here: no more than `action.max_running`.
async fn actions_of(State(inspector): State<Arc<Inspector>>) -> Json<Value> {
    let (running, open) = inspector.actions.look();
    Json(json!({ "actions": running, "actions_open": open }))
}

/// Game Masters, as all bridges know them.
async fn game_masters(State(inspector): State<Arc<Inspector>>) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let unavailable = || refusal(StatusCode::SERVICE_UNAVAILABLE, "The records of the game masters can't be read now");
    let read = timeout(PATIENCE, inspector.pool.look()).await.ok().and_then(Result::ok);
    let masters: Vec<MasterLook> = read.ok_or_else(unavailable)?;
    Ok(Json(json!({ "game_masters": masters })))
}

fn refusal(status: StatusCode, text: &str) -> (StatusCode, Json<Value>) {
    (status, Json(json!({ "error": text })))
}
