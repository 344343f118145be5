//! Plans: what is done to which house under which load.

use std::{path::PathBuf, time::Duration};

use super::{Load, Plan};
use crate::{
    dice::Dice,
    faults::{Fault, Harm, Kind, Kinds, Link, Schedule, Way},
};

/// How often each kind comes in the mix.
#[must_use]
pub fn mix(cluster: bool) -> Vec<(Kind, u32)> {
    use Harm::{Cut, Delayed, HalfOpen, Trickling};
    use Link::{BridgeGm, BridgeNats, ClientEdge, EdgeNats};
    use Way::{Killed, Paused, Stopped};
    let mut mix = vec![
        (Kind::Edge(Killed), 14),
        (Kind::Edge(Stopped), 4),
        (Kind::Edge(Paused), 5),
        (Kind::Bridge(Killed), 10),
        (Kind::Bridge(Stopped), 4),
        (Kind::Bridge(Paused), 5),
        (Kind::Gm(Killed), 5),
        (Kind::Gm(Paused), 2),
    ];
    for link in [EdgeNats, BridgeNats, BridgeGm, ClientEdge] {
        let harms = [(Delayed, 3), (Cut, 4), (HalfOpen, 3), (Trickling, 2)];
        mix.extend(harms.map(|(harm, weight)| (Kind::Link(link, harm), weight)));
    }
    if cluster {
        let ways = [(Killed, 5), (Stopped, 2), (Paused, 4)];
        mix.extend(ways.map(|(way, weight)| (Kind::Node(way), weight)));
        mix.extend([(Kind::LeaderKilled, 7), (Kind::NodesRolled, 1), (Kind::QuorumLost, 1)]);
    } else {
        mix.extend([(Killed, 6), (Stopped, 2), (Paused, 4)].map(|(way, weight)| (Kind::Nats(way), weight)));
    }
    mix
}

impl Plan {
    /// The usual load, and no faults.
    #[must_use]
    pub fn new(seed: u64, cluster: bool, folder: PathBuf) -> Self {
        let load = Load { sessions: 8, clients: 12, rate: 20, gm_sessions: 3, more: Vec::new() };
        Self {
            seed,
            cluster,
            faults: Vec::new(),
            load,
            drain: 3,
            edge: |edge| edge,
            bridge: |bridge| bridge,
            calm: Duration::from_secs(3),
            settle: Duration::from_secs(45),
            sample: Duration::from_secs(10),
            folder,
            checker: None,
        }
    }

    /// Faults of a mix for that long, one each `every` on average.
    #[must_use]
    pub fn mixed(
        seed: u64,
        cluster: bool,
        length: Duration,
        every: Duration,
        mix: Vec<(Kind, u32)>,
        folder: PathBuf,
    ) -> Self {
        let faults = Schedule { seed, length, every, mix }.faults();
        Self { faults, ..Self::new(seed, cluster, folder) }
    }

    /// All of `sockets` on one edge, which is killed; they come back on the other one, and then that one is, and so on.
    #[must_use]
    pub fn storm(seed: u64, cluster: bool, sockets: u32, times: u32, folder: PathBuf) -> Self {
        let sessions = (sockets / 100).max(1);
        // Twice as many that can prove it as of the others, and none that goes by itself.
        let more = vec!["--crowd".to_owned(), "--life".to_owned(), "1h".to_owned()];
        let load = Load { sessions, clients: sockets / sessions, rate: 5, gm_sessions: 0, more };
        // At first they are spread: one edge is emptied.
        let gather = at(20, Kind::Edge(Way::Stopped), 1, 5);
        let kill = |number: u32| at(40 + u64::from(number) * 30, Kind::Edge(Way::Killed), number as usize % 2, 15);
        let faults = std::iter::once(gather).chain((0..times).map(kill)).collect();
        Self { faults, load, ..Self::new(seed, cluster, folder) }
    }

    /// Every edge and every bridge stopped and started, one after the other, as for a new version.
    #[must_use]
    pub fn roll(seed: u64, cluster: bool, rounds: u32, folder: PathBuf) -> Self {
        let step = |(number, (kind, target)): (u64, _)| at(5 + 20 * number, kind, target, 0);
        let round =
            [Kind::Edge(Way::Stopped), Kind::Bridge(Way::Stopped)].into_iter().flat_map(|kind| [(kind, 0), (kind, 1)]);
        let steps = (0..rounds).flat_map(|_| round.clone());
        let faults = (0..).zip(steps).map(step).collect();
        let load = Load { sessions: 10, clients: 50, rate: 5, gm_sessions: 3, more: Vec::new() };
        // As it is shipped: clients are sent away over ten seconds.
        Self { faults, load, drain: 10, ..Self::new(seed, cluster, folder) }
    }

    /// A long day: no process dies, but clients come and go, and connections break.
    #[must_use]
    pub fn soak(seed: u64, cluster: bool, length: Duration, folder: PathBuf) -> Self {
        let links = Kinds::links();
        let mix = links.0.into_iter().map(|kind| (kind, 1)).collect();
        Self::mixed(seed, cluster, length, Duration::from_secs(10), mix, folder)
    }
}

/// A fault at a fixed time, to a fixed one of its kind.
fn at(seconds: u64, kind: Kind, target: usize, hold: u64) -> Fault {
    let (at, hold) = (Duration::from_secs(seconds), Duration::from_secs(hold));
    Fault { at, kind, target: Some(target), hold, seed: Dice::new(seconds).any() }
}
