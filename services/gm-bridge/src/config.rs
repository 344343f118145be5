//! The configuration of gm-bridge: section `[gm-bridge]` of `herald.toml`.

mod faults;

use herald_runtime::config::{ByteSize, HumanDuration, comma_separated};
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The Game Masters, and who gets one.
    pub gm: GmConfig,
    /// What a new action does to the running one. Default `cancel`, but `queue` on the door `app`.
    pub action_policy: Option<ActionPolicy>,
    /// Running actions.
    pub action: ActionConfig,
    /// The arena engine.
    pub arena: ArenaConfig,
    /// HTTP over NATS.
    pub http: HttpConfig,
    /// The streams and buckets this service creates.
    pub stream: StreamConfig,
    /// What is cut out of the Game Master's events before anybody sees them: `<type>:<JSON pointer>`. Default
    /// `["proposal:/data/gm_secret"]`, the Game Master's secret plan.
    #[serde(deserialize_with = "comma_separated")]
    pub redact: Vec<String>,
    /// The bug this process has, to see whether it is found. Default: none.
    #[cfg(feature = "planted-bugs")]
    pub planted_bug: Option<crate::planted::Bug>,
}

/// The Game Masters, and who gets one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GmConfig {
    /// Their base URLs, a list or separated by commas (`GM_BASE_URL`). Default `["http://127.0.0.1:8899"]`.
    #[serde(deserialize_with = "comma_separated")]
    pub base_urls: Vec<String>,
    /// What a start gets when every Game Master is in use. Default `refuse`.
    pub when_busy: WhenBusy,
    /// A game without a start or action for so long may be taken by another session. Default 30m.
    pub idle: HumanDuration,
    /// A game that nobody watches may be taken so long after its last start or action. Default 15s.
    pub unwatched: HumanDuration,
    /// A Game Master whose choose was cut is kept from other sessions for so long: the choose runs on inside it.
    /// Default 130s.
    pub cut_choose: HumanDuration,
    /// A second start of a session within that time gets the first one's answer. Default 2s.
    pub repeated_start: HumanDuration,
    /// How long a start may wait for a Game Master that another start is about to give up, and for its turn. Default 20s.
    pub claim_wait: HumanDuration,
    /// How long a start may wait for the answer of another start of the same session. Default 40s.
    pub start_wait: HumanDuration,
    /// How long edges may take to say whether somebody watches a session. Default 500ms.
    pub watching_timeout: HumanDuration,
    /// An edge that has not spoken for so long is forgotten. Default 30s.
    pub edge_forgotten: HumanDuration,
    /// How long connecting to a Game Master may take. Default 3s.
    pub connect_timeout: HumanDuration,
    /// How long the answer to a start, a state or a picture may take. Default 15s.
    pub request_timeout: HumanDuration,
    /// How long a health probe may take; it is made at most once a second. Default 2s.
    pub probe_timeout: HumanDuration,
    /// A stream without a complete event for so long has failed. Default 300s.
    pub silence: HumanDuration,
    /// The same, once a heartbeat was seen. Default 30s.
    pub heartbeat_silence: HumanDuration,
    /// Longest event taken from a stream; a longer one becomes a `gm.error`. Default 1MiB.
    pub max_event: ByteSize,
    /// Longest answer to a start or a state. Default 1MiB.
    pub max_answer: ByteSize,
    /// Largest picture. Default 16MiB.
    pub max_image: ByteSize,
}

/// What a start gets when every Game Master is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenBusy {
    /// 503: two visitors who press start do not wipe each other.
    #[default]
    Refuse,
    /// The game that has been at rest longest ends with "Game taken over".
    Takeover,
}

/// Running actions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActionConfig {
    /// How often the record of a running action is rewritten. Default 2s.
    pub renew: HumanDuration,
    /// A record that was not rewritten for so long has lapsed. Longer than `renew` and `nats.reconnect_max` together, so
    /// that a bridge is back from an outage before the others give it up. Default 5s.
    pub lapse: HumanDuration,
    /// The log is asked before an unacknowledged event is sent again. Within this time it is sent again under its id even
    /// if the log can't be asked. It must stay below the 2 minutes for which the stream remembers ids: a copy that is
    /// still on its way for the difference is recognised all the same. Default 90s.
    pub resend: HumanDuration,
    /// How long an event may wait for NATS before its action has failed. Default 10m.
    pub publish_wait: HumanDuration,
    /// Whether events are gathered while one is being stored, and then go as one batch: `auto`, on a cluster; `always`, also
    /// on one node, which is faster where it has `sync_interval: always` and slower where it has not; `never`. Default `auto`.
    pub batch: BatchPolicy,
    /// So many events are gathered at most; with `batch` `always` at least 16, below which one node gets them singly. Default 200.
    pub batch_events: usize,
    /// No more are gathered once they have so many bytes. Default 1MiB.
    pub batch_bytes: ByteSize,
    /// Nor after so long, where storing takes longer. Default 20ms.
    pub batch_window: HumanDuration,
    /// How long a command may wait until its action is claimed. Default 5s.
    pub claim_wait: HumanDuration,
    /// How long running actions may go on after the shutdown began; then they are ended. Default 12s.
    pub drain: HumanDuration,
    /// Actions running at once in one bridge; more are refused. Default 1000.
    pub max_running: usize,
    /// Actions open at once on all bridges together, 0: any number; a command that would open one more is refused with 429. One
    /// that takes over from another action of its session is not, nor is a cancel. Default 0.
    pub max_open: usize,
    /// Messages that may be kept of one session in the log, those of the arena engine included, 0: any number. With more, a
    /// running action ends with an error, and start, propose, choose and news are refused with 409, until the session is deleted or
    /// some of it has aged out. Default 100000: some 400 turns.
    pub quota_events: u64,
    /// Bytes that may be kept of what the Game Master says in one session, and of news, 0B: any number; likewise. Default 256MiB:
    /// an eighth of the log.
    pub quota_bytes: ByteSize,
    /// Longest news, with the query that goes on with it; a longer one is refused with 413. Of the bytes that may be kept each
    /// takes so many, as nobody counts them otherwise. Default 16KiB.
    pub max_news: ByteSize,
}

