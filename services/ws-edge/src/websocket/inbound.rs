//! What a client sends: a push parser that owns no buffer but one control frame and, where it is told to, one message.

use std::{io::Cursor, ops::Deref};

use herald_protocol::Close;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

#[cfg(feature = "echo")]
use super::echo::Echo;
use super::{MAX_CONTROL, text::Text};

/// Longest header of a client's frame: two bytes, a 64 bit length, the mask.
const MAX_CLIENT_HEADER: usize = 14;

/// A text must be UTF-8 (RFC 6455, section 8.1).
const NOT_TEXT: Close = Close::Payload("text is not UTF-8");

/// The payload of a control frame.
#[derive(Clone, Copy)]
pub struct Payload {
    bytes: [u8; MAX_CONTROL],
    len: u8,
}

impl Payload {
    const EMPTY: Self = Self { bytes: [0; MAX_CONTROL], len: 0 };
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({})", self.escape_ascii())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// Something complete that a client sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Received {
    /// A text or binary message of that many bytes: counted, not kept.
    Message(u64),
    /// Wants a pong with the same payload.
    Ping(Payload),
    /// The answer to a ping, or a client's own sign of life.
    Pong,
    /// The client's close, with its status code if it gave one. Nothing after it counts.
    Close(Option<u16>),
}

/// The state of one client's byte stream: frame by frame, at whatever boundaries the bytes arrive.
#[derive(Debug)]
pub struct Inbound {
    max_message: u64,
    /// Bytes of the message that is arriving, if it is unfinished (fragmented).
    message: Option<u64>,
    /// That message, if it is a text.
    text: Option<Text>,
    #[cfg(feature = "echo")]
    echo: Echo,
    /// Longest message that is kept.
    keep: usize,
    /// Whether messages of bytes are kept too, and not only texts.
    keep_binary: bool,
    kept: Option<Box<Keeping>>,
    /// Frames that have begun, fragments and control frames included, since that was last asked.
    frames: u32,
    state: State,
}

/// A message that was kept.
#[derive(PartialEq, Eq)]
pub struct Kept {
    /// Whether it is one of bytes, and not a text.
    pub binary: bool,
    /// What it says.
    pub message: Vec<u8>,
}

/// A message that is kept while it arrives, and until it is taken.
struct Keeping {
    kept: Kept,
    /// Of the frame that is arriving: its mask, and how far in it we are.
    mask: [u8; 4],
    at: usize,
}

// What clients send may be secret.
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({})", self.message.len())
    }
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.kept.fmt(f)
    }
}

impl Keeping {
    fn take(&mut self, masked: &[u8]) {
        let (mask, at) = (self.mask, self.at);
        self.kept.message.extend(masked.iter().enumerate().map(|(index, byte)| byte ^ mask[(at + index) % 4]));
        self.at += masked.len();
    }
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; MAX_CLIENT_HEADER], have: usize },
    Data { left: u64, last: bool },
    Control { opcode: Control, mask: [u8; 4], need: u8, payload: Payload },
    Closed,
}

impl State {
    const START: Self = Self::Header { bytes: [0; MAX_CLIENT_HEADER], have: 0 };
}

impl Inbound {
    /// A fresh connection whose client may send messages of up to `max_message` bytes.
    #[must_use]
    pub fn new(max_message: u64) -> Self {
        Self {
            max_message,
            message: None,
            frames: 0,
            text: None,
            #[cfg(feature = "echo")]
            echo: Echo::default(),
            keep: 0,
            keep_binary: false,
            kept: None,
            state: State::START,
        }
    }

    /// The frame that says the same as the message that [`Inbound::read`] has just told of.
    #[cfg(feature = "echo")]
    #[must_use]
    pub fn echo(&self) -> Vec<u8> {
        self.echo.back()
    }

    /// The same, keeping texts of up to `limit` bytes.
    #[must_use]
    pub const fn keeping(mut self, limit: usize) -> Self {
        self.keep = limit;
        self
    }

    /// The same, keeping all messages.
    #[must_use]
    pub const fn keeping_all(mut self) -> Self {
        (self.keep, self.keep_binary) = (usize::MAX, true);
        self
    }

    /// The message that [`Inbound::read`] has just told of, if it was kept.
    pub fn take(&mut self) -> Option<Kept> {
        self.kept.take().map(|keeping| keeping.kept)
    }

