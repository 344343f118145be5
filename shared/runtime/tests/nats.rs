//! The NATS connection against real servers that come, go, freeze and refuse.

#![allow(clippy::expect_used, reason = "in a test, a failed step is a failed test")]

use std::time::Duration;

use futures_util::StreamExt as _;
use herald_runtime::{
    Context,
    config::{Common, HumanDuration, NatsConfig, Secret},
    nats::{ConnectError, JetStreamError, Nats, NatsState, connect},
};
use herald_testkit::{Nats as Server, NatsOptions, eventually, within};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::watch,
};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);

fn context() -> Context {
    let context = Context::new("test", Common::with_operations_port(0));
    context.health.started();
    context
}

fn config(url: &str) -> NatsConfig {
    NatsConfig {
        url: url.to_owned(),
        ping_interval: HumanDuration::from_millis(200),
        reconnect_max: HumanDuration::from_millis(200),
        ..NatsConfig::default()
    }
}

async fn connected(server: &Server, context: &Context) -> Nats {
    connect(&config(&server.url()), "nats", context).await.expect("connected")
}

/// Waits until the state is what is wanted.
async fn turned(state: &mut watch::Receiver<NatsState>, what: &str, is: impl FnMut(&NatsState) -> bool) -> NatsState {
    let turned = tokio::time::timeout(SOON, state.wait_for(is)).await;
    *turned.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}")).expect("the connection lives")
}

fn reason(context: &Context) -> String {
    context.health.report().conditions.remove("nats").unwrap_or_default()
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    within(LIMIT, async {
        let mut server = Server::reserve(NatsOptions::default());
        let context = context();
        let connecting = tokio::spawn({
            let (config, context) = (config(&server.url()), context.clone());
            async move { connect(&config, "nats", &context).await }
        });
        eventually("the reason is shown", SOON, async || {
            let reason = reason(&context);
            if reason.starts_with("not connected: ") { Ok(()) } else { Err(reason) }
        })
        .await;
        assert!(!connecting.is_finished() && !context.health.ready());
        server.resume().await;
        let nats = connecting.await.expect("no panic").expect("connected");
        assert_eq!(*nats.state().borrow(), NatsState::Connected { generation: 1 });
        assert!(nats.connected() && context.health.ready());
        nats.require_jetstream(&context).await.expect("there");
    })
    .await;
}

#[tokio::test]
async fn a_stopped_server_is_seen_and_a_started_one_found_again() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let context = context();
        let nats = connected(&server, &context).await;
        assert_eq!(nats.max_payload(), 8 << 20);
        let mut subscription = nats.client().subscribe("a").await.expect("subscribed");
        let mut state = nats.state();

        server.stop().await;
        turned(&mut state, "disconnected", |state| *state == NatsState::Disconnected).await;
        assert!(!nats.connected() && !context.health.ready());
        assert_eq!(reason(&context), "disconnected");

        server.options().max_payload = Some("1MB");
        server.resume().await;
        let again = turned(&mut state, "connected", |state| *state != NatsState::Disconnected).await;
        assert_eq!(again, NatsState::Connected { generation: 2 });
        assert!(context.health.ready());
        assert_eq!(nats.max_payload(), 1 << 20, "the new server's");
        nats.client().flush().await.expect("flushed");
        let other = server.client().await;
        other.publish("a", "x".into()).await.expect("published");
        other.flush().await.expect("flushed");
        assert!(subscription.next().await.is_some(), "subscriptions live on");
    })
    .await;
}

