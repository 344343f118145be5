//! What can go wrong, and when: kinds of faults, and a schedule of them by seed.
//!
//! A schedule is data: the same seed gives the same faults at the same moments. [`Injector`] does them to a [`House`], tells
//! of each when it begins and when it is over, and counts.
//!
//! [`House`]: crate::house::House

use std::{fmt, str::FromStr, time::Duration};

use crate::dice::Dice;

mod inject;
mod strike;

pub use inject::{Injector, Mark, Tally};

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// SIGKILL, and started again.
    Killed,
    /// SIGTERM, and started again.
    Stopped,
    /// SIGSTOP, and SIGCONT: its connections stay, and nothing answers.
    Paused,
}

/// A connection that is broken, by who opens it and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Between an edge and NATS.
    EdgeNats,
    /// Between a bridge and NATS.
    BridgeNats,
    /// Between the bridges and a Game Master.
    BridgeGm,
    /// Between the clients and an edge.
    ClientEdge,
}

/// How a connection is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Everything comes late, by up to half a second.
    Delayed,
    /// It ends or is reset, once or for a while.
    Cut,
    /// One direction is silent, or both, or whoever was there is gone without a word.
    HalfOpen,
    /// Bytes come in small pieces.
    Trickling,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of one of the edges.
    Edge(Way),
    /// Of one of the bridges.
    Bridge(Way),
    /// Of one of the Game Masters' processes.
    Gm(Way),
    /// Of the only nats-server.
    Nats(Way),
    /// Of one of the cluster's servers.
    Node(Way),
    /// The server that leads the stream `EVENTS` is killed.
    LeaderKilled,
    /// The cluster's servers are stopped and started, one after the other.
    NodesRolled,
    /// Two of the cluster's servers are away at the same time.
    QuorumLost,
    /// The stream `EVENTS` is deleted; once its owner has made a new one, others' events fill that beyond the old one's end.
    StreamRecreated,
    /// Of a link.
    Link(Link, Harm),
}

const WAYS: [(Way, &str); 3] = [(Way::Killed, "killed"), (Way::Stopped, "stopped"), (Way::Paused, "paused")];
const LINKS: [(Link, &str); 4] = [
    (Link::EdgeNats, "edge-nats"),
    (Link::BridgeNats, "bridge-nats"),
    (Link::BridgeGm, "bridge-gm"),
    (Link::ClientEdge, "client-edge"),
];
const HARMS: [(Harm, &str); 4] =
    [(Harm::Delayed, "delayed"), (Harm::Cut, "cut"), (Harm::HalfOpen, "half-open"), (Harm::Trickling, "trickling")];

impl Kind {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let ways = |of: fn(Way) -> Self| WAYS.map(|(way, _)| of(way));
        let mut all: Vec<_> =
            [Self::Edge, Self::Bridge, Self::Gm, Self::Nats, Self::Node].into_iter().flat_map(ways).collect();
        all.extend([Self::LeaderKilled, Self::NodesRolled, Self::QuorumLost, Self::StreamRecreated]);
        all.extend(LINKS.iter().flat_map(|(link, _)| HARMS.map(|(harm, _)| Self::Link(*link, harm))));
        all
    }

    /// Its name where faults are counted: without the link, which is the target.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Edge(way) => format!("edge {way}"),
            Self::Bridge(way) => format!("bridge {way}"),
            Self::Gm(way) => format!("gm {way}"),
            Self::Nats(way) => format!("nats {way}"),
            Self::Node(way) => format!("node {way}"),
            Self::LeaderKilled => "leader killed".to_owned(),
            Self::NodesRolled => "nodes rolled".to_owned(),
            Self::QuorumLost => "quorum lost".to_owned(),
            Self::StreamRecreated => "stream recreated".to_owned(),
            Self::Link(_, harm) => format!("link {}", name_of(&HARMS, harm)),
        }
    }

    /// How long it lasts, apart from the time a process takes to start.
    fn hold(self, dice: &mut Dice) -> Duration {
        match self {
            // As often as not started again at once, as by a supervisor.
            Self::Edge(Way::Killed) | Self::Bridge(Way::Killed) | Self::Gm(Way::Killed) if dice.chance(0.5) => {
                Duration::ZERO
            }
            Self::Bridge(Way::Paused) => dice.millis(500..8_000), // beyond `action.lapse`, too
            Self::Edge(_) | Self::Bridge(_) | Self::Gm(_) => dice.millis(200..3_000),
            Self::Nats(_) => dice.millis(100..3_000),
            Self::Node(_) | Self::LeaderKilled => dice.millis(500..5_000),
            Self::NodesRolled | Self::StreamRecreated => Duration::ZERO,
            Self::QuorumLost => dice.millis(3_000..6_000),
            Self::Link(..) => dice.millis(500..4_000),
        }
    }
}

