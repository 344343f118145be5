//! The PROXY protocol, versions 1 and 2: what a proxy says of its client before it passes on the client's bytes.
//!
//! We look at the bytes where the kernel keeps them and take exactly what is the proxy's: the connection stays the bare
//! socket that a WebSocket is made of.

use std::{io, net::SocketAddr};

use ppp::{v1, v2};
use rustix::net::{RecvFlags, recv};
use tokio::{
    io::{AsyncReadExt as _, Interest},
    net::TcpStream,
};

use super::ProxyError;

/// Longest header we take. The second version has room for 64 KiB of extras, of which proxies use some hundred bytes.
const LONGEST: usize = 2048;
/// Longest header of the first version, by its specification.
const LONGEST_LINE: usize = 107;
/// The fixed part of the second version: signature, command, family, length.
const FIXED: usize = 16;
const LINE: &[u8] = b"PROXY ";

/// How far a header reaches.
#[derive(Debug, PartialEq, Eq)]
enum Extent {
    /// There is none.
    Nothing,
    /// There may be one, or it is not all here.
    More,
    /// So many bytes.
    Bytes(usize),
    /// Further than any.
    TooLong,
}

/// Reads what a proxy says. `None`: nothing; the connection begins with something else, which is untouched. `Some(None)`: it
/// speaks for itself, or for somebody who has no IP address.
///
/// Cancelling is no harm as long as the connection is then dropped.
pub(super) async fn read(tcp: &mut TcpStream) -> Result<Option<Option<SocketAddr>>, ProxyError> {
    let mut seen = vec![0; LONGEST];
    let extent = tcp
        .async_io(Interest::READABLE, || {
            let (_, count) = recv(&*tcp, seen.as_mut_slice(), RecvFlags::PEEK)?;
            match extent(&seen[..count]) {
                _ if count == 0 => Ok(None),
                // Not to be asked again before there is more.
                Extent::More => Err(io::ErrorKind::WouldBlock.into()),
                extent => Ok(Some(extent)),
            }
        })
        .await?;
    let bytes = match extent {
        None => return Err(ProxyError::Closed),
        Some(Extent::Nothing | Extent::More) => return Ok(None),
        Some(Extent::TooLong) => return Err(ProxyError::Malformed("too long".into())),
        Some(Extent::Bytes(bytes)) => bytes,
    };
    seen.truncate(bytes);
    tcp.read_exact(&mut seen).await?;
    client(&seen).map(Some)
}

fn extent(seen: &[u8]) -> Extent {
    let begins = |with: &[u8]| seen.iter().zip(with).all(|(one, other)| one == other);
    if begins(LINE) {
        match seen.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') {
            Some(end) => Extent::Bytes(end + 1),
            None if seen.len() < LONGEST_LINE => Extent::More,
            None => Extent::TooLong,
        }
    } else if begins(v2::PROTOCOL_PREFIX) {
        match seen.get(FIXED - 2..FIXED) {
            Some(&[high, low]) => match FIXED + usize::from(u16::from_be_bytes([high, low])) {
                LONGEST.. => Extent::TooLong,
                whole if seen.len() < whole => Extent::More,
                whole => Extent::Bytes(whole),
            },
            _ => Extent::More,
        }
    } else {
        Extent::Nothing
    }
}

/// Whose connection a whole header says it is.
fn client(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let malformed = |error: &dyn std::fmt::Display| ProxyError::Malformed(error.to_string());
    let client = if header.starts_with(LINE) {
        // To the parser a return is as good as a blank.
        if header.iter().position(|byte| *byte == b'\r') != header.len().checked_sub(2) {
            return Err(malformed(&"no line that ends as it should"));
        }
        match v1::Header::try_from(header).map_err(|error| malformed(&error))?.addresses {
            v1::Addresses::Tcp4(it) => Some(SocketAddr::from((it.source_address, it.source_port))),
            v1::Addresses::Tcp6(it) => Some(SocketAddr::from((it.source_address, it.source_port))),
            v1::Addresses::Unknown => None,
        }
    } else {
        let header = v2::Header::try_from(header).map_err(|error| malformed(&error))?;
        match header.addresses {
            _ if header.command == v2::Command::Local => None,
            v2::Addresses::IPv4(it) => Some(SocketAddr::from((it.source_address, it.source_port))),
            v2::Addresses::IPv6(it) => Some(SocketAddr::from((it.source_address, it.source_port))),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }
    };
    Ok(client.map(|client| SocketAddr::new(client.ip().to_canonical(), client.port())))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_as_long_as_it_says_and_no_longer_than_any() {
        let v2 = |length: u16| [v2::PROTOCOL_PREFIX, &[0x21, 0x11], &length.to_be_bytes(), &[0; 5000]].concat();
        let line = |length: usize| [LINE, &vec![b'x'; length - 7], b"\n"].concat();
        let table = [
            (b"".to_vec(), Extent::More),
            (b"P".to_vec(), Extent::More),
            (b"PR".to_vec(), Extent::More),
            (b"PRI * HTTP/2.0".to_vec(), Extent::Nothing),
            (b"POST".to_vec(), Extent::Nothing),
            (b"PROXYTCP4".to_vec(), Extent::Nothing),
            (b"\r\n".to_vec(), Extent::More),
            (b"\r\nGET".to_vec(), Extent::Nothing),
            (line(107), Extent::Bytes(107)),
            (line(108), Extent::TooLong),
            (vec![0x16, 0x03, 0x01], Extent::Nothing),
            (v2(12)[..15].to_vec(), Extent::More),
            (v2(12)[..27].to_vec(), Extent::More),
            (v2(12)[..28].to_vec(), Extent::Bytes(28)),
            (v2(12), Extent::Bytes(28)),
            (v2(0), Extent::Bytes(16)),
            (v2(u16::MAX), Extent::TooLong),
        ];
        for (seen, expected) in table {
            assert_eq!(extent(&seen), expected, "{}", seen.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..300), begin in 0_usize..3) {
            let begin = [b"".as_slice(), b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00"][begin];
            let seen = [begin, bytes.as_slice()].concat();
            if let Extent::Bytes(whole) = extent(&seen) {
                prop_assert!(whole <= seen.len() && whole <= LONGEST);
                let _said = client(&seen[..whole]);
            }
        }
    }
}
