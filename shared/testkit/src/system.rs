//! The whole system, started in the order in which its parts know each other.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{Bridge, Edge, Nats, Service, Sim, SimArena, SimGm, port::Reserved};

/// How long a part may take that waits for others.
const START: Duration = Duration::from_secs(30);

/// What the system is made of, and how its parts are set.
pub struct Plan {
    /// ws-edges. Default 1.
    pub edges: usize,
    /// gm-bridges, each knowing all Game Masters. Default 1.
    pub bridges: usize,
    /// Game Master stand-ins. Default 1.
    pub gms: usize,
    /// Whether the Game Masters know doors (spread over the edges), and with them the arena. Default yes.
    pub doors: bool,
    /// The `--speed` of the Game Masters. Default `max`.
    pub speed: &'static str,
    /// The `--speed` of the arena. Default 8, a round a second. At `max` a round may be over before the Game Master has its
    /// answer for the news, and as the original, it hears nothing from before that.
    pub arena_speed: &'static str,
    /// How long a choose waits for the end of the debate (`--arena-wait`). Default 10s.
    pub arena_wait: &'static str,
    /// Further settings of each edge.
    pub edge: fn(Edge) -> Edge,
    /// Further settings of each bridge.
    pub bridge: fn(Bridge) -> Bridge,
    /// Further settings of each Game Master stand-in.
    pub gm: fn(SimGm) -> SimGm,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            edges: 1,
            bridges: 1,
            gms: 1,
            doors: true,
            speed: "max",
            arena_speed: "8",
            arena_wait: "10s",
            edge: |edge| edge,
            bridge: |bridge| bridge,
            gm: |gm| gm,
        }
    }
}

/// nats-server, edges, bridges, Game Masters and an arena, all ready. Ends when dropped.
#[derive(Debug)]
pub struct System {
    /// The public doors. They keep their ports when they are started again.
    pub edges: Vec<Service>,
    /// The bridges.
    pub bridges: Vec<Service>,
    /// The Game Masters.
    pub gms: Vec<Sim>,
    /// The arena engine.
    pub arena: Sim,
    /// The server.
    pub nats: Nats,
    _ports: Vec<Reserved>,
}

impl System {
    /// One of each.
    pub async fn start() -> Self {
        Self::start_with(Plan::default()).await
    }

    /// Starts what the plan says.
    ///
    /// # Panics
    /// If a part does not become ready.
    pub async fn start_with(plan: Plan) -> Self {
        let nats = Nats::start().await;
        // Each part waits for those it needs, but a Game Master opens its socket at the door once, at its own start, and
        // never again: it comes last. The bridges know by then where it will be.
        let ports: Vec<_> = (0..plan.gms).map(|_| Reserved::take()).collect();
        let urls: Vec<_> = ports.iter().map(|port| format!("http://{}", port.address())).collect();
        let mut edges: Vec<_> = (0..plan.edges).map(|_| (plan.edge)(Edge::new(&nats).fixed_port()).spawn()).collect();
        let bridge = |_| (plan.bridge)(Bridge::new(&nats).gm(&urls.join(","))).start();
        let bridges = join_all((0..plan.bridges).map(bridge)).await;
        join_all(edges.iter_mut().map(|edge| edge.wait_ready(START))).await;
        let arena = SimArena::at_speed(&nats, plan.arena_speed).start().await;
        let gm = |(index, port): (usize, &Reserved)| {
            let gm = SimGm::at(port.address(), plan.speed).arg(format!("--arena-wait={}", plan.arena_wait));
            let door = || format!("--door={}", edges[index % edges.len()].http("/gm"));
            (plan.gm)(gm.arg(if plan.doors { door() } else { "--no-door".to_owned() })).start()
        };
        let mut gms = join_all(ports.iter().enumerate().map(gm)).await;
        if plan.doors {
            join_all(gms.iter_mut().map(|gm| gm.process().wait_for_log("door open", START))).await;
        }
        Self { edges, bridges, gms, arena, nats, _ports: ports }
    }
}
