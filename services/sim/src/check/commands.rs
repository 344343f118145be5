//! The Game Master's path: commands through the public door, at random, as an impatient player sends them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use futures_util::future::join_all;
use herald_protocol::{
    SessionId,
    record::{ActionKind, NewsKind},
};
use reqwest::{Client, Method, redirect, retry};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{clock::now_ms, doors::Door, played::Asked};
use crate::dice::Dice;

/// Longer than any answer may take: a start waits for the action that it ends, and for others.
const ANSWER: Duration = Duration::from_secs(45);
/// Connecting to a door.
const CONNECT: Duration = Duration::from_secs(3);
/// A player who was refused tries something else after this long.
const ANNOYED: (f64, f64) = (0.3, 1.5);
/// A player who got an answer watches for this long.
const WATCHES: (f64, f64) = (0.2, 5.0);
/// One who is patient, for so long: longer than others take to notice that a bridge is gone.
const PATIENT: (f64, f64) = (8.0, 14.0);
/// How often somebody is.
const PATIENCE: f64 = 0.1;
/// How often a command is followed by another one at once.
const IMPATIENT: f64 = 0.15;

/// The doors, as a program that sends commands sees them. Nothing in here is sent twice by itself.
#[derive(Debug, Clone)]
pub struct Commands {
    http: Client,
    doors: Arc<[Door]>,
    answers: Arc<Mutex<Answers>>,
}

/// How many commands of a kind were answered with which status; `None` is no answer.
pub type Answers = BTreeMap<(&'static str, Option<u16>), u64>;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Start,
    Propose,
    Choose(NewsKind),
    Cancel,
}

impl Command {
    const fn kind(self) -> ActionKind {
        match self {
            Self::Start => ActionKind::Start,
            Self::Propose => ActionKind::Propose,
            Self::Choose(_) => ActionKind::Choose,
            Self::Cancel => ActionKind::Cancel,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Propose => "propose",
            Self::Choose(_) => "choose",
            Self::Cancel => "cancel",
        }
    }

    fn path(self, session: &SessionId) -> String {
        let kind = match self {
            Self::Choose(kind) => format!("&kind={}", kind.as_str()),
            _ => String::new(),
        };
        format!("/api/{}?session_id={session}{kind}", self.name())
    }
}

/// An answer.
struct Answer {
    status: Option<u16>,
    body: String,
}

impl Commands {
    /// A way to these doors.
    ///
    /// # Errors
    /// Where the HTTP client can't be built.
    pub fn new(doors: Arc<[Door]>) -> Result<Self> {
        // No connection is used twice: one that the door has just closed is what libraries repeat requests on.
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()?;
        Ok(Self { http, doors, answers: Arc::default() })
    }

    /// How commands were answered so far.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, command: &'static str, status: Option<u16>) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry((command, status)).or_default() += 1;
    }

    async fn send(&self, door: usize, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.http.request(method, self.doors[door % self.doors.len()].http(path));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let Ok(response) = request.send().await else { return Answer { status: None, body: String::new() } };
        let status = Some(response.status().as_u16());
        Answer { status, body: response.text().await.unwrap_or_default() }
    }

    async fn command(&self, door: usize, session: &SessionId, command: Command) -> (Asked, Answer) {
        let method = if command == Command::Cancel { Method::POST } else { Method::GET };
        let at_ms = now_ms();
        let answer = self.send(door, method, &command.path(session), None).await;
        let asked = Asked { kind: command.kind(), at_ms, answered_ms: now_ms(), status: answer.status };
        if !matches!(answer.status, Some(200 | 202)) {
            let (command, status) = (command.name(), answer.status);
            tracing::debug!(%session, command, status, body = answer.body, "refused");
        }
        self.count(command.name(), answer.status);
        (asked, answer)
    }

    /// Makes a session known, as a page does that is opened; tries again for as long as it is refused. False where it was
    /// told to stop.
    pub async fn init(&self, session: &SessionId, dice: &mut Dice, stop: &CancellationToken) -> bool {
        let init = async {
            loop {
                let body = json!({ "session_id": session }).to_string();
                let door = dice.index(self.doors.len());
                let answer = self.send(door, Method::POST, "/init_session", Some(body)).await;
                self.count("init", answer.status);
                // An answer may have been lost: then the session is known.
                if answer.status == Some(200) || answer.body.contains("already exists") {
                    return;
                }
                sleep(between(dice, ANNOYED)).await;
            }
        };
        stop.run_until_cancelled(init).await.is_some()
    }
}

