//! What the README says is so: its configuration tables, and the engine it shows.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{collections::BTreeMap, path::Path, time::Duration};

use herald_testkit::{
    Edge, Ingest, Launch, Nats, NatsOptions, eventually, http, process::Process, service::printed_config, users,
    within, ws,
};

fn repository() -> &'static Path {
    // shared/testkit is two below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn readme() -> String {
    read("README.md")
}

/// The text between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("README.md has no {from:?}"));
    rest.split_once(to).unwrap_or_else(|| panic!("README.md has no {to:?} behind {from:?}")).0
}

/// Key and default of each row of a table.
fn documented(table: &str) -> BTreeMap<String, String> {
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        (cells[0].trim_matches(['|', ' ', '`']).to_owned(), cells[1].trim_matches('`').to_owned())
    })
    .collect()
}

/// Key and default of all that a service prints: what all services share, and its own.
fn printed(service: &str) -> [BTreeMap<String, String>; 2] {
    let (mut tables, mut own) = ([BTreeMap::new(), BTreeMap::new()], 0);
    for line in printed_config(service).lines() {
        if line.starts_with('[') {
            own = 1;
        } else if let Some(key) = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set")) {
            tables[own].insert(key.to_owned(), "not set".to_owned());
        } else if let Some((key, value)) = line.strip_suffix("  # default").and_then(|line| line.split_once(" = ")) {
            let value = if value == "\"\"" { "none" } else { value.trim_matches('"') };
            tables[own].insert(key.to_owned(), value.to_owned());
        }
    }
    tables
}

#[test]
fn the_configuration_tables_name_every_key_with_its_default() {
    let readme = readme();
    let table = |name: &str| {
        documented(between(&readme, &format!("<!-- config:{name} -->"), &format!("<!-- /config:{name} -->")))
    };
    for service in ["gm-bridge", "ws-edge", "ingest", "lobby"] {
        let [shared, own] = printed(service);
        for (section, mut printed) in [("shared", shared), (service, own)] {
            let mut documented = table(section);
            // These have no default that could be written down as it is printed.
            for key in ["instance", "operations.address", "listeners"] {
                assert_eq!(documented.remove(key).is_some(), printed.remove(key).is_some(), "{section}: {key}");
            }
            assert_eq!(documented, printed, "README.md, configuration of {section}");
        }
    }
}

#[test]
fn the_lines_that_play_a_turn_are_those_that_up_prints() {
    let readme = readme();
    // Up to the session, which is a new one each time.
    let shown = between(&readme, "uuid.uuid4())')\n", "```");
    let shown = shown.replace("http://127.0.0.1:8000", "{door}").replace("target/release/sim", "{sim}");
    assert_eq!(shown, between(&read("scripts/up"), "S={session}\n", "\"\"\""));
}

#[test]
fn the_engine_shown_is_the_engine_that_is_built() {
    let readme = readme();
    let built = read("shared/runtime/examples/engine.rs");
    assert_eq!(between(&readme, "```rust\n", "```").trim(), built.trim());
}

/// All our sources in one text.
fn sources() -> String {
    let (mut all, mut folders) = (String::new(), vec![repository().join("services"), repository().join("shared")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                folders.extend((!["target", "node_modules"].contains(&name)).then_some(path));
            } else if path.extension().is_some_and(|end| end == "rs") {
                all += &std::fs::read_to_string(&path).expect("a source");
            }
        }
    }
    all
}

