//! Waits with a bound.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const PACE: Duration = Duration::from_millis(10);

/// Runs a whole test with a time limit. When it is over, the test's future is dropped, with everything it started, and the
/// panic makes processes print their logs.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// let answer = herald_testkit::within(Duration::from_secs(5), async { 42 }).await;
/// assert_eq!(answer, 42);
/// # });
/// ```
///
/// # Panics
/// If the future is not done within `limit`.
pub async fn within<T>(limit: Duration, test: impl Future<Output = T>) -> T {
    let mut test = Box::pin(test);
    tokio::select! {
        biased;
        result = &mut test => result,
        // The future lives while the panic unwinds: what is dropped with it sees the failure.
        () = tokio::time::sleep(limit) => panic!("the test was not done within {limit:?}"),
    }
}

/// Looks at a condition until it holds: `Ok` ends the wait with a value, `Err` is the status to show if the time is over.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// let mut looks = 0;
/// let enough = herald_testkit::eventually("three looks", Duration::from_secs(5), async || {
///     looks += 1;
///     if looks >= 3 { Ok(looks) } else { Err(looks) }
/// })
/// .await;
/// assert_eq!(enough, 3);
/// # });
/// ```
///
/// # Panics
/// If it does not hold within `bound`, with `what` and the last status.
pub async fn eventually<T, S: Debug>(what: &str, bound: Duration, mut look: impl AsyncFnMut() -> Result<T, S>) -> T {
    let begun = Instant::now();
    let mut last = None;
    loop {
        let left = bound.saturating_sub(begun.elapsed());
        // A look that hangs must not outlive the bound; the first one gets its chance even with a bound of zero.
        match tokio::time::timeout(left.max(PACE), look()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(status)) => last = Some(status),
            Err(_) => panic!("{what}: not within {bound:?}; the last look did not end, the status before: {last:?}"),
        }
        assert!(begun.elapsed() < bound, "{what}: not within {bound:?}; last status: {last:?}");
        tokio::time::sleep(PACE).await;
    }
}

/// As [`eventually`], for those who go on without it.
///
/// # Errors
/// The last status, if the condition does not hold within `bound`.
pub(crate) async fn until(
    bound: Duration,
    pace: Duration,
    mut look: impl AsyncFnMut() -> Result<(), String>,
) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let left = bound.saturating_sub(begun.elapsed());
        let status = match tokio::time::timeout(left.max(PACE), look()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) => status,
            Err(_) => "the last look did not end".to_owned(),
        };
        if begun.elapsed() >= bound {
            return Err(format!("not within {bound:?}: {status}"));
        }
        tokio::time::sleep(pace).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "the test was not done within 20ms")]
    async fn a_test_over_its_limit_fails() {
        within(Duration::from_millis(20), std::future::pending::<()>()).await;
    }

    #[tokio::test]
    #[should_panic(expected = "the door: not within 30ms; last status: Some(\"closed\")")]
    async fn a_wait_over_its_bound_shows_the_last_status() {
        eventually("the door", Duration::from_millis(30), async || Err::<(), _>("closed")).await;
    }

    #[tokio::test]
    #[should_panic(expected = "the last look did not end")]
    async fn a_look_that_hangs_ends_with_the_bound() {
        eventually("the door", Duration::from_millis(30), async || std::future::pending::<Result<(), ()>>().await)
            .await;
    }

    #[tokio::test]
    async fn what_a_failing_test_owns_sees_the_failure() {
        struct Witness(std::sync::mpsc::Sender<bool>);
        impl Drop for Witness {
            fn drop(&mut self) {
                self.0.send(std::thread::panicking()).unwrap();
            }
        }
        let (sender, seen) = std::sync::mpsc::channel();
        let witness = Witness(sender);
        let test = tokio::spawn(within(Duration::from_millis(20), async move {
            let _witness = witness;
            std::future::pending::<()>().await;
        }));
        assert!(test.await.unwrap_err().is_panic());
        assert_eq!(seen.recv(), Ok(true));
    }
}
