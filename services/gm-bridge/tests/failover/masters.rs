//! Game Masters that are gone, or seem to be there.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use herald_protocol::SessionId;
use herald_testkit::{
    Service, Sim, SimGm, eventually,
    game_master::{Answer, PROPOSE, START, Scripted, sse},
    port::Reserved,
    proxy::{Network, Proxy},
    within,
};
use http::Method;
use serde_json::{Value, json};

use crate::world::{BOUND, Reply, World, session};

const LIMIT: Duration = Duration::from_secs(90);

async fn start(world: &World, session: &SessionId) -> Reply {
    world.ask(&format!("/api/start?session_id={session}")).await
}

async fn propose(world: &World, session: &SessionId) -> Value {
    let from = world.head().await + 1;
    assert_eq!(world.ask(&format!("/api/propose?session_id={session}")).await.status, 202);
    world.wait_idle(session, from).await.last().unwrap().json.clone()
}

/// Which Game Masters are ready, by what health says.
async fn ready(world: &World) -> Vec<bool> {
    let health = world.ask("/health").await.body;
    let masters = health["game_masters"].as_array().unwrap().iter().enumerate();
    masters
        .map(|(index, master)| {
            assert_eq!(master["number"], index + 1);
            master["ready"].as_bool().unwrap()
        })
        .collect()
}

async fn wait_ready(world: &World, expected: &[bool]) {
    eventually("health says who is out", BOUND, async || {
        let ready = ready(world).await;
        if ready == expected { Ok(()) } else { Err(ready) }
    })
    .await;
}

async fn sim(address: SocketAddr) -> Sim {
    SimGm::at(address, "40").arg("--no-door").start().await
}

