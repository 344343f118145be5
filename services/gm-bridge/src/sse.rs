//! Server-sent events out of a byte stream that may do anything.
//!
//! The parser is eventsource-stream's. What it lacks stands below it as [`Guard`]: it hands on whole lines of bounded
//! events, decoded and with one kind of line end, so that the parser never sees an endless line (it would keep and
//! rescan all of it), a broken character (it would wait for its end for ever), or a byte order mark (it panics).
//! reqwest-eventsource, which sits on the same parser, can't be guarded: it reads the response itself.

use std::borrow::Cow;

use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt};

/// Why a stream of events broke off.
#[derive(Debug, thiserror::Error)]
pub enum SseError<E> {
    /// An event, or a line that never ends, grew over the limit.
    #[error("an event is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The bytes stopped coming.
    #[error("the stream broke off")]
    Transport(#[source] E),
    /// The parser gave up.
    #[error("the stream is no stream of events")]
    Malformed,
}

/// The data of each complete event of a byte stream, at most `limit` bytes long (field names included).
/// After an error nothing more of the stream is to be read.
pub fn events<S, E>(bytes: S, limit: usize) -> impl Stream<Item = Result<Bytes, SseError<E>>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let mut guard = Guard::new(limit);
    let lines = bytes.map(move |chunk| {
        let chunk = chunk.map_err(SseError::Transport)?;
        guard.feed(&chunk).map_err(|TooLarge| SseError::TooLarge { limit })
    });
    lines.eventsource().map(|event| match event {
        Ok(event) => Ok(Bytes::from(event.data)),
        Err(EventStreamError::Transport(error)) => Err(error),
        Err(EventStreamError::Utf8(_) | EventStreamError::Parser(_)) => Err(SseError::Malformed),
    })
}

/// The event in the making is larger than the limit.
#[derive(Debug, PartialEq, Eq)]
struct TooLarge;

/// Assembles lines and keeps count of the event they belong to.
struct Guard {
    limit: usize,
    /// The line in the making.
    line: Vec<u8>,
    /// Bytes of the event's lines before it.
    event: usize,
    /// The last byte was a carriage return: a line feed right behind it belongs to the same line end.
    after_return: bool,
    /// No line has ended yet: a byte order mark may stand at the beginning.
    first: bool,
}

