//! What a client sends that goes up to its engine: message by message, no faster than its route allows.

use std::sync::Arc;

use herald_protocol::{Close, UplinkKind};
use metrics::counter;
use tokio::time::Instant;

use super::{
    End,
    inflow::{Flood, Inflow},
};
use crate::{
    guests::Guest,
    uplink::{Uplink, UplinkRule},
};

/// The way up of one client.
pub(super) struct Upward {
    uplink: Arc<Uplink>,
    rule: Arc<UplinkRule>,
    pace: Inflow,
    /// What was read behind a message that was one too many: it is looked at once its time has come.
    held: Vec<u8>,
}

impl Upward {
    /// That of a guest; `None` where its route lets it send nothing.
    pub(super) fn of(guest: &Guest, uplink: Option<Arc<Uplink>>) -> Option<Box<Self>> {
        let (rule, uplink) = guest.entrance.uplink.clone().zip(uplink)?;
        Some(Box::new(Self { uplink, rule, pace: Inflow::new(Instant::now()), held: Vec::new() }))
    }

    /// Largest message.
    pub(super) fn longest(&self) -> u64 {
        self.rule.max_message
    }

    /// Sends a message on. Returns whether the next one may be looked at by now.
    pub(super) fn send(&mut self, guest: &Guest, binary: bool, message: Vec<u8>) -> Result<bool, End> {
        if message.len() as u64 > self.rule.max_message {
            return Err(End::Broken(Close::TooLarge));
        }
        if binary && !self.rule.binary {
            return Err(End::Broken(Close::Unsupported("only text is taken here")));
        }
        let kind = if binary { UplinkKind::Binary } else { UplinkKind::Text };
        if let Err(refused) = self.uplink.send(guest, kind, message.into()) {
            guest.refuse(refused);
        }
        let now = Instant::now();
        match self.pace.read(&self.rule.pace, 1, 0, now) {
            Err(Flood) => return Err(End::Broken(Close::Policy("too many messages"))),
            Ok(false) => {}
            Ok(true) => {
                counter!("herald_uplink_slowed_total").increment(1);
                let until = self.waits_until(now).unwrap_or(now);
                guest.slow(until.saturating_duration_since(now));
            }
        }
        Ok(self.waits_until(now).is_none())
    }

    /// Until when nothing more is to be heard, if that is not over: before what waits nothing that came later is looked at.
    pub(super) fn hears_at(&self, now: Instant) -> Option<Instant> {
        let until = self.waits_until(now);
        if self.held.is_empty() { until } else { Some(until.unwrap_or(now)) }
    }

    /// Whether something waits to be looked at.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Until when no further message is to be looked at, if that is not over.
    fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.pace.waits_until(&self.rule.pace, now)
    }

    /// This is to be looked at later.
    pub(super) fn hold(&mut self, rest: &[u8]) {
        self.held.extend_from_slice(rest);
    }

    /// What is to be looked at now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        let due = !self.held.is_empty() && self.waits_until(now).is_none();
        due.then(|| std::mem::take(&mut self.held))
    }
}
