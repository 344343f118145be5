//! What a service shows of itself while it runs, under `/inspect`: the service adds it, who may look is decided here.
//!
//! It shows who is connected and what they see, so it is for the operator alone: by default for those on this machine, and then
//! not for a page in a browser there, whatever name it has given to this address.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tower::ServiceExt as _;

use crate::config::Inspect;

/// Where all of it is.
pub(super) const PATH: &str = "/inspect";

/// Who is at the other end of a connection to the operations port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The routes that a service has added. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Inspector {
    who: Inspect,
    routes: Arc<OnceLock<Router>>,
}

impl Inspector {
    /// Nothing to be seen yet.
    pub(crate) fn new(who: Inspect) -> Self {
        Self { who, routes: Arc::default() }
    }

    /// Shows these routes. Once.
    pub(crate) fn show(&self, routes: Router) {
        if self.routes.set(routes).is_err() {
            tracing::error!("the routes of the inspector were given twice");
        }
    }

    fn allows(&self, peer: Peer, headers: &HeaderMap) -> bool {
        match self.who {
            Inspect::Off => false,
            Inspect::Everybody => true,
            Inspect::Loopback => peer.0.ip().to_canonical().is_loopback() && is_called_by_address(headers),
        }
    }
}

/// Answers a request for `/inspect` or below.
pub(super) async fn answer(
    State(inspector): State<Inspector>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Response {
    if inspector.who != Inspect::Off && !inspector.allows(peer, request.headers()) {
        return refusal(StatusCode::FORBIDDEN, "Only from this machine, at a loopback address (operations.inspect)");
    }
    let Some(routes) = inspector.routes.get().filter(|_| inspector.who != Inspect::Off) else {
        return refusal(StatusCode::NOT_FOUND, "Nothing is shown here");
    };
    // What our own route has found in the path would stand among what theirs find.
    request.extensions_mut().clear();
    let mut response = match routes.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn refusal(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// Whether the one who asks calls us by an address or `localhost`. A page elsewhere can give a name of its own to a loopback
/// address, and would then read what only this machine may.
fn is_called_by_address(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let host = host.filter(|_| another.is_none()).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    host.is_some_and(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(who: Inspect, peer: &str, host: &str) -> bool {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        Inspector::new(who).allows(Peer(peer.parse().unwrap()), &headers)
    }

    #[test]
    fn by_default_it_is_for_this_machine_and_not_for_pages() {
        let (near, far) = ("127.0.0.1:1000", "192.0.2.1:1000");
        for host in ["127.0.0.1:9100", "127.0.0.1", "localhost:9100", "[::1]:9100"] {
            assert!(allows(Inspect::Loopback, near, host), "{host}");
            assert!(!allows(Inspect::Loopback, far, host), "{host}");
        }
        assert!(allows(Inspect::Loopback, "[::1]:9", "localhost"));
        assert!(allows(Inspect::Loopback, "[::ffff:127.0.0.1]:9", "localhost"));
        for host in ["rebound.example:9100", "127.0.0.1.rebound.example", "", "user@rebound.example"] {
            assert!(!allows(Inspect::Loopback, near, host), "{host}");
            assert!(allows(Inspect::Everybody, far, host), "{host}");
            assert!(!allows(Inspect::Off, near, host), "{host}");
        }
    }
}