#[test]
fn every_test_that_the_attackers_list_names_is_there() {
    let (readme, sources) = (readme(), sources());
    let rows =
        between(&readme, "<!-- attacks -->", "<!-- /attacks -->").lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        for test in tests.split(", ").map(|test| test.trim_matches('`')) {
            assert!(sources.contains(&format!("fn {test}(")), "README.md names a test that is not there: {test}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_shown_opens_the_door_shown() {
    within(Duration::from_secs(60), async {
        let readme = readme();
        let nats = Nats::start().await;
        let shown = between(&readme, "## Who may come in", "## Configuration");
        let secret = "00112233445566778899aabbccddeeff";
        // The stream of the arena game belongs to a bridge; the door answers before it is there.
        let config = between(shown, "```toml\n", "```").to_owned();
        let mut edge = Edge::new(&nats).config(config).env("HERALD_JWT__SECRET", secret).spawn();
        edge.wait_listeners(1, Duration::from_secs(20)).await;
        let script = between(shown, "```python\n", "```");
        let made =
            std::process::Command::new("python3").args(["-c", script]).env("HERALD_JWT__SECRET", secret).output();
        let made = made.expect("python3");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let bearer = format!("Bearer {}", String::from_utf8(made.stdout).expect("a token").trim());
        let status = async |path: &str, headers: &[(&str, &str)]| {
            http::send(hyper::Method::GET, &edge.http(path), headers, "").await.status
        };
        let known = [("authorization", bearer.as_str())];
        assert_eq!(status("/sse/table-1?after=0", &[]).await, 401);
        // Not served yet, which only those are told who may watch it.
        assert_eq!(status("/sse/table-1", &known).await, 503);
        assert_eq!(status("/sse/table-2?after=0", &known).await, 403);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_shown_answers_at_the_door_and_its_event_reaches_the_socket() {
    within(Duration::from_secs(60), async {
        let folder = tempfile::tempdir().expect("a folder");
        let config = users::with_dice(folder.path());
        let nats = Nats::start_with(NatsOptions { config, ..NatsOptions::default() }).await;
        let _engine = Launch::new("engine").user("dice").env("NATS_URL", nats.url()).start().await;
        let config = between(&readme(), "```toml\n", "```").replace("127.0.0.1:8001", "127.0.0.1:0");
        let edge = Edge::new(&nats).config(config).start().await;
        let socket = ws::Client::connect(&edge.ws("/ws/table-1"), ws::V1).await;
        socket.wait_for("hello", Duration::from_secs(10), |frame| frame.event() == "herald.hello").await;
        let reply = http::post(&edge.http("/dice/roll/table-1")).await.expect_status(200);
        let roll = socket.wait_for("the roll", Duration::from_secs(10), |frame| frame.event() == "dice.roll").await;
        assert_eq!(roll.seq().map(|seq| seq.to_string()), Some(reply.text()));
        let face = roll.data()["face"].as_u64().expect("a face");
        assert!((1..=6).contains(&face), "{face}");
        assert_eq!(http::post(&edge.http("/dice/roll/no.session")).await.status, 400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_shown_that_is_asked_says_who_may_come_in() {
    within(Duration::from_secs(60), async {
        let readme = readme();
        let shown = between(&readme, "### Asking an engine", "## Configuration");
        let folder = tempfile::tempdir().expect("a folder");
        let config = users::with_dice(folder.path());
        let nats = Nats::start_with(NatsOptions { config, ..NatsOptions::default() }).await;
        let _owner = Launch::new("engine").user("dice").env("NATS_URL", nats.url()).start().await;
        let config = between(shown, "```toml\n", "```").replace("127.0.0.1:8001", "127.0.0.1:0");
        let edge = Edge::new(&nats).config(config).start().await;
        let refused = async |session: &str| {
            let socket = ws::Client::connect(&edge.ws(&format!("/ws/{session}")), ws::V1).await;
            let end = socket.wait_end(Duration::from_secs(10)).await;
            (end.code(), end.reason().to_owned())
        };
        assert_eq!(refused("table-1").await.0, 1013, "nobody answers yet");
        let script = between(shown, "```python\n", "```")
            .replace("4222", &nats.address().port().to_string())
            .replace("PASSWORD", &users::password("dice"));
        let mut python = std::process::Command::new("python3");
        python.args(["-c", &script]);
        let _keeper = Process::spawn("keeper", python, &folder.path().join("keeper.log"));
        eventually("somebody answers", Duration::from_secs(20), async || match refused("table-2").await {
            (4403, reason) if reason == "This table is full" => Ok(()),
            other => Err(other),
        })
        .await;
        assert_eq!(refused("table-9").await, (4404, "There is no such table".to_owned()));
        let socket = ws::Client::connect(&edge.ws("/ws/table-1?player_id=p1"), ws::V1).await;
        socket.wait_for("hello", Duration::from_secs(10), |frame| frame.event() == "herald.hello").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_shown_for_a_lobby_serves_its_page_and_says_how_it_is() {
    within(Duration::from_secs(60), async {
        let readme = readme();
        let shown = between(&readme, "### A door of its own", "## Publishing by HTTP");
        let pages = tempfile::tempdir().expect("a folder");
        std::fs::write(pages.path().join("index.html"), "<h1>Lobby</h1>").expect("written");
        let config = between(shown, "```toml\n", "```")
            .replace("127.0.0.1:8003", "127.0.0.1:0")
            .replace("LOBBY", "EVENTS")
            .replace("/srv/lobby/pages", &pages.path().display().to_string());
        let nats = Nats::start().await;
        // There is no lobby, and no stream.
        let mut edge = Edge::new(&nats).config(config).spawn();
        edge.wait_listeners(1, Duration::from_secs(20)).await;
        assert_eq!(edge.get("/").await.expect_status(200).text(), "<h1>Lobby</h1>");
        assert_eq!(edge.get("/none").await.expect_status(404).json(), serde_json::json!({ "detail": "Not Found" }));
        let health = async || match edge.get("/health").await.text() {
            text if text == r#"{"status":"degraded"}"# => Ok(()),
            text => Err(text),
        };
        eventually("it says how it is", Duration::from_secs(20), health).await;
        let reply = edge.get("/api/game_sessions").await.expect_status(503);
        assert!(reply.json()["detail"].is_string(), "{}", reply.text());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_publishes_by_http() {
    within(Duration::from_secs(60), async {
        let readme = readme();
        let nats = Nats::start().await;
        let _ingest = Ingest::new(&nats).start().await;
        let shown = between(&readme, "## Publishing by HTTP", "## Who may come in");
        let config = between(shown, "```toml\n", "```").replace("127.0.0.1:8002", "127.0.0.1:0");
        let edge = Edge::new(&nats).config(config).start().await;
        let socket = ws::Client::connect(&edge.ws("/ws/table-1"), ws::V1).await;
        socket.wait_for("hello", Duration::from_secs(10), |frame| frame.event() == "herald.hello").await;
        let script = between(shown, "```python\n", "```").to_owned();
        let command = ["-c".to_owned(), script, edge.http("")];
        let ran = tokio::task::spawn_blocking(|| std::process::Command::new("python3").args(command).output());
        let ran = ran.await.expect("ran").expect("python3");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let frame =
            socket.wait_for("the event", Duration::from_secs(10), |frame| frame.event() == "app.chat.message").await;
        assert_eq!(frame.data()["text"], "hello");
        assert_eq!(
            frame.seq().map(|seq| seq.to_string()).as_deref(),
            Some(String::from_utf8_lossy(&ran.stdout).trim())
        );
    })
    .await;
}