#[tokio::test]
async fn a_frozen_server_is_left() {
    within(LIMIT, async {
        let mut server = Server::start().await;
        let context = context();
        let nats = connected(&server, &context).await;
        let mut state = nats.state();
        server.freeze().await;
        turned(&mut state, "disconnected", |state| *state == NatsState::Disconnected).await;
        server.thaw();
        turned(&mut state, "connected", |state| *state != NatsState::Disconnected).await;
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_ends_the_wait_for_a_server() {
    within(LIMIT, async {
        let server = Server::reserve(NatsOptions::default());
        let context = context();
        context.shutdown.begin();
        let error = connect(&config(&server.url()), "nats", &context).await.expect_err("nobody there");
        assert!(matches!(error, ConnectError::ShuttingDown));
    })
    .await;
}

#[tokio::test]
async fn credentials_are_used_and_a_refusal_is_shown() {
    within(LIMIT, async {
        let more = "authorization { user: bob, password: \"p@ss word\" }".to_owned();
        let server = Server::start_with(NatsOptions {
            config: "single.conf".into(),
            refuses: true,
            more,
            ..NatsOptions::default()
        })
        .await;
        let context = context();
        let in_url = server.url_of_nobody().replace("nats://", "nats://bob:p%40ss%20word@");
        connect(&config(&in_url), "nats", &context).await.expect("by URL");
        let mut beside = config(&server.url_of_nobody());
        beside.user = Some("bob".to_owned());
        beside.password = Secret::from("p@ss word".to_owned());
        connect(&beside, "nats", &context).await.expect("by keys");

        beside.password = Secret::from("wrong".to_owned());
        let connecting = tokio::spawn({
            let context = context.clone();
            async move { connect(&beside, "nats", &context).await.map(drop) }
        });
        eventually("the refusal is shown", SOON, async || {
            let reason = reason(&context);
            if reason.contains("authorization violation") { Ok(()) } else { Err(reason) }
        })
        .await;
        context.shutdown.begin();
        connecting.await.expect("no panic").expect_err("never connected");
    })
    .await;
}

#[tokio::test]
async fn jetstream_that_is_missing_is_named() {
    within(LIMIT, async {
        let context = context();
        let without = Server::start_with(NatsOptions { jetstream: false, ..NatsOptions::default() }).await;
        let error = connected(&without, &context).await.require_jetstream(&context).await.expect_err("none");
        assert!(matches!(error, JetStreamError::Disabled), "{error}");

        let more = "accounts { A { users: [{ user: a, password: a }] }, B { jetstream: enabled, users: [{ user: b, password: b }] } }";
        let server = Server::start_with(NatsOptions { config: "single.conf".into(), more: more.to_owned(), ..NatsOptions::default() }).await;
        let url = |user: &str| server.url_of_nobody().replace("nats://", &format!("nats://{user}:{user}@"));
        let of_a = connect(&config(&url("a")), "nats", &context).await.expect("connected");
        let error = of_a.require_jetstream(&context).await.expect_err("not for this account");
        assert!(matches!(error, JetStreamError::NotForAccount), "{error}");
        let of_b = connect(&config(&url("b")), "nats", &context).await.expect("connected");
        of_b.require_jetstream(&context).await.expect("for this one");
    })
    .await;
}

/// There is no older server at hand: this one says that it is, and answers pings.
#[tokio::test]
async fn a_server_that_is_too_old_is_named() {
    within(LIMIT, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("nats://{}", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let (reader, mut writer) = stream.into_split();
            let info = r#"INFO {"server_id":"X","version":"2.11.9","max_payload":1048576,"headers":true,"proto":1}"#;
            writer.write_all(format!("{info}\r\n").as_bytes()).await.expect("written");
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "PING" {
                    writer.write_all(b"PONG\r\n").await.expect("written");
                }
            }
        });
        let context = context();
        let nats = connect(&config(&url), "nats", &context).await.expect("connected");
        let error = nats.require_jetstream(&context).await.expect_err("too old");
        assert_eq!(error.to_string(), "nats-server 2.11.9 is too old: 2.12 or newer is needed");
        server.abort();
    })
    .await;
}

#[tokio::test]
async fn a_dropped_connection_is_closed_and_its_task_ends() {
    within(LIMIT, async {
        let server = Server::start().await;
        let context = context();
        let nats = connected(&server, &context).await;
        let mut state = nats.state();
        drop(nats);
        // The sender of the state is the connection's own.
        tokio::time::timeout(SOON, async { while state.changed().await.is_ok() {} }).await.expect("gone");
    })
    .await;
}
