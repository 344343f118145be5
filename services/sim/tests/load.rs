//! The load generator judges what comes, on the floor, on nats-server itself, and at Herald's door.
// Processes are measured, as Linux alone tells.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

use std::{process::Stdio, time::Duration};

use herald_testkit::{Bridge, Edge, Nats, NatsOptions, SimGm, port::Reserved, within};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const LIMIT: Duration = Duration::from_secs(120);

/// `sim floor`, as long as this lives.
struct Floor {
    process: Child,
    url: String,
}

impl Floor {
    async fn start(nats: &Nats, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.args(["floor", "--listen", "127.0.0.1:0", "--nats", &nats.address().to_string()]).args(flags);
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let url = format!("ws://{}", line.strip_prefix("listening on ").unwrap().trim());
        Self { process, url }
    }

    /// A load on it: its result, and whether its exit code is 0.
    async fn load(&self, nats: &Nats, flags: &str) -> (Value, bool) {
        let pid = self.process.id().unwrap();
        load(nats, &format!("--url {} --protocol plain --pid {pid} {flags}", self.url)).await
    }
}

async fn load(nats: &Nats, flags: &str) -> (Value, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["load", "--json", "--nats", &nats.address().to_string()]).args(flags.split_whitespace());
    let output = command.kill_on_drop(true).output().await.unwrap();
    let result = serde_json::from_slice(&output.stdout);
    let result = result.unwrap_or_else(|_| panic!("{flags}: {}", String::from_utf8_lossy(&output.stderr)));
    (result, output.status.success())
}

fn number(result: &Value, field: &str) -> f64 {
    result[field].as_f64().unwrap_or_else(|| panic!("{field} in {result}"))
}

/// Everything came, once, in order, and so many events are as many deliveries as there are clients for each.
fn assert_exact(result: &(Value, bool), clients: f64) {
    let (result, success) = result;
    assert!(*success && result["exact"] == true, "{result}");
    assert!(number(result, "events") > 0.0, "{result}");
    assert_eq!(number(result, "deliveries"), number(result, "events") * clients, "{result}");
    for fault in ["lost", "doubled", "reordered", "foreign", "odd", "gaps", "not_stored"] {
        assert_eq!(number(result, fault), 0.0, "{fault} in {result}");
    }
    assert!(result["ends"].as_array().unwrap().is_empty(), "{result}");
}

/// A server without users: the load and the floor speak to NATS in the fewest words.
async fn open_server(jetstream: bool) -> Nats {
    Nats::start_with(NatsOptions { config: "single.conf".into(), jetstream, ..NatsOptions::default() }).await
}

#[tokio::test]
async fn the_floor_loses_nothing_however_events_come() {
    within(LIMIT, async {
        let nats = open_server(false).await;
        for mode in [&[][..], &["--coalesce"]] {
            let floor = Floor::start(&nats, mode).await;
            let stream = floor.load(&nats, "--sessions 3 --clients 5 --rate 300 --seconds 1 --warmup 0.5").await;
            assert_exact(&stream, 5.0);
            assert_eq!(number(&stream.0, "events"), 450.0);
            assert!(number(&stream.0, "cpu_us_per_delivery") > 0.0 && number(&stream.0, "p99_us") > 0.0);
            assert_exact(&floor.load(&nats, "--sessions 3 --clients 5 --window 8 --seconds 1 --warmup 0").await, 5.0);
            // Frames with a length of 64 bits, more of them than sockets hold, read by two threads.
            let large = "--clients 4 --burst 300 --size 70000 --receive-buffer 8192 --threads 2";
            let large = floor.load(&nats, large).await;
            assert_exact(&large, 4.0);
            assert_eq!(number(&large.0, "deliveries"), 1200.0);
        }
    })
    .await;
}

