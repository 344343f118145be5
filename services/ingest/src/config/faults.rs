//! What can be wrong with the configuration.

use std::{collections::BTreeSet, time::Duration};

use herald_protocol::Name;
use herald_runtime::{
    config::{Fault, ServiceConfig},
    jetstream::BATCH_MAX,
};

use super::{Config, KeyConfig};
use crate::auth::{SHORTEST_SECRET, Scope};

/// One message of a batch says under which key the others are stored.
const MOST_EVENTS: usize = BATCH_MAX - 1;
/// So many batches NATS has open at once on one stream.
const MOST_BATCHES: usize = 50;
/// An answer has to leave before the process ends, which takes 25 s at most, of which requests get 20.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

impl ServiceConfig for Config {
    const SERVICE: &'static str = "ingest";
    const OPERATIONS_PORT: u16 = 9102;

    fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        for (at, key) in self.keys.iter().enumerate() {
            let mut fault =
                |field: &str, message: String| faults.push(Fault::new(format!("keys[{at}].{field}"), message));
            if let Err(error) = Name::new(&key.name) {
                fault("name", error.to_string());
            } else if !names.insert(&key.name) {
                fault("name", format!("`{}` is another key's name too", key.name));
            }
            check_secret(key, &mut fault);
            if key.sessions.is_empty() {
                fault("sessions", "must name a session, a beginning such as quiz-*, or * for all".to_owned());
            }
            for text in &key.sessions {
                if let Err(error) = text.parse::<Scope>() {
                    fault("sessions", format!("`{text}`: {error}"));
                }
            }
        }
        let mut check = |key: &str, bad: bool, message: String| {
            if bad {
                faults.push(Fault::new(key, message));
            }
        };
        let zero = || "must not be zero".to_owned();
        check("http.max_body", self.http.max_body.as_u64() == 0, zero());
        check("http.max_requests", self.http.max_requests == 0, zero());
        let events = self.limits.max_events;
        check("limits.max_events", !(1..=MOST_EVENTS).contains(&events), format!("must be 1 to {MOST_EVENTS}"));
        check("limits.max_event", self.limits.max_event.as_u64() == 0, zero());
        check("limits.max_depth", self.limits.max_depth == 0, zero());
        let wait = self.publish.wait.get();
        check(
            "publish.wait",
            wait.is_zero() || wait > LONGEST_WAIT,
            "must be longer than zero, and at most 20s".to_owned(),
        );
        let batches = self.publish.max_batches;
        check("publish.max_batches", !(1..=MOST_BATCHES).contains(&batches), format!("must be 1 to {MOST_BATCHES}"));
        let window = self.idempotency.window.get();
        let bad = window.is_zero() || window.subsec_nanos() != 0;
        check("idempotency.window", bad, "must be whole seconds, one at least".to_owned());
        let age = self.stream.max_age.get();
        check("stream.max_age", age.is_zero(), zero());
        let long = !age.is_zero() && window > age;
        check("idempotency.window", long, "must not be longer than stream.max_age".to_owned());
        faults
    }
}

fn check_secret(key: &KeyConfig, fault: &mut impl FnMut(&str, String)) {
    let length = key.secret.expose().len();
    match (&key.secret_file, length) {
        (Some(_), 1..) => fault("secret", "stands beside secret_file: one of them, not both".to_owned()),
        (Some(file), 0) => {
            if let Err(error) = std::fs::File::open(file) {
                fault("secret_file", format!("can't be read: {}", error.kind()));
            }
        }
        (None, 0) => fault("secret", "is missing, and secret_file too".to_owned()),
        (None, ..SHORTEST_SECRET) => fault("secret", format!("must have {SHORTEST_SECRET} bytes at least")),
        (None, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use herald_runtime::config::{HumanDuration, Secret};

    use super::*;
    use crate::config::Auth;

    fn key(name: &str, secret: &str, sessions: &[&str]) -> KeyConfig {
        KeyConfig {
            name: name.to_owned(),
            secret: Secret::from(secret.to_owned()),
            secret_file: None,
            sessions: sessions.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    fn keys_at_fault(config: &Config) -> Vec<String> {
        config.validate().into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn the_defaults_are_without_fault() {
        assert_eq!(Config::default().validate(), []);
    }

    #[test]
    fn all_faults_are_told_at_once_and_none_shows_a_secret() {
        let keys = vec![
            key("quiz", "0123456789abcdef", &["quiz-*", "s1"]),
            key("quiz", "short-secret", &[]),
            key("No", "", &["a*b", "a.b"]),
            KeyConfig { secret_file: Some("/no/such/file".into()), ..key("file", "", &["*"]) },
        ];
        let mut config = Config { keys, ..Config::default() };
        (config.limits.max_events, config.publish.max_batches, config.http.max_requests) = (1000, 51, 0);
        config.publish.wait = HumanDuration::from_secs(21);
        config.idempotency.window = HumanDuration::from_millis(1500);
        let expected = [
            "keys[1].name",
            "keys[1].secret",
            "keys[1].sessions",
            "keys[2].name",
            "keys[2].secret",
            "keys[2].sessions",
            "keys[2].sessions",
            "keys[3].secret_file",
            "http.max_requests",
            "limits.max_events",
            "publish.wait",
            "publish.max_batches",
            "idempotency.window",
        ];
        assert_eq!(keys_at_fault(&config), expected);
        assert!(!format!("{:?} {config:?}", config.validate()).contains("short-secret"));
        config = Config::default();
        config.idempotency.window = HumanDuration::from_secs(8 * 86_400);
        assert_eq!(keys_at_fault(&config), ["idempotency.window"]);
    }

    #[test]
    fn a_key_closes_the_door_unless_told_otherwise() {
        assert!(!Config::default().needs_key());
        let keys = vec![key("quiz", "0123456789abcdef", &["*"])];
        let mut config = Config { keys, ..Config::default() };
        assert!(config.needs_key());
        config.auth = Some(Auth::Off);
        assert!(!config.needs_key());
        config = Config { auth: Some(Auth::Required), ..Config::default() };
        assert!(config.needs_key());
    }
}
