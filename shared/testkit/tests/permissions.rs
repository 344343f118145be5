//! Who may do what, on a real nats-server with the files we ship: `nats/users.conf` is only as good as what it forbids.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{net::SocketAddr, time::Duration};

use async_nats::jetstream::stream::Config;
use herald_testkit::{Launch, Nats, NatsCluster, NatsOptions, eventually, users, within};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

const LIMIT: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(20);
/// Who says no name; `nats/local.conf` takes it for the arena engine.
const NOBODY: &str = "nobody";

/// Each operation with those who may do it. Nobody else may, but `operator`.
const RIGHTS: &[(&str, &[&str])] = &[
    // Events: each root has one who speaks.
    ("PUB gm.s1.proposal", &["gm-bridge"]),
    ("PUB gm.s1._action", &["gm-bridge"]),
    ("PUB gm._purged", &["gm-bridge"]),
    ("PUB gm.fork-1._fork", &["gm-bridge"]),
    ("PUB app.fork-1._fork", &["ingest"]),
    ("PUB arena.fork-1._fork", &[]),
    ("PUB arena._purged", &[]),
    ("PUB arena.init", &["gm-bridge"]),
    ("PUB arena.s1.input.fakenews", &["gm-bridge"]),
    ("PUB arena.s1.input.waiting", &["arena", NOBODY]),
    ("PUB arena.s1.agent.7.output", &["arena", NOBODY]),
    ("PUB app.s1.chat.message", &["ingest"]),
    ("PUB app.s1._key.0", &["ingest"]),
    ("PUB app.init", &[]),
    ("PUB lobby.s1.joined", &["lobby"]),
    ("PUB lobby.init", &[]),
    ("PUB table.g1.turn", &[]),
    ("SUB gm.>", &[]),
    ("SUB gm.s1.proposal", &[]),
    ("SUB arena.>", &[]),
    ("SUB arena.init", &["arena", NOBODY]),
    ("SUB arena.*.input.fakenews", &["arena", NOBODY]),
    ("SUB arena.s1.input.waiting", &["gm-bridge", "arena", NOBODY]),
    ("SUB arena.s1.state.global", &[]),
    ("SUB app.>", &[]),
    ("SUB app.s1.chat.message", &[]),
    ("SUB lobby.>", &[]),
    ("SUB >", &[]),
    ("SUB *.s1.>", &[]),
    // Streams: whoever owns the root makes and changes its stream, and removes sessions from it; nobody deletes it.
    ("PUB $JS.API.STREAM.CREATE.EVENTS", &["gm-bridge"]),
    ("PUB $JS.API.STREAM.UPDATE.EVENTS", &["gm-bridge"]),
    ("PUB $JS.API.STREAM.PURGE.EVENTS", &["gm-bridge"]),
    ("PUB $JS.API.STREAM.PURGE.KV_SESSIONS", &[]),
    ("PUB $JS.API.STREAM.DELETE.EVENTS", &[]),
    ("PUB $JS.API.STREAM.MSG.DELETE.EVENTS", &["gm-bridge"]),
    ("PUB $JS.API.STREAM.SNAPSHOT.EVENTS", &[]),
    ("PUB $JS.API.STREAM.RESTORE.EVENTS", &[]),
    ("PUB $JS.API.STREAM.LEADER.STEPDOWN.EVENTS", &[]),
    ("PUB $JS.API.STREAM.PEER.REMOVE.EVENTS", &[]),
    ("PUB $JS.API.META.LEADER.STEPDOWN", &[]),
    ("PUB $JS.API.STREAM.CREATE.APP", &["ingest"]),
    ("PUB $JS.API.STREAM.UPDATE.APP", &["ingest"]),
    ("PUB $JS.API.STREAM.PURGE.APP", &[]),
    ("PUB $JS.API.STREAM.DELETE.APP", &[]),
    ("PUB $JS.API.STREAM.MSG.DELETE.APP", &["ingest"]),
    ("PUB $JS.API.STREAM.CREATE.LOBBY", &["lobby"]),
    ("PUB $JS.API.STREAM.PURGE.LOBBY", &[]),
    ("PUB $JS.API.STREAM.DELETE.KV_LOBBY_SESSION", &[]),
    ("PUB $JS.API.STREAM.CREATE.PRESENCE", &[]),
    ("PUB $JS.API.STREAM.DELETE.KV_SESSIONS", &[]),
    ("PUB $JS.API.STREAM.CREATE.KV_SESSIONS", &["gm-bridge"]),
    ("PUB $JS.API.STREAM.NAMES", &[]),
    ("PUB $JS.API.STREAM.LIST", &[]),
    ("PUB $JS.API.INFO", &["gm-bridge", "ws-edge", "ingest", "lobby"]),
    // Reading them.
    ("PUB $JS.API.STREAM.INFO.EVENTS", &["gm-bridge", "ws-edge"]),
    ("PUB $JS.API.STREAM.MSG.GET.EVENTS", &["gm-bridge", "ws-edge"]),
    ("PUB $JS.API.DIRECT.GET.EVENTS", &["gm-bridge", "ws-edge"]),
    ("PUB $JS.API.DIRECT.GET.EVENTS.gm.s1.proposal", &[]),
    ("PUB $JS.API.CONSUMER.CREATE.EVENTS.own", &["ws-edge"]),
    ("PUB $JS.API.CONSUMER.CREATE.EVENTS", &[]),
    ("PUB $JS.API.CONSUMER.DURABLE.CREATE.EVENTS.own", &[]),
    ("PUB $JS.API.CONSUMER.DELETE.EVENTS.another", &[]),
    ("PUB $JS.API.CONSUMER.MSG.NEXT.EVENTS.another", &[]),
    ("PUB $JS.API.CONSUMER.LIST.EVENTS", &[]),
    ("PUB $JS.ACK.EVENTS.another.1.1.1.1.1", &[]),
    ("PUB $JS.FC.EVENTS.own.x", &["ws-edge"]),
    ("PUB $JS.API.STREAM.INFO.APP", &["ws-edge", "ingest"]),
    ("PUB $JS.API.STREAM.MSG.GET.APP", &["ws-edge", "ingest"]),
    ("PUB $JS.API.DIRECT.GET.APP", &["ws-edge"]),
    ("PUB $JS.API.CONSUMER.CREATE.APP.own", &["ws-edge"]),
    ("PUB $JS.API.CONSUMER.CREATE.APP", &[]),
    ("PUB $JS.API.STREAM.INFO.LOBBY", &["ws-edge", "lobby"]),
    ("PUB $JS.API.STREAM.MSG.GET.LOBBY", &["ws-edge", "lobby"]),
    ("PUB $JS.API.DIRECT.GET.LOBBY", &["ws-edge", "lobby"]),
    ("PUB $JS.API.CONSUMER.CREATE.LOBBY.own", &["ws-edge"]),
    ("PUB $JS.API.CONSUMER.CREATE.KV_LOBBY_CLIENT.own", &[]),
    // Records: the bridge's own; of all of them a door sees the aliases.
    ("PUB $KV.SESSIONS.s1", &["gm-bridge"]),
    ("PUB $KV.ACTIONS.s1", &["gm-bridge"]),
    ("PUB $KV.ALIASES.g1", &["gm-bridge"]),
    ("PUB $KV.LOBBY_META.era", &["lobby"]),
    ("PUB $KV.LOBBY_SESSION.s1", &["lobby"]),
    ("PUB $KV.LOBBY_CLIENT.c1", &["lobby"]),
    ("PUB $JS.API.STREAM.MSG.GET.KV_LOBBY_META", &["lobby"]),
    ("PUB $JS.API.STREAM.MSG.GET.KV_LOBBY_CLIENT", &["lobby"]),
    ("SUB $KV.>", &[]),
    ("PUB $JS.API.STREAM.MSG.GET.KV_SESSIONS", &["gm-bridge"]),
    ("PUB $JS.API.STREAM.MSG.GET.KV_ACTIONS", &["gm-bridge"]),
    ("PUB $JS.API.DIRECT.GET.KV_SESSIONS", &[]),
    ("PUB $JS.API.DIRECT.GET.KV_SESSIONS.$KV.SESSIONS.s1", &[]),
    ("PUB $JS.API.CONSUMER.CREATE.KV_SESSIONS", &[]),
    ("PUB $JS.API.CONSUMER.CREATE.KV_SESSIONS.own", &[]),
    ("PUB $JS.API.CONSUMER.CREATE.KV_ACTIONS", &["gm-bridge"]),
    ("PUB $JS.API.CONSUMER.CREATE.KV_ALIASES", &["ws-edge"]),
    ("PUB $JS.API.CONSUMER.CREATE.KV_SESSIONS.own.$KV.SESSIONS.>", &[]),
    ("PUB $JS.API.CONSUMER.CREATE.KV_ACTIONS.own.$KV.ACTIONS.>", &["gm-bridge"]),
    ("PUB $JS.API.CONSUMER.CREATE.KV_ALIASES.own.$KV.ALIASES.>", &["ws-edge"]),
    // Questions between services.
    ("PUB http.gm", &["gm-bridge", "ws-edge"]),
    ("PUB http.ingest", &["ws-edge", "ingest"]),
    ("PUB http.lobby", &["ws-edge", "lobby"]),
    ("SUB http.lobby lobby", &["lobby"]),
    ("PUB http.dice", &["ws-edge"]),
    ("SUB http.gm", &["gm-bridge"]),
    ("SUB http.gm gm", &["gm-bridge"]),
    ("SUB http.ingest", &["ingest"]),
    ("SUB http.ingest ingest", &["ingest"]),
    ("SUB http.>", &[]),
    ("SUB http.dice", &[]),
    ("PUB admit.dice", &["ws-edge"]),
    ("PUB admit.gm", &["ws-edge"]),
    ("SUB admit.lobby lobby", &["lobby"]),
    ("PUB admit.dice.x", &[]),
    ("SUB admit.dice", &[]),
    ("SUB admit.dice dice", &[]),
    ("SUB admit.gm", &[]),
    ("SUB admit.*", &[]),
    ("SUB admit.>", &[]),
    // What clients send goes up by an edge alone, and is heard by whose root it is; one connection is an engine's to speak to.
    ("PUB in.gm.s1.text", &["ws-edge"]),
    ("PUB in.dice.s1.join", &["ws-edge"]),
    ("PUB in.dice", &[]),
    ("PUB in.dice.s1.text.x", &[]),
    ("SUB in.>", &[]),
    ("SUB in.dice.>", &[]),
    ("SUB in.gm.s1.text", &[]),
    ("PUB conn.e1.c1", &[]),
    ("SUB conn.e1.*", &["ws-edge"]),
    ("SUB conn.>", &[]),
    ("PUB edge.newest.gm.s1", &["ws-edge"]),
    ("SUB edge.newest.*.*", &["ws-edge"]),
    ("SUB edge.>", &[]),
    ("PUB edge.watching.s1", &["gm-bridge"]),
    ("SUB edge.watching.*", &["ws-edge"]),
    // Edges tell each other who is there, and nobody else says or hears it.
    ("PUB edge.presence.x", &["ws-edge"]),
    ("PUB edge.presence.x.y", &[]),
    ("SUB edge.presence.*", &["ws-edge"]),
    ("PUB edge.present.gm.s1", &[]),
    ("SUB edge.present.*.*", &["ws-edge"]),
    ("SUB edge.*.*", &[]),
    ("PUB epoch.EVENTS", &["ws-edge"]),
    ("SUB epoch.EVENTS", &["gm-bridge"]),
    ("PUB epoch.APP", &["ws-edge"]),
    ("SUB epoch.APP", &["ingest"]),
    ("PUB epoch.LOBBY", &["ws-edge"]),
    ("SUB epoch.LOBBY", &["lobby"]),
    ("SUB $SRV.PING", &["gm-bridge", "ingest", "lobby"]),
    ("SUB $SRV.*.ingest", &["ingest"]),
    ("SUB $SRV.*.dice", &[]),
    // Answers: each hears its own.
    ("SUB _INBOX.gm-bridge.>", &["gm-bridge"]),
    ("SUB _INBOX.ws-edge.>", &["ws-edge"]),
    ("SUB _INBOX.ingest.>", &["ingest"]),
    ("SUB _INBOX.lobby.>", &["lobby"]),
    ("SUB _INBOX.operator.>", &[]),
    ("SUB _INBOX.arena.>", &[]),
    ("SUB _INBOX.*.>", &[]),
    ("SUB _INBOX.>", &[]),
    ("SUB _INBOX.*", &[]),
    ("PUB _INBOX.gm-bridge.x", &["gm-bridge", "ws-edge"]),
    ("PUB _INBOX.ingest.x", &["ws-edge", "ingest"]),
    ("PUB _INBOX.lobby.x", &["ws-edge", "lobby"]),
    ("PUB _INBOX.ws-edge.x", &["gm-bridge", "ingest", "lobby"]),
    ("PUB _INBOX.operator.x", &["gm-bridge", "ws-edge", "ingest", "lobby"]),
    ("PUB _INBOX.x", &[]),
    // The server itself.
    ("SUB $JS.EVENT.ADVISORY.>", &[]),
    ("SUB $JS.API.>", &[]),
    ("SUB $SYS.>", &[]),
    ("PUB $SYS.REQ.SERVER.PING", &[]),
];

