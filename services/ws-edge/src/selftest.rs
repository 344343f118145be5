//! `/sse/_selftest`: tells a person in plain words whether something between them and Herald holds back what is to arrive at
//! once. We can't see that from here, so some numbered lines are sent at known times, and whoever receives them sees when they
//! come: a page by script, a terminal by eye. `/ws/_selftest` does the same over a WebSocket.
//!
//! What it tells is of the request itself, and names nothing behind us; so it is open to all. It is over within seconds, and
//! only some run at a time. No session can have its name, as none begins with `_`.

use std::{cmp::Reverse, convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use herald_protocol::Close;
use http::{
    HeaderMap, HeaderValue, Request, Response, Version,
    header::{
        ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, RETRY_AFTER, UPGRADE, VIA,
    },
    request::Parts,
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    answer::{self, Answer, NO_STORE},
    config::{ListenerConfig, Transport},
    door::Peer,
    edge::Edge,
    handshake::{Handshake, has_token, take_over},
    limits::AddressTicket,
    proxy::Vouched,
    route::read_to_end,
    sse, websocket,
};

/// What stands in the place of a session's id.
pub const NAME: &str = "_selftest";

/// How many run at a time on one listener. A page runs two.
const AT_ONCE: usize = 16;
/// Lines of an event stream and their distance: long enough to be told apart by eye.
const LINES: Ticks = Ticks { count: 6, every: Duration::from_secs(1) };
/// Frames of a socket and theirs.
const FRAMES: Ticks = Ticks { count: 4, every: Duration::from_millis(500) };
/// A socket that takes longer is not waited for.
const LONGEST: Duration = Duration::from_secs(10);
/// Longest name of a host that is repeated.
const LONGEST_HOST: usize = 100;
/// What is said to those who watch by eye.
const FAREWELL: [&str; 3] = [
    "That was all. If the lines came together, something on the way buffers: a proxy (nginx: proxy_buffering off;),",
    "a content network, or a program that looks into traffic. If curl was silent to the end: is its -N missing?",
    "Sockets have a test of their own: open this address in a browser, and it runs both.",
];
const PAGE: &str = include_str!("selftest/page.html");
/// The page is whole in itself, and talks to where it comes from.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self' ws: wss:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The self-test of one listener.
pub struct Selftest {
    running: Arc<Semaphore>,
    /// Where sockets are to be had.
    sockets: Vec<String>,
}

/// The places of one that runs.
type Running = (OwnedSemaphorePermit, AddressTicket);

#[derive(Clone, Copy)]
struct Ticks {
    count: u32,
    every: Duration,
}

impl Ticks {
    /// The `n`th, from 1 on: when it is sent, and what it says.
    fn tick(self, n: u32) -> (Duration, String) {
        let after = self.every * (n - 1);
        (after, format!("{n} of {}, sent after {} ms", self.count, after.as_millis()))
    }
}

impl Selftest {
    /// That of the listener that `config` describes.
    #[must_use]
    pub fn new(config: &ListenerConfig) -> Self {
        let sockets = config.routes.iter().filter(|route| route.transport == Transport::Socket);
        Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            sockets: sockets.map(|route| route.path.replace("{sid}", NAME)).collect(),
        }
    }

    /// Answers a GET for [`NAME`] on a route for sockets, or for event streams: there a browser gets a page that does the rest.
    pub fn answer(&self, edge: &Edge, is_socket: bool, request: Request<Incoming>, peer: Peer) -> Answer {
        let (head, _) = request.into_parts();
        if !is_socket && wants_page(&head.headers) {
            return self.page(&head, &peer);
        }
        let of_address = match edge.limits.admit_selftest(peer.address.ip()) {
            Ok(ticket) => ticket,
            Err(refusal) => return refusal.answer(),
        };
        let Ok(running) = self.running.clone().try_acquire_owned() else {
            let mut answer = answer::unavailable("As many self-tests are running as can: try again in some seconds");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            return answer;
        };
        let running = (running, of_address);
        if is_socket { open(edge, &head, peer, running) } else { lines(&head, peer, running) }
    }

    fn page(&self, head: &Parts, peer: &Peer) -> Answer {
        let path = head.uri.path();
        // The one that is most alike, and of those the shortest: it is of the same door.
        let alike = |other: &str| path.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        let nearest = self.sockets.iter().min_by_key(|other| (Reverse(alike(other)), other.len()));
        let facts = facts(head, peer).iter().fold(String::new(), |mut list, fact| {
            let _infallible = write!(list, "<li>{}</li>", escaped(fact));
            list
        });
        let socket = nearest.map_or("", String::as_str);
        let page = PAGE
            .replace("{{path}}", &escaped(path))
            .replace("{{socket}}", &escaped(socket))
            .replace("{{facts}}", &facts);
        let mut answer = Response::new(Body::from(page));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(CONTENT_SECURITY_POLICY, PAGE_POLICY);
        headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    }
}

