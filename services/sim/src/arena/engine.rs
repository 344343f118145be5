//! Who plays: hears commands, keeps a task per running game, publishes what it says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use async_nats::Client;
use futures_util::StreamExt;
use herald_protocol::{
    EventSubject, SessionId, TopicPattern,
    record::Lang,
    subject::{ARENA, ARENA_FAKENEWS_ALL, ARENA_INIT, session_topics},
};
use herald_runtime::{Context, nats};
use serde::Deserialize;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    game::Game,
    round::{self, Line},
    saves::Saves,
};
use crate::cli::ArenaOptions;

/// Games running at once; a further init is refused with a warning.
const MOST_RUNNING: usize = 10_000;
/// News that wait while a round is played; more are dropped with a warning.
const WAITING_NEWS: usize = 8;

/// Plays until the shutdown begins.
///
/// # Errors
/// If NATS' URL or the folder of saves can't be used.
pub async fn run(options: ArenaOptions, context: Context) -> Result<()> {
    let token = context.shutdown.token();
    let saves = Saves::new(options.saves.clone())?;
    let nats = match nats::connect(&context.common.nats, "nats", &context).await {
        Err(nats::ConnectError::ShuttingDown) => return Ok(()),
        connected => connected?,
    };
    // No queue group, as in the original: run one engine.
    let mut inits = nats.client().subscribe(ARENA_INIT).await?;
    let mut news = nats.client().subscribe(ARENA_FAKENEWS_ALL).await?;
    nats.client().flush().await?;
    let (seed, speed) = (options.seed, options.speed);
    tracing::info!(
        seed,
        ?speed,
        rounds = options.rounds,
        "subscribed: stand-in for the arena engine, invented debaters, no model"
    );
    let engine = Arc::new(Engine {
        options,
        client: nats.client(),
        saves,
        games: Mutex::default(),
        tasks: TaskTracker::new(),
        token: token.clone(),
    });
    loop {
        tokio::select! {
            // An init before the news that follow it: both come in the order of the connection, in two queues.
            biased;
            () = token.cancelled() => break,
            Some(message) = inits.next() => engine.init(&message.payload),
            Some(message) = news.next() => engine.news(&message.subject, &message.payload),
            else => break,
        }
    }
    engine.tasks.close();
    engine.tasks.wait().await;
    Ok(())
}

struct Engine {
    options: ArenaOptions,
    client: Client,
    saves: Saves,
    /// The running games: where their news go.
    games: Mutex<HashMap<SessionId, mpsc::Sender<String>>>,
    tasks: TaskTracker,
    token: CancellationToken,
}

impl Engine {
    fn init(self: &Arc<Self>, payload: &[u8]) {
        #[derive(Deserialize)]
        struct Init {
            session_id: String,
            lang: Option<String>,
        }
        let Ok(Init { session_id, lang }) = serde_json::from_slice(payload) else {
            return tracing::warn!("init without a session id, ignored");
        };
        let (Ok(_), Ok(session)) = (uuid::Uuid::parse_str(&session_id), SessionId::new(&session_id)) else {
            return tracing::warn!("init with a session id that is no UUID, ignored");
        };
        let lang = lang.as_deref().and_then(Lang::parse);
        let mut games = self.games();
        if games.contains_key(&session) {
            return tracing::info!(%session, "init ignored: it plays");
        }
        if games.len() >= MOST_RUNNING {
            return tracing::warn!(%session, "init refused: too many games");
        }
        let (sender, mailbox) = mpsc::channel(WAITING_NEWS);
        games.insert(session.clone(), sender);
        let engine = self.clone();
        self.tasks.spawn(async move {
            let token = engine.token.clone();
            token.run_until_cancelled(engine.play(session, lang, mailbox)).await;
        });
    }

    fn news(&self, subject: &str, payload: &[u8]) {
        #[derive(Deserialize)]
        struct News {
            #[serde(default)]
            content: String,
        }
        let Some(session) = EventSubject::parse(subject).map(|subject| subject.session) else { return };
        let Ok(News { content }) = serde_json::from_slice(payload) else {
            return tracing::warn!(session, "news that are no JSON object, ignored");
        };
        match self.games().get(session) {
            None => tracing::info!(session, "news ignored: no game"),
            Some(mailbox) if mailbox.try_send(content).is_err() => {
                tracing::warn!(session, "news dropped: too many wait")
            }
            Some(_) => {}
        }
    }

    /// A game, from its init to its end.
    async fn play(&self, session: SessionId, lang: Option<Lang>, mut mailbox: mpsc::Receiver<String>) {
        let mut game = match self.saves.load(&session).await {
            Some(saved) => Game { lang: lang.or(saved.lang), ..saved },
            None => Game::new(self.options.seed, session.clone(), lang),
        };
        tracing::info!(%session, round = game.round, "game begins");
        while game.round <= self.options.rounds {
            self.say(&session, vec![round::waiting(&game)]).await;
            let news = match timeout(self.options.patience.get(), mailbox.recv()).await {
                Ok(Some(news)) if !news.is_empty() => news,
                // Empty news end the game, so does silence.
                _ => {
                    game.begin_round();
                    break;
                }
            };
            let lines = round::play(self.options.seed, &mut game, &news);
            self.say(&session, lines).await;
            self.saves.save(&game).await;
        }
        self.saves.save(&game).await;
        // Before the word goes out: whoever hears it may send the next init at once.
        self.games().remove(&session);
        tracing::info!(%session, round = game.round, "game ends");
        self.say(&session, vec![round::end(&game)]).await;
    }

    async fn say(&self, session: &SessionId, lines: Vec<Line>) {
        for Line { pause, topic, payload } in lines {
            if !pause.is_zero() {
                self.flush().await;
                self.options.speed.pause(pause).await;
            }
            // Topics are made of fixed words and UUIDs: all of them are valid.
            let Ok(topic) = TopicPattern::parse(&topic) else { continue };
            if let Err(error) = self.client.publish(session_topics(ARENA, session, &topic), payload.into()).await {
                tracing::warn!(%session, %error, "not published");
            }
        }
        self.flush().await;
    }

    /// Core NATS acknowledges nothing: all there is to know is that the bytes left. Waits while NATS is away.
    async fn flush(&self) {
        if let Err(error) = self.client.flush().await {
            tracing::warn!(%error, "not flushed");
        }
    }

    fn games(&self) -> MutexGuard<'_, HashMap<SessionId, mpsc::Sender<String>>> {
        self.games.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
