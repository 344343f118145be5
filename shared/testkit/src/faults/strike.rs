//! One fault: what it takes hold of, and what it does.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::sync::{MutexGuard, SemaphorePermit};

use super::{Fault, Harm, Kind, Link, Way};
use crate::{
    Service,
    dice::Dice,
    house::{Backbone, House, Member, Wire},
    process::Signal,
    proxy::{Cut, Direction, Network},
    service::SHUTDOWN,
};

/// How long NATS may take to be whole again.
const HEALTHY: Duration = Duration::from_secs(90);
/// How long NATS is left alone behind a fault: an outage after the other would be one long outage.
const REST: Duration = Duration::from_secs(3);
/// The stream with all events.
const STREAM: &str = "EVENTS";
/// How much is stored at once, to get far in little time.
const AT_ONCE: usize = 500;
/// How often the edges' gate is passed by: then both may be away at the same time.
const RECKLESS: f64 = 0.15;

/// What a fault has taken hold of: nobody else breaks that before this is dropped.
pub(super) struct Struck<'a> {
    hold: Hold<'a>,
    dice: Dice,
    _gate: Option<SemaphorePermit<'a>>,
}

enum Hold<'a> {
    Member(&'a Member, MutexGuard<'a, Service>, Way),
    Nats(MutexGuard<'a, Backbone>, Vec<usize>),
    Stream(MutexGuard<'a, Backbone>),
    Wire(&'a Wire, MutexGuard<'a, ()>, Option<&'a Member>, Harm),
}

/// Waits until what the fault is to be done to is whole, and takes it; `None` where there is no such thing. Safe to cancel.
pub(super) async fn aim<'a>(house: &'a House, fault: &Fault) -> Option<Struck<'a>> {
    let mut dice = Dice::new(fault.seed);
    let gated = matches!(fault.kind, Kind::Edge(_) | Kind::Link(Link::EdgeNats | Link::ClientEdge, _));
    // Whoever says which edge wants it so.
    let on_purpose = fault.target.is_some() || dice.chance(RECKLESS);
    let gate = if gated && !on_purpose { Some(house.edges_gate.acquire().await.ok()?) } else { None };
    let hold = match fault.kind {
        Kind::Edge(way) => member(&house.edges, way, fault.target, &mut dice).await?,
        Kind::Bridge(way) => member(&house.bridges, way, fault.target, &mut dice).await?,
        Kind::Gm(way) => member(&house.gms, way, fault.target, &mut dice).await?,
        Kind::Link(link, harm) => {
            let wires = house.links.get(&link)?;
            let index = fault.target.unwrap_or_else(|| dice.index(wires.len()));
            let wire = wires.get(index)?;
            let end = match link {
                Link::EdgeNats => house.edges.get(index),
                Link::BridgeNats => house.bridges.get(index),
                Link::BridgeGm | Link::ClientEdge => None,
            };
            Hold::Wire(wire, wire.broken.lock().await, end, harm)
        }
        Kind::StreamRecreated => Hold::Stream(house.nats.lock().await),
        Kind::Nats(_) | Kind::Node(_) | Kind::LeaderKilled | Kind::NodesRolled | Kind::QuorumLost => {
            let nats = house.nats.lock().await;
            let victims = victims(&nats, fault.kind, &mut dice).await?;
            Hold::Nats(nats, victims)
        }
    };
    Some(Struck { hold, dice, _gate: gate })
}

async fn member<'a>(members: &'a [Member], way: Way, target: Option<usize>, dice: &mut Dice) -> Option<Hold<'a>> {
    let member = members.get(target.unwrap_or_else(|| dice.index(members.len())))?;
    Some(Hold::Member(member, member.service.lock().await, way))
}

/// Which servers a fault hits; `None` where this is not the right kind of NATS.
async fn victims(nats: &Backbone, kind: Kind, dice: &mut Dice) -> Option<Vec<usize>> {
    match (nats, kind) {
        (Backbone::One(_), Kind::Nats(_)) => Some(vec![0]),
        (Backbone::Cluster(_), Kind::Node(_)) => Some(vec![dice.index(3)]),
        (Backbone::Cluster(cluster), Kind::LeaderKilled) => Some(vec![cluster.leader(STREAM).await?]),
        (Backbone::Cluster(_), Kind::NodesRolled | Kind::QuorumLost) => {
            let first = dice.index(3);
            let count = if kind == Kind::QuorumLost { 2 } else { 3 };
            Some((first..first + count).map(|index| index % 3).collect())
        }
        _ => None,
    }
}

