//! Atomic batches, against real servers: what the documentation of `publish_batch` says of them.

use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::future::join_all;
use herald_runtime::{
    jetstream::{
        BATCH_MAX, BatchAck, BatchError, BatchGet, BatchMessage, Expect, PublishError, StreamSpec, batch_get,
        ensure_stream, publish, publish_batch, stream_info,
    },
    nats::Nats,
};
use herald_testkit::{Nats as Server, NatsCluster, eventually, within};

use crate::connection::{connect, connect_with};

const LIMIT: Duration = Duration::from_secs(120);
const FENCE: &str = "gm.s._action";

/// A claim, as the bridge makes it.
async fn claim(nats: &Nats, last: u64) -> Result<u64, PublishError> {
    let expect = Expect { last_subject_sequence: Some(last), ..Expect::default() };
    publish(nats, FENCE, HeaderMap::new(), "{}".into(), expect).await.map(|ack| ack.seq)
}

/// A message of each id, fenced.
async fn batch(nats: &Nats, fence: u64, ids: &[String]) -> Result<BatchAck, BatchError> {
    let messages = ids.iter().map(|id| BatchMessage {
        subject: "gm.s.text",
        headers: HeaderMap::new(),
        payload: id.clone().into(),
        expect: Expect { last_subject_sequence: Some(fence), subject: Some(FENCE), message_id: Some(id) },
    });
    publish_batch(nats, messages.collect()).await
}

fn ids(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|id| id.to_string()).collect()
}

/// All that the session holds: `None` a claim, `Some` an event's id.
async fn log(nats: &Nats) -> Vec<(u64, Option<String>)> {
    let (mut all, mut from) = (Vec::new(), 1);
    let last = stream_info(nats, "EVENTS").await.unwrap().last_seq;
    while from <= last {
        let request = BatchGet { filter: "gm.s.>", from, batch: 1000, max_bytes: 4 << 20 };
        let page = batch_get(nats, "EVENTS", &request).await.unwrap().messages;
        let Some(end) = page.last() else { break };
        from = end.sequence + 1;
        all.extend(page.iter().map(|message| (message.sequence, message.message_id().map(str::to_owned))));
    }
    all
}

async fn with_stream() -> (Server, Nats) {
    let server = Server::start().await;
    let nats = connect(&server).await;
    ensure_stream(&nats, &StreamSpec::new("EVENTS", ["gm.>"])).await.unwrap();
    (server, nats)
}

