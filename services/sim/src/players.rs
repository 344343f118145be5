//! `sim players`: what stands at the other end of Herald.
//!
//! Each session (`session`) has sockets (`socket`) that come back by cursor and prove what they saw (`proof`); the
//! first of them is what its player sees (`progress`). It plays by HTTP (`http`), and the report says what was lost,
//! doubled or late, on any socket, and whether all of a session's sockets saw the same story.

pub mod check;
pub mod http;
pub mod latency;
pub mod pick;
pub mod progress;
pub mod proof;
pub mod report;
pub mod session;
pub mod socket;
pub mod watch;

use std::{io::Write, process::ExitCode, sync::Arc};

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
    let shared = Shared { api, latency: Latency::default(), handshakes: Semaphore::new(HANDSHAKES) };
    let players = Players { options: Arc::new(options), shared: Arc::new(shared), stop: token };
    let holds = if players.options.check { players.check().await } else { players.play().await };
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Clone)]
struct Players {
    options: Arc<PlayersOptions>,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Players {
    /// All players side by side.
    async fn play(&self) -> bool {
        let mut games = JoinSet::new();
        for at in 0..self.options.sessions as usize {
            let players = self.clone();
            games.spawn(async move { players.play_one(at).await });
        }
        let mut rows = games.join_all().await.concat();
        rows.sort_by(|one, other| one.session.cmp(&other.session));
        let report = Report { rows, latency: &self.shared.latency, interrupted: self.stop.is_cancelled() };
        say(&report.to_string());
        report.holds()
    }

    /// One player and those who watch: as many games as it takes for the turns wanted. Each has a session of its own, as
    /// the arena plays ten rounds for a session and no more.
    async fn play_one(&self, at: usize) -> Vec<Row> {
        let (sockets, sessions) = (self.options.sockets as usize, self.options.sessions as usize);
        // The first sessions get what does not divide; each has at least one.
        let share = (sockets / sessions + usize::from(at < sockets % sessions)).max(1);
        let mut dice = self.dice(&format!("session {at}"));
        let mut given = self.options.session.clone().filter(|_| at == 0);
        let (mut rows, mut left) = (Vec::new(), self.options.turns);
        while left > 0 && !self.stop.is_cancelled() {
            let Some(id) = given.take().or_else(|| fresh_id(&mut dice)) else { break };
            let mut session = Session::open(id, share, self.shared.clone(), dice.clone(), self.options.timeout.get());
            let mut played = 0;
            let game = async {
                session.opened().await?;
                if self.options.debates {
                    session.debate(&self.options, left, &mut played).await
                } else {
                    session.play(&self.options, left, &mut played).await
                }
            };
            let failure = match self.stop.run_until_cancelled(game).await {
                Some(Err(error)) => Some(error.to_string()),
                Some(Ok(())) if played == 0 => Some("the session was over before its first turn".to_owned()),
                // Ended by a signal: what was seen so far still has to be sound.
                Some(Ok(())) | None => None,
            };
            let behind = session.settle().await;
            session.close().await;
            left -= played;
            if failure.is_some() {
                left = 0;
            }
            rows.push(Row::of(&session, played, behind, failure));
        }
        rows
    }

    /// One turn on one session.
    async fn check(&self) -> bool {
        let mut dice = self.dice("check");
        let id = self.options.session.clone().or_else(|| fresh_id(&mut dice));
        let Some(id) = id else { return false };
        let mut session = Session::open(id, 1, self.shared.clone(), dice, self.options.timeout.get());
        let outcome = self.stop.run_until_cancelled(self.check_turn(&mut session)).await;
        let behind = session.settle().await;
        session.close().await;
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
        session.start(self.options.lang).await?;
        session.turn(self.options.pick, self.options.lang).await?;
        session.wait("a complete debate", |progress| progress.complete_debates > 0).await?;
        let progress = session.progress.borrow().clone();
        Ok(check::posters(&self.shared.api, &progress).await)
    }

    fn dice(&self, place: &str) -> Dice {
        let seed = self.options.seed.unwrap_or_else(rand::random);
        Dice::new(seed, &format!("players {place}"))
    }
}

/// The arena takes nothing but UUIDs.
fn fresh_id(dice: &mut Dice) -> Option<SessionId> {
    SessionId::new(&dice.uuid().to_string()).ok()
}

/// To standard output. A closed pipe is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
