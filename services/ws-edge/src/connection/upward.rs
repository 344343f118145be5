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
    uplink::{Refused, Uplink, UplinkRule},
};

/// The way up of one client.
pub(super) struct Upward {
    uplink: Arc<Uplink>,
    rule: Arc<UplinkRule>,
    pace: Inflow,
    /// What was read behind a message that was one too many: it is looked at once its time has come.
    held: Vec<u8>,
    /// What a message that has yet to arrive wholly takes, as far as that is counted.
    unfinished: usize,
}

/// What each client may have in hand uncounted: two reads' worth, so that who sends little is never in anybody's way.
const UNCOUNTED: usize = 4096;

impl Upward {
    /// That of a guest; `None` where its route lets it send nothing.
    pub(super) fn of(guest: &Guest, uplink: Option<Arc<Uplink>>) -> Option<Box<Self>> {
        let (rule, uplink) = guest.entrance.uplink.clone().zip(uplink)?;
        Some(Box::new(Self { uplink, rule, pace: Inflow::new(Instant::now()), held: Vec::new(), unfinished: 0 }))
    }

    /// Largest message.
    pub(super) fn longest(&self) -> u64 {
        self.rule.max_message.max(self.rule.max_binary)
    }

    /// Sends a message on. Returns whether the next one may be looked at by now.
    pub(super) fn send(&mut self, guest: &Arc<Guest>, binary: bool, message: Vec<u8>) -> Result<bool, End> {
        if binary && !self.rule.binary {
            return Err(End::Broken(Close::Unsupported("only text is taken here")));
        }
        let (kind, most) = match binary {
            true => (UplinkKind::Binary, self.rule.max_binary),
            false => (UplinkKind::Text, self.rule.max_message),
        };
        let bytes = message.len();
        if bytes as u64 > most {
            return Err(End::Broken(Close::TooLarge));
        }
        if let Err(refused) = self.uplink.send(guest, kind, message.into()) {
            guest.refuse(refused);
        }
        let now = Instant::now();
        match self.pace.read(&self.rule.pace, 1, bytes, now) {
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
        self.looks_at(now).or_else(|| self.waits_until(now))
    }

    /// When what waits is to be looked at, if something does. That it has been read already has had its price.
    pub(super) fn looks_at(&self, now: Instant) -> Option<Instant> {
        (!self.held.is_empty()).then(|| self.waits_until(now).unwrap_or(now))
    }

    /// What waits to be looked at, at the end.
    pub(super) fn held(mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Whether everything that was heard by now has had its time, and nothing waits.
    pub(super) fn is_paid(&self, now: Instant) -> bool {
        self.held.is_empty() && self.pace.is_paid(now)
    }

    /// As [`Inflow::rested`].
    pub(super) const fn rested(&mut self) {
        self.pace.rested();
    }

    /// A message that has yet to arrive wholly takes so many bytes by now.
    pub(super) fn arriving(&mut self, bytes: usize, binary: bool) -> Result<(), End> {
        let counted = bytes.saturating_sub(UNCOUNTED);
        if counted == self.unfinished {
            return Ok(());
        }
        if !self.uplink.arriving(self.unfinished, counted) {
            Refused::Unfinished.count(if binary { UplinkKind::Binary } else { UplinkKind::Text });
            return Err(End::Broken(Close::TryLater("too many messages have arrived in part")));
        }
        self.unfinished = counted;
        Ok(())
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

impl Drop for Upward {
    fn drop(&mut self) {
        self.uplink.arriving(self.unfinished, 0);
    }
}
