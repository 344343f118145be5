//! A WebSocket client that keeps what it is sent, with the time, and proves the order.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        protocol::{WebSocketConfig, frame::coding::CloseCode},
    },
};

/// The sub-protocol with control frames and `prev`.
pub const V1: &[&str] = &["herald.v1"];
/// No sub-protocol: the contract of the originals.
pub const PLAIN: &[&str] = &[];

/// How long the opening may take.
const OPENING: Duration = Duration::from_secs(10);

/// One text frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When it arrived.
    pub at: Instant,
    /// Its bytes.
    pub text: String,
    /// The same, read; `null` if it is no JSON.
    pub json: Value,
}

impl Frame {
    /// Its `event`, empty if it has none.
    #[must_use]
    pub fn event(&self) -> &str {
        self.json["event"].as_str().unwrap_or_default()
    }

    /// Its `data`.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.json["data"]
    }

    /// Its stream sequence; control frames have none.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.json["seq"].as_u64()
    }

    /// The sequence of the event shown before it, under `herald.v1`.
    #[must_use]
    pub fn prev(&self) -> Option<u64> {
        self.json["prev"].as_u64()
    }

    /// Whether it belongs to a snapshot, under `herald.v1`.
    #[must_use]
    pub fn snapshot(&self) -> bool {
        self.json["snapshot"] == Value::Bool(true)
    }

    /// Whether it is `herald.*`.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.event().starts_with("herald.")
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a close frame.
    Closed {
        /// Its code; 1005 if it had none.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// Without one: what a browser reports as 1006.
    Lost(String),
}

impl End {
    /// The code a browser would report.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Closed { code, .. } => *code,
            Self::Lost(_) => 1006,
        }
    }

    /// The reason, empty if there was none.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Closed { reason, .. } => reason,
            Self::Lost(_) => "",
        }
    }
}

/// A socket that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The door answered with another status than 101.
    Status {
        /// The status.
        status: u16,
        /// The answer's body.
        body: String,
    },
    /// Anything else.
    Failed(String),
}

/// What to open.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// Sub-protocols to ask for: [`V1`] or [`PLAIN`].
    pub protocols: &'a [&'a str],
    /// More headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// The receive buffer of the socket in bytes, as small as the system allows; for clients that stop reading.
    pub receive_buffer: Option<u32>,
}

/// A client. A task of its own reads, answers pings and keeps the frames; it ends when the client is dropped.
pub struct Client {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    reader: JoinHandle<()>,
    protocol: Option<String>,
}

struct Shared {
    record: Mutex<Record>,
    /// Counts what has been recorded.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct Record {
    frames: Vec<Frame>,
    pings: Vec<Instant>,
    end: Option<End>,
}

enum Command {
    Send(Message),
    Stall(bool),
}

