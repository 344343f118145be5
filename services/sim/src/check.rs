//! `sim check`: proof that nothing is lost, doubled, out of order, foreign or silently missing, whatever dies meanwhile.

pub mod client;
pub mod clients;
pub mod clock;
pub mod doors;
pub mod events;
pub mod link;
pub mod notes;
pub mod numbered;
pub mod place;
pub mod played;