#[tokio::test]
async fn the_floor_reads_a_stream_as_well() {
    within(LIMIT, async {
        let nats = open_server(true).await;
        let gm = SimGm::new().arg("--no-door").start().await;
        let _bridge = Bridge::new(&nats).gm(&gm.url()).start().await;
        for mode in [&["--stream", "EVENTS"][..], &["--stream", "EVENTS", "--coalesce"]] {
            let floor = Floor::start(&nats, mode).await;
            assert_exact(&floor.load(&nats, "--sessions 3 --clients 5 --window 8 --seconds 1 --warmup 0").await, 5.0);
            // More than flow control lets pass unanswered (32 MiB), and less than a client that is behind may be owed.
            let large = floor.load(&nats, "--clients 4 --burst 600 --size 70000 --acks 200").await;
            assert_exact(&large, 4.0);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.args(["floor", "--stream", "NONE", "--nats", &nats.address().to_string(), "--listen", "127.0.0.1:0"]);
        let output = command.kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("stream not found"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn clients_are_spread_over_several_doors() {
    within(LIMIT, async {
        let nats = open_server(false).await;
        let floors = [Floor::start(&nats, &[]).await, Floor::start(&nats, &[]).await];
        let url = floors.each_ref().map(|floor| floor.url.as_str()).join(",");
        for sessions in [1, 2, 3] {
            let flags = format!("--sessions {sessions} --clients 4 --window 8 --seconds 0.3 --warmup 0");
            let [first, second] = floors.each_ref().map(|floor| floor.process.id().unwrap());
            let flags = format!("--url {url} --protocol plain --pid {first},{second} {flags}");
            assert_exact(&load(&nats, &flags).await, 4.0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stalls_gets_what_it_missed_and_delays_nobody() {
    within(LIMIT, async {
        let nats = open_server(false).await;
        let floor = Floor::start(&nats, &[]).await;
        let flags = "--clients 4 --rate 1000 --size 8000 --seconds 3 --warmup 0.2 --stalled 1 --stall-seconds 2 \
                     --receive-buffer 8192";
        let stalled = floor.load(&nats, flags).await;
        assert_exact(&stalled, 4.0);
        // 2 s of 8 MB a second, of which the kernel takes 4 MB at most.
        let grown = number(&stalled.0, "rss_kib_peak") - number(&stalled.0, "rss_kib_before");
        assert!(grown > 4000.0, "it read on: grown by {grown} KiB");
        assert!(number(&stalled.0, "p50_us") < 1e6, "{}", stalled.0);
    })
    .await;
}

#[tokio::test]
async fn only_watched_sessions_are_expected_to_arrive() {
    within(LIMIT, async {
        let nats = open_server(false).await;
        let floor = Floor::start(&nats, &[]).await;
        let flags = "--sessions 100 --watched 5 --clients 2 --sources 3 --seconds 1 --warmup 0";
        let (rate, success) = floor.load(&nats, &format!("{flags} --rate 2000")).await;
        assert!(success, "{rate}");
        assert_eq!((number(&rate, "events"), number(&rate, "expected")), (2000.0, 200.0));
        // A window lets each session go at its own speed, and those without clients as fast as the fastest.
        let (window, success) = floor.load(&nats, &format!("{flags} --window 4")).await;
        assert!(success && number(&window, "expected") > 0.0, "{window}");
        assert!(number(&window, "events") >= 10.0 * number(&window, "expected"), "{window}");
    })
    .await;
}

#[tokio::test]
async fn what_is_missed_is_lost_where_nobody_keeps_it() {
    within(LIMIT, async {
        let nats = open_server(false).await;
        let floor = Floor::start(&nats, &[]).await;
        let flags = "--sessions 2 --clients 3 --resume 7 --within 100ms --settle 1s";
        let (result, success) = floor.load(&nats, flags).await;
        assert!(!success && result["exact"] == false, "{result}");
        // Whoever is back before the floor has read an event still gets it.
        let [lost, expected, came] = ["lost", "expected", "deliveries"].map(|name| number(&result, name));
        assert!(lost > 0.0 && lost + came == expected && expected == 42.0, "{result}");
    })
    .await;
}

#[tokio::test]
async fn idle_connections_are_held_and_weighed() {
    within(LIMIT, async {
        let nats = open_server(false).await;
        let floor = Floor::start(&nats, &[]).await;
        let (idle, success) = floor.load(&nats, "--sessions 10 --clients 50 --idle --seconds 0.5").await;
        assert!(success && number(&idle, "connections") == 500.0, "{idle}");
        assert!(number(&idle, "connect_per_s") > 0.0 && number(&idle, "rss_kib_per_connection") < 16.0, "{idle}");
        assert!(idle["idle_cpu_ms_per_s"].is_f64(), "{idle}");
        let (connects, success) = floor.load(&nats, "--clients 200 --connect-rate --handshakes 10").await;
        assert!(success && number(&connects, "connect_per_s") > 0.0, "{connects}");
    })
    .await;
}

#[tokio::test]
async fn nats_own_sockets_are_read_as_well() {
    within(LIMIT, async {
        let port = Reserved::take();
        let more = format!("websocket {{ listen: \"{}\", no_tls: true }}\n", port.address());
        let nats = Nats::start_with(NatsOptions {
            config: "single.conf".into(),
            jetstream: false,
            more,
            ..NatsOptions::default()
        })
        .await;
        for pace in ["--rate 500", "--window 50"] {
            let flags = format!(
                "--url ws://{} --protocol nats --pid {} --sessions 2 --clients 5 {pace} --seconds 1 --warmup 0",
                port.address(),
                nats.id()
            );
            assert_exact(&load(&nats, &flags).await, 5.0);
        }
    })
    .await;
}

#[tokio::test]
async fn clients_of_herald_come_back_by_their_cursors() {
    within(LIMIT, async {
        let nats = open_server(true).await;
        let gm = SimGm::new().arg("--no-door").start().await;
        let _bridge = Bridge::new(&nats).gm(&gm.url()).start().await;
        let edge = Edge::new(&nats).start().await;
        let url = edge.ws("");
        for v1 in ["", "--v1"] {
            let flags = format!("--url {url} {v1} --sessions 4 --clients 3 --resume 50 --within 200ms");
            let resumed = load(&nats, &flags).await;
            assert_exact(&resumed, 3.0);
            assert!(number(&resumed.0, "caught_up_s") > 0.0, "{}", resumed.0);
            let flags = format!("--url {url} {v1} --sessions 4 --clients 3 --burst 1000");
            assert_exact(&load(&nats, &flags).await, 3.0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_door_that_is_not_there_is_said_so() {
    within(LIMIT, async {
        let port = Reserved::take();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.args(["load", "--connect-rate", "--url", &format!("ws://{}", port.address())]);
        let output = command.kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("could not connect"), "{said}");
    })
    .await;
}
