//! The configuration of the lobby: section `[lobby]` of `herald.toml`.

mod faults;

use std::path::PathBuf;

use herald_runtime::config::{ByteSize, HumanDuration, Secret};
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Sessions there may be; more are refused. (Several that are made in the same moment may pass it by a few.) Default 10000.
    pub max_sessions: usize,
    /// Players of a session. Default 256.
    pub max_players: usize,
    /// After how many hours without a change a session is destroyed; 0: never. Default 0.
    pub session_ttl_h: u32,
    /// The token (`Authorization: Bearer`) that who destroys all sessions must have. Default: none, and everybody may.
    pub admin_token: Secret,
    /// The folder of the reference data, four CSV files. Default: none, all tables are empty.
    pub reference_dir: Option<PathBuf>,
    /// HTTP over NATS.
    pub http: HttpConfig,
    /// Writing changes of sessions.
    pub commit: CommitConfig,
    /// Putting in order what crashes have left.
    pub sweep: SweepConfig,
    /// The stream this service creates.
    pub stream: StreamConfig,
    /// The buckets this service creates.
    pub buckets: BucketsConfig,
    /// The bug this process has, to see whether it is found. Default: none.
    #[cfg(feature = "planted-bugs")]
    pub planted_bug: Option<crate::planted::Bug>,
}

/// HTTP over NATS.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Longest request body. Default 16KiB.
    pub max_body: ByteSize,
    /// Requests in work at once; more wait for their turn. Default 256.
    pub max_requests: usize,
}

/// Writing changes of sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommitConfig {
    /// How long a change may wait for its turn; then nothing was done. Less where the request's own time ends before. Default 5s.
    pub wait: HumanDuration,
    /// Changes of one session that wait; more are refused. Default 1024.
    pub max_waiting: usize,
    /// Sessions of which changes wait, or the last state is remembered; changes of more are refused while all of them are busy.
    /// Default 10000.
    pub max_sessions: usize,
}

/// Putting in order what crashes have left.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepConfig {
    /// How often, about. Default 10s.
    pub every: HumanDuration,
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

/// The buckets this service creates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketsConfig {
    /// Bytes of all sessions, and as many of who is in which (halved while the store is smaller); full, they take no more.
    /// Default 256MiB.
    pub max_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions: 10_000,
            max_players: 256,
            session_ttl_h: 0,
            admin_token: Secret::default(),
            reference_dir: None,
            http: HttpConfig::default(),
            commit: CommitConfig::default(),
            sweep: SweepConfig::default(),
            stream: StreamConfig::default(),
            buckets: BucketsConfig::default(),
            #[cfg(feature = "planted-bugs")]
            planted_bug: None,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { max_body: ByteSize::from_kib(16), max_requests: 256 }
    }
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self { wait: HumanDuration::from_secs(5), max_waiting: 1024, max_sessions: 10_000 }
    }
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self { every: HumanDuration::from_secs(10) }
    }
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { max_age: HumanDuration::from_secs(7 * 86_400), max_bytes: ByteSize::from_gib(2) }
    }
}

impl Default for BucketsConfig {
    fn default() -> Self {
        Self { max_bytes: ByteSize::from_mib(256) }
    }
}
