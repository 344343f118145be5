//! What a stream holds by subject, and emptying a part of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::{ApiError, api, question};
use crate::nats::Nats;

/// How many messages the stream holds on each subject that `filter` (wildcards allowed) matches, as its leader has it.
///
/// # Errors
/// [`ApiError`].
pub async fn subjects(nats: &Nats, stream: &str, filter: &str) -> Result<BTreeMap<String, u64>, ApiError> {
    #[derive(Serialize)]
    struct Ask<'a> {
        subjects_filter: &'a str,
        offset: usize,
    }
    #[derive(Deserialize)]
    struct Info {
        state: State,
        /// Of all pages.
        #[serde(default)]
        total: usize,
    }
    #[derive(Deserialize)]
    struct State {
        #[serde(default)]
        subjects: Option<BTreeMap<String, u64>>,
    }
    let mut all = BTreeMap::new();
    let mut offset = 0;
    loop {
        let asked = Ask { subjects_filter: filter, offset };
        let Info { state, total } = question(nats, &format!("STREAM.INFO.{stream}"), &asked).await?;
        let page = state.subjects.unwrap_or_default();
        let end = page.is_empty() || offset + page.len() >= total;
        offset += page.len();
        all.extend(page);
        if end {
            return Ok(all);
        }
    }
}

/// Removes what `filter` (wildcards allowed) matches below the sequence `below`, which stays. Returns how many messages that
/// were. May be repeated: whatever becomes of a copy, nothing behind that place is touched.
///
/// # Errors
/// [`ApiError`]; after `Timeout` they may be gone all the same.
pub async fn purge_below(nats: &Nats, stream: &str, filter: &str, below: u64) -> Result<u64, ApiError> {
    #[derive(Serialize)]
    struct Purge<'a> {
        filter: &'a str,
        seq: u64,
    }
    #[derive(Deserialize)]
    struct Done {
        purged: u64,
    }
    let done: Done = api(nats, &format!("STREAM.PURGE.{stream}"), &Purge { filter, seq: below }).await?;
    Ok(done.purged)
}
