//! Serving HTTP until told to end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::{Router, serve::ListenerExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a shutdown waits for the streams that are told to end by the same token.
const STREAMS_END: Duration = Duration::from_secs(5);

/// Serves `router` until the token is cancelled and its streams have ended.
///
/// # Errors
/// If the listener fails.
pub async fn until(token: CancellationToken, listener: TcpListener, router: Router) -> Result<()> {
    // Small events at once: they are what latency is measured by.
    let listener = listener.tap_io(|tcp| {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let served = axum::serve(listener, router).with_graceful_shutdown(token.clone().cancelled_owned());
    let ending = async {
        token.cancelled().await;
        tokio::time::sleep(STREAMS_END).await;
    };
    tokio::select! {
        served = served => served.context("serving")?,
        () = ending => tracing::warn!("streams did not end in time"),
    }
    Ok(())
}
