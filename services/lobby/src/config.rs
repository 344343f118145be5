//! The configuration of the lobby: section `[lobby]` of `herald.toml`.

use std::path::PathBuf;

use herald_runtime::config::ServiceConfig;
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of the reference data, four CSV files. Default: none, all tables are empty.
    pub reference_dir: Option<PathBuf>,
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "lobby";
    const OPERATIONS_PORT: u16 = 9103;
}
