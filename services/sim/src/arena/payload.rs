//! What the engine's messages hold, in the order in which the original writes it.

use std::collections::BTreeMap;

use herald_protocol::SessionId;
use serde::Serialize;
use uuid::Uuid;

use super::game::Agent;

/// `input.waiting`.
#[derive(Serialize)]
pub(super) struct Waiting {
    pub(super) round: u32,
    pub(super) waiting: bool,
}

/// `event.end`.
#[derive(Serialize)]
pub(super) struct End<'a> {
    pub(super) survivors: Vec<&'a str>,
    pub(super) history: &'a [u32],
}

/// `round.start`.
#[derive(Serialize)]
pub(super) struct Start<'a> {
    pub(super) round: u32,
    pub(super) fake_news: &'a str,
    pub(super) context: &'a str,
}

/// `phase.start`.
#[derive(Serialize)]
pub(super) struct Phase {
    pub(super) round: u32,
    pub(super) phase: usize,
}

/// `agent.<id>.status`: whose it is stands in the subject alone.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    pub(super) state: &'a str,
    pub(super) detail: &'a str,
}

/// One line of a ballot, by id.
#[derive(Serialize)]
pub(super) struct Ranking {
    pub(super) agent_id: Uuid,
    pub(super) score: u32,
}

/// `agent.<id>.output`.
#[derive(Serialize)]
pub(super) struct Output<'a> {
    pub(super) agent_id: Uuid,
    pub(super) agent_name: &'a str,
    pub(super) round: u32,
    pub(super) phase: usize,
    pub(super) content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) confidence: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rankings: Option<&'a [Ranking]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) new_color: Option<f64>,
}

/// `event.death`.
#[derive(Serialize)]
pub(super) struct Death<'a> {
    pub(super) agent_id: Uuid,
    pub(super) agent_name: &'a str,
    pub(super) round: u32,
    pub(super) cause: Option<&'a str>,
}

/// `event.clone`.
#[derive(Serialize)]
pub(super) struct Clone<'a> {
    pub(super) parent_id: Uuid,
    pub(super) parent_name: &'a str,
    pub(super) child_id: Uuid,
    pub(super) child_name: &'a str,
    pub(super) round: u32,
}

/// `state.global`.
#[derive(Serialize)]
pub(super) struct State<'a> {
    pub(super) session_id: &'a SessionId,
    pub(super) fake_news: &'a str,
    pub(super) round: u32,
    pub(super) phase: usize,
    pub(super) lang: &'a str,
    pub(super) agents: &'a [Agent],
    pub(super) graveyard: &'a [Agent],
    pub(super) scores: &'a BTreeMap<Uuid, u32>,
}
