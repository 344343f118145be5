//! `--check`: one turn on one session, and what a complete one must show.

use std::fmt::Write as _;

use super::{http::Api, progress::Progress};

/// Every turn has these.
const GM: [&str; 9] = [
    "gm.phase",
    "gm.llm_text",
    "gm.tool_result",
    "gm.proposal",
    "gm.images",
    "gm.choice_resolved",
    "gm.reactions",
    "gm.indices_update",
    "gm.turn_update",
];
/// And every debate these.
const ARENA: [&str; 6] = [
    "arena.round.start",
    "arena.phase.start",
    "arena.agent.*.status",
    "arena.agent.*.output",
    "arena.state.global",
    "arena.event.death",
];

/// What a turn lacks; nothing, if it is complete.
#[must_use]
pub fn missing(progress: &Progress) -> Vec<String> {
    let absent = GM.iter().chain(&ARENA).filter(|event| progress.count(event) == 0);
    let mut missing: Vec<_> = absent.map(|event| format!("no {event}")).collect();
    if progress.count("gm.result") < 2 {
        missing.push(format!("{} of 2 gm.result", progress.count("gm.result")));
    }
    missing.extend(progress.errors.iter().map(|error| format!("gm.error: {error}")));
    if progress.complete_debates == 0 {
        missing.push("no complete debate (four phases, an output in each, a final state)".into());
    }
    if progress.secret_shown {
        missing.push("the proposal came with its secret".into());
    }
    missing
}

/// What a turn showed, event by event.
#[must_use]
pub fn seen(progress: &Progress) -> String {
    let mut text = String::from("seen on the socket:\n");
    for (event, count) in &progress.counts {
        // Writing into a String can't fail.
        let _ = writeln!(text, "{count:>8}  {event}");
    }
    text
}

/// What is wrong with the posters of the last proposal.
pub async fn posters(api: &Api, progress: &Progress) -> Vec<String> {
    let mut wrong = Vec::new();
    if progress.posters.len() != 3 {
        wrong.push(format!("{} of 3 posters", progress.posters.len()));
    }
    for path in &progress.posters {
        match api.image(path).await {
            Ok(0) => wrong.push(format!("{path}: empty")),
            Ok(_) => {}
            Err(error) => wrong.push(error.to_string()),
        }
    }
    wrong
}
