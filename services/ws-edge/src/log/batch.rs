//! Frames that go out together.

use bytes::Bytes;

use super::Frame;

/// Larger lists are not kept for the next batch.
const KEPT: usize = 8;

/// Frames in a row, at least one, and all of them as one run of bytes: what everybody who listens gets in one write.
#[derive(Debug)]
pub struct Batch {
    frames: Vec<Frame>,
    bytes: Bytes,
}

impl Batch {
    /// These frames, in order. One is not copied.
    #[must_use]
    pub fn new(frames: Vec<Frame>) -> Self {
        let bytes = match &*frames {
            [one] => one.bytes.clone(),
            more => {
                let mut joined = Vec::with_capacity(more.iter().map(|frame| frame.bytes.len()).sum());
                more.iter().for_each(|frame| joined.extend_from_slice(&frame.bytes));
                joined.into()
            }
        };
        Self { frames, bytes }
    }

    /// The frames behind a sequence, and their bytes.
    #[must_use]
    pub fn behind(&self, seq: u64) -> (&[Frame], &[u8]) {
        // Mostly all of them.
        let known = self.frames.iter().take_while(|frame| frame.seq <= seq).count();
        let (known, new) = self.frames.split_at(known);
        (new, &self.bytes[known.iter().map(|frame| frame.bytes.len()).sum()..])
    }

    /// The emptied list, to be used again.
    #[must_use]
    pub fn into_room(mut self) -> Vec<Frame> {
        self.frames.clear();
        self.frames.shrink_to(KEPT);
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Mark;

    #[test]
    fn what_is_behind_a_sequence_is_the_rest_of_frames_and_bytes() {
        let frame = |seq, bytes: &'static str| Frame { seq, prev: 0, mark: Mark::default(), bytes: bytes.into() };
        let batch = Batch::new(vec![frame(3, "abc"), frame(5, "d"), frame(9, "ef")]);
        let behind = |seq| (batch.behind(seq).0.len(), batch.behind(seq).1);
        assert_eq!(behind(0), (3, &b"abcdef"[..]));
        assert_eq!(behind(3), (2, &b"def"[..]));
        assert_eq!(behind(8), (1, &b"ef"[..]));
        assert_eq!(behind(9), (0, &b""[..]));
        let one = Batch::new(vec![frame(3, "abc")]);
        assert_eq!((one.behind(2).1, one.behind(3).1), (&b"abc"[..], &b""[..]));
    }
}
