//! Herald as it is run: NATS, edges, bridges and Game Masters as processes, with a breakable network between any two.
//!
//! Every part keeps its place when it is started again. Whoever breaks a part holds its lock meanwhile; a part that has ended
//! while nobody held it has died unasked, which [`House::watch`] finds and tells.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    net::TcpStream,
    sync::{Mutex as Lock, Semaphore},
};

use crate::{Bridge, Edge, Nats, NatsCluster, NatsOptions, Service, SimGm, faults::Link, port::Reserved, proxy::Proxy};

/// How long a part may take to become ready while others fail around it.
pub const READY: Duration = Duration::from_secs(60);
/// How often the house is looked after.
const WATCH: Duration = Duration::from_millis(100);

/// What is built.
pub struct Blueprint {
    /// Three nats-servers instead of one.
    pub cluster: bool,
    /// ws-edges.
    pub edges: usize,
    /// gm-bridges.
    pub bridges: usize,
    /// Processes of Game Masters.
    pub gms: usize,
    /// Games each of these processes plays, each on a port of its own.
    pub games: usize,
    /// Further settings of each edge.
    pub edge: Box<dyn Fn(Edge) -> Edge>,
    /// Further settings of each bridge.
    pub bridge: Box<dyn Fn(Bridge) -> Bridge>,
    /// Further settings of each Game Master.
    pub gm: Box<dyn Fn(SimGm) -> SimGm>,
    /// Where its parts have their folders, with their logs, beyond their ends.
    pub folder: PathBuf,
}

/// A process that may be broken.
#[derive(Debug)]
pub struct Member {
    /// `edge 1`.
    pub name: String,
    /// Where it listens for those it serves.
    pub addresses: Vec<SocketAddr>,
    /// The process; locked while it is broken on purpose.
    pub service: Lock<Service>,
}

/// The connections of one part with another, or with all servers of NATS.
#[derive(Debug)]
pub struct Wire {
    /// `edge-nats 1`.
    pub name: String,
    /// The proxies on it.
    pub proxies: Vec<Proxy>,
    /// Locked while it is broken.
    pub broken: Lock<()>,
}

/// The server or the servers.
#[derive(Debug)]
pub enum Backbone {
    /// One for all.
    One(Box<Nats>),
    /// Three with replicas.
    Cluster(NatsCluster),
}

impl Backbone {
    /// The servers.
    pub fn servers(&mut self) -> &mut [Nats] {
        match self {
            Self::One(nats) => std::slice::from_mut(nats.as_mut()),
            Self::Cluster(cluster) => &mut cluster.servers,
        }
    }

    /// All addresses, as `NATS_URL` takes them.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::One(nats) => nats.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Waits until all servers run and every stream has its leader and its replicas.
    ///
    /// # Errors
    /// In words, if that is not so within `bound`.
    pub async fn healthy_within(&self, bound: Duration) -> Result<(), String> {
        match self {
            Self::One(nats) => nats.answers_within(bound).await,
            Self::Cluster(cluster) => cluster.healthy_within(bound).await,
        }
    }
}

/// The running house. Ends when dropped.
pub struct House {
    /// The public doors.
    pub edges: Vec<Member>,
    /// The bridges.
    pub bridges: Vec<Member>,
    /// The processes of Game Masters.
    pub gms: Vec<Member>,
    /// NATS; locked while it is broken on purpose.
    pub nats: Lock<Backbone>,
    /// Where NATS is, for those who are not to be cut off.
    pub nats_url: String,
    /// All that can be broken of the network.
    pub links: BTreeMap<Link, Vec<Wire>>,
    /// Held by whoever takes an edge away from its clients: one at a time, unless on purpose.
    pub(crate) edges_gate: Semaphore,
    troubles: Mutex<Vec<String>>,
    folder: PathBuf,
    _ports: Vec<Reserved>,
}

