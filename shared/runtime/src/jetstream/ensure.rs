//! Streams and buckets: created once, whoever comes first; migrated where nobody touched them; otherwise left alone.

use std::time::Duration;

use async_nats::jetstream::{self, ErrorCode};
use herald_protocol::{Epoch, headers};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::request::{ApiError, api, question};
use crate::nats::Nats;

/// Version of the settings below. A later one raises it; an older process leaves a newer stream alone.
const SCHEMA: u64 = 1;
/// Metadata key: the settings that Herald itself chose, as JSON. A field that still holds what is written here was not
/// touched by an operator and follows a later version's default.
const META_APPLIED: &str = "herald.applied";
/// Below this a stream is not worth having: the store is full or misconfigured.
const SMALLEST: u64 = 16 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A stream as its owner wants it. What is not said here is the same for all: file storage, limits retention, no limit per
/// subject, direct gets, atomic batches, TTL per message.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// Its name (`EVENTS`).
    pub name: String,
    /// What it captures (`gm.>`, `arena.>`).
    pub subjects: Vec<String>,
    /// How long messages are kept; zero: for ever.
    pub max_age: Duration,
    /// How many bytes are kept; halved, with a warning, while the server's store is smaller.
    pub max_bytes: u64,
    /// How long a message id is remembered.
    pub duplicate_window: Duration,
    /// How many servers hold it. `None`: 3 where the server belongs to a cluster, else 1.
    pub replicas: Option<u32>,
}

impl StreamSpec {
    /// A stream with the defaults: 7 days, 2 GiB, ids remembered for 2 minutes.
    #[must_use]
    pub fn new(name: &str, subjects: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: name.to_owned(),
            subjects: subjects.into_iter().map(Into::into).collect(),
            max_age: 7 * DAY,
            max_bytes: 2 << 30,
            duplicate_window: Duration::from_secs(120),
            replicas: None,
        }
    }

    fn wanted(&self, nats: &Nats) -> Wanted {
        let window = self.duplicate_window;
        let fields = json!({
            "subjects": self.subjects,
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_age": nanos(self.max_age),
            "max_bytes": self.max_bytes,
            "max_msgs_per_subject": -1,
            // The server refuses a longer memory of ids than of messages.
            "duplicate_window": nanos(if self.max_age.is_zero() { window } else { window.min(self.max_age) }),
            "num_replicas": replicas(nats, self.replicas),
            "allow_direct": true,
            "allow_atomic": true,
            "allow_msg_ttl": true,
        });
        Wanted { name: self.name.clone(), fields: object(fields) }
    }
}

/// A key-value bucket as its owner wants it.
#[derive(Clone, Debug)]
pub struct BucketSpec {
    /// Its name (`SESSIONS`).
    pub name: String,
    /// How many values of a key are kept, 1 to 64.
    pub history: u8,
    /// How long a value is kept after it was written. `None`: for ever.
    pub max_age: Option<Duration>,
    /// How many bytes are kept; a full bucket refuses writes. Halved, with a warning, while the server's store is smaller.
    pub max_bytes: u64,
    /// How many servers hold it. `None`: 3 where the server belongs to a cluster, else 1.
    pub replicas: Option<u32>,
}

impl BucketSpec {
    /// A bucket with the defaults: one value per key, kept for ever, 64 MiB.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), history: 1, max_age: None, max_bytes: 64 << 20, replicas: None }
    }

    /// The name of the stream under the bucket, as reads through the leader need it.
    #[must_use]
    pub fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    fn wanted(&self, nats: &Nats) -> Wanted {
        let window = Duration::from_secs(120).min(self.max_age.unwrap_or(Duration::MAX));
        let fields = json!({
            "subjects": [format!("$KV.{}.>", self.name)],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_age": nanos(self.max_age.unwrap_or_default()),
            "max_bytes": self.max_bytes,
            "max_msgs_per_subject": self.history.clamp(1, 64),
            "duplicate_window": nanos(window),
            "num_replicas": replicas(nats, self.replicas),
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "deny_delete": true,
            "allow_msg_ttl": true,
        });
        Wanted { name: self.stream(), fields: object(fields) }
    }
}

/// What the leader says about a stream.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// When it was created, as the server writes it.
    pub created: String,
    /// The first sequence it holds; where it holds none, the one behind the last.
    pub first_seq: u64,
    /// The last sequence it gave out, 0 before the first.
    pub last_seq: u64,
    /// When that one was stored, in nanoseconds since 1970; 0 where there is none.
    pub last_time_ns: u64,
    /// What time it was for the leader when it said all this, likewise; 0 where it does not say it.
    pub now_ns: u64,
    /// How many messages it holds.
    pub messages: u64,
    /// How many bytes it holds.
    pub bytes: u64,
    /// Its epoch, once its owner has set it.
    pub epoch: Option<Epoch>,
    /// How many servers hold it, its leader included.
    pub replicas: usize,
    /// How many of these the leader has heard of lately, itself included.
    pub answering: usize,
    /// Its configuration as the server writes it.
    pub config: Map<String, Value>,
}