/// What an engine with a root of its own may do, beside the others: as in [`RIGHTS`], on a server that has the example of one.
const OF_AN_ENGINE: &[(&str, &[&str])] = &[
    ("PUB dice.s1.roll", &["dice"]),
    ("SUB dice.>", &[]),
    ("PUB gm.s1.proposal", &["gm-bridge"]),
    ("PUB arena.s1.input.waiting", &["arena", NOBODY]),
    ("SUB gm.>", &[]),
    ("SUB arena.init", &["arena", NOBODY]),
    // It says who may come in at its own doors, and asks nobody.
    ("SUB admit.dice", &["dice"]),
    ("SUB admit.dice dice", &["dice"]),
    ("SUB admit.gm", &[]),
    ("SUB admit.*", &[]),
    ("SUB admit.>", &[]),
    ("SUB *.dice", &[]),
    ("PUB admit.dice", &["ws-edge"]),
    ("PUB admit.gm", &["ws-edge"]),
    // It hears what its own clients send, and speaks to one of them.
    ("SUB in.dice.>", &["dice"]),
    ("SUB in.dice.*.text dice", &["dice"]),
    ("SUB in.gm.>", &[]),
    ("SUB in.gm.s1.text", &[]),
    ("SUB in.>", &[]),
    ("PUB in.dice.s1.text", &["ws-edge"]),
    ("PUB conn.e1.c1", &["dice"]),
    ("PUB conn.e1.c1.x", &[]),
    ("SUB conn.e1.*", &["ws-edge"]),
    ("PUB edge.newest.dice.s1", &["ws-edge"]),
    ("PUB edge.presence.x", &["ws-edge"]),
    ("SUB edge.presence.*", &["ws-edge"]),
    ("PUB edge.present.dice.s1", &["dice"]),
    ("PUB edge.present.gm.s1", &[]),
    ("SUB edge.present.dice.*", &["ws-edge"]),
    ("SUB http.dice", &["dice"]),
    ("SUB http.gm", &["gm-bridge"]),
    ("PUB http.gm", &["gm-bridge", "ws-edge"]),
    ("SUB _INBOX.dice.>", &["dice"]),
    ("SUB _INBOX.ws-edge.>", &["ws-edge"]),
    ("PUB _INBOX.ws-edge.x", &["gm-bridge", "ingest", "lobby", "dice"]),
    ("PUB _INBOX.gm-bridge.x", &["gm-bridge", "ws-edge"]),
    ("PUB $JS.API.STREAM.CREATE.DICE", &["dice"]),
    ("PUB $JS.API.STREAM.PURGE.DICE", &[]),
    ("PUB $JS.API.STREAM.CREATE.EVENTS", &["gm-bridge"]),
    ("PUB $JS.API.STREAM.MSG.GET.EVENTS", &["gm-bridge", "ws-edge"]),
    ("PUB $JS.API.CONSUMER.CREATE.DICE.own", &["ws-edge"]),
    ("PUB $JS.API.STREAM.MSG.GET.DICE", &["dice", "ws-edge"]),
    ("PUB $KV.SESSIONS.s1", &["gm-bridge"]),
];

