//! Bridges that are stopped in order while commands keep coming.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use herald_protocol::SessionId;
use herald_testkit::{eventually, within};
use http::Method;

use crate::{
    log::{commands, story},
    master::{Master, OF},
    world::{BOUND, World, session},
};

const PLAYERS: usize = 4;

/// What a player was answered.
#[derive(Debug, Default)]
struct Answers {
    accepted: u64,
    refused: Vec<(u16, String)>,
    unanswered: Vec<String>,
}

/// Proposes again and again, each time when the one before is over.
async fn play(world: &World, session: &SessionId, over: &AtomicBool) -> Answers {
    let mut answers = Answers::default();
    while !over.load(Ordering::SeqCst) {
        match world.try_ask("event", Method::GET, &format!("/api/propose?session_id={session}")).await {
            Ok(reply) if reply.status == 202 => {
                answers.accepted += 1;
                world.wait_idle(session, 1).await;
            }
            Ok(reply) => answers.refused.push((reply.status, reply.body.to_string())),
            Err(error) => answers.unanswered.push(error),
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn bridges_rolled_under_load_run_each_command_once() {
    within(Duration::from_secs(150), async {
        let world = World::new().await;
        let mut masters = Vec::new();
        for _ in 0..PLAYERS {
            masters.push(Master::start(Duration::from_millis(20)).await);
        }
        let urls = masters.iter().map(|master| master.url.clone()).collect::<Vec<_>>().join(",");
        let mut bridges = [world.plain(&urls).start().await, world.plain(&urls).start().await];
        let sessions: Vec<SessionId> = masters.iter().map(|_| session()).collect();
        for session in &sessions {
            world.start(session).await;
        }
        let over = Arc::new(AtomicBool::new(false));
        let rolling = async {
            for _ in 0..2 {
                for bridge in &mut bridges {
                    assert!(bridge.stop().await.success());
                    bridge.restart().await;
                }
            }
            over.store(true, Ordering::SeqCst);
        };
        let players = join_all(sessions.iter().map(|session| play(&world, session, &over)));
        let (answers, ()) = tokio::join!(players, rolling);
        let mut accepted = 0;
        for ((answers, session), master) in answers.iter().zip(&sessions).zip(&masters) {
            assert!(answers.refused.is_empty() && answers.unanswered.is_empty(), "{answers:?}");
            let told = story(&world.wait_idle(session, 1).await);
            assert_eq!(commands(&told), answers.accepted, "each is run, once");
            assert_eq!(master.calls(), answers.accepted, "and asked for once");
            for action in told.values().filter(|action| action.kind == "propose") {
                // All of them are short: each comes to its end while its bridge drains.
                assert_eq!((action.events, &*action.ends), (OF, &[String::new()][..]), "{told:?}");
            }
            accepted += answers.accepted;
        }
        assert!(accepted > 8, "hardly any load: {accepted}");
        println!("rolled 4 times under {accepted} commands: all accepted, all run once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_while_its_bridge_drains_is_ended_with_a_reason() {
    within(Duration::from_secs(90), async {
        let world = World::new().await;
        let master = Master::start(Duration::from_millis(5)).await;
        master.open(false);
        let mut first = world.bridge(&master.url, &[("action.drain", "2s")]).await;
        let second = world.bridge(&master.url, &[]).await;
        let session = session();
        world.hear(&first, true).await;
        world.start(&session).await;
        let from = world.head().await + 1;
        assert_eq!(world.ask(&format!("/api/choose?kind=real&session_id={session}")).await.status, 202);
        world.wait_log("five events", &session, from, |log| log.len() == 6).await;
        // What waits for its end is carried out by the other one, at once.
        let queued = world.try_ask("app", Method::GET, &format!("/api/propose?session_id={session}")).await;
        assert_eq!(queued.unwrap().status, 202);
        assert!(first.service.stop().await.success());
        let begun = std::time::Instant::now();
        master.open(true);
        let log = eventually("both are over", BOUND, async || {
            let log = world.wait_idle(&session, from).await;
            if log.last().is_some_and(|last| last.topic == "result") { Ok(log) } else { Err(log) }
        })
        .await;
        let told = story(&log);
        let ends: Vec<_> = told.values().map(|told| (&*told.kind, told.ends.join(","))).collect();
        assert_eq!(ends[0], ("choose", "bridge stopped".to_owned()), "{ends:?}");
        assert_eq!(ends.last().unwrap(), &("propose", String::new()), "{ends:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "handed over after {:?}", begun.elapsed());
        assert_eq!(master.calls(), 2);
        drop(second);
    })
    .await;
}
