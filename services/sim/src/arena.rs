//! `sim arena`: the engine's contract on NATS, with invented debaters.
//!
//! `engine` hears `arena.init` and the news and keeps one task per running game; a game waits for its news, plays them
//! as the lines that `round` writes, and is kept between rounds (`saves`). Everything is published with core NATS,
//! without headers and without acknowledgement, as the original does. Unlike it, a lost connection is waited for.

pub mod engine;
pub mod game;
mod payload;
pub mod round;
pub mod saves;
pub mod words;

pub use engine::run;
