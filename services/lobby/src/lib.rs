//! lobby: game sessions that players join and declare themselves ready in, the labyrinths they are played on, and reference data.

pub mod config;
pub mod maze;
pub mod reference;
pub mod tiles;

use herald_runtime::Context;

use crate::config::Config;

/// Runs the service until the context's shutdown, and ends it in order.
///
/// # Errors
/// Where it can't be started.
pub async fn start(_config: Config, context: Context) -> anyhow::Result<()> {
    context.health.started();
    context.shutdown.begun().await;
    Ok(())
}
