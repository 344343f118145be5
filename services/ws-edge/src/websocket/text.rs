//! Whether a text is UTF-8, while it arrives: masked, in frames, cut anywhere.

/// Bytes unmasked at once.
const AT_ONCE: usize = 256;
/// Longest beginning of a character that is not all there.
const BEGUN: usize = 3;

/// A text that is arriving. Of what came, only a character that has begun is kept.
#[derive(Debug, Default)]
pub(super) struct Text {
    mask: [u8; 4],
    at: u8,
    begun: [u8; BEGUN],
    len: u8,
}

impl Text {
    /// A frame of it begins, with that mask.
    pub(super) const fn frame(&mut self, mask: [u8; 4]) {
        (self.mask, self.at) = (mask, 0);
    }

    /// Takes more of the frame. False as soon as no text can begin like this.
    pub(super) fn push(&mut self, masked: &[u8]) -> bool {
        masked.chunks(AT_ONCE).all(|piece| self.piece(piece))
    }

    fn piece(&mut self, masked: &[u8]) -> bool {
        let (mut buffer, begun) = ([0; BEGUN + AT_ONCE], usize::from(self.len));
        buffer[..begun].copy_from_slice(&self.begun[..begun]);
        let (mask, at) = (self.mask, usize::from(self.at));
        for (index, (byte, masked)) in buffer[begun..].iter_mut().zip(masked).enumerate() {
            *byte = masked ^ mask[(at + index) % 4];
        }
        let plain = &buffer[..begun + masked.len()];
        // Less than 4, so that nothing is lost.
        self.at = ((at + masked.len()) % 4).to_le_bytes()[0];
        let left = match std::str::from_utf8(plain) {
            Ok(_) => &[],
            Err(error) if error.error_len().is_some() => return false,
            Err(error) => &plain[error.valid_up_to()..],
        };
        self.begun[..left.len()].copy_from_slice(left);
        self.len = left.len().to_le_bytes()[0];
        true
    }

    /// Whether it may end here.
    pub(super) const fn is_whole(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// Whether `bytes` pass, in frames of `frame` bytes that come in pieces of `step`.
    fn passes(bytes: &[u8], frame: usize, step: usize) -> bool {
        let mut text = Text::default();
        let good = bytes.chunks(frame).all(|frame| {
            text.frame(MASK);
            let masked: Vec<_> = frame.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]).collect();
            masked.chunks(step).all(|piece| text.push(piece))
        });
        good && text.is_whole()
    }

    #[test]
    fn a_character_may_be_cut_but_must_end() {
        for text in ["", "plain", "κόσμε", "\u{10ffff}\u{0}\u{7ff}\u{800}", &"é".repeat(1000)] {
            for (frame, step) in [(1, 1), (2, 1), (3, 2), (1 << 20, 5), (7, 7), (1 << 20, 1 << 20)] {
                assert!(passes(text.as_bytes(), frame, step), "{text} {frame} {step}");
            }
        }
        for bad in [&b"\xce"[..], b"a\xf0\x9f\x8e", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\x80"]
        {
            assert!(!passes(bad, 1, 1) && !passes(bad, 100, 100), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn what_can_be_no_text_any_more_is_seen_at_once() {
        let mut text = Text::default();
        assert!(text.push(b"\xf4"));
        assert!(!text.push(b"\x90"), "beyond the last character");
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80_u8..0xc0, Just(0xe2)], 0..40),
            frame in 1_usize..50,
            step in 1_usize..50,
        ) {
            prop_assert_eq!(passes(&bytes, frame, step), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