/// Somebody who plays a session.
#[derive(Debug)]
pub struct Player {
    commands: Commands,
    session: SessionId,
    dice: Dice,
    door: usize,
    started: bool,
    asked: Vec<Asked>,
}

impl Player {
    /// A player who has not begun.
    #[must_use]
    pub const fn new(commands: Commands, session: SessionId, dice: Dice) -> Self {
        Self { commands, session, dice, door: 0, started: false, asked: Vec::new() }
    }

    /// Plays until told to stop. A command that was sent is waited for.
    pub async fn run(&mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let accepted = self.ask().await;
            let pause = match accepted {
                false => ANNOYED,
                true if self.dice.chance(PATIENCE) => PATIENT,
                true => WATCHES,
            };
            let pause = between(&mut self.dice, pause);
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    /// One command, or several at once; whether the last of them was accepted.
    async fn ask(&mut self) -> bool {
        let mut volley = vec![self.draw()];
        while self.started && volley.len() < 4 && self.dice.chance(IMPATIENT) {
            volley.push(self.draw());
        }
        let mut after = Duration::ZERO;
        let sent = volley.into_iter().map(|command| {
            let (door, wait) = (self.door, after);
            self.door = self.dice.index(self.commands.doors.len());
            after += Duration::from_millis(self.dice.roll(0..=40).into());
            let (commands, session) = (self.commands.clone(), self.session.clone());
            async move {
                sleep(wait).await;
                (command, commands.command(door, &session, command).await)
            }
        });
        let sent: Vec<_> = sent.collect();
        let mut accepted = false;
        for (command, (asked, answer)) in join_all(sent).await {
            self.asked.push(asked);
            accepted = matches!(answer.status, Some(200 | 202));
            match (command, answer.status) {
                (Command::Start, Some(200)) => self.started = true,
                // Never started, or somebody else's game runs on its Game Master by now.
                (_, Some(400 | 404)) => self.started = false,
                (_, None) => self.door += 1,
                _ => {}
            }
        }
        accepted
    }

    fn draw(&mut self) -> Command {
        if !self.started {
            return Command::Start;
        }
        // The satirical ones end a game: they are kept for its end.
        let kinds = [NewsKind::Real, NewsKind::Fake];
        match self.dice.roll(0..=99) {
            0..=4 => Command::Start,
            5..=13 => Command::Cancel,
            14..=49 => Command::Choose(kinds[self.dice.index(kinds.len())]),
            _ => Command::Propose,
        }
    }

    /// Chooses what ends the game, so that its Game Master is free for the next session at once. False where nothing was
    /// begun by it.
    pub async fn end_game(&mut self) -> bool {
        let last = Command::Choose(NewsKind::Satirical);
        if !self.started {
            return false;
        }
        let (asked, answer) = self.commands.command(self.door, &self.session, last).await;
        self.asked.push(asked);
        answer.status == Some(202)
    }

    /// Sees to it that nothing runs any more, until the deadline.
    pub async fn finish(&mut self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            let (asked, answer) = self.commands.command(self.door, &self.session, Command::Cancel).await;
            self.asked.push(asked);
            if answer.status == Some(200) {
                return true;
            }
            self.door += 1;
            sleep(between(&mut self.dice, ANNOYED)).await;
        }
        false
    }

    /// What was asked.
    #[must_use]
    pub fn into_asked(self) -> Vec<Asked> {
        self.asked
    }
}

fn between(dice: &mut Dice, (from, to): (f64, f64)) -> Duration {
    Duration::from_secs_f64(from + dice.fraction() * (to - from))
}
