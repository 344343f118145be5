//! The game that is there without configuration. Data alone: nothing else in this service knows it.

use herald_protocol::Name;
use herald_runtime::config::HumanDuration;
use serde::{Deserialize, Serialize};

use super::{ForwardConfig, HealthConfig, PresenceMode, RouteConfig, StartConfig, Transport, name};
use crate::{dialect::DialectName, view::Topics};

/// What the dashboards need to draw themselves: the last of each.
const SNAPSHOT: [&str; 16] = [
    "gm.proposal",
    "gm.images",
    "gm.choice_resolved",
    "gm.reactions",
    "gm.indices_update",
    "gm.strategy",
    "gm.turn_update",
    "gm.game_over_reveal",
    "gm.end",
    "arena.input.waiting",
    "arena.round.start",
    "arena.phase.start",
    "arena.agent.*.status",
    "arena.agent.*.output",
    "arena.state.global",
    "arena.event.end",
];
/// News on its way to the engine: an event by its subject, but none for players.
const HIDDEN: [&str; 1] = ["arena.input.fakenews"];
/// Who answers HTTP.
const SERVICE: &str = "gm";
/// What it answers.
const API: &str = include_str!("builtin/arena.json");
/// Whose events are described, and how.
const EVENTS_OF: [&str; 2] = ["gm", "arena"];
const EVENTS: &str = include_str!("builtin/arena.events.json");
/// The Game Master gives up on its news after 10 s and must have an answer within 8.
const NEWS_TIMEOUT: HumanDuration = HumanDuration::from_secs(8);
/// Asked about its health, a bridge answers at once or counts as absent.
const HEALTH_TIMEOUT: HumanDuration = HumanDuration::from_secs(2);

/// What is true of the whole game where no bridge can be asked.
const HEALTH: &str = r#"{"status":"degraded","service":"herald","nats_connected":{nats},"gm_client_ready":false}"#;

/// What is known of the HTTP interface of a service, as paths and components of an OpenAPI document.
pub(crate) fn api_of(service: &Name) -> Option<&'static str> {
    (service.as_str() == SERVICE).then_some(API)
}

/// What is known of the events of a root, as JSON: `events`, `subjects` and their `schemas`.
pub(crate) fn events_of(root: &str) -> Option<&'static str> {
    EVENTS_OF.contains(&root).then_some(EVENTS)
}

/// Routes and forwards that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builtin {
    /// The arena game: `/`, `/app/` for the published React frontend, `/gm/` for the Game Master.
    Arena,
    /// The Game Master's door of the arena game, at the root.
    ArenaGm,
}

/// One door of the game: the same API under a prefix.
struct Door {
    prefix: &'static str,
    name: &'static str,
    /// `None`: the listener's.
    dialect: Option<DialectName>,
}

const EVENT: Door = Door { prefix: "", name: "event", dialect: None };
const APP: Door = Door { prefix: "/app", name: "app", dialect: Some(DialectName::App) };
const GM: Door = Door { prefix: "/gm", name: "gm", dialect: Some(DialectName::Gm) };
const GM_ALONE: Door = Door { prefix: "", ..GM };

impl Builtin {
    const fn doors(self) -> &'static [Door] {
        match self {
            Self::Arena => &[EVENT, APP, GM],
            Self::ArenaGm => &[GM_ALONE],
        }
    }

    pub(super) fn routes(self) -> Vec<RouteConfig> {
        self.doors().iter().flat_map(Door::routes).collect()
    }

    pub(super) fn forwards(self) -> Vec<ForwardConfig> {
        self.doors().iter().flat_map(Door::forwards).collect()
    }

    /// Without a bridge nothing is well.
    pub(super) fn health(self) -> HealthConfig {
        HealthConfig { ok: HEALTH.to_owned(), degraded: HEALTH.to_owned() }
    }
}

impl Door {
    fn routes(&self) -> Vec<RouteConfig> {
        // The Game Master hears the arena, under its own id.
        let gm = self.name == GM.name;
        let roots: &[&str] = if gm { &["arena"] } else { &["gm", "arena"] };
        let of_roots = |all: &[&str]| -> Vec<Topics> {
            let topics =
                all.iter().map(|text| text.parse().unwrap_or_else(|_| unreachable!("topics of ours are valid")));
            topics.filter(|topics: &Topics| roots.contains(&topics.root.as_str())).collect()
        };
        let route = |path: &str, transport| RouteConfig {
            path: format!("{}/{path}/{{sid}}", self.prefix),
            transport,
            roots: roots.iter().copied().filter_map(|root| Name::new(root).ok()).collect(),
            hidden: of_roots(&HIDDEN),
            snapshot: of_roots(&SNAPSHOT),
            dialect: self.dialect,
            alias: gm.then(|| "ALIASES".to_owned()),
            start: StartConfig::Live,
            // A Game Master is nobody's company.
            presence: gm.then_some(PresenceMode::Off),
            presence_path: format!("{}/presence/{{sid}}", self.prefix),
            ..RouteConfig::default()
        };
        let mut routes = vec![route("ws", Transport::Socket), route("sse", Transport::Sse)];
        // Its ids are its own: whose past one stands for is another one's tomorrow.
        if !gm {
            let past = |path: &str, transport| RouteConfig {
                path: format!("{}{path}", self.prefix),
                snapshot: Vec::new(),
                ..route("", transport)
            };
            routes.push(past("/sessions/{sid}/events", Transport::Events));
            routes.push(past("/sessions/{sid}", Transport::Session));
        }
        routes
    }

    fn forwards(&self) -> [ForwardConfig; 4] {
        let forward = |paths: &[&str]| ForwardConfig {
            name: "gm-bridge".to_owned(),
            service: Some(name(SERVICE)),
            paths: paths.iter().map(|path| format!("{}{path}", self.prefix)).collect(),
            strip: self.prefix.to_owned(),
            door: name(self.name),
            ..ForwardConfig::default()
        };
        [
            forward(&["/api/state", "/api/images/*"]),
            ForwardConfig {
                commands: true,
                // What ends a running action saves what it would cost.
                free: vec![format!("{}/api/cancel", self.prefix)],
                ..forward(&["/api/*", "/init_session", "/sessions/*"])
            },
            ForwardConfig { commands: true, timeout: NEWS_TIMEOUT, ..forward(&["/submit_news"]) },
            ForwardConfig { health: true, timeout: HEALTH_TIMEOUT, ..forward(&["/health"]) },
        ]
    }
}
