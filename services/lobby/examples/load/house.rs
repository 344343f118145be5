//! The processes that are measured, and what they take.

use std::{fs, net::SocketAddr, time::Instant};

use futures_util::future::join_all;
use herald_testkit::{Lobby, Nats, Service};
use serde_json::{Value, json};

/// A nats-server, lobbies and doors.
pub(crate) struct House {
    _nats: Nats,
    _lobbies: Vec<Service>,
    doors: Vec<Service>,
    /// What each is called, and its pid.
    processes: Vec<(&'static str, u32)>,
    begun: Instant,
    before: Vec<f64>,
}

impl House {
    pub(crate) async fn start(lobbies: usize, doors: usize) -> Self {
        let mut nats = Nats::start().await;
        let mut processes = vec![("this", std::process::id()), ("nats", nats.process().unwrap().id())];
        let mut running = Vec::new();
        for _ in 0..lobbies {
            let mut lobby = Lobby::new(&nats).start().await;
            processes.push(("lobby", lobby.process().id()));
            running.push(lobby);
        }
        // All clients are at one address here, as they are at none.
        let opened = (0..doors).map(|_| {
            let keys =
                ["http.max_forwards_per_address", "limits.connections_per_address", "limits.handshakes_per_address"];
            keys.iter().fold(Lobby::door(&nats.url()), |door, key| door.set(key, 0)).start()
        });
        let mut doors = join_all(opened).await;
        processes.extend(doors.iter_mut().map(|door| ("door", door.process().id())));
        let mut house =
            Self { _nats: nats, _lobbies: running, doors, processes, begun: Instant::now(), before: Vec::new() };
        house.begin();
        house
    }

    pub(crate) fn door(&self, number: usize) -> SocketAddr {
        self.doors[number].address()
    }

    /// New sessions; their ids.
    pub(crate) async fn sessions(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let made = (ids.len()..count).take(32).map(async |_| {
                let made: Value = self.doors[0]
                    .post("/api/game_sessions/create", &json!({ "size": 7 }))
                    .await
                    .expect_status(200)
                    .json();
                made["session_id"].as_str().unwrap().to_owned()
            });
            ids.extend(join_all(made).await);
        }
        self.begin();
        ids
    }

    /// What is taken counts from now on.
    pub(crate) fn begin(&mut self) {
        self.begun = Instant::now();
        self.before = self.seconds();
    }

    /// Says what each process took of a core.
    pub(crate) fn tell(&self) {
        let time = self.begun.elapsed().as_secs_f64();
        let shares: Vec<_> = (self.processes.iter().zip(self.seconds()).zip(&self.before))
            .map(|(((name, _), now), before)| format!("{name} {:.2}", (now - before) / time))
            .collect();
        println!("  cores: {}", shares.join(", "));
    }

    /// What the first door holds of the memory, in MiB.
    pub(crate) fn door_mib(&self) -> u64 {
        let pid = self.processes.iter().find(|(name, _)| *name == "door").unwrap().1;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Seconds on a processor of each so far.
    fn seconds(&self) -> Vec<f64> {
        self.processes.iter().map(|(_, pid)| seconds(*pid)).collect()
    }
}

fn seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may hold anything: the 12th and 13th field are ticks in user and in system mode, 10 ms each.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
