//! What somebody asks to watch, and what says that they may.

use std::sync::Arc;

use herald_protocol::SessionId;

use crate::{
    admission::{Inquiry, Welcome},
    dialect::DialectName,
    door::Peer,
    feed::{Setup, Start},
    guests::Who,
    identity::{Identity, Lease, Verifier},
    limits::WatchTicket,
    replay::{self, Pace},
};

/// What somebody asks to watch.
pub(super) struct Watch {
    pub(super) wanted: Wanted,
    pub(super) dialect: Option<DialectName>,
    /// How fast, if it is the past in its own time.
    pub(super) pace: Option<Pace>,
    pub(super) start: Start,
    /// What of the past, where it is not to be watched.
    pub(super) past: Option<replay::Asked>,
    pub(super) verifier: Option<Arc<Verifier>>,
    /// What an engine is asked about it, where the route has one.
    pub(super) inquiry: Option<Inquiry>,
    pub(super) peer: Peer,
}

/// Which session somebody asks for.
pub(super) enum Wanted {
    /// This one.
    One(SessionId),
    /// The one that an engine names.
    Any,
    /// What can't be one.
    Nonsense,
}

impl Wanted {
    pub(super) const fn session(&self) -> Option<&SessionId> {
        match self {
            Self::One(session) => Some(session),
            Self::Any | Self::Nonsense => None,
        }
    }
}

/// Somebody who may watch what they asked for, as far as it is not an engine that says so.
pub(super) struct Permit(pub(super) Identity);

/// Somebody who may watch.
pub(super) struct Pass {
    pub(super) identity: Identity,
    /// This session, or what that alias stands for.
    pub(super) session: SessionId,
    /// What the engine said that let them in.
    pub(super) welcome: Option<Arc<Welcome>>,
}

impl Pass {
    /// Who it is: as the engine says, else as their token does.
    pub(super) fn user(&self) -> Option<&str> {
        self.said(|welcome| welcome.user.as_deref()).or_else(|| self.identity.user())
    }

    /// What they are, likewise.
    pub(super) fn role(&self) -> Option<&str> {
        self.said(|welcome| welcome.role.as_deref()).or_else(|| self.identity.role())
    }

    /// What others call them.
    pub(super) fn name(&self) -> Option<&str> {
        self.said(|welcome| welcome.display_name.as_deref())
    }

    /// All of that.
    pub(super) fn who(&self) -> Who {
        let shared = |text: Option<&str>| text.map(Arc::from);
        Who { user: shared(self.user()), role: shared(self.role()), name: shared(self.name()) }
    }

    fn said<'a>(&'a self, what: impl FnOnce(&'a Welcome) -> Option<&'a str>) -> Option<&'a str> {
        self.welcome.as_deref().and_then(what)
    }
}

/// What somebody needs who may watch.
pub(super) struct Admitted {
    pub(super) setup: Setup,
    pub(super) place: WatchTicket,
    pub(super) lease: Option<Box<Lease>>,
}
