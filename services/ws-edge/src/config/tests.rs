//! The configuration as an operator gives it.

use herald_runtime::config::{Sources, load};

use super::*;

pub(super) fn loaded(toml: &str, set: &[&str], environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("herald.toml");
    std::fs::write(&file, toml).unwrap();
    let sources = Sources {
        file: Some(file),
        environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        set: set.iter().map(|text| (*text).to_owned()).collect(),
    };
    let loaded = load::<Config>(&sources);
    loaded.map(|it| it.service).map_err(|faults| faults.0.iter().map(ToString::to_string).collect())
}

#[test]
fn the_default_is_the_arena_game_on_port_8000() {
    let config = loaded("", &[], &[]).unwrap();
    let listeners = config.listeners();
    assert_eq!(listeners.len(), 1);
    assert_eq!(listeners[0].address.to_string(), "127.0.0.1:8000");
    let paths: Vec<_> = listeners[0].routes.iter().map(|route| route.path.as_str()).collect();
    for path in ["/ws/{sid}", "/app/ws/{sid}", "/gm/ws/{sid}", "/sse/{sid}", "/app/sse/{sid}", "/gm/sse/{sid}"] {
        assert!(paths.contains(&path), "{path}");
    }
    assert!(config.validate().is_empty());
}

#[test]
fn the_first_listener_moves_by_variables() {
    let config = loaded("", &[], &[("PORT", "9999"), ("HERALD_HOST", "0.0.0.0")]).unwrap();
    assert_eq!(config.listeners()[0].address.to_string(), "0.0.0.0:9999");
}

#[test]
fn a_file_adds_listeners_routes_and_limits() {
    let toml = r#"
        [ws-edge.socket]
        heartbeat = "5s"
        [[ws-edge.listeners]]
        builtin = "arena"
        origins = ["https://play.example"]
        [[ws-edge.listeners.routes]]
        path = "/lobby/{sid}"
        stream = "LOBBY"
        roots = ["lobby"]
        snapshot = ["lobby.state"]
        start = "snapshot"
        [[ws-edge.listeners]]
        name = "game-master"
        address = "127.0.0.1:8001"
        builtin = "arena-gm"
        dialect = "gm"
    "#;
    let config = loaded(toml, &["http.max_connections=5"], &[]).unwrap();
    assert_eq!((config.http.max_connections, config.socket.heartbeat), (5, HumanDuration::from_secs(5)));
    let listeners = config.listeners();
    let lobby = listeners[0].routes.last().unwrap();
    assert_eq!((lobby.stream.as_str(), lobby.start), ("LOBBY", StartConfig::Snapshot));
    let gm = &listeners[1].routes[0];
    assert_eq!(
        (gm.path.as_str(), gm.alias.as_deref(), gm.dialect),
        ("/ws/{sid}", Some("ALIASES"), Some(DialectName::Gm))
    );
}

