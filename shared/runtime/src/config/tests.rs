use std::{ffi::OsString, path::Path};

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Edge {
    listeners: Vec<Listener>,
    gm: Gm,
    drain: Drain,
    label: Option<String>,
    limits: std::collections::BTreeMap<String, u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Listener {
    address: String,
    #[serde(default)]
    dialect: Dialect,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Dialect {
    #[default]
    Event,
    App,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Gm {
    #[serde(deserialize_with = "comma_separated")]
    base_urls: Vec<String>,
    limit: ByteSize,
    key: Secret,
    tries: u8,
    eager: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Drain {
    period: HumanDuration,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            listeners: vec![Listener { address: "127.0.0.1:8000".to_owned(), dialect: Dialect::Event }],
            gm: Gm {
                base_urls: vec!["http://127.0.0.1:8899".to_owned()],
                limit: ByteSize::from_mib(1),
                key: Secret::default(),
                tries: 3,
                eager: false,
            },
            drain: Drain { period: HumanDuration::from_secs(10) },
            label: None,
            limits: [("a".to_owned(), 1)].into(),
        }
    }
}

impl ServiceConfig for Edge {
    const SERVICE: &'static str = "ws-edge";
    const OPERATIONS_PORT: u16 = 9100;
    const ALIASES: &'static [(&'static str, &'static str)] = &[("GM_BASE_URL", "gm.base_urls")];

    fn validate(&self) -> Vec<Fault> {
        if self.gm.tries == 0 { vec![Fault::new("gm.tries", "must be at least 1")] } else { Vec::new() }
    }
}

/// What to load from: a file's text, variables, flags.
#[derive(Default)]
struct Given<'a> {
    file: &'a str,
    environment: &'a [(&'a str, &'a str)],
    set: &'a [&'a str],
}

