//! A page, the health and the errors of a listener, over a whole edge.

use std::time::Duration;

use axum::{Json, Router, routing::get};
use herald_testkit::{
    Edge, Nats, eventually,
    http::{self, Raw, send},
    within,
};
use hyper::Method;
use serde_json::json;

use crate::support::Engine;

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_folder_are_served_and_nothing_beside_them() {
    within(MINUTE, async {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("pages");
        std::fs::create_dir_all(folder.join("tiles")).unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        for (name, text) in [("index.html", "<h1>é</h1>"), (".env", "secret"), ("tiles/tile_turn_NE.png", "0123456789")]
        {
            std::fs::write(folder.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let config = format!(
            "[ws-edge.jwt]\nsecret = \"{}\"\n[[ws-edge.listeners]]\nauth = \"jwt\"\nstatic = {folder:?}\n\
             origins = [\"https://play.example\"]\nerror_body = \"both\"\n[[ws-edge.listeners.routes]]\n\
             path = \"/ws/{{sid}}\"\nroots = [\"gm\"]\n",
            crate::forge::SECRET
        );
        let edge = Edge::new(&nats).config(config).start().await;
        let page = edge.get("/").await.expect_status(200);
        assert_eq!((page.text().as_str(), page.header("content-type")), ("<h1>é</h1>", "text/html; charset=utf-8"));
        assert_eq!((page.header("cache-control"), page.header("x-content-type-options")), ("no-cache", "nosniff"));
        let url = edge.http("/tiles/tile_turn_NE.png");
        let tile = http::get(&url).await.expect_status(200);
        assert_eq!((tile.header("content-type"), tile.header("content-length")), ("image/png", "10"));
        let same = send(Method::GET, &url, &[("if-none-match", tile.header("etag"))], "").await.expect_status(304);
        assert!(same.body.is_empty() && same.header("etag") == tile.header("etag"));
        let part = send(Method::GET, &url, &[("range", "bytes=2-3")], "").await.expect_status(206);
        assert_eq!((part.text().as_str(), part.header("content-range")), ("23", "bytes 2-3/10"));
        send(Method::GET, &url, &[("range", "bytes=99-")], "").await.expect_status(416);
        let head = send(Method::HEAD, &url, &[], "").await.expect_status(200);
        assert_eq!((head.body.len(), head.header("content-length")), (0, "10"));
        assert_eq!(send(Method::POST, &url, &[], "{}").await.expect_status(405).header("allow"), "GET, HEAD");
        send(Method::DELETE, &edge.http("/none"), &[], "").await.expect_status(404);
        // As a client of ill will writes it, which no client library would.
        for target in [
            "/none",
            "/tiles",
            "/tiles/",
            "/tiles/../index.html",
            "/../secret",
            "/%2e%2e/secret",
            "/%2e%2e%2fsecret",
            "/..%5csecret",
            "/.env",
            "/%2eenv",
            "/link",
            "//etc/hostname",
            "/%2fetc%2fhostname",
            "/index.html%00",
            "/index.html/",
            "/%ff%fe",
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let answer = http::raw(edge.address(), request, BOUND).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{target}: {answer}");
            assert!(!answer.contains("secret"), "{target}: {answer}");
            let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            assert_eq!(body, json!({ "error": "Not Found", "detail": "Not Found" }), "{target}");
        }
        let page = |outcome: &str| format!("outcome=\"{outcome}\"");
        assert!(edge.metric("herald_files_total", &[&page("sent")]).await >= 4.0);
        assert_eq!(edge.metric("herald_files_total", &[&page("unchanged")]).await, 1.0);
        assert!(edge.metric("herald_files_total", &[&page("not_found")]).await >= 15.0);
        // Who does not take its file holds nobody else's.
        std::fs::write(folder.join("large.bin"), vec![7; 30 << 20]).unwrap();
        let mut slow = Raw::connect(edge.address()).await;
        slow.write("GET /large.bin HTTP/1.1\r\nhost: x\r\n\r\n").await;
        slow.read_until(b"\r\n\r\n", BOUND).await;
        assert_eq!(edge.get("/large.bin").await.expect_status(200).body.len(), 30 << 20);
        let document = edge.get("/openapi.json").await.expect_status(200).json();
        assert!(document["paths"]["/"]["get"].is_object() && document["paths"].get("/health").is_none());
        edge.get("/health").await.expect_status(404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_says_how_it_is_and_what_is_wrong_in_its_game_s_own_words() {
    within(MINUTE, async {
        let mut nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let table = "[[ws-edge.listeners]]\nname = \"table\"\naddress = \"127.0.0.1:0\"\nerror_body = \"detail\"\n\
            health = { degraded = '{\"status\":\"degraded\",\"ai_agent\":\"unknown\",\"nats\":{nats}}' }\n\
            [[ws-edge.listeners.routes]]\npath = \"/ws/{sid}\"\nroots = [\"gm\"]\n\
            [[ws-edge.listeners.forwards]]\nname = \"table\"\nservice = \"gm\"\npaths = [\"/health\"]\nhealth = true\n\
            timeout = \"2s\"\n\
            [[ws-edge.listeners.forwards]]\nname = \"table\"\nservice = \"gm\"\npaths = [\"/api/*\"]\n\
            [[ws-edge.listeners.forwards]]\nname = \"table\"\nservice = \"gm\"\npaths = [\"/old/*\"]\n\
            error_body = \"both\"\ncommands = true\n";
        let own = "[[ws-edge.listeners]]\nname = \"own\"\naddress = \"127.0.0.1:0\"\n\
            health = { ok = '{\"status\":\"healthy\"}', degraded = '{\"status\":\"degraded\"}' }\n\
            [[ws-edge.listeners.routes]]\npath = \"/ws/{sid}\"\nroots = [\"gm\"]\n";
        let edge = Edge::new(&nats).config(format!("{table}{own}")).start().await;
        let own = |path: &str| format!("http://{}{path}", edge.listener(1));
        let unknown = json!({ "status": "degraded", "ai_agent": "unknown", "nats": true });
        assert_eq!(edge.get("/health").await.expect_status(200).json(), unknown, "nobody answers");
        assert_eq!(http::get(&own("/health")).await.expect_status(200).json(), json!({ "status": "healthy" }));
        assert!(send(Method::HEAD, &own("/health"), &[], "").await.expect_status(200).body.is_empty());
        http::post(&own("/health")).await.expect_status(405);
        let document = http::get(&own("/openapi.json")).await.json();
        assert!(document["paths"]["/health"]["get"].is_object());

        let text = "table is not available";
        assert_eq!(edge.get("/api/x").await.expect_status(503).json(), json!({ "detail": text }));
        assert_eq!(edge.get("/old/x").await.expect_status(503).json(), json!({ "error": text, "detail": text }));
        assert_eq!(edge.get("/none").await.expect_status(404).json(), json!({ "detail": "Not Found" }));
        assert_eq!(edge.get("/ws/a.b").await.expect_status(404).json(), json!({ "detail": "No such session" }));
        assert_eq!(edge.get("/ws/s?after=x").await.expect_status(400).json()["error"], json!(null));
        let method = send(Method::POST, &edge.http("/ws/s"), &[], "").await.expect_status(405);
        assert_eq!(method.json(), json!({ "detail": "Method Not Allowed" }));
        assert_eq!(http::get(&own("/none")).await.expect_status(404).json(), json!({ "error": "Not Found" }));
        let twice = http::raw(edge.address(), "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", BOUND).await;
        assert!(twice.contains("{\"detail\":\"Host: expected once\"}"), "{twice}");

        let router = Router::new()
            .route("/health", get(async || Json(json!({ "status": "healthy" }))))
            .route("/api/x", get(async || (axum::http::StatusCode::CONFLICT, Json(json!({ "error": "its own" })))));
        let _service = engine.serve(router).await;
        assert_eq!(edge.get("/health").await.json(), json!({ "status": "healthy" }), "as the service says");
        assert_eq!(edge.get("/api/x").await.expect_status(409).json(), json!({ "error": "its own" }));

        nats.stop().await;
        eventually("it knows that NATS is away", BOUND, async || {
            let (own, table) = (http::get(&own("/health")).await.json(), edge.get("/health").await.json());
            let is = own == json!({ "status": "degraded" }) && table["nats"] == false;
            if is { Ok(()) } else { Err((own, table)) }
        })
        .await;
        nats.resume().await;
        eventually("all is well again", BOUND, async || match http::get(&own("/health")).await.json() {
            well if well == json!({ "status": "healthy" }) => Ok(()),
            other => Err(other),
        })
        .await;
    })
    .await;
}
