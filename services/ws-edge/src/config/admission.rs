//! Questions to engines about who may come in.

use herald_runtime::config::HumanDuration;
use serde::{Deserialize, Serialize};

/// Questions to engines about who may come in, on routes with `admit`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdmissionConfig {
    /// How long an answer may take, the time included that a question waits for its turn; without one nobody is let in (1013, 503).
    /// Default 2s.
    pub timeout: HumanDuration,
    /// For how long a yes counts for whoever asks the same again, unless the engine says less; 0s: this once. Default 1m.
    pub reuse: HumanDuration,
    /// For how long a no does, likewise. Default 5s.
    pub reuse_refusal: HumanDuration,
    /// Answers of one engine that are remembered; where there are more, the oldest is forgotten. Default 16384.
    pub max_kept: usize,
    /// Questions to one engine at a time; further ones wait for their turn, half of `timeout` at most. Default 256.
    pub max_questions: usize,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            timeout: HumanDuration::from_secs(2),
            reuse: HumanDuration::from_secs(60),
            reuse_refusal: HumanDuration::from_secs(5),
            max_kept: 16_384,
            max_questions: 256,
        }
    }
}
