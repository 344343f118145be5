//! What clients may send up, and what is for some of them alone.

use herald_protocol::{Name, close};
use herald_runtime::config::{ByteSize, HumanDuration, comma_separated};
use serde::{Deserialize, Serialize};

use super::{Auth, RouteConfig};

/// What the clients of a route may send, and that its engine is told who comes and goes. With this table, empty or not, they
/// may: to `in.<root>.<session>.<kind>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UplinkRouteConfig {
    /// The root in these subjects, one of the route's. Default: its first.
    pub root: Option<Name>,
    /// Whether they may send bytes; else who does is closed with 1003. Default true.
    pub binary: bool,
    /// Largest message; who sends a larger one is closed with 1009. Default 16KiB.
    pub max_message: ByteSize,
    /// Largest message of bytes, likewise. Default: `max_message`, which is then for texts alone.
    pub max_binary: Option<ByteSize>,
    /// Messages a second; a client that sends more is told so and read no faster. Default 20.
    pub messages: u32,
    /// Bytes a second, likewise; 0B: any number. Default 0B.
    pub bytes: ByteSize,
    /// So many messages at once, and as many bytes as would come in the time that these take. Default 40.
    pub burst: u32,
    /// How long a client may have sent more than that without a pause before it is closed with 1008. Default 10s.
    pub patience: HumanDuration,
}

impl Default for UplinkRouteConfig {
    fn default() -> Self {
        Self {
            root: None,
            binary: true,
            max_message: ByteSize::from_kib(16),
            max_binary: None,
            messages: 20,
            bytes: ByteSize::from_kib(0),
            burst: 40,
            patience: HumanDuration::from_secs(10),
        }
    }
}

/// Of which connections a session has one at a time, over all edges: the newest. With each further one the one before is closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewestConfig {
    /// The roles of which it has one each. No default.
    #[serde(deserialize_with = "comma_separated")]
    pub roles: Vec<Name>,
    /// The code of the close. Default 4409, by which our client knows that it is not to come back.
    pub code: u16,
    /// Its reason. Default `superseded`.
    pub reason: String,
}

impl Default for NewestConfig {
    fn default() -> Self {
        Self { roles: Vec::new(), code: 4409, reason: "superseded".to_owned() }
    }
}

/// What clients send, on its way to NATS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UplinkConfig {
    /// Messages of all clients that wait for NATS; further ones are refused. Default 4096.
    pub queue: usize,
    /// Their bytes. Default 8MiB.
    pub queue_bytes: ByteSize,
    /// Bytes of messages that have arrived in part, beyond 4 KiB of each; whose message finds no room is closed with 1013.
    /// Default 64MiB.
    pub unfinished: ByteSize,
}

impl Default for UplinkConfig {
    fn default() -> Self {
        Self { queue: 4096, queue_bytes: ByteSize::from_mib(8), unfinished: ByteSize::from_mib(64) }
    }
}

/// What is said to one connection alone, until its client takes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WordsConfig {
    /// Frames that wait for one connection; further ones are refused. Default 64.
    pub queue: usize,
    /// Their bytes. Default 256KiB.
    pub queue_bytes: ByteSize,
    /// Bytes of all such frames that wait in the process. Default 64MiB.
    pub total: ByteSize,
}

impl Default for WordsConfig {
    fn default() -> Self {
        Self { queue: 64, queue_bytes: ByteSize::from_kib(256), total: ByteSize::from_mib(64) }
    }
}

/// What the largest message takes while it arrives: its place grows by doubling.
pub(super) const SMALLEST_UNFINISHED: ByteSize = ByteSize::from_mib(2);
/// A message is held in memory while it arrives, and by NATS for whoever is slow.
const LARGEST: ByteSize = ByteSize::from_mib(1);
/// More a second is no person at a keyboard.
const MOST: u32 = 10_000;

/// How much a client may send a second at all; 0: any number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InboundRates {
    pub(super) frames: u32,
    pub(super) bytes: u64,
}

