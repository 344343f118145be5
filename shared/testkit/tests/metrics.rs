//! The metrics are what the README says: every one that the sources name, and every one that a running service shows.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use herald_testkit::{Ingest, Lobby, Service, System, sse, within, ws};

const SOON: Duration = Duration::from_secs(30);
const SESSION: &str = "5e551040-0000-4000-8000-0000000000ee";

/// Where the metrics of each table are counted, and explained.
const SOURCES: [(&str, &str); 5] = [
    ("shared", "shared/runtime/src"),
    ("ws-edge", "services/ws-edge/src"),
    ("gm-bridge", "services/gm-bridge/src"),
    ("ingest", "services/ingest/src"),
    ("lobby", "services/lobby/src"),
];

fn repository() -> &'static Path {
    // shared/testkit is two below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository")
}

/// What the README says of a metric.
struct Row {
    labels: BTreeSet<String>,
    meaning: String,
}

/// A table of the README, by name of the metric.
fn table(name: &str) -> BTreeMap<String, Row> {
    let readme = fs::read_to_string(repository().join("README.md")).expect("README.md");
    let (_, rest) = readme.split_once(&format!("<!-- metrics:{name} -->")).expect("a table");
    let (table, _) = rest.split_once(&format!("<!-- /metrics:{name} -->")).expect("its end");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [metric, labels, meaning] = cells[..] else { panic!("three cells: {row}") };
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (metric.trim_matches('`').to_owned(), Row { labels, meaning: meaning.to_owned() })
    })
    .collect()
}

/// The metrics named below a folder, and the files that explain metrics, with every blank as one space.
fn named_in(folder: &Path, names: &mut BTreeSet<String>, explained: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            named_in(&path, names, explained);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        let quoted = text.match_indices("\"herald_").filter_map(|(at, _)| text[at + 1..].split('"').next());
        let is_metric = |text: &&str| {
            let is_name = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            is_name
                && *text != "herald_"
                && !text.starts_with("herald_test_")
                && *text != "herald_operations_test_total"
        };
        names.extend(quoted.filter(is_metric).map(str::to_owned));
        if path.file_name().is_some_and(|name| name == "metrics.rs") {
            *explained += &text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    }
}

#[test]
fn every_metric_of_the_sources_is_in_the_readme_and_means_what_it_says() {
    for (name, folder) in SOURCES {
        let (mut names, mut explained) = (BTreeSet::new(), String::new());
        named_in(&repository().join(folder), &mut names, &mut explained);
        let table = table(name);
        let documented: BTreeSet<_> = table.keys().cloned().collect();
        assert_eq!(documented, names, "README.md, metrics of {name}");
        for (metric, row) in table {
            let told = format!("\"{metric}\", \"{}\"", row.meaning);
            assert!(explained.contains(&told), "{folder} does not say of {metric}: {}", row.meaning);
        }
    }
}

/// The names of units, as metrics have them at their end.
#[test]
fn every_metric_has_its_unit_in_its_name() {
    for (name, _) in SOURCES {
        for metric in table(name).keys() {
            let of_unit = ["_total", "_seconds", "_bytes", "_count"].iter().any(|unit| metric.ends_with(unit));
            // Yes or no, a plain number of what the name says, and what Prometheus calls so.
            let plain =
                ["_ready", "_info", "_looks_back", "_messages", "_sessions"].iter().any(|end| metric.ends_with(end));
            assert!(of_unit || plain, "{metric}");
        }
    }
}

/// Name and labels of each line of a scrape; of histograms, the name without what they add.
fn shown(scrape: &str) -> Vec<(String, BTreeSet<String>)> {
    let histograms: BTreeSet<_> =
        scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
    let lines = scrape.lines().filter(|line| line.starts_with("herald_"));
    lines
        .map(|line| {
            let (series, _value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let part = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
            let whole = part.into_iter().find(|whole| histograms.contains(whole)).unwrap_or(name);
            // Values of ours hold no commas and no quotes.
            let labels = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
            let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le").collect();
            (whole.to_owned(), labels)
        })
        .collect()
}

/// Every metric that the service shows is in its table, or in that of all, with these labels; says which ones are.
async fn check(service: &Service, name: &str) -> BTreeSet<String> {
    let (all, own) = (table("shared"), table(name));
    let scrape = service.metrics().await;
    let mut seen = BTreeSet::new();
    for (metric, labels) in shown(&scrape) {
        let row = own.get(&metric).or_else(|| all.get(&metric));
        let row = row.unwrap_or_else(|| panic!("{name} shows {metric}, which the README does not know"));
        assert_eq!(labels, row.labels, "labels of {metric} of {name}");
        let help = format!("# HELP {metric} ");
        assert!(scrape.contains(&help), "{name} does not say what {metric} means");
        seen.insert(metric);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn what_services_show_is_what_the_readme_says() {
    within(Duration::from_secs(90), async {
        let system = System::start().await;
        let ingest = Ingest::new(&system.nats).start().await;
        let lobby = Lobby::new(&system.nats).start().await;
        let edge = &system.edges[0];
        let socket = ws::Client::connect(&edge.ws(&format!("/ws/{SESSION}?after=0")), ws::V1).await;
        let stream = sse::Client::connect(&edge.http(&format!("/sse/{SESSION}")), None).await;
        edge.get(&format!("/api/start?session_id={SESSION}")).await.expect_status(200);
        edge.get(&format!("/api/propose?session_id={SESSION}")).await.expect_status(202);
        socket.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
        stream.wait_events(10, SOON).await;
        drop(stream);
        assert_eq!(socket.close().await.code(), 1000);

        let of_edge = check(edge, "ws-edge").await;
        let of_bridge = check(&system.bridges[0], "gm-bridge").await;
        check(&ingest, "ingest").await;
        check(&lobby, "lobby").await;
        for metric in ["herald_delivery_seconds", "herald_gaps_total", "herald_ready", "herald_forwards_running_count"]
        {
            assert!(of_edge.contains(metric), "{metric}");
        }
        for metric in [
            "herald_publish_seconds",
            "herald_gm_stream_seconds",
            "herald_gm_first_event_seconds",
            "herald_stream_failures_total",
            "herald_http_served_running_count",
        ] {
            assert!(of_bridge.contains(metric), "{metric}");
        }
        assert!(edge.metric("herald_ready", &[]).await == 1.0, "it is ready");
    })
    .await;
}
