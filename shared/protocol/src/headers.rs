//! Header names: of HTTP over NATS (the public format) and of the JetStream server.

/// HTTP over NATS, request: the method.
pub const METHOD: &str = "Herald-Method";
/// Request: the path, percent-encoded as the client sent it, its door's prefix stripped.
pub const PATH: &str = "Herald-Path";
/// Request: the query without `?`, as sent. Absent where there is none.
pub const QUERY: &str = "Herald-Query";
/// Request: milliseconds left before the caller gives up. A request found past it is dropped unexecuted.
pub const DEADLINE: &str = "Herald-Deadline";
/// Request: the configured name of the door it came through.
pub const DOOR: &str = "Herald-Door";
/// Request: who sent it, where its door has verified that.
pub const USER: &str = "Herald-User";
/// Request: what they are, where their token says it.
pub const ROLE: &str = "Herald-Role";
/// What a client sent up its socket: which connection that is, 16 letters and digits. It is known to its edge and to engines alone.
pub const CONN: &str = "Herald-Conn";
/// What a client sent up its socket: the edge that serves it.
pub const EDGE: &str = "Herald-Edge";
/// What a client sent up its socket: the word that stands for its user in subjects ([`UserToken`](crate::UserToken)).
pub const USER_TOKEN: &str = "Herald-User-Token";
/// To one connection: what the frame is about, a topic; `message` where nothing is said.
pub const TOPIC: &str = "Herald-Topic";
/// To one connection: it is closed, behind the frame if there is one, with this code.
pub const CLOSE: &str = "Herald-Close";
/// To one connection: the reason of that close.
pub const REASON: &str = "Herald-Reason";
/// Request: the sessions they may open, separated by commas, or `*` for all.
pub const SESSIONS: &str = "Herald-Sessions";
/// Request and response: prefix of the HTTP headers that travel along (`Herald-H-content-type`).
pub const HTTP_PREFIX: &str = "Herald-H-";
/// Request: where the receiver fetches the body in parts, instead of a body in the message.
pub const BODY: &str = "Herald-Body";
/// Response, first message: the HTTP status.
pub const STATUS: &str = "Herald-Status";
/// Body part: its number, from 0.
pub const PART: &str = "Herald-Part";
/// From the receiver of a response in parts: the number up to which it has taken them.
pub const ACK: &str = "Herald-Ack";
/// Last message of a body: `1`.
pub const END: &str = "Herald-End";
/// Last message of a body that broke off: why.
pub const ABORT: &str = "Herald-Abort";

/// The request headers that are carried to an engine. Anything else stays at the door.
pub const REQUEST_HEADERS: [&str; 11] = [
    "content-type",
    "content-encoding",
    "accept",
    "accept-language",
    "if-none-match",
    "range",
    "origin",
    "authorization",
    "user-agent",
    "x-forwarded-for",
    "idempotency-key",
];

/// The door a request came through where nothing else is configured.
pub const DEFAULT_DOOR: &str = "event";

/// On a `gm.<sid>.error` that a bridge formed: the number of the action whose end it is. That is the one which published
/// it or, as that one's first word, the one before. A Game Master's own error has none.
pub const ENDS: &str = "Herald-Ends";

/// On what was published by HTTP under an idempotency key, beside others: the hash of the key.
pub const KEY: &str = "Herald-Key";
/// On the first message that was published under an idempotency key: the hash of the request.
pub const DIGEST: &str = "Herald-Digest";

/// JetStream: after how many seconds the message is removed.
pub const TTL: &str = "Nats-TTL";

/// On every `gm.<sid>.*`: how many messages of them, and about how many bytes, had been written with it, less what was known to
/// be kept no more: `<messages> <bytes>`.
pub const KEPT: &str = "Herald-Kept";

/// Request and event: the trace it belongs to, as W3C Trace Context writes it ([`crate::TraceContext`]). Of events, only those
/// have one that are traced.
pub const TRACEPARENT: &str = "traceparent";

/// JetStream: the id by which a repeated publish is recognised.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// JetStream: the sequence that must be the last one of [`EXPECTED_SUBJECT`] (or of the published subject itself).
pub const EXPECTED_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// JetStream: the subject [`EXPECTED_SUBJECT_SEQUENCE`] speaks of.
pub const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// JetStream atomic batch: what its messages have in common.
pub const BATCH_ID: &str = "Nats-Batch-Id";
/// JetStream atomic batch: the message's place in it, from 1.
pub const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
/// JetStream atomic batch, last message: `1`.
pub const BATCH_COMMIT: &str = "Nats-Batch-Commit";
/// JetStream direct get: sequence of the message.
pub const SEQUENCE: &str = "Nats-Sequence";
/// JetStream direct get: subject of the message.
pub const SUBJECT: &str = "Nats-Subject";
/// JetStream direct get: when it was stored, RFC 3339.
pub const TIME_STAMP: &str = "Nats-Time-Stamp";
/// JetStream batched direct get: how many messages are still to come.
pub const NUM_PENDING: &str = "Nats-Num-Pending";
/// JetStream multi-last: the sequence up to which the answer is consistent.
pub const UP_TO_SEQUENCE: &str = "Nats-UpTo-Sequence";

/// Metadata key: version of what a stream holds.
pub const META_SCHEMA: &str = "herald.schema";
/// Metadata key: the stream's epoch.
pub const META_EPOCH: &str = "herald.epoch";
