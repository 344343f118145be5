//! What a scripted Game Master answers, step by step.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::tcp::OwnedWriteHalf, sync::watch};

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

    /// Writes a recorded body event by event, with its timing (`.timing.ndjson`, a line each) divided by `speed`; at infinite
    /// speed without pauses.
    ///
    /// # Panics
    /// If the timing is not that of the body.
    #[must_use]
    pub fn recorded(mut self, body: &str, timing: &str, speed: f64) -> Self {
        let (events, mut clock) = (body.split_inclusive("\n\n").collect::<Vec<_>>(), 0.0);
        assert_eq!(events.len(), timing.lines().count(), "the timing is not that of the body");
        for (event, line) in events.into_iter().zip(timing.lines()) {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            let at = line["t_ms"].as_f64().expect("t_ms");
            let pause = Duration::from_secs_f64((at - clock).max(0.0) / 1000.0 / speed);
            if !pause.is_zero() {
                self = self.pause(pause);
            }
            self = self.send(Bytes::copy_from_slice(event.as_bytes()));
            clock = at;
        }
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

    /// Whether the connection stays open after the last step.
    pub(super) fn hangs(&self) -> bool {
        self.end == End::Hang
    }

    /// Writes it, and ends the connection unless it hangs.
    pub(super) async fn write(&self, writer: &mut OwnedWriteHalf) -> std::io::Result<()> {
        let mut steps = self.steps.as_slice();
        // A gate in front holds the head back too.
        if let [Step::Until(gate), rest @ ..] = steps {
            gate.passed().await;
            steps = rest;
        }
        let chunked = self.head.as_ref().is_some_and(|head| head.streamed);
        if let Some(head) = &self.head {
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
        if chunked && self.end == End::Complete {
            writer.write_all(b"0\r\n\r\n").await?;
        }
        if self.end != End::Hang {
            writer.shutdown().await?;
        }
        Ok(())
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
