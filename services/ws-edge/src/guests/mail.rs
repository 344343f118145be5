//! What is to be said to one connection alone, until its task has said it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use herald_protocol::Close;
use metrics::counter;

/// Something for one connection alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A frame, as it goes on the wire.
    Ready(Bytes),
    /// It is closed, behind what was said to it before.
    Close(Close),
}

/// Why something is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsaid {
    /// The connection does not take what was said to it before.
    #[error("it does not take what was said before")]
    Full,
    /// It is gone, or about to be closed.
    #[error("the connection is gone")]
    Gone,
}

/// How much may wait to be said to one connection.
#[derive(Debug, Clone, Copy)]
pub struct MailLimits {
    /// Frames.
    pub frames: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// What waits to be said to one connection.
#[derive(Debug)]
pub(super) struct Mail {
    letters: Mutex<Letters>,
    /// Something has come since that was last looked at.
    rung: AtomicBool,
    /// The one task that waits for that: less than half of what a `Notify` takes of it while it waits.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Letters {
    words: VecDeque<Word>,
    bytes: usize,
    /// Nothing more is taken: it is gone, or its close is among them.
    closed: bool,
}

impl Mail {
    pub(super) fn new() -> Self {
        Self { letters: Mutex::default(), rung: AtomicBool::new(false), waker: AtomicWaker::new() }
    }

    /// Something more is to be said.
    pub(super) fn put(&self, word: Word, limits: MailLimits) -> Result<(), Unsaid> {
        let mut letters = self.letters();
        if letters.closed {
            return Err(Unsaid::Gone);
        }
        match &word {
            Word::Ready(frame) => {
                let full = letters.words.len() >= limits.frames;
                if full || letters.bytes.saturating_add(frame.len()) > limits.bytes {
                    counter!("herald_words_refused_total", "reason" => "full").increment(1);
                    return Err(Unsaid::Full);
                }
                letters.bytes += frame.len();
            }
            // There is always room for that.
            Word::Close(_) => letters.closed = true,
        }
        letters.words.push_back(word);
        drop(letters);
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
        Ok(())
    }

    /// What is to be said next.
    pub(super) fn take(&self) -> Option<Word> {
        let mut letters = self.letters();
        let word = letters.words.pop_front()?;
        if let Word::Ready(frame) = &word {
            letters.bytes -= frame.len();
        }
        if letters.words.is_empty() {
            // Most connections are never said anything: those that were are as small.
            letters.words = VecDeque::new();
        }
        Some(word)
    }

    /// The close among what is to be said.
    pub(super) fn close_word(&self) -> Option<Close> {
        match self.letters().words.back()? {
            Word::Close(close) => Some(close.clone()),
            Word::Ready(_) => None,
        }
    }

    /// It could not be said yet: it is what comes next.
    pub(super) fn put_back(&self, frame: Bytes) {
        let mut letters = self.letters();
        letters.bytes += frame.len();
        letters.words.push_front(Word::Ready(frame));
    }

    /// Nothing more is said.
    pub(super) fn close(&self) {
        let mut letters = self.letters();
        let lost = std::mem::take(&mut letters.words).into_iter().filter(|word| matches!(word, Word::Ready(_))).count();
        (letters.closed, letters.bytes) = (true, 0);
        drop(letters);
        if lost > 0 {
            counter!("herald_words_refused_total", "reason" => "gone").increment(lost as u64);
        }
    }

    /// Waits until something more is to be said than before. For one task; cancelling is safe.
    pub(super) async fn rung(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MailLimits = MailLimits { frames: 2, bytes: 10 };

    fn ready(text: &'static str) -> Word {
        Word::Ready(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn so_much_waits_and_a_close_always_finds_room() {
        let mail = Mail::new();
        assert_eq!(mail.put(ready("12345678"), LIMITS), Ok(()));
        assert_eq!(mail.put(ready("123"), LIMITS), Err(Unsaid::Full), "bytes");
        assert_eq!(mail.put(ready("12"), LIMITS), Ok(()));
        assert_eq!(mail.put(ready(""), LIMITS), Err(Unsaid::Full), "frames");
        assert_eq!(mail.put(Word::Close(Close::GoingAway), LIMITS), Ok(()));
        assert_eq!(mail.put(Word::Close(Close::TooLarge), LIMITS), Err(Unsaid::Gone), "the first word counts");
        assert_eq!(mail.take(), Some(ready("12345678")));
        mail.put_back(Bytes::from_static(b"12345678"));
        let all: Vec<_> = std::iter::from_fn(|| mail.take()).collect();
        assert_eq!(all, [ready("12345678"), ready("12"), Word::Close(Close::GoingAway)]);
        assert_eq!(mail.letters().bytes, 0);
    }

    #[test]
    fn to_who_is_gone_nothing_is_said() {
        let mail = Mail::new();
        mail.put(ready("1"), LIMITS).unwrap();
        mail.close();
        assert_eq!((mail.put(ready("1"), LIMITS), mail.take()), (Err(Unsaid::Gone), None));
    }

    #[tokio::test]
    async fn the_bell_rings_for_what_came_before_it_was_listened_to() {
        let mail = Mail::new();
        mail.put(ready("1"), LIMITS).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), mail.rung()).await.unwrap();
    }
}
