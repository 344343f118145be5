//! A Game Master that answers exactly what a test tells it to, to the byte and the moment.
//!
//! ```no_run
//! # async fn example() {
//! use std::time::Duration;
//! use herald_testkit::game_master::{Answer, Gate, Scripted, START, STATE, PROPOSE, sse};
//! use serde_json::json;
//!
//! let gm = Scripted::start().await; // answers START and STATE as the real one does
//! let gate = Gate::new();
//! gm.on(PROPOSE, [
//!     // The first propose: two events, then nothing until the test opens the gate, then the end.
//!     Answer::sse().send(sse([json!({"type": "phase"})])).until(&gate).send(sse([json!({"type": "result", "data": {}})])),
//!     // The second and all later: a body in single bytes, cut off in the middle of an event.
//!     Answer::sse().split(b"data: {\"type\":\"phase\"}\n\ndata: {\"ty", 1).cut_off(),
//! ]);
//! // ... gm-bridge is started with GM_BASE_URL=gm.url(), an action runs ...
//! gm.wait_asked(PROPOSE, 1, Duration::from_secs(5)).await;
//! gate.open();
//! // The bridge closes its upstream connection at once when an action is superseded:
//! gm.wait_hung_up(PROPOSE, 0, Duration::from_secs(5)).await;
//! # }
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::traces;

mod answer;

pub use answer::{Answer, Gate, sse};

/// Wipes the game and starts another.
pub const START: &str = "/api/start";
/// The game's state.
pub const STATE: &str = "/api/state";
/// A propose's events.
pub const PROPOSE: &str = "/api/stream/propose";
/// A choose's events.
pub const CHOOSE: &str = "/api/stream/choose";

/// The longest head or body of a request.
const REQUEST_LIMIT: usize = 4 << 20;

/// One request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When.
    pub at: Instant,
    /// `GET` ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Behind the `?`, as it came.
    pub query: String,
    /// As they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// When the answer was complete.
    pub answered: Option<Instant>,
    /// When the other side closed the connection before that.
    pub hung_up: Option<Instant>,
}

/// The scripted Game Master. Ends when dropped.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    answers: BTreeMap<String, VecDeque<Answer>>,
    asked: Vec<Asked>,
}

impl Scripted {
    /// Starts one that answers [`START`] and [`STATE`] with the recorded bodies (`session_id` is the recorded
    /// [`traces::GM_SESSION`]), and 404 to everything else that it was not told about.
    ///
    /// # Panics
    /// If it can't listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { state: Mutex::default(), news: watch::Sender::new(0) });
        let server = tokio::spawn(Arc::clone(&shared).serve(listener));
        let gm = Self { address, shared, server };
        gm.on(START, [Answer::json(traces::read("gm-start.json"))]);
        gm.on(STATE, [Answer::json(traces::read("gm-state.json"))]);
        gm
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What requests of that path get from now on: one answer each, the last one again and again.
    pub fn on(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().answers.insert(path.to_owned(), answers.into_iter().collect());
    }

    /// The requests of that path so far.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.shared.lock().asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// All requests so far.
    #[must_use]
    pub fn all_asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// Waits until that path was asked for `count` times.
    ///
    /// # Panics
    /// If it was not within `bound`.
    pub async fn wait_asked(&self, path: &str, count: usize, bound: Duration) -> Vec<Asked> {
        self.wait(&format!("{count} requests of {path}"), path, bound, |asked| asked.len() >= count).await
    }

    /// Waits until the other side has hung up on the `index`-th request of that path, counted from 0, before its answer was
    /// complete. Returns when it did.
    ///
    /// # Panics
    /// If it did not within `bound`.
    pub async fn wait_hung_up(&self, path: &str, index: usize, bound: Duration) -> Instant {
        let hung_up = |asked: &[Asked]| asked.get(index).and_then(|asked| asked.hung_up);
        let asked = self.wait(&format!("{path} {index} hung up"), path, bound, |asked| hung_up(asked).is_some()).await;
        hung_up(&asked).expect("just seen")
    }

    async fn wait(&self, what: &str, path: &str, bound: Duration, is: impl Fn(&[Asked]) -> bool) -> Vec<Asked> {
        let mut news = self.shared.news.subscribe();
        let looking = async {
            loop {
                news.mark_unchanged();
                let asked = self.asked(path);
                if is(&asked) {
                    return asked;
                }
                // The sender lives in `shared`.
                let _always_ok = news.changed().await;
            }
        };
        match tokio::time::timeout(bound, looking).await {
            Ok(asked) => asked,
            Err(_) => panic!("{what}: not within {bound:?}; all requests: {:#?}", self.all_asked()),
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        // Dropped with the server, and every connection with it.
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            while connections.try_join_next().is_some() {}
            connections.spawn(Arc::clone(&self).answer(stream));
        }
    }

    /// One request per connection.
    async fn answer(self: Arc<Self>, stream: TcpStream) {
        stream.set_nodelay(true).expect("a TCP option");
        let (mut reader, mut writer) = stream.into_split();
        let Some(asked) = read_request(&mut reader).await else { return };
        let answer = self.next_answer(&asked.path);
        let index = self.note(|state| {
            state.asked.push(asked);
            state.asked.len() - 1
        });
        let writing = async {
            let written = answer.write(&mut writer).await.is_ok();
            if written && answer.hangs() {
                std::future::pending::<()>().await;
            }
            written
        };
        let complete = tokio::select! {
            // If both have happened, the answer was complete.
            biased;
            written = writing => written,
            () = closed(&mut reader) => false,
        };
        let now = Some(Instant::now());
        self.note(|state| {
            let asked = &mut state.asked[index];
            if complete { asked.answered = now } else { asked.hung_up = now }
        });
    }

