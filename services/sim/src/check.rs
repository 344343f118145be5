//! `sim check`: proof that nothing is lost, doubled, out of order, foreign or silently missing, whatever dies meanwhile.

pub mod notes;
pub mod numbered;
pub mod played;
