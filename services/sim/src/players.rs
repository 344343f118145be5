//! `sim players`: what stands at the other end of Herald.
//!
//! Each session (`session`) has sockets (`socket`) that come back by cursor and prove what they saw (`proof`); the
//! first of them is what its player sees (`progress`). It plays by HTTP (`http`), and the report says what was lost,
//! doubled or late, on any socket, and whether all of a session's sockets saw the same story.

pub mod check;
pub mod http;
pub mod latency;
pub mod progress;
pub mod proof;
pub mod report;
pub mod session;
pub mod socket;
pub mod watch;

use std::{io::Write, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use herald_protocol::SessionId;
use herald_runtime::Context;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    http::Api,
    latency::Latency,
    report::{Report, Row},
    session::{PlayError, Session},
    socket::Shared,
};
use crate::{cli::PlayersOptions, dice::Dice};

/// Handshakes at once: more only wait in the door's accept queue.
const HANDSHAKES: usize = 128;
/// Sockets get this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Plays, checks or watches; exit code 0 if everything came as it should, else 1.
///
/// # Errors
/// If the door's URL can't be used.
pub async fn run(options: PlayersOptions, context: Context) -> Result<ExitCode> {
    let (api, token) = (Api::new(&options.url)?, context.shutdown.token());
    if let (true, Some(session)) = (options.watch, &options.session) {
        watch::watch(&api, session, &options, token).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let sockets = CancellationToken::new();
    let shared =
        Shared { api, latency: Latency::default(), handshakes: Semaphore::new(HANDSHAKES), token: sockets.clone() };
    let players = Players { options: Arc::new(options), shared: Arc::new(shared), stop: token };
    let holds = if players.options.check { players.check().await } else { players.play().await };
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Players {
    options: Arc<PlayersOptions>,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Players {
    /// All sessions, each with its share of the sockets, side by side.
    async fn play(&self) -> bool {
        let sessions = self.open_all();
        let mut games = JoinSet::new();
        for session in sessions {
            let (options, stop) = (self.options.clone(), self.stop.clone());
            games.spawn(async move { play_one(session, &options, &stop).await });
        }
        // Every session is played to its end before any socket closes: a late event would be seen as missing.
        let mut played: Vec<_> = games.join_all().await;
        self.shared.token.cancel();
        for (session, _) in &mut played {
            let _ = tokio::time::timeout(GOODBYE, session.close()).await;
        }
        played.sort_by(|one, other| one.0.id.cmp(&other.0.id));
        let rows = played.into_iter().map(|(_, row)| row).collect();
        let report = Report { rows, latency: &self.shared.latency, interrupted: self.stop.is_cancelled() };
        say(&report.to_string());
        report.holds()
    }

    /// One turn on one session.
    async fn check(&self) -> bool {
        let mut dice = self.dice("check");
        let id = self.options.session.clone().or_else(|| fresh_id(&mut dice));
        let Some(id) = id else { return false };
        let mut session = Session::open(id, 1, self.shared.clone(), dice, self.options.timeout.get());
        let outcome = self.stop.run_until_cancelled(self.check_turn(&mut session)).await;
        let behind = session.settle().await;
        self.shared.token.cancel();
        let _ = tokio::time::timeout(GOODBYE, session.close()).await;
        let progress = session.progress.borrow().clone();
        let mut wrong = match outcome {
            None => vec!["interrupted".to_owned()],
            Some(Err(error)) => vec![error.to_string()],
            Some(Ok(wrong)) => wrong,
        };
        wrong.extend(check::missing(&progress));
        let row = Row::of(&session, 1, behind, None);
        let sound = row.holds();
        let report = Report { rows: vec![row], latency: &self.shared.latency, interrupted: self.stop.is_cancelled() };
        say(&format!("{}{report}", check::seen(&progress)));
        for fault in &wrong {
            say(&format!("check: {fault}"));
        }
        let holds = wrong.is_empty() && sound;
        say(if holds { "check: a complete turn" } else { "check: FAILED" });
        holds
    }

    async fn check_turn(&self, session: &mut Session) -> Result<Vec<String>, PlayError> {
        session.opened().await?;
        self.shared.api.start(&session.id, self.options.lang).await?;
        session.turn(self.options.pick, self.options.lang).await?;
        session.wait("a complete debate", |progress| progress.complete_debates > 0).await?;
        let progress = session.progress.borrow().clone();
        Ok(check::posters(&self.shared.api, &progress).await)
    }

    fn open_all(&self) -> Vec<Session> {
        let (sockets, count) = (self.options.sockets as usize, self.options.sessions as usize);
        let open = |at: usize| {
            let mut dice = self.dice(&format!("session {at}"));
            let own = self.options.session.clone().filter(|_| at == 0);
            let id = own.or_else(|| fresh_id(&mut dice))?;
            // The first sessions get what does not divide; each has at least one.
            let share = (sockets / count + usize::from(at < sockets % count)).max(1);
            Some(Session::open(id, share, self.shared.clone(), dice, self.options.timeout.get()))
        };
        (0..count).filter_map(open).collect()
    }

    fn dice(&self, place: &str) -> Dice {
        let seed = self.options.seed.unwrap_or_else(rand::random);
        Dice::new(seed, &format!("players {place}"))
    }
}

async fn play_one(mut session: Session, options: &PlayersOptions, stop: &CancellationToken) -> (Session, Row) {
    let mut turns = 0;
    let game = async {
        session.opened().await?;
        if options.debates {
            session.debate(options, &mut turns).await
        } else {
            session.play(options, &mut turns).await
        }
    };
    let failure = match stop.run_until_cancelled(game).await {
        Some(Err(error)) => Some(error.to_string()),
        // Ended by a signal: what was seen so far still has to be sound.
        Some(Ok(())) | None => None,
    };
    let behind = session.settle().await;
    let row = Row::of(&session, turns, behind, failure);
    (session, row)
}

/// The arena takes nothing but UUIDs.
fn fresh_id(dice: &mut Dice) -> Option<SessionId> {
    SessionId::new(&dice.uuid().to_string()).ok()
}

/// To standard output. A closed pipe is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