/// The numbered lines, as an event stream with the very headers of those that carry sessions.
fn lines(head: &Parts, peer: Peer, running: Running) -> Answer {
    let mut first = event(
        "note",
        &[
            "Herald self-test: does something between you and Herald hold back what is to arrive at once?".into(),
            format!(
                "{} numbered lines follow, one each second. Watch when they come: one by one, and nothing does;",
                LINES.count
            ),
            "all at once at the end, and something does.".into(),
        ],
    );
    for fact in facts(head, &peer) {
        first.push_str(&event("note", &[fact]));
    }
    let begun = Instant::now();
    let sent = stream::unfold((1, first, (running, peer)), move |(n, before, held)| async move {
        if n > LINES.count {
            return None;
        }
        let (after, line) = LINES.tick(n);
        sleep_until(begun + after).await;
        let mut text = before + &event("tick", &[line]);
        if n == LINES.count {
            text.push_str(&event("end", &FAREWELL.map(String::from)));
        }
        Some((Ok::<_, Infallible>(Bytes::from(text)), (n + 1, String::new(), held)))
    });
    let mut answer = Response::new(Body::from_stream(sent));
    sse::set_headers(answer.headers_mut());
    answer
}

fn event(name: &str, lines: &[String]) -> String {
    let mut text = format!("event: {name}\n");
    for line in lines {
        let _infallible = writeln!(text, "data: {line}");
    }
    text + "\n"
}

/// The numbered frames, over a WebSocket; without one, what of its handshake arrived.
fn open(edge: &Edge, head: &Parts, peer: Peer, running: Running) -> Answer {
    let handshake = match Handshake::read(head) {
        Ok(handshake) => handshake,
        Err(answer) => {
            return answer::reworded(*answer, &format!("This path speaks WebSocket. {}", upgrade_fact(head)));
        }
    };
    let Some(upgrade) = head.extensions.get::<OnUpgrade>().cloned() else {
        return answer::bad_request("This connection can't be upgraded");
    };
    edge.tasks.spawn(async move {
        // Whoever does not take it is left.
        let _late = timeout(LONGEST, frames(upgrade)).await;
        drop((running, peer));
    });
    handshake.answer()
}

async fn frames(upgrade: OnUpgrade) -> Option<()> {
    let (mut tcp, _) = take_over(upgrade).await?;
    let begun = Instant::now();
    for n in 1..=FRAMES.count {
        let (after, text) = FRAMES.tick(n);
        sleep_until(begun + after).await;
        tcp.write_all(&websocket::text_frame(text.as_bytes())).await.ok()?;
    }
    tcp.write_all(&websocket::close_frame(&Close::Normal)).await.ok()?;
    tcp.shutdown().await.ok()?;
    read_to_end(&mut tcp).await;
    Some(())
}

