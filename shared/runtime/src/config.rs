//! Configuration: defaults in code < `herald.toml` < environment < flags.
//!
//! One struct per service (its own section of the file, [`ServiceConfig`]) beside the [`Common`] part that every service
//! has. See [`load`] for where values come from and who wins.

use std::{fmt, path::PathBuf};

use herald_protocol::InstanceId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

mod load;
mod print;
mod sources;
mod traces;
mod units;

#[cfg(test)]
mod tests;

pub use load::{Loaded, load};
pub use print::defaults;
pub use sources::Sources;
pub use traces::TracesConfig;
pub use units::{ByteSize, HumanDuration, Secret, UnitError, comma_separated};

/// The names of all services: their sections may stand in one file, and their variables in one environment, and each
/// service reads its own. Any other table is taken for a slip of the pen.
pub const SERVICES: [&str; 8] = ["gm-bridge", "ws-edge", "ingest", "sim", "lobby", "table", "radio", "campaign"];

/// A service's own configuration.
///
/// Derive `Serialize` and `Deserialize` on every struct (`#[serde(default)]` on those that stand in lists), give each field a doc
/// comment with its meaning, unit and default, and use [`HumanDuration`], [`ByteSize`] and [`Secret`]. Unknown keys are found
/// without any attribute, except below `flatten`, `untagged` and `tag = ...`: avoid these. The keys of [`Common`] are taken.
pub trait ServiceConfig: Default + Serialize + DeserializeOwned {
    /// The service's name: `ws-edge`. Its section in `herald.toml`.
    const SERVICE: &'static str;
    /// The port of the operations listener, on loopback, unless `operations.address` says otherwise.
    const OPERATIONS_PORT: u16;
    /// Further environment variables, beside `HERALD_<KEY>`: variable and key, for example
    /// `("GM_BASE_URL", "gm.base_urls")`. A `HERALD_` variable for the same key wins.
    const ALIASES: &'static [(&'static str, &'static str)] = &[];

    /// What is wrong with the values, all of it; types and unknown keys have been looked at before.
    fn validate(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// What every service can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Common {
    /// The connection to NATS.
    pub nats: NatsConfig,
    /// Logs.
    pub log: LogConfig,
    /// The operations listener.
    pub operations: OperationsConfig,
    /// The end of the process.
    pub shutdown: ShutdownConfig,
    /// Traces.
    pub traces: TracesConfig,
    /// The name of this process among its like, in logs, metrics and NATS. Default: random at each start.
    pub instance: InstanceId,
    /// A file that this process writes the addresses it has bound to, as JSON
    /// `{"operations":"127.0.0.1:1","listeners":["127.0.0.1:2"]}`. Default: none.
    pub ports_file: Option<PathBuf>,
}

/// The connection to NATS.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NatsConfig {
    /// One or more servers of one cluster, separated by commas; `nats://` or `tls://`, may carry `user:password@` or
    /// `token@`. Default `nats://127.0.0.1:4222`.
    pub url: String,
    /// User, if not in the URL. Default: none.
    pub user: Option<String>,
    /// Password of `user`. Default: none.
    pub password: Secret,
    /// Token, in place of user and password. Default: none.
    pub token: Secret,
    /// The seed of an NKey (`SU...`), in place of user and password. Default: none.
    pub nkey_seed: Secret,
    /// A file of credentials (`.creds`: a JWT and the seed of its key), in place of user and password. Default: none.
    pub credentials_file: Option<PathBuf>,
    /// What the subjects of answers to this process begin with: `_INBOX` and something behind it. Rights to read are given by it, so that nobody reads what
    /// another one is told. Default: `_INBOX.` and the user, or the service, as in `nats/users.conf`.
    pub inbox_prefix: Option<String>,
    /// Whether the connection is encrypted: `auto` as URL (`tls://`) and server say, `required`, or `first`, without a word
    /// before (the server's `handshake_first`). Default `auto`.
    pub tls: NatsTls,
    /// A file of root certificates (PEM) for servers with TLS. Default: the platform's.
    pub root_certificates: Option<PathBuf>,
    /// A file with our certificate (PEM), for servers that verify their clients. Default: none.
    pub client_certificate: Option<PathBuf>,
    /// A file with the key of `client_certificate` (PEM). Default: none.
    pub client_key: Option<PathBuf>,
    /// How long one attempt to connect may take. Default 2s.
    pub connect_timeout: HumanDuration,
    /// The first wait between two attempts, doubled at each further one, with jitter. Default 50ms.
    pub reconnect_min: HumanDuration,
    /// The longest wait between two attempts. Default 2s.
    pub reconnect_max: HumanDuration,
    /// How long a request may wait for its answer where nothing else is said. Default 5s.
    pub request_timeout: HumanDuration,
    /// After how much silence the connection is probed; two probes in a row without an answer within as long again end it,
    /// soon enough for a bridge to be at another server of the cluster before the others give up its actions
    /// (`action.lapse`). Default 700ms.
    pub ping_interval: HumanDuration,
    /// Messages waiting in one core subscription before the library drops (counted). Default 65536.
    pub subscription_capacity: usize,
    /// Commands waiting to be written to the connection; senders wait when it is full. Default 2048.
    pub send_capacity: usize,
}

