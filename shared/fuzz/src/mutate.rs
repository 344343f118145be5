//! How a good input is broken.

use std::ops::Range;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

use crate::{attempt::hash, pool::Pool};

/// Most changes of one input: a few, so that most of it still makes sense.
const CHANGES: usize = 6;
/// Most repetitions of a piece.
const REPEATS: usize = 24;
/// One input of so many is made out of words alone.
const OUT_OF_WORDS: usize = 32;

/// Bytes that separate, end, or are at the edge of something.
const BYTES: &[u8] =
    b"\0\x01\x09\n\r \"#%&'()*+,-./0189:;<=>?@AZ[\\]^_`az{|}~\x7f\x80\xbf\xc0\xe2\xed\xef\xf0\xf4\xfe\xff";
/// Numbers at which something ends: in bits, in digits, in what a double holds, in JSON.
const NUMBERS: [&str; 34] = [
    "0",
    "1",
    "-1",
    "-0",
    "00",
    "007",
    "+1",
    "64",
    "65",
    "123",
    "125",
    "126",
    "127",
    "128",
    "255",
    "256",
    "599",
    "600",
    "65535",
    "65536",
    "2147483647",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "1e3",
    "1e999",
    "-1e-999",
    "0.1",
];
/// Lengths and counts at which something ends, where they are bytes.
const EDGES: [u64; 16] = [
    0,
    1,
    125,
    126,
    127,
    128,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Makes one input after the other.
pub(crate) struct Mutator {
    chance: Xoshiro256PlusPlus,
    tokens: Vec<Vec<u8>>,
    longest: usize,
}

impl Mutator {
    pub(crate) fn new(seed: u64, target: &str, tokens: Vec<Vec<u8>>, longest: usize) -> Self {
        Self { chance: Xoshiro256PlusPlus::seed_from_u64(seed ^ hash(target)), tokens, longest }
    }

    /// The next input, in place of what is in `input`.
    pub(crate) fn next(&mut self, pool: &Pool, input: &mut Vec<u8>) {
        input.clear();
        if self.below(OUT_OF_WORDS) == 0 {
            for _ in 0..=self.below(8) {
                let word = self.word(pool);
                input.extend_from_slice(&word);
            }
        } else {
            // Half of them out of what came last, which is what led farthest.
            let inputs = pool.inputs();
            let recent = inputs.len().min(64);
            let at = if self.below(2) == 0 { self.below(inputs.len()) } else { inputs.len() - 1 - self.below(recent) };
            input.extend_from_slice(&inputs[at]);
            for _ in 0..=self.below(CHANGES).min(self.below(CHANGES)) {
                self.change(pool, input);
            }
        }
        input.truncate(self.longest);
    }

    fn change(&mut self, pool: &Pool, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let piece = self.piece(input.len());
        match self.below(20) {
            0 => self.byte(input, |byte, chance| byte ^ (1 << chance.random_range(0..8))),
            1 => self.byte(input, |_, chance| BYTES[chance.random_range(0..BYTES.len())]),
            2 => self.byte(input, |byte, chance| byte.wrapping_add(chance.random_range(0..9_u8).wrapping_sub(4))),
            3 | 4 => drop(input.drain(piece)),
            5 => {
                let repeated = input[piece.clone()].repeat(1 + self.below(REPEATS).min(self.below(REPEATS)));
                insert(input, piece.end, &repeated);
            }
            6..=8 => {
                let word = self.word(pool);
                insert(input, at, &word);
            }
            9 => {
                let word = self.word(pool);
                input.splice(piece, word);
            }
            10 => {
                let other = self.other(pool);
                input.splice(piece, other);
            }
            11 => {
                // The beginning of this one, the end of another one.
                let other = &pool.inputs()[self.below(pool.inputs().len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            12 => input.truncate(at),
            13 => {
                let moved: Vec<u8> = input.drain(piece).collect();
                let to = self.below(input.len() + 1);
                insert(input, to, &moved);
            }
            14 | 15 => self.number(input),
            16 => self.edge(input, at),
            17 => self.escape(input, at),
            18 => self.lines(input),
            _ => {
                for byte in &mut input[piece] {
                    if byte.is_ascii_alphabetic() {
                        *byte ^= 0x20;
                    }
                }
            }
        }
    }

    /// Changes a byte.
    fn byte(&mut self, input: &mut [u8], change: impl FnOnce(u8, &mut Xoshiro256PlusPlus) -> u8) {
        let at = self.below(input.len());
        if let Some(byte) = input.get_mut(at) {
            *byte = change(*byte, &mut self.chance);
        }
    }

    /// A number of the text becomes another one.
    fn number(&mut self, input: &mut Vec<u8>) {
        let start = self.below(input.len());
        let Some(start) = (start..input.len()).chain(0..start).find(|at| input[*at].is_ascii_digit()) else { return };
        let begin = input[..start].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
        let end = input[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |at| start + at);
        let number = NUMBERS[self.below(NUMBERS.len())];
        input.splice(begin..end, number.bytes());
    }

    /// Bytes that may be a length become an edge.
    fn edge(&mut self, input: &mut [u8], at: usize) {
        let width = 1 << self.below(4);
        let edge = EDGES[self.below(EDGES.len())].to_be_bytes();
        for (byte, edge) in input[at..].iter_mut().zip(&edge[8 - width..]) {
            *byte = *edge;
        }
    }

    /// A byte is said in another way, as URLs and JSON have them; sometimes twice.
    fn escape(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(byte) = input.get(at).copied() else { return };
        let text = match self.below(5) {
            0 => format!("%{byte:02x}"),
            1 => format!("%{byte:02X}"),
            2 => format!("\\u{byte:04x}"),
            3 => format!("%25{byte:02x}"),
            _ => format!("\\{}", char::from(byte & 0x7F)),
        };
        input.splice(at..=at, text.bytes());
    }

    /// A line goes, comes twice, or goes to the end.
    fn lines(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        let start = input[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = input[at..].iter().position(|byte| *byte == b'\n').map_or(input.len(), |found| at + found + 1);
        let line = input[start..end].to_vec();
        match self.below(3) {
            0 => drop(input.drain(start..end)),
            1 => insert(input, start, &line),
            _ => {
                input.drain(start..end);
                input.extend_from_slice(&line);
            }
        }
    }

    /// Something to be put in: a word of the language mostly.
    fn word(&mut self, pool: &Pool) -> Vec<u8> {
        match self.below(8) {
            0 => vec![BYTES[self.below(BYTES.len())]],
            1 => (0..=self.below(8)).map(|_| self.chance.random()).collect(),
            2 => NUMBERS[self.below(NUMBERS.len())].as_bytes().to_vec(),
            3 => self.other(pool),
            4 => vec![BYTES[self.below(BYTES.len())]; 1 << self.below(9)],
            _ if self.tokens.is_empty() => vec![BYTES[self.below(BYTES.len())]; 2],
            _ => {
                let at = self.below(self.tokens.len());
                self.tokens[at].clone()
            }
        }
    }

    /// A piece of another input.
    fn other(&mut self, pool: &Pool) -> Vec<u8> {
        let other = &pool.inputs()[self.below(pool.inputs().len())];
        other[self.piece(other.len())].to_vec()
    }

    /// A piece of something so long: short ones as often as long ones.
    fn piece(&mut self, len: usize) -> Range<usize> {
        let start = self.below(len + 1);
        let most = (len - start).min(1 << self.below(10));
        start..start + self.below(most + 1)
    }

    /// Less than `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.chance.random_range(0..end) }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}