/// A bridge with its own sessions' restarts answered anew, each time.
async fn bridge(world: &World, urls: &[String]) -> Service {
    world.plain(&urls.join(",")).set("gm.repeated_start", "0s").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_master_that_dies_costs_its_own_session_one_error() {
    within(LIMIT, async {
        let world = World::new().await;
        let ports = [Reserved::take(), Reserved::take(), Reserved::take()];
        let mut sims = Vec::new();
        for port in &ports[..2] {
            sims.push(sim(port.address()).await);
        }
        let urls: Vec<String> = ports.iter().map(|port| format!("http://{}", port.address())).collect();
        let _bridge = bridge(&world, &urls).await;
        wait_ready(&world, &[true, true, false]).await;
        let (one, two, three) = (session(), session(), session());
        let first = start(&world, &one).await;
        assert_eq!((first.status, start(&world, &two).await.status), (200, 200));
        // In mid-stream.
        let from = world.head().await + 1;
        assert_eq!(world.ask(&format!("/api/propose?session_id={one}")).await.status, 202);
        world.wait_log("its first events", &one, from, |log| log.len() > 3).await;
        sims[0].kill().await;
        let log = world.wait_idle(&one, from).await;
        let last = log.last().unwrap();
        assert_eq!(last.json, json!({"error": "Propose stream failed", "detail": "the stream broke off"}));
        // While it is idle: at once, and again one error each.
        let told = propose(&world, &one).await;
        assert_eq!(told, json!({"error": "Propose stream failed", "detail": "the game master can't be reached"}));
        wait_ready(&world, &[false, true, false]).await;
        // The other session notices nothing; and no other one can be had.
        assert_eq!(propose(&world, &two).await["type"], "result");
        for session in [&one, &three] {
            let begun = Instant::now();
            let refused = start(&world, session).await;
            assert_eq!((refused.status, &refused.body["error"]), (503, &"all game masters are busy".into()));
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        }
        // A third one: the session starts there, by itself that is.
        sims.push(sim(ports[2].address()).await);
        wait_ready(&world, &[false, true, true]).await;
        let begun = Instant::now();
        let moved = start(&world, &one).await;
        assert_eq!(moved.status, 200, "{moved:?}");
        assert_ne!(moved.body["gm_session_id"], first.body["gm_session_id"]);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(propose(&world, &one).await["type"], "result");
        // The first one comes back, with an id of its own: it is free, as its session has left it.
        sims[0] = sim(ports[0].address()).await;
        wait_ready(&world, &[true, true, true]).await;
        let fresh = start(&world, &three).await;
        assert_eq!(fresh.status, 200, "{fresh:?}");
        assert_ne!(fresh.body["gm_session_id"], first.body["gm_session_id"], "it is a new one");
        for session in [&one, &two, &three] {
            assert_eq!(propose(&world, session).await["type"], "result");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_master_that_was_restarted_is_started_again_by_its_session() {
    within(LIMIT, async {
        let world = World::new().await;
        let port = Reserved::take();
        let mut master = sim(port.address()).await;
        let _bridge = bridge(&world, &[format!("http://{}", port.address())]).await;
        let (session, stranger) = (session(), session());
        let first = start(&world, &session).await;
        assert_eq!(propose(&world, &session).await["type"], "result");
        master.kill().await;
        let down = start(&world, &session).await;
        assert_eq!((down.status, &down.body["error"]), (502, &"GM unreachable".into()));
        master = sim(port.address()).await;
        // It knows no game any more; whoever had one there is still the one to start there.
        assert_eq!(start(&world, &stranger).await.status, 503);
        let again = start(&world, &session).await;
        assert_eq!(again.status, 200, "{again:?}");
        let (old, new) = (&first.body["gm_session_id"], again.body["gm_session_id"].as_str().unwrap());
        assert_ne!(old, new);
        assert_eq!(propose(&world, &session).await["type"], "result");
        let alias = world.record("ALIASES", new).await.unwrap();
        assert_eq!(alias["session"], session.as_str(), "its socket shows this session");
        drop(master);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_master_that_only_accepts_is_passed_over() {
    within(LIMIT, async {
        let world = World::new().await;
        let (hung, good) = (Scripted::start().await, Scripted::start().await);
        let proxy = Proxy::start(hung.address()).await;
        let _bridge = bridge(&world, &[proxy.http_url(), good.url()]).await;
        let (one, two) = (session(), session());
        assert_eq!(start(&world, &one).await.status, 200);
        assert_eq!(hung.asked(START).len(), 1, "the first one in the list");
        proxy.set(Network::Silent);
        wait_ready(&world, &[false, true]).await;
        // Its own session waits for a probe at most, and goes elsewhere.
        let begun = Instant::now();
        assert_eq!(start(&world, &one).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(good.asked(START).len(), 1);
        // The next one finds none, and is told so soon, not only when the one that hangs gives up.
        let begun = Instant::now();
        assert_eq!(start(&world, &two).await.status, 503);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        wait_ready(&world, &[false, true]).await;
        proxy.set(Network::Works);
        wait_ready(&world, &[true, true]).await;
        assert_eq!(start(&world, &two).await.status, 200);
        assert_eq!(hung.asked(START).len(), 2, "whatever hung there, a start was sent once for each that was made");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_may_have_been_heard_is_sent_to_nobody_else() {
    within(LIMIT, async {
        let world = World::new().await;
        let masters = [Scripted::start().await, Scripted::start().await];
        masters[0].on(START, [Answer::json("{}").hang()]);
        let urls: Vec<String> = masters.iter().map(Scripted::url).collect();
        let _bridge = world.plain(&urls.join(",")).set("gm.request_timeout", "1s").start().await;
        let session = session();
        let late = start(&world, &session).await;
        assert_eq!((late.status, &late.body["error"]), (502, &"GM unreachable".into()));
        assert_eq!((masters[0].asked(START).len(), masters[1].asked(START).len()), (1, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_ends_and_the_others_go_on() {
    within(LIMIT, async {
        let world = World::new().await;
        let (hung, good) = (Scripted::start().await, Scripted::start().await);
        hung.on(PROPOSE, [Answer::sse().send(sse([json!({"type": "phase"}), json!({"type": "heartbeat"})])).hang()]);
        good.on(PROPOSE, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let urls = format!("{},{}", hung.url(), good.url());
        let _bridge = world.plain(&urls).set("gm.heartbeat_silence", "1s").start().await;
        let (one, two) = (session(), session());
        assert_eq!((start(&world, &one).await.status, start(&world, &two).await.status), (200, 200));
        let (silent, fine) = tokio::join!(propose(&world, &one), propose(&world, &two));
        assert_eq!(silent, json!({"error": "Propose stream failed", "detail": "no event for 1s"}));
        assert_eq!(fine["type"], "result");
        let cancelled = world.try_ask("event", Method::POST, &format!("/api/cancel?session_id={one}")).await.unwrap();
        assert_eq!(cancelled.body, json!({"status": "idle"}));
        assert_eq!(start(&world, &one).await.status, 200, "it can start again");
    })
    .await;
}
