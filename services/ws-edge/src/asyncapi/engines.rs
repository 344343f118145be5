//! What clients and engines say to each other: what goes up a socket, and what is for one client alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Draft, on_nats, operation_of};
use crate::config::{RouteConfig, UplinkRouteConfig};

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
            // It is engines that ask here.
            let operations = super::object(&mut self.document["operations"]);
            if let Some(mut operation) = operations.remove("send.nats.conn") {
                operation["action"] = "receive".into();
                operations.insert("receive.nats.conn".into(), operation);
            }
        }
        if routes.iter().any(|route| route.newest.is_some()) {
            let (channel, message) = ("nats.edge.newest", "newest.claim");
            self.document["channels"][channel] = on_nats("edge.newest.{root}.{sid}", &[message]);
            for action in ["send", "receive"] {
                self.document["operations"][format!("{action}.{channel}")] = operation_of(action, channel, [message]);
            }
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
