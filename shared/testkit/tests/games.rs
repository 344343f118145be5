//! Whole games with the stand-ins, and what must not move a game.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{cell::Cell, time::Duration};

use herald_testkit::{
    Bridge, Edge, Nats, Plan, System,
    game_master::{Answer, PROPOSE, START, STATE, Scripted},
    http, within, ws,
};
use hyper::Method;

const SOON: Duration = Duration::from_secs(30);

async fn nth(socket: &ws::Client, event: &str, n: usize) -> ws::Frame {
    let seen = Cell::new(0);
    let is = |frame: &ws::Frame| {
        seen.set(seen.get() + usize::from(frame.event() == event));
        frame.event() == event && seen.get() == n
    };
    socket.wait_for(&format!("{event} number {n}"), SOON, is).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_games_in_a_row_on_one_game_master_have_every_debate_complete() {
    within(Duration::from_secs(200), async {
        // A game that nobody watches makes way at once.
        let plan = Plan { bridge: |bridge| bridge.set("gm.unwatched", "1ms"), ..Plan::default() };
        let system = System::start_with(plan).await;
        let edge = &system.edges[0];
        for game in 0..10 {
            let session = format!("5e551040-0000-4000-8000-0000000000{game:02}");
            let lang = if game % 2 == 0 { "fr" } else { "en" };
            let socket = ws::Client::connect(&edge.ws(&format!("/ws/{session}?after=0")), ws::V1).await;
            let ask = async |command: &str, status: u16| {
                let reply = edge.get(&format!("/api/{command}session_id={session}&lang={lang}")).await;
                reply.expect_status(status).json()
            };
            let started = ask("start?", 200).await;
            assert_eq!((&started["session_id"], &started["lang"]), (&session.as_str().into(), &lang.into()));
            assert_ne!(started["gm_session_id"], started["session_id"]);
            for turn in 1..=2 {
                ask("propose?", 202).await;
                nth(&socket, "gm.result", 2 * turn - 1).await;
                let images = nth(&socket, "gm.images", turn).await;
                let path = images.data()["data"]["real"].as_str().expect("a picture").to_owned();
                assert_eq!(edge.get(&path).await.expect_status(200).header("content-type"), "image/png");
                ask("choose?kind=fake&", 202).await;
                let result = nth(&socket, "gm.result", 2 * turn).await;
                let debate = nth(&socket, "arena.state.global", turn).await;
                assert!(debate.seq() < result.seq(), "the debate is over before the turn is");
                assert_eq!(debate.data()["lang"], lang, "{}", debate.text);
            }
            let of = |event: &str| {
                let is = |frame: &&ws::Frame| frame.event().starts_with("arena.") && frame.event().ends_with(event);
                socket.frames().iter().filter(is).count()
            };
            assert_eq!((of(".round.start"), of(".phase.start"), of(".output")), (2, 8, 32), "game {game}");
            assert_eq!(socket.events().iter().filter(|frame| frame.event() == "gm.error").count(), 0);
            socket.check_order();
            socket.close().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_head_nor_prefetch_nor_a_double_click_moves_a_game() {
    within(Duration::from_secs(60), async {
        let nats = Nats::start().await;
        let gm = Scripted::start().await;
        let _bridges = [Bridge::new(&nats).gm(&gm.url()).start().await, Bridge::new(&nats).gm(&gm.url()).start().await];
        let edges = [Edge::new(&nats).start().await, Edge::new(&nats).start().await];
        for prefix in ["", "/app"] {
            for command in ["start", "propose", "choose"] {
                let url = edges[0].http(&format!("{prefix}/api/{command}?session_id=S&kind=real"));
                let head = http::send(Method::HEAD, &url, &[], "").await.expect_status(405);
                assert_eq!(head.header("allow"), "GET");
                for (name, value) in [("sec-purpose", "prefetch"), ("purpose", "prefetch"), ("x-moz", "prefetch")] {
                    let reply = http::send(Method::GET, &url, &[(name, value)], "").await.expect_status(503);
                    assert!(!reply.error().is_empty());
                }
            }
        }
        assert_eq!(gm.all_asked().iter().filter(|asked| asked.path != "/api/state").count(), 0);

        // A double click: both get the same game.
        let url = "/api/start?session_id=S";
        let (one, two) = tokio::join!(edges[0].get(url), edges[1].get(url));
        assert_eq!(one.expect_status(200).json(), two.expect_status(200).json());
        assert_eq!(gm.asked(START).len(), 1);
        // Somebody else's start, while S plays: refused, and S's game is as it was.
        let _watching = ws::Client::connect(&edges[0].ws("/ws/S"), ws::PLAIN).await;
        let refused = edges[1].get("/api/start?session_id=T").await.expect_status(503);
        assert_eq!(refused.error(), "all game masters are busy");
        assert_eq!((gm.asked(START).len(), gm.asked(PROPOSE).len()), (1, 0));
        assert_eq!(edges[1].get("/api/propose?session_id=T").await.status, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_browsers_that_start_at_once_do_not_wipe_each_other() {
    within(Duration::from_secs(60), async {
        let nats = Nats::start().await;
        let gm = Scripted::start().await;
        let _bridges = [Bridge::new(&nats).gm(&gm.url()).start().await, Bridge::new(&nats).gm(&gm.url()).start().await];
        let edges = [Edge::new(&nats).start().await, Edge::new(&nats).start().await];
        let _watching = [
            ws::Client::connect(&edges[0].ws("/ws/A"), ws::PLAIN).await,
            ws::Client::connect(&edges[1].ws("/ws/B"), ws::PLAIN).await,
        ];
        let (one, two) = tokio::join!(edges[0].get("/api/start?session_id=A"), edges[1].get("/api/start?session_id=B"));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 503], "{} / {}", one.text(), two.text());
        assert_eq!(gm.asked(START).len(), 1, "the Game Master heard of one start alone");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_master_that_does_not_give_its_state_is_502_whatever_it_says() {
    within(Duration::from_secs(60), async {
        let nats = Nats::start().await;
        let gm = Scripted::start().await;
        let _bridge = Bridge::new(&nats).gm(&gm.url()).start().await;
        let edge = Edge::new(&nats).start().await;
        edge.get("/api/state").await.expect_status(200);
        let refusal = |status| Answer::status(status).send(r#"{"detail":"not now"}"#);
        for answer in [refusal(422), refusal(500), Answer::html("<html>"), Answer::refuse()] {
            gm.on(STATE, [answer]);
            assert_eq!(edge.get("/api/state").await.expect_status(502).error(), "GM unreachable");
        }
    })
    .await;
}
