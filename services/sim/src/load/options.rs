//! The flags of `sim load`.

use std::str::FromStr;

use clap::{ArgGroup, Args};
use herald_runtime::config::HumanDuration;

/// How clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `/ws/<session>` of ws-edge: comes back by cursor where it is closed.
    Herald,
    /// The same path and frames of any other server.
    Plain,
    /// nats-server's own WebSocket.
    Nats,
}

impl FromStr for Protocol {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "herald" => Ok(Self::Herald),
            "plain" => Ok(Self::Plain),
            "nats" => Ok(Self::Nats),
            _ => Err("expected herald, plain or nats"),
        }
    }
}

/// Flags of `sim load`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("work").required(true).args(["rate", "window", "burst", "idle", "connect_rate", "resume"]))]
pub struct LoadOptions {
    /// The door: `ws://IP:PORT`. Clients are spread evenly over several.
    #[arg(long, value_name = "URL,...", value_delimiter = ',', default_value = "ws://127.0.0.1:8000")]
    pub url: Vec<String>,
    /// How clients speak: herald, plain (another server with the same path and frames), or nats.
    #[arg(long, default_value = "herald")]
    pub protocol: Protocol,
    /// Ask for the sub-protocol `herald.v1`.
    #[arg(long)]
    pub v1: bool,
    /// The NATS server to publish to, `HOST:PORT`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4222")]
    pub nats: String,
    /// Processes whose CPU and memory are measured.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Sessions that events are published to.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: u32,
    /// Clients of each session.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// Only the first so many sessions have clients.
    #[arg(long, value_name = "W")]
    pub watched: Option<u32>,
    /// Work: events a second in all, evenly in time, session after session.
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Work: as fast as it goes, with at most so many events per session published that its slowest client has not.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub window: Option<u64>,
    /// Work: so many events in all, at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub burst: Option<u64>,
    /// Work: connect, publish nothing, hold.
    #[arg(long)]
    pub idle: bool,
    /// Work: connect, and be done.
    #[arg(long)]
    pub connect_rate: bool,
    /// Work: all clients leave, so many events per session are published, all come back by cursor.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub resume: Option<u64>,
    /// With `--resume`: in how much time they come back, evenly.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub within: HumanDuration,
    /// With `--rate`, `--window` and `--idle`: how long is measured.
    #[arg(long, default_value_t = 10.0, value_parser = parse_seconds)]
    pub seconds: f64,
    /// With `--rate` and `--window`: published for so long before that.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = parse_seconds)]
    pub warmup: f64,
    /// Bytes of an event's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 300, value_parser = clap::value_parser!(u32).range(100..=1_048_576))]
    pub size: u32,
    /// Which part of the events belongs to a trace of its own, evenly (`traceparent`).
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = parse_ratio)]
    pub traced: f64,
    /// At most so many events published that the stream has not acknowledged; 0: nobody is asked. Default: 4000 with
    /// `--burst` and `--resume` on herald (a stream drops what comes faster than it stores), else 0.
    #[arg(long, value_name = "N")]
    pub acks: Option<u64>,
    /// With `--rate`: so many clients stop reading when the measuring begins.
    #[arg(long, value_name = "K", default_value_t = 0, requires = "rate")]
    pub stalled: u32,
    /// For how long they do.
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0, value_parser = parse_seconds)]
    pub stall_seconds: f64,
    /// Receive buffer of each client's socket (`SO_RCVBUF`); the kernel's choice unless given.
    #[arg(long, value_name = "BYTES")]
    pub receive_buffer: Option<u32>,
    /// Handshakes at once.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub handshakes: u32,
    /// Clients come from 127.0.0.1 to 127.0.0.N, each of which has some 28,000 ports.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub sources: u8,
    /// Threads that read.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Without any progress for so long, what is missing is lost.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub settle: HumanDuration,
    /// One JSON line instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl LoadOptions {
    /// Sessions that have clients.
    #[must_use]
    pub fn watched(&self) -> u32 {
        self.watched.unwrap_or(self.sessions).min(self.sessions)
    }

    /// Clients in all.
    #[must_use]
    pub fn connections(&self) -> u64 {
        u64::from(self.watched()) * u64::from(self.clients)
    }

    /// How many events may be unacknowledged; 0: nobody is asked.
    #[must_use]
    pub fn acks(&self) -> u64 {
        let wanted = self.protocol == Protocol::Herald && (self.burst.is_some() || self.resume.is_some());
        self.acks.unwrap_or(if wanted { 4000 } else { 0 })
    }

    /// Every so manieth event is traced; 0: none.
    #[must_use]
    pub fn traced(&self) -> u64 {
        if self.traced > 0.0 { (1.0 / self.traced).round() as u64 } else { 0 }
    }

    /// What is measured, by its name.
    #[must_use]
    pub const fn work(&self) -> &'static str {
        if self.idle {
            "idle"
        } else if self.connect_rate {
            "connect"
        } else if self.resume.is_some() {
            "resume"
        } else if self.burst.is_some() {
            "burst"
        } else if self.window.is_some() {
            "window"
        } else {
            "stream"
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.01 to 10000000".into()),
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number from 0 to 86400".into()),
    }
}
