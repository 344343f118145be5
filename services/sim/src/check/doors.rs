//! The public doors, and how long to wait before the next of them is tried.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use herald_protocol::SessionId;
use reqwest::Url;

use super::notes::Start;
use crate::dice::Dice;

/// A first attempt to come back waits so long, by lot: nobody's are at the same moment.
const FIRST: (u32, u32) = (50, 250);
/// No attempt waits longer.
const LONGEST: Duration = Duration::from_secs(2);

/// One door.
#[derive(Debug, Clone)]
pub struct Door {
    /// `http://host:port[/prefix]`.
    base: String,
    /// `host:port`.
    authority: String,
}

impl Door {
    /// The door at a base URL.
    ///
    /// # Errors
    /// If it is no `http` URL.
    pub fn new(url: &str) -> Result<Self> {
        let parsed = Url::parse(url)?;
        ensure!(
            parsed.scheme() == "http" && parsed.has_host() && parsed.query().is_none(),
            "--url: expected http://host:port[/prefix] (TLS ends in front of the door)"
        );
        let (host, port) = (parsed.host_str().unwrap_or_default(), parsed.port_or_known_default().unwrap_or(80));
        Ok(Self { base: url.trim_end_matches('/').to_owned(), authority: format!("{host}:{port}") })
    }

    /// The URL of a path.
    #[must_use]
    pub fn http(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The URL of a session's socket.
    #[must_use]
    pub fn socket(&self, session: &SessionId, start: Start) -> String {
        let base = self.base.strip_prefix("http").unwrap_or(&self.base);
        format!("ws{base}/ws/{session}{}", query(start))
    }

    /// `host:port`, as it stands in `Host`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its address.
    ///
    /// # Errors
    /// If its name means nothing.
    pub async fn address(&self) -> Result<SocketAddr> {
        tokio::net::lookup_host(&self.authority).await?.next().context("no address")
    }
}

/// Where to start, as a query.
#[must_use]
pub fn query(start: Start) -> String {
    match start {
        Start::Live => String::new(),
        Start::After(position) => format!("?after={position}"),
        Start::Snapshot => "?snapshot=1".to_owned(),
    }
}

/// How long to wait before one comes back: briefly at first, doubling, never long; or as long as one was told.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something was heard: the next failure is a first one.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait before the next attempt.
    pub fn next(&mut self, told: Option<Duration>, dice: &mut Dice) -> Duration {
        let first = Duration::from_millis(dice.roll(FIRST.0..=FIRST.1).into());
        let wait = (first * (1 << self.failures.min(6))).min(LONGEST);
        self.failures += 1;
        // A limit that many reach at once is no reason to come at once again.
        let wait = if wait == LONGEST { LONGEST.mul_f64(0.5 + dice.fraction() / 2.0) } else { wait };
        told.unwrap_or(wait)
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::Position;

    use super::*;

    #[test]
    fn urls_are_made_of_a_base() {
        let door = Door::new("http://127.0.0.1:8000/app/").unwrap();
        let session = SessionId::new("s").unwrap();
        assert_eq!(door.socket(&session, Start::Live), "ws://127.0.0.1:8000/app/ws/s");
        assert_eq!(door.socket(&session, Start::After(Position::Seq(3))), "ws://127.0.0.1:8000/app/ws/s?after=3");
        assert_eq!(door.http("/x"), "http://127.0.0.1:8000/app/x");
        assert_eq!(Door::new("http://localhost").unwrap().authority(), "localhost:80");
        for bad in ["https://h", "h:80", "ws://h", "http://h?x=1", ""] {
            assert!(Door::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn waits_grow_and_stay_short() {
        let (mut backoff, mut dice) = (Backoff::default(), Dice::new(1, "waits"));
        let waits: Vec<_> = (0..20).map(|_| backoff.next(None, &mut dice).as_millis()).collect();
        assert!((50..=250).contains(&waits[0]), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| (1000..=2000).contains(wait)), "{waits:?}");
        assert_eq!(backoff.next(Some(Duration::ZERO), &mut dice), Duration::ZERO);
        backoff.reset();
        assert!(backoff.next(None, &mut dice) <= Duration::from_millis(250));
    }
}
