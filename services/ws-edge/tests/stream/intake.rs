//! Every event once, in order, whatever happens to connection, server and consumer.

use herald_runtime::{config::Common, jetstream::get_leader, nats::NatsState};
use herald_testkit::{Nats as Server, eventually, within};
use ws_edge::config::{Config, IntakeConfig};

use super::world::{LIMIT, SOON, STREAM, Taking, Way, World, connect, own, put};

/// An intake that leaves out what is further behind.
fn skip(skip: u64) -> IntakeConfig {
    IntakeConfig { skip, ..Config::default().intake }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_there_yet_is_waited_for() {
    within(LIMIT, async {
        let server = Server::start().await;
        let taking = Taking::start(&server.url(), Config::default().intake, |_| {}).await;
        assert_eq!(taking.context.health.report().conditions["stream EVENTS"], "waiting for the stream");
        assert!(!taking.context.health.ready());
        let nats = connect(&server.url()).await;
        let owner = own(&nats);
        taking.ready().await;
        // From the very beginning: the consumer of an empty stream starts at its first message to come.
        let stored = put(&nats, "gm.s.x", 5).await;
        assert_eq!(stored, [1, 2, 3, 4, 5]);
        taking.reaches(5).await;
        let told = taking.record.only_life();
        assert_eq!((told.life.epoch, told.life.head, told.events), (owner.ready().await, 0, stored));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_taken_once_in_order_with_its_time() {
    within(LIMIT, async {
        let world = World::start().await;
        world.put("gm.s.x", 300).await;
        let taking = world.intake().await;
        let (mut stored, more) = tokio::join!(world.put("gm.s.x", 3000), world.put("arena.t.agent.7.status", 3000));
        stored.extend(more);
        stored.sort_unstable();
        taking.reaches(6300).await;
        let told = taking.record.only_life();
        assert!(told.life.head >= 300, "what was there is history");
        stored.retain(|seq| *seq > told.life.head);
        assert_eq!(told.events, stored);
        let last = get_leader(&world.nats, STREAM, 6300).await.unwrap().unwrap();
        assert_eq!(told.times.last(), Some(&last.time_ms()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_passed_over() {
    within(LIMIT, async {
        let world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        // A command, a session id that is none, and odd but valid topics.
        for subject in ["arena.init", "gm._s.x", "gm.a$b.x", "arena.s.agent.ä\"7.status"] {
            world.put(subject, 1).await;
        }
        taking.reaches(4).await;
        assert_eq!(taking.record.only_life().events, [4]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_costs_no_event() {
    within(LIMIT, async {
        let mut world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        let mut stored = world.put("gm.s.x", 50).await;
        for violent in [false, true] {
            if violent {
                world.server.kill().await;
            } else {
                world.server.stop().await;
            }
            eventually("it says so", SOON, async || {
                let report = taking.context.health.report();
                if report.conditions["stream EVENTS"] == "not connected to NATS" { Ok(()) } else { Err(report) }
            })
            .await;
            world.server.resume().await;
            stored.extend(world.put("gm.s.x", 50).await);
            taking.ready().await;
        }
        taking.reaches(*stored.last().unwrap()).await;
        assert_eq!(taking.record.only_life().events, stored);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_no_event() {
    within(LIMIT, async {
        let mut world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        let mut stored = world.put("gm.s.x", 10).await;
        taking.reaches(10).await;
        world.server.freeze().await;
        // Longer than the intake listens to silence, shorter than it takes for the connection to count as lost.
        eventually("it says so", SOON, async || {
            let report = taking.context.health.report();
            if report.conditions["stream EVENTS"] == "the stream does not answer" { Ok(()) } else { Err(report) }
        })
        .await;
        world.server.thaw();
        stored.extend(world.put("gm.s.x", 10).await);
        taking.reaches(20).await;
        taking.ready().await;
        assert_eq!(taking.record.only_life().events, stored);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_deleted_is_made_again() {
    within(LIMIT, async {
        let world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        let stream = world.nats.jetstream().get_stream(STREAM).await.unwrap();
        let mut stored = vec![];
        for round in 0..3 {
            // Also before anything was delivered.
            stored.extend(world.put("gm.s.x", round * 10).await);
            let names: Vec<String> = eventually("there is a consumer", SOON, async || {
                use futures_util::TryStreamExt;
                let names: Vec<String> =
                    stream.consumer_names().try_collect().await.map_err(|error| error.to_string())?;
                if names.is_empty() { Err("none".to_owned()) } else { Ok(names) }
            })
            .await;
            for name in names {
                // One that timed out by itself meanwhile is as good as deleted.
                let _gone = stream.delete_consumer(&name).await;
            }
            stored.extend(world.put("gm.s.x", 20).await);
            taking.reaches(*stored.last().unwrap()).await;
        }
        assert_eq!(taking.record.only_life().events, stored);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_dropped_by_a_full_queue_are_delivered_again() {
    within(LIMIT, async {
        let world = World::start().await;
        let small = |common: &mut Common| common.nats.subscription_capacity = 256;
        let taking = Taking::start(&world.server.url(), Config::default().intake, small).await;
        taking.ready().await;
        let before = restarts("hole");
        taking.record.block();
        let stored = world.put("gm.s.x", 2000).await;
        taking.record.unblock();
        taking.reaches(2000).await;
        assert_eq!(taking.record.only_life().events, stored);
        assert!(restarts("hole") > before, "the queue was never full: nothing was tried here");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_costs_no_event() {
    within(LIMIT, async {
        let world = World::start().await;
        let mut way = Way::to(&world.server).await;
        let taking = Taking::start(&way.url(), Config::default().intake, |_| {}).await;
        taking.ready().await;
        let mut stored = vec![];
        for _ in 0..5 {
            way.cut().await;
            let (more, ()) = tokio::join!(world.put("gm.s.x", 500), async { way.open() });
            stored.extend(more);
            taking.reaches(*stored.last().unwrap()).await;
        }
        assert_eq!(taking.record.only_life().events, stored);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_is_left_to_history() {
    within(LIMIT, async {
        let world = World::start().await;
        let mut way = Way::to(&world.server).await;
        let taking = Taking::start(&way.url(), skip(1000), |_| {}).await;
        taking.ready().await;
        let first = world.put("gm.s.x", 10).await;
        taking.reaches(10).await;

        way.cut().await;
        world.put("gm.s.x", 1200).await;
        way.open();
        taking.reaches(1210).await;
        let told = taking.record.only_life();
        assert_eq!((told.events.clone(), told.broken), (first, vec![1210]), "left out, and said so");

        // Not more than that is taken in as ever.
        way.cut().await;
        let few = world.put("gm.s.x", 900).await;
        way.open();
        taking.reaches(2110).await;
        assert_eq!(taking.record.only_life().events[10..], few);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intake_that_falls_behind_while_it_takes_in_goes_on_at_the_head() {
    within(LIMIT, async {
        let world = World::start().await;
        let taking = Taking::start(&world.server.url(), skip(50), |_| {}).await;
        taking.ready().await;
        let (mut stored, more) = tokio::join!(world.put("gm.s.x", 5000), world.put("gm.t.x", 5000));
        stored.extend(more);
        stored.sort_unstable();
        taking.reaches(10_000).await;
        let told = taking.record.only_life();
        // Whether it fell behind or not: what is missing is what it said.
        let mut left_out = stored.clone();
        left_out.retain(|seq| told.events.binary_search(seq).is_err());
        let last_broken = told.broken.last().copied().unwrap_or(0);
        assert!(left_out.iter().all(|seq| *seq <= last_broken));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_no_hole() {
    within(LIMIT, async {
        let world = World::start().await;
        let taking = world.intake().await;
        taking.ready().await;
        let stored = world.put("gm.s.x", 20).await;
        taking.reaches(20).await;
        let stream = world.nats.jetstream().get_stream(STREAM).await.unwrap();
        stream.purge().await.unwrap();
        // The own place is gone, too: a new consumer begins behind it.
        let names: Vec<String> = futures_util::TryStreamExt::try_collect(stream.consumer_names()).await.unwrap();
        for name in names {
            stream.delete_consumer(&name).await.unwrap();
        }
        let more = world.put("gm.s.x", 20).await;
        assert_eq!(more.first(), Some(&21));
        taking.reaches(40).await;
        assert_eq!(taking.record.only_life().events, [stored, more].concat());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intake_that_is_dropped_leaves_nothing_running() {
    within(LIMIT, async {
        let world = World::start().await;
        let mut taking = world.intake().await;
        taking.ready().await;
        assert!(matches!(*world.nats.state().borrow(), NatsState::Connected { .. }));
        taking.intake = None;
        world.put("gm.s.x", 5).await;
        let stream = world.nats.jetstream().get_stream(STREAM).await.unwrap();
        // The server removes what nobody listens to.
        eventually("the consumer is gone", SOON, async || {
            let info = stream.get_info().await.map_err(|error| error.to_string())?;
            if info.state.consumer_count == 0 { Ok(()) } else { Err(format!("{}", info.state.consumer_count)) }
        })
        .await;
    })
    .await;
}

/// How often intakes of this process have begun again for that reason. Tests in one process share the number.
fn restarts(reason: &str) -> u64 {
    let metrics = herald_runtime::metrics::Metrics::install().unwrap().render();
    let name = format!("herald_intake_restarts_total{{stream=\"EVENTS\",reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}
