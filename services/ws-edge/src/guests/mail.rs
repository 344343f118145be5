//! What is to be said to one connection alone, until its task has said it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use herald_protocol::Close;
use herald_runtime::metrics::measured;
use metrics::{counter, gauge};

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
    /// It would never find room.
    #[error("it is larger than all that may wait")]
    TooLarge,
}

/// How much may wait to be said, to one connection and to all that have the same limits.
#[derive(Debug, Clone)]
pub struct MailLimits {
    frames: usize,
    bytes: usize,
    all: Arc<AllMail>,
}

/// What waits to be said to anybody.
#[derive(Debug)]
struct AllMail {
    most: usize,
    bytes: AtomicUsize,
}

impl MailLimits {
    /// So many frames and bytes for one connection, and so many bytes for all.
    #[must_use]
    pub fn new(frames: usize, bytes: usize, total: usize) -> Self {
        Self { frames, bytes, all: Arc::new(AllMail { most: total, bytes: AtomicUsize::new(0) }) }
    }

    /// Shows how much waits, for as long as that is of interest.
    pub(crate) fn show(&self) {
        measured(gauge!("herald_words_waiting_bytes"), &self.all, |all| all.bytes.load(Ordering::Relaxed));
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |waiting: usize| waiting.checked_add(bytes).filter(|sum| *sum <= self.all.most);
        self.all.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
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
    pub(super) fn put(&self, word: Word, limits: &MailLimits) -> Result<(), Unsaid> {
        let mut letters = self.letters();
        if letters.closed {
            return Err(Unsaid::Gone);
        }
        match &word {
            Word::Ready(frame) => {
                if frame.len() > limits.bytes {
                    return Err(refused("too_large", Unsaid::TooLarge));
                }
                if letters.words.len() >= limits.frames || letters.bytes.saturating_add(frame.len()) > limits.bytes {
                    return Err(refused("full", Unsaid::Full));
                }
                if !limits.take(frame.len()) {
                    return Err(refused("total", Unsaid::Full));
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
    pub(super) fn take(&self, limits: &MailLimits) -> Option<Word> {
        let mut letters = self.letters();
        let word = letters.words.pop_front()?;
        if let Word::Ready(frame) = &word {
            letters.bytes -= frame.len();
            limits.give_back(frame.len());
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
    pub(super) fn put_back(&self, frame: Bytes, limits: &MailLimits) {
        let mut letters = self.letters();
        letters.bytes += frame.len();
        // It had its place a moment ago.
        limits.all.bytes.fetch_add(frame.len(), Ordering::Relaxed);
        letters.words.push_front(Word::Ready(frame));
    }

    /// Nothing more is said.
    pub(super) fn close(&self, limits: &MailLimits) {
        let mut letters = self.letters();
        limits.give_back(letters.bytes);
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

fn refused(reason: &'static str, unsaid: Unsaid) -> Unsaid {
    counter!("herald_words_refused_total", "reason" => reason).increment(1);
    unsaid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(text: &'static str) -> Word {
        Word::Ready(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn so_much_waits_and_a_close_always_finds_room() {
        let (mail, limits) = (Mail::new(), MailLimits::new(2, 10, 100));
        assert_eq!(mail.put(ready("12345678901"), &limits), Err(Unsaid::TooLarge));
        assert_eq!(mail.put(ready("12345678"), &limits), Ok(()));
        assert_eq!(mail.put(ready("123"), &limits), Err(Unsaid::Full), "bytes");
        assert_eq!(mail.put(ready("12"), &limits), Ok(()));
        assert_eq!(mail.put(ready(""), &limits), Err(Unsaid::Full), "frames");
        assert_eq!(mail.put(Word::Close(Close::GoingAway), &limits), Ok(()));
        assert_eq!(mail.put(Word::Close(Close::TooLarge), &limits), Err(Unsaid::Gone), "the first word counts");
        assert_eq!(mail.take(&limits), Some(ready("12345678")));
        mail.put_back(Bytes::from_static(b"12345678"), &limits);
        let all: Vec<_> = std::iter::from_fn(|| mail.take(&limits)).collect();
        assert_eq!(all, [ready("12345678"), ready("12"), Word::Close(Close::GoingAway)]);
        assert_eq!((mail.letters().bytes, limits.all.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn for_all_together_so_much_waits_whoever_reads_nothing() {
        let limits = MailLimits::new(2, 10, 15);
        let (one, two) = (Mail::new(), Mail::new());
        assert_eq!(one.put(ready("1234567890"), &limits), Ok(()));
        assert_eq!(two.put(ready("123456"), &limits.clone()), Err(Unsaid::Full));
        assert_eq!(two.put(ready("12345"), &limits), Ok(()));
        assert_eq!(two.put(Word::Close(Close::GoingAway), &limits), Ok(()), "there is always room for that");
        one.close(&limits);
        assert_eq!(limits.all.bytes.load(Ordering::Relaxed), 5, "what is not said any more");
        two.close(&limits);
        two.close(&limits);
        assert_eq!(limits.all.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn to_who_is_gone_nothing_is_said() {
        let (mail, limits) = (Mail::new(), MailLimits::new(2, 10, 100));
        mail.put(ready("1"), &limits).unwrap();
        mail.close(&limits);
        assert_eq!((mail.put(ready("1"), &limits), mail.take(&limits)), (Err(Unsaid::Gone), None));
    }

    #[tokio::test]
    async fn the_bell_rings_for_what_came_before_it_was_listened_to() {
        let mail = Mail::new();
        mail.put(ready("1"), &MailLimits::new(2, 10, 100)).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), mail.rung()).await.unwrap();
    }
}