/// What is wrong with these tables of a route of a listener with that `auth`, by their keys.
pub(super) fn faults_of_route(route: &RouteConfig, auth: Auth, inbound: InboundRates) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let mut fault = |key, text: &str| faults.push((key, text.to_owned()));
    if let Some(uplink) = &route.uplink {
        if uplink.root.as_ref().is_some_and(|root| !route.roots.contains(root)) {
            fault("uplink.root", "must be one of the route's roots");
        }
        for (key, size) in [("uplink.max_message", Some(uplink.max_message)), ("uplink.max_binary", uplink.max_binary)]
        {
            if size.is_some_and(|size| size.as_u64() == 0 || size > LARGEST) {
                fault(key, &format!("must be greater than zero and at most {LARGEST}"));
            }
        }
        if uplink.max_binary.is_some() && !uplink.binary {
            fault("uplink.max_binary", "needs uplink.binary");
        }
        if inbound.bytes > 0 && uplink.bytes.as_u64() > inbound.bytes {
            fault("uplink.bytes", "is more than limits.inbound_bytes, which holds for all that a client sends");
        }
        if !(1..=MOST).contains(&uplink.messages) {
            fault("uplink.messages", &format!("must be from 1 to {MOST}"));
        } else if inbound.frames > 0 && uplink.messages > inbound.frames {
            fault("uplink.messages", "is more than limits.inbound_frames, which holds for all that a client sends");
        }
        if !(1..=MOST).contains(&uplink.burst) {
            fault("uplink.burst", &format!("must be from 1 to {MOST}"));
        }
    }
    if let Some(newest) = &route.newest {
        if newest.roles.is_empty() {
            fault("newest.roles", "must name one role at least");
        }
        if !close::is_sendable(newest.code) {
            fault(
                "newest.code",
                "must be a code of a close frame: 1000 to 1003, 1007 to 1014, 3000 to 4999, none of ours",
            );
        }
        if !close::is_reason(&newest.reason) {
            fault("newest.reason", "must be at most 123 bytes without control characters");
        }
    }
    if auth == Auth::Off && route.admit.is_none() {
        let nobody = "needs to know who a client is: `auth` of its listener, or `admit`";
        if !route.visible.is_empty() {
            faults.push(("visible", nobody.to_owned()));
        }
        if route.newest.is_some() {
            faults.push(("newest", nobody.to_owned()));
        }
    }
    for rule in route.visible.iter().filter(|rule| !route.roots.contains(rule.root())) {
        faults.push(("visible", format!("`{rule}`: `{}` is none of its roots", rule.root())));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::tests::loaded;

    fn faults(route: &str, more: &str) -> String {
        let toml = format!(
            "{more}\n[ws-edge.jwt]\nsecret = \"{}\"\n[[ws-edge.listeners]]\nauth = \"jwt\"\n[[ws-edge.listeners.routes]]\npath = \"/ws/{{sid}}\"\nroots = [\"table\", \"chat\"]\n{route}",
            "x".repeat(32)
        );
        loaded(&toml, &[], &[]).err().unwrap_or_default().join("\n")
    }

    #[test]
    fn what_goes_up_and_what_is_for_some_is_configuration() {
        let route = r#"
            visible = ["table.dm.> for role:dm", "table.user.{user}.> for user or role:dm"]
            uplink = { root = "chat", max_message = "4KiB", max_binary = "64KiB", messages = 5, bytes = "16KiB", burst = 10, patience = "3s" }
            newest = { roles = ["dm"], code = 1012, reason = "Superseded DM connection" }
        "#;
        assert_eq!(faults(route, "[ws-edge.uplink]\nqueue = 10\nqueue_bytes = \"1MiB\""), "");
        assert_eq!(faults("uplink = {}", ""), "", "a table is enough");
    }

    #[test]
    fn what_can_t_be_is_refused_in_a_sentence() {
        for (route, part) in [
            ("uplink = { root = \"gm\" }", "routes[0].uplink.root: must be one of the route's roots"),
            ("uplink = { max_message = \"2MiB\" }", "routes[0].uplink.max_message"),
            ("uplink = { max_message = \"0B\" }", "routes[0].uplink.max_message"),
            ("uplink = { max_binary = \"2MiB\" }", "routes[0].uplink.max_binary"),
            ("uplink = { binary = false, max_binary = \"1KiB\" }", "routes[0].uplink.max_binary: needs uplink.binary"),
            ("uplink = { bytes = \"1GiB\" }", "routes[0].uplink.bytes: is more than limits.inbound_bytes"),
            ("uplink = { messages = 0 }", "routes[0].uplink.messages"),
            ("uplink = { messages = 51 }", "routes[0].uplink.messages: is more than limits.inbound_frames"),
            ("uplink = { burst = 0 }", "routes[0].uplink.burst"),
            ("uplink = { burts = 1 }", "burts"),
            ("uplink = true", "routes.0.uplink"),
            ("newest = {}", "routes[0].newest.roles: must name"),
            ("newest = { roles = [\"DM\"] }", "newest.roles"),
            ("newest = { roles = [\"dm\"], code = 1006 }", "routes[0].newest.code"),
            ("newest = { roles = [\"dm\"], code = 4410 }", "routes[0].newest.code"),
            ("newest = { roles = [\"dm\"], reason = \"a\\nb\" }", "routes[0].newest.reason"),
            ("visible = [\"gm.x for role:dm\"]", "routes[0].visible: `gm.x for role:dm`: `gm` is none of its roots"),
            ("visible = [\"table.x for\"]", "visible"),
            ("visible = [\"table.x for user\"]", "visible"),
        ] {
            let all = faults(route, "");
            assert!(all.contains(part), "{route}: {all}");
        }
        for (more, part) in [
            ("[ws-edge.uplink]\nqueue = 0", "uplink.queue"),
            ("[ws-edge.words]\nqueue_bytes = \"0B\"", "words.queue_bytes"),
            ("[ws-edge.words]\ntotal = \"1KiB\"", "must be at least words.queue_bytes"),
        ] {
            let all = faults("", more);
            assert!(all.contains(part), "{more}: {all}");
        }
    }

    #[test]
    fn what_depends_on_who_somebody_is_needs_somebody_who_says_it() {
        let faults = |listener: &str, route: &str| {
            let toml = format!(
                "[[ws-edge.listeners]]\n{listener}\n[[ws-edge.listeners.routes]]\npath = \"/ws/{{sid}}\"\nroots = [\"table\"]\n{route}"
            );
            loaded(&toml, &[], &[]).err().unwrap_or_default().join("\n")
        };
        for rule in ["visible = [\"table.dm.> for role:dm\"]", "newest = { roles = [\"dm\"] }"] {
            let key = rule.split(' ').next().unwrap();
            let fault = format!("routes[0].{key}: needs to know who a client is");
            assert!(faults("auth = \"off\"", rule).contains(&fault), "{rule}");
            assert_eq!(faults("auth = \"off\"", &format!("{rule}\nadmit = \"table\"")), "", "an engine says it");
        }
    }
}
