//! What can be wrong with the configuration.

use std::time::Duration;

use herald_runtime::{
    config::{Fault, ServiceConfig},
    jetstream::BATCH_MAX,
};

use super::{BatchPolicy, Config};
use crate::{publisher::BATCH_ON_ONE_NODE, redact::Redaction, streams};

/// The longest time for running actions at a shutdown, which may take 25 s in all.
const LONGEST_DRAIN: Duration = Duration::from_secs(20);

impl ServiceConfig for Config {
    const SERVICE: &'static str = "gm-bridge";
    const OPERATIONS_PORT: u16 = 9101;
    const ALIASES: &'static [(&'static str, &'static str)] = &[("GM_BASE_URL", "gm.base_urls")];

    fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.gm.base_urls.is_empty() {
            faults.push(Fault::new("gm.base_urls", "at least one Game Master is needed"));
        }
        for (index, url) in self.gm.base_urls.iter().enumerate() {
            let usable = reqwest::Url::parse(url).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.query().is_none()
                    && url.fragment().is_none()
            });
            if !usable {
                let message = format!("number {}: expected http://HOST[:PORT] without query", index + 1);
                faults.push(Fault::new("gm.base_urls", message));
            }
            if self.gm.base_urls[..index].iter().any(|other| other.trim_end_matches('/') == url.trim_end_matches('/')) {
                faults.push(Fault::new("gm.base_urls", format!("number {} stands there twice", index + 1)));
            }
        }
        for entry in &self.redact {
            if let Err(error) = entry.parse::<Redaction>() {
                faults.push(Fault::new("redact", format!("'{entry}': {error}")));
            }
        }
        if self.action.lapse.get() < self.action.renew.get() * 2 {
            faults.push(Fault::new("action.lapse", "must be at least twice action.renew"));
        }
        // Its servers remember ids for no longer than messages.
        let remembered = streams::events(&self.stream).duplicate_window.min(self.stream.max_age.get());
        if self.action.resend.get() >= remembered {
            let message = "must be less than the time for which ids are remembered: 2m, or stream.max_age";
            faults.push(Fault::new("action.resend", message));
        }
        if !(1..=BATCH_MAX).contains(&self.action.batch_events) {
            faults
                .push(Fault::new("action.batch_events", format!("must be 1 to {BATCH_MAX}, which is what NATS takes")));
        }
        if self.action.batch == BatchPolicy::Always && self.action.batch_events < BATCH_ON_ONE_NODE {
            faults.push(Fault::new(
                "action.batch_events",
                format!(
                    "must be at least {BATCH_ON_ONE_NODE} where action.batch is always: fewer go singly on one node"
                ),
            ));
        }
        if self.action.drain.get() > LONGEST_DRAIN {
            faults.push(Fault::new(
                "action.drain",
                "must be at most 20s: last words have to fit into the shutdown's 25s",
            ));
        }
        if self.arena.waiting_timeout.get() + self.arena.settle.get() >= self.arena.news_timeout.get() {
            faults.push(Fault::new("arena.news_timeout", "must be longer than arena.waiting_timeout and arena.settle"));
        }
        let positive = [
            ("gm.request_timeout", self.gm.request_timeout),
            ("gm.connect_timeout", self.gm.connect_timeout),
            ("gm.probe_timeout", self.gm.probe_timeout),
            ("gm.silence", self.gm.silence),
            ("gm.heartbeat_silence", self.gm.heartbeat_silence),
            ("gm.claim_wait", self.gm.claim_wait),
            ("gm.start_wait", self.gm.start_wait),
            ("gm.watching_timeout", self.gm.watching_timeout),
            ("gm.edge_forgotten", self.gm.edge_forgotten),
            ("action.renew", self.action.renew),
            ("action.publish_wait", self.action.publish_wait),
            ("action.claim_wait", self.action.claim_wait),
            ("stream.max_age", self.stream.max_age),
            ("stream.session_age", self.stream.session_age),
        ];
        faults.extend(
            positive
                .iter()
                .filter(|(_, value)| value.get().is_zero())
                .map(|(key, _)| Fault::new(*key, "must not be zero")),
        );
        if self.action.max_news.as_u64() == 0 {
            faults.push(Fault::new("action.max_news", "must not be zero"));
        }
        for (key, most) in
            [("http.max_requests", self.http.max_requests), ("action.max_running", self.action.max_running)]
        {
            if most == 0 {
                faults.push(Fault::new(key, "must not be zero"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use herald_runtime::config::HumanDuration;

    use super::*;
    use crate::config::ActionPolicy;

    #[test]
    fn the_defaults_are_without_fault() {
        assert_eq!(Config::default().validate(), []);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let mut config = Config::default();
        config.gm.base_urls = ["ftp://x", "http://a", "http://a/", "nonsense"].map(str::to_owned).to_vec();
        config.redact = vec!["proposal".to_owned()];
        config.action.lapse = HumanDuration::from_secs(1);
        config.action.drain = HumanDuration::from_secs(21);
        let keys: Vec<String> = config.validate().into_iter().map(|fault| fault.key).collect();
        let urls = ["gm.base_urls"; 3];
        assert_eq!(keys, [&urls[..], &["redact", "action.lapse", "action.drain"]].concat());
    }

    #[test]
    fn an_event_is_sent_again_only_while_its_id_is_remembered() {
        let faults = |resend, max_age| {
            let mut config = Config::default();
            config.action.resend = HumanDuration::from_secs(resend);
            config.stream.max_age = HumanDuration::from_secs(max_age);
            config.validate().into_iter().map(|fault| fault.key).collect::<Vec<_>>()
        };
        assert_eq!(faults(119, 86_400), [""; 0]);
        assert_eq!(faults(120, 86_400), ["action.resend"]);
        assert_eq!(faults(90, 91), [""; 0]);
        assert_eq!(faults(90, 90), ["action.resend"]);
    }

    #[test]
    fn a_bridge_that_could_do_nothing_is_at_fault() {
        let mut config = Config::default();
        (config.http.max_requests, config.action.max_running, config.action.batch_events) = (0, 0, 0);
        config.action.claim_wait = HumanDuration::from_secs(0);
        let keys: Vec<String> = config.validate().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["action.batch_events", "action.claim_wait", "http.max_requests", "action.max_running"]);
    }

    #[test]
    fn batches_that_would_never_be_sent_are_refused() {
        let faults = |batch, batch_events| {
            let mut config = Config::default();
            (config.action.batch, config.action.batch_events) = (batch, batch_events);
            config.validate().into_iter().map(|fault| fault.key).collect::<Vec<_>>()
        };
        assert_eq!(faults(BatchPolicy::Always, BATCH_ON_ONE_NODE - 1), ["action.batch_events"]);
        assert_eq!(faults(BatchPolicy::Always, BATCH_ON_ONE_NODE), [""; 0]);
        assert_eq!(faults(BatchPolicy::Auto, 2), [""; 0]);
    }

    #[test]
    fn actions_queue_on_the_app_door_unless_told_otherwise() {
        let mut config = Config::default();
        assert_eq!((config.policy("event"), config.policy("app")), (ActionPolicy::Cancel, ActionPolicy::Queue));
        config.action_policy = Some(ActionPolicy::Cancel);
        assert_eq!(config.policy("app"), ActionPolicy::Cancel);
    }
}
