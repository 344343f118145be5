//! What a listener or a route may be told for a game of its own. The edge knows none of them.

use std::path::Path;

use herald_runtime::config::HumanDuration;
use serde::{Deserialize, Serialize};

use super::{ListenerConfig, RouteConfig, StartConfig};
use crate::{
    beat, health,
    template::{Places, Template},
    view::{Delivery, Topics},
};

/// How somebody hears who may not watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refuse {
    /// The socket is opened and closed with a code: browsers hide the status of a handshake that fails.
    #[default]
    Close,
    /// By the status of the answer, before there is a socket.
    Answer,
}

/// A frame that is sent to a connection every now and then, so that its client knows that it lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeartbeatConfig {
    /// The frame: a JSON object as text. `{ts}` in it becomes the time, `{sid}` the session. No default.
    pub frame: String,
    /// The frame in its place while NATS is away or the stream is not served. Default: the same one.
    pub degraded: Option<String>,
    /// How often it is sent. Default 25s.
    pub every: HumanDuration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { frame: String::new(), degraded: None, every: HumanDuration::from_secs(25) }
    }
}

/// What a listener says of its health where no service does: JSON objects as text, in which `{nats}` becomes `true` or `false`,
/// whether NATS is connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthConfig {
    /// While NATS is connected and the streams of its routes are served. Default `{"status":"ok","nats_connected":{nats}}`.
    pub ok: String,
    /// Otherwise; and for a forward marked `health` while its service is away. Default
    /// `{"status":"degraded","nats_connected":{nats}}`.
    pub degraded: String,
}

impl Default for HealthConfig {
    fn default() -> Self {
        let body = |status: &str| format!(r#"{{"status":"{status}","nats_connected":{{nats}}}}"#);
        Self { ok: body("ok"), degraded: body("degraded") }
    }
}

/// The shortest time between two heartbeats of a connection, and the longest that is of any use.
const EVERY: [HumanDuration; 2] = [HumanDuration::from_millis(100), HumanDuration::from_secs(600)];

/// What is wrong with the options of a route, by their keys.
pub(super) fn faults_of_route(route: &RouteConfig) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let mut of_roots = |key, topics: &Topics| {
        if !route.roots.contains(&topics.root) {
            faults.push((key, format!("`{topics}`: `{}` is none of its roots", topics.root)));
        }
    };
    route.topics.iter().for_each(|topics| of_roots("topics", topics));
    route.close_on.iter().for_each(|rule| of_roots("close_on", &rule.topics));
    for (key, topics) in [("topics", &route.topics), ("snapshot", &route.snapshot)] {
        for (topics, hidden) in
            topics.iter().filter_map(|it| Some((it, route.hidden.iter().find(|by| covers(by, it))?)))
        {
            faults.push((key, format!("`{topics}` is among `hidden` (`{hidden}`), which is never shown")));
        }
    }
    for (at, rule) in route.close_on.iter().enumerate() {
        if route.close_on[..at].iter().any(|former| former.topics == rule.topics) {
            faults.push(("close_on", format!("`{}` is there twice: one code is enough", rule.topics)));
        }
    }
    if route.delivery != Delivery::All && route.start == StartConfig::Replay {
        let text = "`latest` shows no more than the newest, `start = \"replay\"` shows all of the past: choose one";
        faults.push(("delivery", text.to_owned()));
    }
    if let Some(heartbeat) = &route.heartbeat {
        if heartbeat.frame.is_empty() {
            faults.push(("heartbeat.frame", "must say what is sent".to_owned()));
        } else {
            faults.extend(fault_of(&heartbeat.frame, beat::PLACES).map(|why| ("heartbeat.frame", why)));
        }
        let degraded = heartbeat.degraded.as_ref().and_then(|text| fault_of(text, beat::PLACES));
        faults.extend(degraded.map(|why| ("heartbeat.degraded", why)));
        if !(EVERY[0]..=EVERY[1]).contains(&heartbeat.every) {
            faults.push(("heartbeat.every", format!("must be from {} to {}", EVERY[0], EVERY[1])));
        }
    }
    faults
}

/// What is wrong with the options of a listener, by their keys.
pub(super) fn faults_of_listener(listener: &ListenerConfig) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if let Some(health) = &listener.health {
        for (key, text) in [("health.ok", &health.ok), ("health.degraded", &health.degraded)] {
            faults.extend(fault_of(text, health::PLACES).map(|why| (key, why)));
        }
    }
    if let Some(folder) = &listener.files
        && let Some(why) = fault_of_folder(folder)
    {
        faults.push(("static", why));
    }
    if listener.files.is_some() && listener.page {
        faults.push(("static", "has its own page at `/`, and `page` is true: choose one".to_owned()));
    }
    faults
}

/// Whether every topic of `inner` is one of `outer`.
fn covers(outer: &Topics, inner: &Topics) -> bool {
    let (outer, inner) = (outer.to_string(), inner.to_string());
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(word)) if word != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

fn fault_of(template: &str, places: &Places) -> Option<String> {
    Template::new(template, places).err().map(|error| error.to_string())
}

