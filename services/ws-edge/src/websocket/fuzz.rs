//! Fuzzing target: what a client sends on an open socket.

use herald_fuzz::{Target, cuts};
use herald_protocol::Close;

use super::{Inbound, MAX_CONTROL, Received, close_frame, pong_frame};

/// Largest message, and the largest text that is kept.
const LIMIT: u64 = 300;
const KEPT: usize = 100;

/// What was told of a client's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Told {
    Message(u64, Option<Vec<u8>>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// All that the parser tells, with how it ended, if it did, and how many frames it counted.
fn read(pieces: &[&[u8]]) -> (Vec<Told>, Option<u16>, u32) {
    let mut inbound = Inbound::new(LIMIT).keeping(KEPT);
    let (mut told, mut frames) = (Vec::new(), 0);
    for piece in pieces {
        let mut input = *piece;
        loop {
            let read = inbound.read(&mut input);
            frames += inbound.take_frames();
            match read {
                Ok(None) => {
                    assert!(input.is_empty(), "everything is taken");
                    break;
                }
                Ok(Some(Received::Message(bytes))) => told.push(Told::Message(bytes, inbound.take_text())),
                Ok(Some(Received::Ping(payload))) => {
                    let pong = pong_frame(&payload);
                    assert!(pong.len() == 2 + payload.len() && pong.ends_with(&payload));
                    told.push(Told::Ping(payload.to_vec()));
                }
                Ok(Some(Received::Pong)) => told.push(Told::Pong),
                Ok(Some(Received::Close(code))) => told.push(Told::Close(code)),
                Err(close) => return (told, Some(said(&close)), frames),
            }
        }
    }
    (told, None, frames)
}

/// What the client reads of a close.
fn said(close: &Close) -> u16 {
    let frame = close_frame(close);
    assert!(frame[0] == 0x88 && usize::from(frame[1]) == frame.len() - 2 && frame.len() <= 2 + MAX_CONTROL);
    assert!(std::str::from_utf8(&frame[4..]).is_ok());
    u16::from_be_bytes([frame[2], frame[3]])
}

/// The same, as RFC 6455 says it, of bytes that are all there.
fn model(mut input: &[u8]) -> (Vec<Told>, Option<u16>, u32) {
    let (mut told, mut frames) = (Vec::new(), 0);
    // The message in the making: whether it is a text, and its bytes.
    let mut message: Option<(bool, Vec<u8>)> = None;
    loop {
        let Some((first, second, length, mask, behind)) = header(input) else { return (told, None, frames) };
        let (opcode, last) = (first & 0xF, first & 0x80 != 0);
        let control = opcode >= 8;
        let refused = if matches!(opcode, 3..=7 | 11..) || first & 0x70 != 0 || second & 0x80 == 0 {
            Some(1002)
        } else if control {
            (length > 125 || !last).then_some(1002)
        } else if (opcode == 0) != message.is_some() {
            Some(1002)
        } else {
            let before = message.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
            (before.saturating_add(length) > LIMIT).then_some(1009)
        };
        if refused.is_some() {
            return (told, refused, frames);
        }
        frames += 1;
        // Short enough by now to be counted in memory.
        let there = behind.len().min(length as usize);
        let plain: Vec<u8> = behind[..there].iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        let whole = there as u64 == length;
        input = &behind[there..];
        if control {
            if !whole {
                return (told, None, frames);
            }
            match (opcode, plain.as_slice()) {
                (9, _) => told.push(Told::Ping(plain)),
                (10, _) => told.push(Told::Pong),
                (_, []) => return with(told, Told::Close(None), frames),
                (_, [_]) => return (told, Some(1002), frames),
                (_, [high, low, reason @ ..]) => {
                    let code = u16::from_be_bytes([*high, *low]);
                    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                        return (told, Some(1002), frames);
                    }
                    if std::str::from_utf8(reason).is_err() {
                        return (told, Some(1007), frames);
                    }
                    return with(told, Told::Close(Some(code)), frames);
                }
            }
            continue;
        }
        let (is_text, mut bytes) = message.take().unwrap_or((opcode == 1, Vec::new()));
        bytes.extend_from_slice(&plain);
        let broken = std::str::from_utf8(&bytes).err();
        if is_text && broken.is_some_and(|error| error.error_len().is_some() || last && whole) {
            return (told, Some(1007), frames);
        }
        if last && whole {
            let kept = (is_text && bytes.len() <= KEPT).then(|| bytes.clone());
            told.push(Told::Message(bytes.len() as u64, kept));
        } else if whole {
            message = Some((is_text, bytes));
        } else {
            return (told, None, frames);
        }
    }
}

