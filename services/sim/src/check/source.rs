//! Judging the sources against the log: what was published into it, and by whom.
//!
//! The arena path has no acknowledgements: an event that the log lacks was never stored, which is counted by the fault at
//! its time and is nobody's loss here. What is stored must be what was published, once.
//!
//! The Game Master's path is fenced by actions, and the log must tell a clean story of them: every action begins with its
//! `_action` and has one end, nothing of it comes behind that or behind the next `_action`, at most one call is made for
//! it, and that call's events are there from the first on, once each, all of them unless the action failed. A call belongs
//! to one session, and a Game Master plays for one session at a time.

mod arena;
mod calls;
mod game;

pub use self::{
    arena::{ArenaJudgement, arena},
    calls::Calls,
    game::{GameJudgement, game},
};
