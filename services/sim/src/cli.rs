//! The commands and their flags.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use herald_protocol::{Position, SessionId, record::Lang};
use herald_runtime::{
    Context,
    config::{Common, HumanDuration, LogFormat},
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    arena, check,
    floor::{self, FloorOptions},
    gm,
    load::{self, LoadOptions},
    pace::Speed,
    players::{self, pick::Pick},
    replay,
};

/// Stand-ins for what Herald does not contain: a Game Master, an arena engine, recorded traffic, players.
///
/// Nothing in here is an LLM: texts are invented beforehand and drawn by lot from a seed.
#[derive(Debug, Parser)]
#[command(name = "sim", version, args_override_self = true)]
pub struct Cli {
    /// What to stand in for.
    #[command(subcommand)]
    pub command: Command,
    /// How it logs: `auto` is `pretty` on a terminal and `json` elsewhere.
    #[arg(long, global = true, value_name = "FORMAT", env = "HERALD_LOG__FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A stand-in for the Game Master: one game, served over HTTP and SSE.
    Gm(GmOptions),
    /// A stand-in for the arena engine: four invented agents debate over NATS.
    Arena(ArenaOptions),
    /// Plays recorded traffic: `.sse` files as a Game Master, or an `arena.ndjson` to NATS.
    Replay(ReplayOptions),
    /// Players: open sockets, play turns, prove that nothing was lost, doubled or out of order.
    Players(PlayersOptions),
    /// Proves that nothing is lost, doubled, out of order, foreign or silently missing, whatever dies meanwhile.
    Check(CheckOptions),
    /// A load on a door and what it costs: exactness, latencies, CPU and memory of the server's processes.
    Load(LoadOptions),
    /// The yardstick of a load: the least a server can do that writes events from NATS to WebSockets.
    Floor(FloorOptions),
}

/// Flags of `sim gm`.
#[derive(Debug, Clone, Args)]
pub struct GmOptions {
    /// Where to listen; port 0 takes a free one. With `--numbered` it may be given several times: each is a game master
    /// of its own.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8899")]
    pub listen: Vec<SocketAddr>,
    /// Herald's door for game masters: called at the start and with each chosen news.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000/gm")]
    pub door: String,
    /// Call no door: the agents' reactions are missing, as in the original without its arena.
    #[arg(long, conflicts_with = "door")]
    pub no_door: bool,
    /// The game master's own session id; a fresh UUID per process unless given, as in the original.
    #[arg(long, value_name = "UUID")]
    pub id: Option<SessionId>,
    /// What is told, and what comes of it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Divides every pause; `max` leaves them out.
    #[arg(long, default_value = "1")]
    pub speed: Speed,
    /// Turns of a game.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub turns: u32,
    /// Cut each proposal into about this many `llm_text` events instead of pieces of a natural length.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tokens: Option<u32>,
    /// About this many bytes of text per article.
    #[arg(long, value_name = "BYTES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=262_144))]
    pub article_bytes: u32,
    /// Add `sent_ns` (ns since 1970) to each `llm_text`, so that `sim players` can tell the latency.
    #[arg(long)]
    pub stamp: bool,
    /// How long a choose waits for the arena.
    #[arg(long, value_name = "DURATION", default_value = "120s")]
    pub arena_wait: HumanDuration,
    /// Reopen the socket when the door closes it. The original never does.
    #[arg(long)]
    pub reopen: bool,
    /// Let the events of a cut action leak into the stream of the next one, as the original does.
    #[arg(long)]
    pub leak: bool,
    /// Tell numbers instead of a story: a source for `sim check`, which calls no door. Choosing the satirical news ends its
    /// game. Bridges had better be told `gm.cut_choose = "0s"`: a cut choose does not run on in here.
    #[arg(long)]
    pub numbered: bool,
    /// With `--numbered`: events per call, the last one included; from half as many to half as many again, by lot.
    #[arg(long, default_value_t = 100, requires = "numbered", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub events: u32,
    /// With `--numbered`: pause per event; what is written at once is paused for together.
    #[arg(long, value_name = "DURATION", default_value = "20ms", requires = "numbered")]
    pub pace: HumanDuration,
    /// A file that gets the addresses bound, as JSON.
    #[arg(long, value_name = "FILE", env = "HERALD_PORTS_FILE")]
    pub ports_file: Option<PathBuf>,
}

