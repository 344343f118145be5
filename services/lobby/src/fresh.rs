//! Reading what must be newer than the question, without reading it once for each question.

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Semaphore;

/// The last result of a reading that many want at once. Whoever asks gets what was read by a reading that began after it had
/// asked: one of its own, or one that somebody else began meanwhile.
#[derive(Debug)]
pub(crate) struct Fresh<T> {
    /// Readings begun so far.
    begun: AtomicU64,
    /// The number of the last reading that brought something, and what.
    last: Mutex<(u64, Option<T>)>,
    /// One reading at a time.
    turn: Semaphore,
}

impl<T: Clone> Fresh<T> {
    pub(crate) fn new() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::new((0, None)), turn: Semaphore::new(1) }
    }

    /// What is there now. Safe to cancel: whoever comes next reads.
    pub(crate) async fn get<E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let asked = self.begun.load(Ordering::SeqCst);
        // The semaphore is never closed; without a turn everybody would read for themselves.
        let _turn = self.turn.acquire().await;
        {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.0 > asked
                && let Some(value) = &last.1
            {
                return Ok(value.clone());
            }
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let value = read.await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (number, Some(value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_share_a_reading_that_began_after_they_asked() {
        let (fresh, reads, gate) = (Arc::new(Fresh::new()), Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (fresh, reads, gate) = (fresh.clone(), reads.clone(), gate.clone());
            tokio::spawn(async move {
                let read = async {
                    let number = reads.fetch_add(1, Ordering::SeqCst) + 1;
                    gate.notified().await;
                    Ok::<_, Infallible>(number)
                };
                fresh.get(read).await.unwrap()
            })
        };
        let first = ask();
        while reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // These ask while the first reading is under way: it may be too old for them.
        let others: Vec<_> = (0..10).map(|_| ask()).collect();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        assert_eq!(first.await.unwrap(), 1);
        gate.notify_one();
        for other in others {
            assert_eq!(other.await.unwrap(), 2);
        }
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_reading_that_failed_is_nobodys() {
        let fresh = Fresh::<u64>::new();
        assert_eq!(fresh.get(async { Err("away") }).await, Err("away"));
        assert_eq!(fresh.get(async { Ok::<_, &str>(7) }).await, Ok(7));
    }
}
