//! What one connection hears: frames to events, events to the judge.

use hdrhistogram::Histogram;

use super::{
    judge::{Judge, Tally},
    options::Protocol,
    payload::{self, HEAD, MARK, Mark},
};
use crate::wire::{
    nats::{self, Said},
    websocket::{self, Head},
};

/// Latencies are told apart up to here, ns; longer ones count as this.
const LONGEST_NS: u64 = 1_000_000_000_000;
/// Of a latency, so many digits are kept.
const DIGITS: u8 = 3;

/// What all connections of a thread found.
pub(super) struct Findings {
    pub(super) tally: Tally,
    /// ns from the publishing to the read that brought it.
    pub(super) latency: Histogram<u64>,
    /// What servers closed with, or how connections broke, and how often.
    pub(super) ends: Vec<(String, u64)>,
    /// `herald.gap` frames.
    pub(super) gaps: u64,
}

impl Findings {
    pub(super) fn new() -> anyhow::Result<Self> {
        let latency = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)?;
        Ok(Self { tally: Tally::default(), latency, ends: Vec::new(), gaps: 0 })
    }

    /// A connection ended that should not have.
    pub(super) fn end(&mut self, why: String, times: u64) {
        match self.ends.iter_mut().find(|(known, _)| *known == why) {
            Some((_, seen)) => *seen += times,
            None => self.ends.push((why, times)),
        }
    }

    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.tally.add(&other.tally);
        self.latency.add(&other.latency)?;
        self.gaps += other.gaps;
        other.ends.iter().for_each(|(why, times)| self.end(why.clone(), *times));
        Ok(())
    }
}

/// What a read has to be judged by.
pub(super) struct Moment<'a> {
    /// Each session's.
    pub(super) marks: &'a [Mark],
    /// Bytes of a payload.
    pub(super) size: usize,
    /// When the read came back.
    pub(super) now: u64,
    /// Latencies of what was published before are not kept.
    pub(super) measured_from: u64,
}

/// What is to be done behind a read.
#[derive(Default)]
pub(super) struct Todo {
    /// What is to be written: pongs.
    pub(super) write: Vec<u8>,
    /// The server closed: code and reason.
    pub(super) closed: Option<String>,
}

/// The ear of one connection.
pub(super) struct Hearing {
    pub(super) session: u32,
    /// Where in a frame the payload begins, once it is known.
    place: u32,
    pub(super) judge: Judge,
    /// Stream sequence of the last event, where frames say it.
    pub(super) seq: u64,
    /// Whether a probe was heard.
    pub(super) attached: bool,
    /// Its latencies are its own fault.
    pub(super) slow: bool,
    /// Where frames are pieces of a NATS connection: a piece of a message.
    rest: Vec<u8>,
}

impl Hearing {
    pub(super) fn new(session: u32) -> Self {
        let judge = Judge::default();
        Self { session, place: 0, judge, seq: 0, attached: false, slow: false, rest: Vec::new() }
    }

    /// Takes every whole frame of `bytes`; how many bytes they are.
    ///
    /// # Errors
    /// What no server should send, in words.
    #[inline]
    pub(super) fn frames(
        &mut self,
        protocol: Protocol,
        bytes: &[u8],
        moment: &Moment<'_>,
        findings: &mut Findings,
        todo: &mut Todo,
    ) -> Result<usize, String> {
        let mut at = 0;
        let mut last: &[u8] = &[];
        while let Some(head) = Head::read(&bytes[at..]).map_err(|odd| odd.to_string())? {
            let Some(payload) = bytes.get(at + head.header..at + head.total()) else { break };
            at += head.total();
            match head.opcode {
                websocket::TEXT | websocket::BINARY if protocol == Protocol::Nats => {
                    self.messages(payload, moment, findings, todo)?;
                }
                websocket::TEXT | websocket::BINARY => {
                    self.event(payload, moment, findings);
                    last = payload;
                }
                websocket::PING => websocket::client_frame(&mut todo.write, websocket::PONG, payload),
                websocket::CLOSE => {
                    todo.closed = Some(close(payload));
                    break;
                }
                _ => {}
            }
        }
        if let Some(seq) = last.get(self.place as usize + moment.size..).and_then(seq) {
            self.seq = seq;
        }
        Ok(at)
    }

    /// A text that should hold an event.
    #[inline]
    fn event(&mut self, text: &[u8], moment: &Moment<'_>, findings: &mut Findings) {
        let place = self.place as usize;
        match text.get(place..place + HEAD) {
            Some(payload) if payload[..MARK] == moment.marks[self.session as usize] => {
                let (n, at) = payload::numbers(payload);
                if n == 0 {
                    self.attached = true;
                    return;
                }
                self.judge.see(n, &mut findings.tally);
                if at >= moment.measured_from && !self.slow {
                    findings.latency.saturating_record(moment.now.saturating_sub(at));
                }
            }
            _ => self.unusual(text, moment, findings),
        }
    }

    /// The first one, or one that is not as the others were.
    #[cold]
    fn unusual(&mut self, text: &[u8], moment: &Moment<'_>, findings: &mut Findings) {
        let mark = &moment.marks[self.session as usize];
        match text.windows(payload::OPEN.len()).position(|window| window == payload::OPEN) {
            Some(place) if text.len() >= place + HEAD && text[place..place + MARK] == *mark => {
                self.place = place as u32;
                self.event(text, moment, findings);
            }
            Some(place) if payload::same_run(&text[place..], mark) => findings.tally.foreign += 1,
            None if text.starts_with(b"{\"event\":\"herald.gap\"") => findings.gaps += 1,
            None if text.starts_with(b"{\"event\":\"herald.") => {}
            _ => findings.tally.odd += 1,
        }
    }

    /// A piece of a NATS connection.
    fn messages(
        &mut self,
        piece: &[u8],
        moment: &Moment<'_>,
        findings: &mut Findings,
        todo: &mut Todo,
    ) -> Result<(), String> {
        let mut rest = std::mem::take(&mut self.rest);
        let joined = !rest.is_empty();
        if joined {
            rest.extend_from_slice(piece);
        }
        let mut at = 0;
        let bytes = if joined { &rest[..] } else { piece };
        while let Some((said, taken)) = nats::next(&bytes[at..]).map_err(|garbled| garbled.to_string())? {
            at += taken;
            match said {
                Said::Message { payload, .. } => self.event(payload, moment, findings),
                Said::Ping => websocket::client_frame(&mut todo.write, websocket::BINARY, nats::PONG),
                Said::Error(text) => return Err(String::from_utf8_lossy(text).into_owned()),
                Said::Pong | Said::Other => {}
            }
        }
        if joined {
            rest.drain(..at);
        } else {
            rest.extend_from_slice(&piece[at..]);
        }
        self.rest = rest;
        Ok(())
    }

    /// The connection begins anew, behind what was heard.
    pub(super) fn reopened(&mut self) {
        self.rest = Vec::new();
    }
}

/// The sequence in what follows a payload: `,"seq":N,`.
fn seq(tail: &[u8]) -> Option<u64> {
    let digits = tail.strip_prefix(b",\"seq\":")?.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn close(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            // A reason may end with a cursor: the kind of end is what is counted.
            let reason = String::from_utf8_lossy(reason);
            let reason = reason.split("after=").next().unwrap_or_default().trim();
            format!("closed with {} {reason}", u16::from_be_bytes([*high, *low])).trim_end().into()
        }
        _ => "closed without a code".into(),
    }
}
