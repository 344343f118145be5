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
    /// It stalls some time: its latencies are its own fault.
    pub(super) slow: bool,
    /// Where frames are pieces of a NATS connection: a piece of a message.
    rest: Vec<u8>,
}

impl Hearing {
    pub(super) fn new(session: u32, slow: bool) -> Self {
        let judge = Judge::default();
        Self { session, place: 0, judge, seq: 0, attached: false, slow, rest: Vec::new() }
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

#[cfg(test)]
mod tests {
    use super::{super::payload::Payloads, *};

    const SIZE: usize = 300;

    fn payload(session: u32, n: u64) -> Vec<u8> {
        let mut payload = Vec::new();
        Payloads::new(7, SIZE).append(&mut payload, session, n, 1000);
        payload
    }

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        websocket::server_head(&mut frame, opcode, payload.len());
        frame.extend_from_slice(payload);
        frame
    }

    /// The frame of an event of session 0.
    fn event(n: u64, seq: u64) -> Vec<u8> {
        let tail = format!(",\"seq\":{seq},\"ts\":1}}");
        frame(websocket::TEXT, &[b"{\"event\":\"arena.bench\",\"data\":", &*payload(0, n), tail.as_bytes()].concat())
    }

    struct Heard {
        findings: Findings,
        todo: Todo,
        hearing: Hearing,
    }

    /// A client of session 0 hears `pieces`, one read each.
    fn hear(protocol: Protocol, pieces: &[&[u8]]) -> Result<Heard, String> {
        let marks = [Payloads::new(7, SIZE).mark(0)];
        let moment = Moment { marks: &marks, size: SIZE, now: 3000, measured_from: 0 };
        let (findings, todo, hearing) = (Findings::new().unwrap(), Todo::default(), Hearing::new(0, false));
        let mut heard = Heard { findings, todo, hearing };
        let mut carried = Vec::new();
        for piece in pieces {
            carried.extend_from_slice(piece);
            let Heard { findings, todo, hearing } = &mut heard;
            let taken = hearing.frames(protocol, &carried, &moment, findings, todo)?;
            carried.drain(..taken);
        }
        assert!(carried.is_empty() || heard.todo.closed.is_some(), "{} bytes left", carried.len());
        Ok(heard)
    }

    #[test]
    fn frames_are_taken_wherever_reads_are_cut() {
        let probe = event(0, 6);
        let long = vec![b'x'; 70_000];
        let hello = frame(websocket::TEXT, br#"{"event":"herald.hello","data":{}}"#);
        let (ping, close) = (frame(websocket::PING, b"hi"), frame(websocket::CLOSE, b"\x11\x38resume after=ab-7"));
        let long = frame(websocket::PONG, &long);
        let all = [hello, probe, event(1, 7), ping, event(2, 8), long, event(3, 9), close].concat();
        let near_the_long_one = |cut: &usize| *cut < 1500 || *cut > all.len() - 500 || cut.is_multiple_of(997);
        for cut in (0..all.len()).filter(near_the_long_one) {
            let heard = hear(Protocol::Herald, &[&all[..cut], &all[cut..]]).unwrap();
            assert_eq!(heard.findings.tally, Tally { delivered: 3, ..Tally::default() }, "cut at {cut}");
            assert_eq!(heard.todo.write, b"\x8A\x82\0\0\0\0hi", "cut at {cut}");
            assert_eq!(heard.todo.closed.as_deref(), Some("closed with 4408 resume"), "cut at {cut}");
            assert!(
                heard.hearing.attached && heard.hearing.judge.next() == 4 && heard.hearing.seq == 9,
                "cut at {cut}"
            );
            assert_eq!((heard.findings.latency.len(), heard.findings.latency.max()), (3, 2000));
        }
    }

    #[test]
    fn messages_of_nats_are_taken_wherever_frames_and_reads_are_cut() {
        let mut stream = b"INFO {}\r\nPING\r\n".to_vec();
        for n in 1..=3 {
            stream.extend_from_slice(format!("MSG arena.s.bench 1 {SIZE}\r\n").as_bytes());
            stream.extend_from_slice(&payload(0, n));
            stream.extend_from_slice(b"\r\n");
        }
        for cut in 1..stream.len() {
            let frames = [frame(websocket::BINARY, &stream[..cut]), frame(websocket::BINARY, &stream[cut..])].concat();
            let heard = hear(Protocol::Nats, &[&frames[..cut], &frames[cut..]]).unwrap();
            assert_eq!(heard.findings.tally, Tally { delivered: 3, ..Tally::default() }, "cut at {cut}");
            assert_eq!(heard.todo.write, b"\x82\x86\0\0\0\0PONG\r\n", "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_ones_own_is_found() {
        let text = |text: &[u8]| frame(websocket::TEXT, text);
        let foreign = text(&[b"{\"data\":", &*payload(1, 1), b"}"].concat());
        let bytes = [event(1, 1), foreign, text(b"{}"), text(br#"{"event":"herald.gap","data":{}}"#), event(2, 2)];
        let heard = hear(Protocol::Herald, &[&bytes.concat()]).unwrap();
        assert_eq!(heard.findings.tally, Tally { delivered: 2, foreign: 1, odd: 1, ..Tally::default() });
        assert_eq!(heard.findings.gaps, 1);
    }

    #[test]
    fn a_payload_is_found_again_where_frames_change() {
        let other = [b"{\"seq\":2,\"data\":", &*payload(0, 2), b"}"].concat();
        let bytes = [event(1, 1), frame(websocket::TEXT, &other), event(3, 3)].concat();
        let heard = hear(Protocol::Plain, &[&bytes]).unwrap();
        assert_eq!(heard.findings.tally, Tally { delivered: 3, ..Tally::default() });
    }

    #[test]
    fn a_server_that_breaks_the_rules_is_left() {
        assert!(hear(Protocol::Plain, &[b"\x01\x00"]).is_err());
        assert!(hear(Protocol::Nats, &[&frame(websocket::BINARY, b"-ERR 'no'\r\n")]).is_err());
        assert!(hear(Protocol::Nats, &[&frame(websocket::BINARY, b"HELLO\r\n")]).is_err());
        assert_eq!(close(b"\x03\xe9"), "closed with 1001");
        assert_eq!(close(b""), "closed without a code");
    }
}
