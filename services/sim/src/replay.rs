//! `sim replay`: recorded traffic, with its timing.
//!
//! `.sse` bodies are served as a Game Master serves them (`sse`), an `arena.ndjson` is published to NATS (`ndjson`).

pub mod ndjson;
pub mod sse;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use herald_runtime::Context;

use crate::cli::ReplayOptions;

/// Plays what it is given.
///
/// # Errors
/// If a file can't be read or is not what it should be, an address can't be bound, or NATS' URL can't be used.
pub async fn run(options: ReplayOptions, context: Context) -> Result<()> {
    let ends_with = |suffix: &'static str| move |path: &PathBuf| path.extension().is_some_and(|end| end == suffix);
    if options.files.iter().all(ends_with("sse")) {
        return sse::run(options, context).await;
    }
    match &options.files[..] {
        [file] if ends_with("ndjson")(file) => ndjson::run(file, &options, &context).await,
        _ => bail!("expected .sse files, or one .ndjson"),
    }
}

/// A recorded file.
///
/// # Errors
/// With its name, if it can't be read.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}
