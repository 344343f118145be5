//! What clients send, kept to be sent back: for the conformance tests, and in their build alone.

use super::{BINARY, TEXT, frame};

/// A message that is arriving.
#[derive(Debug, Default)]
pub(super) struct Echo {
    mask: [u8; 4],
    at: usize,
    binary: bool,
    payload: Vec<u8>,
}

impl Echo {
    /// A message begins.
    pub(super) fn message(&mut self, binary: bool) {
        self.binary = binary;
        self.payload.clear();
    }

    /// A frame of it begins, with that mask.
    pub(super) const fn frame(&mut self, mask: [u8; 4]) {
        (self.mask, self.at) = (mask, 0);
    }

    /// Takes more of the frame.
    pub(super) fn push(&mut self, masked: &[u8]) {
        let (mask, at) = (self.mask, self.at);
        self.payload.extend(masked.iter().enumerate().map(|(index, byte)| byte ^ mask[(at + index) % 4]));
        self.at += masked.len();
    }

    /// The frame that says the same.
    pub(super) fn back(&self) -> Vec<u8> {
        frame(if self.binary { BINARY } else { TEXT }, &self.payload)
    }
}
