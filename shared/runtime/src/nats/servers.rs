//! Which server of a cluster to try, and how long to wait before.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_nats::{ReconnectToServer, Server, ServerAddr, ServerInfo};

/// Which server to reconnect to: of those that failed least, one other than the last. The library takes any, and the one that
/// has just gone silent would cost a whole `connect_timeout` again.
pub(super) fn elsewhere()
-> impl Fn(Vec<Server>, ServerInfo) -> std::future::Ready<Option<ReconnectToServer>> + Send + Sync {
    let last: Mutex<Option<ServerAddr>> = Mutex::new(None);
    move |servers, _| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let next = choose(&servers, last.as_ref());
        last.clone_from(&next);
        std::future::ready(next.map(|addr| ReconnectToServer { addr, delay: None }))
    }
}

/// `None` leaves it to the library: it tries all of them, at the first connection and where there is only one.
fn choose(servers: &[Server], last: Option<&ServerAddr>) -> Option<ServerAddr> {
    let connected = servers.iter().find(|server| server.did_connect).map(|server| &server.addr)?;
    let last = last.unwrap_or(connected);
    let others = || servers.iter().filter(|server| server.addr != *last);
    let fewest = others().map(|server| server.failed_attempts).min()?;
    let best: Vec<_> = others().filter(|server| server.failed_attempts == fewest).collect();
    best.get(rand::random_range(0..best.len())).map(|server| server.addr.clone())
}

/// The wait before an attempt, counted from 1: doubled each time, at most `max`, half of it random, so that the many
/// clients of a restarted server don't return at once.
pub(super) fn delay(attempt: usize, min: Duration, max: Duration) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    let whole = min.saturating_mul(1 << doublings).min(max);
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_are_spread() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(2));
        for (attempt, whole) in [(1, 50), (2, 100), (3, 200), (6, 1_600), (7, 2_000), (1_000_000, 2_000)] {
            let whole = Duration::from_millis(whole);
            for _ in 0..100 {
                let delay = delay(attempt, min, max);
                assert!(delay >= whole / 2 && delay <= whole, "attempt {attempt}: {delay:?}");
            }
        }
    }

    #[test]
    fn a_lost_server_is_not_the_next_to_be_tried() {
        let server = |name: &str, failed_attempts, did_connect| Server {
            addr: name.parse().expect("an address"),
            failed_attempts,
            did_connect,
            is_discovered: false,
            last_error: None,
        };
        let chosen = |servers: &[Server], last: Option<&str>| {
            let last = last.map(|last| last.parse().expect("an address"));
            choose(servers, last.as_ref()).map(|addr| addr.host().to_owned())
        };
        let fresh = [server("a", 0, false), server("b", 0, false)];
        assert_eq!(chosen(&fresh, None), None, "the first connection");
        assert_eq!(chosen(&[server("a", 0, true)], None), None, "no other");
        let lost = [server("a", 0, true), server("b", 0, false)];
        assert_eq!(chosen(&lost, None).as_deref(), Some("b"));
        let three = [server("a", 0, true), server("b", 1, false), server("c", 0, true)];
        for _ in 0..20 {
            assert_eq!(chosen(&three, Some("c")).as_deref(), Some("a"), "failed least");
        }
    }
}