impl StreamInfo {
    /// Whether its leader can store anything: it needs most of the replicas. It goes on leading for a while without.
    #[must_use]
    pub const fn has_quorum(&self) -> bool {
        self.answering * 2 > self.replicas
    }

    fn metadata(&self, key: &str) -> Option<&str> {
        self.config.get("metadata")?.get(key)?.as_str()
    }
}

/// Why a stream or bucket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// JetStream said so, or said nothing.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Another stream captures one of its subjects already.
    #[error("another stream captures the subjects of {stream} already")]
    SubjectsTaken {
        /// The stream that was to be created.
        stream: String,
    },
    /// It exists, but not as it must be; Herald does not change what an operator chose.
    #[error("stream {stream} can't be used: its {field} is not what is needed")]
    Unsuitable {
        /// The stream.
        stream: String,
        /// The field of its configuration.
        field: &'static str,
    },
    /// Not even the smallest size fits into the server's store.
    #[error("the server's store has no room for {stream}: {description}")]
    NoRoom {
        /// The stream.
        stream: String,
        /// The server's words.
        description: String,
    },
}

/// What the leader says about a stream, now.
///
/// # Errors
/// [`ApiError`]; [`ApiError::StreamNotFound`] where there is none, [`ApiError::NoLeader`] where nobody leads it.
pub async fn stream_info(nats: &Nats, stream: &str) -> Result<StreamInfo, ApiError> {
    let answer: InfoAnswer = question(nats, &format!("STREAM.INFO.{stream}"), &json!({})).await?;
    // Without a leader some replica answers for itself, perhaps one that lags.
    let leaderless = answer.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_empty());
    if leaderless { Err(ApiError::NoLeader) } else { Ok(answer.into()) }
}

/// The stream, created if nobody has yet, its untouched settings brought up to date, its epoch set.
///
/// # Errors
/// [`EnsureError`]; the caller repeats what is transient.
pub async fn ensure_stream(nats: &Nats, spec: &StreamSpec) -> Result<StreamInfo, EnsureError> {
    let info = ensure(nats, &spec.wanted(nats)).await?;
    let captured = |subject: &String| {
        info.config
            .get("subjects")
            .and_then(Value::as_array)
            .is_some_and(|subjects| subjects.iter().any(|captured| captured.as_str() == Some(subject.as_str())))
    };
    let unsuitable = |field| EnsureError::Unsuitable { stream: spec.name.clone(), field };
    if !spec.subjects.iter().all(captured) {
        return Err(unsuitable("subjects"));
    }
    if info.config.get("allow_direct") != Some(&Value::Bool(true)) {
        return Err(unsuitable("allow_direct"));
    }
    if info.epoch.is_some() {
        return Ok(info);
    }
    Ok(set_epoch(nats, &spec.name, Epoch::of(&info.created, 0)).await?)
}

/// The bucket, created if nobody has yet, its untouched settings brought up to date.
///
/// # Errors
/// [`EnsureError`]; the caller repeats what is transient.
pub async fn ensure_bucket(nats: &Nats, spec: &BucketSpec) -> Result<jetstream::kv::Store, EnsureError> {
    ensure(nats, &spec.wanted(nats)).await?;
    let bucket = nats.jetstream().get_key_value(&spec.name).await;
    bucket.map_err(|error| EnsureError::Api(ApiError::Send(error.into())))
}

/// Writes the epoch into the stream's metadata and says what the stream is like then.
pub(super) async fn set_epoch(nats: &Nats, stream: &str, epoch: Epoch) -> Result<StreamInfo, ApiError> {
    let mut config = stream_info(nats, stream).await?.config;
    set_metadata(&mut config, headers::META_EPOCH, epoch.to_string());
    update(nats, stream, &config).await
}

/// The settings Herald chooses for a stream.
struct Wanted {
    name: String,
    fields: Map<String, Value>,
}

async fn ensure(nats: &Nats, wanted: &Wanted) -> Result<StreamInfo, EnsureError> {
    match stream_info(nats, &wanted.name).await {
        Ok(info) => Ok(migrate(nats, wanted, info).await?),
        Err(ApiError::StreamNotFound) => create(nats, wanted).await,
        Err(error) => Err(error.into()),
    }
}

