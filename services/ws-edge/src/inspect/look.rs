//! Sessions and connections, as they are shown.

use std::sync::Arc;

use herald_protocol::{Cursor, Epoch, Position, SessionId};
use serde::Serialize;

use crate::{
    config::Transport,
    dialect::Dialect,
    feed::Start,
    guests::{
        Conn, Guest,
        notes::{Doing, Gap, Resume, now_ms},
    },
    log::Mark,
    sessions::Sessions,
    view::{Encoding, View},
};

/// Frames and bytes.
#[derive(Serialize)]
pub(super) struct Amount {
    frames: u64,
    bytes: u64,
}

impl From<Mark> for Amount {
    fn from(Mark { frames, bytes }: Mark) -> Self {
        Self { frames, bytes }
    }
}

/// How a session is seen.
#[derive(Serialize)]
struct ViewLook {
    dialect: &'static str,
    encoding: &'static str,
    roots: Vec<Arc<str>>,
    /// Some topics are hidden from those who share it, because of who they are.
    veiled: bool,
}

impl ViewLook {
    fn of(view: &View) -> Self {
        Self {
            dialect: match view.dialect {
                Dialect::Event => "event",
                Dialect::App(_) => "app",
                Dialect::Gm => "gm",
                Dialect::Raw => "raw",
            },
            encoding: match view.encoding {
                Encoding::Plain => "plain",
                Encoding::V1 => "herald.v1",
                Encoding::Sse => "sse",
            },
            roots: view.roots.clone(),
            veiled: !view.veils.is_empty(),
        }
    }
}

/// A session that is shown here.
#[derive(Serialize)]
pub(super) struct SessionLook {
    stream: String,
    root: Arc<str>,
    session: String,
    /// Connections that show it.
    viewers: usize,
    over: bool,
    rings: Vec<RingLook>,
}

/// Its recent end in one view.
#[derive(Serialize)]
struct RingLook {
    view: ViewLook,
    readers: usize,
    held: Amount,
    /// Everything shown behind this sequence is in it.
    behind: u64,
    /// The last shown event, 0 for none.
    last: u64,
    /// All that it has ever taken.
    taken: Amount,
    /// For how long nobody has read it.
    idle_s: Option<f64>,
}

impl SessionLook {
    pub(super) fn of(
        stream: &str,
        root: &Arc<str>,
        session: &SessionId,
        viewers: usize,
        sessions: Option<&Sessions>,
    ) -> Self {
        let look = sessions.and_then(|sessions| sessions.look(session));
        let over = look.as_ref().is_some_and(|look| look.over);
        let rings = look.into_iter().flat_map(|look| look.rings).map(|ring| RingLook {
            view: ViewLook::of(&ring.view),
            readers: ring.readers,
            held: ring.held.into(),
            behind: ring.floor,
            last: ring.last,
            taken: ring.taken.into(),
            idle_s: ring.idle.map(|idle| seconds(idle.as_millis())),
        });
        let (stream, session) = (stream.to_owned(), session.to_string());
        Self { stream, root: root.clone(), session, viewers, over, rings: rings.collect() }
    }
}

/// A connection.
#[derive(Serialize)]
pub(super) struct ConnectionLook {
    pub(super) conn: Conn,
    listener: String,
    route: String,
    transport: &'static str,
    stream: String,
    root: Arc<str>,
    session: Option<String>,
    user: Option<Arc<str>>,
    role: Option<Arc<str>>,
    name: Option<Arc<str>>,
    address: std::net::IpAddr,
    since_ms: u64,
    age_s: f64,
    view: ViewLook,
    /// What it is at.
    doing: &'static str,
    /// How far it is; none before it has begun.
    cursor: Option<String>,
    /// What it has yet to be sent of what is here.
    lag: Amount,
    last_resume: Option<ResumeLook>,
}

/// Why it shows its session from where it does.
#[derive(Serialize)]
struct ResumeLook {
    at_ms: u64,
    asked: String,
    got: &'static str,
    /// It began behind this place.
    behind: String,
    /// The ring here had everything shown behind this sequence.
    ring_behind: u64,
    /// How far the stream was here.
    head: u64,
    gap: Option<GapLook>,
    why: String,
}

#[derive(Serialize)]
struct GapLook {
    from: u64,
    to: u64,
    reason: &'static str,
}