fn name_of<T: Copy + PartialEq>(names: &[(T, &'static str)], of: T) -> &'static str {
    names.iter().find(|(item, _)| *item == of).map_or("", |(_, name)| name)
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&WAYS, *self))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&LINKS, *self))
    }
}

/// The whole name: of a link's fault with the link.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Self::Link(link, _) = self { write!(f, " {link}") } else { Ok(()) }
    }
}

/// What a name stands for: one kind, or all links' `link cut`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(pub Vec<Kind>);

impl Kinds {
    /// Those of links: no process dies of them.
    #[must_use]
    pub fn links() -> Self {
        Self(Kind::all().into_iter().filter(|kind| matches!(kind, Kind::Link(..))).collect())
    }
}

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named: Vec<_> =
            Kind::all().into_iter().filter(|kind| kind.to_string() == text || kind.name() == text).collect();
        if named.is_empty() {
            let all: Vec<_> = Kind::all().iter().map(Kind::to_string).collect();
            return Err(format!("no such fault; there are: {}", all.join(", ")));
        }
        Ok(Self(named))
    }
}

/// A fault to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When, from the beginning.
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// To which of its kind, from 0; by lot where it is not said.
    pub target: Option<usize>,
    /// How long it lasts, apart from the time a process takes to start.
    pub hold: Duration,
    /// Everything else about it: to which of its kind it is done, and how exactly.
    pub seed: u64,
}

/// When faults of which kinds are to happen.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What is drawn by lot.
    pub seed: u64,
    /// From the first moment to the last at which one may begin.
    pub length: Duration,
    /// The mean time from one to the next.
    pub every: Duration,
    /// The kinds, and how often each of them comes, in proportion.
    pub mix: Vec<(Kind, u32)>,
}

impl Schedule {
    /// The faults, in the order of their moments.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut dice = Dice::new(self.seed);
        let (mut at, mut faults) = (Duration::ZERO, Vec::new());
        loop {
            at += dice.time(self.every / 5..self.every * 9 / 5);
            let Some(&kind) = dice.weighted(&self.mix) else { return faults };
            if at > self.length {
                return faults;
            }
            faults.push(Fault { at, kind, target: None, hold: kind.hold(&mut dice), seed: dice.any() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        let names: BTreeSet<_> = Kind::all().iter().map(Kind::to_string).collect();
        assert_eq!(names.len(), Kind::all().len());
        for kind in Kind::all() {
            assert_eq!(kind.to_string().parse(), Ok(Kinds(vec![kind])));
        }
        let cuts: Kinds = "link cut".parse().unwrap();
        assert_eq!(cuts.0.len(), 4);
        assert!("edge eaten".parse::<Kinds>().unwrap_err().contains("edge killed"));
    }

    #[test]
    fn a_seed_is_a_schedule() {
        let schedule = |seed| Schedule {
            seed,
            length: Duration::from_secs(300),
            every: Duration::from_millis(1_500),
            mix: Kind::all().into_iter().map(|kind| (kind, 1)).collect(),
        };
        let faults = schedule(4).faults();
        assert_eq!(faults, schedule(4).faults());
        assert_ne!(faults, schedule(5).faults());
        assert!((180..220).contains(&faults.len()), "{}", faults.len());
        assert!(faults.is_sorted_by_key(|fault| fault.at));
        let kinds: BTreeSet<_> = faults.iter().map(|fault| fault.kind).collect();
        assert!(kinds.len() > Kind::all().len() * 9 / 10, "{kinds:?}");
    }
}