/// Flags of `sim arena`.
#[derive(Debug, Clone, Args)]
pub struct ArenaOptions {
    /// The NATS server; credentials may stand in the URL.
    #[arg(long, value_name = "URL", env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    pub nats: String,
    /// Who debates, and what comes of it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Divides every pause; `max` leaves them out.
    #[arg(long, default_value = "1")]
    pub speed: Speed,
    /// Rounds of a game.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long a round waits for its news before the game ends.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub patience: HumanDuration,
    /// Keep games here, so that they are resumed after a restart; without it they are kept in memory.
    #[arg(long, value_name = "DIR")]
    pub saves: Option<PathBuf>,
}

/// Flags of `sim replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayOptions {
    /// Recorded `.sse` bodies (a name with `choose` answers the chooses, the others the proposes, each in turn and the
    /// last one again and again), or one `.ndjson` of NATS messages.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Divides the recorded pauses; `max` leaves them out.
    #[arg(long, default_value = "1")]
    pub speed: Speed,
    /// `.sse`: where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8899")]
    pub listen: SocketAddr,
    /// `.sse`: send the body in pieces of this many bytes instead of event by event.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunk: Option<u32>,
    /// `.sse`: send the body in exactly two pieces, cut at this offset, without its timing.
    #[arg(long, value_name = "OFFSET", conflicts_with = "chunk")]
    pub cut: Option<u64>,
    /// A file that gets the address bound, as JSON.
    #[arg(long, value_name = "FILE", env = "HERALD_PORTS_FILE")]
    pub ports_file: Option<PathBuf>,
    /// `.ndjson`: the NATS server.
    #[arg(long, value_name = "URL", env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    pub nats: String,
    /// `.ndjson`: play what was recorded for session OLD into session NEW.
    #[arg(long = "map", value_name = "OLD=NEW", value_parser = parse_map)]
    pub maps: Vec<(SessionId, SessionId)>,
    /// `.ndjson`: play the session with the most messages into this one, and leave out sessions without a `--map`.
    #[arg(long, value_name = "S")]
    pub session: Option<SessionId>,
    /// `.ndjson`: publish `arena.init` too. A running engine would take it.
    #[arg(long)]
    pub with_init: bool,
}

/// Flags of `sim players`.
#[derive(Debug, Clone, Args)]
pub struct PlayersOptions {
    /// The public door.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Sockets in all, spread over the sessions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sockets: u32,
    /// Sessions; each needs a game master of its own unless `--debates` is given.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sessions: u32,
    /// Turns to play in each of the sessions; where a game ends earlier, another session takes its place.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub turns: u32,
    /// Language of the games: fr or en.
    #[arg(long, default_value = "fr", value_parser = parse_lang)]
    pub lang: Lang,
    /// What to choose: real, fake, satirical, or `lot` to draw it from the seed.
    #[arg(long, default_value = "lot")]
    pub pick: Pick,
    /// Seed of session ids and choices; a fresh one unless given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Play without a game master: news go straight to the arena.
    #[arg(long, conflicts_with = "check")]
    pub debates: bool,
    /// With `--debates`: about this many bytes per news.
    #[arg(long, value_name = "BYTES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=262_144))]
    pub article_bytes: u32,
    /// How long a turn may take.
    #[arg(long, value_name = "DURATION", default_value = "180s")]
    pub timeout: HumanDuration,
    /// One turn on one session: say what was seen, ask for a complete debate and result.
    #[arg(long, conflicts_with_all = ["watch", "sockets", "sessions", "turns"])]
    pub check: bool,
    /// Print the frames of one session, one line each, until Ctrl-C.
    #[arg(long, requires = "session")]
    pub watch: bool,
    /// The session to watch, check or play (with one session); fresh ones unless given.
    #[arg(long, value_name = "S")]
    pub session: Option<SessionId>,
    /// With `--watch`: start behind this cursor or sequence; 0 is the session's beginning.
    #[arg(long, requires = "watch", value_name = "CURSOR")]
    pub after: Option<Position>,
    /// With `--watch`: whole frames, as they come.
    #[arg(long, requires = "watch")]
    pub raw: bool,
    /// With `--watch`: start with a snapshot.
    #[arg(long, requires = "watch", conflicts_with = "after")]
    pub snapshot: bool,
}

