//! What can be wrong with the configuration.

use std::time::Duration;

use herald_runtime::config::{Fault, ServiceConfig};

use super::Config;

/// What the size of a record, and the largest message of the server, bound.
const MOST_PLAYERS: usize = 4096;
/// An answer has to leave before the process ends, which takes 25 s at most, of which requests get 20.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

impl ServiceConfig for Config {
    const SERVICE: &'static str = "lobby";
    const OPERATIONS_PORT: u16 = 9103;
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("LOBBY_MAX_SESSIONS", "max_sessions"),
        ("LOBBY_MAX_PLAYERS", "max_players"),
        ("LOBBY_SESSION_TTL_H", "session_ttl_h"),
        ("LOBBY_ADMIN_TOKEN", "admin_token"),
        ("LOBBY_REFERENCE_DIR", "reference_dir"),
    ];

    fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |key: &str, bad: bool, message: &str| {
            if bad {
                faults.push(Fault::new(key, message.to_owned()));
            }
        };
        let zero = "must not be zero";
        check("max_sessions", self.max_sessions == 0, zero);
        check("max_players", !(1..=MOST_PLAYERS).contains(&self.max_players), "must be 1 to 4096");
        check("http.max_body", self.http.max_body.as_u64() == 0, zero);
        check("http.max_requests", self.http.max_requests == 0, zero);
        let wait = self.commit.wait.get();
        check("commit.wait", wait.is_zero() || wait > LONGEST_WAIT, "must be longer than zero, and at most 15s");
        check("commit.max_waiting", self.commit.max_waiting == 0, zero);
        check("commit.max_sessions", self.commit.max_sessions == 0, zero);
        check("sweep.every", self.sweep.every.get() < Duration::from_millis(100), "must be 100ms at least");
        check("stream.max_age", self.stream.max_age.get().is_zero(), zero);
        check("buckets.max_bytes", self.buckets.max_bytes.as_u64() == 0, zero);
        faults
    }
}

#[cfg(test)]
mod tests {
    use herald_runtime::config::HumanDuration;

    use super::*;

    #[test]
    fn the_defaults_are_without_fault_and_all_faults_are_told_at_once() {
        assert_eq!(Config::default().validate(), []);
        let mut config = Config { max_sessions: 0, max_players: 5000, ..Config::default() };
        config.commit.wait = HumanDuration::from_secs(16);
        config.sweep.every = HumanDuration::from_millis(1);
        let keys: Vec<_> = config.validate().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["max_sessions", "max_players", "commit.wait", "sweep.every"]);
    }
}
