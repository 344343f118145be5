//! The self-test, as a terminal and a browser's script see it, with nothing in between and with a proxy that buffers.

use std::time::Duration;

use axum::http::Method;
use futures_util::future::join_all;
use herald_testkit::{
    Edge, Nats,
    http::{self, send},
    sse, within, ws,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::support::Engine;

const MINUTE: Duration = Duration::from_secs(60);
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// A proxy that passes an answer on once it has all of it. Serves one connection.
async fn buffering(listener: TcpListener, to: std::net::SocketAddr) {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(to).await.unwrap();
    let mut head = [0; 4096];
    let read = client.read(&mut head).await.unwrap();
    let asked = String::from_utf8_lossy(&head[..read]).replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1);
    server.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.unwrap();
    client.write_all(&answer).await.unwrap();
}

/// When the numbered lines came, against the first of them.
async fn arrivals(url: &str) -> Vec<Duration> {
    let stream = sse::Client::connect(url, None).await;
    stream.wait_for("the end", MINUTE, |event| event.event == "end").await;
    let ticks: Vec<_> = stream.events().into_iter().filter(|event| event.event == "tick").collect();
    assert_eq!(ticks.len(), 6);
    for (n, tick) in ticks.iter().enumerate() {
        assert_eq!(tick.data, format!("{} of 6, sent after {} ms", n + 1, n * 1000));
    }
    let first: Instant = ticks[0].at.into();
    ticks.iter().map(|tick| Instant::from(tick.at).duration_since(first)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_buffers_shows_in_when_the_lines_come() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxied = format!("http://{}/sse/_selftest", listener.local_addr().unwrap());
        let proxy = tokio::spawn(buffering(listener, edge.address()));
        let direct = edge.http("/app/sse/_selftest");
        let (direct, buffered) = tokio::join!(arrivals(&direct), arrivals(&proxied));
        proxy.await.unwrap();
        // Bounds of the page's own verdict.
        let apart = |at: &[Duration]| at[5] - at[0];
        assert!(apart(&direct) > Duration::from_millis(2500), "{direct:?}");
        assert!(apart(&buffered) < Duration::from_millis(2500), "{buffered:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_arrived_and_no_secret() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let config = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\naddress = \"127.0.0.1:0\"\norigins = \"https://play.example\"\n\
            [[ws-edge.listeners]]\nname = \"proxied\"\nbuiltin = \"arena\"\naddress = \"127.0.0.1:0\"\ntrusted_proxies = \"127.0.0.1\"\nproxy_protocol = \"accept\"\n";
        let edge = Edge::new(&nats).config(config).start().await;
        let page = async |listener: usize, headers: &[(&str, &str)]| {
            let url = format!("http://{}/sse/_selftest", edge.listener(listener));
            let reply = send(Method::GET, &url, &[&[BROWSER], headers].concat(), "").await.expect_status(200);
            assert!(reply.header("content-type").starts_with("text/html") && reply.header("cache-control") == "no-store");
            assert!(reply.header("content-security-policy").contains("default-src 'none'"));
            reply.text()
        };
        let claims = [("x-forwarded-for", "203.0.113.7"), ("authorization", "Bearer s3cret"), ("cookie", "id=s3cret"), ("via", "s3cret")];
        let untrusted = page(0, &claims).await;
        assert!(untrusted.contains("sees you as 127.0.0.1. X-Forwarded-For came too and is not believed"), "{untrusted}");
        assert!(!untrusted.contains("s3cret") && !untrusted.contains("203.0.113.7") && untrusted.contains("Via is set"));
        assert!(untrusted.contains("data-path=\"/sse/_selftest\" data-socket=\"/ws/_selftest\""));
        let trusted = page(1, &claims).await;
        assert!(trusted.contains("sees you as 203.0.113.7: so says a trusted proxy"), "{trusted}");
        assert!(page(1, &[]).await.contains("says nothing of its client"));
        assert!(page(1, &[("x-forwarded-for", "<b>")]).await.contains("makes no sense"));
        assert!(page(0, &[("x-forwarded-proto", "https")]).await.contains("X-Forwarded-Proto says https."));
        let told = "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\nGET /sse/_selftest HTTP/1.0\r\naccept: text/html\r\n\r\n";
        let told = http::raw(edge.listener(1), told, Duration::from_secs(20)).await;
        assert!(told.contains("sees you as 203.0.113.9: so says a trusted proxy by the PROXY protocol."), "{told}");
        let odd = "GET /sse/_selftest HTTP/1.1\r\nhost: <script>\r\naccept: text/html\r\nconnection: close\r\n\r\n";
        let odd = http::raw(edge.address(), odd, Duration::from_secs(20)).await;
        assert!(odd.contains("for the host &lt;script&gt;."), "{odd}");
        let old = "GET /sse/_selftest HTTP/1.0\r\naccept: text/html\r\n\r\n";
        let old = http::raw(edge.address(), old, Duration::from_secs(20)).await;
        assert!(old.contains("proxy_http_version 1.1;"), "{old}");

        let half = send(Method::GET, &edge.http("/ws/_selftest"), &[("upgrade", "websocket")], "").await.expect_status(426);
        assert!(half.error().contains("\"Upgrade: websocket\" arrived, \"Connection: upgrade\" did not arrive"), "{half:?}");
        for path in ["/sse/%5Fselftest", "/ws/_selftest2", "/sse/_"] {
            edge.get(path).await.expect_status(404);
        }
        send(Method::POST, &edge.http("/sse/_selftest"), &[], "").await.expect_status(405);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_have_theirs_and_only_some_run_at_a_time() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let config = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\norigins = \"https://play.example\"\n";
        let edge = Edge::new(&nats).config(config).start().await;
        // The page is of the door's own origin, which need not be in the list.
        let options = || ws::Options { headers: &[("origin", "https://door.example")], ..ws::Options::default() };
        let url = edge.ws("/gm/ws/_selftest");
        let opened: Vec<_> = join_all((0..24).map(|_| ws::Client::open(&url, options()))).await;
        let refused = opened.iter().filter(|it| matches!(it, Err(ws::Refused::Status { status: 503, .. }))).count();
        assert_eq!((opened.len() - refused, refused), (16, 8));
        let late = edge.get("/sse/_selftest").await.expect_status(503);
        assert_eq!(late.header("retry-after"), "10");
        for socket in opened.into_iter().flatten() {
            assert_eq!(socket.wait_end(MINUTE).await.code(), 1000);
        }
        arrivals(&edge.http("/sse/_selftest")).await;
    })
    .await;
}