/// Whether the connection to NATS is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NatsTls {
    /// As URL and server say.
    #[default]
    Auto,
    /// Or not at all.
    Required,
    /// Before anything is said.
    First,
}

/// Logs, on standard error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogConfig {
    /// What is logged: a level, or directives such as `info,ws_edge=debug`. Default `info`.
    pub filter: String,
    /// How: `auto` is `pretty` on a terminal and `json` elsewhere. Default `auto`.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` elsewhere.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The operations listener: `/livez`, `/readyz`, `/metrics`, `/inspect`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OperationsConfig {
    /// Where it listens, `IP:PORT`; port 0 takes a free one. Not for the public: keep it on loopback or an internal
    /// network. Default `127.0.0.1` and the service's own port.
    pub address: std::net::SocketAddr,
    /// Who may look at sessions, connections and what runs (`/inspect`): `loopback`, who asks from this machine by a loopback
    /// address; `everybody` who reaches the port; `off`, nobody. Default `loopback`.
    pub inspect: Inspect,
}

/// Who may look into a running service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inspect {
    /// Who asks from this machine.
    #[default]
    Loopback,
    /// Everybody who reaches the port.
    Everybody,
    /// Nobody.
    Off,
}

/// The end of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShutdownConfig {
    /// How long a planned shutdown may take before the process is ended by force, with exit code 1. Default 25s.
    pub limit: HumanDuration,
}

impl Common {
    /// The defaults, with the operations listener on that port.
    #[must_use]
    pub fn with_operations_port(port: u16) -> Self {
        Self {
            nats: NatsConfig::default(),
            log: LogConfig::default(),
            operations: OperationsConfig {
                address: (std::net::Ipv4Addr::LOCALHOST, port).into(),
                inspect: Inspect::Loopback,
            },
            shutdown: ShutdownConfig::default(),
            traces: TracesConfig::default(),
            instance: random_instance(),
            ports_file: None,
        }
    }

    /// Where the operations listener of a running process is found: with port 0, its ports file knows.
    pub(crate) fn operations_address(&self) -> std::net::SocketAddr {
        let configured = self.operations.address;
        let bound = || {
            let ports: serde_json::Value =
                serde_json::from_slice(&std::fs::read(self.ports_file.as_ref()?).ok()?).ok()?;
            ports["operations"].as_str()?.parse().ok()
        };
        if configured.port() == 0 { bound().unwrap_or(configured) } else { configured }
    }

    /// What is wrong with the values.
    fn validate(&self) -> Vec<Fault> {
        let mut faults = crate::nats::faults(&self.nats);
        faults.extend(crate::telemetry::faults(&self.log));
        faults.extend(self.traces.faults());
        if self.shutdown.limit.get().is_zero() {
            faults.push(Fault::new("shutdown.limit", "must be longer than zero"));
        }
        faults
    }
}

/// 8 hex digits: enough to tell processes apart, short enough to read.
fn random_instance() -> InstanceId {
    InstanceId::new(&format!("{:08x}", rand::random::<u32>())).unwrap_or_else(|_| unreachable!("hex digits are valid"))
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            user: None,
            password: Secret::default(),
            token: Secret::default(),
            nkey_seed: Secret::default(),
            credentials_file: None,
            inbox_prefix: None,
            tls: NatsTls::Auto,
            root_certificates: None,
            client_certificate: None,
            client_key: None,
            connect_timeout: HumanDuration::from_secs(2),
            reconnect_min: HumanDuration::from_millis(50),
            reconnect_max: HumanDuration::from_secs(2),
            request_timeout: HumanDuration::from_secs(5),
            ping_interval: HumanDuration::from_millis(700),
            subscription_capacity: 65_536,
            send_capacity: 2_048,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto }
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { limit: HumanDuration::from_secs(25) }
    }
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, dotted: `nats.url`; empty if it is about no single one.
    pub key: String,
    /// Where the value came from (`env NATS_URL`, `file herald.toml`), filled in by [`load`].
    pub source: Option<String>,
    /// What is wrong, lowercase, without a secret.
    pub message: String,
}

impl Fault {
    /// A fault of that key.
    #[must_use]
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), source: None, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.is_empty(), &self.source) {
            (false, Some(source)) => write!(f, "{} ({source}): {}", self.key, self.message),
            (false, None) => write!(f, "{}: {}", self.key, self.message),
            (true, Some(source)) => write!(f, "{source}: {}", self.message),
            (true, None) => f.write_str(&self.message),
        }
    }
}

/// Everything wrong with the configuration, in one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.len();
        write!(f, "{number} fault{} in the configuration", if number == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}