/// Flags of `sim check`.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// A public door; given several times, clients go to the next one when one fails.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub url: Vec<String>,
    /// The NATS servers, separated by commas: to publish as an arena engine, and to read the log.
    #[arg(long, value_name = "URL", env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    pub nats: String,
    /// How long sessions are played; then they come to rest. 60, or with `--marks` until the end of the input.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seconds: Option<u64>,
    /// Seed of everything drawn by lot; a fresh one unless given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Sessions at a time.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sessions: u32,
    /// Clients of each session.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// All clients stay, and only go where a door fails: half of them `herald.v1`, a quarter plain, a quarter event streams.
    #[arg(long)]
    pub crowd: bool,
    /// Events a second and session on the arena path.
    #[arg(long, default_value_t = 10.0, value_parser = parse_rate)]
    pub rate: f64,
    /// So many of the sessions also play on a game master (`sim gm --numbered`).
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub gm_sessions: u32,
    /// About how long a session lives before another takes its place.
    #[arg(long, value_name = "DURATION", default_value = "40s")]
    pub life: HumanDuration,
    /// Read marks of faults from standard input, one JSON object a line; its end means that no more come.
    #[arg(long)]
    pub marks: bool,
    /// How long each step of coming to rest may take: to end what runs, to have all clients there, to have each of them at
    /// the last event.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub settle: HumanDuration,
    /// Write the report here, too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write everything that a client saw with whom something is wrong, and what the log holds, into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub notes: Option<PathBuf>,
}

impl CheckOptions {
    /// How long a run takes, s, where nothing else is said.
    pub const SECONDS: u64 = 60;
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.01 to 10000".into()),
    }
}

fn parse_lang(text: &str) -> Result<Lang, String> {
    Lang::parse(text).ok_or("expected fr or en".into())
}

fn parse_map(text: &str) -> Result<(SessionId, SessionId), String> {
    let (old, new) = text.split_once('=').ok_or("expected OLD=NEW")?;
    let id = |text: &str| SessionId::new(text).map_err(|error| error.to_string());
    Ok((id(old)?, id(new)?))
}

/// Runs a command to its end, or until SIGTERM or Ctrl-C.
///
/// # Errors
/// Whatever kept it from starting or going on; printed by `main`.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let mut common = Common::with_operations_port(0);
    common.log.format = cli.log_format;
    if let Command::Players(_) | Command::Check(_) | Command::Load(_) = cli.command {
        // Its output is for people: what it has to say stands in its table. That NATS is away is no news in a check.
        common.log.filter = "warn,herald_runtime=error".into();
        if common.log.format == LogFormat::Auto {
            common.log.format = LogFormat::Pretty;
        }
    }
    telemetry::init(&common.log).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let (nats, ports_file) = match &cli.command {
        // They have threads of their own, and no runtime that would share their cores.
        Command::Load(options) => return load::run(options),
        Command::Floor(options) => return floor::run(options),
        Command::Gm(options) => (None, options.ports_file.clone()),
        Command::Arena(options) => (Some(options.nats.clone()), None),
        Command::Replay(options) => (Some(options.nats.clone()), options.ports_file.clone()),
        Command::Players(_) => (None, None),
        Command::Check(options) => (Some(options.nats.clone()), None),
    };
    common.nats.url = nats.unwrap_or(common.nats.url);
    common.ports_file = ports_file;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let context = Context::new("sim", common);
        let signals = tokio::spawn(watch_signals(context.clone()));
        let code = match cli.command {
            Command::Gm(options) => gm::run(options, context).await.map(|()| ExitCode::SUCCESS),
            Command::Arena(options) => arena::run(options, context).await.map(|()| ExitCode::SUCCESS),
            Command::Players(options) => players::run(options, context).await,
            Command::Check(options) => check::run(options, context).await,
            Command::Replay(options) => replay::run(options, context).await.map(|()| ExitCode::SUCCESS),
            Command::Load(_) | Command::Floor(_) => unreachable!("returned above"),
        };
        signals.abort();
        code
    });
    // Pauses that nobody waits for any more.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

/// The first signal begins the shutdown, the second ends the process.
async fn watch_signals(context: Context) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if !context.shutdown.begin() {
            std::process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn maps_are_checked() {
        assert!(parse_map("a=b").is_ok());
        for bad in ["a", "=b", "a=", "a.b=c", "a=b=c"] {
            assert!(parse_map(bad).is_err(), "{bad}");
        }
    }
}
