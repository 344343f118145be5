//! One session and its sockets: opens them, plays turns by HTTP, waits for what must come.

use std::{sync::Arc, time::Duration};

use herald_protocol::{SessionId, record::Lang};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    http::ApiError,
    pick::Pick,
    progress::Progress,
    socket::{Shared, Socket},
};
use crate::{
    cli::PlayersOptions,
    dice::Dice,
    gm::words::{Words, article},
};

/// All sockets of a session have the same last event within this time, or one of them is behind for good.
const SETTLE: Duration = Duration::from_secs(10);
/// Sockets get this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// A game master whose players left is free after 15 s.
const BUSY: Duration = Duration::from_secs(30);
/// Between two starts that are refused.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at whether they have.
const LOOK: Duration = Duration::from_millis(20);

/// Why a session's play ended early.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The door said no.
    #[error(transparent)]
    Door(#[from] ApiError),
    /// Something did not come.
    #[error("{0} did not come within {1:?}")]
    Missing(&'static str, Duration),
    /// An action failed.
    #[error("gm.error: {0}")]
    Action(String),
    /// A socket could not be opened or was refused.
    #[error("socket: {0}")]
    Socket(String),
}

/// A session that is played.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its sockets; the first one is what the player sees.
    pub sockets: Vec<Arc<Socket>>,
    /// What that one has shown.
    pub progress: watch::Receiver<Progress>,
    shared: Arc<Shared>,
    token: CancellationToken,
    tasks: JoinSet<()>,
    dice: Dice,
    timeout: Duration,
}

impl Session {
    /// Opens the sockets of a session.
    #[must_use]
    pub fn open(id: SessionId, sockets: usize, shared: Arc<Shared>, dice: Dice, timeout: Duration) -> Self {
        let (eyes, progress) = watch::channel(Progress::default());
        let sockets: Vec<Arc<Socket>> = (0..sockets).map(|_| Arc::default()).collect();
        let (mut tasks, token) = (JoinSet::new(), CancellationToken::new());
        let mut eyes = Some(eyes);
        for socket in &sockets {
            let (shared, token) = (shared.clone(), token.clone());
            // The first one sees for the player.
            tasks.spawn(socket.clone().run(shared, id.clone(), eyes.take(), token));
        }
        Self { id, sockets, progress, shared, token, tasks, dice, timeout }
    }