impl ConnectionLook {
    pub(super) fn of(guest: &Guest, sessions: Option<&Sessions>) -> Self {
        let (noted, session) = (guest.notes.look(), guest.session());
        let taken = sessions.zip(session.as_ref()).and_then(|(it, session)| it.taken(session, &guest.view));
        let place = noted.place;
        // Before it has begun its place is none of that ring.
        let lag = taken.filter(|_| place.epoch.is_some()).map(|taken| taken.since(place.mark)).unwrap_or_default();
        Self {
            conn: guest.conn,
            listener: guest.entrance.listener.clone(),
            route: guest.entrance.path.clone(),
            transport: match guest.entrance.transport {
                Transport::Socket => "socket",
                Transport::Sse => "sse",
                // These have no connections.
                Transport::Events => "events",
                Transport::Session => "session",
            },
            stream: guest.entrance.stream.clone(),
            root: guest.entrance.root.clone(),
            session: session.map(|session| session.to_string()),
            user: guest.user.clone(),
            role: guest.role.clone(),
            name: guest.name.clone(),
            address: guest.address,
            since_ms: guest.since_ms,
            age_s: seconds(u128::from(now_ms().saturating_sub(guest.since_ms))),
            view: ViewLook::of(&guest.view),
            doing: match noted.doing {
                Doing::CatchesUp => "catches_up",
                Doing::Listens => "listens",
                Doing::Blocked => "blocked",
                Doing::AsksHistory => "asks_history",
                Doing::Waits => "waits",
            },
            cursor: place.epoch.map(|epoch| Cursor { epoch, seq: place.seq }.to_string()),
            lag: lag.into(),
            last_resume: noted.resume.map(|resume| ResumeLook::of(&resume)),
        }
    }

    pub(super) const fn lag_bytes(&self) -> u64 {
        self.lag.bytes
    }
}

impl ResumeLook {
    fn of(resume: &Resume) -> Self {
        let Resume { at_ms, asked, got, behind, epoch, floor, head, gap } = *resume;
        Self {
            at_ms,
            asked: match asked {
                Start::Live => "live".to_owned(),
                Start::After(Position::Seq(0)) => "replay".to_owned(),
                Start::After(at) => format!("after {at}"),
                Start::Snapshot => "snapshot".to_owned(),
            },
            got,
            behind: Cursor { epoch, seq: behind }.to_string(),
            ring_behind: floor,
            head,
            gap: gap.map(|Gap { from, to, reason }| GapLook { from, to, reason }),
            why: why(resume),
        }
    }
}

/// The whole reason, in a sentence.
fn why(resume: &Resume) -> String {
    let Resume { asked, got, behind, floor, epoch, gap, .. } = *resume;
    let place = match asked {
        Start::After(at) => at.to_string(),
        Start::Live | Start::Snapshot => "none".to_owned(),
    };
    let begun = match got {
        "live" => format!("It asked for no place and got what came behind {behind}"),
        "replay" => "It asked for all that is kept".to_owned(),
        "snapshot" => "It asked for the state of things: the last event of each topic that makes it up".to_owned(),
        "history" => {
            format!("Its place {place} is before what the ring held here (all behind {floor}): history was read")
        }
        "gap" => format!("Its place {place} {}", foreign(gap, epoch)),
        "seek" => format!("It is shown the past in its own time, and went to its place {place}"),
        "latest" => format!("Its place {place} is none of this log, and its route shows the newest alone: it got that"),
        _ => format!("All behind its place {place} was in the ring here, or yet to come"),
    };
    match gap {
        Some(Gap { from, to, reason: "trimmed" }) => format!("{begun}; {from} to {to} are not kept any more"),
        _ => begun,
    }
}

/// Why a place is none of the log.
fn foreign(gap: Option<Gap>, epoch: Epoch) -> String {
    match gap {
        Some(Gap { reason: "epoch", .. }) => {
            format!("is of another life of the log than {epoch}: it got all that this one keeps")
        }
        _ => "is beyond the end of the log: it got all that is kept".to_owned(),
    }
}

/// To the millisecond.
fn seconds(ms: u128) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resume(asked: Start, got: &'static str, gap: Option<Gap>) -> String {
        why(&Resume { at_ms: 0, asked, got, behind: 9, epoch: Epoch::new(0xab), floor: 7, head: 12, gap })
    }

    #[test]
    fn each_beginning_has_a_reason_that_names_its_places() {
        let at = Start::After(Position::Seq(5));
        let gap = |reason| Some(Gap { from: 1, to: 6, reason });
        for (said, parts) in [
            (resume(Start::Live, "live", None), ["no place", "behind 9"]),
            (resume(at, "ring", None), ["place 5", "ring"]),
            (resume(at, "history", None), ["place 5", "behind 7"]),
            (resume(at, "history", gap("trimmed")), ["place 5", "1 to 6 are not kept"]),
            (resume(Start::After(Position::Seq(0)), "replay", gap("trimmed")), ["all that is kept", "1 to 6"]),
            (resume(Start::Snapshot, "snapshot", None), ["state", "last event"]),
            (resume(at, "seek", None), ["in its own time", "place 5"]),
            (resume(at, "gap", gap("epoch")), ["place 5", "another life of the log than 000000ab"]),
            (resume(at, "gap", gap("beyond")), ["place 5", "beyond the end"]),
        ] {
            for part in parts {
                assert!(said.contains(part), "{said} / {part}");
            }
        }
    }
}
