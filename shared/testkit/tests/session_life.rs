//! The life of a session on the whole system, two of each: played, ended, read again, removed, begun anew.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use herald_testkit::{
    Plan, Service, System, eventually,
    http::{self, Reply, send},
    sse, within, ws,
};
use hyper::Method;
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);
const SESSION: &str = "5e551040-0000-4000-8000-00000000000c";

async fn remove(edge: &Service) -> Reply {
    send(Method::DELETE, &edge.http(&format!("/sessions/{SESSION}")), &[], "").await
}

async fn end(edge: &Service) -> Reply {
    http::post(&edge.http(&format!("/sessions/{SESSION}/end"))).await
}

async fn turn(edge: &Service, socket: &ws::Client) {
    edge.get(&format!("/api/start?session_id={SESSION}")).await.expect_status(200);
    edge.get(&format!("/api/propose?session_id={SESSION}")).await.expect_status(202);
    socket.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
    edge.get(&format!("/api/choose?session_id={SESSION}&kind=fake")).await.expect_status(202);
    socket.wait_for("the turn", SOON, |frame| frame.event() == "gm.turn_update").await;
}

#[tokio::test]
async fn a_session_is_played_ended_read_removed_and_played_again() {
    within(Duration::from_secs(150), async {
        let system = System::start_with(Plan { edges: 2, bridges: 2, ..Plan::default() }).await;
        let (here, there) = (&system.edges[0], &system.edges[1]);
        let path = format!("/ws/{SESSION}?after=0");
        let socket = ws::Client::connect(&there.ws(&path), ws::V1).await;
        let plain = ws::Client::connect(&here.ws(&path), ws::PLAIN).await;
        let stream = sse::Client::connect(&here.http(&format!("/sse/{SESSION}?after=0")), None).await;
        turn(here, &socket).await;
        assert_eq!((socket.ended(), plain.ended()), (None, None), "a game's own end sends nobody away");
        let over = async || match end(there).await {
            reply if reply.status == 200 => Ok(()),
            reply => Err(reply),
        };
        eventually("no action runs any more", SOON, over).await;
        for client in [&socket, &plain] {
            assert_eq!(client.wait_end(SOON).await.code(), 4411);
            client.check_order();
        }
        stream.wait_end(SOON).await;
        let id = stream.last_id().unwrap();
        for edge in [here, there] {
            let url = edge.http(&format!("/sse/{SESSION}"));
            assert_eq!(send(Method::GET, &url, &[("last-event-id", &id)], "").await.status, 204);
            let late = ws::Client::connect(&edge.ws(&path), ws::PLAIN).await;
            assert_eq!(late.wait_end(SOON).await.code(), 4411);
            // The engine plays on by itself: what it says late is shown, too.
            assert!(late.events().len() >= plain.events().len());
        }

        let cursor = socket.events()[3].seq().unwrap();
        let epoch = id.split_once('-').unwrap().0;
        let purged = remove(there).await.expect_status(200).json();
        assert!(purged["purged"].as_u64().unwrap() >= socket.events().len() as u64, "{purged}");
        for edge in [here, there] {
            let late = ws::Client::connect(&edge.ws(&path), ws::PLAIN).await;
            assert_eq!(late.wait_end(SOON).await.code(), 4411);
            let frames = late.events();
            assert!(frames.iter().all(|frame| frame.event().starts_with("arena.")), "of the engine, late: {frames:?}");
            let behind = format!("/ws/{SESSION}?after={epoch}-{cursor}");
            assert_eq!(ws::Client::connect(&edge.ws(&behind), ws::PLAIN).await.wait_end(SOON).await.code(), 4410);
        }
        here.get(&format!("/api/propose?session_id={SESSION}")).await.expect_status(404);

        here.get(&format!("/api/start?session_id={SESSION}")).await.expect_status(200);
        let again = ws::Client::connect(&there.ws(&path), ws::V1).await;
        turn(here, &again).await;
        assert_eq!(again.ended(), None);
        again.check_order();
    })
    .await;
}

#[tokio::test]
async fn a_removal_in_the_middle_of_a_choose_ends_it_for_all_who_watch() {
    within(Duration::from_secs(120), async {
        let system = System::start_with(Plan { edges: 2, bridges: 2, ..Plan::default() }).await;
        let (here, there) = (&system.edges[0], &system.edges[1]);
        let socket = ws::Client::connect(&there.ws(&format!("/ws/{SESSION}?after=0")), ws::V1).await;
        here.get(&format!("/api/start?session_id={SESSION}")).await.expect_status(200);
        here.get(&format!("/api/propose?session_id={SESSION}")).await.expect_status(202);
        socket.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        here.get(&format!("/api/choose?session_id={SESSION}&kind=real")).await.expect_status(202);
        socket
            .wait_for("the debate, which the choose waits for", SOON, |frame| frame.event() == "arena.round.start")
            .await;
        remove(here).await.expect_status(200);
        assert_eq!(socket.wait_end(SOON).await.code(), 4411);
        assert!(
            socket
                .events()
                .iter()
                .any(|frame| frame.event() == "gm.error" && frame.data()["error"] == json!("Cancelled")),
            "told how it ended"
        );
        // What the engine goes on to say is removed by another request, at any bridge.
        remove(there).await.expect_status(200);
    })
    .await;
}
