//! A WebSocket client that keeps what it is sent, with the time, and proves the order.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
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

mod frames;

pub use frames::{End, Frame, order};

/// The sub-protocol with control frames and `prev`.
pub const V1: &[&str] = &["herald.v1"];
/// No sub-protocol: the contract of the originals.
pub const PLAIN: &[&str] = &[];

/// The frame by which a door says, under `herald.v1`, that it lives.
const BEAT: &str = r#"{"event":"herald.beat","data":{}}"#;
/// How long the opening may take.
const OPENING: Duration = Duration::from_secs(10);

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
    beats: Vec<Instant>,
    pongs: Vec<Bytes>,
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

    /// When the door has said in a frame that it lives. These are none of [`Client::frames`]: they come at any time.
    #[must_use]
    pub fn beats(&self) -> Vec<Instant> {
        self.shared.lock().beats.clone()
    }

    /// What the door has answered to our pings.
    #[must_use]
    pub fn pongs(&self) -> Vec<Bytes> {
        self.shared.lock().pongs.clone()
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
        let mut looked_at = 0;
        let found = |record: &Record| {
            let found = record.frames[looked_at..].iter().find(|frame| is(frame)).cloned();
            looked_at = record.frames.len();
            found
        };
        self.wait(what, bound, found).await
    }

    /// Waits until there are at least `count` events (control frames aside), and returns all there are.
    ///
    /// # Panics
    /// If there are fewer after `bound`, or when the connection ends.
    pub async fn wait_events(&self, count: usize, bound: Duration) -> Vec<Frame> {
        let (mut looked_at, mut events) = (0, 0);
        let enough = |record: &Record| {
            events += record.frames[looked_at..].iter().filter(|frame| !frame.is_control()).count();
            looked_at = record.frames.len();
            (events >= count).then_some(())
        };
        self.wait(&format!("{count} events"), bound, enough).await;
        self.events()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not end within `bound`.
    pub async fn wait_end(&self, bound: Duration) -> End {
        self.wait("the end", bound, |record| record.end.clone()).await
    }

    async fn wait<T>(&self, what: &str, bound: Duration, mut look: impl FnMut(&Record) -> Option<T>) -> T {
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
                    Some(Ok(Message::Text(text))) if text.as_str() == BEAT => {
                        self.note(|record| record.beats.push(Instant::now()));
                    }
                    Some(Ok(Message::Text(text))) => {
                        let text = text.as_str().to_owned();
                        let json = serde_json::from_str(&text).unwrap_or_default();
                        self.note(|record| record.frames.push(Frame { at: Instant::now(), text, json }));
                    }
                    Some(Ok(Message::Pong(payload))) => self.note(|record| record.pongs.push(payload)),
                    Some(Ok(Message::Ping(_))) => self.note(|record| record.pings.push(Instant::now())),
                    Some(Ok(Message::Close(frame))) => {
                        let (code, reason) = match frame {
                            Some(frame) => (frame.code.into(), frame.reason.as_str().to_owned()),
                            None => (1005, String::new()),
                        };
                        self.note(|record| record.end = Some(End::Closed { code, reason }));
                        // The answer is written by reading on, until the door has ended the connection.
                        while let Some(Ok(_)) = socket.next().await {}
                        return;
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;
    use crate::within;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A door that accepts one socket.
    async fn door() -> (String, JoinHandle<WebSocketStream<TcpStream>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws/s?after=0", listener.local_addr().unwrap());
        let accepted = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            tokio_tungstenite::accept_async(stream).await.unwrap()
        });
        (url, accepted)
    }

    #[tokio::test]
    async fn frames_are_kept_with_their_times_and_the_end() {
        within(LIMIT, async {
            let (url, door) = door().await;
            let client = Client::connect(&url, PLAIN).await;
            let mut door = door.await.unwrap();
            for seq in 1..=3 {
                let text = json!({"event": "gm.phase", "data": {"n": seq}, "seq": seq}).to_string();
                door.send(Message::text(text)).await.unwrap();
            }
            let found = client.wait_for("the second", LIMIT, |frame| frame.data()["n"] == 2).await;
            assert_eq!((found.seq(), found.event()), (Some(2), "gm.phase"));
            assert_eq!(client.wait_events(3, LIMIT).await.len(), 3);
            assert_eq!(client.last_seq(), 3);
            client.check_order();

            client.send_text("hello").await;
            assert_eq!(door.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "hello");
            door.send(Message::Ping("x".into())).await.unwrap();
            assert_eq!(door.next().await.unwrap().unwrap(), Message::Pong("x".into()), "pings are answered");
            assert_eq!(client.pings().len(), 1);

            let frame = tungstenite::protocol::CloseFrame { code: 4408.into(), reason: "resume after=0a-3".into() };
            door.close(Some(frame)).await.unwrap();
            let end = tokio::join!(client.wait_end(LIMIT), async { while door.next().await.is_some() {} }).0;
            assert_eq!((end.code(), end.reason()), (4408, "resume after=0a-3"));
        })
        .await;
    }

    #[tokio::test]
    async fn a_stalled_client_answers_nothing_until_it_goes_on() {
        within(LIMIT, async {
            let (url, door) = door().await;
            let client = Client::connect(&url, PLAIN).await;
            let mut door = door.await.unwrap();
            client.stall(true).await;
            // Commands are taken in their order: this one is sent after the stall began.
            client.send_text("stalled").await;
            door.next().await.unwrap().unwrap();
            door.send(Message::Ping("x".into())).await.unwrap();
            tokio::time::timeout(Duration::from_millis(100), door.next()).await.expect_err("no pong");
            client.stall(false).await;
            assert_eq!(door.next().await.unwrap().unwrap(), Message::Pong("x".into()));
        })
        .await;
    }

    #[tokio::test]
    async fn a_cut_connection_is_no_close() {
        within(LIMIT, async {
            let (url, door) = door().await;
            let client = Client::connect(&url, PLAIN).await;
            drop(door.await.unwrap());
            assert_eq!(client.wait_end(LIMIT).await.code(), 1006);

            let (url, door) = self::door().await;
            Client::connect(&url, PLAIN).await.cut().await;
            assert!(!matches!(door.await.unwrap().next().await, Some(Ok(Message::Close(_)))));
        })
        .await;
    }

    #[tokio::test]
    async fn a_refusal_is_seen_with_status_and_body() {
        use crate::game_master::{Answer, Scripted};

        within(LIMIT, async {
            let server = Scripted::start().await;
            server.on("/ws/a", [Answer::status(404).send("{\"error\":\"x\"}")]);
            let url = format!("ws://{}/ws/a", server.address());
            let refused = Client::open(&url, Options { protocols: V1, ..Options::default() }).await.expect_err("404");
            assert_eq!(refused, Refused::Status { status: 404, body: "{\"error\":\"x\"}".to_owned() });
            let asked = server.asked("/ws/a");
            assert!(asked[0].headers.contains(&("sec-websocket-protocol".to_owned(), "herald.v1".to_owned())));
        })
        .await;
    }
}