    fn next_answer(&self, path: &str) -> Answer {
        let mut state = self.lock();
        let not_found =
            || Answer::status(404).header("content-type", "application/json").send(r#"{"detail":"Not Found"}"#);
        let Some(answers) = state.answers.get_mut(path) else { return not_found() };
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.unwrap_or_else(not_found)
    }

    fn note<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.news.send_modify(|count| *count += 1);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_request(reader: &mut OwnedReadHalf) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > REQUEST_LIMIT || reader.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse::<usize>().unwrap_or(0)).min(REQUEST_LIMIT);
    while bytes.len() < head_end + 4 + length {
        if reader.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = Bytes::copy_from_slice(&bytes[head_end + 4..head_end + 4 + length]);
    let (path, query) = (path.to_owned(), query.to_owned());
    Some(Asked { at: Instant::now(), method, path, query, headers, body, answered: None, hung_up: None })
}

/// Waits until the other side closes. What it still sends is of no interest.
async fn closed(reader: &mut OwnedReadHalf) {
    let mut rest = [0; 1024];
    while reader.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

#[cfg(test)]
mod tests {
    use hyper::Method;
    use serde_json::json;

    use super::*;
    use crate::{http, within};

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn answers_come_in_their_order_and_the_last_again() {
        within(LIMIT, async {
            let gm = Scripted::start().await;
            gm.on("/x", [Answer::status(500), Answer::html("<p>"), Answer::redirect("/y")]);
            let url = format!("{}/x?a=b%20c", gm.url());
            http::get(&url).await.expect_status(500);
            assert_eq!(http::get(&url).await.expect_status(200).text(), "<p>");
            assert_eq!(http::get(&url).await.expect_status(302).header("location"), "/y");
            http::post_json(&url, &json!({"k": 1})).await.expect_status(302);
            let asked = gm.asked("/x");
            assert_eq!(asked.len(), 4);
            assert_eq!((asked[3].method.as_str(), asked[3].query.as_str()), ("POST", "a=b%20c"));
            assert_eq!(asked[3].body, r#"{"k":1}"#);
            assert!(asked[3].headers.contains(&("content-type".to_owned(), "application/json".to_owned())));
            http::get(&format!("{}/nowhere", gm.url())).await.expect_status(404);
            let start = http::get(&format!("{}{START}", gm.url())).await.expect_status(200).json();
            assert_eq!(start["session_id"], traces::GM_SESSION);
        })
        .await;
    }

    #[tokio::test]
    async fn a_body_is_the_same_however_it_is_split() {
        within(LIMIT, async {
            let gm = Scripted::start().await;
            let body = sse([json!({"type": "phase"}), json!({"type": "result", "data": {}})]);
            let timing = r#"{"t_ms": 1.0, "bytes": 24}
                {"t_ms": 30.0, "bytes": 35}"#;
            let text = std::str::from_utf8(&body).unwrap();
            gm.on(
                PROPOSE,
                [
                    Answer::sse().send(body.clone()),
                    Answer::sse().split(&body, 1),
                    Answer::sse().cut_at(&body, 7),
                    Answer::sse().recorded(text, timing, f64::INFINITY),
                ],
            );
            for _ in 0..4 {
                let reply = http::get(&format!("{}{PROPOSE}", gm.url())).await.expect_status(200);
                assert_eq!(reply.body, body);
            }
            gm.on(PROPOSE, [Answer::sse().recorded(text, timing, 1.0)]);
            let begun = Instant::now();
            http::get(&format!("{}{PROPOSE}", gm.url())).await;
            assert!(begun.elapsed() >= Duration::from_millis(30), "with its timing");
        })
        .await;
    }

    #[tokio::test]
    async fn bodies_can_wait_hang_break_off_and_never_end() {
        within(LIMIT, async {
            let gm = Scripted::start().await;
            let gate = Gate::new();
            gm.on("/gate", [Answer::sse().send("a").until(&gate).send("b")]);
            gm.on("/off", [Answer::sse().send("a").cut_off()]);
            gm.on("/hang", [Answer::sse().send("a").hang()]);
            gm.on("/endless", [Answer::sse().endless("abc")]);
            gm.on("/raw", [Answer::raw("no HTTP\r\n")]);
            gm.on("/refuse", [Answer::refuse()]);
            let get = |path: &str| {
                let url = format!("{}{path}", gm.url());
                async move { http::try_send(Method::GET, &url, &[], "").await }
            };
            let gated = tokio::spawn(get("/gate"));
            gm.wait_asked("/gate", 1, LIMIT).await;
            assert!(gm.asked("/gate")[0].answered.is_none());
            gate.open();
            assert_eq!(gated.await.expect("no panic").expect("whole").text(), "ab");

            assert!(get("/off").await.expect_err("cut off").contains("body"));
            get("/raw").await.expect_err("no HTTP");
            get("/refuse").await.expect_err("nothing");
            for path in ["/hang", "/endless"] {
                let url = format!("{}{path}", gm.url());
                let response = http::open(Method::GET, &url, &[], "").await.expect("a head");
                assert!(gm.asked(path)[0].hung_up.is_none());
                drop(response);
                gm.wait_hung_up(path, 0, LIMIT).await;
                assert!(gm.asked(path)[0].answered.is_none());
            }
        })
        .await;
    }
}
