//! What clients and engines say to each other: what goes up a socket, and what is for one client alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Draft, on_nats, operation_of};
use crate::config::{PresenceMode, RouteConfig, UplinkRouteConfig};

/// What goes up a socket.
const UP: [&str; 2] = ["up.text", "up.binary"];

impl Draft<'_> {
    /// What the clients of a route may say besides what the door itself asks for.
    pub(super) fn heard(route: &RouteConfig) -> &'static [&'static str] {
        match route.uplink {
            Some(UplinkRouteConfig { binary: true, .. }) => &UP,
            Some(_) => &UP[..1],
            None => &[],
        }
    }

    /// Whether an engine learns how to speak to one of its clients.
    pub(super) const fn is_spoken_to(route: &RouteConfig) -> bool {
        route.uplink.is_some() || route.newest.is_some()
    }

    /// The subjects that this takes.
    pub(super) fn engines(&mut self) {
        let routes = &self.config.routes;
        let up = routes.iter().filter_map(|route| route.uplink.as_ref()?.root.as_ref().or(route.roots.first()));
        let roots: BTreeSet<_> = up.map(|root| root.as_str()).collect();
        for root in &roots {
            for kind in ["text", "binary", "join", "leave"] {
                let (channel, message) = (format!("nats.in.{root}.{kind}"), format!("in.{kind}"));
                let mut written = on_nats(&format!("in.{root}.{{sid}}.{kind}"), &[&message]);
                if kind != "leave" {
                    written["description"] = "Its reply subject is the client's own: `conn.{edge}.{conn}`.".into();
                }
                self.document["channels"][&channel] = written;
                let operation = operation_of("send", &channel, [message.as_str()]);
                self.document["operations"][format!("send.{channel}")] = operation;
            }
        }
        if routes.iter().any(Self::is_spoken_to) {
            self.question("conn.{edge}.{conn}", "conn", ["conn.word", "conn.answer"], None);
            self.asked_by_engines("nats.conn");
        }
        if routes.iter().any(|route| route.newest.is_some()) {
            self.between_edges("nats.edge.newest", "edge.newest.{root}.{sid}", "newest.claim");
        }
        self.presence();
    }

    /// Who is there: what engines ask, and what edges tell each other.
    fn presence(&mut self) {
        let telling = self.config.routes.iter().filter(|route| route.tells(self.config) != PresenceMode::Off);
        let roots: BTreeSet<_> = telling.filter_map(|route| route.roots.first()).collect();
        for root in &roots {
            let address = format!("edge.present.{root}.{{sid}}");
            self.question(&address, "present", ["present.question", "present.answer"], Some("edge"));
            self.asked_by_engines(&format!("nats.edge.present.{root}"));
        }
        if !roots.is_empty() {
            self.between_edges("nats.edge.presence", "edge.presence.{life}", "presence.said");
        }
    }

    /// It is engines that ask there.
    fn asked_by_engines(&mut self, channel: &str) {
        let operations = super::object(&mut self.document["operations"]);
        if let Some(mut operation) = operations.remove(&format!("send.{channel}")) {
            operation["action"] = "receive".into();
            operations.insert(format!("receive.{channel}"), operation);
        }
    }

    /// Edges say it, and hear it.
    fn between_edges(&mut self, channel: &str, address: &str, message: &str) {
        self.document["channels"][channel] = on_nats(address, &[message]);
        for action in ["send", "receive"] {
            self.document["operations"][format!("{action}.{channel}")] = operation_of(action, channel, [message]);
        }
    }

    /// The frame of a message to one client.
    pub(super) fn word(route: &RouteConfig) -> Value {
        let roots: Vec<_> = route.roots.iter().map(|root| root.as_str()).collect();
        let name = json!({ "type": "string", "pattern": format!("^({})\\..+$", roots.join("|")) });
        let properties = json!({ "event": name, "data": { "$ref": super::schema("Any") } });
        json!({ "type": "object", "required": ["event", "data"], "properties": properties, "additionalProperties": false })
    }
}
