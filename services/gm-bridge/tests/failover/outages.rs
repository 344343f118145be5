//! NATS away, or there without a quorum: nobody's bridge is lost.

use std::time::{Duration, Instant};

use herald_testkit::{Bridge, NatsCluster, Service, eventually, within};
use http::Method;
use tokio::time::sleep;

use crate::{
    log::{has_ended, story},
    master::Master,
    world::{BOUND, Reply, World, session},
};

/// How long NATS is away.
const AWAY: Duration = Duration::from_secs(20);
/// What a bridge may need more while it waits for NATS and its Game Master goes on talking.
const ROOM: u64 = 8 << 20;
/// The longest wait for the answer to a command.
const ANSWERED: Duration = Duration::from_secs(20);

/// The memory that a process uses, in bytes.
fn memory(service: &mut Service) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", service.process().id())).unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_seconds_without_nats_lose_no_action_and_fill_no_memory() {
    within(Duration::from_secs(150), async {
        let mut world = World::new().await;
        // 60 MiB in all, as fast as they are taken.
        let master = Master::start_with(Duration::ZERO, 3_000, 20 << 10).await;
        let mut bridges = [world.plain(&master.url).start().await, world.plain(&master.url).start().await];
        let session = session();
        world.start(&session).await;
        assert_eq!(world.ask(&format!("/api/propose?session_id={session}")).await.status, 202);
        world.wait_log("events", &session, 1, |log| log.len() > 50).await;
        world.server().kill().await;
        let before = bridges.each_mut().map(memory);
        let away = Instant::now();
        let mut most = before;
        while away.elapsed() < AWAY {
            sleep(Duration::from_millis(200)).await;
            for (most, now) in most.iter_mut().zip(bridges.each_mut().map(memory)) {
                *most = now.max(*most);
            }
        }
        world.server().resume().await;
        let log = eventually("it has come to its end", BOUND * 2, async || {
            let log = world.log_from(&session, 1).await;
            if has_ended(&log) { Ok(log) } else { Err(log.len()) }
        })
        .await;
        let told = story(&log);
        let proposes: Vec<_> = told.values().filter(|told| told.kind == "propose").collect();
        assert_eq!(proposes.len(), 1);
        assert_eq!((proposes[0].events, &*proposes[0].ends), (3_000, &[String::new()][..]), "whole, in order");
        assert_eq!((told.len(), master.calls()), (2, 1), "a start and a propose, nothing lost");
        let grown: Vec<_> = most.iter().zip(before).map(|(most, before)| most.saturating_sub(before)).collect();
        assert!(grown.iter().all(|grown| *grown < ROOM), "{grown:?}");
        println!("20 s without NATS: memory of the bridges grew by {grown:?} bytes at most");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_commands_are_refused_and_nothing_is_lost() {
    within(Duration::from_secs(200), async {
        let mut cluster = NatsCluster::start().await;
        let urls = cluster.url();
        let world = World::at(&urls).await;
        let (master, other) = (Master::start(Duration::from_millis(5)).await, Master::start(Duration::ZERO).await);
        let masters = format!("{},{}", master.url, other.url);
        // A start that is repeated soon is answered from the first one's record, which needs no quorum.
        let bridge = || Bridge::new(&cluster.servers[0]).env("NATS_URL", urls.clone()).set("gm.repeated_start", "0s");
        let bridges = [bridge().gm(&masters).start().await, bridge().gm(&masters).start().await];
        let (running, idle) = (session(), session());
        world.start(&running).await;
        world.start(&idle).await;
        master.open(false);
        let from = world.head().await + 1;
        assert_eq!(world.ask(&format!("/api/propose?session_id={running}")).await.status, 202);
        world.wait_log("events", &running, from, |log| log.len() == 6).await;
        // The leader of the records is left alone: it goes on answering reads for a while, and takes no writes.
        let leader = cluster.wait_leader("KV_ACTIONS").await;
        for (_, server) in cluster.servers.iter_mut().enumerate().filter(|(index, _)| *index != leader) {
            server.kill().await;
        }
        let away = Instant::now();
        let mut slowest = Duration::ZERO;
        while away.elapsed() < AWAY {
            for (method, path) in [(Method::GET, "propose"), (Method::POST, "cancel"), (Method::GET, "start")] {
                let begun = Instant::now();
                let path = format!("/api/{path}?session_id={idle}");
                let reply = world.ask_within(ANSWERED, "event", method, &path).await;
                // Also one that finds nobody, while whoever serves it connects anew. A lone leader still answers reads for
                // a while, and more than a read a cancel is not where nothing runs.
                let nothing_done = |reply: &Reply| reply.status == 200 && reply.body["status"] == "idle";
                let refused = reply.as_ref().map_or(true, |reply| reply.status == 503 || nothing_done(reply));
                assert!(refused, "{path}: {reply:?}");
                slowest = slowest.max(begun.elapsed());
            }
        }
        assert!(slowest < ANSWERED, "{slowest:?}");
        for (_, server) in cluster.servers.iter_mut().enumerate().filter(|(index, _)| *index != leader) {
            server.resume().await;
        }
        eventually("a command is taken again", BOUND * 2, async || {
            match world.try_ask("event", Method::GET, &format!("/api/propose?session_id={idle}")).await {
                Ok(reply) if reply.status == 202 => Ok(()),
                other => Err(other),
            }
        })
        .await;
        master.open(true);
        let log = world.wait_idle(&running, from).await;
        let told = story(&log);
        assert_eq!(told.len(), 1, "nobody took it for lost: {log:#?}");
        assert_eq!(log.last().unwrap().topic, "result");
        let log = world.wait_idle(&idle, 1).await;
        let told = story(&log);
        assert_eq!(log.last().unwrap().topic, "result", "{log:#?}");
        assert!(log.iter().all(|event| !event.is_lost()), "{log:#?}");
        assert_eq!(other.calls(), 1, "what was refused is not carried out: {told:#?}");
        for bridge in &bridges {
            assert_eq!(bridge.metric("herald_actions_lapsed_total", &[]).await, 0.0);
        }
        println!("20 s without a quorum: commands refused after {slowest:?} at most");
    })
    .await;
}
