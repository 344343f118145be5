//! Questions over NATS, and what becomes of those that nobody answers.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use herald_runtime::questions::{Questions, Unanswered};
use herald_testkit::{Nats as Server, eventually, within};

use crate::{
    connection::connect,
    pair::{LIMIT, SOON},
};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_question_has_one_answer_in_time_or_none() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let asking = connect(&server).await;
        let questions = Questions::new(&asking).await.unwrap();
        let ask = |text: &'static str, limit| questions.ask("admit.dice".to_owned(), text.into(), limit);
        assert!(matches!(ask("a", SOON).await, Err(Unanswered::NoResponders)));

        let engine = server.client().await;
        let mut asked = engine.subscribe("admit.dice").await.unwrap();
        engine.request("$JS.API.INFO", Bytes::new()).await.unwrap();
        let answering = tokio::spawn(async move {
            while let Some(question) = asked.next().await {
                let times = match &question.payload[..] {
                    b"silence" => 0,
                    b"twice" => 2,
                    _ => 1,
                };
                for _ in 0..times {
                    engine.publish(question.reply.clone().unwrap(), question.payload.clone()).await.unwrap();
                }
            }
        });
        let (one, two, three) = tokio::join!(ask("one", SOON), ask("twice", SOON), ask("three", SOON));
        assert_eq!(
            (&one.unwrap()[..], &two.unwrap()[..], &three.unwrap()[..]),
            (&b"one"[..], &b"twice"[..], &b"three"[..])
        );
        assert!(matches!(ask("silence", 50 * MS).await, Err(Unanswered::Timeout)));
        assert_eq!(&ask("still there", SOON).await.unwrap()[..], b"still there");
        let giant = questions.ask("admit.dice".to_owned(), vec![b'x'; 9 << 20].into(), SOON).await;
        assert!(matches!(giant, Err(Unanswered::Send(_))), "larger than the server takes");

        server.stop().await;
        eventually("the connection is seen to be gone", SOON, async || match ask("a", 50 * MS).await {
            Err(Unanswered::NotConnected) => Ok(()),
            other => Err(other),
        })
        .await;
        answering.abort();
    })
    .await;
}
