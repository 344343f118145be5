//! How a superseded runner says that it is gone, and how its successor waits for that.
//!
//! The fence keeps a superseded runner from publishing, wherever it hangs; but it may be about to ask the Game Master for
//! something. Where that matters, because the Game Master goes to another session, the successor waits until the runner has
//! closed its stream. On the same bridge it knows; on another one the runner writes it into the successor's record.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Claim;
use crate::action::ledger::LedgerError;

/// Pause between two looks at a record.
const LOOK: Duration = Duration::from_millis(25);
/// So many looks for the successor's record, which is written right after its claim.
const LOOKS: u32 = 40;

impl Claim {
    /// Says that this runner, which was superseded, has closed its stream.
    pub(in crate::action) async fn leave(self) {
        let Self { shared, session, n, seat, keeper, permit, .. } = self;
        drop((seat, keeper, permit));
        for _ in 0..LOOKS {
            match shared.records.get(session.as_str()).await {
                Ok(slot) => match slot.record {
                    Some(mut later) if later.n > n => {
                        if later.bridge == shared.bridge || later.left == Some(n) {
                            return;
                        }
                        later.left = Some(n);
                        match shared.records.write(session.as_str(), &later, slot.revision).await {
                            // The successor has just rewritten it.
                            Err(error) if error.is_conflict() => {}
                            written => return drop(written),
                        }
                    }
                    // It is being taken over, or whoever did so is done and waits for nothing.
                    Some(_) => sleep(LOOK).await,
                    None => return,
                },
                Err(_) => return,
            }
        }
    }

    /// Waits until the runner on another bridge that this action has superseded has surely closed its stream: it says so,
    /// or had the time in which its record would have lapsed. It notices at its next renewal at the latest, so one that
    /// says nothing is halted, cut off, or dead.
    pub(in crate::action) async fn predecessor_left(&self) {
        let Some(before) = self.before.record.as_ref().filter(|record| record.bridge != self.shared.bridge) else {
            return;
        };
        let given_up = Instant::now() + self.shared.config.lapse.get();
        while self.is_held() && Instant::now() < given_up {
            let left = async {
                let slot = self.shared.records.get(self.session.as_str()).await?;
                Ok::<_, LedgerError>(
                    slot.record.is_none_or(|record| record.n != self.n || record.left == Some(before.n)),
                )
            };
            if matches!(left.await, Ok(true)) {
                return;
            }
            sleep(LOOK).await;
        }
    }
}
