//! One read for everybody who asks the same at the same time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

type Reading<V> = BoxFuture<'static, V>;

/// The reads under way, by question. A read lives as long as somebody waits for it: it goes on when the one who began it
/// leaves, and ends with the last.
#[derive(Debug)]
pub(crate) struct Flights<K, V: Clone> {
    under_way: Mutex<HashMap<K, WeakShared<Reading<V>>>>,
    /// The metric that counts those who share one.
    shared: &'static str,
}

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    /// None yet; `shared` is the metric that counts those who share one.
    pub(crate) fn new(shared: &'static str) -> Self {
        Self { under_way: Mutex::new(HashMap::new()), shared }
    }

    /// Waits for the answer to `question`: of the read under way, or of the one `begin` makes. Safe to cancel.
    pub(crate) async fn join(&self, question: K, begin: impl FnOnce() -> Reading<V>) -> V {
        // Declared before the read, dropped behind it: then it sees whether anybody is left.
        let _landing = Landing { flights: self, question: question.clone() };
        let reading = self.board(question, begin);
        reading.await
    }

    fn board(&self, question: K, begin: impl FnOnce() -> Reading<V>) -> Shared<Reading<V>> {
        let mut under_way = self.lock();
        if let Some(reading) = under_way.get(&question).and_then(WeakShared::upgrade) {
            metrics::counter!(self.shared).increment(1);
            return reading;
        }
        let reading = begin().shared();
        if let Some(weak) = reading.downgrade() {
            under_way.insert(question, weak);
        }
        reading
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, WeakShared<Reading<V>>>> {
        // Nothing that can panic runs under the lock.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the read when it is over or nobody waits for it any more.
struct Landing<'a, K: Clone + Eq + Hash, V: Clone> {
    flights: &'a Flights<K, V>,
    question: K,
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        let mut under_way = self.flights.lock();
        let reading = under_way.get(&self.question).map(WeakShared::upgrade);
        if let Some(reading) = reading
            && reading.as_ref().is_none_or(|reading| reading.peek().is_some())
        {
            under_way.remove(&self.question);
        }
        // Outside the lock: what this drops may be the read itself.
        drop(under_way);
    }
}

/// One read after another, each for everybody who asked before it began: an answer is never older than its question.
#[derive(Debug)]
pub(super) struct Waves<V: Clone> {
    last: Mutex<Option<Wave<V>>>,
}

#[derive(Debug)]
struct Wave<V: Clone> {
    begun: Arc<AtomicBool>,
    reading: WeakShared<Reading<V>>,
}

impl<V: Clone + Send + Sync + 'static> Waves<V> {
    pub(super) const fn new() -> Self {
        Self { last: Mutex::new(None) }
    }

    /// Waits for the answer of a read that begins from now on: `read`, unless one already waits to begin. Safe to cancel.
    pub(super) async fn join(&self, read: Reading<V>) -> V {
        let reading = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let (begun, before) = match &*last {
                Some(wave) => (wave.begun.load(Ordering::Acquire), wave.reading.upgrade()),
                None => (true, None),
            };
            match before {
                Some(waiting) if !begun => waiting,
                before => {
                    let begun = Arc::new(AtomicBool::new(false));
                    let begins = begun.clone();
                    let reading = async move {
                        if let Some(before) = before {
                            before.await;
                        }
                        begins.store(true, Ordering::Release);
                        read.await
                    };
                    let reading = reading.boxed().shared();
                    *last = reading.downgrade().map(|reading| Wave { begun, reading });
                    reading
                }
            }
        };
        reading.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::watch;

    use super::*;

    /// Begins reads that end when told to, and counts them.
    #[derive(Clone)]
    struct Reads {
        begun: Arc<AtomicU32>,
        end: watch::Sender<bool>,
    }

    impl Reads {
        fn new() -> Self {
            Self { begun: Arc::default(), end: watch::Sender::new(false) }
        }

        fn begin(&self) -> Reading<u32> {
            let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
            let mut end = self.end.subscribe();
            async move {
                end.wait_for(|end| *end).await.unwrap();
                number
            }
            .boxed()
        }

        fn begin_later(&self) -> Reading<u32> {
            let reads = self.clone();
            async move { reads.begin().await }.boxed()
        }
    }

    #[tokio::test]
    async fn equal_questions_share_one_read() {
        let (flights, reads) = (Flights::new("shared"), Reads::new());
        let ask = |question| flights.join(question, || reads.begin());
        let end = async {
            reads.end.send_replace(true);
        };
        let (a, b, other, ()) = tokio::join!(ask(1), ask(1), ask(2), end);
        assert_eq!((a, b, other), (1, 1, 2));
        assert!(flights.lock().is_empty(), "nothing is kept");
        assert_eq!(ask(1).await, 3, "an answer is not kept for later questions");
    }

    #[tokio::test]
    async fn no_answer_is_older_than_its_question() {
        let (waves, reads) = (Waves::new(), Reads::new());
        let ask = || Box::pin(waves.join(reads.begin_later()));
        let mut first = ask();
        assert!(futures_util::poll!(&mut first).is_pending());
        let (mut second, mut third) = (ask(), ask());
        assert!(futures_util::poll!(&mut second).is_pending() && futures_util::poll!(&mut third).is_pending());
        assert_eq!(reads.begun.load(Ordering::Relaxed), 1, "the next one waits for its turn");
        drop(first);
        reads.end.send_replace(true);
        assert_eq!((third.await, second.await), (2, 2), "who asked meanwhile shares it");
        assert_eq!(ask().await, 3);
    }

    #[tokio::test]
    async fn a_read_outlives_the_one_who_began_it() {
        let (flights, reads) = (Flights::new("shared"), Reads::new());
        let mut first = Box::pin(flights.join(1, || reads.begin()));
        let mut second = Box::pin(flights.join(1, || reads.begin()));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        drop(first);
        reads.end.send_replace(true);
        assert_eq!(second.await, 1);
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_read_nobody_waits_for_is_dropped_and_forgotten() {
        let (flights, reads) = (Flights::new("shared"), Reads::new());
        let mut only = Box::pin(flights.join(1, || reads.begin()));
        assert!(futures_util::poll!(&mut only).is_pending());
        assert_eq!(reads.end.receiver_count(), 1);
        drop(only);
        assert_eq!(reads.end.receiver_count(), 0, "the read is gone");
        assert!(flights.lock().is_empty());
    }
}
