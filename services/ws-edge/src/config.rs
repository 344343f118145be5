//! What an operator can say to ws-edge: its own section of `herald.toml`.

mod admission;
mod builtin;
mod check;
mod forward;
mod limits;
mod options;
mod presence;
mod replay;
#[cfg(test)]
mod tests;
mod uplink;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use herald_protocol::Name;
use herald_runtime::config::{ByteSize, Fault, HumanDuration, Secret, ServiceConfig, comma_separated};
use serde::{Deserialize, Serialize};

use crate::{
    answer::ErrorBody,
    dialect::DialectName,
    proxy::{Network, ProxyProtocol},
    view::{CloseOn, Delivery, Topics, Visible},
};

pub use admission::AdmissionConfig;
pub use builtin::Builtin;
pub(crate) use builtin::{api_of, events_of};
pub use forward::ForwardConfig;
pub use limits::LimitsConfig;
pub use options::{HealthConfig, HeartbeatConfig, Refuse};
pub use presence::{PresenceConfig, PresenceMode};
pub use replay::ReplayConfig;
pub use uplink::{NewestConfig, UplinkConfig, UplinkRouteConfig, WordsConfig};

/// The section `[ws-edge]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// IP address of the first listener, in place of the one in its `address`. Default: none.
    pub host: Option<IpAddr>,
    /// Port of the first listener, in place of the one in its `address`. Default: none.
    pub port: Option<u16>,
    /// The listeners. Default: one, the arena game on `127.0.0.1:8000`.
    pub listeners: Vec<ListenerConfig>,
    /// HTTP, and connections before they become sockets.
    pub http: HttpConfig,
    /// Connections that watch a session.
    pub socket: SocketConfig,
    /// How much one address, user or session may have and ask for.
    pub limits: LimitsConfig,
    /// Server-sent events.
    pub sse: SseConfig,
    /// The tokens that listeners with `auth = "jwt"` ask for.
    pub jwt: JwtConfig,
    /// Questions to engines about who may come in.
    pub admission: AdmissionConfig,
    /// What clients send, on its way to NATS.
    pub uplink: UplinkConfig,
    /// What is said to one connection alone.
    pub words: WordsConfig,
    /// Who is there, over all edges.
    pub presence: PresenceConfig,
    /// The recent end of each watched session, in memory.
    pub ring: RingConfig,
    /// How the stream is taken in.
    pub intake: IntakeConfig,
    /// Reading back from the stream.
    pub history: HistoryConfig,
    /// Reading a session's past by request.
    pub replay: ReplayConfig,
    /// The planned end of this process.
    pub drain: DrainConfig,
    /// The bug this process has, to see whether it is found. Default: none.
    #[cfg(feature = "planted-bugs")]
    pub planted_bug: Option<crate::planted::Bug>,
}

