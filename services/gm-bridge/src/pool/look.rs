//! What can be seen of the Game Masters from outside, for whoever looks into the running process.

use herald_runtime::bucket::BucketError;
use serde::Serialize;

use super::{
    Pool,
    record::{State, now_ms},
};

/// A Game Master, as all bridges know it.
#[derive(Debug, Serialize)]
pub(crate) struct MasterLook {
    /// Its place in `gm.base_urls`.
    number: usize,
    /// Host and port.
    game_master: String,
    /// Whether it answered this bridge when it was last asked.
    up: bool,
    state: &'static str,
    /// Who plays on it.
    session: Option<String>,
    /// How long ago its last start or action was.
    last_action_s: Option<u64>,
    /// Nobody has noted yet that its last choose has ended.
    choosing: bool,
    /// How long ago a choose of it was cut, which runs on inside it.
    cut_s: Option<u64>,
}

impl Pool {
    /// All of them, through the leader.
    pub(crate) async fn look(&self) -> Result<Vec<MasterLook>, BucketError> {
        let (now, slots) = (now_ms(), self.read().await?);
        let ago = |ms: u64| now.saturating_sub(ms) / 1000;
        let looks = slots.into_iter().enumerate().map(|(index, (seat, slot))| {
            let record = slot.record.unwrap_or_default();
            MasterLook {
                number: index + 1,
                game_master: seat.gm.place(),
                up: !seat.pulse.is_out(),
                state: match record.state {
                    State::Free => "free",
                    State::Starting => "starting",
                    State::Playing => "playing",
                },
                session: record.session.map(|session| session.to_string()),
                last_action_s: (record.since > 0).then(|| ago(record.since)),
                choosing: record.choose.is_some(),
                cut_s: record.cut.map(ago),
            }
        });
        Ok(looks.collect())
    }
}
