//! Events: who they belong to, which one it is, when it was published, all at fixed places.
//!
//! `{"s":"<session>","n":"<16 digits>","at":"<16 digits>","pad":"xxx"}`. The numbers are strings, as JSON knows no number
//! that begins with a zero.

use std::time::Instant;

const N: &[u8] = br#"","n":""#;
const AT: &[u8] = br#"","at":""#;
const PAD: &[u8] = br#"","pad":""#;
const END: &[u8] = br#""}"#;
/// Length of a session's id: a letter, the run's tag, six digits.
const SESSION: usize = 1 + TAG + INDEX;
const TAG: usize = 4;
const INDEX: usize = 6;
const DIGITS: usize = 16;

/// What every payload begins with.
pub(super) const OPEN: &[u8] = br#"{"s":""#;
/// Length of what tells a session's payloads from all others.
pub(super) const MARK: usize = OPEN.len() + SESSION + N.len();
const AT_OFFSET: usize = MARK + DIGITS + AT.len();
/// Length of what is looked at.
pub(super) const HEAD: usize = AT_OFFSET + DIGITS;

/// What tells a session's payloads from all others: their beginning, up to the number.
pub(super) type Mark = [u8; MARK];

/// ns since the process began to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub(super) fn now(self) -> u64 {
        // Some 500 years fit.
        self.0.elapsed().as_nanos() as u64
    }
}

/// One run's names and payloads.
#[derive(Debug, Clone)]
pub(super) struct Payloads {
    tag: [u8; TAG],
    template: Vec<u8>,
}

impl Payloads {
    /// Of a run with that tag, of `size` bytes each.
    pub(super) fn new(tag: u16, size: usize) -> Self {
        let mut digits = [0; TAG];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[usize::from(tag >> (12 - 4 * at) & 0xF)];
        }
        let zeroes = [b'0'; DIGITS];
        let mut template = [OPEN, b"b", &digits, &zeroes[..INDEX], N, &zeroes, AT, &zeroes, PAD].concat();
        template.resize(size.saturating_sub(END.len()).max(template.len()), b'x');
        template.extend_from_slice(END);
        Self { tag: digits, template }
    }

    /// Bytes of a payload.
    pub(super) const fn size(&self) -> usize {
        self.template.len()
    }

    /// The id of a session.
    pub(super) fn session(&self, index: u32) -> String {
        format!("b{}{index:06}", String::from_utf8_lossy(&self.tag))
    }

    /// The mark of a session.
    pub(super) fn mark(&self, index: u32) -> Mark {
        let mut mark = [0; MARK];
        mark.copy_from_slice(&self.template[..MARK]);
        let at = OPEN.len() + SESSION;
        write_digits(&mut mark[at - INDEX..at], u64::from(index));
        mark
    }

    /// Appends a payload.
    pub(super) fn append(&self, out: &mut Vec<u8>, session: u32, n: u64, at: u64) {
        let start = out.len();
        out.extend_from_slice(&self.template);
        let payload = &mut out[start..];
        let index = OPEN.len() + SESSION;
        write_digits(&mut payload[index - INDEX..index], u64::from(session));
        write_digits(&mut payload[MARK..MARK + DIGITS], n);
        write_digits(&mut payload[AT_OFFSET..HEAD], at);
    }
}

/// The number and the time of a payload whose mark was checked; at least [`HEAD`] bytes.
#[inline]
pub(super) fn numbers(payload: &[u8]) -> (u64, u64) {
    (sixteen(&payload[MARK..MARK + DIGITS]), sixteen(&payload[AT_OFFSET..HEAD]))
}

/// Whether a payload is of this run, whatever its session.
pub(super) fn same_run(payload: &[u8], mark: &Mark) -> bool {
    let tag = OPEN.len() + 1 + TAG;
    payload.len() >= HEAD && payload[..tag] == mark[..tag]
}

fn write_digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        // A remainder of 10 fits.
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn sixteen(digits: &[u8]) -> u64 {
    let (Some(high), Some(low)) = (digits.first_chunk(), digits.last_chunk()) else { return 0 };
    eight(*high) * 100_000_000 + eight(*low)
}

/// Eight digits at once: neighbours are joined to pairs, pairs to fours, fours to the whole.
fn eight(digits: [u8; 8]) -> u64 {
    let ones = u64::from_le_bytes(digits).wrapping_sub(0x3030_3030_3030_3030);
    let pairs = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    (fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xFFFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_say_what_they_are() {
        let payloads = Payloads::new(0xA0F3, 300);
        let mut out = b"before".to_vec();
        payloads.append(&mut out, 42, 1_234_567, 9_876_543_210_123_456);
        let payload = &out[6..];
        assert_eq!(payload.len(), 300);
        assert_eq!(payload[..MARK], payloads.mark(42));
        assert!(payload[..MARK] != payloads.mark(43) && same_run(payload, &payloads.mark(43)));
        assert!(!same_run(payload, &Payloads::new(1, 300).mark(42)));
        assert_eq!(numbers(payload), (1_234_567, 9_876_543_210_123_456));
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(json["s"], payloads.session(42));
        assert_eq!(json["s"], "ba0f3000042");
        assert_eq!(json["n"], "0000000001234567");
    }

    #[test]
    fn the_smallest_payload_is_a_hundred_bytes_at_most() {
        assert!(Payloads::new(1, 0).size() <= 100);
        assert_eq!(Payloads::new(1, 100).size(), 100);
    }

    #[test]
    fn digits_are_read_as_they_are_written() {
        for number in [0, 1, 9, 10, 12_345_678, 87_654_321, 99_999_999, 100_000_000, 9_999_999_999_999_999] {
            let mut digits = [0; DIGITS];
            write_digits(&mut digits, number);
            assert_eq!(sixteen(&digits), number);
        }
    }
}