/// What holds on one node and on three.
async fn all_or_nothing_and_fenced(nats: &Nats) {
    let first = claim(nats, 0).await.unwrap();
    assert_eq!(batch(nats, first, &ids(0, 5)).await.unwrap(), BatchAck { last: first + 5 });
    // Known ids are found, wherever they stand in a batch; nothing of it is stored.
    for again in [ids(0, 5), ids(4, 6), ids(3, 4), [ids(5, 7), ids(0, 1)].concat(), [ids(5, 7), ids(5, 6)].concat()] {
        assert!(matches!(batch(nats, first, &again).await, Err(BatchError::Duplicate)), "{again:?}");
    }
    let second = claim(nats, first).await.unwrap();
    let late = batch(nats, first, &ids(5, 8)).await;
    assert!(
        matches!(late, Err(BatchError::Publish(PublishError::WrongLast { actual: Some(actual) })) if actual == second),
        "{late:?}"
    );
    // The ids are looked at before the fence.
    assert!(matches!(batch(nats, first, &ids(0, 5)).await, Err(BatchError::Duplicate)));
    // What was refused was never there.
    assert_eq!(batch(nats, second, &ids(5, 8)).await.unwrap(), BatchAck { last: second + 3 });
    assert_eq!(batch(nats, second, &ids(8, 9)).await.unwrap(), BatchAck { last: second + 4 });
    let stored: Vec<_> = log(nats).await.into_iter().map(|(_, id)| id).collect();
    let events = |from, to| ids(from, to).into_iter().map(Some).collect::<Vec<_>>();
    assert_eq!(stored, [vec![None], events(0, 5), vec![None], events(5, 9)].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_as_one_and_fenced_as_one() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        all_or_nothing_and_fenced(&nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_as_one_on_three_replicas() {
    within(LIMIT, async {
        let cluster = NatsCluster::start().await;
        let url = cluster.url();
        let nats = connect_with(&cluster.servers[1], |common| common.nats.url = url).await;
        eventually("a stream", LIMIT, async || ensure_stream(&nats, &StreamSpec::new("EVENTS", ["gm.>"])).await).await;
        all_or_nothing_and_fenced(&nats).await;
        claims_meet_batches(&nats, &nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_never_falls_into_a_batch() {
    within(LIMIT, async {
        let (server, nats) = with_stream().await;
        claims_meet_batches(&nats, &connect(&server).await).await;
    })
    .await;
}

/// Batches and claims at once: whatever is stored, each batch stands side by side behind its own claim.
async fn claims_meet_batches(nats: &Nats, other: &Nats) {
    let mut fence = log(nats).await.iter().rev().find(|(_, id)| id.is_none()).map_or(0, |(sequence, _)| *sequence);
    let (mut taken, mut refused) = (0, 0);
    for round in 1..=40 {
        let batches = (0..4).map(|number| {
            let first = round * 1000 + number * 100;
            async move { batch(nats, fence, &ids(first, first + 30)).await }
        });
        let (batches, claimed) = tokio::join!(join_all(batches), claim(other, fence));
        taken += batches.iter().filter(|done| done.is_ok()).count();
        refused += batches.iter().filter(|done| done.is_err()).count();
        for done in &batches {
            let expected =
                matches!(done, Ok(_) | Err(BatchError::Publish(PublishError::WrongLast { .. } | PublishError::Retry)));
            assert!(expected, "{done:?}");
        }
        match claimed {
            Ok(sequence) => fence = sequence,
            // A batch under this fence was on its way through the cluster.
            Err(PublishError::Retry) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(taken > 0, "{taken} taken, {refused} refused");
    let numbers: Vec<Option<usize>> =
        log(nats).await.into_iter().map(|(_, id)| id.and_then(|id| id.parse().ok()).filter(|id| *id >= 1000)).collect();
    for (index, number) in numbers.iter().enumerate() {
        let Some(number) = number.filter(|number| number % 100 == 0) else { continue };
        let expected: Vec<_> = (number..number + 30).map(Some).collect();
        assert_eq!(numbers[index..index + 30], expected, "side by side");
    }
    assert_eq!(numbers.iter().flatten().count(), taken * 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_can_not_be_taken_says_so() {
    within(LIMIT, async {
        let (mut server, nats) = with_stream().await;
        let fence = claim(&nats, 0).await.unwrap();
        for ids in [Vec::new(), ids(0, BATCH_MAX + 1)] {
            assert!(matches!(batch(&nats, fence, &ids).await, Err(BatchError::NotTaken { code: 0, .. })));
        }
        let large = |size: usize| BatchMessage {
            subject: "gm.s.text",
            headers: HeaderMap::new(),
            payload: vec![b'x'; size].into(),
            expect: Expect::default(),
        };
        let refused = publish_batch(&nats, vec![large(1), large(9 << 20), large(1)]).await;
        assert!(matches!(refused, Err(BatchError::TooLarge { index: 1 })), "{refused:?}");
        // To the byte: what passes our count passes the server's.
        let most = (0..200).map(|less| nats.max_payload() - less).collect::<Vec<_>>();
        let mut fits = None;
        for size in most {
            match publish_batch(&nats, vec![large(size)]).await {
                Err(BatchError::TooLarge { index: 0 }) => {}
                done => {
                    fits = Some(done.unwrap());
                    break;
                }
            }
        }
        assert!(fits.is_some());
        let elsewhere = publish_batch(&nats, vec![BatchMessage { subject: "nobody.x", ..large(1) }]).await;
        assert!(matches!(elsewhere, Err(BatchError::Publish(PublishError::NoResponders))), "{elsewhere:?}");

        let mut config = nats.jetstream().get_stream("EVENTS").await.unwrap().cached_info().config.clone();
        config.allow_atomic_publish = false;
        nats.jetstream().update_stream(&config).await.unwrap();
        let refused = batch(&nats, fence, &ids(0, 3)).await;
        assert!(matches!(refused, Err(BatchError::NotTaken { code: 10174, .. })), "{refused:?}");
        config.allow_atomic_publish = true;
        nats.jetstream().update_stream(&config).await.unwrap();

        let hasty = connect_with(&server, |common| common.nats.request_timeout = "200ms".parse().unwrap()).await;
        server.freeze().await;
        let lost = batch(&hasty, fence, &ids(0, 3)).await;
        server.thaw();
        assert!(matches!(lost, Err(BatchError::Publish(PublishError::Timeout))), "{lost:?}");
        // It is stored all the same, or was never there: the id says it.
        let again = batch(&nats, fence, &ids(0, 3)).await;
        assert!(matches!(again, Ok(_) | Err(BatchError::Duplicate)), "{again:?}");
        assert_eq!(log(&nats).await.iter().filter(|(_, id)| id.is_some()).count(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_batches_as_you_like_go_at_once_over_one_connection() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        let fence = claim(&nats, 0).await.unwrap();
        let batches = (0..120).map(|number| {
            let nats = nats.clone();
            tokio::spawn(async move { batch(&nats, fence, &ids(number * 50, number * 50 + 50)).await })
        });
        for done in join_all(batches).await {
            done.unwrap().unwrap();
        }
    })
    .await;
}