/// One address this edge listens on, and what is to be had there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerConfig {
    /// Its name in logs and metrics: lower-case letters, digits, `-`. Default `public`.
    pub name: Name,
    /// Where it listens, `IP:PORT`; port 0 takes a free one. Default `127.0.0.1:8000`.
    pub address: SocketAddr,
    /// Routes and forwards to begin with: `arena`, the arena game with its three doors, or `arena-gm`, the door of its
    /// Game Master alone; nothing if left out. Default: none (the default listener: `arena`).
    pub builtin: Option<Builtin>,
    /// Dialect of the routes that name none. Default `event`.
    pub dialect: DialectName,
    /// What routes that say nothing of it tell of who is there: `off`, `count` or `list`. Default `off`.
    pub presence: PresenceMode,
    /// Who may come in: `off`, everybody; `jwt`, whoever has a token. Default `off`.
    pub auth: Auth,
    /// Origins whose pages may use this listener: `https://play.example`, `https://*.play.example` for all below it; `*`: all.
    /// Default `*`.
    #[serde(deserialize_with = "comma_separated")]
    pub origins: Vec<String>,
    /// Names by which it may be asked for (`Host`, without a port): `play.example`, `*.play.example` for all below it, `127.0.0.1`;
    /// requests for others are answered 421. A page whose own name leads here (DNS rebinding) is kept out by this alone. Default:
    /// any.
    #[serde(deserialize_with = "comma_separated")]
    pub hosts: Vec<String>,
    /// Networks of the proxies in front of it, which are believed when they say whose request or connection it is:
    /// `10.0.0.0/8`, `192.0.2.1`. Default: none.
    #[serde(deserialize_with = "comma_separated")]
    pub trusted_proxies: Vec<Network>,
    /// Whether its connections begin with the PROXY protocol (version 1 or 2): `off`, `accept` it from trusted proxies, or
    /// `require` it and close all others. Default `off`.
    pub proxy_protocol: ProxyProtocol,
    /// Folder of pictures of the agents (`pavel.png` is Pavel's), served under `avatars_path`. Default: none.
    pub avatars: Option<PathBuf>,
    /// The path these pictures are served under. Default `/static/agent-skins`.
    pub avatars_path: String,
    /// Folder of files that are served where there is nothing else, `/` as its `index.html`: a page of one's own, and then not
    /// `page`. Default: none.
    #[serde(rename = "static")]
    pub files: Option<PathBuf>,
    /// In which member the door's own errors say what is wrong: `error`, `detail` or `both`. Default `error`.
    pub error_body: ErrorBody,
    /// What `/health` says here, where no forward has that path. Default: nothing, there is none; a forward marked `health`
    /// says what it would say by default.
    pub health: Option<HealthConfig>,
    /// Whether `/openapi.json` and `/asyncapi.json` say what is to be had here; a path of the configuration comes first. Default
    /// true.
    pub openapi: bool,
    /// Whether requests may say which trace they belong to (`traceparent`), and that it is recorded: where a proxy in front
    /// says so for them all. Default false.
    pub traceparent: bool,
    /// Whether pages of these origins may ask with credentials (`fetch` with `credentials: "include"`), and read the answer. No cookie
    /// is looked at, or goes on to a service. Default false.
    pub credentials: bool,
    /// Whether a browser that opens `/` gets the page, to play the arena game and to look into sessions; a path of the
    /// configuration comes first. Default false (the default listener: true).
    pub page: bool,
    /// Streams of events, besides the built-in ones. Default: none.
    pub routes: Vec<RouteConfig>,
    /// HTTP that goes on over NATS, besides the built-in one. Default: none.
    pub forwards: Vec<ForwardConfig>,
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Everybody, and to everything.
    #[default]
    Off,
    /// Whoever has a JSON Web Token, and to what that says.
    Jwt,
}

