//! The WebSocket wire format (RFC 6455), as a server without extensions needs it.
//!
//! Outbound frames are never masked and never fragmented, so a frame is a header of at most ten bytes and its text:
//! [`text_header`] writes the one, the log holds the other. Inbound, [`Inbound`] is a parser without buffers: what
//! clients send is counted and skipped, only control frames (125 bytes at most) are kept while they arrive.

#[cfg(feature = "echo")]
mod echo;
mod inbound;
mod text;

use herald_protocol::Close;

pub use inbound::{Inbound, Kept, Payload, Received};

/// Longest payload of a control frame (RFC 6455, section 5.5).
pub const MAX_CONTROL: usize = 125;
/// Longest header of a server's frame: two bytes and a 64 bit length.
pub const MAX_HEADER: usize = 10;

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
#[cfg(feature = "echo")]
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The header of one outbound frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl Header {
    fn new(opcode: u8, payload: usize) -> Self {
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = FIN | opcode;
        let len = match payload {
            0..=125 => {
                bytes[1] = payload.to_le_bytes()[0];
                2
            }
            126..=0xFFFF => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&payload.to_be_bytes()[size_of::<usize>() - 2..]);
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
                10
            }
        };
        Self { bytes, len }
    }
}

impl std::ops::Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of a text frame whose text has `len` bytes.
#[must_use]
pub fn text_header(len: usize) -> Header {
    Header::new(TEXT, len)
}

/// A whole text frame.
#[must_use]
pub fn text_frame(text: &[u8]) -> Vec<u8> {
    frame(TEXT, text)
}

/// A whole ping frame without payload: whatever comes back proves life, so it needs to say nothing.
#[must_use]
pub const fn ping_frame() -> &'static [u8] {
    &[FIN | PING, 0]
}

/// The same for a client of `herald.v1`, and behind it [`BEAT`](herald_protocol::frame::BEAT).
#[must_use]
pub const fn beat_frames() -> &'static [u8] {
    b"\x89\x00\x81\x21{\"event\":\"herald.beat\",\"data\":{}}"
}

/// A whole pong frame: the answer to a ping, with the ping's payload.
#[must_use]
pub fn pong_frame(ping: &Payload) -> Vec<u8> {
    frame(PONG, ping)
}

/// A whole close frame. A reason that would not fit is cut at a character.
#[must_use]
pub fn close_frame(close: &Close) -> Vec<u8> {
    let reason = close.reason();
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&close.code().to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    frame(CLOSE, &payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(opcode, payload.len());
    let mut frame = Vec::with_capacity(header.len() + payload.len());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::protocol::frame::FrameHeader;

    use super::*;

    #[test]
    fn headers_name_the_length_in_the_shortest_form() {
        assert_eq!(*text_header(0), [0x81, 0]);
        assert_eq!(*text_header(125), [0x81, 125]);
        assert_eq!(*text_header(126), [0x81, 126, 0, 126]);
        assert_eq!(*text_header(0xFFFF), [0x81, 126, 0xFF, 0xFF]);
        assert_eq!(*text_header(0x1_0000), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn headers_are_read_by_another_implementation() {
        for len in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, 5_000_000] {
            let header = text_header(len);
            let (parsed, length) = FrameHeader::parse(&mut Cursor::new(&*header)).unwrap().unwrap();
            assert!(parsed.is_final && parsed.mask.is_none());
            assert_eq!(length, len as u64);
        }
    }

    #[test]
    fn a_close_frame_carries_code_and_reason_and_fits() {
        assert_eq!(close_frame(&Close::TooLarge), b"\x88\x13\x03\xf1message too large");
        const LONG: &str = "é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€é€";
        let frame = close_frame(&Close::Internal(LONG));
        assert!(frame.len() <= 2 + MAX_CONTROL);
        assert!(std::str::from_utf8(&frame[4..]).is_ok(), "cut at a character");
    }

    #[test]
    fn an_empty_ping_is_two_bytes() {
        assert_eq!(ping_frame(), [0x89, 0]);
    }

    #[test]
    fn a_beat_is_a_ping_and_a_text() {
        assert_eq!(beat_frames(), [ping_frame(), &text_frame(herald_protocol::frame::BEAT.as_bytes())].concat());
    }
}
