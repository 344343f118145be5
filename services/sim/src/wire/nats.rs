//! The protocol of NATS clients, as far as a benchmark needs it.

use std::io::Write as _;

/// One thing a server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// A message of a subscription.
    Message {
        /// Where it was published.
        subject: &'a [u8],
        /// Where an answer goes, if one is wanted; a stream's delivery has its place in the stream there.
        reply: Option<&'a [u8]>,
        /// What was published.
        payload: &'a [u8],
    },
    /// Wants a `PONG`.
    Ping,
    /// The answer to a `PING`.
    Pong,
    /// An error, in the server's words; it closes the connection after most of them.
    Error(&'a [u8]),
    /// `INFO` and `+OK`.
    Other,
}

/// What is no line of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the NATS protocol: {0:?}")]
pub struct Garbled(String);

/// Longer than any line: `INFO` names the servers of a cluster.
const LONGEST_LINE: usize = 64 << 10;

/// The first thing in `bytes`, and how many bytes it takes; `None` while it is not all there.
///
/// # Errors
/// [`Garbled`].
pub fn next(bytes: &[u8]) -> Result<Option<(Said<'_>, usize)>, Garbled> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() > LONGEST_LINE { Err(garbled(bytes)) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let behind = end + 1;
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        // MSG <subject> <sid> [reply] <bytes>
        let space = arguments.iter().position(|byte| *byte == b' ').ok_or_else(|| garbled(line))?;
        let last = arguments.iter().rposition(|byte| *byte == b' ').ok_or_else(|| garbled(line))?;
        let length = number(&arguments[last + 1..]).ok_or_else(|| garbled(line))?;
        let Some(payload) = bytes.get(behind..behind + length) else { return Ok(None) };
        if bytes.len() < behind + length + 2 {
            return Ok(None);
        }
        let middle = arguments.get(space + 1..last).unwrap_or_default();
        let reply = middle.iter().position(|byte| *byte == b' ').map(|sid| &middle[sid + 1..]);
        return Ok(Some((Said::Message { subject: &arguments[..space], reply, payload }, behind + length + 2)));
    }
    let said = match line.split(|byte| *byte == b' ').next().unwrap_or_default() {
        b"PING" => Said::Ping,
        b"PONG" => Said::Pong,
        b"INFO" | b"+OK" => Said::Other,
        b"-ERR" => Said::Error(line[4..].trim_ascii()),
        _ => return Err(garbled(line)),
    };
    Ok(Some((said, behind)))
}

fn garbled(line: &[u8]) -> Garbled {
    Garbled(String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned())
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + usize::from(digit - b'0')))
}

/// What a client says first: nothing is acknowledged, messages come without headers.
pub const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"name\":\"sim\",\
    \"lang\":\"rust\",\"version\":\"0\",\"protocol\":1,\"echo\":true,\"headers\":false,\"no_responders\":false}\r\n";
/// The same of a client that publishes messages with headers.
#[must_use]
pub fn connect_with_headers() -> Vec<u8> {
    String::from_utf8_lossy(CONNECT).replace("\"headers\":false", "\"headers\":true").into_bytes()
}
/// Asks for a sign of life, or for the proof that all before it was taken in.
pub const PING: &[u8] = b"PING\r\n";
/// The answer to a ping.
pub const PONG: &[u8] = b"PONG\r\n";

/// A subscription to `subject`.
#[must_use]
pub fn subscribe(subject: &str) -> Vec<u8> {
    format!("SUB {subject} 1\r\n").into_bytes()
}

/// Appends the head of a message of `len` bytes; its payload and [`END`] follow.
pub fn publish_head(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, len: usize) {
    let (reply, space) = reply.map_or(("", ""), |reply| (reply, " "));
    // Writing to a Vec can't fail.
    let _written = write!(out, "PUB {subject} {reply}{space}{len}\r\n");
}

/// The same of a message with one header.
pub fn publish_head_with(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, header: (&str, &str), len: usize) {
    let (reply, space) = reply.map_or(("", ""), |reply| (reply, " "));
    let headers = format!("NATS/1.0\r\n{}: {}\r\n\r\n", header.0, header.1);
    let (first, all) = (headers.len(), headers.len() + len);
    let _written = write!(out, "HPUB {subject} {reply}{space}{first} {all}\r\n{headers}");
}

/// The end of a message.
pub const END: &[u8] = b"\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> (Vec<String>, usize) {
        let mut said = Vec::new();
        while let Some((one, taken)) = next(bytes).unwrap() {
            said.push(match one {
                Said::Message { subject, reply, payload } => {
                    let reply = reply.map_or(String::new(), |reply| format!(" to {}", reply.escape_ascii()));
                    format!("{}={}{reply}", subject.escape_ascii(), payload.escape_ascii())
                }
                Said::Error(text) => format!("error {}", text.escape_ascii()),
                other => format!("{other:?}"),
            });
            bytes = &bytes[taken..];
        }
        (said, bytes.len())
    }

    #[test]
    fn a_server_is_understood_wherever_its_bytes_are_cut() {
        let whole = b"INFO {\"a\":1}\r\n+OK\r\nPING\r\nMSG a.b.c 1 5\r\nh\r\nlo\r\nMSG x 7 reply.to 0\r\n\r\nPONG\r\n-ERR 'no'\r\n";
        let expected = ["Other", "Other", "Ping", "a.b.c=h\\r\\nlo", "x= to reply.to", "Pong", "error \\'no\\'"];
        assert_eq!(all(whole), (expected.map(str::to_owned).to_vec(), 0));
        for cut in 0..whole.len() {
            let (mut said, rest) = all(&whole[..cut]);
            said.extend(all(&whole[cut - rest..]).0);
            assert_eq!(said, expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_line_of_a_server_is_refused() {
        for bad in ["HELLO\r\n", "MSG a\r\n", "MSG a 1 x\r\n", "MSG a 1 \r\n", "MSG a 1 9999999999\r\n", "\r\n"] {
            assert!(next(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(next(&vec![b'x'; LONGEST_LINE + 1]).is_err());
    }

    #[test]
    fn what_is_published_has_the_form_of_the_protocol() {
        let mut out = Vec::new();
        publish_head(&mut out, "arena.s.bench", None, 3);
        publish_head(&mut out, "a", Some("r"), 30);
        assert_eq!(out, b"PUB arena.s.bench 3\r\nPUB a r 30\r\n");
        out.clear();
        publish_head_with(&mut out, "a", Some("r"), ("k", "v"), 3);
        assert_eq!(out, b"HPUB a r 18 21\r\nNATS/1.0\r\nk: v\r\n\r\n");
        assert!(connect_with_headers().windows(14).any(|part| part == b"\"headers\":true"));
        assert_eq!(subscribe("arena.>"), b"SUB arena.> 1\r\n");
    }
}
