//! How many inputs, and which: from the environment, as the harness of `cargo test` has the arguments.

use std::{env, path::PathBuf, time::Duration};

/// Inputs of each target where nothing is said: a second's worth, without optimisation.
const INPUTS: u64 = 10_000;
/// The seed where none is given: a test that passes today passes tomorrow.
const SEED: u64 = 20_261_122;

pub(crate) struct Settings {
    /// `HERALD_FUZZ_INPUTS`.
    pub(crate) inputs: u64,
    /// `HERALD_FUZZ_SEED`.
    pub(crate) seed: u64,
    /// `HERALD_FUZZ_SECONDS`: the end, also if there were fewer inputs.
    pub(crate) time: Option<Duration>,
    /// `HERALD_FUZZ_INPUT`: this one and no other.
    pub(crate) input: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn read() -> Self {
        Self {
            inputs: number("HERALD_FUZZ_INPUTS").unwrap_or(INPUTS),
            seed: number("HERALD_FUZZ_SEED").unwrap_or(SEED),
            time: number("HERALD_FUZZ_SECONDS").map(Duration::from_secs),
            input: env::var_os("HERALD_FUZZ_INPUT").map(PathBuf::from),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var_os(name)?.into_string().unwrap_or_default();
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is no number")))
}
