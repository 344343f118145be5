//! Plans: what is done to which house under which load.

use std::{path::PathBuf, time::Duration};

use super::{Load, Plan};
use crate::{
    dice::Dice,
    faults::{Fault, Harm, Kind, Kinds, Link, Schedule, Way},
};

/// A storm of faults, and the lull behind it.
const CYCLE: Duration = Duration::from_secs(36);
const STORM: Duration = Duration::from_secs(21);
const LULL: Duration = Duration::from_secs(15);
/// How far into the lull the last storm is felt.
const QUIET: Duration = Duration::from_secs(8);

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
        // A cluster takes its time to be whole again, and only then is it broken again.
        let ways = [(Killed, 3), (Stopped, 1), (Paused, 2)];
        mix.extend(ways.map(|(way, weight)| (Kind::Node(way), weight)));
        mix.extend([(Kind::LeaderKilled, 4), (Kind::NodesRolled, 1), (Kind::QuorumLost, 1)]);
    } else {
        mix.extend([(Killed, 6), (Stopped, 2), (Paused, 4)].map(|(way, weight)| (Kind::Nats(way), weight)));
    }
    mix
}

impl Plan {
    /// The usual load, and no faults.
    #[must_use]
    pub fn new(seed: u64, cluster: bool, folder: PathBuf) -> Self {
        let load = Load { sessions: 8, clients: 15, rate: 20, gm_sessions: 3, more: Vec::new() };
        Self {
            seed,
            cluster,
            faults: Vec::new(),
            load,
            drain: 3,
            edge: |edge| edge,
            bridge: |bridge| bridge,
            gm: |gm| gm,
            calm: Duration::from_secs(3),
            after_begin: false,
            settle: Duration::from_secs(45),
            sample: Duration::from_secs(10),
            folder,
            checker: None,
        }
    }

    /// Faults of some kinds for that long, one each `every` on average.
    #[must_use]
    pub fn scheduled(schedule: &Schedule, cluster: bool, folder: PathBuf) -> Self {
        Self { faults: schedule.faults(), ..Self::new(schedule.seed, cluster, folder) }
    }

    /// All kinds of faults for that long, one each `every` on average. In a long run they come in storms, and in each lull
    /// between two of them there is one alone, so that its effect can be told from others'.
    #[must_use]
    pub fn mixed(seed: u64, cluster: bool, length: Duration, every: Duration, folder: PathBuf) -> Self {
        let lulls: Vec<_> =
            (0..).map(|number| CYCLE * number + STORM).take_while(|lull| *lull + LULL <= length).collect();
        let every = if lulls.is_empty() { every } else { every.mul_f64(STORM.as_secs_f64() / CYCLE.as_secs_f64()) };
        let in_lull = |at: Duration| lulls.iter().any(|lull| (*lull..*lull + LULL).contains(&at));
        let storms = Schedule { seed, length, every, mix: mix(cluster) }.faults();
        let mut faults: Vec<_> = storms.into_iter().filter(|fault| !in_lull(fault.at)).collect();
        // Those that are measured: an edge, and whoever stores the events.
        let alone = [Kind::Edge(Way::Killed), if cluster { Kind::LeaderKilled } else { Kind::Nats(Way::Killed) }];
        let mut dice = Dice::new(!seed);
        for (lull, kind) in lulls.iter().zip(alone.iter().cycle()) {
            let hold = dice.millis(200..1_500);
            faults.push(Fault { at: *lull + QUIET, kind: *kind, target: None, hold, seed: dice.any() });
        }
        faults.sort_by_key(|fault| fault.at);
        Self { faults, ..Self::new(seed, cluster, folder) }
    }

    /// All of `sockets` on one edge, which is killed; they come back on the other one, and then that one is, and so on.
    #[must_use]
    pub fn storm(seed: u64, cluster: bool, sockets: u32, times: u32, folder: PathBuf) -> Self {
        let sessions = (sockets / 100).max(1);
        let load = Load { sessions, clients: sockets / sessions, rate: 5, gm_sessions: 0, more: crowd() };
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
        let load = Load { sessions: 10, clients: 50, rate: 5, gm_sessions: 0, more: crowd() };
        // As it is shipped: clients are sent away over ten seconds.
        Self { faults, load, drain: 10, ..Self::new(seed, cluster, folder) }
    }

    /// A long day: no process dies, but clients come and go, and connections break.
    #[must_use]
    pub fn soak(seed: u64, cluster: bool, length: Duration, folder: PathBuf) -> Self {
        let mix = Kinds::links().0.into_iter().map(|kind| (kind, 1)).collect();
        Self::scheduled(&Schedule { seed, length, every: Duration::from_secs(10), mix }, cluster, folder)
    }
}

/// Clients of whom none goes by itself: every further connection is the faults' doing.
fn crowd() -> Vec<String> {
    ["--crowd", "--life", "1h"].map(str::to_owned).to_vec()
}

/// A fault at a fixed time, to a fixed one of its kind.
fn at(seconds: u64, kind: Kind, target: usize, hold: u64) -> Fault {
    let (at, hold) = (Duration::from_secs(seconds), Duration::from_secs(hold));
    Fault { at, kind, target: Some(target), hold, seed: Dice::new(seconds).any() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_mix_has_storms_and_a_fault_alone_in_each_lull() {
        for cluster in [false, true] {
            let (length, every) = (Duration::from_secs(280), Duration::from_millis(1_400));
            let plan = Plan::mixed(3, cluster, length, every, PathBuf::new());
            assert!((200..245).contains(&plan.faults.len()), "{}", plan.faults.len());
            assert!(plan.faults.is_sorted_by_key(|fault| fault.at));
            let apart = |pair: &[Fault]| pair[1].at - pair[0].at > Duration::from_secs(5);
            let alone: Vec<_> = plan.faults.windows(2).filter(|pair| apart(pair)).map(|pair| pair[1].kind).collect();
            assert!(alone.iter().filter(|kind| **kind == Kind::Edge(Way::Killed)).count() >= 3, "{alone:?}");
        }
    }

    #[test]
    fn a_short_mix_is_one_storm() {
        let (length, every) = (Duration::from_secs(30), Duration::from_secs(1));
        let plan = Plan::mixed(3, false, length, every, PathBuf::new());
        assert!((24..36).contains(&plan.faults.len()), "{}", plan.faults.len());
    }
}