/// A client that does as it is told and nothing else: what the library would send beside is not under test.
struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// `Err` with the server's words where it is not let in.
    async fn connect(address: SocketAddr, user: &str, password: &str) -> Result<Self, String> {
        let mut raw = Self { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) };
        let mut connect = json!({ "verbose": false, "pedantic": false, "headers": true });
        if user != NOBODY {
            (connect["user"], connect["pass"]) = (user.into(), password.into());
        }
        let refused = raw.refusals(&format!("CONNECT {connect}")).await;
        if refused.is_empty() { Ok(raw) } else { Err(refused.join(", ")) }
    }

    /// Does it, and waits until the server has: what it refused.
    async fn refusals(&mut self, command: &str) -> Vec<String> {
        self.stream.write_all(format!("{command}\r\nPING\r\n").as_bytes()).await.unwrap();
        let mut refusals = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await.unwrap() == 0 || line.starts_with("PONG") {
                return refusals;
            }
            refusals.extend(line.strip_prefix("-ERR ").map(|text| text.trim().to_owned()));
        }
    }

    async fn may(&mut self, operation: &str) -> bool {
        let command = match operation.split_once(' ').unwrap() {
            ("PUB", subject) => format!("PUB {subject} 0\r\n"),
            // Over at once: nothing is delivered meanwhile.
            (_, subject) => format!("SUB {subject} 1\r\nUNSUB 1"),
        };
        let refusals = self.refusals(&command).await;
        assert!(refusals.iter().all(|text| text.contains("Permissions Violation")), "{operation}: {refusals:?}");
        refusals.is_empty()
    }
}

