//! A body, cut into parts that fit into messages.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: Bytes,
    pub(super) last: bool,
}

/// Why a body has no next part.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    #[error("the body is larger than the limit")]
    TooLarge,
    #[error("the body broke off")]
    Broken(#[source] axum::Error),
}

/// Reads a body part by part.
pub(super) struct Parts {
    body: Body,
    /// Small frames, gathered.
    held: BytesMut,
    /// The rest of the latest frame, behind `held`: a large one is cut, never copied.
    frame: Bytes,
    size: usize,
    left: u64,
    ended: bool,
}

impl Parts {
    /// Parts of at most `size` bytes, of a body of at most `limit`.
    pub(super) fn new(body: Body, size: usize, limit: u64) -> Self {
        Self { body, held: BytesMut::new(), frame: Bytes::new(), size, left: limit, ended: false }
    }

    /// Whether the body says itself that it is larger than `limit`.
    pub(super) fn declares_more_than(body: &Body, limit: u64) -> bool {
        body.size_hint().lower() > limit
    }

    /// The next part: full, or the last one, or what there is when the body makes a pause. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Part, PartError> {
        poll_fn(|cx| self.poll_next(cx, false)).await
    }

    /// As [`Parts::next`], but nothing at all counts as a part too: the head of a response never waits for its body.
    pub(super) async fn first(&mut self) -> Result<Part, PartError> {
        poll_fn(|cx| self.poll_next(cx, true)).await
    }

    /// The next part, full or the last one: pauses are waited out. Safe to cancel.
    pub(super) async fn next_full(&mut self) -> Result<Part, PartError> {
        poll_fn(|cx| {
            while !self.ended && self.available() <= self.size {
                ready!(self.poll_fill(cx))?;
            }
            Poll::Ready(Ok(self.take()))
        })
        .await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, may_be_empty: bool) -> Poll<Result<Part, PartError>> {
        // One byte more than a part: only then it is known that a full part is not the last one.
        while !self.ended && self.available() <= self.size {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if may_be_empty || self.available() > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(self.take()))
    }

    fn available(&self) -> usize {
        self.held.len() + self.frame.len()
    }

    fn take(&mut self) -> Part {
        let from_frame = self.frame.len().min(self.size.saturating_sub(self.held.len()));
        let cut = self.frame.split_to(from_frame);
        let bytes = if self.held.is_empty() {
            cut
        } else {
            self.held.extend_from_slice(&cut);
            self.held.split().freeze()
        };
        Part { bytes, last: self.ended && self.available() == 0 }
    }

    /// One more frame of the body.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PartError>> {
        if self.body.is_end_stream() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => self.ended = true,
            Some(Err(error)) => return Poll::Ready(Err(PartError::Broken(error))),
            Some(Ok(frame)) => {
                // Trailers do not travel.
                let Ok(data) = frame.into_data() else { return Poll::Ready(Ok(())) };
                let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
                self.left = self.left.checked_sub(size).ok_or(PartError::TooLarge)?;
                let before = std::mem::replace(&mut self.frame, data);
                self.held.extend_from_slice(&before);
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use futures_util::{StreamExt, stream};
    use proptest::prelude::*;

    use super::*;

    fn frames(frames: Vec<Vec<u8>>) -> Body {
        Body::from_stream(stream::iter(frames.into_iter().map(|frame| Ok::<_, Infallible>(Bytes::from(frame)))))
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    async fn all(mut parts: Parts) -> Result<Vec<Part>, PartError> {
        let mut read = Vec::new();
        loop {
            let part = parts.next().await?;
            let last = part.last;
            read.push(part);
            if last {
                return Ok(read);
            }
        }
    }

    proptest! {
        #[test]
        fn parts_are_full_but_the_last_and_hold_the_body(
            body in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12), size in 1usize..50
        ) {
            let whole = body.concat();
            let read = block_on(all(Parts::new(frames(body), size, 10_000))).unwrap();
            let count = read.len();
            prop_assert!(read[..count - 1].iter().all(|part| part.bytes.len() == size && !part.last));
            prop_assert!(count == 1 || !read[count - 1].bytes.is_empty());
            let joined: Vec<u8> = read.iter().flat_map(|part| part.bytes.to_vec()).collect();
            prop_assert_eq!(joined, whole);
        }

        #[test]
        fn a_body_beyond_the_limit_is_refused(size in 0u64..100, limit in 0u64..100) {
            let body = frames(vec![vec![0; size as usize / 2], vec![0; (size - size / 2) as usize]]);
            let refused = matches!(block_on(all(Parts::new(body, 7, limit))), Err(PartError::TooLarge));
            prop_assert_eq!(refused, size > limit);
        }
    }

    #[test]
    fn a_pause_ends_a_part_and_never_delays_the_head() {
        block_on(async {
            let (frames, source) = tokio::sync::mpsc::channel::<Result<Bytes, Infallible>>(4);
            let source = stream::unfold(source, async |mut source| source.recv().await.map(|frame| (frame, source)));
            let mut parts = Parts::new(Body::from_stream(source.boxed()), 10, 100);
            assert_eq!(parts.first().await.unwrap(), Part { bytes: Bytes::new(), last: false });
            frames.send(Ok("abc".into())).await.unwrap();
            assert_eq!(parts.next().await.unwrap(), Part { bytes: "abc".into(), last: false });
            let waiting = tokio::time::timeout(Duration::from_millis(20), parts.next_full());
            assert!(waiting.await.is_err(), "nothing there");
            frames.send(Ok("de".into())).await.unwrap();
            frames.send(Ok("f".into())).await.unwrap();
            drop(frames);
            assert_eq!(parts.next_full().await.unwrap(), Part { bytes: "def".into(), last: true });
        });
    }
}