fn fault_of_folder(folder: &Path) -> Option<String> {
    if folder.canonicalize().is_ok_and(|folder| folder.parent().is_none()) {
        return Some(format!("{} is the whole machine: name a folder made for the public", folder.display()));
    }
    match std::fs::read_dir(folder) {
        Ok(_) => None,
        Err(error) => Some(format!("{} is no folder that can be read: {error}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::loaded;

    /// What is said of a route, and of a listener, with these keys more.
    fn faults(route: &str, listener: &str) -> String {
        let toml = format!(
            "[[ws-edge.listeners]]\n{listener}\n[[ws-edge.listeners.routes]]\npath = \"/ws/{{sid}}\"\nroots = [\"lobby\"]\n{route}"
        );
        loaded(&toml, &[], &[]).err().unwrap_or_default().join("\n")
    }

    #[test]
    fn a_game_of_its_own_is_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let listener = format!(
            "static = {:?}\nerror_body = \"detail\"\nhealth = {{ ok = '{{\"status\":\"healthy\"}}' }}",
            folder.path()
        );
        let route = r#"
            dialect = "raw"
            topics = "lobby.status"
            snapshot = ["lobby.status"]
            start = "snapshot"
            delivery = "latest"
            refuse = "answer"
            close_on = ["lobby.session.destroyed:1001", "lobby.kicked:4403:You were removed"]
            heartbeat = { frame = '{"type":"heartbeat","timestamp":"{ts}"}', every = "5s" }
        "#;
        assert_eq!(faults(route, &listener), "");
    }

    #[test]
    fn topics_of_which_some_are_hidden_are_shown_otherwise() {
        for (topics, hidden) in
            [("lobby.*", "lobby.x"), ("lobby.a.>", "lobby.a.*"), ("lobby.a", "lobby.a.>"), ("lobby.*.x", "lobby.a.x")]
        {
            let all = faults(&format!("topics = [{topics:?}]\nhidden = [{hidden:?}]"), "");
            assert_eq!(all, "", "{topics} {hidden}");
        }
    }

    #[test]
    fn what_can_t_be_is_refused_in_a_sentence() {
        for (route, part) in [
            ("topics = [\"gm.status\"]", "routes[0].topics: `gm.status`: `gm` is none of its roots"),
            ("topics = [\"lobby.x\"]\nhidden = [\"lobby.x\"]", "routes[0].topics: `lobby.x` is among `hidden`"),
            (
                "topics = [\"lobby.a.x\"]\nhidden = [\"lobby.*.x\"]",
                "routes[0].topics: `lobby.a.x` is among `hidden` (`lobby.*.x`)",
            ),
            ("snapshot = [\"lobby.a.*\"]\nhidden = [\"lobby.>\"]", "routes[0].snapshot: `lobby.a.*` is among `hidden`"),
            ("snapshot = [\"lobby.x\"]\nhidden = [\"lobby.x\"]", "routes[0].snapshot: `lobby.x` is among `hidden`"),
            ("close_on = [\"gm.end:1001\"]", "routes[0].close_on: `gm.end`"),
            ("close_on = [\"lobby.a:1001\", \"lobby.a:4000\"]", "is there twice"),
            ("close_on = [\"lobby.a:1006\"]", "a close code must be"),
            ("close_on = [\"lobby.a\"]", "close_on"),
            ("delivery = \"latest\"\nstart = \"replay\"", "routes[0].delivery: `latest` shows"),
            ("delivery = \"some\"", "delivery"),
            ("dialect = \"cooked\"", "dialect"),
            ("heartbeat = {}", "routes[0].heartbeat.frame: must say"),
            ("heartbeat = { frame = '{\"a\":\"{now}\"}' }", "routes[0].heartbeat.frame: `{now}` is not known here"),
            ("heartbeat = { frame = '[1]' }", "routes[0].heartbeat.frame: must be a JSON object"),
            ("heartbeat = { frame = '{}', degraded = 'x' }", "routes[0].heartbeat.degraded: must be"),
            ("heartbeat = { frame = '{}', every = \"1ms\" }", "routes[0].heartbeat.every: must be from"),
            ("heartbeat = { frame = '{}', often = \"1s\" }", "often"),
        ] {
            let all = faults(route, "");
            assert!(all.contains(part), "{route}: {all}");
        }
        for (listener, part) in [
            ("health = { ok = '{\"x\":{sid}}' }", "listeners[0].health.ok: `{sid}` is not known here"),
            ("health = { degraded = '' }", "listeners[0].health.degraded: must be a JSON object"),
            ("health = { fine = '{}' }", "fine"),
            ("static = \"/nowhere/at/all\"", "listeners[0].static: /nowhere/at/all is no folder"),
            ("static = \"/etc/hostname\"", "listeners[0].static"),
            ("static = \"/tmp/..\"", "listeners[0].static: /tmp/.. is the whole machine"),
            ("static = \"/tmp\"\npage = true", "listeners[0].static: has its own page"),
            ("error_body = \"text\"", "error_body"),
        ] {
            let all = faults("", listener);
            assert!(all.contains(part), "{listener}: {all}");
        }
    }
}