/// A path under which a session can be watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteConfig {
    /// The path, with `{sid}` for the session: `/ws/{sid}`; a path without is for routes with `admit`. No default.
    pub path: String,
    /// `socket` (WebSocket) or `sse` (server-sent events); `events`, a page of the past for each request, or `session`, what there
    /// is of it: these two take `GET`, and leave other methods to what else has the path. Default `socket`.
    pub transport: Transport,
    /// The stream it reads. Default `EVENTS`.
    pub stream: String,
    /// The roots it shows: first tokens of subjects, such as `gm`. No default.
    #[serde(deserialize_with = "comma_separated")]
    pub roots: Vec<Name>,
    /// The topics it shows as they happen, as `<root>.<topic pattern>`: `lobby.status`. Default: all of its roots.
    #[serde(deserialize_with = "comma_separated")]
    pub topics: Vec<Topics>,
    /// Topics it never shows, as `<root>.<topic pattern>`: `arena.input.fakenews`. Default: none.
    #[serde(deserialize_with = "comma_separated")]
    pub hidden: Vec<Topics>,
    /// Topics whose last events are a snapshot, as `<root>.<topic pattern>`: `arena.agent.*.status`; also such that are not among
    /// `topics`. Default: none, and then no client can ask for one.
    #[serde(deserialize_with = "comma_separated")]
    pub snapshot: Vec<Topics>,
    /// Its dialect, unless the client asks for another. Default: the listener's.
    pub dialect: Option<DialectName>,
    /// The bucket that says which session an id stands for, `ALIASES`; the id is then no session itself. Default: none.
    pub alias: Option<String>,
    /// Where a client starts that does not say it: `live`, `snapshot`, or `replay` from the first kept event. Default
    /// `live`.
    pub start: StartConfig,
    /// What a client gets that does not read as fast as events come: `all` of them, as far as the limits of a lag go, or the
    /// `latest` of each topic, and then it is never too slow. Default `all`.
    pub delivery: Delivery,
    /// Events behind which connections are closed, as `<root>.<topic pattern>:<code>` or with `:<reason>` behind it, shown or not:
    /// `lobby.session.destroyed:1001`. Default: none.
    #[serde(deserialize_with = "comma_separated")]
    pub close_on: Vec<CloseOn>,
    /// How somebody hears who may not watch: the socket is opened and closed with a code (`close`), which browsers can see; or
    /// they are answered with a status before that (`answer`), as event streams always are. Default `close`.
    pub refuse: Refuse,
    /// A frame that is sent every now and then to clients that do not speak `herald.v1`. Default: none.
    pub heartbeat: Option<HeartbeatConfig>,
    /// The service that is asked whether somebody may come in: questions go to `admit.<service>`. Default: none, nobody is asked.
    pub admit: Option<Name>,
    /// Query parameters that this service is told, by their names; of others it is told nothing. Default: none.
    #[serde(deserialize_with = "comma_separated")]
    pub admit_query: Vec<String>,
    /// The door's name, told to this service. Default `event`.
    pub door: Name,
    /// The query parameter that names the session where the path does not, which is for routes with `admit`; without it the
    /// service says which one. Default `session_id`.
    pub session: String,
    /// Topics that only some see, as `<root>.<topic pattern> for <who>`: `role:<role>`, or, where the pattern has the word
    /// `{user}`, `user`; several joined by ` or `. Where several name a topic, each must let somebody see it. Default: none,
    /// everybody who may watch sees all.
    #[serde(deserialize_with = "comma_separated")]
    pub visible: Vec<Visible>,
    /// What its clients may send up. Default: nothing, it is ignored.
    pub uplink: Option<UplinkRouteConfig>,
    /// Of which of its connections a session has one at a time. Default: of none.
    pub newest: Option<NewestConfig>,
    /// What it tells of who is there, over all edges: `off`, nothing; `count`, how many; `list`, who. Default: the listener's.
    pub presence: Option<PresenceMode>,
    /// Where that can be asked for, by whoever may watch. Default `/presence/{sid}`; none on routes with `alias`.
    pub presence_path: String,
}

/// How a route's events travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// WebSocket.
    #[default]
    Socket,
    /// Server-sent events.
    Sse,
    /// A page of the past for each request.
    Events,
    /// What there is of a session, for each request.
    Session,
}

impl Transport {
    /// Whether it shows what happens, for as long as a client listens.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Socket | Self::Sse)
    }
}

/// Where a client starts that does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartConfig {
    /// With the next event.
    #[default]
    Live,
    /// With the last event of each snapshot topic.
    Snapshot,
    /// With the session's first kept event.
    Replay,
}

/// HTTP, and connections before they become sockets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HttpConfig {
    /// Connections at a time, those that watch included, on all listeners; further ones are closed at once. Default 25000.
    pub max_connections: usize,
    /// How long a connection may take to send the head of its next request. Default 30s.
    pub header_timeout: HumanDuration,
    /// Largest head of a request. Default 32KiB.
    pub max_header: ByteSize,
    /// Headers of a request. Default 100.
    pub max_headers: usize,
    /// Largest body of a request that is forwarded. Default 1MiB.
    pub max_body: ByteSize,
    /// How long the body of a request may take to arrive. Default 15s.
    pub body_timeout: HumanDuration,
    /// Forwarded requests at a time, and four times as many answers that their clients have not taken yet; further ones are
    /// answered 503. Default 256.
    pub max_forwards: usize,
    /// Of these, what one address may have, 0: all; further ones are answered 429. Default: an eighth of them, but all for
    /// loopback and on listeners on loopback without identity; what is set holds there too.
    pub max_forwards_per_address: Option<usize>,
}

