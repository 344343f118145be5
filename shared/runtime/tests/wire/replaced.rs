//! The library's client ends by a message that it does not expect, and another one takes its place.

use std::time::Duration;

use ::http::StatusCode;
use axum::{Router, routing::get};
use herald_runtime::nats::NatsState;
use herald_testkit::{eventually, nats_wire, users, within};
use tokio::{sync::mpsc, time::timeout};

use crate::pair::{LIMIT, Pair, SOON};

/// nats-server takes it from anybody; async-nats 0.51 panics over it.
fn bare_return(subject: &str) -> Vec<u8> {
    nats_wire::hpub(subject, b"NATS/1.0\r\nA: b\rc\r\n\r\n", b"hi")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ended_by_a_message_is_replaced_with_all_its_subscriptions() {
    within(LIMIT, async {
        let pair = Pair::new(Router::new().route("/", get(async || "fine"))).await;
        assert_eq!(pair.get("/").await.unwrap().status(), StatusCode::OK);
        let mut own = pair.service.subscribe("a.*", None).await.unwrap();
        let (heard, mut hears) = mpsc::channel(16);
        let hearing = tokio::spawn(async move {
            while let Some(message) = own.next().await {
                heard.send(message.payload).await.unwrap();
            }
        });
        let mut state = pair.service.state();
        for generation in 2..5 {
            nats_wire::send(&pair.server, users::OPERATOR, &bare_return("http.gm")).await;
            state.wait_for(|state| *state == NatsState::Connected { generation }).await.unwrap();
            eventually("it serves again", SOON, async || match pair.get("/").await {
                Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
            let word = generation.to_string();
            eventually("it hears again", SOON, async || {
                pair.service.client().publish("a.b", word.clone().into()).await.unwrap();
                match timeout(Duration::from_millis(200), hears.recv()).await {
                    Ok(Some(heard)) if heard == word => Ok(()),
                    other => Err(other),
                }
            })
            .await;
        }
        // Nothing is left of it at the end.
        pair.service.close(SOON).await;
        hearing.await.unwrap();
    })
    .await;
}