/// What there is to be said of a request, in sentences.
fn facts(head: &Parts, peer: &Peer) -> Vec<String> {
    let address = peer.address.ip();
    let mut facts = vec![match peer.vouched {
        Vouched::Nothing => format!(
            "Herald sees you as {address}. Nothing was said by X-Forwarded-For. If this is not your address, it is that of a \
             proxy that does not say for whom it speaks."
        ),
        Vouched::Silent => format!(
            "Herald sees you as {address}, which is in trusted_proxies and says nothing of its client. If it is a proxy, have \
             it set X-Forwarded-For."
        ),
        Vouched::Protocol => format!("Herald sees you as {address}: so says a trusted proxy by the PROXY protocol."),
        Vouched::By(1) => format!("Herald sees you as {address}: so says a trusted proxy by X-Forwarded-For."),
        Vouched::By(count) => {
            format!("Herald sees you as {address}: so say {count} trusted proxies by X-Forwarded-For.")
        }
        Vouched::Untrusted => format!(
            "Herald sees you as {address}. X-Forwarded-For came too and is not believed, as that address is not in \
             trusted_proxies. If it is your proxy's, add it there."
        ),
        Vouched::Malformed => format!(
            "Herald sees you as {address}. X-Forwarded-For came from a trusted proxy, makes no sense and is not believed."
        ),
    }];
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| host.len() <= LONGEST_HOST);
    facts.push(format!("The request came as {:?}, for the host {}.", head.version, host.unwrap_or("(none)")));
    if head.version < Version::HTTP_11 {
        facts.push(
            "HTTP/1.0 can neither stream well nor open sockets: have the proxy speak HTTP/1.1 to Herald (nginx: \
             proxy_http_version 1.1;)."
                .into(),
        );
    }
    if let Some(proto) = head.headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok()) {
        let known = ["https", "http"].into_iter().find(|known| proto.eq_ignore_ascii_case(known));
        facts.push(format!("X-Forwarded-Proto says {}.", known.unwrap_or("neither http nor https")));
    }
    if head.headers.contains_key(VIA) {
        facts.push("Via is set: at least one proxy is in between.".into());
    }
    if head.headers.contains_key(UPGRADE) || has_token(&head.headers, &CONNECTION, "upgrade") {
        facts.push(upgrade_fact(head));
    }
    facts
}

/// What of a WebSocket handshake's two special headers arrived: proxies keep them to themselves unless told otherwise.
fn upgrade_fact(head: &Parts) -> String {
    let arrived = |yes: bool| if yes { "arrived" } else { "did not arrive" };
    format!(
        "\"Upgrade: websocket\" {}, \"Connection: upgrade\" {}.",
        arrived(has_token(&head.headers, &UPGRADE, "websocket")),
        arrived(has_token(&head.headers, &CONNECTION, "upgrade"))
    )
}

/// Whether it is a browser that asks, for a page to show.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = |kind: &str| {
        let mut lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
        lines.any(|line| line.to_ascii_lowercase().contains(kind))
    };
    accepts("text/html") && !accepts("text/event-stream")
}

/// As text of a page, or in the quotes of an attribute.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, char| {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // A pair of them would be a place to fill in.
            '{' => safe.push_str("&#123;"),
            _ => safe.push(char),
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_when_they_were_sent() {
        assert_eq!(LINES.tick(1), (Duration::ZERO, "1 of 6, sent after 0 ms".into()));
        assert_eq!(LINES.tick(6), (Duration::from_secs(5), "6 of 6, sent after 5000 ms".into()));
        assert_eq!(event("x", &["a".into(), "b".into()]), "event: x\ndata: a\ndata: b\n\n");
    }

    #[test]
    fn a_page_is_for_browsers_alone() {
        let table = [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("Text/HTML", true),
            ("*/*", false),
            ("text/event-stream", false),
            ("text/event-stream, text/html", false),
        ];
        for (accept, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_page(&headers), expected, "{accept}");
        }
        assert!(!wants_page(&HeaderMap::new()));
    }

    #[test]
    fn nothing_of_a_request_is_markup() {
        assert_eq!(escaped("<b a='\"'>&{{facts}}"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;&#123;&#123;facts}}");
    }

    #[test]
    fn the_page_has_its_places_and_nothing_from_elsewhere() {
        for place in ["{{path}}", "{{socket}}", "{{facts}}"] {
            assert_eq!(PAGE.matches(place).count(), 1, "{place}");
        }
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://") && !PAGE.contains(" src="));
    }
}
