//! `sim check`: proof that nothing is lost, doubled, out of order, foreign or silently missing, whatever dies meanwhile.

pub mod client;
pub mod clients;
pub mod clock;
pub mod doors;
pub mod events;
pub mod findings;
pub mod judge;
pub mod link;
pub mod marks;
pub mod notes;
pub mod numbered;
pub mod pauses;
pub mod place;
pub mod played;
pub mod report;
pub mod source;
pub mod truth;