impl Given<'_> {
    fn load(&self) -> Result<Loaded<Edge>, Faults> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("test.toml");
        std::fs::write(&path, self.file).expect("file");
        let result = load(&self.sources(&path));
        // The folder has another name each time.
        result.map_err(|faults| {
            let short = |source: String| source.replace(&path.display().to_string(), "test.toml");
            Faults(faults.0.into_iter().map(|fault| Fault { source: fault.source.map(short), ..fault }).collect())
        })
    }

    fn sources(&self, file: &Path) -> Sources {
        let variable = |(name, value): &(&str, &str)| (OsString::from(*name), OsString::from(*value));
        Sources {
            file: Some(file.to_owned()),
            environment: self.environment.iter().map(variable).collect(),
            set: self.set.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn ok(&self) -> Loaded<Edge> {
        self.load().unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn faults(&self) -> Vec<String> {
        self.load().expect_err("faulty").0.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn without_any_source_the_defaults_hold() {
    let loaded = load::<Edge>(&Sources::default()).expect("valid");
    assert_eq!(loaded.service, Edge::default());
    assert_eq!(loaded.common.nats.url, "nats://127.0.0.1:4222");
    assert_eq!(loaded.common.operations.address.to_string(), "127.0.0.1:9100");
    assert_eq!(loaded.common.shutdown.limit, HumanDuration::from_secs(25));
    assert_eq!(loaded.common.instance.as_str().len(), 8);
    assert!(loaded.common.ports_file.is_none());
}

#[test]
fn each_source_overrides_those_before_it() {
    let file = r#"
        [nats]
        url = "nats://shared:1"
        ping_interval = "3s"
        [ws-edge.nats]
        url = "nats://own:1"
        [gm-bridge]
        anything = "is not ours"
    "#;
    let url = |environment: &[(&str, &str)], set: &[&str]| Given { file, environment, set }.ok().common.nats.url;
    assert_eq!(url(&[], &[]), "nats://own:1", "the section over the shared table");
    let mut environment = vec![("NATS_URL", "nats://alias:1")];
    assert_eq!(url(&environment, &[]), "nats://alias:1", "the environment over the file");
    environment.insert(0, ("HERALD_NATS__URL", "nats://variable:1"));
    assert_eq!(url(&environment, &[]), "nats://variable:1", "our name over an alias");
    environment.insert(0, ("HERALD_WS_EDGE__NATS__URL", "nats://scoped:1"));
    assert_eq!(url(&environment, &[]), "nats://scoped:1", "the service's own over the common one");
    assert_eq!(url(&environment, &["nats.url=nats://flag:1"]), "nats://flag:1", "the flag over all");
    let both = ["nats.url=nats://flag:1", "nats.url=nats://last:1"];
    assert_eq!(url(&environment, &both), "nats://last:1", "the last flag over the first");
    assert_eq!(Given { file, ..Given::default() }.ok().common.nats.ping_interval, HumanDuration::from_secs(3));
}

/// Every key of every service, as a variable.
#[test]
fn every_shared_key_is_a_variable() {
    let environment = [
        ("HERALD_NATS__URL", "nats://n:1"),
        ("HERALD_NATS__USER", "u"),
        ("HERALD_NATS__PASSWORD", "p"),
        ("HERALD_NATS__INBOX_PREFIX", "_INBOX.x"),
        ("HERALD_NATS__TLS", "required"),
        // Files that can be read are all that is asked for here.
        ("HERALD_NATS__ROOT_CERTIFICATES", "Cargo.toml"),
        ("HERALD_NATS__CLIENT_CERTIFICATE", "Cargo.toml"),
        ("HERALD_NATS__CLIENT_KEY", "Cargo.toml"),
        ("HERALD_NATS__CONNECT_TIMEOUT", "1s"),
        ("HERALD_NATS__RECONNECT_MIN", "1ms"),
        ("HERALD_NATS__RECONNECT_MAX", "2ms"),
        ("HERALD_NATS__REQUEST_TIMEOUT", "3s"),
        ("HERALD_NATS__PING_INTERVAL", "4s"),
        ("HERALD_NATS__SUBSCRIPTION_CAPACITY", "5"),
        ("HERALD_NATS__SEND_CAPACITY", "6"),
        ("HERALD_LOG__FILTER", "debug"),
        ("HERALD_LOG__FORMAT", "json"),
        ("HERALD_OPERATIONS__ADDRESS", "0.0.0.0:7"),
        ("HERALD_OPERATIONS__INSPECT", "everybody"),
        ("HERALD_SHUTDOWN__LIMIT", "8s"),
        ("HERALD_TRACES__ENDPOINT", "http://c:1"),
        ("HERALD_TRACES__HEADERS", "k=v"),
        ("HERALD_TRACES__RATIO", "1"),
        ("HERALD_TRACES__QUEUE", "9"),
        ("HERALD_TRACES__BATCH", "10"),
        ("HERALD_TRACES__INTERVAL", "11s"),
        ("HERALD_TRACES__TIMEOUT", "12s"),
        ("HERALD_INSTANCE", "0123"),
        ("HERALD_PORTS_FILE", "/ports.json"),
    ];
    let common = Given { environment: &environment, ..Given::default() }.ok().common;
    let seconds = HumanDuration::from_secs;
    assert_eq!((common.nats.url.as_str(), common.nats.user.as_deref()), ("nats://n:1", Some("u")));
    assert_eq!((common.nats.password.expose(), common.nats.token.expose()), ("p", ""));
    assert_eq!((common.nats.inbox_prefix.as_deref(), common.nats.tls), (Some("_INBOX.x"), NatsTls::Required));
    for file in [&common.nats.root_certificates, &common.nats.client_certificate, &common.nats.client_key] {
        assert_eq!(file.as_deref(), Some(Path::new("Cargo.toml")));
    }
    assert_eq!((common.nats.connect_timeout, common.nats.request_timeout), (seconds(1), seconds(3)));
    assert_eq!((common.nats.reconnect_min.get().as_millis(), common.nats.reconnect_max.get().as_millis()), (1, 2));
    assert_eq!((common.nats.ping_interval, common.shutdown.limit), (seconds(4), seconds(8)));
    assert_eq!((common.nats.subscription_capacity, common.nats.send_capacity), (5, 6));
    assert_eq!((common.log.filter.as_str(), common.log.format), ("debug", LogFormat::Json));
    assert_eq!(
        (common.operations.address.to_string().as_str(), common.operations.inspect),
        ("0.0.0.0:7", Inspect::Everybody)
    );
    let traces = &common.traces;
    assert_eq!((traces.endpoint.as_deref(), traces.headers.expose(), traces.ratio), (Some("http://c:1"), "k=v", 1.0));
    assert_eq!((traces.queue, traces.batch, traces.interval, traces.timeout), (9, 10, seconds(11), seconds(12)));
    assert_eq!(common.instance.as_str(), "0123", "a text, although it looks like a number");
    assert_eq!(common.ports_file.as_deref(), Some(Path::new("/ports.json")));

    let tree = load::tree(&common);
    let keys = tree.iter().map(|(_, value)| value.as_object().map_or(1, serde_json::Map::len)).sum::<usize>();
    assert_eq!(
        keys,
        environment.len() + 3,
        "a new key? then name it here and in the README (nats.user excludes the other three ways to say who we are)"
    );
    let alone = |variable, value| Given { environment: &[(variable, value)], ..Given::default() }.load();
    let valid = |variable, value| alone(variable, value).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(valid("HERALD_NATS__TOKEN", "t").common.nats.token.expose(), "t");
    let seed = format!("SU{}", "A".repeat(56));
    assert_eq!(valid("HERALD_NATS__NKEY_SEED", &seed).common.nats.nkey_seed.expose(), seed);
    let faults = alone("HERALD_NATS__CREDENTIALS_FILE", "/nowhere").expect_err("no such file");
    let fault = "nats.credentials_file (env HERALD_NATS__CREDENTIALS_FILE): can't be read: entity not found";
    assert_eq!(faults.0.iter().map(ToString::to_string).collect::<Vec<_>>(), [fault]);
}

#[test]
fn the_aliases_of_all_and_of_the_service_work() {
    let environment = [
        ("NATS_URL", "nats://n:1"),
        ("RUST_LOG", "warn"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"),
        ("GM_BASE_URL", "http://a:1, http://b:2"),
    ];
    let loaded = Given { environment: &environment, ..Given::default() }.ok();
    assert_eq!(loaded.common.traces.endpoint.as_deref(), Some("http://c:1"));
    assert_eq!((loaded.common.nats.url.as_str(), loaded.common.log.filter.as_str()), ("nats://n:1", "warn"));
    assert_eq!(loaded.service.gm.base_urls, ["http://a:1", "http://b:2"]);
}

#[test]
fn variables_are_read_as_the_type_that_the_key_has() {
    let environment = [
        ("HERALD_GM__TRIES", "7"),
        ("HERALD_GM__EAGER", "true"),
        ("HERALD_GM__KEY", "0x10"),
        ("HERALD_GM__LIMIT", "2MiB"),
        ("HERALD_LABEL", "1_000"),
        ("HERALD_DRAIN__PERIOD", "1m"),
        ("HERALD_LIMITS", "{ b = 2 }"),
        ("HERALD_LISTENERS", r#"[{ address = "a:1" }, { address = "b:2", dialect = "app" }]"#),
    ];
    let service = Given { environment: &environment, ..Given::default() }.ok().service;
    assert_eq!((service.gm.tries, service.gm.eager, service.gm.key.expose()), (7, true, "0x10"));
    assert_eq!((service.gm.limit, service.label.as_deref()), (ByteSize::from_mib(2), Some("1_000")));
    assert_eq!(service.limits, [("a".to_owned(), 1), ("b".to_owned(), 2)].into(), "tables are merged");
    let listeners: Vec<_> = service.listeners.iter().map(|one| (one.address.as_str(), one.dialect)).collect();
    assert_eq!(listeners, [("a:1", Dialect::Event), ("b:2", Dialect::App)], "lists are replaced");
    let flags =
        Given { set: &["gm.tries=9", "gm.base_urls=[\"x\"]", "limits.c=3", "gm.key=[1"], ..Given::default() }.ok();
    assert_eq!((flags.service.gm.tries, flags.service.limits["c"]), (9, 3));
    assert_eq!((flags.service.gm.base_urls, flags.service.gm.key.expose()), (vec!["x".to_owned()], "[1"));
}

#[test]
fn a_variable_set_to_nothing_is_not_set() {
    let environment = [("NATS_URL", ""), ("HERALD_GM__TRIES", "")];
    let loaded = Given { environment: &environment, ..Given::default() }.ok();
    assert_eq!((loaded.common.nats.url.as_str(), loaded.service.gm.tries), ("nats://127.0.0.1:4222", 3));
}

#[test]
fn variables_of_others_are_left_alone() {
    let environment = [("HERALD_GM_BRIDGE__GM__TRIES", "x"), ("HERALD_NATS_SERVER", "/bin/x"), ("HERALD_CONFIG", "y")];
    assert_eq!(Given { environment: &environment, ..Given::default() }.ok().service, Edge::default());
}

#[test]
fn all_faults_are_reported_at_once() {
    let file = r#"
        naats = 1
        [nats]
        url = "http://bob:hunter2@x"
        ulr = "nats://x"
        ping_interval = 5
        [operations]
        address = "nowhere"
        [ws-edge]
        colour = "red"
        [ws-edge.gm]
        tries = 300
        limit = "big"
        [[ws-edge.listeners]]
        address = 5
        [[ws-edge.listeners]]
        address = "fine"
        dialekt = "app"
        [[ws-edge.listeners]]
        dialect = "app"
        [[ws-edge.listeners]]
        address = "fine"
        dialect = "klingon"
    "#;
    let environment = [("HERALD_DRAIN__PERIOD", "soon"), ("HERALD_LOG__FORMAT", "loud"), ("HERALD_EXTRA", "1")];
    let faults = Given { file, environment: &environment, set: &["gm.eager=perhaps", "nonsense"] }.faults();
    let keys: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().unwrap_or_default()).collect();
    for (key, source) in [
        ("naats", "file test.toml"),
        ("nats.ulr", "file test.toml"),
        ("nats.url", "file test.toml"),
        ("nats.ping_interval", "file test.toml"),
        ("operations.address", "file test.toml"),
        ("colour", "file test.toml"),
        ("gm.tries", "file test.toml"),
        ("gm.limit", "file test.toml"),
        ("listeners.0.address", "file test.toml"),
        ("listeners.1.dialekt", "file test.toml"),
        ("listeners.2", "file test.toml"),
        ("listeners.3.dialect", "file test.toml"),
        ("drain.period", "env HERALD_DRAIN__PERIOD"),
        ("log.format", "env HERALD_LOG__FORMAT"),
        ("extra", "env HERALD_EXTRA"),
        ("gm.eager", "flag --set gm.eager"),
    ] {
        assert!(keys.contains(&format!("{key} ({source})").as_str()), "{key} in {faults:#?}");
    }
    assert!(keys.contains(&"flag --set"), "{faults:#?}");
    assert_eq!(keys.len(), 17, "and nothing that follows from another: {faults:#?}");
    let text = faults.join("\n");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("unknown key; known here: client_certificate, "), "{text}");
}

#[test]
fn values_are_checked_when_their_types_are_right() {
    let faults =
        Given { set: &["gm.tries=0", "nats.send_capacity=0", "shutdown.limit=0s"], ..Given::default() }.faults();
    assert_eq!(
        faults,
        [
            "nats.send_capacity (flag --set nats.send_capacity): must be at least 1",
            "shutdown.limit (flag --set shutdown.limit): must be longer than zero",
            "gm.tries (flag --set gm.tries): must be at least 1",
        ]
    );
}

#[test]
fn a_number_out_of_range_or_no_number_is_explained() {
    let fault =
        |value: &str| Given { environment: &[("HERALD_GM__TRIES", value)], ..Given::default() }.faults().remove(0);
    assert_eq!(fault("300"), "gm.tries (env HERALD_GM__TRIES): invalid value: integer `300`, expected u8");
    assert_eq!(fault("few"), "gm.tries (env HERALD_GM__TRIES): invalid type: string \"few\", expected u8");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_fault_without_its_text() {
    let sources = Sources { file: Some("/nowhere/herald.toml".into()), ..Sources::default() };
    let faults = load::<Edge>(&sources).expect_err("missing").to_string();
    assert!(faults.contains("file /nowhere/herald.toml: not readable"), "{faults}");
    let faults = Given { file: "[nats]\nurl = \"x\"\npassword = hunter2 oops\n", ..Given::default() }.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("no valid TOML in line 3") && !faults[0].contains("hunter2"), "{faults:?}");
}

#[test]
fn the_printed_configuration_says_where_values_come_from_and_hides_secrets() {
    let file = "[nats]\nping_interval = \"3s\"\n[ws-edge.gm]\nkey = \"hunter2\"\n";
    let environment = [("NATS_URL", "nats://bob:hunter2@n:1"), ("HERALD_INSTANCE", "one")];
    let given = Given { file, environment: &environment, set: &["gm.tries=9"] };
    let text = given.ok().print();
    assert!(!text.contains("hunter2"), "{text}");
    for line in [
        "nats.url = \"nats://********@n:1\"  # env NATS_URL",
        "instance = \"one\"  # env HERALD_INSTANCE",
        "nats.connect_timeout = \"2s\"  # default",
        "# nats.user is not set",
        "[ws-edge]",
        "gm.key = \"********\"  # file ",
        "gm.tries = 9  # flag --set gm.tries",
        "gm.base_urls = [\"http://127.0.0.1:8899\"]  # default",
        "listeners = [{ address = \"127.0.0.1:8000\", dialect = \"event\" }]  # default",
        "limits.a = 1  # default",
    ] {
        assert!(text.lines().any(|printed| printed.starts_with(line)), "{line}\nin\n{text}");
    }
}

#[test]
fn all_keys_are_listed_with_their_defaults() {
    let defaults = defaults::<Edge>();
    let of = |key: &str| defaults.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(of("nats.url"), Some("\"nats://127.0.0.1:4222\""));
    assert_eq!(of("operations.address"), Some("\"127.0.0.1:9100\""));
    assert_eq!((of("gm.tries"), of("label"), of("gm.key")), (Some("3"), Some(""), Some("\"\"")));
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let loaded = Given { set: &["gm.tries=9", "limits.\"odd key\"=2", "nats.url=nats://n:1"], ..Given::default() };
    let loaded = loaded.load().map_err(|faults| faults.to_string());
    // A dotted key of the command line has no quotes: that one is a key with quotes in it, and still printed as TOML.
    let loaded = loaded.expect("valid");
    let text = loaded.print();
    let again = Given { file: &text, ..Given::default() }.ok();
    assert_eq!(again.service, loaded.service, "{text}");
    assert_eq!(again.common.instance, loaded.common.instance);
    assert_eq!(again.common.nats.url, "nats://n:1");
}

#[test]
fn credentials_are_masked_wherever_a_url_stands() {
    for (text, masked) in [
        ("nats://a:1", "nats://a:1"),
        ("nats://u:p@a:1,nats://t@b", "nats://********@a:1,nats://********@b"),
        ("`http://u:p@x/y@z` is wrong", "`http://********@x/y@z` is wrong"),
        ("nats://u:p@ss@a", "nats://********@a"),
        ("a@b", "a@b"),
    ] {
        assert_eq!(print::without_credentials(text), masked);
    }
}

#[test]
fn a_health_check_finds_a_process_on_a_free_port_by_its_ports_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("ports.json");
    let mut common = Common { ports_file: Some(path.clone()), ..Common::with_operations_port(0) };
    assert_eq!(common.operations_address().port(), 0, "nothing has been written yet");
    std::fs::write(&path, r#"{"operations":"127.0.0.1:1234","listeners":[]}"#).expect("file");
    assert_eq!(common.operations_address().to_string(), "127.0.0.1:1234");
    common.operations.address.set_port(9100);
    assert_eq!(common.operations_address().port(), 9100, "a port that was told is not looked up");
}