impl Struck<'_> {
    pub(super) fn target(&self) -> String {
        match &self.hold {
            Hold::Member(member, ..) => member.name.clone(),
            Hold::Nats(_, servers) => {
                let numbers: Vec<_> = servers.iter().map(|index| (index + 1).to_string()).collect();
                format!("nats {}", numbers.join(" "))
            }
            Hold::Stream(_) => STREAM.to_owned(),
            Hold::Wire(wire, ..) => wire.name.clone(),
        }
    }

    /// Does it, and returns when all is well again.
    pub(super) async fn run(&mut self, fault: &Fault) -> Result<(), String> {
        let (dice, hold) = (&mut self.dice, fault.hold);
        match &mut self.hold {
            Hold::Member(member, service, way) => {
                strike(service, *way, hold).await?;
                member.ready_as(service).await
            }
            Hold::Nats(nats, servers) => {
                strike_nats(nats, fault.kind, servers, hold, dice).await?;
                nats.healthy_within(HEALTHY).await
            }
            Hold::Stream(nats) => recreate(&nats.url()).await.map_err(|error| error.to_string()),
            Hold::Wire(wire, _broken, end, harm) => {
                let one = dice.index(wire.proxies.len());
                // All ways to NATS, or the one to one server; that may be one that is not in use.
                let all = dice.chance(0.7);
                let hit: Vec<_> = wire.proxies.iter().enumerate().filter(|(index, _)| all || *index == one).collect();
                let how = break_how(*harm, dice);
                for (_, proxy) in &hit {
                    match how {
                        Broken::For(network) => proxy.set(network),
                        Broken::Once(cut) => proxy.cut_by(cut),
                    }
                }
                if matches!(how, Broken::For(_)) {
                    tokio::time::sleep(hold).await;
                    hit.iter().for_each(|(_, proxy)| proxy.set(Network::Works));
                }
                // Whoever else breaks it now also waits until it is ready.
                if let Some(end) = end
                    && let Ok(mut service) = end.service.try_lock()
                {
                    end.ready_as(&mut service).await.map_err(|why| format!("{}: {why}", end.name))?;
                }
                Ok(())
            }
        }
    }

    /// Keeps hold of what should not be broken again at once, unless somebody named it to be broken.
    pub(super) async fn rest(&self, fault: &Fault) {
        if fault.target.is_none() && matches!(self.hold, Hold::Nats(..)) {
            tokio::time::sleep(REST).await;
        }
    }
}

async fn strike(service: &mut Service, way: Way, hold: Duration) -> Result<(), String> {
    if !service.process().running() {
        let status = service.process().wait(Duration::ZERO).await;
        service.relaunch();
        return Err(format!("died unasked before: {status}"));
    }
    match way {
        Way::Killed => {
            service.kill().await;
            tokio::time::sleep(hold).await;
            service.relaunch();
        }
        Way::Stopped => {
            service.process().signal(Signal::TERM);
            let ended = service.process().ends_within(SHUTDOWN).await;
            if ended.is_none() {
                service.kill().await;
            }
            service.relaunch();
            match ended {
                None => return Err(format!("not ended {SHUTDOWN:?} after SIGTERM")),
                Some(status) if !status.success() => return Err(format!("ended with {status} after SIGTERM")),
                Some(_) => {}
            }
        }
        Way::Paused => {
            service.process().freeze().await;
            tokio::time::sleep(hold).await;
            service.process().thaw();
        }
    }
    Ok(())
}

async fn strike_nats(
    nats: &mut Backbone,
    kind: Kind,
    victims: &[usize],
    hold: Duration,
    dice: &mut Dice,
) -> Result<(), String> {
    let (way, together) = match kind {
        Kind::Nats(way) | Kind::Node(way) => (way, true),
        Kind::NodesRolled => (Way::Stopped, false),
        Kind::QuorumLost if dice.chance(0.5) => (Way::Paused, true),
        _ => (Way::Killed, true),
    };
    let groups: Vec<_> = if together { vec![victims] } else { victims.chunks(1).collect() };
    for group in groups {
        for index in group {
            let server = &mut nats.servers()[*index];
            match way {
                Way::Killed => server.kill().await,
                Way::Stopped => drop(server.stop().await),
                Way::Paused => server.freeze().await,
            }
        }
        tokio::time::sleep(hold).await;
        for index in group {
            let server = &mut nats.servers()[*index];
            if way == Way::Paused {
                server.thaw();
            } else {
                server.resume().await;
            }
        }
        if !together {
            nats.healthy_within(HEALTHY).await?;
        }
    }
    Ok(())
}

/// Deletes the stream, waits until its owner has made another one, and fills that beyond the end of the old one: what a
/// client remembers of the old one is then a place in the new one, too.
async fn recreate(url: &str) -> Result<(), async_nats::Error> {
    let jetstream = async_nats::jetstream::new(crate::users::connect(url).await?);
    let end = jetstream.get_stream(STREAM).await?.get_info().await?.state.last_sequence;
    jetstream.delete_stream(STREAM).await?;
    let begun = Instant::now();
    loop {
        match jetstream.get_stream(STREAM).await {
            Ok(stream) if stream.cached_info().state.last_sequence > end => return Ok(()),
            Ok(_) => {
                let fill = (0..AT_ONCE).map(|_| jetstream.publish("arena.nobody.fill", "{}".into()));
                for sent in try_join_all(fill).await? {
                    sent.await?;
                }
            }
            Err(error) if begun.elapsed() > HEALTHY => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[derive(Clone, Copy)]
enum Broken {
    For(Network),
    Once(Cut),
}

fn break_how(harm: Harm, dice: &mut Dice) -> Broken {
    match harm {
        Harm::Delayed => Broken::For(Network::Delayed { by: dice.millis(5..300), jitter: dice.millis(0..200) }),
        Harm::Trickling => Broken::For(Network::Trickling { bytes: 200 + dice.index(4000), each: dice.millis(5..50) }),
        Harm::Cut => match dice.index(3) {
            0 => Broken::Once(Cut::End),
            1 => Broken::Once(Cut::Reset),
            _ => Broken::For(Network::Down),
        },
        Harm::HalfOpen => match dice.index(4) {
            0 => Broken::For(Network::HalfOpen(Direction::ToClient)),
            1 => Broken::For(Network::HalfOpen(Direction::ToServer)),
            2 => Broken::For(Network::Silent),
            _ => Broken::Once(Cut::Vanish),
        },
    }
}
