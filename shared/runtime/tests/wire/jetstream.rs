//! The JetStream requests, against a real server.

use std::time::Duration;

use crate::connection::{connect, connect_with};
use async_nats::HeaderMap;
use futures_util::{StreamExt as _, future::join_all};
use herald_runtime::{
    jetstream::{
        ApiError, BatchGet, Expect, PubAck, PublishError, StreamSpec, batch_get, ensure_stream, get_leader,
        last_by_subject_leader, multi_last, next_by_subject_leader, publish, publish_surely, stream_info,
    },
    nats::Nats,
};
use herald_testkit::{Nats as Server, eventually, within};

const LIMIT: Duration = Duration::from_secs(60);

/// A server with a stream `EVENTS`.
async fn with_stream() -> (Server, Nats) {
    let server = Server::start().await;
    let nats = connect(&server).await;
    ensure_stream(&nats, &StreamSpec::new("EVENTS", ["gm.>", "arena.>"])).await.unwrap();
    (server, nats)
}

async fn put(nats: &Nats, subject: &str, payload: impl Into<bytes::Bytes>) -> u64 {
    publish(nats, subject, HeaderMap::new(), payload.into(), Expect::default()).await.unwrap().seq
}

/// As an engine does: no acknowledgement; waits until the stream has them.
async fn put_many(nats: &Nats, subjects: impl Iterator<Item = String>, payload: &bytes::Bytes) {
    let acks =
        subjects.map(|subject| publish(nats, leak(subject), HeaderMap::new(), payload.clone(), Expect::default()));
    for ack in join_all(acks).await {
        ack.unwrap();
    }
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn fenced(subject: &str, sequence: u64) -> Expect<'_> {
    Expect { last_subject_sequence: Some(sequence), subject: Some(subject), message_id: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_through_the_leader_see_what_was_just_acknowledged() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        assert_eq!(last_by_subject_leader(&nats, "EVENTS", "gm.s.>").await.unwrap(), None);
        let mut headers = HeaderMap::new();
        headers.insert("X-Test", "yes");
        let expect = Expect { message_id: Some("id-1"), ..Expect::default() };
        let ack = publish(&nats, "gm.s.phase", headers, "one".into(), expect).await.unwrap();
        for number in 0..20 {
            let seq = put(&nats, &format!("gm.s.t{}", number % 3), format!("{number}")).await;
            let last = last_by_subject_leader(&nats, "EVENTS", "gm.s.>").await.unwrap().unwrap();
            assert_eq!((last.sequence, &last.payload[..]), (seq, format!("{number}").as_bytes()));
        }
        let first = get_leader(&nats, "EVENTS", ack.seq).await.unwrap().unwrap();
        assert_eq!(
            (first.subject.as_str(), &first.payload[..], first.message_id()),
            ("gm.s.phase", &b"one"[..], Some("id-1"))
        );
        assert_eq!(first.headers.get("X-Test").map(|value| value.as_str()), Some("yes"));
        let info = stream_info(&nats, "EVENTS").await.unwrap();
        let last = get_leader(&nats, "EVENTS", info.last_seq).await.unwrap().unwrap();
        assert_eq!((info.last_time_ns, info.messages), (last.time_ns, 21), "the info's time is the last message's");
        assert!(last.time_ms() > 1_600_000_000_000);

        let next = next_by_subject_leader(&nats, "EVENTS", 0, "gm.s.t2").await.unwrap().unwrap();
        assert_eq!(next.sequence, 4);
        let next = next_by_subject_leader(&nats, "EVENTS", 5, "gm.*.t2").await.unwrap().unwrap();
        assert_eq!(next.sequence, 7);
        assert_eq!(next_by_subject_leader(&nats, "EVENTS", 100, ">").await.unwrap(), None);
        assert_eq!(get_leader(&nats, "EVENTS", 100).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_has_its_own_error() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        assert!(matches!(stream_info(&nats, "NONE").await, Err(ApiError::StreamNotFound)));
        assert!(matches!(last_by_subject_leader(&nats, "NONE", ">").await, Err(ApiError::StreamNotFound)));
        let ask = BatchGet { filter: ">", from: 1, batch: 1, max_bytes: 1 };
        assert!(matches!(batch_get(&nats, "NONE", &ask).await, Err(ApiError::NoResponders)));
        assert!(matches!(
            multi_last(&nats, "NONE", &[">".to_owned()], None, usize::MAX).await,
            Err(ApiError::NoResponders)
        ));
        assert!(matches!(
            multi_last(&nats, "EVENTS", &[], None, usize::MAX).await,
            Err(ApiError::Refused { code: 408, .. })
        ));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_ordered_and_complete_page_by_page() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        put_many(&nats, (0..1000).map(|number| format!("gm.s{}.x", number % 2)), &vec![b'x'; 200].into()).await;
        let (mut from, mut read, mut pages) = (0, Vec::new(), 0);
        loop {
            let ask = BatchGet { filter: "gm.s1.>", from, batch: 64, max_bytes: 1 << 20 };
            let batch = batch_get(&nats, "EVENTS", &ask).await.unwrap();
            assert!(batch.messages.len() <= 64);
            assert_eq!(batch.pending + u64::try_from(read.len() + batch.messages.len()).unwrap(), 500);
            from = batch.messages.last().unwrap().sequence + 1;
            read.extend(batch.messages);
            pages += 1;
            if batch.pending == 0 {
                break;
            }
        }
        assert_eq!((read.len(), pages), (500, 8));
        assert!(read.is_sorted_by(|one, other| one.sequence < other.sequence));
        assert!(read.iter().all(|message| message.subject.as_str() == "gm.s1.x" && message.payload.len() == 200));

        let few = BatchGet { filter: "gm.s1.>", from: 1, batch: 1000, max_bytes: 1000 };
        let few = batch_get(&nats, "EVENTS", &few).await.unwrap();
        assert!((1..10).contains(&few.messages.len()), "the size bounds it, too: {}", few.messages.len());
        for (filter, from) in [("gm.s1.>", 1001), ("arena.>", 1)] {
            let none = batch_get(&nats, "EVENTS", &BatchGet { filter, from, batch: 5, max_bytes: 1000 }).await.unwrap();
            assert_eq!((none.messages.len(), none.pending), (0, 0));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_lost_on_the_way_never_goes_unnoticed() {
    within(LIMIT, async {
        let (server, nats) = with_stream().await;
        put_many(&nats, (0..1000).map(|_| "gm.s.x".to_owned()), &vec![b'x'; 100].into()).await;
        // The library drops what a subscription has no room for.
        let narrow = connect_with(&server, |common| common.nats.subscription_capacity = 2).await;
        let ask = BatchGet { filter: "gm.>", from: 1, batch: 1000, max_bytes: 8 << 20 };
        for _ in 0..20 {
            match batch_get(&narrow, "EVENTS", &ask).await {
                Ok(batch) => assert_eq!(batch.messages.len(), 1000),
                // Where the closing message is lost, too, there is no answer.
                Err(ApiError::Incomplete | ApiError::Timeout) => return,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("nothing was ever lost");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_each_subject_is_one_consistent_cut() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        for number in 0..10 {
            put(&nats, &format!("gm.s.t{}", number % 3), format!("{number}")).await;
        }
        put(&nats, "gm.other.t", "").await;
        let filters = ["gm.s.t0".to_owned(), "gm.s.t2".to_owned(), "arena.s.>".to_owned()];
        let last = multi_last(&nats, "EVENTS", &filters, None, usize::MAX).await.unwrap();
        let found: Vec<(&str, u64)> = last.messages.iter().map(|last| (last.subject.as_str(), last.sequence)).collect();
        assert_eq!(found, [("gm.s.t2", 9), ("gm.s.t0", 10)]);
        assert_eq!(last.cut, Some(11), "the whole stream's position, not the last match's");
        let then = multi_last(&nats, "EVENTS", &filters, Some(5), usize::MAX).await.unwrap();
        let found: Vec<u64> = then.messages.iter().map(|last| last.sequence).collect();
        assert_eq!((found, then.cut), (vec![3, 4], Some(5)));
        let none = multi_last(&nats, "EVENTS", &["arena.s.>".to_owned()], None, usize::MAX).await.unwrap();
        assert_eq!((none.messages.len(), none.cut), (0, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_subjects_come_in_pages_and_too_many_are_refused() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        // 24 MiB in 96 subjects: three pages.
        put_many(&nats, (0..96).map(|number| format!("arena.s.a{number}")), &vec![b'x'; 256 << 10].into()).await;
        let all = multi_last(&nats, "EVENTS", &["arena.s.*".to_owned()], None, usize::MAX).await.unwrap();
        assert_eq!((all.messages.len(), all.cut), (96, Some(96)));
        assert!(all.messages.is_sorted_by(|one, other| one.sequence < other.sequence));

        put_many(&nats, (0..1024).map(|number| format!("gm.s.t{number}")), &bytes::Bytes::new()).await;
        let most = multi_last(&nats, "EVENTS", &["gm.s.*".to_owned()], None, usize::MAX).await.unwrap();
        assert_eq!(most.messages.len(), 1024);
        put(&nats, "gm.s.one-more", "").await;
        let refused = multi_last(&nats, "EVENTS", &["gm.s.*".to_owned()], None, usize::MAX).await;
        assert!(matches!(refused, Err(ApiError::TooManySubjects)), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_publisher_is_refused() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        let claim = |n: u64, last| {
            let nats = nats.clone();
            async move {
                let expect = Expect { last_subject_sequence: Some(last), ..Expect::default() };
                publish(&nats, "gm.s._action", HeaderMap::new(), n.to_string().into(), expect).await
            }
        };
        let first = claim(1, 0).await.unwrap();
        assert_eq!(first, PubAck { seq: 1, duplicate: false });
        let event =
            |sequence| publish(&nats, "gm.s.phase", HeaderMap::new(), "{}".into(), fenced("gm.s._action", sequence));
        assert_eq!(event(first.seq).await.unwrap().seq, 2);
        let late = claim(2, 0).await;
        assert!(matches!(late, Err(PublishError::WrongLast { actual: Some(1) })), "{late:?}");
        let second = claim(2, first.seq).await.unwrap();
        let superseded = event(first.seq).await;
        assert!(matches!(superseded, Err(PublishError::WrongLast { actual: Some(3) })), "{superseded:?}");
        assert_eq!(event(second.seq).await.unwrap().seq, 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_at_once_exactly_one_wins() {
    within(LIMIT, async {
        let (server, nats) = with_stream().await;
        let other = connect(&server).await;
        let mut last = 0;
        for _round in 0..20 {
            let expect = fenced("gm.s._action", last);
            let claims = (0..8).map(|number| {
                let nats = if number % 2 == 0 { &nats } else { &other };
                publish(nats, "gm.s._action", HeaderMap::new(), "{}".into(), expect)
            });
            let results = join_all(claims).await;
            let won: Vec<u64> = results.iter().filter_map(|result| result.as_ref().ok()).map(|ack| ack.seq).collect();
            assert_eq!(won.len(), 1, "{results:?}");
            assert!(
                results.iter().all(|result| {
                    matches!(result, Ok(_) | Err(PublishError::WrongLast { .. } | PublishError::Retry))
                })
            );
            last = won[0];
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_publish_is_stored_once() {
    within(LIMIT, async {
        let (_server, nats) = with_stream().await;
        put(&nats, "gm.s._action", "1").await;
        let expect = Expect { message_id: Some("s-1-1"), ..fenced("gm.s._action", 1) };
        let event = || publish(&nats, "gm.s.phase", HeaderMap::new(), "{}".into(), expect);
        assert_eq!(event().await.unwrap(), PubAck { seq: 2, duplicate: false });
        assert_eq!(event().await.unwrap(), PubAck { seq: 2, duplicate: true });
        put(&nats, "gm.s._action", "2").await;
        // The server looks at the fence before it looks at the id: what was stored the first time is refused now.
        assert!(matches!(event().await, Err(PublishError::WrongLast { actual: Some(3) })));
        assert_eq!(stream_info(&nats, "EVENTS").await.unwrap().last_seq, 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_fails_says_whether_it_may_be_stored() {
    within(LIMIT, async {
        let (mut server, nats) = with_stream().await;
        let send = |subject: &'static str, size: usize| {
            let nats = nats.clone();
            async move { publish(&nats, subject, HeaderMap::new(), vec![0; size].into(), Expect::default()).await }
        };
        assert!(matches!(send("nobody.s.x", 1).await, Err(PublishError::NoResponders)));
        assert!(matches!(send("gm.s.x", 9 << 20).await, Err(PublishError::TooLarge)));
        let hasty = connect_with(&server, |common| {
            common.nats.request_timeout = "200ms".parse().unwrap();
        })
        .await;
        server.freeze().await;
        let lost = publish(&hasty, "gm.s.x", HeaderMap::new(), "".into(), Expect::default()).await;
        server.thaw();
        assert!(matches!(lost, Err(PublishError::Timeout)), "{lost:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_with_a_message_is_followed_by_one_that_says_what_became_of_it() {
    within(LIMIT, async {
        let server = Server::start().await;
        let nats = connect(&server).await;
        let publish = || publish_surely(&nats, "arena.init", HeaderMap::new(), "{}".into(), "s:init");
        let at_once = publish().await.unwrap_err();
        assert!(matches!(at_once, PublishError::NoResponders), "{at_once:?}: no stream, and nothing left before");
        // In place of a stream: one that never answers, then none, then one that does.
        let leader = async || {
            let leader = nats.client().subscribe("arena.init").await.unwrap();
            nats.client().flush().await.unwrap();
            leader
        };
        let mut first = leader().await;
        let stream = async {
            let copy = first.next().await.unwrap();
            drop(first);
            // Each further copy finds nobody, until this one is there.
            eventually("nobody listens", LIMIT, async || {
                let asked = nats.client().request("arena.init", "?".into()).await;
                if asked.is_err() { Ok(()) } else { Err(()) }
            })
            .await;
            let mut second = leader().await;
            let again = second.next().await.unwrap();
            assert_eq!((again.payload, again.headers), (copy.payload, copy.headers), "by the same id");
            let ack = r#"{"stream":"EVENTS","seq":7,"duplicate":true}"#;
            nats.client().publish(again.reply.unwrap(), ack.into()).await.unwrap();
        };
        let (published, ()) = tokio::join!(publish(), stream);
        assert_eq!(published.unwrap(), PubAck { seq: 7, duplicate: true });
    })
    .await;
}