    /// Waits until each socket has its first frame.
    ///
    /// # Errors
    /// If one is refused or does not open.
    pub async fn opened(&self) -> Result<(), PlayError> {
        let deadline = Instant::now() + self.timeout;
        for socket in &self.sockets {
            while socket.proof().cursor().is_none() {
                if let Some(why) = socket.failure() {
                    return Err(PlayError::Socket(why));
                }
                if Instant::now() > deadline {
                    return Err(PlayError::Missing("herald.hello", self.timeout));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Plays turns on a game master until `left` are played or the game is over; `played` counts those that are complete.
    ///
    /// # Errors
    /// [`PlayError`], at the first thing that fails or does not come.
    pub async fn play(&mut self, options: &PlayersOptions, left: u32, played: &mut u32) -> Result<(), PlayError> {
        self.start(options.lang).await?;
        while *played < left && !self.progress.borrow().game_over {
            self.turn(options.pick, options.lang).await?;
            *played += 1;
        }
        Ok(())
    }

    /// Starts a game, and waits a while for a game master that is busy: one is free soon after its players left.
    ///
    /// # Errors
    /// As [`Session::play`].
    pub async fn start(&self, lang: Lang) -> Result<(), PlayError> {
        let deadline = Instant::now() + BUSY;
        loop {
            match self.shared.api.start(&self.id, lang).await {
                Err(ApiError::Refused { status: 503, .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// One turn: a proposal, a choice, and the debate if there is one.
    ///
    /// # Errors
    /// As [`Session::play`].
    pub async fn turn(&mut self, pick: Pick, lang: Lang) -> Result<(), PlayError> {
        let api = self.shared.api.clone();
        let before = self.progress.borrow().clone();
        api.propose(&self.id, lang).await?;
        self.action_after(&before, "gm.result of the proposal", "gm.proposal").await?;
        let kind = pick.draw(&mut self.dice);
        let before = self.progress.borrow().clone();
        api.choose(&self.id, kind, lang).await?;
        self.action_after(&before, "gm.result of the choice", "gm.turn_update").await?;
        // A game master without an arena goes on without a debate; one that was begun must end.
        self.wait("the end of the debate", |progress| !progress.debating()).await
    }

    /// Plays rounds without a game master, news going straight to the arena, until `left` are played or it plays no more.
    ///
    /// # Errors
    /// As [`Session::play`].
    pub async fn debate(&mut self, options: &PlayersOptions, left: u32, played: &mut u32) -> Result<(), PlayError> {
        let (api, words) = (self.shared.api.clone(), Words::of(options.lang));
        match api.init_session(&self.id).await {
            // It is known already, and its arena waits or is woken by the news.
            Err(ApiError::Refused { status: 400, .. }) => {}
            other => {
                other?;
                self.wait("arena.input.waiting", |progress| progress.waiting).await?;
            }
        }
        while *played < left && !self.progress.borrow().arena_over {
            let theme = words.themes[self.dice.index(words.themes.len())];
            let title = theme.titles[self.dice.index(theme.titles.len())];
            let news = article(words, &mut self.dice, title, theme.topic, options.article_bytes as usize);
            let before = self.progress.borrow().complete_debates;
            api.submit_news(&self.id, &news).await?;
            self.wait("a complete debate", move |progress| progress.complete_debates > before).await?;
            *played += 1;
        }
        Ok(())
    }

    /// Waits until the sockets have the same last event; says how many are behind where they don't.
    pub async fn settle(&self) -> usize {
        let deadline = Instant::now() + SETTLE;
        loop {
            let places: Vec<_> = self.sockets.iter().map(|socket| socket.proof().digest().0).collect();
            let head = places.iter().max().copied().unwrap_or_default();
            let behind = places.iter().filter(|place| **place < head).count();
            if behind == 0 || Instant::now() > deadline {
                return behind;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Closes the sockets.
    pub async fn close(&mut self) {
        self.token.cancel();
        let goodbyes = async { while self.tasks.join_next().await.is_some() {} };
        // Whoever does not answer by then is cut off.
        if timeout(GOODBYE, goodbyes).await.is_err() {
            self.tasks.shutdown().await;
        }
    }

    /// Waits until a mark is there.
    ///
    /// # Errors
    /// [`PlayError::Missing`] with its name.
    pub async fn wait(&mut self, what: &'static str, is: impl FnMut(&Progress) -> bool) -> Result<(), PlayError> {
        match timeout(self.timeout, self.progress.wait_for(is)).await {
            Ok(Ok(_)) => Ok(()),
            _ => match self.sockets[0].failure() {
                Some(why) => Err(PlayError::Socket(why)),
                None => Err(PlayError::Missing(what, self.timeout)),
            },
        }
    }

    /// Waits for the end of an action, and that it brought what it is for.
    async fn action_after(
        &mut self,
        before: &Progress,
        what: &'static str,
        fruit: &'static str,
    ) -> Result<(), PlayError> {
        let (finished, errors) = (before.finished_actions(), before.count("gm.error"));
        self.wait(what, move |progress| progress.finished_actions() > finished).await?;
        let progress = self.progress.borrow();
        if progress.count("gm.error") > errors {
            return Err(PlayError::Action(progress.errors.last().cloned().unwrap_or_default()));
        }
        if progress.count(fruit) == before.count(fruit) {
            return Err(PlayError::Missing(fruit, self.timeout));
        }
        Ok(())
    }
}