async fn create(nats: &Nats, wanted: &Wanted) -> Result<StreamInfo, EnsureError> {
    let stream = &wanted.name;
    let mut fields = wanted.fields.clone();
    loop {
        let mut config = fields.clone();
        config.insert("name".to_owned(), stream.as_str().into());
        set_metadata(&mut config, headers::META_SCHEMA, SCHEMA.to_string());
        set_metadata(&mut config, META_APPLIED, Value::Object(fields.clone()).to_string());
        let created: Result<InfoAnswer, ApiError> = api(nats, &format!("STREAM.CREATE.{stream}"), &config).await;
        let (code, description) = match created {
            Ok(info) => {
                tracing::info!(stream, max_bytes = bytes_of(&fields), "stream created");
                return Ok(info.into());
            }
            Err(ApiError::Refused { code, description }) => (code, description),
            Err(error) => return Err(error.into()),
        };
        match ErrorCode(code) {
            // Somebody else was first.
            ErrorCode::STREAM_NAME_EXIST => return Ok(migrate(nats, wanted, stream_info(nats, stream).await?).await?),
            ErrorCode::STREAM_SUBJECT_OVERLAP => {
                return Err(EnsureError::SubjectsTaken { stream: stream.clone() });
            }
            ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED => {}
            // In a cluster a store that is too small is one reason of several for "no suitable peers".
            ErrorCode::CLUSTER_NO_PEERS if description.contains("storage") => {}
            ErrorCode(code) => return Err(ApiError::Refused { code, description }.into()),
        }
        let half = bytes_of(&fields) / 2;
        if half < SMALLEST {
            return Err(EnsureError::NoRoom { stream: stream.clone(), description });
        }
        tracing::warn!(stream, max_bytes = half, description, "the server's store is too small, trying half the size");
        fields.insert("max_bytes".to_owned(), half.into());
    }
}

/// Brings those settings up to date that still hold what Herald chose itself; says which ones an operator has changed.
async fn migrate(nats: &Nats, wanted: &Wanted, info: StreamInfo) -> Result<StreamInfo, ApiError> {
    let schema = info.metadata(headers::META_SCHEMA).and_then(|schema| schema.parse().ok()).unwrap_or(0);
    if schema > SCHEMA {
        tracing::warn!(stream = wanted.name, schema, "stream belongs to a newer version, left as it is");
        return Ok(info);
    }
    let applied = info.metadata(META_APPLIED).and_then(|applied| serde_json::from_str(applied).ok());
    let plan = plan(&wanted.fields, &info.config, &applied.unwrap_or_default());
    for field in &plan.left {
        tracing::warn!(stream = wanted.name, field, "setting differs from ours, left as the operator chose it");
    }
    if plan.changes.is_empty() && schema == SCHEMA {
        return Ok(info);
    }
    apply(nats, wanted, info, plan).await
}

/// Settings the server may be unable to follow: it has no more room, or no more servers. What was good enough yesterday is
/// so today.
const MAY_BE_REFUSED: [&str; 2] = ["max_bytes", "num_replicas"];

