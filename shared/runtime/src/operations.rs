//! The operations port: `/livez`, `/readyz`, `/metrics`, and below `/inspect` what a service shows of itself.

mod inspector;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

pub(crate) use inspector::Inspector;
use inspector::Peer;

use crate::{health::Health, metrics::Metrics};

/// Connections at once; probes and one or two scrapers need a handful.
const CONNECTIONS: usize = 32;
/// How long a client may take for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a health check may take: less than the usual 5 s between two of them.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest answer a health check reads.
const CHECK_LIMIT: u64 = 64 * 1024;

/// The routes of the operations port.
fn router(health: Health, metrics: Metrics, inspector: Inspector) -> Router {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Router::new()
        .route("/livez", get(move || async move { (no_store, "ok\n") }))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(render).with_state(metrics))
        .route(inspector::PATH, any(inspector::answer).with_state(inspector.clone()))
        .route(&format!("{}/{{*rest}}", inspector::PATH), any(inspector::answer).with_state(inspector))
}

async fn readyz(State(health): State<Health>) -> Response {
    let report = health.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(report)).into_response()
}

async fn render(State(metrics): State<Metrics>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}

/// Answers until it is dropped: probes are answered to the very end of a shutdown.
pub(crate) async fn serve(listener: TcpListener, health: Health, metrics: Metrics, inspector: Inspector) -> Infallible {
    let router = router(health, metrics, inspector);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // A full house waits in the listener's own queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            unreachable!("the semaphore is never closed")
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: the next accept would fail as fast.
                tracing::warn!(%error, "operations connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer))));
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "operations connection ended");
            }
            drop(place);
        });
    }
}

/// Why a health check says no.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It answers, and is not ready.
    #[error("not ready: {0}")]
    NotReady(String),
    /// It does not answer.
    #[error("no answer from {address}: {reason}")]
    NoAnswer {
        /// Where we asked.
        address: SocketAddr,
        /// What happened instead.
        reason: String,
    },
}

/// Asks a process's `/readyz`, as container health checks do.
///
/// # Errors
/// If it is not ready or does not answer within 4 s.
pub async fn check(address: SocketAddr) -> Result<(), CheckError> {
    let no_answer = |reason: String| CheckError::NoAnswer { address, reason };
    let answer = tokio::time::timeout(CHECK_TIMEOUT, ask(address))
        .await
        .map_err(|_| no_answer(format!("nothing within {} s", CHECK_TIMEOUT.as_secs())))?
        .map_err(|error| no_answer(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some(_) => Err(CheckError::NotReady(body.trim().to_owned())),
        None => Err(no_answer("not HTTP".to_owned())),
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    // A listener on all addresses is reached through loopback.
    let host = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (std::net::Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    };
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(CHECK_LIMIT).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Inspect;

    async fn started() -> (SocketAddr, Health, tokio::task::JoinHandle<Infallible>) {
        let (address, health, _, server) = started_with(Inspect::Loopback).await;
        (address, health, server)
    }

    async fn started_with(who: Inspect) -> (SocketAddr, Health, Inspector, tokio::task::JoinHandle<Infallible>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let health = Health::new();
        let metrics = Metrics::install().expect("recorder");
        let inspector = Inspector::new(who);
        let server = tokio::spawn(serve(listener, health.clone(), metrics, inspector.clone()));
        (address, health, inspector, server)
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    #[tokio::test]
    async fn readyz_turns_with_the_conditions_and_livez_does_not() {
        let (address, health, server) = started().await;
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with(r#"{"ready":false,"conditions":{"running":"ok","started":"starting"}}"#), "{answer}");
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        let error = check(address).await.expect_err("not ready");
        assert!(error.to_string().contains("starting"), "{error}");

        health.started();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        check(address).await.expect("ready");

        health.condition("nats").fail("disconnected");
        assert!(get(address, "/readyz").await.contains(r#""nats":"disconnected""#));
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        server.abort();
    }

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else() {
        let (address, _health, server) = started().await;
        metrics::counter!("herald_operations_test_total").increment(1);
        assert!(get(address, "/metrics").await.contains("herald_operations_test_total 1"));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
        server.abort();
    }

    #[tokio::test]
    async fn what_a_service_shows_is_there_once_it_shows_it_and_where_it_may() {
        for (who, before, after) in [(Inspect::Loopback, " 403 ", " 403 "), (Inspect::Everybody, " 404 ", " 200 ")] {
            let (address, _health, inspector, server) = started_with(who).await;
            // These call it by the name "x".
            assert!(get(address, "/inspect/things").await.contains(before));
            inspector.show(Router::new().route("/inspect/things", axum::routing::get(|| async { Json([1]) })));
            let answer = get(address, "/inspect/things").await;
            assert!(answer.contains(after), "{answer}");
            assert_eq!(answer.ends_with("[1]"), who == Inspect::Everybody, "{answer}");
            server.abort();
        }
        let (address, _health, inspector, server) = started_with(Inspect::Off).await;
        inspector.show(Router::new().route("/inspect", axum::routing::get(|| async { "all" })));
        assert!(get(address, "/inspect").await.contains(" 404 "));
        server.abort();
    }

    #[tokio::test]
    async fn more_connections_than_places_wait_their_turn() {
        let (address, health, server) = started().await;
        health.started();
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            idle.push(TcpStream::connect(address).await.expect("connect"));
        }
        let waiting = tokio::spawn(async move { check(address).await });
        drop(idle);
        waiting.await.expect("no panic").expect("answered once the idle ones have gone");
        server.abort();
    }

    #[tokio::test]
    async fn a_check_of_a_closed_port_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        drop(listener);
        let error = check(address).await.expect_err("closed").to_string();
        assert!(error.starts_with(&format!("no answer from {address}: ")), "{error}");
    }
}
