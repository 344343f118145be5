//! `--numbered`: what a checker needs to hear instead of a story. Every call has an id of its own, every event its number
//! in the call, how many there are, and a hash. Some calls speak word by word, others in bursts of a hundred at once. A
//! game is over after its turns, or when the satirical news are chosen: whoever wants to can end it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use herald_protocol::record::NewsKind;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    GameMaster,
    action::{Command, MOST_RUNNING, TooManyActions},
    stream::{Written, now_ns},
};
use crate::{
    check::numbered::{CallEvent, padding},
    dice::Dice,
};

/// Calls remembered for whoever asks.
const REMEMBERED: usize = 10_000;
/// Bursts that wait for a client that reads slowly; the call waits when they are full.
const WAITING: usize = 4;
/// The most events written at once.
const BURST: u32 = 100;

/// The calls of this process, for those who look by hand.
#[derive(Debug, Default)]
pub struct Numbered(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    count: u64,
    /// Those not yet forgotten, the last one of them being number `count`.
    last: VecDeque<Call>,
}

/// One call, and how far it came.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Its id.
    pub call: String,
    /// What was asked for.
    pub command: &'static str,
    /// When, ms since 1970.
    pub at_ms: u64,
    /// Events handed to the stream.
    pub said: u32,
    /// Events in all.
    pub of: u32,
    /// Whether nobody listened to the end.
    pub cut: bool,
}

impl Numbered {
    /// The calls so far, the last of them last.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().last.iter().cloned().collect()
    }

    /// Notes a call; its number, from 1.
    fn begin(&self, call: &str, command: Command, of: u32) -> u64 {
        let mut calls = self.lock();
        if calls.last.len() >= REMEMBERED {
            calls.last.pop_front();
        }
        let command = if command == Command::Propose { "propose" } else { "choose" };
        let at_ms = now_ns() / 1_000_000;
        calls.last.push_back(Call { call: call.to_owned(), command, at_ms, said: 0, of, cut: false });
        calls.count += 1;
        calls.count
    }

    fn note(&self, number: u64, note: impl FnOnce(&mut Call)) {
        let mut calls = self.lock();
        let ago = usize::try_from(calls.count - number).unwrap_or(usize::MAX);
        if let Some(call) = calls.last.iter_mut().rev().nth(ago) {
            note(call);
        }
    }

    /// Held for moments, never across a wait.
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GameMaster {
    /// Serves a call; its events come out of the receiver, written together as they are said.
    ///
    /// # Errors
    /// [`TooManyActions`] while too many run.
    pub fn call(self: &Arc<Self>, command: Command) -> Result<mpsc::Receiver<Written>, TooManyActions> {
        if self.actions.len() >= MOST_RUNNING {
            return Err(TooManyActions);
        }
        let (sender, bursts) = mpsc::channel(WAITING);
        let (gm, token) = (self.clone(), self.token.clone());
        self.actions.spawn(async move {
            token.run_until_cancelled(gm.tell(command, sender)).await;
        });
        Ok(bursts)
    }

    async fn tell(&self, command: Command, outlet: mpsc::Sender<Written>) {
        let Some(numbered) = &self.numbered else { return };
        let (g, ended, over) = {
            let game = self.game();
            let over = match command {
                Command::Propose => false,
                Command::Choose(kind) => kind == NewsKind::Satirical || game.turn >= game.max_turns(),
            };
            (game.id.to_string(), game.ended, over)
        };
        let call = uuid::Uuid::new_v4().to_string();
        // The id is new in each life of the process; what is drawn by lot is the same.
        let mut dice = Dice::new(self.options.seed, &format!("call {}", numbered.lock().count));
        let half = self.options.events / 2;
        let of = if ended { 1 } else { (half + dice.roll(0..=half * 2)).max(2) };
        let number = numbered.begin(&call, command, of);
        let style = Style::draw(&mut dice);
        let mut k = 0;
        while k < of {
            let size = style.size(k, &mut dice).min(of - k);
            self.options.speed.pause(self.options.pace.get() * size).await;
            let last = k + size == of;
            if last && !ended {
                self.advance(command, over);
            }
            let mut frames = Vec::new();
            for k in k..k + size {
                let kind = kind(command, (k, of), over);
                let pad = padding(&mut dice);
                frames.extend_from_slice(b"data: ");
                // Strings and numbers: writing them into a Vec can't fail.
                let _ = serde_json::to_writer(&mut frames, &CallEvent::new(kind, (&call, &g), (k, of), &pad));
                frames.extend_from_slice(b"\n\n");
            }
            if outlet.send(Written { frames: frames.into(), last }).await.is_err() {
                return numbered.note(number, |call| call.cut = true);
            }
            k += size;
            numbered.note(number, |call| call.said = k);
        }
    }

    /// A choose ends a turn, and the last one the game: then its session may make way for another one.
    fn advance(&self, command: Command, over: bool) {
        if matches!(command, Command::Choose(_)) {
            let mut game = self.game();
            game.turn += 1;
            game.ended = over;
        }
    }
}

/// How a call speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Event by event.
    Single,
    /// A few at a time.
    Pieces,
    /// The first one alone, then as many as can be at once.
    Bursts,
}

impl Style {
    fn draw(dice: &mut Dice) -> Self {
        [Self::Single, Self::Single, Self::Pieces, Self::Pieces, Self::Bursts][dice.index(5)]
    }

    /// How many events are written together, from event `k` on.
    fn size(self, k: u32, dice: &mut Dice) -> u32 {
        match self {
            Self::Single => 1,
            Self::Pieces => dice.roll(1..=20),
            Self::Bursts if k == 0 => 1,
            Self::Bursts => BURST,
        }
    }
}

/// The type of event `k`: what the contract knows, and the end where it belongs.
fn kind(command: Command, (k, of): (u32, u32), over: bool) -> &'static str {
    let choose = matches!(command, Command::Choose(_));
    match of - k {
        1 if of == 1 => "error",
        1 => "result",
        2 if over => "end",
        2 if choose => "turn_update",
        2 => "proposal",
        _ if k == 0 => "phase",
        3 if choose => "strategy",
        _ if k % 17 == 3 => "tool_call",
        _ if k % 17 == 4 => "tool_result",
        _ => "llm_text",
    }
}