#[test]
fn tokens_are_asked_for_where_they_can_be_verified() {
    let jwt = |section: &str| {
        let listener = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\n";
        loaded(&format!("[ws-edge.jwt]\n{section}\n{listener}"), &[], &[])
    };
    let secret = "0123456789abcdef0123456789abcdef";
    let config = jwt(&format!("secret = \"{secret}\"\nissuers = \"a,b\"\nleeway = \"5s\"")).unwrap();
    assert_eq!((config.listeners()[0].auth, config.jwt.secret.expose()), (Auth::Jwt, secret));
    assert_eq!(config.jwt.issuers, ["a", "b"]);
    assert!(!format!("{config:?}").contains(secret) && !serde_json::to_string(&config).unwrap().contains(secret));
    assert!(jwt("jwks = \"/etc/herald/jwks.json\"").is_ok() && jwt("jwks = \"https://issuer.example/jwks\"").is_ok());
    let by_environment = [("HERALD_JWT__SECRET", secret)];
    let toml = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"";
    assert_eq!(loaded(toml, &[], &by_environment).unwrap().jwt.secret.expose(), secret);
    for (section, key) in [
        ("", "listeners[0].auth"),
        ("secret = \"short\"", "jwt.secret"),
        ("jwks = \"ftp://issuer.example\"", "jwt.jwks"),
        ("jwks = \"\"", "jwt.jwks"),
        ("leeway = \"1h\"", "jwt.leeway"),
        ("wait = \"0s\"", "jwt.wait"),
        ("refresh = \"0s\"", "jwt.refresh"),
        ("user_claim = \"\"", "jwt.user_claim"),
        ("admission_claims = \"email,role\"", "jwt.admission_claims"),
        ("algorithm = \"none\"", "algorithm"),
    ] {
        let faults = jwt(section).unwrap_err().join("\n");
        assert!(faults.contains(key), "{section}: {faults}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let toml = r#"
        [ws-edge]
        colour = "blue"
        [ws-edge.http]
        max_connections = 0
        header_timeout = "0s"
        max_header = "1KiB"
        [ws-edge.socket]
        heartbeat_timeout = "0s"
        [ws-edge.limits]
        max_opening = 0
        max_keys = 0
        opening_grace = "0s"
        inbound_bytes = "1KiB"
        [[ws-edge.listeners]]
        avatars = "/nowhere/at/all"
        origins = ["play.example"]
        hosts = ["https://play.example"]
        [[ws-edge.listeners.routes]]
        path = "/ws/{id}"
        roots = ["gm"]
        hidden = ["arena.x"]
        [[ws-edge.listeners.routes]]
        path = "/ws/{sid}"
        stream = "a.b"
        start = "snapshot"
        [[ws-edge.listeners.routes]]
        path = "/own/{sid}"
        roots = ["herald"]
        [[ws-edge.listeners.forwards]]
        name = ""
        free = ["/b"]
        health = true
        session = ""
        paths = ["/a/*/b", "no-slash"]
        strip = "/app"
        [[ws-edge.listeners]]
        proxy_protocol = "require"
        dialekt = "gm"
    "#;
    let faults = loaded(toml, &[], &[]).unwrap_err();
    let all = faults.join("\n");
    for part in ["colour", "dialekt"] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let known = toml.replace("colour = \"blue\"", "").replace("dialekt = \"gm\"", "");
    let all = loaded(&known, &[], &[]).unwrap_err().join("\n");
    for part in [
        "http.max_connections",
        "http.header_timeout",
        "http.max_header",
        "socket.heartbeat_timeout",
        "limits.max_opening",
        "limits.max_keys",
        "limits.opening_grace",
        "limits.inbound_bytes",
        "listeners[0].avatars",
        "listeners[0].hosts",
        "listeners[0].origins",
        "listeners[0].routes[0].path",
        "listeners[0].routes[0].hidden",
        "listeners[0].routes[1].stream",
        "listeners[0].routes[1].roots",
        "listeners[0].routes[1].start",
        "listeners[0].routes[2].roots",
        "listeners[0].forwards[0].name",
        "listeners[0].forwards[0].service",
        "listeners[0].forwards[0].paths",
        "listeners[0].forwards[0].free",
        "listeners[0].forwards[0].health",
        "listeners[0].forwards[0].session",
        "listeners[0].forwards[0].strip",
        "listeners[1].name",
        "listeners[1].address",
        "listeners[1].proxy_protocol",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
}

#[test]
fn proxies_are_networks_as_a_list_or_with_commas() {
    let toml = r#"
        [[ws-edge.listeners]]
        builtin = "arena"
        trusted_proxies = "10.0.0.0/8, 192.0.2.1"
        proxy_protocol = "accept"
    "#;
    let networks =
        |config: Config| -> Vec<_> { config.listeners[0].trusted_proxies.iter().map(ToString::to_string).collect() };
    let config = loaded(toml, &[], &[]).unwrap();
    assert_eq!(config.listeners[0].proxy_protocol, ProxyProtocol::Accept);
    assert_eq!(networks(config), ["10.0.0.0/8", "192.0.2.1/32"]);
    let list = toml.replace("\"10.0.0.0/8, 192.0.2.1\"", "[\"fd00::/8\"]");
    assert_eq!(networks(loaded(&list, &[], &[]).unwrap()), ["fd00::/8"]);
    let faults = loaded(&toml.replace("192.0.2.1", "my-proxy"), &[], &[]).unwrap_err().join("\n");
    assert!(faults.contains("my-proxy") && faults.contains("no network"), "{faults}");
}

#[test]
fn a_route_asks_an_engine_who_may_come_in() {
    let admission = |section: &str, route: &str| {
        let listener = "[[ws-edge.listeners]]\n[[ws-edge.listeners.routes]]\nroots = [\"gm\"]\n";
        loaded(&format!("[ws-edge.admission]\n{section}\n{listener}{route}"), &[], &[])
    };
    let route = "path = \"/ws/campaign/player\"\nadmit = \"campaign\"\nadmit_query = \"player_id\"\ndoor = \"player\"";
    let config = admission("reuse = \"0s\"\nreuse_refusal = \"0s\"\ntimeout = \"1s\"", route).unwrap();
    let listeners = config.listeners();
    let asking = &listeners[0].routes[0];
    assert_eq!(asking.admit.as_ref().map(Name::as_str), Some("campaign"));
    assert_eq!((asking.admit_query.as_slice(), asking.door.as_str()), (["player_id".to_owned()].as_slice(), "player"));
    assert_eq!(config.admission.timeout, HumanDuration::from_secs(1));
    let path = "path = \"/ws/{sid}\"\n";
    for (section, route, key) in [
        ("timeout = \"0s\"", route, "admission.timeout"),
        ("timeout = \"11s\"", route, "admission.timeout"),
        ("reuse = \"1h\"", route, "admission.reuse"),
        ("reuse_refusal = \"1h\"", route, "admission.reuse_refusal"),
        ("max_kept = 0", route, "admission.max_kept"),
        ("max_questions = 0", route, "admission.max_questions"),
        ("", "path = \"/ws\"", "routes[0].path"),
        ("", "path = \"/ws/*\"\nadmit = \"x\"", "routes[0].path"),
        ("", &format!("{path}admit = \"a.b\""), "admit"),
        ("", &format!("{path}admit_query = [\"p\"]"), "routes[0].admit_query"),
        ("", &format!("{path}admit = \"x\"\nadmit_query = [\"sid\"]"), "routes[0].admit_query"),
        ("", &format!("{path}admit = \"x\"\nadmit_query = [\"token\"]"), "routes[0].admit_query"),
        ("", &format!("{path}admit = \"x\"\nadmit_query = [\"a b\"]"), "routes[0].admit_query"),
        ("", &format!("{path}admit = \"x\"\nsession = \"\""), "routes[0].session"),
    ] {
        let faults = admission(section, route).unwrap_err().join("\n");
        assert!(faults.contains(key), "{section} {route}: {faults}");
    }
}

#[test]
fn who_is_there_is_told_where_somebody_says_so_and_asked_for_at_one_place_each() {
    let quiet = loaded("", &[], &[]).unwrap();
    assert!(quiet.listeners()[0].routes.iter().all(|route| route.tells(&quiet.listeners()[0]) == PresenceMode::Off));
    let config = loaded("[[ws-edge.listeners]]\nbuiltin = \"arena\"\npresence = \"count\"", &[], &[]).unwrap();
    let listener = &config.listeners()[0];
    let asked: Vec<_> =
        listener.routes.iter().map(|route| (route.path.as_str(), route.presence_asked(listener))).collect();
    for (path, at) in [
        ("/ws/{sid}", Some("/presence/{sid}")),
        ("/sse/{sid}", Some("/presence/{sid}")),
        ("/app/ws/{sid}", Some("/app/presence/{sid}")),
        ("/gm/ws/{sid}", None),
    ] {
        assert!(asked.contains(&(path, at.map(|at| (at, PresenceMode::Count)))), "{path}: {asked:?}");
    }

    let with = |listener: &str, presence: &str| {
        let listener = format!("[[ws-edge.listeners]]\nname = \"a\"\npresence = \"list\"\n{listener}");
        loaded(&format!("[ws-edge.presence]\n{presence}\n{listener}"), &[], &[])
    };
    let route =
        |path: &str, more: &str| format!("[[ws-edge.listeners.routes]]\npath = \"{path}\"\nroots = [\"gm\"]\n{more}\n");
    with(&(route("/ws/{sid}", "") + &route("/sse/{sid}", "transport = \"sse\"")), "").unwrap();
    let other = "roots = [\"lobby\"]";
    for (listener, presence, expected) in [
        (
            route("/a/{sid}", "") + &route("/b/{sid}", other).replace("roots = [\"gm\"]\n", ""),
            "",
            "asks about `/a/{sid}` too",
        ),
        (route("/a/{sid}", "") + &route("/b/{sid}", "presence = \"count\""), "", "asks about `/a/{sid}` too"),
        (route("/presence/{sid}", ""), "", "is there twice"),
        (route("/a/{sid}", "presence_path = \"/who\""), "", "must have {sid}"),
        (route("/a", "admit = \"dice\""), "", "must have {sid}"),
        (route("/a/{sid}", ""), "timeout = \"11s\"", "at least four times presence.beat (3s)"),
        (route("/a/{sid}", ""), "page = 5000", "must be at most 4096"),
        (route("/a/{sid}", ""), "beat = \"0s\"\nframes = 0\npage = 0", "presence.page"),
        (route("/a/{sid}", ""), "batch = \"2s\"", "must be from 5ms to 1s"),
        (route("/a/{sid}", ""), "grace = \"1h\"", "must be at most 5m"),
    ] {
        let faults = with(&listener, presence).unwrap_err().join("; ");
        assert!(faults.contains(expected), "{listener} {presence}: {faults}");
    }
}