/// Connections that watch a session, WebSocket and SSE.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SocketConfig {
    /// Such connections at a time; further ones are closed with 1013, or answered 503. Default 20000.
    pub max_connections: usize,
    /// How often a ping is sent. Default 25s.
    pub heartbeat: HumanDuration,
    /// How long after a ping nothing may be heard from the client before its connection counts as dead. Default 20s.
    pub heartbeat_timeout: HumanDuration,
    /// Largest message a client may send on routes without `uplink`, where all of them are ignored. Default 64KiB.
    pub max_message: ByteSize,
    /// How long a frame may wait to be written before the client counts as too slow. Default 30s.
    pub write_timeout: HumanDuration,
    /// How many frames a client may lag behind before it counts as too slow. Default 10000.
    pub max_lag_frames: u64,
    /// How many bytes of frames a client may lag behind before it counts as too slow. Default 16MiB.
    pub max_lag: ByteSize,
    /// The kernel's send buffer of a connection. Default 128KiB.
    pub send_buffer: ByteSize,
    /// How long a connection waits for history that can't be read before it is closed with 1013. Default 30s.
    pub history_patience: HumanDuration,
    /// How long the client may take to answer a close. Default 5s.
    pub close_timeout: HumanDuration,
}

/// Server-sent events.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SseConfig {
    /// How often a comment is sent where there is nothing else. Default 15s.
    pub heartbeat: HumanDuration,
}

/// JSON Web Tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JwtConfig {
    /// The secret of tokens signed by HS256, 32 bytes at least. Default: none, and then there are no such tokens.
    pub secret: Secret,
    /// The keys of tokens signed by RS256 or ES256: a JWKS, as the path of a file or as a URL. Default: none, and then there
    /// are no such tokens.
    pub jwks: Option<String>,
    /// How often these keys are read anew. Default 5m.
    pub refresh: HumanDuration,
    /// How long after a reading a token with an unknown key may cause the next one. Default 10s.
    pub refresh_min: HumanDuration,
    /// How long a reading may take. Default 5s.
    pub timeout: HumanDuration,
    /// Who may have made the token (`iss`), one of these. Default: anybody with the key.
    #[serde(deserialize_with = "comma_separated")]
    pub issuers: Vec<String>,
    /// For whom it must be made (`aud`), one of these. Default: for nobody by name; a token that names somebody is refused.
    #[serde(deserialize_with = "comma_separated")]
    pub audiences: Vec<String>,
    /// By how much the clocks of those who make tokens may differ from ours (`exp`, `nbf`). Default 30s.
    pub leeway: HumanDuration,
    /// The claim that says who it is; a JSON pointer (`/a/b`) where it stands deeper. Default `sub`.
    pub user_claim: String,
    /// The claim that says what they are, likewise. Default `role`.
    pub role_claim: String,
    /// The role of those who may see which sessions and connections an edge has in hand (`/operator/sessions`,
    /// `/operator/connections`); empty: nobody may. Default `operator`.
    pub operator_role: String,
    /// The claim that says which sessions they may open, likewise: a list of ids, one id, or `*` for all. Default `sessions`.
    pub sessions_claim: String,
    /// Further claims, likewise, that services are told which are asked for admission. Default: none.
    #[serde(deserialize_with = "comma_separated")]
    pub admission_claims: Vec<String>,
    /// Whether the token may stand in the query, `?token=`: proxies and browsers keep URLs. Default false.
    pub query: bool,
    /// How long a socket that came without a token may take to send one. Default 10s.
    pub wait: HumanDuration,
    /// How long a connection goes on after its token has expired, for a fresh one to come. Default 30s.
    pub grace: HumanDuration,
}

