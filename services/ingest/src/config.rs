//! The configuration of ingest: section `[ingest]` of `herald.toml`.

mod faults;

use std::path::PathBuf;

use herald_runtime::config::{ByteSize, HumanDuration, Secret, comma_separated};
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is asked of requests that come through a door without tokens: `off`, nothing, or `required`, one of `keys`. Not set:
    /// `required` where there are keys, else `off`. A request with a token is judged by the token in any case.
    pub auth: Option<Auth>,
    /// What the bearer of a token must be to publish (the token's role), one of these; and the session must be theirs. Default
    /// `["operator", "engine"]`.
    #[serde(deserialize_with = "comma_separated")]
    pub publish_roles: Vec<String>,
    /// Keys for those who have no token. Default: none.
    pub keys: Vec<KeyConfig>,
    /// HTTP over NATS.
    pub http: HttpConfig,
    /// How much a request may bring.
    pub limits: LimitsConfig,
    /// Storing it.
    pub publish: PublishConfig,
    /// Requests that are sent again.
    pub idempotency: IdempotencyConfig,
    /// The stream this service creates.
    pub stream: StreamConfig,
}

/// What is asked of requests that come through a door without tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Nothing.
    Off,
    /// A key.
    Required,
}

/// A key: whoever sends it as `Authorization: Bearer KEY` may publish.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyConfig {
    /// Its name in logs: lower-case letters, digits, `-`. No default.
    pub name: String,
    /// The key itself, 16 bytes at least. Default: none.
    pub secret: Secret,
    /// A file that holds the key, in place of `secret`; blanks around it don't count. Default: none.
    pub secret_file: Option<PathBuf>,
    /// Where it may publish, a list or separated by commas: sessions, beginnings of their ids (`quiz-*`), or `*` for all. No
    /// default.
    #[serde(deserialize_with = "comma_separated")]
    pub sessions: Vec<String>,
}

/// HTTP over NATS.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Longest request body. Default 1MiB.
    pub max_body: ByteSize,
    /// Requests in work at once; more wait for their turn. Default 256.
    pub max_requests: usize,
}

/// How much a request may bring.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Most events of one request; NATS takes no more than 999 side by side. Default 500.
    pub max_events: usize,
    /// Longest `data` of an event. Default 256KiB.
    pub max_event: ByteSize,
    /// How deep arrays and objects may be nested in `data`: readers of JSON have limits of their own. Default 128.
    pub max_depth: usize,
}

/// Storing it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishConfig {
    /// How long storing may take before the answer is that nobody knows; less where the request's own time ends before.
    /// Default 10s.
    pub wait: HumanDuration,
    /// Requests of several events that are stored at once; more wait for their turn. NATS takes no more than 50 of all
    /// instances together. Default 16.
    pub max_batches: usize,
}

/// Requests that are sent again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdempotencyConfig {
    /// How long an `Idempotency-Key` is remembered, in whole seconds. Default 10m.
    pub window: HumanDuration,
}

/// The stream this service creates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// How long events are kept. Default 7d.
    pub max_age: HumanDuration,
    /// How many bytes of events are kept (halved while the store is smaller). Default 2GiB.
    pub max_bytes: ByteSize,
}

impl Config {
    /// Whether a request without a token needs a key.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.auth.map_or(!self.keys.is_empty(), |auth| auth == Auth::Required)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth: None,
            publish_roles: ["operator", "engine"].map(str::to_owned).to_vec(),
            keys: Vec::new(),
            http: HttpConfig::default(),
            limits: LimitsConfig::default(),
            publish: PublishConfig::default(),
            idempotency: IdempotencyConfig::default(),
            stream: StreamConfig::default(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { max_body: ByteSize::from_mib(1), max_requests: 256 }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { max_events: 500, max_event: ByteSize::from_kib(256), max_depth: 128 }
    }
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self { wait: HumanDuration::from_secs(10), max_batches: 16 }
    }
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self { window: HumanDuration::from_secs(600) }
    }
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { max_age: HumanDuration::from_secs(7 * 86_400), max_bytes: ByteSize::from_gib(2) }
    }
}