impl Client {
    /// Opens a socket at `ws://...` with these sub-protocols.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn connect(url: &str, protocols: &[&str]) -> Self {
        let options = Options { protocols, ..Options::default() };
        Self::open(url, options).await.unwrap_or_else(|refused| panic!("{url}: {refused:?}"))
    }

    /// Opens a socket.
    ///
    /// # Errors
    /// If the door refuses it.
    ///
    /// # Panics
    /// If the URL is none.
    pub async fn open(url: &str, options: Options<'_>) -> Result<Self, Refused> {
        let failed = |error: &dyn fmt::Display| Refused::Failed(error.to_string());
        let mut request = url.into_client_request().expect("a WebSocket URL");
        let headers = request.headers_mut();
        for (name, value) in options.headers {
            let name = tungstenite::http::HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            headers.append(name, value.parse().expect("a header value"));
        }
        if !options.protocols.is_empty() {
            headers.insert("sec-websocket-protocol", options.protocols.join(", ").parse().expect("a header value"));
        }
        let address = request.uri().authority().expect("a URL with a host").to_string();
        let opening = async {
            let target = tokio::net::lookup_host(&address).await.map_err(|error| failed(&error))?.next();
            let target = target.ok_or_else(|| failed(&"no address"))?;
            let socket = match target {
                std::net::SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
                std::net::SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
            };
            let socket = socket.map_err(|error| failed(&error))?;
            if let Some(bytes) = options.receive_buffer {
                socket.set_recv_buffer_size(bytes).map_err(|error| failed(&error))?;
            }
            let stream = socket.connect(target).await.map_err(|error| failed(&error))?;
            stream.set_nodelay(true).map_err(|error| failed(&error))?;
            let config = WebSocketConfig::default()
                .max_message_size(Some(64 << 20))
                .max_frame_size(Some(64 << 20))
                .read_buffer_size(16 << 10);
            match client_async_with_config(request, stream, Some(config)).await {
                Ok(opened) => Ok(opened),
                Err(tungstenite::Error::Http(answer)) => {
                    let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                    Err(Refused::Status { status: answer.status().as_u16(), body: body.into_owned() })
                }
                Err(error) => Err(failed(&error)),
            }
        };
        let opened = tokio::time::timeout(OPENING, opening).await;
        let (socket, answer) = opened.unwrap_or_else(|_| Err(failed(&format!("not opened within {OPENING:?}"))))?;
        let protocol = answer.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
        let shared = Arc::new(Shared { record: Mutex::default(), news: watch::Sender::new(0) });
        let (commands, inbox) = mpsc::channel(1024);
        let reader = tokio::spawn(Arc::clone(&shared).read(socket, inbox));
        Ok(Self { protocol: protocol.map(str::to_owned), shared, commands, reader })
    }

    /// The sub-protocol that the door chose.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// All frames so far.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        self.shared.lock().frames.clone()
    }

    /// The frames so far that are events, not control.
    #[must_use]
    pub fn events(&self) -> Vec<Frame> {
        self.frames().into_iter().filter(|frame| !frame.is_control()).collect()
    }

    /// When the door has pinged.
    #[must_use]
    pub fn pings(&self) -> Vec<Instant> {
        self.shared.lock().pings.clone()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        self.shared.lock().end.clone()
    }

    /// The cursor to come back with: epoch of the last hello, sequence of the last event. None without a hello (plain
    /// clients come back with the bare [`Client::last_seq`]).
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        let frames = self.frames();
        let hello = frames.iter().rev().find(|frame| frame.event() == "herald.hello")?;
        let epoch = hello.data()["epoch"].as_str()?;
        Some(format!("{epoch}-{}", self.last_seq()))
    }

    /// The sequence of the last event, 0 if there was none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.shared.lock().frames.iter().rev().find_map(Frame::seq).unwrap_or(0)
    }

    /// Waits for the first frame, of all so far and to come, that `is` true of.
    ///
    /// # Panics
    /// If there is none within `bound`, or the connection ends before, with the last frames.
    pub async fn wait_for(&self, what: &str, bound: Duration, is: impl Fn(&Frame) -> bool) -> Frame {
        self.wait(what, bound, |record| record.frames.iter().find(|frame| is(frame)).cloned()).await
    }

    /// Waits until there are at least `count` events (control frames aside), and returns all there are.
    ///
    /// # Panics
    /// If there are fewer after `bound`, or when the connection ends.
    pub async fn wait_events(&self, count: usize, bound: Duration) -> Vec<Frame> {
        let events = |record: &Record| {
            let events: Vec<_> = record.frames.iter().filter(|frame| !frame.is_control()).cloned().collect();
            (events.len() >= count).then_some(events)
        };
        self.wait(&format!("{count} events"), bound, events).await
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not end within `bound`.
    pub async fn wait_end(&self, bound: Duration) -> End {
        self.wait("the end", bound, |record| record.end.clone()).await
    }

    async fn wait<T>(&self, what: &str, bound: Duration, look: impl Fn(&Record) -> Option<T>) -> T {
        let mut news = self.shared.news.subscribe();
        let looking = async {
            loop {
                news.mark_unchanged();
                {
                    let record = self.shared.lock();
                    if let Some(found) = look(&record) {
                        return Some(found);
                    }
                    if record.end.is_some() {
                        return None;
                    }
                }
                // The sender lives in `shared`, which we hold.
                let _always_ok = news.changed().await;
            }
        };
        match tokio::time::timeout(bound, looking).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{what}: the connection ended before; {}", self.status()),
            Err(_) => panic!("{what}: not within {bound:?}; {}", self.status()),
        }
    }

    /// What there is, shortly.
    fn status(&self) -> String {
        let record = self.shared.lock();
        let events = record.frames.len();
        let last: Vec<String> =
            record.frames.iter().rev().take(3).rev().map(|frame| frame.text.chars().take(160).collect()).collect();
        format!("{events} frames, end {:?}, the last: {last:#?}", record.end)
    }

    /// Sends a text.
    pub async fn send_text(&self, text: impl Into<String>) {
        self.send(Message::text(text.into())).await;
    }

    /// Sends any message, also pings and closes.
    pub async fn send(&self, message: Message) {
        // Gone: the connection has ended, which the record says.
        let _gone = self.commands.send(Command::Send(message)).await;
    }

    /// Stops (or goes on) reading from the socket, as a client whose machine sleeps: nothing is read and no ping answered.
    pub async fn stall(&self, stalled: bool) {
        let _gone = self.commands.send(Command::Stall(stalled)).await;
    }

    /// Closes with 1000 and waits for the answer.
    pub async fn close(self) -> End {
        let frame = tungstenite::protocol::CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.send(Message::Close(Some(frame))).await;
        self.wait_end(Duration::from_secs(10)).await
    }

    /// Cuts the connection without a word, as a lost network does.
    pub async fn cut(self) {
        self.reader.abort();
        let _aborted = self.reader_done().await;
    }

    async fn reader_done(mut self) -> Result<(), tokio::task::JoinError> {
        (&mut self.reader).await
    }

    /// Proves what every client may rely on, over all its frames: sequences rise; and under `herald.v1` each frame's `prev` is
    /// the sequence shown before it (behind a snapshot: nothing above its cut was missed).
    ///
    /// # Panics
    /// If not so, with the two frames.
    pub fn check_order(&self) {
        if let Err(fault) = order(&self.frames(), self.protocol.is_some()) {
            panic!("{fault}");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.status())
    }
}

