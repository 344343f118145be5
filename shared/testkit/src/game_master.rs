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

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::traces;

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

/// Events as a Game Master writes them: one `data:` line each.
#[must_use]
pub fn sse(events: impl IntoIterator<Item = Value>) -> Bytes {
    let mut body = BytesMut::new();
    for event in events {
        body.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }
    body.freeze()
}

/// Something that a test opens when it is time, once and for all who wait.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Opens it.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open. Safe to cancel.
    pub async fn passed(&self) {
        let mut gate = self.0.subscribe();
        // The sender is `self`.
        let _open = gate.wait_for(|open| *open).await;
    }
}

/// One answer: a head, and what is written then, step by step. Each `send` is one write to the socket, and one chunk.
#[derive(Clone, Debug)]
pub struct Answer {
    head: Option<Head>,
    steps: Vec<Step>,
    end: End,
}

#[derive(Clone, Debug)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
    /// Without a length that is known beforehand.
    streamed: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Bytes),
    Pause(Duration),
    Until(Gate),
    Endless(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The body is complete, the connection is closed.
    Complete,
    /// The connection is closed without the body's end.
    CutOff,
    /// Nothing more, and the connection stays open.
    Hang,
}

impl Answer {
    /// An answer with that status and no body yet.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            head: Some(Head { status, headers: Vec::new(), streamed: false }),
            steps: Vec::new(),
            end: End::Complete,
        }
    }

    /// 200 with JSON.
    #[must_use]
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::status(200).header("content-type", "application/json").send(body)
    }

    /// 200 with HTML, as a proxy in between would send it.
    #[must_use]
    pub fn html(body: impl Into<Bytes>) -> Self {
        Self::status(200).header("content-type", "text/html; charset=utf-8").send(body)
    }

    /// 302 to another place.
    #[must_use]
    pub fn redirect(to: &str) -> Self {
        Self::status(302).header("location", to)
    }

    /// 200 and an event stream, with the real one's headers.
    #[must_use]
    pub fn sse() -> Self {
        let mut answer = Self::status(200)
            .header("content-type", "text/event-stream; charset=utf-8")
            .header("cache-control", "no-cache")
            .header("x-accel-buffering", "no");
        answer.head = answer.head.map(|head| Head { streamed: true, ..head });
        answer
    }

    /// No head: what is sent is all there is. For answers that are no HTTP.
    #[must_use]
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { head: None, steps: Vec::new(), end: End::Complete }.send(bytes)
    }

    /// No answer at all: the connection is closed when the request has been read.
    #[must_use]
    pub fn refuse() -> Self {
        Self { head: None, steps: Vec::new(), end: End::CutOff }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(head) = &mut self.head {
            head.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Writes these bytes at once.
    #[must_use]
    pub fn send(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Send(bytes.into()))
    }

    /// Writes these bytes in pieces of that size.
    ///
    /// # Panics
    /// If the size is 0.
    #[must_use]
    pub fn split(self, bytes: impl AsRef<[u8]>, size: usize) -> Self {
        bytes.as_ref().chunks(size).fold(self.streamed(), |answer, piece| answer.send(Bytes::copy_from_slice(piece)))
    }

    /// Writes these bytes in two pieces, cut at that offset.
    #[must_use]
    pub fn cut_at(self, bytes: impl AsRef<[u8]>, offset: usize) -> Self {
        let (one, two) = bytes.as_ref().split_at(offset);
        self.streamed().send(Bytes::copy_from_slice(one)).send(Bytes::copy_from_slice(two))
    }

    /// Writes a recorded body event by event, with its timing (`.timing.ndjson`) divided by `speed`; at infinite speed
    /// without pauses.
    ///
    /// # Panics
    /// If the timing is not that of the body.
    #[must_use]
    pub fn recorded(mut self, body: &[u8], timing: &str, speed: f64) -> Self {
        let (mut offset, mut clock) = (0, 0.0);
        for line in timing.lines() {
            let event: Value = serde_json::from_str(line).expect("a line of JSON");
            let (at, length) = (event["t_ms"].as_f64().expect("t_ms"), event["bytes"].as_u64().expect("bytes"));
            let pause = Duration::from_secs_f64((at - clock).max(0.0) / 1000.0 / speed);
            if !pause.is_zero() {
                self = self.pause(pause);
            }
            let end = offset + usize::try_from(length).expect("a length");
            self = self.send(Bytes::copy_from_slice(&body[offset..end]));
            (offset, clock) = (end, at);
        }
        assert_eq!(offset, body.len(), "the timing is not that of the body");
        self.streamed()
    }

    /// Waits for a time.
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.streamed().step(Step::Pause(time))
    }

    /// Waits until the test opens the gate. In front of everything else, the head waits too.
    #[must_use]
    pub fn until(self, gate: &Gate) -> Self {
        self.streamed().step(Step::Until(gate.clone()))
    }

    /// Writes these bytes again and again until the other side hangs up.
    #[must_use]
    pub fn endless(self, bytes: impl Into<Bytes>) -> Self {
        self.streamed().step(Step::Endless(bytes.into()))
    }

    /// After the last step: closes the connection without the body's end, as a killed process does.
    #[must_use]
    pub fn cut_off(self) -> Self {
        Self { end: End::CutOff, ..self.streamed() }
    }

    /// After the last step: says nothing more, and keeps the connection.
    #[must_use]
    pub fn hang(self) -> Self {
        Self { end: End::Hang, ..self.streamed() }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn streamed(mut self) -> Self {
        if let Some(head) = &mut self.head {
            head.streamed = true;
        }
        self
    }
}

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
            let written = write_answer(&mut writer, &answer).await.is_ok();
            if written && answer.end == End::Hang {
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

async fn write_answer(writer: &mut OwnedWriteHalf, answer: &Answer) -> std::io::Result<()> {
    let mut steps = answer.steps.as_slice();
    // A gate in front holds the head back too.
    if let [Step::Until(gate), rest @ ..] = steps {
        gate.passed().await;
        steps = rest;
    }
    let chunked = answer.head.as_ref().is_some_and(|head| head.streamed);
    if let Some(head) = &answer.head {
        let mut text = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\n", head.status);
        for (name, value) in &head.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if chunked {
            text.push_str("transfer-encoding: chunked\r\n");
        } else {
            let lengths = steps.iter().map(|step| if let Step::Send(bytes) = step { bytes.len() } else { 0 });
            text.push_str(&format!("content-length: {}\r\n", lengths.sum::<usize>()));
        }
        writer.write_all(format!("{text}\r\n").as_bytes()).await?;
    }
    for step in steps {
        match step {
            Step::Send(bytes) => write_piece(writer, bytes, chunked).await?,
            Step::Pause(time) => tokio::time::sleep(*time).await,
            Step::Until(gate) => gate.passed().await,
            Step::Endless(bytes) => loop {
                write_piece(writer, bytes, chunked).await?;
            },
        }
    }
    if chunked && answer.end == End::Complete {
        writer.write_all(b"0\r\n\r\n").await?;
    }
    if answer.end != End::Hang {
        writer.shutdown().await?;
    }
    Ok(())
}

/// One write, and one chunk. An empty chunk would be the end.
async fn write_piece(writer: &mut OwnedWriteHalf, bytes: &[u8], chunked: bool) -> std::io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    if !chunked {
        return writer.write_all(bytes).await;
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    writer.write_all(&chunk).await
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
            gm.on(
                PROPOSE,
                [
                    Answer::sse().send(body.clone()),
                    Answer::sse().split(&body, 1),
                    Answer::sse().cut_at(&body, 7),
                    Answer::sse().recorded(&body, timing, f64::INFINITY),
                ],
            );
            for _ in 0..4 {
                let reply = http::get(&format!("{}{PROPOSE}", gm.url())).await.expect_status(200);
                assert_eq!(reply.body, body);
            }
            gm.on(PROPOSE, [Answer::sse().recorded(&body, timing, 1.0)]);
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