    /// What a message that is kept and has not arrived wholly takes by now, in bytes, and whether it is one of bytes.
    pub fn unfinished(&self) -> (usize, bool) {
        self.kept.as_ref().map_or((0, false), |keeping| (keeping.kept.message.capacity(), keeping.kept.binary))
    }

    /// The text of that message, if it was a text and was kept.
    pub fn take_text(&mut self) -> Option<Vec<u8>> {
        self.take().filter(|kept| !kept.binary).map(|kept| kept.message)
    }

    /// Takes bytes from the front of `input` until something is complete. `Ok(None)`: all were taken, more are needed.
    /// After a [`Received::Close`] the rest is discarded.
    ///
    /// # Errors
    /// The close to answer with where the client broke the protocol (1002), sent a text or a reason that is not UTF-8 (1007) or
    /// a message over the limit (1009). The parser is then of no further use.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Received>, Close> {
        loop {
            match &mut self.state {
                State::Closed => {
                    *input = &[];
                    return Ok(None);
                }
                State::Header { bytes, have } => {
                    let start = *have;
                    let taken = input.len().min(MAX_CLIENT_HEADER - start);
                    bytes[start..start + taken].copy_from_slice(&input[..taken]);
                    let mut cursor = Cursor::new(&bytes[..start + taken]);
                    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Close::Protocol("invalid opcode"))?;
                    let Some((header, length)) = parsed else {
                        *have += taken;
                        *input = &input[taken..];
                        return Ok(None);
                    };
                    let used = usize::try_from(cursor.position()).unwrap_or(start) - start;
                    *input = &input[used..];
                    self.state = self.begin(&header, length)?;
                    self.frames = self.frames.saturating_add(1);
                }
                State::Data { left, last } => {
                    let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    if self.text.as_mut().is_some_and(|text| !text.push(&input[..taken])) {
                        return Err(NOT_TEXT);
                    }
                    #[cfg(feature = "echo")]
                    self.echo.push(&input[..taken]);
                    if let Some(kept) = &mut self.kept {
                        kept.take(&input[..taken]);
                    }
                    *input = &input[taken..];
                    *left -= taken as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    let last = *last;
                    self.state = State::START;
                    if last {
                        if self.text.take().is_some_and(|text| !text.is_whole()) {
                            return Err(NOT_TEXT);
                        }
                        return Ok(Some(Received::Message(self.message.take().unwrap_or(0))));
                    }
                }
                State::Control { opcode, mask, need, payload } => {
                    while payload.len < *need {
                        let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                        let at = usize::from(payload.len);
                        payload.bytes[at] = byte ^ mask[at % 4];
                        payload.len += 1;
                        *input = rest;
                    }
                    let (opcode, payload) = (*opcode, *payload);
                    self.state = State::START;
                    return self.control(opcode, payload).map(Some);
                }
            }
        }
    }

    /// How many frames have begun since this was last asked.
    pub const fn take_frames(&mut self) -> u32 {
        std::mem::replace(&mut self.frames, 0)
    }

    /// Judges a header: what follows it, or why it is refused.
    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<State, Close> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Close::Protocol("reserved bits set"));
        }
        let Some(mask) = header.mask else { return Err(Close::Protocol("unmasked frame")) };
        match header.opcode {
            OpCode::Control(opcode) => {
                let need = u8::try_from(length).ok().filter(|need| usize::from(*need) <= MAX_CONTROL);
                let (Some(need), true) = (need, header.is_final) else {
                    return Err(Close::Protocol("control frame too long or fragmented"));
                };
                Ok(State::Control { opcode, mask, need, payload: Payload::EMPTY })
            }
            OpCode::Data(data) => {
                let before = match (data, self.message) {
                    (Data::Continue, Some(before)) => before,
                    (Data::Text | Data::Binary, None) => 0,
                    (Data::Continue, None) => return Err(Close::Protocol("continuation of nothing")),
                    _ => return Err(Close::Protocol("message inside a message")),
                };
                let total = before.saturating_add(length);
                if total > self.max_message {
                    return Err(Close::TooLarge);
                }
                self.message = Some(total);
                match data {
                    Data::Text => self.text = Some(Text::default()),
                    Data::Binary => self.text = None,
                    _ => {}
                }
                if let Some(text) = &mut self.text {
                    text.frame(mask);
                }
                #[cfg(feature = "echo")]
                {
                    if data != Data::Continue {
                        self.echo.message(data == Data::Binary);
                    }
                    self.echo.frame(mask);
                }
                self.kept = match (data, self.kept.take()) {
                    _ if self.keep == 0 || total > self.keep as u64 => None,
                    (Data::Continue, kept) => kept.map(|kept| Box::new(Keeping { mask, at: 0, ..*kept })),
                    (Data::Binary, _) if !self.keep_binary => None,
                    (Data::Text | Data::Binary, _) => {
                        let kept = Kept { binary: data == Data::Binary, message: Vec::new() };
                        Some(Box::new(Keeping { kept, mask, at: 0 }))
                    }
                    _ => None,
                };
                Ok(State::Data { left: length, last: header.is_final })
            }
        }
    }

    fn control(&mut self, opcode: Control, payload: Payload) -> Result<Received, Close> {
        match opcode {
            Control::Ping => Ok(Received::Ping(payload)),
            Control::Pong => Ok(Received::Pong),
            Control::Close => {
                let code = close_code(&payload)?;
                self.state = State::Closed;
                Ok(Received::Close(code))
            }
            Control::Reserved(_) => Err(Close::Protocol("invalid opcode")),
        }
    }
}