/// The recent end of each watched session, in memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RingConfig {
    /// Frames kept of one session in one view. Default 1024.
    pub frames: usize,
    /// Bytes kept of one session in one view. Default 1MiB.
    pub bytes: ByteSize,
    /// Bytes kept of all sessions together. Default 256MiB.
    pub total: ByteSize,
    /// How long a session is kept after its last client has left. Default 60s.
    pub linger: HumanDuration,
}

/// How the stream is taken in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IntakeConfig {
    /// Messages behind the head from which on the intake leaves them out and starts at the head; clients then read them
    /// from history. Default 100000.
    pub skip: u64,
    /// How long events may wait for those right behind them, to go out with them in one write: while the server says that
    /// there are some, and where events come thick. Default 1ms.
    pub burst_time: HumanDuration,
    /// Bytes of events that go out together at most. Best below `socket.send_buffer`. Default 64KiB.
    pub burst_bytes: ByteSize,
}

/// Reading back from the stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryConfig {
    /// Reads at a time; further ones wait. Default 16.
    pub max_reads: usize,
    /// How long a read may take, its waiting included. Default 20s.
    pub timeout: HumanDuration,
    /// Bytes of one page of a session's past. Default 256KiB.
    pub page: ByteSize,
    /// Bytes of one snapshot; who asks for a larger one is shown the session's past in its place. Default 4MiB.
    pub snapshot: ByteSize,
    /// Bytes of a stream's recent end that are kept on this machine, sorted by session, so that reads of many sessions need not
    /// be found in the stream one by one; 0B: none. Each stream has its own, with some 5 % of that in memory. Default 2GiB.
    pub shelf: ByteSize,
    /// Where that is kept, in files without a name that end with the process: a folder on a disk (one in memory is refused).
    /// Default: `/var/tmp`, or the system's one for temporary files.
    pub shelf_folder: Option<PathBuf>,
    /// Free bytes of that disk that are left to others, or a tenth of it where that is less. Default 1GiB.
    pub shelf_spare: ByteSize,
}

