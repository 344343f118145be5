//! The WebSocket wire format (RFC 6455), both sides of it: frames of a server are read, frames of a client written, and
//! the other way round where a test or the floor needs it.

/// A text message.
pub const TEXT: u8 = 0x1;
/// A binary message.
pub const BINARY: u8 = 0x2;
/// The end.
pub const CLOSE: u8 = 0x8;
/// Wants a pong.
pub const PING: u8 = 0x9;
/// The answer to a ping.
pub const PONG: u8 = 0xA;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Longest header of a server's frame: two bytes and a 64 bit length.
pub const MAX_HEADER: usize = 10;
/// Longest frame that is waited for.
pub const MAX_FRAME: u64 = 16 << 20;

/// The key of every handshake here, and what is answered to it: the example of the RFC.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The header of a server's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub opcode: u8,
    /// How long the header is.
    pub header: usize,
    /// How long what follows is.
    pub payload: usize,
}

/// What no server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// In pieces, or with an extension's bits: nothing here asks for either.
    #[error("a frame in pieces or with reserved bits: {0:#x}")]
    Bits(u8),
    /// Only clients mask.
    #[error("a masked frame")]
    Masked,
    /// Longer than [`MAX_FRAME`].
    #[error("a frame of {0} bytes")]
    Long(u64),
}

impl Head {
    /// Reads the header at the start of `bytes`; `None` while it is not all there.
    ///
    /// # Errors
    /// [`Odd`].
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Odd> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0xF0 != FIN {
            return Err(Odd::Bits(*first));
        }
        let opcode = first & 0x0F;
        let (header, payload) = match second {
            0..126 => (2, usize::from(*second)),
            126 => match rest {
                [a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => {
                    let length = u64::from_be_bytes(*length);
                    if length > MAX_FRAME {
                        return Err(Odd::Long(length));
                    }
                    // At most 16 MiB.
                    (MAX_HEADER, length as usize)
                }
                None => return Ok(None),
            },
            _ => return Err(Odd::Masked),
        };
        Ok(Some(Self { opcode, header, payload }))
    }

    /// How long the whole frame is.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.header + self.payload
    }
}

/// Appends the header of a server's frame of `len` bytes.
pub fn server_head(out: &mut Vec<u8>, opcode: u8, len: usize) {
    head(out, opcode, len, 0);
}

/// Appends a client's frame. Its mask is zero, which is one as good as any between two programs on one machine.
pub fn client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    head(out, opcode, payload.len(), MASKED);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

fn head(out: &mut Vec<u8>, opcode: u8, len: usize, mask: u8) {
    let length = (len as u64).to_be_bytes();
    match len {
        0..126 => out.extend_from_slice(&[FIN | opcode, mask | length[7]]),
        126..0x1_0000 => out.extend_from_slice(&[FIN | opcode, mask | 126, length[6], length[7]]),
        _ => {
            out.extend_from_slice(&[FIN | opcode, mask | 127]);
            out.extend_from_slice(&length);
        }
    }
}

/// The request that opens a socket.
#[must_use]
pub fn request(host: &str, path: &str, protocol: Option<&str>) -> Vec<u8> {
    let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n{protocol}\r\n"
    )
    .into_bytes()
}

/// How long the head of an HTTP message at the start of `bytes` is, its blank line included; `None` while it is not all
/// there.
#[must_use]
pub fn http_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header in the head of an HTTP message.
#[must_use]
pub fn http_header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        for len in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, 5_000_000] {
            let mut bytes = Vec::new();
            server_head(&mut bytes, TEXT, len);
            assert_eq!(
                Head::read(&bytes),
                Ok(Some(Head { opcode: TEXT, header: bytes.len(), payload: len })),
                "{len} bytes"
            );
            for cut in 0..bytes.len() {
                assert_eq!(Head::read(&bytes[..cut]), Ok(None), "{len} bytes cut at {cut}");
            }
        }
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        assert_eq!(Head::read(&[0x01, 1]), Err(Odd::Bits(0x01)));
        assert_eq!(Head::read(&[0xC1, 1]), Err(Odd::Bits(0xC1)));
        assert_eq!(Head::read(&[0x81, 0x81]), Err(Odd::Masked));
        let huge = [&[0x81, 127][..], &u64::MAX.to_be_bytes()].concat();
        assert_eq!(Head::read(&huge), Err(Odd::Long(u64::MAX)));
    }

    #[test]
    fn a_clients_frame_is_masked_by_zeroes() {
        let mut bytes = Vec::new();
        client_frame(&mut bytes, PONG, b"hi");
        assert_eq!(bytes, b"\x8A\x82\0\0\0\0hi");
    }

    #[test]
    fn the_head_of_an_answer_is_found_and_read() {
        let answer = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nSEC-websocket-accept:  abc \r\n\r\n\x81\x00";
        let head = http_head(answer).unwrap();
        assert_eq!(&answer[head..], b"\x81\x00");
        let text = std::str::from_utf8(&answer[..head]).unwrap();
        assert_eq!(http_header(text, "Sec-WebSocket-Accept"), Some("abc"));
        assert_eq!(http_header(text, "Host"), None);
        assert_eq!(http_head(&answer[..head - 1]), None);
    }
}