fn with(mut told: Vec<Told>, last: Told, frames: u32) -> (Vec<Told>, Option<u16>, u32) {
    told.push(last);
    (told, None, frames)
}

/// The first two bytes of a frame, its length, its mask, and what is behind.
type Header<'a> = (u8, u8, u64, [u8; 4], &'a [u8]);

/// The header of a frame; `None` where not all of the header is there.
fn header(input: &[u8]) -> Option<Header<'_>> {
    let (&[first, second], rest) = input.split_first_chunk()?;
    let (length, rest) = match second & 0x7F {
        126 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from(u16::from_be_bytes(*bytes)), rest))?,
        127 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from_be_bytes(*bytes), rest))?,
        short => (u64::from(short), rest),
    };
    let (mask, rest) =
        if second & 0x80 == 0 { ([0; 4], rest) } else { rest.split_first_chunk().map(|(mask, rest)| (*mask, rest))? };
    Some((first, second, length, mask, rest))
}

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

#[test]
fn client_frames() {
    let seeds = [
        vec![frame(0x81, "{\"type\":\"ready\",\"é\":\"🎲\"}".as_bytes()), frame(0x89, b"12345678"), frame(0x8A, b"")],
        vec![
            frame(0x01, "κόσ".as_bytes()),
            frame(0x89, b""),
            frame(0x00, &"μ".as_bytes()[..1]),
            frame(0x80, &"με".as_bytes()[1..]),
        ],
        vec![frame(0x82, &[0xFF; 200]), frame(0x81, &[b'x'; 99]), frame(0x81, &[b'y'; 101])],
        vec![frame(0x88, b"\x03\xe8bye"), frame(0x81, b"after the end")],
        vec![frame(0x88, b"\x0f\xa1"), frame(0x88, b"")],
        vec![frame(0x02, &[1; 150]), frame(0x00, &[2; 149]), frame(0x80, &[3; 2])],
    ];
    let tokens = [
        frame(0x89, b"p"),
        frame(0x8A, b""),
        frame(0x81, b"t"),
        frame(0x01, b"\xe2"),
        frame(0x00, b"\x82"),
        frame(0x80, b"\xac"),
        frame(0x88, b""),
        b"\x81\xfe".to_vec(),
        b"\x82\xff\0\0\0\0\0\0".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"\xed\xa0\x80".to_vec(),
        b"\xf0\x9f".to_vec(),
    ];
    Target::new("client_frames").seeds(seeds.map(|frames| frames.concat())).tokens(tokens).longest(1200).run(|input| {
        let whole = read(&[input]);
        assert_eq!(whole, model(input));
        for at in cuts(input) {
            let (front, back) = input.split_at(at);
            assert_eq!(read(&[front, b"", back]), whole, "cut at {at}");
        }
        assert_eq!(read(&input.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
        let (told, end, frames) = whole;
        assert!(told.iter().all(|it| !matches!(it, Told::Message(bytes, _) if *bytes > LIMIT)));
        // No header is shorter.
        assert!(frames as usize <= input.len() / 6);
        let kinds: Vec<_> = told
            .iter()
            .take(5)
            .map(|it| match it {
                Told::Message(bytes, kept) => (1, (*bytes).min(3), kept.is_some()),
                Told::Ping(payload) => (2, payload.len().min(3) as u64, false),
                Told::Pong => (3, 0, false),
                Told::Close(code) => (4, code.map_or(0, |code| u64::from(code / 1000)), false),
            })
            .collect();
        (kinds, told.len().min(8), end, frames.min(8))
    });
}
