//! What a connection waits for, and what the clock says of it.

use bytes::Bytes;
use herald_protocol::{Close, record::AliasTarget};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Asking, Connection, Doing, End, LAG_CHECK, heartbeat::Due, lag_bytes};
use crate::{
    feed::Answer,
    history::HistoryError,
    identity::{Lease, Refusal},
    websocket,
};

impl Connection {
    /// Waits for whatever may happen, and takes it in. What has a say over the connection comes before what only moves
    /// it, and both before the client, who could otherwise keep the task busy with itself.
    pub(super) async fn wait(&mut self) -> Result<(), End> {
        self.stay.guest().notes.at(self.place, self.doing.noted());
        let now = Instant::now();
        let hears_at = self.hears_at(now);
        // What was read and held is looked at when its own time has come, whether or not more may be read by then.
        let looks_at = self.upward.as_ref().and_then(|upward| upward.looks_at(now)).or(hears_at);
        let wake_at = looks_at.map_or_else(|| self.wake_at(), |at| at.min(self.wake_at()));
        tokio::select! {
            biased;
            () = self.drain.called(), if self.leave_at.is_none() => {
                self.leave_at = Some(Instant::now() + self.drain.delay());
            }
            renewed = renewed(&mut self.lease) => renewed.map_err(End::Close)?,
            target = next_target(&mut self.alias) => self.follow(target),
            () = self.stay.guest().rung() => self.rung()?,
            () = self.socket.changed(), if self.doing == Doing::Listening => {
                if !self.socket.listens() {
                    self.take_over();
                }
            }
            answer = answered(&mut self.asking) => {
                self.asking = None;
                self.doing = Doing::Going;
                self.feed.answer(answer);
            }
            writable = self.socket.tcp().writable(), if self.doing == Doing::Blocked => {
                writable?;
                self.doing = if self.asking.is_some() { Doing::Asking } else { Doing::Going };
            }
            () = sleep_until(wake_at) => {}
            readable = self.socket.tcp().readable(), if hears_at.is_none() => {
                readable?;
                self.read()?;
            }
            () = tokio::task::yield_now(), if self.doing == Doing::Going => {}
        }
        Ok(())
    }

    /// Until when the client is not to be heard, if that is not over.
    fn hears_at(&self, now: Instant) -> Option<Instant> {
        let slowed = self.inflow.waits_until(&self.limits.inflow, now);
        slowed.max(self.upward.as_ref().and_then(|upward| upward.hears_at(now)))
    }

    fn wake_at(&self) -> Instant {
        let mut at = self.heartbeat.at();
        if let Some(since) = self.blocked_since {
            at = at.min(since + self.limits.unwritable).min(Instant::now() + LAG_CHECK);
        }
        if let Some(lease) = &self.lease {
            at = at.min(lease.ends());
        }
        if let Some(beat) = &self.beat {
            at = at.min(beat.at());
        }
        if let Some(due) = self.feed.wakes_at().filter(|_| self.doing == Doing::Resting) {
            at = at.min(due);
        }
        self.leave_at.map_or(at, |leave_at| at.min(leave_at))
    }

    pub(super) fn look_at_the_clock(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.leave_at.is_some_and(|at| now >= at) {
            return Err(End::Close(Close::Restart { after: None }));
        }
        if self.lease.as_ref().is_some_and(|lease| now >= lease.ends()) {
            return Err(End::Close(Refusal::Outlived.close()));
        }
        if self.asking.is_none() && self.blocked_since.is_some_and(|since| now >= since + LAG_CHECK) {
            self.feed.let_go(&mut self.queue, self.written > 0, self.place);
            lag_bytes("socket", self.feed.lag(self.place).bytes);
        }
        if let Some(held) = self.upward.as_mut().and_then(|upward| upward.due(now)) {
            self.look_at(&held)?;
        }
        if self.hears_at(now).is_some() {
            // What it says is not listened to; it says too much, but it lives.
            self.heartbeat.heard();
        }
        if self.doing == Doing::Resting && self.feed.wakes_at().is_some_and(|at| now >= at) {
            self.doing = Doing::Going;
        }
        let due = self.heartbeat.due(now);
        if let Some(since) = self.blocked_since
            && (now >= since + self.limits.unwritable || due == Due::Dead || self.feed.lags(self.place))
        {
            if self.view.conflates() {
                // Nobody is too slow for the newest, but who takes nothing at all is gone.
                return Err(End::Dead);
            }
            let close = self.place.cursor().map(|after| Close::TooSlow { after });
            return Err(End::Close(close.unwrap_or(Close::TryLater("too slow"))));
        }
        match due {
            Due::Nothing => {}
            Due::Dead => return Err(End::Dead),
            Due::Ping if self.blocked_since.is_some() => self.heartbeat.skipped(now),
            Due::Ping => {
                self.heartbeat.pinged(now);
                let chained = self.view.is_chained();
                self.send_control(Bytes::from_static(if chained {
                    websocket::beat_frames()
                } else {
                    websocket::ping_frame()
                }))?;
            }
        }
        self.beat(now)
    }
}

/// The next target of an alias; never, where there is no alias. Cancelling is safe.
pub(crate) async fn next_target(alias: &mut Option<watch::Receiver<Option<AliasTarget>>>) -> Option<AliasTarget> {
    if let Some(alias) = alias
        && alias.changed().await.is_ok()
    {
        return alias.borrow_and_update().clone();
    }
    // No alias, or nobody is left who could change it.
    std::future::pending().await
}

/// The lease renewed, or how the connection ends; never, where no fresh token was heard of. Cancelling is safe.
async fn renewed(lease: &mut Option<Box<Lease>>) -> Result<(), Close> {
    match lease {
        Some(lease) => lease.renewed().await,
        None => std::future::pending().await,
    }
}

/// The answer to what was asked; never, where nothing was. Cancelling is safe: the question stays.
pub(crate) async fn answered(asking: &mut Option<Asking>) -> Result<Answer, HistoryError> {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}