impl House {
    /// Builds and starts it, and waits until all of it is ready.
    ///
    /// # Panics
    /// If a part does not become ready.
    pub async fn start(blueprint: &Blueprint) -> Self {
        let folder = |name: &str| blueprint.folder.join(name);
        let nats = if blueprint.cluster {
            Backbone::Cluster(NatsCluster::start_in(&blueprint.folder, &["--no_advertise=true"]).await)
        } else {
            let options = NatsOptions { folder: Some(folder("nats")), ..NatsOptions::default() };
            Backbone::One(Box::new(Nats::start_with(options).await))
        };
        let mut nats = Lock::new(nats);
        let targets: Vec<_> = nats.get_mut().servers().iter().map(Nats::address).collect();
        let mut links = BTreeMap::new();
        links.insert(Link::EdgeNats, wires(Link::EdgeNats, &vec![targets.clone(); blueprint.edges]).await);
        links.insert(Link::BridgeNats, wires(Link::BridgeNats, &vec![targets; blueprint.bridges]).await);

        let mut ports = Vec::new();
        let mut gms = Vec::new();
        for index in 0..blueprint.gms {
            let own: Vec<_> = (0..blueprint.games).map(|_| Reserved::take()).collect();
            let addresses: Vec<_> = own.iter().map(Reserved::address).collect();
            let gm = SimGm::at(addresses[0], "1").arg("--numbered").folder(folder(&format!("gm-{}", index + 1)));
            let gm = addresses[1..].iter().fold(gm, |gm, address| gm.arg(format!("--listen={address}")));
            gms.push(Member::new("gm", index, addresses, (blueprint.gm)(gm).spawn()));
            ports.extend(own);
        }
        // A Game Master is known by its URL: all bridges must call it by the same, so they share its proxy.
        let games: Vec<_> = gms.iter().flat_map(|gm| gm.addresses.iter().map(|address| vec![*address])).collect();
        links.insert(Link::BridgeGm, wires(Link::BridgeGm, &games).await);
        let pool: Vec<_> = links[&Link::BridgeGm].iter().map(|wire| wire.proxies[0].http_url()).collect();

        let service = |kind: &str, index: usize| folder(&format!("{kind}-{}", index + 1));
        let mut bridges = Vec::new();
        for (index, wire) in links[&Link::BridgeNats].iter().enumerate() {
            let bridge = Bridge::at(&wire.nats_url()).gm(&pool.join(",")).folder(service("bridge", index));
            bridges.push(Member::new("bridge", index, Vec::new(), (blueprint.bridge)(bridge).spawn()));
        }
        let mut edges = Vec::new();
        for (index, wire) in links[&Link::EdgeNats].iter().enumerate() {
            let port = Reserved::take();
            let edge = Edge::at(&wire.nats_url()).env("PORT", port.port().to_string()).folder(service("edge", index));
            edges.push(Member::new("edge", index, vec![port.address()], (blueprint.edge)(edge).spawn()));
            ports.push(port);
        }
        let doors: Vec<_> = edges.iter().map(|edge| edge.addresses.clone()).collect();
        links.insert(Link::ClientEdge, wires(Link::ClientEdge, &doors).await);

        let nats_url = nats.get_mut().url();
        let (edges_gate, folder) = (Semaphore::new(1), blueprint.folder.clone());
        let troubles = Mutex::default();
        let house = Self { edges, bridges, gms, nats, nats_url, links, edges_gate, troubles, folder, _ports: ports };
        for (member, ready) in house.members().zip(join_all(house.members().map(Member::ready)).await) {
            ready.unwrap_or_else(|why| panic!("{}: {why}\n{}", member.name, house.logs_of(member)));
        }
        house
    }

    /// The public doors as clients reach them.
    #[must_use]
    pub fn doors(&self) -> Vec<String> {
        self.links[&Link::ClientEdge].iter().map(|wire| wire.proxies[0].http_url()).collect()
    }

