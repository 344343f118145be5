//! The end of a connection: say why, let the client hear it, and go.

use std::time::Duration;

use herald_protocol::{Close, UplinkKind, frame::Control};
use metrics::counter;
use socket2::SockRef;
use tokio::time::{sleep, timeout};

use super::{Connection, End};
use crate::{
    feed::Out,
    uplink::Refused,
    websocket::{self, Received},
};

/// Room that is made in the kernel for the last words to a client that does not read: as much as the system allows, so
/// that they are there when it wakes up.
const LAST_WORDS: usize = 4 << 20;

/// Pause between two reads from a client that has sent too much: it is not to keep a core busy with its end.
const SKIP_PAUSE: Duration = Duration::from_millis(5);

/// Whom to wait for once everything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The client's own close.
    Close,
    /// The end of what it sends; what that is makes no sense any more.
    End,
    /// The same, in no hurry: it sends more than it may.
    SlowEnd,
    /// Nobody.
    No,
}

impl Connection {
    /// Ends the connection. What has begun to be written is written, the rest is not: the client comes back for it.
    pub(super) async fn end(&mut self, end: End) {
        let limit = self.limits.close_timeout;
        // What it says from now on goes nowhere; where some of it was not looked at, the rest makes no sense.
        let holds = self.leaves_unheard();
        let (close, wait, limit) = match end {
            End::Close(close) if holds => (close, Wait::End, limit),
            End::Close(close) => (close, Wait::Close, limit),
            End::Broken(close @ Close::Policy(_)) => (close, Wait::SlowEnd, limit),
            End::Broken(close) => (close, Wait::End, limit),
            End::Asked => (Close::Normal, Wait::No, limit),
            // A last word, in case it is only slow to answer.
            End::Dead => (Close::GoingAway, Wait::No, Duration::from_millis(1)),
            End::Gone => return count("gone", "none"),
        };
        count(if close == Close::GoingAway { "dead" } else { name(&close) }, code(&close));
        self.take_over();
        self.queue.truncate(usize::from(self.written > 0));
        let close = self.said_now(close);
        tracing::debug!(code = close.code(), reason = close.reason(), "closing a connection");
        (self.control, self.asking) = (None, None);
        self.feed.leave();
        self.stay.end();
        if let Some(bye) = farewell(&close, self.drain.retry()) {
            let place = self.place;
            self.queue.extend(self.view.control(&bye, None).map(|bytes| Out { bytes, place }));
        }
        self.queue.push_back(Out { bytes: websocket::close_frame(&close).into(), place: self.place });
        if matches!(close, Close::TooSlow { .. })
            && let Err(error) = SockRef::from(self.socket.tcp()).set_send_buffer_size(LAST_WORDS)
        {
            tracing::debug!(%error, "send buffer not set");
        }
        // Whoever does not answer is left all the same.
        let _late = timeout(limit, self.say_and_hear(wait)).await;
    }

    /// Lets go of the way up. Returns whether something was read that nobody has heard; that is counted.
    fn leaves_unheard(&mut self) -> bool {
        let held = self.upward.take().map_or_else(Vec::new, |upward| upward.held());
        let mut rest = &held[..];
        while let Ok(Some(received)) = self.inbound.read(&mut rest) {
            let binary = self.inbound.take().is_some_and(|kept| kept.binary);
            if matches!(received, Received::Message(_)) {
                Refused::Closed.count(if binary { UplinkKind::Binary } else { UplinkKind::Text });
            }
        }
        !held.is_empty()
    }

    /// The close with the cursor of what the client has by the time it reads it: a frame that has begun comes before.
    fn said_now(&self, close: Close) -> Close {
        let place = self.queue.front().map_or(self.place, |begun| begun.place);
        match (close, place.cursor()) {
            (Close::TooSlow { .. }, Some(after)) => Close::TooSlow { after },
            // Who has got nothing yet comes back as it came.
            (Close::Restart { .. }, after) => Close::Restart { after: after.filter(|after| after.seq > 0) },
            (close, _) => close,
        }
    }

    async fn say_and_hear(&mut self, wait: Wait) {
        let mut said = false;
        loop {
            if !said {
                match self.write() {
                    Ok(all) => said = all,
                    Err(_) => return,
                }
                if said && matches!(wait, Wait::End | Wait::SlowEnd) {
                    // A client may wait for us to close first.
                    let _gone = SockRef::from(self.socket.tcp()).shutdown(std::net::Shutdown::Write);
                }
            }
            if said && wait == Wait::No {
                return;
            }
            let heard = tokio::select! {
                writable = self.socket.tcp().writable(), if !said => writable.is_ok(),
                readable = self.socket.tcp().readable() => {
                    if wait == Wait::SlowEnd {
                        sleep(SKIP_PAUSE).await;
                    }
                    readable.is_ok() && if wait == Wait::Close { self.read().is_ok() } else { self.skip() }
                }
            };
            if !heard {
                // Its close, its end, or an error: nothing more is to be said or heard.
                return;
            }
        }
    }

    /// Reads on without looking. `false` at the end.
    fn skip(&self) -> bool {
        let mut buffer = [0; super::READ_AT_ONCE];
        match self.socket.tcp().try_read(&mut buffer) {
            Ok(read) => read > 0,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// What a client is told before this close: where it goes on and after what pause, or that it does not.
pub(crate) fn farewell(close: &Close, retry: Duration) -> Option<Control> {
    let after = match close {
        Close::Restart { after } => (*after)?,
        Close::TooSlow { after } | Close::ByEvent { after, .. } => *after,
        Close::Over { after } => return Some(Control::Over { after: after.to_string() }),
        _ => return None,
    };
    Some(Control::Bye { after: after.to_string(), retry_ms: u64::try_from(retry.as_millis()).unwrap_or(u64::MAX) })
}

fn count(reason: &'static str, code: &'static str) {
    counter!("herald_closed_connections_total", "transport" => "socket", "reason" => reason, "code" => code)
        .increment(1);
}

/// A close's code in metrics. Those that engines choose are too many to be told apart.
pub(crate) const fn code(close: &Close) -> &'static str {
    match close.code() {
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        1007 => "1007",
        1008 => "1008",
        1009 => "1009",
        1011 => "1011",
        1012 => "1012",
        1013 => "1013",
        4401 => "4401",
        4403 => "4403",
        4404 => "4404",
        4408 => "4408",
        4409 => "4409",
        4410 => "4410",
        4411 => "4411",
        _ => "other",
    }
}

/// A close's name in metrics.
pub(crate) const fn name(close: &Close) -> &'static str {
    match close {
        Close::Normal => "normal",
        Close::GoingAway => "going_away",
        Close::Protocol(_) => "protocol",
        Close::Unsupported(_) => "unsupported",
        Close::Payload(_) => "payload",
        Close::Policy(_) => "policy",
        Close::TooLarge => "too_large",
        Close::Internal(_) => "internal",
        Close::Restart { .. } => "restart",
        Close::TryLater(_) | Close::Full { .. } => "try_later",
        Close::NotIdentified(_) => "not_identified",
        Close::NotAllowed(_) => "not_allowed",
        Close::NoSession | Close::Refused { code: 4404, .. } => "no_session",
        Close::ByEvent { .. } => "by_event",
        Close::Refused { code: 4401, .. } => "not_identified",
        Close::Refused { code: 4403, .. } => "not_allowed",
        Close::Refused { .. } => "refused",
        Close::Told { .. } => "told",
        Close::TooSlow { .. } => "too_slow",
        Close::Gap { .. } => "gap",
        Close::Over { .. } => "over",
    }
}
