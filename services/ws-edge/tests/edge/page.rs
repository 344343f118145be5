//! The page at `/`: who gets it, and under which headers.

use std::{io::Read as _, time::Duration};

use axum::http::Method;
use herald_testkit::{Edge, Nats, http::send, within};

use crate::support::Engine;

const MINUTE: Duration = Duration::from_secs(60);
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_the_page_and_a_program_what_it_always_got() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
            send(method, &edge.http(path), &[&[BROWSER], headers].concat(), "").await
        };
        let page = ask(Method::GET, "/", &[]).await.expect_status(200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!((page.header("cache-control"), page.header("x-content-type-options")), ("no-cache", "nosniff"));
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert!(page.headers.get_all("vary").iter().any(|vary| vary.to_str().unwrap().contains("accept")));

        // Everything it names is there, as what it is, also zipped; and need not be sent twice.
        let html = page.text();
        let names: Vec<_> = html.split('"').filter_map(|part| part.strip_prefix("./")).collect();
        assert!(names.len() >= 3, "{html}");
        for path in names.iter().map(|name| format!("/{name}")).chain(["/".to_owned()]) {
            let plain = ask(Method::GET, &path, &[]).await.expect_status(200);
            let zipped = ask(Method::GET, &path, &[("accept-encoding", "gzip, br")]).await.expect_status(200);
            assert_eq!(zipped.header("content-encoding"), "gzip", "{path}");
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&*zipped.body).read_to_end(&mut text).unwrap();
            assert!(text == plain.body && zipped.body.len() < plain.body.len(), "{path}");
            let tags = [plain.header("etag"), zipped.header("etag")];
            assert!(tags[0] != tags[1] && tags.iter().all(|tag| tag.len() > 16), "{tags:?}");
            let again = ask(Method::GET, &path, &[("if-none-match", tags[0])]).await.expect_status(304);
            assert!(again.body.is_empty() && again.header("etag") == tags[0]);
            ask(Method::GET, &path, &[("if-none-match", "\"other\"")]).await.expect_status(200);
            let head = ask(Method::HEAD, &path, &[]).await.expect_status(200);
            assert!(head.body.is_empty() && head.header("content-length") == plain.body.len().to_string(), "{path}");
            let post = ask(Method::POST, &path, &[]).await.expect_status(405);
            assert_eq!(post.header("allow"), "GET, HEAD", "{path}");
        }

        // Who does not ask for a page is told that there is nothing, as ever; nor is there anything else.
        for accept in ["*/*", "application/json", "text/event-stream"] {
            let none = send(Method::GET, &edge.http("/"), &[("accept", accept)], "").await.expect_status(404);
            assert_eq!((none.error().as_str(), none.header("cache-control")), ("Not Found", "no-store"), "{accept}");
        }
        for path in
            ["/page", "/page/", "/page/nothing.js", "/index.html", "/page/%2e%2e/page/herald.js", "/app/", "/gm/"]
        {
            assert!(!ask(Method::GET, path, &[]).await.expect_status(404).error().is_empty(), "{path}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_has_the_page_where_the_operator_wants_it_and_for_everybody() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let listener = |name: &str, more: &str| {
            format!(
                "[[ws-edge.listeners]]\nname = \"{name}\"\nbuiltin = \"arena\"\naddress = \"127.0.0.1:0\"\n{more}\n"
            )
        };
        let secret = "[ws-edge.jwt]\nsecret = \"00112233445566778899aabbccddeeff\"\n";
        let own = "page = true\nforwards = [{ name = \"dice\", service = \"dice\", paths = [\"/\"] }]";
        let config = [
            secret.to_owned(),
            listener("without", ""),
            listener("closed", "auth = \"jwt\"\npage = true"),
            listener("own", own),
        ];
        let edge = Edge::new(&nats).config(config.concat()).start().await;
        let ask = async |listener: usize, path: &str| {
            send(Method::GET, &format!("http://{}{path}", edge.listener(listener)), &[BROWSER], "").await
        };
        ask(0, "/").await.expect_status(404);
        ask(0, "/page/herald.js").await.expect_status(404);
        // It asks for the token itself.
        ask(1, "/").await.expect_status(200);
        ask(1, "/page/herald.js").await.expect_status(200);
        ask(1, "/api/state").await.expect_status(401);
        // What is configured comes first: here an engine that is not there.
        ask(2, "/").await.expect_status(503);
        ask(2, "/page/herald.js").await.expect_status(200);
    })
    .await;
}