/// Whether the frames are in order and, with `prev`, without a hole that was not announced.
///
/// # Errors
/// With the first fault found.
pub fn order(frames: &[Frame], v1: bool) -> Result<(), String> {
    // What we have seen everything up to: known after the first event, a live frame, or a gap.
    let mut seen: Option<u64> = None;
    let mut last = 0;
    for frame in frames {
        let text = &frame.text;
        match (frame.event(), frame.seq()) {
            ("herald.live", _) => seen = frame.data()["after"].as_u64().or(seen),
            // What lies in a gap is announced as missing: any `prev` is right up to its end.
            ("herald.gap", _) => seen = None,
            (event, None) if event.starts_with("herald.") => {}
            (_, None) => return Err(format!("an event without a sequence: {text}")),
            // A snapshot shows the last event of each topic, in order but with holes between.
            (_, Some(seq)) if frame.snapshot() => {
                if seq <= last {
                    return Err(format!("a snapshot frame out of order, after {last}: {text}"));
                }
                last = seq;
            }
            (_, Some(seq)) => {
                if seq <= last {
                    return Err(format!("not after {last}: {text}"));
                }
                match (v1, frame.prev(), seen) {
                    (true, None, _) => return Err(format!("no prev under herald.v1: {text}")),
                    (true, Some(prev), Some(seen)) if prev > seen => {
                        return Err(format!("a hole: seen up to {seen}, but before this frame comes {prev}: {text}"));
                    }
                    (true, Some(prev), _) if prev >= seq => return Err(format!("prev is not before: {text}")),
                    (false, Some(_), _) => return Err(format!("prev without herald.v1: {text}")),
                    _ => {}
                }
                (seen, last) = (Some(seq), seq);
            }
        }
    }
    Ok(())
}

impl Shared {
    async fn read(self: Arc<Self>, mut socket: WebSocketStream<TcpStream>, mut inbox: mpsc::Receiver<Command>) {
        let mut stalled = false;
        let end = loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Send(message)) => {
                        // A failure shows when reading, with its reason.
                        let _failed = socket.send(message).await;
                    }
                    Some(Command::Stall(now)) => stalled = now,
                    None => return,
                },
                message = socket.next(), if !stalled => match message {
                    Some(Ok(Message::Text(text))) => {
                        let text = text.as_str().to_owned();
                        let json = serde_json::from_str(&text).unwrap_or_default();
                        self.note(|record| record.frames.push(Frame { at: Instant::now(), text, json }));
                    }
                    Some(Ok(Message::Ping(_))) => self.note(|record| record.pings.push(Instant::now())),
                    Some(Ok(Message::Close(frame))) => {
                        let (code, reason) = match frame {
                            Some(frame) => (frame.code.into(), frame.reason.as_str().to_owned()),
                            None => (1005, String::new()),
                        };
                        // The answer is written by reading on, until the door has ended the connection.
                        let rest = async { while let Some(Ok(_)) = socket.next().await {} };
                        let _bounded = tokio::time::timeout(Duration::from_secs(5), rest).await;
                        break End::Closed { code, reason };
                    }
                    Some(Ok(message)) => break End::Lost(format!("unexpected message: {message:?}")),
                    Some(Err(error)) => break End::Lost(error.to_string()),
                    None => break End::Lost("end of stream".to_owned()),
                },
            }
        };
        self.note(|record| record.end = Some(end));
    }

    fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.lock());
        self.news.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