/// The planned end of this process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainConfig {
    /// Over how long the clients are sent away, so that they don't all come back at once. Default 10s.
    pub period: HumanDuration,
    /// Over how long they are told to come back, each at another moment of it. Default 2s.
    pub retry: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            listeners: vec![ListenerConfig { builtin: Some(Builtin::Arena), page: true, ..ListenerConfig::default() }],
            http: HttpConfig {
                max_connections: 25_000,
                header_timeout: HumanDuration::from_secs(30),
                max_header: ByteSize::from_kib(32),
                max_headers: 100,
                max_body: ByteSize::from_mib(1),
                body_timeout: HumanDuration::from_secs(15),
                max_forwards: 256,
                max_forwards_per_address: None,
            },
            socket: SocketConfig {
                max_connections: 20_000,
                heartbeat: HumanDuration::from_secs(25),
                heartbeat_timeout: HumanDuration::from_secs(20),
                max_message: ByteSize::from_kib(64),
                write_timeout: HumanDuration::from_secs(30),
                max_lag_frames: 10_000,
                max_lag: ByteSize::from_mib(16),
                send_buffer: ByteSize::from_kib(128),
                history_patience: HumanDuration::from_secs(30),
                close_timeout: HumanDuration::from_secs(5),
            },
            limits: LimitsConfig::default(),
            sse: SseConfig { heartbeat: HumanDuration::from_secs(15) },
            jwt: JwtConfig {
                secret: Secret::default(),
                jwks: None,
                refresh: HumanDuration::from_secs(300),
                refresh_min: HumanDuration::from_secs(10),
                timeout: HumanDuration::from_secs(5),
                issuers: Vec::new(),
                audiences: Vec::new(),
                leeway: HumanDuration::from_secs(30),
                user_claim: "sub".to_owned(),
                role_claim: "role".to_owned(),
                operator_role: "operator".to_owned(),
                sessions_claim: "sessions".to_owned(),
                admission_claims: Vec::new(),
                query: false,
                wait: HumanDuration::from_secs(10),
                grace: HumanDuration::from_secs(30),
            },
            admission: AdmissionConfig::default(),
            uplink: UplinkConfig::default(),
            words: WordsConfig::default(),
            presence: PresenceConfig::default(),
            ring: RingConfig {
                frames: 1024,
                bytes: ByteSize::from_mib(1),
                total: ByteSize::from_mib(256),
                linger: HumanDuration::from_secs(60),
            },
            intake: IntakeConfig {
                skip: 100_000,
                burst_time: HumanDuration::from_millis(1),
                burst_bytes: ByteSize::from_kib(64),
            },
            history: HistoryConfig {
                max_reads: 16,
                timeout: HumanDuration::from_secs(20),
                page: ByteSize::from_kib(256),
                snapshot: ByteSize::from_mib(4),
                shelf: ByteSize::from_mib(2048),
                shelf_folder: None,
                shelf_spare: ByteSize::from_mib(1024),
            },
            replay: ReplayConfig::default(),
            drain: DrainConfig { period: HumanDuration::from_secs(10), retry: HumanDuration::from_secs(2) },
            #[cfg(feature = "planted-bugs")]
            planted_bug: None,
        }
    }
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            name: name("public"),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            builtin: None,
            dialect: DialectName::Event,
            presence: PresenceMode::Off,
            auth: Auth::Off,
            origins: vec!["*".to_owned()],
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: ProxyProtocol::Off,
            avatars: None,
            avatars_path: "/static/agent-skins".to_owned(),
            files: None,
            error_body: ErrorBody::Error,
            health: None,
            openapi: true,
            traceparent: false,
            credentials: false,
            page: false,
            routes: Vec::new(),
            forwards: Vec::new(),
        }
    }
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            path: String::new(),
            transport: Transport::Socket,
            stream: "EVENTS".to_owned(),
            roots: Vec::new(),
            topics: Vec::new(),
            hidden: Vec::new(),
            snapshot: Vec::new(),
            dialect: None,
            alias: None,
            start: StartConfig::Live,
            delivery: Delivery::All,
            close_on: Vec::new(),
            refuse: Refuse::Close,
            heartbeat: None,
            admit: None,
            admit_query: Vec::new(),
            door: name(herald_protocol::headers::DEFAULT_DOOR),
            session: "session_id".to_owned(),
            visible: Vec::new(),
            uplink: None,
            newest: None,
            presence: None,
            presence_path: "/presence/{sid}".to_owned(),
        }
    }
}

impl Config {
    /// The listeners, as they are to be: `host` and `port` applied, built-in routes and forwards in front of the own.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerConfig> {
        let mut listeners: Vec<_> = self.listeners.iter().map(ListenerConfig::expanded).collect();
        if let Some(first) = listeners.first_mut() {
            first.address.set_ip(self.host.unwrap_or(first.address.ip()));
            first.address.set_port(self.port.unwrap_or(first.address.port()));
        }
        listeners
    }
}

impl ListenerConfig {
    fn expanded(&self) -> Self {
        let mut expanded = self.clone();
        if let Some(builtin) = expanded.builtin.take() {
            expanded.routes = [builtin.routes(), expanded.routes].concat();
            expanded.forwards = [builtin.forwards(), expanded.forwards].concat();
            expanded.health = expanded.health.or_else(|| Some(builtin.health()));
        }
        expanded
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "ws-edge";
    const OPERATIONS_PORT: u16 = 9100;
    const ALIASES: &'static [(&'static str, &'static str)] = &[("PORT", "port")];

    fn validate(&self) -> Vec<Fault> {
        check::faults(self)
    }
}

/// A name that is known to be valid.
fn name(text: &'static str) -> Name {
    Name::new(text).unwrap_or_else(|_| unreachable!("a name of ours is valid"))
}