/// Whether events go as batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchPolicy {
    /// On a cluster.
    #[default]
    Auto,
    /// On one node too, from sixteen on.
    Always,
    /// Each goes by itself.
    Never,
}

/// What a new action does to the running one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionPolicy {
    /// It ends it.
    #[default]
    Cancel,
    /// It waits for it; one waits, a newer one takes its place.
    Queue,
}

/// The arena engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArenaConfig {
    /// An engine that said nothing in a session for so long is told of it again before news. Default 5m.
    pub silent: HumanDuration,
    /// How long the engine may take to ask for news after that. Default 2s.
    pub waiting_timeout: HumanDuration,
    /// How long after the engine asked the news is answered: a Game Master empties its queue then, and must not find the
    /// asking in it later. Default 200ms.
    pub settle: HumanDuration,
    /// News is answered within this time, whatever happens: a Game Master gives up after 10s. Default 8s.
    pub news_timeout: HumanDuration,
    /// `arena_seen` of `/health`: whether an engine spoke within this time. Default 10m.
    pub seen: HumanDuration,
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

/// The streams and buckets this service creates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// How long events are kept. Default 7d.
    pub max_age: HumanDuration,
    /// How many bytes of events are kept (halved while the store is smaller). Default 2GiB.
    pub max_bytes: ByteSize,
    /// How long a session is known after its last action. Default 7d.
    pub session_age: HumanDuration,
}

impl Config {
    /// What a new action that came through `door` does to the running one.
    #[must_use]
    pub fn policy(&self, door: &str) -> ActionPolicy {
        let default = if door == "app" { ActionPolicy::Queue } else { ActionPolicy::Cancel };
        self.action_policy.unwrap_or(default)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gm: GmConfig::default(),
            action_policy: None,
            action: ActionConfig::default(),
            arena: ArenaConfig::default(),
            http: HttpConfig::default(),
            stream: StreamConfig::default(),
            redact: vec!["proposal:/data/gm_secret".to_owned()],
            #[cfg(feature = "planted-bugs")]
            planted_bug: None,
        }
    }
}

impl Default for GmConfig {
    fn default() -> Self {
        Self {
            base_urls: vec!["http://127.0.0.1:8899".to_owned()],
            when_busy: WhenBusy::Refuse,
            idle: HumanDuration::from_secs(30 * 60),
            unwatched: HumanDuration::from_secs(15),
            cut_choose: HumanDuration::from_secs(130),
            repeated_start: HumanDuration::from_secs(2),
            claim_wait: HumanDuration::from_secs(20),
            start_wait: HumanDuration::from_secs(40),
            watching_timeout: HumanDuration::from_millis(500),
            edge_forgotten: HumanDuration::from_secs(30),
            connect_timeout: HumanDuration::from_secs(3),
            request_timeout: HumanDuration::from_secs(15),
            probe_timeout: HumanDuration::from_secs(2),
            silence: HumanDuration::from_secs(300),
            heartbeat_silence: HumanDuration::from_secs(30),
            max_event: ByteSize::from_mib(1),
            max_answer: ByteSize::from_mib(1),
            max_image: ByteSize::from_mib(16),
        }
    }
}

impl Default for ActionConfig {
    fn default() -> Self {
        Self {
            renew: HumanDuration::from_secs(2),
            lapse: HumanDuration::from_secs(5),
            resend: HumanDuration::from_secs(90),
            publish_wait: HumanDuration::from_secs(600),
            batch: BatchPolicy::Auto,
            batch_events: 200,
            batch_bytes: ByteSize::from_mib(1),
            batch_window: HumanDuration::from_millis(20),
            claim_wait: HumanDuration::from_secs(5),
            drain: HumanDuration::from_secs(12),
            max_running: 1000,
            max_open: 0,
            quota_events: 100_000,
            quota_bytes: ByteSize::from_mib(256),
            max_news: ByteSize::from_kib(16),
        }
    }
}

impl Default for ArenaConfig {
    fn default() -> Self {
        Self {
            silent: HumanDuration::from_secs(5 * 60),
            waiting_timeout: HumanDuration::from_secs(2),
            settle: HumanDuration::from_millis(200),
            news_timeout: HumanDuration::from_secs(8),
            seen: HumanDuration::from_secs(10 * 60),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { max_body: ByteSize::from_mib(1), max_requests: 256 }
    }
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            max_age: HumanDuration::from_secs(7 * 86_400),
            max_bytes: ByteSize::from_gib(2),
            session_age: HumanDuration::from_secs(7 * 86_400),
        }
    }
}
