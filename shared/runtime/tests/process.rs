//! The life of a service's process, from its command line to its exit code.

use std::time::{Duration, Instant};

use herald_testkit::{Launch, Nats, NatsOptions, Service, within};
use rustix::process::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);

/// The example, with that server.
fn service(nats: &Nats) -> Launch {
    Launch::new("minimal").env("NATS_URL", nats.url())
}

/// The exit code and everything it wrote, of one that ends by itself.
async fn end(launch: Launch) -> (Option<i32>, String) {
    let mut service = launch.spawn();
    let status = service.process().wait(Duration::from_secs(20)).await;
    (status.code(), service.log())
}

async fn exit_code(service: &mut Service) -> Option<i32> {
    service.process().wait(SOON).await.code()
}

#[tokio::test]
async fn a_bad_configuration_exits_64_and_names_all_faults() {
    within(LIMIT, async {
        let launch =
            Launch::new("minimal").env("NATS_URL", "http://x").set("drain", "2h").config("[log]\ncolour = 1\n");
        let (code, log) = end(launch).await;
        assert_eq!(code, Some(64), "{log}");
        assert!(log.starts_with("sim: 3 faults in the configuration\n"), "{log}");
        for fault in [
            "  log.colour (file herald.toml): unknown key",
            "  nats.url (env NATS_URL): not a list of server addresses",
            "  drain (flag --set drain): must not be longer than 1h",
        ] {
            assert!(log.contains(fault), "{fault} in {log}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_bad_command_line_exits_64_and_help_exits_0() {
    within(LIMIT, async {
        let (code, log) = end(Launch::new("minimal").arg("--colour")).await;
        assert_eq!(code, Some(64), "{log}");
        let (code, log) = end(Launch::new("minimal").arg("--help")).await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("--print-config") && log.contains("healthcheck"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn print_config_prints_and_starts_nothing() {
    within(LIMIT, async {
        let launch = Launch::new("minimal").arg("--print-config").env("NATS_URL", "nats://bob:hunter2@n:1");
        let (code, log) = end(launch.config("[sim]\ndrain = \"90s\"\n")).await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("nats.url = \"nats://********@n:1\"  # env NATS_URL\n"), "{log}");
        assert!(log.contains("drain = \"1m30s\"  # file herald.toml\n"), "{log}");
        assert!(!log.contains("hunter2") && !log.contains("starting"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn a_service_waits_for_nats_and_ends_in_order() {
    within(LIMIT, async {
        let mut nats = Nats::reserve(NatsOptions::default());
        let mut service = service(&nats).set("drain", "300ms").spawn();
        let reason = |body: &Value| body["conditions"]["nats"].as_str().unwrap_or_default().to_owned();
        let shown = |status, body: &Value| status == 503 && reason(body).starts_with("not connected: ");
        service.wait_readyz("says why", SOON, shown).await;
        nats.resume().await;
        service.wait_ready(SOON).await;
        let all = json!({"jetstream": "ok", "nats": "ok", "running": "ok", "started": "ok"});
        assert_eq!(service.readyz().await.1["conditions"], all);
        assert!(service.metric("herald_nats_connected_count", &["connection=\"nats\""]).await > 0.5);

        service.process().signal(Signal::TERM);
        let draining = service.wait_not_ready(SOON).await;
        assert_eq!(draining["conditions"]["running"], "shutting down");
        assert_eq!(exit_code(&mut service).await, Some(0), "{}", service.log());
    })
    .await;
}

#[tokio::test]
async fn a_signal_while_nats_is_waited_for_is_a_clean_end() {
    within(LIMIT, async {
        let nats = Nats::reserve(NatsOptions::default());
        let mut service = service(&nats).spawn();
        service.wait_not_ready(SOON).await;
        service.process().signal(Signal::INT);
        assert_eq!(exit_code(&mut service).await, Some(0), "{}", service.log());
    })
    .await;
}

#[tokio::test]
async fn a_second_signal_ends_it_by_force() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let mut service = service(&nats).set("drain", "1h").start().await;
        service.process().signal(Signal::TERM);
        service.wait_not_ready(SOON).await;
        service.process().signal(Signal::TERM);
        assert_eq!(exit_code(&mut service).await, Some(1), "{}", service.log());
        assert!(service.log().contains("second signal"), "{}", service.log());
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_ends_in_time_whatever_hangs() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        for hanging in ["drain=1h", "mischief=block", "mischief=linger"] {
            let (key, value) = hanging.split_once('=').expect("a key");
            let launch = service(&nats).set("shutdown.limit", "500ms").set(key, value);
            let mut service = launch.start().await;
            let begun = Instant::now();
            service.process().signal(Signal::TERM);
            assert_eq!(exit_code(&mut service).await, Some(1), "{hanging}: {}", service.log());
            assert!(begun.elapsed() >= Duration::from_millis(400), "{hanging}: not before its time");
        }
    })
    .await;
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_one_sentence() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = taken.local_addr().expect("an address");
        let without = Nats::start_with(NatsOptions { jetstream: false, ..NatsOptions::default() }).await;
        let in_use = format!("sim: the address {address} is already in use: another process listens there");
        for (launch, sentence) in [
            (service(&nats).set("address", address), in_use.as_str()),
            (service(&nats).set("operations.address", address), in_use.as_str()),
            (service(&nats).set("mischief", "fail"), "sim: as told"),
            (service(&nats).set("mischief", "panic"), "sim: the task mischief panicked"),
            (service(&without), "sim: the NATS server has no JetStream: start it with `nats-server -js`"),
        ] {
            let (code, log) = end(launch).await;
            assert_eq!(code, Some(1), "{sentence}: {log}");
            let last = log.lines().last().unwrap_or_default();
            assert!(last.starts_with(sentence), "{sentence}: {log}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_health_check_says_what_readyz_says() {
    within(LIMIT, async {
        let mut nats = Nats::start().await;
        let mut running = service(&nats).start().await;
        let check = || Launch::new("minimal").arg("healthcheck").set("operations.address", running.operations());
        let (code, log) = end(check()).await;
        assert_eq!(code, Some(0), "{log}");
        nats.stop().await;
        let address = running.operations();
        running.wait_not_ready(SOON).await;
        let (code, log) = end(Launch::new("minimal").arg("healthcheck").set("operations.address", address)).await;
        assert_eq!(code, Some(1), "{log}");
        assert!(log.starts_with("sim: not ready: {\"ready\":false"), "{log}");
        running.kill().await;
        let (code, log) = end(Launch::new("minimal").arg("healthcheck").set("operations.address", address)).await;
        assert_eq!(code, Some(1), "{log}");
        assert!(log.starts_with(&format!("sim: no answer from {address}: ")), "{log}");
    })
    .await;
}

#[tokio::test]
async fn logs_are_json_where_no_terminal_is() {
    within(LIMIT, async {
        let nats = Nats::start().await;
        let launch = service(&nats).env("HERALD_LOG__FORMAT", "auto").set("mischief", "panic");
        let (code, log) = end(launch).await;
        assert_eq!(code, Some(1), "{log}");
        let mut lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.pop(), Some("sim: the task mischief panicked"), "the last word is for people");
        let events: Vec<Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
        let starting = &events[0];
        assert_eq!((&starting["level"], &starting["message"]), (&json!("INFO"), &json!("starting")));
        assert_eq!((&starting["service"], &starting["version"]), (&json!("sim"), &json!("0.1.0")));
        let panicked = events.iter().find(|event| event["message"] == "as told").expect("the panic is a line too");
        assert!(panicked["place"].as_str().is_some_and(|place| place.contains("minimal.rs")), "{panicked}");
    })
    .await;
}