impl Guard {
    const fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new(), event: 0, after_return: false, first: true }
    }

    /// Takes the next bytes and returns the lines that they complete, each ended by a line feed. Comments are left out:
    /// they end no event and hold nothing, so they count for nothing either.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<String, TooLarge> {
        let mut lines = String::new();
        if self.after_return && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            self.after_return = false;
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&bytes[..end])?;
            self.end_line(&mut lines);
            let by_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if by_return {
                self.after_return = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.extend(bytes)?;
        Ok(lines)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.event + self.line.len() + bytes.len() > self.limit {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, lines: &mut String) {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        match line.first() {
            None => self.event = 0,
            Some(b':') => return,
            Some(_) => self.event += line.len(),
        }
        // By the standard the stream is UTF-8 and what is not becomes U+FFFD; it never ends it.
        let text: Cow<'_, str> = String::from_utf8_lossy(&line);
        lines.push_str(&text);
        lines.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    async fn read(chunks: &[&[u8]], limit: usize) -> (Vec<String>, Option<SseError<Infallible>>) {
        let bytes = stream::iter(chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>());
        let mut events = std::pin::pin!(events(bytes, limit));
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(data) => seen.push(String::from_utf8(data.to_vec()).unwrap()),
                Err(error) => return (seen, Some(error)),
            }
        }
        (seen, None)
    }

    async fn all(chunks: &[&[u8]]) -> Vec<String> {
        let (seen, error) = read(chunks, 1000).await;
        assert!(error.is_none(), "{error:?}");
        seen
    }

    const ODD: &str = "\u{feff}: hi\r\ndata: {\"é\":\"🎲\"}\r\n\r\ndata:a\rdata: b\r\revent: x\nid: 1\nretry: 5\ndata:  c\n\n\
                       data\n\n\n\nnonsense\ndata: last\n\n";

    fn odd_events() -> Vec<&'static str> {
        vec!["{\"é\":\"🎲\"}", "a\nb", " c", "", "last"]
    }

    #[tokio::test]
    async fn all_line_ends_fields_and_a_byte_order_mark_are_read_by_the_standard() {
        assert_eq!(all(&[ODD.as_bytes()]).await, odd_events());
    }

    #[tokio::test]
    async fn where_the_bytes_are_split_does_not_matter() {
        let bytes = ODD.as_bytes();
        for at in 0..=bytes.len() {
            assert_eq!(all(&[&bytes[..at], &[], &bytes[at..]]).await, odd_events(), "split at {at}");
        }
        assert_eq!(all(&bytes.chunks(1).collect::<Vec<_>>()).await, odd_events());
    }

    #[tokio::test]
    async fn a_lone_return_ends_an_event_at_once() {
        let mut guard = Guard::new(100);
        assert_eq!(guard.feed(b"data: x\r\r").unwrap(), "data: x\n\n");
        assert_eq!(guard.feed(b"\ndata: y\r\n\n").unwrap(), "data: y\n\n");
    }

    #[tokio::test]
    async fn what_stops_in_the_middle_is_no_event() {
        assert_eq!(all(&[b"data: a\n\ndata: b\n"]).await, ["a"]);
        assert_eq!(all(&[b"data: a\n\ndata: b"]).await, ["a"]);
    }

    #[tokio::test]
    async fn broken_characters_are_replaced_and_end_nothing() {
        assert_eq!(all(&[b"data: a\xffb\n\ndata: \xf0\x9f\n\ndata: c\n\n"]).await, ["a\u{fffd}b", "\u{fffd}", "c"]);
    }

    #[tokio::test]
    async fn an_event_of_the_limit_passes_and_a_larger_one_does_not() {
        // 6 bytes are the field's name.
        for (size, fits) in [(93, true), (94, true), (95, false)] {
            let event = format!("data: {}\n\n", "x".repeat(size));
            let (seen, error) = read(&[b"data: ok\n\n", event.as_bytes()], 100).await;
            assert_eq!((seen.len(), error.is_none()), if fits { (2, true) } else { (1, false) }, "{size}");
        }
    }

    #[tokio::test]
    async fn an_endless_line_or_an_event_of_endless_lines_is_given_up() {
        let line = [b"data: ".as_slice(), &[b'x'; 200]].concat();
        let many = b"data: x\n".repeat(20);
        for endless in [line, many] {
            let chunks: Vec<_> = endless.chunks(1).collect();
            let (seen, error) = read(&chunks, 100).await;
            assert!(seen.is_empty() && matches!(error, Some(SseError::TooLarge { limit: 100 })), "{error:?}");
        }
    }

    #[tokio::test]
    async fn comments_never_add_up() {
        let comments = b": still here\n".repeat(50);
        assert_eq!(all(&[&comments, b"data: x\n\n"]).await, ["x"]);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_events(
            bytes in prop::collection::vec(prop_oneof![
                Just(b"data: {}".to_vec()), Just(b"\n".to_vec()), Just(b"\r".to_vec()), Just(b": c".to_vec()),
                Just("é".as_bytes().to_vec()), Just(vec![0xff]), Just(b"\xEF\xBB\xBF".to_vec()), any::<u8>().prop_map(|b| vec![b]),
            ], 0..60).prop_map(|pieces| pieces.concat()),
            cut in any::<prop::sample::Index>(),
        ) {
            let at = cut.index(bytes.len() + 1);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let whole = runtime.block_on(all(&[&bytes]));
            prop_assert_eq!(&runtime.block_on(all(&[&bytes[..at], &bytes[at..]])), &whole);
            prop_assert_eq!(&runtime.block_on(all(&bytes.chunks(1).collect::<Vec<_>>())), &whole);
        }
    }
}