/// The status code in a client's close frame, where frame, code and reason are as RFC 6455 sections 5.5.1 and 7.4 ask.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Close> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(Close::Protocol("close frame of one byte")),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Close::Protocol("invalid close code"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Close::Payload("close reason is not UTF-8"));
    }
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 1000;

    /// A client's frame: masked, header in the shortest form.
    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | len as u8),
            len @ 126..=0xFFFF => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        frame
    }

    /// Everything in `bytes`, fed in pieces of `step`.
    fn read_all(bytes: &[u8], step: usize) -> Result<Vec<Received>, Close> {
        let mut inbound = Inbound::new(LIMIT);
        let mut received = Vec::new();
        for mut piece in bytes.chunks(step) {
            while let Some(item) = inbound.read(&mut piece)? {
                received.push(item);
            }
            assert!(piece.is_empty());
        }
        Ok(received)
    }

    fn ping(payload: &[u8]) -> Received {
        let mut kept = Payload::EMPTY;
        kept.bytes[..payload.len()].copy_from_slice(payload);
        kept.len = payload.len() as u8;
        Received::Ping(kept)
    }

    #[test]
    fn messages_are_counted_pings_kept_and_a_close_ends_it() {
        let mut bytes = client(0x81, b"hello");
        bytes.extend(client(0x82, &[7; 300]));
        bytes.extend(client(0x01, b"one "));
        bytes.extend(client(0x89, b"between fragments"));
        bytes.extend(client(0x80, b"two"));
        bytes.extend(client(0x8A, b""));
        bytes.extend(client(0x88, b"\x03\xe8bye"));
        bytes.extend(client(0x81, b"ignored"));
        let expected = vec![
            Received::Message(5),
            Received::Message(300),
            ping(b"between fragments"),
            Received::Message(7),
            Received::Pong,
            Received::Close(Some(1000)),
        ];
        for step in 1..=bytes.len() {
            assert_eq!(read_all(&bytes, step).unwrap(), expected, "in pieces of {step}");
        }
    }

    #[test]
    fn frames_are_counted_whatever_they_are_part_of() {
        let mut bytes = client(0x01, b"one");
        bytes.extend([client(0x00, b""), client(0x89, b""), client(0x80, b"two"), client(0x82, b"x")].concat());
        let (mut inbound, mut input) = (Inbound::new(LIMIT), &bytes[..]);
        while inbound.read(&mut input).unwrap().is_some() {}
        assert_eq!((inbound.take_frames(), inbound.take_frames()), (5, 0));
    }

    #[test]
    fn each_breach_of_the_protocol_has_its_close() {
        let unmasked = vec![0x81, 0x01, b'x'];
        let huge = {
            let mut frame = vec![0x81, 0x80 | 127];
            frame.extend_from_slice(&u64::MAX.to_be_bytes());
            frame.extend_from_slice(&[0; 4]);
            frame
        };
        let in_message = [client(0x01, b"a"), client(0x81, b"b")].concat();
        let grown = [client(0x01, &[0; 600]), client(0x80, &[0; 600])].concat();
        let long_ping = client(0x89, &[0; 126]);
        let table: Vec<(&str, Vec<u8>, u16)> = vec![
            ("unmasked", unmasked, 1002),
            ("reserved bit", client(0xC1, b"x"), 1002),
            ("reserved opcode", client(0x83, b"x"), 1002),
            ("reserved control opcode", client(0x8B, b""), 1002),
            ("fragmented ping", client(0x09, b""), 1002),
            ("long ping", long_ping, 1002),
            ("continuation of nothing", client(0x80, b"x"), 1002),
            ("message in a message", in_message, 1002),
            ("close of one byte", client(0x88, b"\x03"), 1002),
            ("close code 1005", client(0x88, b"\x03\xed"), 1002),
            ("close code 999", client(0x88, b"\x03\xe7"), 1002),
            ("close reason", client(0x88, b"\x03\xe8\xff"), 1007),
            ("text", client(0x81, b"caf\xe9"), 1007),
            ("text that is not all there", client(0x81, b"caf\xc3"), 1007),
            ("text that can be none any more", client(0x01, b"\xf4\x90"), 1007),
            ("text in fragments", [client(0x01, b"\xc3"), client(0x80, b"A")].concat(), 1007),
            ("over the limit", client(0x81, &[0; 1001]), 1009),
            ("over the limit in fragments", grown, 1009),
            ("a length of 2^64-1", huge, 1009),
        ];
        for (what, bytes, code) in table {
            for step in [1, 3, bytes.len()] {
                assert_eq!(read_all(&bytes, step).unwrap_err().code(), code, "{what}");
            }
        }
    }

    #[test]
    fn texts_are_kept_where_that_is_wanted() {
        let mut bytes = client(0x01, b"one ");
        bytes.extend(client(0x89, b"between fragments"));
        bytes.extend(client(0x00, b"two "));
        bytes.extend(client(0x80, b"three"));
        bytes.extend(client(0x82, b"binary"));
        bytes.extend(client(0x81, &[b'x'; 21]));
        bytes.extend([client(0x01, &[b'y'; 15]), client(0x80, &[b'y'; 6])].concat());
        bytes.extend(client(0x81, b""));
        bytes.extend(client(0x81, b"last"));
        for step in 1..=bytes.len() {
            let (mut inbound, mut plain) = (Inbound::new(LIMIT).keeping(20), Inbound::new(LIMIT));
            let mut texts = Vec::new();
            for mut piece in bytes.chunks(step) {
                let mut same = piece;
                while let Some(item) = inbound.read(&mut piece).unwrap() {
                    assert_eq!(plain.read(&mut same).unwrap(), Some(item));
                    assert_eq!(plain.take_text(), None);
                    if matches!(item, Received::Message(_)) {
                        texts.push(inbound.take_text().map(|text| String::from_utf8(text).unwrap()));
                    }
                }
                assert_eq!(plain.read(&mut same).unwrap(), None);
            }
            let expected = [Some("one two three"), None, None, None, Some(""), Some("last")];
            assert_eq!(texts.iter().map(Option::as_deref).collect::<Vec<_>>(), expected, "in pieces of {step}");
        }
    }

    #[test]
    fn where_all_is_kept_a_message_is_what_its_frames_said() {
        let frames = [
            client(0x82, &[0, 255]),
            client(0x01, b"one "),
            client(0x89, b"ping"),
            client(0x80, b"text"),
            [client(0x02, &[1]), client(0x80, &[2])].concat(),
            client(0x81, b""),
            client(0x82, b""),
        ];
        let bytes = frames.concat();
        for step in 1..=bytes.len() {
            let (mut inbound, mut kept) = (Inbound::new(LIMIT).keeping_all(), Vec::new());
            for mut piece in bytes.chunks(step) {
                while let Some(item) = inbound.read(&mut piece).unwrap() {
                    if matches!(item, Received::Message(_)) {
                        let message = inbound.take().unwrap();
                        kept.push((message.binary, message.message));
                    }
                }
            }
            let expected: [(bool, &[u8]); 5] =
                [(true, &[0, 255]), (false, b"one text"), (true, &[1, 2]), (false, b""), (true, b"")];
            assert_eq!(kept, expected.map(|(binary, message)| (binary, message.to_vec())), "in pieces of {step}");
        }
    }

    #[test]
    fn a_message_at_the_limit_passes_and_is_not_kept() {
        assert_eq!(read_all(&client(0x82, &[0; 1000]), 64).unwrap(), [Received::Message(1000)]);
        assert!(size_of::<Inbound>() <= 192, "an idle connection's parser is small: {}", size_of::<Inbound>());
    }

    proptest! {
        #[test]
        fn any_bytes_at_any_boundaries_give_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            let at_once = read_all(&bytes, bytes.len().max(1));
            prop_assert_eq!(read_all(&bytes, step), at_once);
        }
    }
}
