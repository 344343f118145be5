//! Pages of other origins, with an engine's help or a browser's.

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use herald_testkit::{Edge, Nats, Service, http::send, within};
use hyper::Method;

use super::{MINUTE, Notes};
use crate::support::Engine;

const OURS: &str = "https://play.example";
const THEIRS: &str = "https://evil.example";

async fn edge(nats: &Nats) -> Service {
    let config = format!("[[ws-edge.listeners]]\nbuiltin = \"arena\"\norigins = [\"{OURS}\"]\n");
    Edge::new(nats).config(config).start().await
}

/// An engine whose framework says of every answer that everybody may read it, with cookies.
fn generous() -> Router {
    Router::new().fallback(|asked: HeaderMap| async move {
        let origin = asked.get("origin").cloned().unwrap_or(HeaderValue::from_static("*"));
        let said = [
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", HeaderValue::from_static("true")),
            ("access-control-allow-private-network", HeaderValue::from_static("true")),
            ("access-control-expose-headers", HeaderValue::from_static("*")),
            ("herald-user", HeaderValue::from_static("root")),
            ("x-its-own", HeaderValue::from_static("1")),
        ];
        (said.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)).collect::<HeaderMap>(), "state")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_lets_no_page_read_that_the_door_does_not() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let _gm = engine.serve(generous()).await;
        let edge = edge(&nats).await;
        for origin in [THEIRS, "null", "https://play.example.evil.example", OURS] {
            let reply = send(Method::GET, &edge.http("/api/state"), &[("origin", origin)], "").await.expect_status(200);
            let allowed = if origin == OURS { OURS } else { "" };
            assert_eq!(reply.header("access-control-allow-origin"), allowed, "{origin}");
            assert_eq!(
                reply.headers.get_all("access-control-allow-origin").iter().count(),
                usize::from(origin == OURS)
            );
            for name in ["access-control-allow-credentials", "access-control-allow-private-network", "herald-user"] {
                assert_eq!(reply.header(name), "", "{origin}: {name}");
            }
            assert_eq!(reply.header("access-control-expose-headers").to_lowercase(), "etag,retry-after");
            assert_eq!(reply.header("x-its-own"), "1", "what is the engine's stays");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_asks_first_is_told_no_and_no_engine_hears_of_it() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let notes = Notes::default();
        let _gm = engine.serve(notes.router()).await;
        let edge = edge(&nats).await;
        for origin in [
            THEIRS,
            "null",
            "file://",
            "https://play.example:8443",
            "https://me@play.example",
            "HTTPS://PLAY.EXAMPLE",
            OURS,
        ] {
            for path in ["/api/start", "/init_session", "/app/api/choose", "/sse/s1"] {
                let asks = [
                    ("origin", origin),
                    ("access-control-request-method", "POST"),
                    ("access-control-request-headers", "authorization, herald-user"),
                    ("access-control-request-private-network", "true"),
                ];
                let reply = send(Method::OPTIONS, &edge.http(path), &asks, "").await.expect_status(200);
                let allowed = if origin == OURS { OURS } else { "" };
                assert_eq!(reply.header("access-control-allow-origin"), allowed, "{origin} {path}");
                assert_eq!(reply.header("access-control-allow-private-network"), "", "{origin} {path}");
                assert_eq!(reply.header("access-control-allow-credentials"), "", "{origin} {path}");
            }
        }
        assert_eq!(notes.all(), Vec::<String>::new());
        // One that asks nobody has no more from it; one that is no page names no origin.
        for (origin, status) in [(Some(THEIRS), 403), (Some("file://"), 403), (None, 200)] {
            let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
            send(Method::POST, &edge.http("/init_session"), &headers, "{}").await.expect_status(status);
        }
        assert_eq!(notes.all().len(), 1);
    })
    .await;
}
