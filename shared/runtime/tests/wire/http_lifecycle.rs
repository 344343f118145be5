//! HTTP over NATS: deadlines, overload, who is there and who is not, and the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::http::{Request, StatusCode};
use async_nats::HeaderMap;
use axum::{Router, body::Body, extract::State, routing::get};
use bytes::Bytes;
use futures_util::StreamExt;
use herald_protocol::{InstanceId, Name};
use herald_runtime::http_over_nats::{Client, ForwardError, Limits, RequestMeta, serve};
use herald_testkit::{
    eventually,
    proxy::{Direction, Network, Proxy},
    within,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::connection::{connect, connect_with};
use crate::pair::{LIMIT, Pair, SOON, bytes, gm, json_of, meta, pattern};

/// A handler that waits to be let go, and counts.
#[derive(Clone, Default)]
struct Gate {
    go: Arc<Notify>,
    begun: Arc<AtomicUsize>,
}

impl Gate {
    fn router(&self) -> Router {
        let handler = async |State(gate): State<Self>| {
            gate.begun.fetch_add(1, Ordering::SeqCst);
            gate.go.notified().await;
            "done"
        };
        Router::new().route("/", get(handler)).with_state(self.clone())
    }

    async fn begun(&self, count: usize) {
        eventually("requests have begun", SOON, async || {
            let begun = self.begun.load(Ordering::SeqCst);
            if begun == count { Ok(()) } else { Err(begun) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_found_past_its_deadline_is_dropped_unexecuted() {
    within(LIMIT, async {
        let gate = Gate::default();
        let limits = Limits { concurrent: 1, ..Limits::default() };
        let pair = Pair::with(gate.router(), limits, Limits::default()).await;
        let (first, late) = tokio::join!(pair.get("/"), async {
            gate.begun(1).await;
            let hasty = RequestMeta { timeout: Duration::from_millis(200), ..meta() };
            let late = pair.client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &hasty).await;
            gate.go.notify_one();
            late
        });
        assert_eq!(first.unwrap().status(), StatusCode::OK);
        let late = late.unwrap_err();
        assert!(matches!(late, ForwardError::Timeout), "{late}");
        assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);

        // One that lay in NATS: no time left when it arrives.
        let mut headers = HeaderMap::new();
        for (name, value) in [("Herald-Method", "GET"), ("Herald-Path", "/"), ("Herald-Deadline", "0")] {
            headers.insert(name, value);
        }
        let nats = pair.service.client();
        nats.publish_with_reply_and_headers("http.gm", nats.new_inbox(), headers, Bytes::new()).await.unwrap();
        gate.go.notify_one();
        assert_eq!(pair.get("/").await.unwrap().status(), StatusCode::OK);
        assert_eq!(gate.begun.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_request_is_executed_only_while_its_caller_waits() {
    within(LIMIT, async {
        let gate = Gate::default();
        let pair = Pair::new(gate.router()).await;
        let confirmed = RequestMeta { confirm: true, ..meta() };
        gate.go.notify_one();
        let fine =
            pair.client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &confirmed).await.unwrap();
        assert_eq!(bytes(fine).await, "done");

        // Two messages as they lie in a connection's queue while NATS is away: the one confirmed, the other not.
        let nats = pair.service.client();
        let mut waiting = nats.subscribe("_INBOX.operator.caller").await.unwrap();
        nats.flush().await.unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("Herald-Method", "GET"), ("Herald-Path", "/"), ("Herald-Deadline", "60000")] {
            headers.insert(name, value);
        }
        headers.insert("Herald-Body", "_INBOX.operator.nobody");
        nats.publish_with_reply_and_headers("http.gm", "_INBOX.operator.caller", headers.clone(), Bytes::new())
            .await
            .unwrap();
        headers.insert("Herald-Body", "_INBOX.operator.body");
        let mut body = nats.subscribe("_INBOX.operator.body").await.unwrap();
        nats.publish_with_reply_and_headers("http.gm", "_INBOX.operator.caller", headers, Bytes::new()).await.unwrap();
        let ask = body.next().await.unwrap();
        assert_eq!(ask.headers.unwrap().get("Herald-Part").unwrap().as_str(), "0");
        let mut gone = HeaderMap::new();
        gone.insert("Herald-Abort", "gone");
        nats.publish_with_headers(ask.reply.unwrap(), gone, Bytes::new()).await.unwrap();

        gate.go.notify_one();
        assert_eq!(pair.get("/").await.unwrap().status(), StatusCode::OK);
        assert_eq!(gate.begun.load(Ordering::SeqCst), 2, "neither was executed");
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting.next()).await.is_err(), "nor answered");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_wait_is_refused_at_once() {
    within(LIMIT, async {
        let gate = Gate::default();
        let limits = Limits { concurrent: 1, waiting: 1, ..Limits::default() };
        let pair = Pair::with(gate.router(), limits, Limits::default()).await;
        let (first, second, third) = tokio::join!(pair.get("/"), pair.get("/"), async {
            gate.begun(1).await;
            let third = eventually("a refusal", SOON, async || {
                let hasty = RequestMeta { timeout: Duration::from_millis(100), ..meta() };
                pair.client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &hasty).await
            })
            .await;
            gate.go.notify_one();
            gate.begun(2).await;
            gate.go.notify_one();
            third
        });
        assert_eq!((first.unwrap().status(), second.unwrap().status()), (StatusCode::OK, StatusCode::OK));
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(json_of(third).await, json!({"error": "gm is overloaded"}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_nats_away_are_said_at_once() {
    within(LIMIT, async {
        let gate = Gate::default();
        let mut pair = Pair::new(gate.router()).await;
        let begun = Instant::now();
        let nobody = pair.client.request(&Name::new("lobby").unwrap(), Request::new(Body::empty()), &meta()).await;
        let nobody = nobody.unwrap_err();
        assert!(matches!(nobody, ForwardError::NoResponders), "{nobody}");
        assert_eq!(nobody.status(), StatusCode::SERVICE_UNAVAILABLE);

        assert!(begun.elapsed() < meta().timeout);

        pair.server.stop().await;
        let away = eventually("the loss is seen", SOON, async || {
            let begun = Instant::now();
            match pair.get("/").await {
                Err(error @ ForwardError::NotConnected) if begun.elapsed() < meta().timeout => Ok(error),
                other => Err(other.map(|response| response.status())),
            }
        });
        assert_eq!(away.await.status(), StatusCode::SERVICE_UNAVAILABLE);
        pair.server.resume().await;
        gate.go.notify_one();
        eventually("both come back by themselves", SOON, async || {
            let hasty = RequestMeta { timeout: Duration::from_secs(1), ..meta() };
            gate.go.notify_one();
            pair.client.request(&gm(), Request::get("/").body(Body::empty()).unwrap(), &hasty).await
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_has_left_before_nats_was_lost_may_have_been_executed() {
    within(LIMIT, async {
        let gate = Gate::default();
        let pair = Pair::new(gate.router()).await;
        let proxy = Proxy::start(pair.server.address()).await;
        let nats = connect_with(&pair.server, |common| common.nats.url = proxy.nats_url()).await;
        let client = Client::new(&nats, Limits::default()).await.unwrap();
        let name = gm();
        for (begun, confirm) in [(1, false), (2, true)] {
            let short = RequestMeta { timeout: Duration::from_secs(5), confirm, ..meta() };
            let ask = || client.request(&name, Request::get("/").body(Body::empty()).unwrap(), &short);
            let (asked, ()) = tokio::join!(ask(), async {
                gate.begun(begun).await;
                proxy.set(Network::Down);
            });
            let lost = asked.unwrap_err();
            assert!(matches!(lost, ForwardError::Lost), "{lost}");
            assert_eq!(lost.status(), StatusCode::GATEWAY_TIMEOUT);
            let away = ask().await.unwrap_err();
            assert!(matches!(away, ForwardError::NotConnected), "{away}");
            assert_eq!(gate.begun.load(Ordering::SeqCst), begun);
            proxy.set(Network::Works);
            eventually("NATS is back", SOON, async || if nats.connected() { Ok(()) } else { Err(()) }).await;
        }
        // Nobody came for the body of this one, so that nobody can have executed it.
        proxy.set(Network::HalfOpen(Direction::ToServer));
        let confirmed = RequestMeta { timeout: Duration::from_secs(5), confirm: true, ..meta() };
        let ask = client.request(&name, Request::get("/").body(Body::empty()).unwrap(), &confirmed);
        let (asked, ()) = tokio::join!(ask, async {
            proxy.set(Network::Down);
        });
        let away = asked.unwrap_err();
        assert!(matches!(away, ForwardError::NotConnected), "{away}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_tools_see_every_instance() {
    within(LIMIT, async {
        let router =
            Router::new().route("/fine", get(async || "fine")).route("/bad", get(async || StatusCode::BAD_GATEWAY));
        let pair = Pair::new(router.clone()).await;
        let other = connect(&pair.server).await;
        let two = serve(&other, &gm(), &InstanceId::new("two").unwrap(), router, Limits::default()).await.unwrap();
        other.client().request("$SRV.PING.gm.two", Bytes::new()).await.unwrap();
        for path in ["/fine", "/bad", "/fine"] {
            pair.get(path).await.unwrap();
        }
        let nats = pair.service.client();
        for subject in ["$SRV.PING", "$SRV.INFO.gm", "$SRV.STATS.gm"] {
            let inbox = nats.new_inbox();
            let answers = nats.subscribe(inbox.clone()).await.unwrap();
            nats.publish_with_reply(subject, inbox, Bytes::new()).await.unwrap();
            let answers: Vec<Value> =
                answers.take(2).map(|answer| serde_json::from_slice(&answer.payload).unwrap()).collect().await;
            let mut ids: Vec<&str> = answers.iter().map(|answer| answer["id"].as_str().unwrap()).collect();
            ids.sort_unstable();
            assert_eq!(ids, ["one", "two"], "{subject}");
            if subject == "$SRV.STATS.gm" {
                let sum = |field: &str| -> u64 {
                    answers.iter().map(|one| one["endpoints"][0][field].as_u64().unwrap()).sum()
                };
                assert_eq!((sum("num_requests"), sum("num_errors")), (3, 1));
            }
        }
        assert_eq!(two.drain(SOON).await, 0);
        let gone = nats.request("$SRV.PING.gm.two", Bytes::new()).await.unwrap_err();
        assert_eq!(gone.kind(), async_nats::RequestErrorKind::NoResponders);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_service_finishes_what_it_took_and_loses_nothing() {
    within(LIMIT, async {
        let router = || {
            Router::new().route(
                "/",
                get(async || {
                    tokio::task::yield_now().await;
                    pattern(2000)
                }),
            )
        };
        let pair = Pair::with(router(), Limits::default(), Limits::default()).await;
        // A steady stream of requests while instances come and go.
        let stop = tokio_util::sync::CancellationToken::new();
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let (client, stop) = (pair.client.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut count = 0;
                    while !stop.is_cancelled() {
                        let request = Request::get("/").body(Body::empty()).unwrap();
                        let response = client.request(&gm(), request, &meta()).await.unwrap();
                        assert_eq!(bytes(response).await.len(), 2000);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for number in 0..10 {
            let nats = connect(&pair.server).await;
            let name = InstanceId::new(&format!("i{number}")).unwrap();
            let handle = serve(&nats, &gm(), &name, router(), Limits::default()).await.unwrap();
            eventually("it takes requests", SOON, async || {
                let stats = nats.client().request(format!("$SRV.STATS.gm.{name}"), Bytes::new()).await.unwrap();
                let stats: Value = serde_json::from_slice(&stats.payload).unwrap();
                let count = stats["endpoints"][0]["num_requests"].as_u64().unwrap();
                if count > 20 { Ok(()) } else { Err(count) }
            })
            .await;
            assert_eq!(handle.drain(SOON).await, 0, "nothing cut off");
        }
        stop.cancel();
        for task in asking {
            assert!(task.await.expect("no request failed") > 0);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_in_time_and_says_what_it_cut_off() {
    within(LIMIT, async {
        let gate = Gate::default();
        let Pair { server: _server, service, client, handle } = Pair::new(gate.router()).await;
        let hasty = RequestMeta { timeout: Duration::from_secs(3), ..meta() };
        let name = gm();
        let (cut, asked) = tokio::join!(
            async {
                gate.begun(1).await;
                handle.drain(Duration::from_millis(100)).await
            },
            client.request(&name, Request::get("/").body(Body::empty()).unwrap(), &hasty)
        );
        assert_eq!(cut, 1);
        assert!(matches!(asked, Err(ForwardError::Timeout)));
        let nobody = service.client().request("http.gm", Bytes::new()).await.unwrap_err();
        assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
    })
    .await;
}
