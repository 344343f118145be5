//! Server-sent events out of a byte stream that may do anything: endless lines, broken characters, a stop in the middle.
//!
//! Read by the standard, every kind of line end and the byte order mark included, and bounded. The crates at hand can't be
//! used for it: reqwest-eventsource reads the response itself, so nothing can be put between it and an endless line; the
//! parser under it, eventsource-stream, keeps and rescans an unfinished line at every byte, waits for ever behind a broken
//! character, and panics on a byte order mark.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

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
}

/// The data of each complete event of a byte stream, at most `limit` bytes long. Event names and ids are left out: no
/// Game Master sends any. After an error nothing more of the stream is to be read.
pub fn events<S, E>(bytes: S, limit: usize) -> impl Stream<Item = Result<Bytes, SseError<E>>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let mut reader = Reader::new(limit);
    bytes.flat_map(move |chunk| {
        let mut events = Vec::new();
        let fed = match chunk {
            Ok(chunk) => reader.feed(&chunk, &mut events).map_err(|TooLarge| SseError::TooLarge { limit }),
            Err(error) => Err(SseError::Transport(error)),
        };
        stream::iter(events.into_iter().map(Ok).chain(fed.err().map(Err)))
    })
}

/// The event in the making is larger than the limit.
#[derive(Debug, PartialEq, Eq)]
struct TooLarge;

/// The longest name of a field that is read, with its colon and its space.
const DATA: &[u8] = b"data: ";

/// Assembles lines, and events out of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reader {
    limit: usize,
    /// The line in the making.
    line: Vec<u8>,
    /// The data of the event in the making; `None` until it has a line of it.
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return: a line feed right behind it belongs to the same line end.
    after_return: bool,
    /// No line has ended yet: a byte order mark may stand at the beginning.
    first: bool,
}

impl Reader {
    const fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new(), data: None, after_return: false, first: true }
    }

    /// Takes the next bytes and adds the events that they complete.
    fn feed(&mut self, mut bytes: &[u8], events: &mut Vec<Bytes>) -> Result<(), TooLarge> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, rest) = end.map_or((bytes, None), |end| (&bytes[..end], Some(&bytes[end + 1..])));
            let so_far = self.data.as_ref().map_or(0, Vec::len) + self.line.len();
            if so_far + part.len() > self.limit + DATA.len() {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(part);
            let Some(rest) = rest else { break };
            self.after_return = bytes[part.len()] == b'\r';
            events.extend(self.end_line()?);
            bytes = rest;
        }
        Ok(())
    }

    /// Takes the line apart; an empty one completes the event.
    fn end_line(&mut self) -> Result<Option<Bytes>, TooLarge> {
        let line = std::mem::take(&mut self.line);
        let mark: &[u8] = if std::mem::take(&mut self.first) { b"\xEF\xBB\xBF" } else { b"" };
        let text = line.strip_prefix(mark).unwrap_or(&line);
        if text.is_empty() {
            // A character that is broken becomes a longer one.
            return match self.data.take().map(decode) {
                Some(event) if event.len() > self.limit => Err(TooLarge),
                event => Ok(event),
            };
        }
        let (name, value) = text.iter().position(|byte| *byte == b':').map_or((text, &b""[..]), |colon| {
            let value = &text[colon + 1..];
            (&text[..colon], value.strip_prefix(b" ").unwrap_or(value))
        });
        if name == b"data" {
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                data => *data = Some(value.to_vec()),
            }
        }
        let size = self.data.as_ref().map_or(0, Vec::len);
        if size > self.limit { Err(TooLarge) } else { Ok(None) }
    }
}

/// By the standard a stream is UTF-8 and what is not becomes U+FFFD; it never ends it.
fn decode(data: Vec<u8>) -> Bytes {
    String::from_utf8(data).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()).into()
}

#[cfg(test)]
mod fuzz;

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

    /// Every recorded body, cut at every byte: what was read up to an event's end and the state there are the same. (From
    /// one event's end to the next, as nothing else is remembered beyond it.)
    #[test]
    fn recorded_streams_are_read_alike_wherever_they_are_cut() {
        let files = ["propose.turn1", "propose.turn2", "choose.turn1", "choose.turn2"];
        for file in files.map(|name| format!("gm-{name}.sse")) {
            let body = herald_testkit::traces::read(&file);
            let (mut reader, mut events, mut rest) = (Reader::new(1 << 20), 0, &body[..]);
            while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
                let (block, behind) = rest.split_at(end + 2);
                let (mut whole, mut seen) = (reader.clone(), Vec::new());
                whole.feed(block, &mut seen).unwrap();
                assert_eq!(seen, [&block[b"data: ".len()..end]], "{file}: one line of data");
                for at in 1..block.len() {
                    let (mut cut, mut seen_cut) = (reader.clone(), Vec::new());
                    cut.feed(&block[..at], &mut seen_cut).unwrap();
                    assert!(seen_cut.is_empty(), "no event before its end");
                    cut.feed(&block[at..], &mut seen_cut).unwrap();
                    assert_eq!((&seen_cut, &cut), (&seen, &whole), "{file}: event {events} cut at {at}");
                }
                (reader, rest) = (whole, behind);
                events += 1;
            }
            assert!(events > 60 && rest.is_empty(), "{file}: {events}");
        }
    }

    #[test]
    fn a_lone_return_ends_an_event_at_once() {
        let (mut reader, mut events) = (Reader::new(100), Vec::new());
        reader.feed(b"data: x\r\r", &mut events).unwrap();
        assert_eq!(events, ["x"]);
        reader.feed(b"\ndata: y\r\n\n", &mut events).unwrap();
        assert_eq!(events, ["x", "y"]);
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
        let two_lines = |size: usize| format!("data:{}\ndata:{}", "x".repeat(size - 51), "y".repeat(50));
        let one_line = |size: usize| format!("data: {}", "x".repeat(size));
        let no_space = |size: usize| format!("data:{}", "x".repeat(size));
        for (size, fits) in [(99, true), (100, true), (101, false), (500, false)] {
            for event in [one_line(size), no_space(size), two_lines(size)] {
                let (seen, error) = read(&[format!("data: ok\n\n{event}\n\n").as_bytes()], 100).await;
                assert_eq!((seen.len(), error.is_none()), if fits { (2, true) } else { (1, false) }, "{event}");
            }
        }
    }

    #[tokio::test]
    async fn broken_characters_count_as_what_they_become() {
        let broken = |count| [b"data: ", vec![0xff; count].as_slice(), b"\n\ndata: x\n\n"].concat();
        let (seen, error) = read(&[&broken(33)], 100).await;
        assert_eq!((seen[0].len(), seen.len(), error.is_none()), (99, 2, true));
        let (seen, error) = read(&[&broken(34)], 100).await;
        assert!(seen.is_empty() && matches!(error, Some(SseError::TooLarge { limit: 100 })), "102 bytes: {seen:?}");
    }

    #[tokio::test]
    async fn an_endless_line_or_an_event_of_endless_lines_is_given_up() {
        let line = [b"data: ".as_slice(), &[b'x'; 200]].concat();
        let many = b"data: x\n".repeat(100);
        for endless in [line, many] {
            let chunks: Vec<_> = endless.chunks(1).collect();
            let (seen, error) = read(&chunks, 100).await;
            assert!(seen.is_empty() && matches!(error, Some(SseError::TooLarge { limit: 100 })), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_data_never_adds_up() {
        let comments = b": still here\nid: 5\nevent\n".repeat(50);
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