    /// All processes but those of NATS.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.edges.iter().chain(&self.bridges).chain(&self.gms)
    }

    /// Where logs are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes down what should not have been.
    pub fn trouble(&self, text: impl Into<String>) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    /// What should not have been, so far.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks after the house, for ever: what ends while nobody breaks it is a trouble, and is started again.
    pub async fn watch(&self) {
        loop {
            for member in self.members() {
                let Ok(mut service) = member.service.try_lock() else { continue };
                if !service.process().running() {
                    let status = service.process().wait(Duration::ZERO).await;
                    self.trouble(format!("{} died unasked: {status}", member.name));
                    service.relaunch();
                }
            }
            if let Ok(mut nats) = self.nats.try_lock() {
                for (index, server) in nats.servers().iter_mut().enumerate() {
                    if !server.running() {
                        self.trouble(format!("nats-server {} died unasked", index + 1));
                        server.resume().await;
                    }
                }
            }
            tokio::time::sleep(WATCH).await;
        }
    }

    /// Lines of panics in the logs, each with its part.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        let logs = self.members().map(|member| (member, self.logs_of(member)));
        let lines = logs.flat_map(|(member, log)| {
            let found: Vec<_> = log
                .lines()
                .filter(|line| line.contains("panicked") || line.contains("telemetry: panic"))
                .map(str::to_owned)
                .collect();
            found.into_iter().map(move |line| format!("{}: {line}", member.name))
        });
        lines.collect()
    }

    /// The process ids of all parts that nobody breaks now, by name.
    #[must_use]
    pub fn pids(&self) -> Vec<(String, u32)> {
        let of = |member: &Member| Some((member.name.clone(), member.service.try_lock().ok()?.process().id()));
        let mut pids: Vec<_> = self.members().filter_map(of).collect();
        if let Ok(mut nats) = self.nats.try_lock() {
            let servers = nats.servers().iter_mut().enumerate();
            pids.extend(
                servers.filter_map(|(index, server)| Some((format!("nats {}", index + 1), server.process()?.id()))),
            );
        }
        pids
    }

    fn logs_of(&self, member: &Member) -> String {
        std::fs::read(self.folder.join(member.name.replace(' ', "-")).join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }
}

impl Member {
    fn new(kind: &str, index: usize, addresses: Vec<SocketAddr>, service: Service) -> Self {
        Self { name: format!("{kind} {}", index + 1), addresses, service: Lock::new(service) }
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// In words, if it ends or is not ready in time.
    pub async fn ready(&self) -> Result<(), String> {
        self.ready_as(&mut *self.service.lock().await).await
    }

    /// The same, for who has the lock.
    pub(crate) async fn ready_as(&self, service: &mut Service) -> Result<(), String> {
        if !self.name.starts_with("gm") {
            return service.ready_within(READY).await.map(drop);
        }
        // A stand-in has no operations port: it is ready when it takes connections.
        let begun = Instant::now();
        for address in &self.addresses {
            while let Err(error) = TcpStream::connect(address).await {
                if !service.process().running() || begun.elapsed() > READY {
                    return Err(format!("takes no connection at {address}: {error}"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}

impl Wire {
    /// Its proxies, as `NATS_URL` takes them.
    #[must_use]
    pub fn nats_url(&self) -> String {
        self.proxies.iter().map(Proxy::nats_url).collect::<Vec<_>>().join(",")
    }
}

/// A wire to each group of targets.
async fn wires(link: Link, groups: &[Vec<SocketAddr>]) -> Vec<Wire> {
    let wire = |(index, targets): (usize, &Vec<SocketAddr>)| {
        let proxies = join_all(targets.iter().map(|target| Proxy::start(*target)));
        async move { Wire { name: format!("{link} {}", index + 1), proxies: proxies.await, broken: Lock::new(()) } }
    };
    join_all(groups.iter().enumerate().map(wire)).await
}
