//! Reading a session's past by request, and playing it again.

use herald_runtime::config::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

use super::{RouteConfig, StartConfig};
use crate::view::Delivery;

/// Reading a session's past by request: routes with `transport = "events"` or `"session"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayConfig {
    /// Events of an answer whose request does not say how many. Default 500.
    pub limit: usize,
    /// Events that one answer has at most, however many are asked for. Default 5000.
    pub max_limit: usize,
    /// Bytes of events in one answer; the last one may pass it. Default 1MiB.
    pub max_bytes: ByteSize,
    /// Events that are looked through for one answer, those included that it does not show. Default 20000.
    pub max_events: usize,
    /// Kinds of events that a session's answer counts one by one; the rarest beyond are counted together. Default 1000.
    pub max_types: usize,
    /// Such requests at a time; further ones wait for their turn. Default 8.
    pub max_requests: usize,
    /// Pasts that are played again at a time (`speed`), each with a page of it in memory; further ones are answered 503, or closed
    /// with 1013. Default 500.
    pub max_timed: usize,
    /// How long an answer may take, that wait included; without one it is 503. Default 10s.
    pub timeout: HumanDuration,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            limit: 500,
            max_limit: 5000,
            max_bytes: ByteSize::from_mib(1),
            max_events: 20_000,
            max_types: 1000,
            max_requests: 8,
            max_timed: 500,
            timeout: HumanDuration::from_secs(10),
        }
    }
}

/// What is wrong with it, by its keys.
pub(super) fn faults(replay: &ReplayConfig) -> Vec<(&'static str, &'static str)> {
    let mut faults = Vec::new();
    for (key, zero) in [
        ("replay.limit", replay.limit == 0),
        ("replay.max_limit", replay.max_limit == 0),
        ("replay.max_bytes", replay.max_bytes.as_u64() == 0),
        ("replay.max_events", replay.max_events == 0),
        ("replay.max_types", replay.max_types == 0),
        ("replay.max_requests", replay.max_requests == 0),
        ("replay.max_timed", replay.max_timed == 0),
        ("replay.timeout", replay.timeout.get().is_zero()),
    ] {
        faults.extend(zero.then_some((key, "must be greater than zero")));
    }
    if replay.limit > replay.max_limit {
        faults.push(("replay.limit", "must be at most replay.max_limit"));
    }
    faults
}

impl RouteConfig {
    /// Whether the past is played again on it: not where connections move from session to session, get the newest alone, or are
    /// closed behind an event.
    pub(crate) fn plays(&self) -> bool {
        let whole = self.delivery == Delivery::All && self.close_on.is_empty();
        self.transport.is_live() && self.alias.is_none() && whole
    }
}

/// What is wrong with a route by which the past is read.
pub(super) fn faults_of_route(route: &RouteConfig) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if route.transport.is_live() {
        return faults;
    }
    let mut fault = |key, wrong: bool| {
        faults.extend(wrong.then(|| (key, "is for routes that show what happens: `socket` and `sse`".to_owned())));
    };
    fault("alias", route.alias.is_some());
    fault("snapshot", !route.snapshot.is_empty());
    fault("start", route.start != StartConfig::Live);
    fault("uplink", route.uplink.is_some());
    fault("newest", route.newest.is_some());
    fault("presence", route.presence.is_some());
    fault("delivery", route.delivery != Delivery::All);
    fault("close_on", !route.close_on.is_empty());
    fault("heartbeat", route.heartbeat.is_some());
    faults
}

#[cfg(test)]
mod tests {
    use super::super::tests::loaded;

    #[test]
    fn what_makes_no_sense_for_reading_the_past_is_refused() {
        let faults = |toml: &str| match loaded(toml, &[], &[]) {
            Ok(_) => String::new(),
            Err(faults) => faults.join("\n"),
        };
        let route = "[[ws-edge.listeners]]\n[[ws-edge.listeners.routes]]\npath = \"/past/{sid}\"\ntransport = \"events\"\n\
                     roots = [\"gm\"]\n";
        assert_eq!(faults(route), "");
        for (more, key) in [
            ("alias = \"ALIASES\"\n", "alias"),
            ("snapshot = [\"gm.x\"]\n", "snapshot"),
            ("start = \"replay\"\n", "start"),
            ("[ws-edge.listeners.routes.uplink]\n", "uplink"),
        ] {
            let told = faults(&format!("{route}{more}"));
            assert!(told.contains(&format!("routes[0].{key}")), "{told}");
        }
        let told = faults("[ws-edge.replay]\nlimit = 10\nmax_limit = 5\nmax_requests = 0\ntimeout = \"0s\"\n");
        for key in ["replay.limit", "replay.max_requests", "replay.timeout"] {
            assert!(told.contains(key), "{told}");
        }
    }
}
