//! Why a connection is closed: every WebSocket close code Herald sends, with its reason text.

use std::sync::Arc;

use crate::cursor::Cursor;

/// A close reason. [`Close::code`] and [`Close::reason`] are what the client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Close {
    /// 1000: the client asked first; its own close is answered.
    Normal,
    /// 1001: this process goes away for good; come back by cursor, to another one.
    GoingAway,
    /// 1002: the client broke the WebSocket protocol (RFC 6455).
    Protocol(&'static str),
    /// 1003: the client sent something that is not taken here.
    Unsupported(&'static str),
    /// 1007: text that is not UTF-8, or the like.
    Payload(&'static str),
    /// 1008: abuse of a limit.
    Policy(&'static str),
    /// 1009: the client's message is larger than allowed.
    TooLarge,
    /// 1011: something failed in here.
    Internal(&'static str),
    /// 1012: planned restart; come back by cursor.
    Restart {
        /// Where to resume, if the connection showed anything or knows the head.
        after: Option<Cursor>,
    },
    /// 1013: a limit is reached; try again later.
    TryLater(&'static str),
    /// 1013: as that, with the time to wait.
    Full {
        /// What there is too much of.
        what: &'static str,
        /// After how many seconds it is worth trying again.
        retry: u32,
    },
    /// 4401: not identified; come back with a fresh token.
    NotIdentified(&'static str),
    /// 4403: not allowed; do not come back.
    NotAllowed(&'static str),
    /// 4404: no such session (only on routes with admission).
    NoSession,
    /// 4000 to 4999: an engine that was asked for admission says no, in its own words.
    Refused {
        /// Its code.
        code: u16,
        /// Its reason: at most 123 bytes.
        reason: Arc<str>,
    },
    /// An engine or an operator ends the connection, in their own words.
    Told {
        /// Their code: one that [`is_sendable`].
        code: u16,
        /// Their reason: at most 123 bytes.
        reason: Arc<str>,
    },
    /// 4408: the client reads too slowly; come back by cursor.
    TooSlow {
        /// The last event that was written to it.
        after: Cursor,
    },
    /// 4410: events it has not seen can't be delivered any more.
    Gap {
        /// Just before the first event that is still kept.
        after: Cursor,
    },
    /// An event was shown, or passed, behind which the route closes its connections: with the code that the route says.
    ByEvent {
        /// That code.
        code: u16,
        /// The route's reason, at most 123 bytes; where it says none, where the client stands.
        reason: Option<Arc<str>>,
        /// Just behind the event.
        after: Cursor,
    },
    /// 4411: the session is over, and the client has all of it; do not come back.
    Over {
        /// Where it stands: behind all that was said.
        after: Cursor,
    },
}

impl Close {
    /// The status code of the close frame.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::Protocol(_) => 1002,
            Self::Unsupported(_) => 1003,
            Self::Payload(_) => 1007,
            Self::Policy(_) => 1008,
            Self::TooLarge => 1009,
            Self::Internal(_) => 1011,
            Self::Restart { .. } => 1012,
            Self::TryLater(_) | Self::Full { .. } => 1013,
            Self::NotIdentified(_) => 4401,
            Self::NotAllowed(_) => 4403,
            Self::NoSession => 4404,
            Self::Refused { code, .. } | Self::Told { code, .. } | Self::ByEvent { code, .. } => *code,
            Self::TooSlow { .. } => 4408,
            Self::Gap { .. } => 4410,
            Self::Over { .. } => 4411,
        }
    }

    /// The reason text of the close frame: at most 123 bytes, as RFC 6455 section 5.5 allows.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Normal => String::new(),
            Self::GoingAway => "going away".into(),
            Self::Protocol(why)
            | Self::Unsupported(why)
            | Self::Payload(why)
            | Self::Policy(why)
            | Self::Internal(why)
            | Self::TryLater(why)
            | Self::NotIdentified(why)
            | Self::NotAllowed(why) => (*why).into(),
            Self::Full { what, retry } => format!("{what}; retry in {retry} s"),
            Self::TooLarge => "message too large".into(),
            Self::Restart { after: Some(after) } => format!("restart after={after}"),
            Self::Restart { after: None } => "restart".into(),
            Self::NoSession => "no such session".into(),
            Self::Refused { reason, .. } | Self::Told { reason, .. } | Self::ByEvent { reason: Some(reason), .. } => {
                reason.as_ref().into()
            }
            Self::ByEvent { reason: None, after, .. } => format!("closed after={after}"),
            Self::TooSlow { after } => format!("resume after={after}"),
            Self::Gap { after } => format!("after={after}"),
            Self::Over { after } => format!("over after={after}"),
        }
    }
}

/// Longest reason of a close frame, in bytes (RFC 6455, section 5.5).
pub const LONGEST_REASON: usize = 123;

/// Whether others than Herald may have a connection closed with that code: one that may stand in a close frame (RFC 6455,
/// section 7.4), and by which Herald does not say itself where a client goes on (4408, 4410, 4411).
#[must_use]
pub const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4407 | 4409 | 4412..=4999)
}

/// Whether that may be the reason of a close frame of others.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    text.len() <= LONGEST_REASON && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Epoch;

    #[test]
    fn reasons_fit_a_close_frame_and_carry_the_cursor() {
        let after = Cursor { epoch: Epoch::new(1), seq: u64::MAX };
        let restart = Close::Restart { after: Some(after) };
        let by_event = Close::ByEvent { code: 1001, reason: None, after };
        for close in [Close::TooSlow { after }, Close::Gap { after }, restart, Close::Over { after }, by_event] {
            assert!(close.reason().len() <= 123);
            assert!(close.reason().ends_with(&format!("after={after}")));
        }
        assert_eq!(Close::TooSlow { after }.code(), 4408);
        assert_eq!((Close::Gap { after }.code(), Close::Over { after }.code()), (4410, 4411));
        let by_event = Close::ByEvent { code: 4001, reason: Some("gone home".into()), after };
        assert_eq!((by_event.code(), &*by_event.reason()), (4001, "gone home"));
    }

    #[test]
    fn others_close_with_codes_that_can_be_sent_and_are_not_ours() {
        for code in [1000, 1003, 1007, 1012, 1014, 3000, 4403, 4999] {
            assert!(is_sendable(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2000, 2999, 4408, 4410, 4411, 5000] {
            assert!(!is_sendable(code), "{code}");
        }
        let told = Close::Told { code: 1012, reason: "Superseded DM connection".into() };
        assert_eq!((told.code(), told.reason().as_str()), (1012, "Superseded DM connection"));
        assert!(is_reason("") && is_reason("pas là") && !is_reason("a\nb") && !is_reason(&"x".repeat(124)));
    }
}
