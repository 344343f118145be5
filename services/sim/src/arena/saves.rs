//! Games between two rounds: in memory, and in a folder where one is given.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use herald_protocol::SessionId;

use super::game::Game;

/// Games kept in memory; the one that was first saved goes first.
const KEPT: usize = 10_000;

/// Where games are kept.
#[derive(Debug, Default)]
pub struct Saves {
    folder: Option<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    games: HashMap<SessionId, Game>,
    order: VecDeque<SessionId>,
}

impl Saves {
    /// Saves in memory, and in `folder` if there is one.
    ///
    /// # Errors
    /// If the folder can't be created.
    pub fn new(folder: Option<PathBuf>) -> std::io::Result<Self> {
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self { folder, kept: Mutex::default() })
    }

    /// Keeps a game. A folder that can't be written to is logged: the game goes on in memory.
    pub async fn save(&self, game: &Game) {
        self.keep(game.clone());
        let Some(path) = self.path(&game.session) else { return };
        if let Err(error) = write(&path, game).await {
            tracing::warn!(%error, path = %path.display(), "game not saved");
        }
    }

    /// The game of a session, if one was saved.
    pub async fn load(&self, session: &SessionId) -> Option<Game> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).games.get(session).cloned();
        if kept.is_some() {
            return kept;
        }
        let path = self.path(session)?;
        let text = tokio::fs::read(&path).await.ok()?;
        match serde_json::from_slice::<Game>(&text) {
            Ok(game) if game.agents.len() == super::game::TABLE => Some(game),
            _ => {
                tracing::warn!(path = %path.display(), "not a saved game, ignored");
                None
            }
        }
    }

    fn keep(&self, game: Game) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let session = game.session.clone();
        if kept.games.insert(session.clone(), game).is_none() {
            kept.order.push_back(session);
        }
        if kept.order.len() > KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.games.remove(&oldest);
        }
    }

    fn path(&self, session: &SessionId) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{session}.json")))
    }
}

/// Writes beside the file and moves it there: a crash leaves the old one whole.
async fn write(path: &Path, game: &Game) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    tokio::fs::write(&beside, serde_json::to_vec(game)?).await?;
    tokio::fs::rename(&beside, path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_saved_game_survives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let session = SessionId::new("5e551040-0000-4000-8000-000000000001").unwrap();
        let mut game = Game::new(1, session.clone(), None);
        drop(super::super::round::play(1, &mut game, "news"));
        Saves::new(Some(folder.path().into())).unwrap().save(&game).await;
        let loaded = Saves::new(Some(folder.path().into())).unwrap().load(&session).await;
        assert_eq!(loaded, Some(game));
        assert_eq!(Saves::default().load(&session).await, None);
    }

    #[tokio::test]
    async fn a_broken_save_is_no_game() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s.json"), "{}").unwrap();
        let saves = Saves::new(Some(folder.path().into())).unwrap();
        assert_eq!(saves.load(&SessionId::new("s").unwrap()).await, None);
    }
}