async fn apply(nats: &Nats, wanted: &Wanted, info: StreamInfo, mut plan: Plan) -> Result<StreamInfo, ApiError> {
    let stream = &wanted.name;
    loop {
        let mut config = info.config.clone();
        config.extend(plan.changes.clone());
        set_metadata(&mut config, headers::META_SCHEMA, SCHEMA.to_string());
        set_metadata(&mut config, META_APPLIED, Value::Object(plan.applied.clone()).to_string());
        match update(nats, stream, &config).await {
            Ok(info) => {
                let fields: Vec<&String> = plan.changes.keys().collect();
                tracing::info!(stream, ?fields, "stream brought up to date");
                return Ok(info);
            }
            Err(ApiError::Refused { code, description }) => {
                tracing::warn!(stream, code, description, "the server refuses newer settings");
                let Some(field) = MAY_BE_REFUSED.into_iter().find(|field| plan.changes.remove(*field).is_some()) else {
                    return Ok(info);
                };
                // Still what it was: to be tried again by the next start.
                match info.config.get(field) {
                    Some(value) => plan.applied.insert(field.to_owned(), value.clone()),
                    None => plan.applied.remove(field),
                };
                if plan.changes.is_empty() {
                    return Ok(info);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Plan {
    changes: Map<String, Value>,
    applied: Map<String, Value>,
    left: Vec<String>,
}

fn plan(wanted: &Map<String, Value>, current: &Map<String, Value>, applied: &Map<String, Value>) -> Plan {
    let mut plan = Plan { applied: applied.clone(), ..Plan::default() };
    for (field, value) in wanted {
        let now = current.get(field);
        if now == Some(value) {
            plan.applied.insert(field.clone(), value.clone());
        } else if now == applied.get(field) {
            plan.changes.insert(field.clone(), value.clone());
            plan.applied.insert(field.clone(), value.clone());
        } else {
            plan.left.push(field.clone());
        }
    }
    plan
}

async fn update(nats: &Nats, stream: &str, config: &Map<String, Value>) -> Result<StreamInfo, ApiError> {
    let answer: InfoAnswer = api(nats, &format!("STREAM.UPDATE.{stream}"), config).await?;
    Ok(answer.into())
}

/// A replica speaks to its leader every second; the others elect another one after four without its word.
const SILENT: Duration = Duration::from_secs(4);

#[derive(Deserialize)]
struct InfoAnswer {
    config: Map<String, Value>,
    created: String,
    state: State,
    cluster: Option<Cluster>,
    #[serde(default)]
    ts: String,
}

/// Who holds a stream, as its leader sees it.
#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    #[serde(default)]
    offline: bool,
    /// Nanoseconds since it was last heard of; 0: never by this leader, which may have just been elected.
    #[serde(default)]
    active: u64,
}

impl Replica {
    fn answers(&self) -> bool {
        !self.offline && (1..SILENT.as_nanos()).contains(&u128::from(self.active))
    }
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    #[serde(default)]
    last_ts: String,
}

impl From<InfoAnswer> for StreamInfo {
    fn from(answer: InfoAnswer) -> Self {
        let InfoAnswer { config, created, state, cluster, ts } = answer;
        let others = cluster.map(|cluster| cluster.replicas).unwrap_or_default();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let epoch = config.get("metadata").and_then(|metadata| metadata.get(headers::META_EPOCH));
        Self {
            name: text(config.get("name")),
            epoch: text(epoch).parse().ok(),
            created,
            first_seq: state.first_seq,
            last_seq: state.last_seq,
            last_time_ns: parse_time(&state.last_ts),
            now_ns: parse_time(&ts),
            messages: state.messages,
            bytes: state.bytes,
            replicas: 1 + others.len(),
            answering: 1 + others.iter().filter(|replica| replica.answers()).count(),
            config,
        }
    }
}

/// Nanoseconds since 1970; 0 for the server's "never" (year 1).
fn parse_time(text: &str) -> u64 {
    let time = OffsetDateTime::parse(text, &Rfc3339).map(OffsetDateTime::unix_timestamp_nanos);
    time.ok().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0)
}

fn replicas(nats: &Nats, wanted: Option<u32>) -> u32 {
    wanted.unwrap_or(if nats.clustered() { 3 } else { 1 })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn bytes_of(fields: &Map<String, Value>) -> u64 {
    fields.get("max_bytes").and_then(Value::as_u64).unwrap_or(0)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn set_metadata(config: &mut Map<String, Value>, key: &str, value: String) {
    let metadata = config.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        metadata.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        object(value)
    }

    #[test]
    fn only_what_still_holds_our_own_former_value_is_migrated() {
        let wanted = map(json!({"max_age": 7, "max_bytes": 200, "allow_atomic": true, "subjects": ["gm.>"]}));
        let applied = map(json!({"max_age": 3, "max_bytes": 100, "subjects": ["gm.>"]}));
        // An operator has changed max_age; max_bytes is our former default; allow_atomic did not exist then.
        let current = map(json!({"max_age": 9, "max_bytes": 100, "subjects": ["gm.>"], "other": 1}));
        let plan = plan(&wanted, &current, &applied);
        assert_eq!(plan.changes, map(json!({"max_bytes": 200, "allow_atomic": true})));
        assert_eq!(plan.left, ["max_age"]);
        assert_eq!(plan.applied["max_age"], 3, "still what we chose, so that it stays recognised as changed");
        assert_eq!(plan.applied["max_bytes"], 200);
    }

    #[test]
    fn a_stream_as_wanted_needs_no_change() {
        let wanted = map(json!({"max_age": 7}));
        let plan = plan(&wanted, &map(json!({"max_age": 7, "x": 1})), &wanted);
        assert_eq!((plan.changes.len(), plan.left.len()), (0, 0));
    }

    #[test]
    fn the_servers_never_is_zero() {
        assert_eq!(parse_time("0001-01-01T00:00:00Z"), 0);
        assert_eq!(parse_time("1970-01-01T00:00:01.5Z"), 1_500_000_000);
        assert_eq!(parse_time("nonsense"), 0);
    }
}
