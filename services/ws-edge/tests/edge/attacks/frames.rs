//! Frames that break the protocol, at the real door: each ends its own socket, by its code, and nobody else's.

use herald_testkit::{Edge, Nats, within, ws};

use super::{BOUND, MINUTE, knock, status};
use crate::{
    floods::{close_code, frame, heard, socket},
    support::Engine,
};

/// A close frame with that code and reason.
fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason].concat())
}

/// A header with a length of 64 bits, masked with zeros.
fn long(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xFF][..], &length.to_be_bytes(), &[0; 4]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_breach_of_the_protocol_ends_its_own_socket_and_no_other() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let calm = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let whole = |pieces: &[Vec<u8>]| pieces.concat();
        let breaches = [
            ("unmasked", b"\x81\x02hi".to_vec(), 1002),
            ("an unmasked ping", b"\x89\x00".to_vec(), 1002),
            ("compressed", frame(0xC1, b"hi"), 1002),
            ("a fragment that says it is compressed", whole(&[frame(0x01, b"h"), frame(0xC0, b"i")]), 1002),
            ("the second reserved bit", frame(0xA1, b"hi"), 1002),
            ("the third", frame(0x91, b"hi"), 1002),
            ("a reserved opcode", frame(0x83, b"hi"), 1002),
            ("a reserved control opcode", frame(0x8B, b"hi"), 1002),
            ("a ping in fragments", frame(0x09, b"hi"), 1002),
            ("a close in fragments", frame(0x08, b"\x03\xe8"), 1002),
            ("a long ping", frame(0x89, &[7; 126]), 1002),
            ("a giant ping", long(0x89, 1 << 40), 1002),
            ("a giant close", long(0x88, u64::MAX), 1002),
            ("a continuation of nothing", frame(0x80, b"hi"), 1002),
            ("a continuation of what has ended", whole(&[frame(0x81, b"hi"), frame(0x80, b"")]), 1002),
            ("a message in a message", whole(&[frame(0x01, b"h"), frame(0x81, b"i")]), 1002),
            ("the largest length", long(0x82, u64::MAX), 1009),
            ("the largest that is one", long(0x82, u64::MAX >> 1), 1009),
            ("lengths that add up to nothing", whole(&[frame(0x02, b"hi"), long(0x80, u64::MAX - 1)]), 1009),
            ("no text", frame(0x81, b"\xff"), 1007),
            ("an overlong letter", frame(0x81, b"\xc1\xb3"), 1007),
            ("half a pair", frame(0x81, b"\xed\xa0\x80"), 1007),
            ("a letter beyond all", frame(0x81, b"\xf4\x90\x80\x80"), 1007),
            ("a letter that never ends", whole(&[frame(0x01, b"\xf0\x9f"), frame(0x80, b"\x8e")]), 1007),
            ("a close of one byte", frame(0x88, b"\x03"), 1002),
            ("a close of no code", close(0, b""), 1002),
            ("a close of a code that is never sent", close(1005, b""), 1002),
            ("another one", close(1006, b""), 1002),
            ("another one still", close(1015, b""), 1002),
            ("a close of a small code", close(999, b""), 1002),
            ("a close of a large one", close(5000, b""), 1002),
            ("a close whose reason is no text", close(1000, b"\xff"), 1007),
            ("a request", b"GET /ws/other HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 1002),
            ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 1002),
        ];
        for (what, bytes, code) in breaches {
            let mut raw = socket(&edge).await;
            raw.write([&bytes[..], &frame(0x89, b"behind it")].concat()).await;
            let read = raw.read_to_end(BOUND).await;
            assert_eq!(close_code(&read), code, "{what}: {}", read.escape_ascii());
            assert!(!String::from_utf8_lossy(&read).contains("behind it"), "{what}: nothing behind it counts");
        }
        // What is odd, and allowed.
        let polite = [
            ("many empty fragments", whole(&[frame(0x01, b""), frame(0x00, b"").repeat(30), frame(0x80, b"")])),
            (
                "pings within a message",
                whole(&[frame(0x01, b"h"), frame(0x89, b"in between"), frame(0x8A, b""), frame(0x80, b"i")]),
            ),
            ("pongs that nobody asked for", frame(0x8A, b"x").repeat(5)),
            ("a letter in two fragments", whole(&[frame(0x01, b"\xf0\x9f"), frame(0x80, b"\x8e\xb2")])),
            ("what looks like ours", frame(0x81, br#"{"event":"herald.bye","data":{"after":"0"}}"#)),
        ];
        for (what, bytes) in polite {
            let mut raw = socket(&edge).await;
            raw.write([bytes, frame(0x89, b"last")].concat()).await;
            heard(&mut raw, b"\x8A\x04last").await;
            raw.write(close(4999, b"bye")).await;
            let read = raw.read_to_end(BOUND).await;
            assert!(matches!(close_code(&read), 1000 | 4999), "{what}: {}", read.escape_ascii());
        }
        engine.publish("gm.S.phase", r#"{"text":"on"}"#).await;
        calm.wait_events(1, BOUND).await;
        assert_eq!(calm.ended(), None);
        // Nobody is promised what is not done.
        let offer = "sec-websocket-extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n";
        let (_raw, head, _) = knock(&edge, "/ws/S", offer).await;
        assert!(status(&head) == 101 && !head.to_lowercase().contains("sec-websocket-extensions"), "{head}");
        for (lines, expected) in [
            ("content-length: 5\r\n", 400),
            ("transfer-encoding: chunked\r\n", 400),
            ("content-length: 0\r\n", 101),
            ("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
        ] {
            let (_raw, head, _) = knock(&edge, "/ws/S", lines).await;
            assert_eq!(status(&head), expected, "{lines}: {head}");
        }
    })
    .await;
}
