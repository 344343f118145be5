//! How many actions may be open on all bridges together.

use gm_bridge::config::Config;
use herald_testkit::{eventually, within};
use http::Method;
use serde_json::json;

use crate::{
    house::{House, Reply, SOON, session},
    master::Master,
};

fn two(config: &mut Config) {
    config.action.max_open = 2;
}

async fn choose(house: &House, id: &str) -> Reply {
    house.get(&format!("/api/choose?session_id={id}&kind=real")).await
}

async fn cancel(house: &House, id: &str) -> Reply {
    house.request("event", Method::POST, &format!("/api/cancel?session_id={id}"), axum::body::Body::empty()).await
}

fn refused(reply: Reply) {
    let reply = reply.expect(429);
    assert_eq!((&*reply.error(), reply.head["retry-after"].to_str().unwrap()), ("too many actions are running", "10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_actions_are_opened_than_may_be_and_each_session_keeps_its_own() {
    within(SOON * 2, async {
        let masters = [Master::start().await, Master::start().await, Master::start().await];
        masters.iter().for_each(|master| master.hold_chooses(true));
        let house = House::build(1, &masters.each_ref(), two).await;
        let [one, two, three] = [session(), session(), session()];
        for id in [&one, &two, &three] {
            house.start_game(id).await;
        }
        // A start is an action itself; the record of the last one may still be there.
        eventually("two run", SOON, async || match choose(&house, &one).await.status {
            202 => Ok(()),
            status => Err(status),
        })
        .await;
        eventually("two run", SOON, async || match choose(&house, &two).await.status {
            202 => Ok(()),
            status => Err(status),
        })
        .await;
        refused(choose(&house, &three).await);
        refused(house.get(&format!("/api/propose?session_id={three}")).await);
        refused(house.get(&format!("/api/start?session_id={}", session())).await);
        assert_eq!(masters.iter().map(|master| master.asked("start")).sum::<usize>(), 3, "nobody was asked for it");
        // What runs may be followed by another action of its session, also where that waits for its end.
        choose(&house, &one).await.expect(202);
        house
            .request("app", Method::GET, &format!("/api/propose?session_id={two}"), axum::body::Body::empty())
            .await
            .expect(202);
        house.start_game(&one).await;
        // Whatever is full: to cancel is to make room.
        assert_eq!(cancel(&house, &three).await.expect(200).json(), json!({"status": "idle"}));
        assert_eq!(cancel(&house, &two).await.expect(200).json(), json!({"status": "cancelled"}));
        eventually("there is room again", SOON, async || match choose(&house, &three).await.status {
            202 => Ok(()),
            status => Err(status),
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_on_another_bridge_count_too() {
    within(SOON * 2, async {
        let masters = [Master::start().await, Master::start().await, Master::start().await];
        masters.iter().for_each(|master| master.hold_chooses(true));
        let house = House::build(2, &masters.each_ref(), two).await;
        let ids = [session(), session(), session()];
        for id in &ids {
            house.start_game(id).await;
        }
        for id in &ids[..2] {
            eventually("it runs", SOON, async || match choose(&house, id).await.status {
                202 => Ok(()),
                status => Err(status),
            })
            .await;
        }
        // Any of the two may be asked; what the other one has just begun it knows a moment later.
        eventually("both know of both", SOON, async || {
            for _ in 0..10 {
                let reply = choose(&house, &ids[2]).await;
                if reply.status == 202 {
                    cancel(&house, &ids[2]).await.expect(200);
                    return Err("one did not");
                }
                refused(reply);
            }
            Ok(())
        })
        .await;
        masters.iter().for_each(|master| master.hold_chooses(false));
        eventually("both have ended", SOON, async || match choose(&house, &ids[2]).await.status {
            202 => Ok(()),
            status => Err(status),
        })
        .await;
    })
    .await;
}