/// Tries every operation as each user: what is forbidden first, so that what it would have done is seen.
async fn check(server: &Nats, rights: &[(&str, &[&str])], users: &[&str], replicas: usize) {
    let jetstream = server.jetstream().await;
    let stream = |name: &str, subjects: &[&str]| Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        num_replicas: replicas,
        allow_direct: true,
        ..Config::default()
    };
    let mut events = jetstream.create_stream(stream("EVENTS", &["gm.>", "arena.>"])).await.unwrap();
    jetstream.create_stream(stream("KV_SESSIONS", &["$KV.SESSIONS.>"])).await.unwrap();
    jetstream.publish("gm.s1.proposal", "{}".into()).await.unwrap().await.unwrap();
    jetstream.publish("$KV.SESSIONS.s1", "{}".into()).await.unwrap().await.unwrap();
    let before = events.info().await.unwrap().clone();

    let mut wrong = Vec::new();
    for allowed in [false, true] {
        for &user in users {
            let mut raw = Raw::connect(server.address(), user, &users::password(user)).await.unwrap();
            for (operation, may) in rights.iter().filter(|(_, may)| may.contains(&user) == allowed) {
                if raw.may(operation).await != allowed {
                    wrong.push(format!("{user}: {operation}: allowed should be {allowed}, as it is for {may:?}"));
                }
            }
        }
        if !allowed {
            let after = events.info().await.unwrap();
            assert_eq!(after.state.messages, before.state.messages, "what was forbidden was stored or removed");
            assert_eq!((&after.config, after.created), (&before.config, before.created));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut operator =
        Raw::connect(server.address(), users::OPERATOR, &users::password(users::OPERATOR)).await.unwrap();
    for (operation, _) in rights {
        assert!(operator.may(operation).await, "operator: {operation}");
    }
}

fn refusing(config: &str) -> NatsOptions {
    NatsOptions { config: config.into(), refuses: true, ..NatsOptions::default() }
}

#[tokio::test]
async fn each_user_may_do_its_work_and_nothing_else() {
    within(LIMIT, async {
        let server = Nats::start_with(refusing("local.conf")).await;
        check(&server, RIGHTS, &["gm-bridge", "ws-edge", "ingest", "lobby", "arena", NOBODY], 1).await;
    })
    .await;
}

#[tokio::test]
async fn an_engine_of_its_own_may_do_its_work_and_nothing_else() {
    within(LIMIT, async {
        let folder = tempfile::tempdir().unwrap();
        let config = users::with_dice(folder.path());
        let server = Nats::start_with(NatsOptions { config, refuses: true, ..NatsOptions::default() }).await;
        check(&server, OF_AN_ENGINE, &["gm-bridge", "ws-edge", "ingest", "lobby", "arena", "dice", NOBODY], 1).await;
    })
    .await;
}

#[tokio::test]
async fn on_a_cluster_it_is_the_same_at_each_server() {
    within(LIMIT, async {
        let mut cluster = NatsCluster::start().await;
        cluster.servers.iter_mut().for_each(|server| server.options().refuses = true);
        // Each has read the file by itself.
        for (index, server) in cluster.servers.iter().enumerate() {
            if index == 0 {
                check(server, RIGHTS, &["gm-bridge", "ws-edge", "ingest", "lobby", "arena"], 3).await;
            }
            let mut edge = Raw::connect(server.address(), "ws-edge", &users::password("ws-edge")).await.unwrap();
            assert!(!edge.may("PUB gm.s1.proposal").await && edge.may("PUB epoch.EVENTS").await);
        }
    })
    .await;
}

#[tokio::test]
async fn who_says_no_name_or_a_wrong_password_stays_outside() {
    within(LIMIT, async {
        let server = Nats::start_with(refusing("single-users.conf")).await;
        for (user, password) in [(NOBODY, ""), ("ws-edge", "wrong"), ("ws-edge", ""), ("somebody", "test-somebody")] {
            let refusal = Raw::connect(server.address(), user, password).await.err();
            assert_eq!(refusal.as_deref(), Some("'Authorization Violation'"), "{user} {password}");
        }
        assert!(Raw::connect(server.address(), "ws-edge", &users::password("ws-edge")).await.is_ok());

        let mut cluster = NatsCluster::start().await;
        cluster.servers[0].options().refuses = true;
        let refusal = Raw::connect(cluster.servers[0].address(), NOBODY, "").await.err();
        assert_eq!(refusal.as_deref(), Some("'Authorization Violation'"));
        // Nor does a server join that does not know the word.
        let refusal = Raw::connect(cluster.route(0), "route", "wrong").await.err();
        assert_eq!(refusal.as_deref(), Some("'Authorization Violation'"));
    })
    .await;
}

/// The limit of it all, as the README tells it. When a later nats-server closes it, this fails and the README is wrong.
#[tokio::test]
async fn where_an_answer_goes_is_not_checked_by_nats() {
    within(LIMIT, async {
        let server = Nats::start_with(refusing("local.conf")).await;
        let jetstream = server.jetstream().await;
        let subjects = vec!["gm.>".to_owned()];
        let config = Config { name: "EVENTS".to_owned(), subjects, allow_direct: true, ..Config::default() };
        let mut events = jetstream.create_stream(config).await.unwrap();
        let mut edge = Raw::connect(server.address(), "ws-edge", &users::password("ws-edge")).await.unwrap();
        let asked = edge.refusals("PUB $JS.API.STREAM.INFO.EVENTS gm.s1.told 0\r\n").await;
        assert!(asked.is_empty(), "{asked:?}");
        eventually("JetStream's answer is an event", SOON, async || {
            let messages = events.info().await.map_err(|error| error.to_string())?.state.messages;
            if messages == 1 { Ok(()) } else { Err(format!("{messages} messages")) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_an_owner_has_copied_into_its_stream_is_not_checked_by_nats() {
    within(LIMIT, async {
        let server = Nats::start_with(refusing("local.conf")).await;
        let jetstream = server.jetstream().await;
        let stream = |name: &str, subject: &str| Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            ..Config::default()
        };
        jetstream.create_stream(stream("APP", "app.>")).await.unwrap();
        jetstream.publish("app.s1.secret", "{}".into()).await.unwrap().await.unwrap();
        let mut events = jetstream.create_stream(stream("EVENTS", "gm.>")).await.unwrap();
        let mut bridge = Raw::connect(server.address(), "gm-bridge", &users::password("gm-bridge")).await.unwrap();
        assert!(!bridge.may("PUB $JS.API.STREAM.MSG.GET.APP").await);
        let config = json!({ "name": "EVENTS", "subjects": ["gm.>"], "sources": [{ "name": "APP" }] }).to_string();
        let asked = bridge.refusals(&format!("PUB $JS.API.STREAM.UPDATE.EVENTS {}\r\n{config}", config.len())).await;
        assert!(asked.is_empty(), "{asked:?}");
        eventually("another game's event is among its own", SOON, async || {
            let messages = events.info().await.map_err(|error| error.to_string())?.state.messages;
            if messages == 1 { Ok(()) } else { Err(format!("{messages} messages")) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_service_that_lacks_a_right_says_which_one() {
    within(LIMIT, async {
        let server = Nats::start_with(refusing("local.conf")).await;
        let mut edge = Launch::new("ws-edge").user("arena").env("NATS_URL", server.url()).env("PORT", "0").spawn();
        let lacks = |body: &serde_json::Value| {
            body["conditions"]["nats"]
                .as_str()
                .is_some_and(|reason| reason.contains("may not subscribe to _INBOX.arena"))
        };
        edge.wait_readyz("lacking rights", SOON, |status, body| status == 503 && lacks(body)).await;
        assert!(edge.metric("herald_nats_refused_total", &["operation=\"subscribe\""]).await >= 1.0);
        let log = edge.log();
        assert_eq!(log.matches("give it those of nats/users.conf").count(), 1, "now and then, not each time: {log}");
        assert!(!log.contains(&users::password("arena")), "{log}");
    })
    .await;
}

#[tokio::test]
async fn without_users_the_plain_file_serves_everybody() {
    within(LIMIT, async {
        let server = Nats::start_with(NatsOptions { config: "single.conf".into(), ..NatsOptions::default() }).await;
        let mut anybody = Raw::connect(server.address(), NOBODY, "").await.unwrap();
        assert!(anybody.may("PUB gm.s1.proposal").await && anybody.may("SUB >").await);
    })
    .await;
}
