//! The document and the configuration it describes. What is answered indeed is compared with it in
//! `shared/testkit/tests/openapi.rs` and by `scripts/schemathesis`.

use std::{collections::BTreeSet, path::PathBuf};

use herald_protocol::Name;

use super::*;
use crate::config::{Builtin, Config, HealthConfig};

fn arena(change: impl FnOnce(&mut ListenerConfig)) -> Value {
    let mut config = Config::default();
    change(&mut config.listeners[0]);
    document(&config.listeners()[0], false)
}

fn document(listener: &ListenerConfig, in_query: bool) -> Value {
    serde_json::from_slice(&Document::new(listener, in_query).0).unwrap()
}

fn paths(document: &Value) -> BTreeSet<&str> {
    document["paths"].as_object().unwrap().keys().map(String::as_str).collect()
}

/// Path, method and operation of each.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(|(method, it)| (path.as_str(), method.as_str(), it))
    })
}

fn statuses<'a>(document: &'a Value, path: &str, method: &str) -> Vec<&'a str> {
    let responses = document["paths"][path][method]["responses"].as_object();
    responses.unwrap_or_else(|| panic!("{method} {path}")).keys().map(String::as_str).collect()
}

/// A value, or what it refers to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value.get("$ref") else { return value };
    let reference = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| document.pointer(pointer)).unwrap_or_else(|| panic!("{value} leads nowhere"))
}

fn each<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, visit)),
        Value::Object(members) => members.values().for_each(|member| each(member, visit)),
        _ => {}
    }
}

#[test]
fn every_route_and_forward_of_the_arena_is_described_and_nothing_else() {
    let document = arena(|_| {});
    let game = [
        "/api/start",
        "/api/state",
        "/api/propose",
        "/api/choose",
        "/api/cancel",
        "/api/images/{game}/{file}",
        "/init_session",
        "/submit_news",
        "/sessions/{sid}",
        "/sessions/{sid}/end",
        "/sessions/{sid}/fork",
        "/health",
        "/ws/{sid}",
        "/sse/{sid}",
        "/ws/_selftest",
        "/sse/_selftest",
    ];
    let all = ["", "/app", "/gm"].into_iter().flat_map(|door| game.map(|path| format!("{door}{path}")));
    let past = ["", "/app"].map(|door| format!("{door}/sessions/{{sid}}/events"));
    let all: BTreeSet<_> =
        all.chain([PATH, asyncapi::PATH, page::PATH, page::FILE].map(str::to_owned)).chain(past).collect();
    assert_eq!(paths(&document), all.iter().map(String::as_str).collect());
    // And the configuration itself, so that a further route or forward is not forgotten here.
    let listener = &Config::default().listeners()[0];
    for (pattern, path, _) in places(listener) {
        assert!(paths(&document).iter().any(|path| pattern.matches(path).is_some()), "{path}");
    }
    let head: Vec<_> =
        operations(&document).filter(|(_, method, _)| *method == "head").map(|(path, ..)| path).collect();
    assert_eq!(head.len(), 3 * 3 + 4, "state, pictures and health of each door, the documents, the page: {head:?}");
    let after = |path: &str| document["paths"][path]["get"]["parameters"].to_string();
    assert!(after("/gm/ws/{sid}").contains("Alias") && after("/ws/{sid}").contains("parameters/Sid"));
}

#[test]
fn it_is_whole_and_every_operation_says_what_it_needs() {
    for auth in [Auth::Off, Auth::Jwt] {
        let document = arena(|listener| {
            (listener.auth, listener.avatars) = (auth, Some(PathBuf::from("pictures")));
            listener.hosts = vec!["play.example".into()];
        });
        let mut references = 0;
        each(&document, &mut |value| {
            references += usize::from(value.get("$ref").is_some_and(Value::is_string));
            resolved(&document, value);
        });
        assert!(references > 100, "{references}");
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let parameters: Vec<_> = parameters.map(|it| resolved(&document, it)).collect();
            for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let known =
                    parameters.iter().filter(|it| it["in"] == "path" && it["name"] == name && it["required"] == true);
                assert_eq!(known.count(), 1, "{method} {path}");
            }
            let in_path = parameters.iter().filter(|it| it["in"] == "path").count();
            assert_eq!(in_path, path.matches('{').count(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let response = resolved(&document, response);
                assert!(response["description"].is_string(), "{method} {path} {status}");
                let has_body = response.get("content").is_some();
                assert!(!(has_body && method == "head"), "{path} {status}");
                if status.as_str() >= "400" && has_body {
                    let json = &response["content"]["application/json"];
                    assert_eq!(json["schema"]["$ref"], "#/components/schemas/Error", "{method} {path} {status}");
                    assert!(json["example"]["error"].is_string(), "{method} {path} {status}");
                }
            }
        }
    }
}

#[test]
fn what_may_be_answered_follows_from_the_configuration() {
    let open = arena(|_| {});
    assert!(open.get("security").is_none() && open["components"].get("securitySchemes").is_none());
    for (path, method, _) in operations(&open) {
        let statuses = statuses(&open, path, method);
        assert!(!["401", "403", "421"].iter().any(|status| statuses.contains(status)), "{method} {path}");
        assert!(statuses.contains(&"429") && statuses.contains(&"503"), "{method} {path}");
    }
    assert_eq!(statuses(&open, "/ws/{sid}", "get"), ["101", "400", "404", "426", "429", "503"]);
    assert_eq!(statuses(&open, "/sse/{sid}", "get"), ["200", "204", "400", "404", "429", "503"]);
    assert_eq!(statuses(&open, "/sse/_selftest", "get"), ["200", "429", "503"]);
    let news = ["200", "400", "404", "408", "409", "413", "429", "431", "500", "502", "503", "504"];
    assert_eq!(statuses(&open, "/submit_news", "post"), news);
    assert_eq!(statuses(&open, "/health", "get"), ["200", "400", "408", "413", "429", "431", "500", "503"]);

    let closed = arena(|listener| listener.auth = Auth::Jwt);
    assert_eq!(closed["security"], json!([{ "bearer": [] }]));
    assert!(closed["components"]["securitySchemes"].get("query").is_none());
    for path in ["/api/state", "/sse/{sid}", "/app/api/start"] {
        let statuses = statuses(&closed, path, "get");
        assert!(statuses.contains(&"401") && statuses.contains(&"403"), "{path}");
        assert!(closed["paths"][path]["get"].get("security").is_none(), "{path}: that of all");
    }
    assert_eq!(closed["paths"]["/ws/{sid}"]["get"]["security"], json!([{ "bearer": [] }, {}]), "it may come later");
    assert!(!statuses(&closed, "/ws/{sid}", "get").contains(&"401"), "said behind the handshake");
    for path in ["/health", "/sse/_selftest", "/ws/_selftest", PATH, asyncapi::PATH, page::PATH, page::FILE] {
        assert_eq!(closed["paths"][path]["get"]["security"], json!([]), "{path}");
    }
    let mut listener = Config::default().listeners()[0].clone();
    listener.auth = Auth::Jwt;
    assert_eq!(document(&listener, true)["security"], json!([{ "bearer": [] }, { "query": [] }]));

    let pages = arena(|listener| listener.origins = vec!["https://play.example".into()]);
    for (path, expected) in [("/api/start", true), ("/ws/{sid}", true), ("/sse/{sid}", true), ("/api/state", false)] {
        assert_eq!(statuses(&pages, path, "get").contains(&"403"), expected, "{path}");
    }
    let named = arena(|listener| listener.hosts = vec!["play.example".into()]);
    for (path, method, _) in operations(&named) {
        assert!(statuses(&named, path, method).contains(&"421"), "{method} {path}");
    }
}

#[test]
fn a_listener_describes_what_it_has_and_no_more() {
    let gm = arena(|listener| listener.builtin = Some(Builtin::ArenaGm));
    assert!(paths(&gm).contains("/init_session") && !paths(&gm).iter().any(|path| path.starts_with("/gm/")));

    let without = arena(|listener| listener.page = false);
    assert!(!paths(&without).contains(page::PATH) && !paths(&without).contains(page::FILE));

    let pictures = arena(|listener| listener.avatars = Some(PathBuf::from("pictures")));
    let path = "/static/agent-skins/{file}";
    assert_eq!(statuses(&pictures, path, "get"), ["200", "206", "304", "404", "412", "416", "429", "503"]);
    assert!(pictures["paths"][path].get("head").is_some());

    let dice = ForwardConfig {
        name: "dice-engine".into(),
        service: Name::new("dice").ok(),
        paths: vec!["/dice/*".into(), "/roll".into()],
        ..ForwardConfig::default()
    };
    let route = RouteConfig { path: "/dice/{sid}".into(), ..RouteConfig::default() };
    let own = ListenerConfig { forwards: vec![dice.clone()], routes: vec![route], ..ListenerConfig::default() };
    let own = document(&own, false);
    // All paths of one segment below `/dice` are the socket's.
    assert_eq!(paths(&own), ["/asyncapi.json", "/dice/_selftest", "/dice/{sid}", "/openapi.json", "/roll"].into());
    assert_eq!(own["paths"]["/roll"].as_object().unwrap().len(), METHODS.len());
    assert!(statuses(&own, "/roll", "post").contains(&"default"));
    assert!(own["components"]["schemas"].get("Health").is_none(), "what belongs to a game that is not there");

    let dice_alone = ListenerConfig { forwards: vec![dice.clone()], ..ListenerConfig::default() };
    assert_eq!(
        paths(&document(&dice_alone, false)),
        ["/asyncapi.json", "/dice/{rest}", "/openapi.json", "/roll"].into()
    );
    let everything = ForwardConfig { paths: vec!["/*".into()], ..dice };
    let everything = document(&ListenerConfig { forwards: vec![everything], ..ListenerConfig::default() }, false);
    assert_eq!(paths(&everything), ["/{rest}"].into(), "what is configured comes first");
}

#[test]
fn a_route_that_asks_an_engine_says_how_it_may_be_answered() {
    let asks = |path: &str, transport| RouteConfig {
        path: path.into(),
        transport,
        admit: Name::new("dice").ok(),
        admit_query: vec!["player_id".into()],
        ..RouteConfig::default()
    };
    let before = RouteConfig { refuse: Refuse::Answer, ..asks("/before", Transport::Socket) };
    let routes = vec![asks("/follow", Transport::Socket), before, asks("/sse/{sid}", Transport::Sse)];
    let document = document(&ListenerConfig { routes, ..ListenerConfig::default() }, false);
    assert_eq!(
        paths(&document),
        ["/asyncapi.json", "/before", "/follow", "/openapi.json", "/sse/_selftest", "/sse/{sid}"].into()
    );
    assert_eq!(statuses(&document, "/sse/{sid}", "get"), ["200", "204", "400", "401", "403", "404", "429", "503"]);
    assert!(!statuses(&document, "/follow", "get").contains(&"403"), "said behind the handshake");
    assert!(statuses(&document, "/before", "get").contains(&"403"), "said before it");
    let parameters = document["paths"]["/follow"]["get"]["parameters"].to_string();
    assert!(parameters.contains("session_id") && parameters.contains("player_id"), "{parameters}");
    assert!(!parameters.contains("parameters/Sid"), "{parameters}");
}

#[test]
fn who_is_there_can_be_asked_for_where_a_route_tells_it() {
    let told = |mode| arena(|listener| listener.presence = mode);
    assert!(!paths(&told(PresenceMode::Off)).iter().any(|path| path.contains("presence")));
    let counted = told(PresenceMode::Count);
    let asked: Vec<_> = paths(&counted).into_iter().filter(|path| path.contains("presence")).collect();
    assert_eq!(asked, ["/app/presence/{sid}", "/presence/{sid}"], "not at the Game Master's door");
    assert_eq!(statuses(&counted, "/presence/{sid}", "get"), ["200", "400", "404", "429", "503"]);
    let parameters =
        |document: &Value| document["paths"]["/presence/{sid}"]["get"]["parameters"].as_array().unwrap().len();
    assert_eq!((parameters(&counted), parameters(&told(PresenceMode::List))), (1, 3));
    let closed = arena(|listener| (listener.auth, listener.presence) = (Auth::Jwt, PresenceMode::List));
    assert_eq!(statuses(&closed, "/presence/{sid}", "get"), ["200", "400", "401", "403", "404", "429", "503"]);
    each(&closed, &mut |value| {
        resolved(&closed, value);
    });
}

#[test]
fn the_lists_for_operators_are_where_tokens_are_asked_for_and_nothing_else_is() {
    let lists = |document: &Value| paths(document).into_iter().filter(|path| path.contains("operator")).count();
    assert_eq!(lists(&arena(|_| {})), 0);
    let closed = arena(|listener| listener.auth = Auth::Jwt);
    assert_eq!(lists(&closed), 2);
    for (path, _) in List::ALL {
        assert_eq!(statuses(&closed, path, "get"), ["200", "400", "401", "403", "429", "503"]);
        assert_eq!(closed["paths"][path].as_object().unwrap().len(), 1);
    }
    let taken = ForwardConfig { paths: vec!["/operator/*".into()], ..ForwardConfig::default() };
    let own = ListenerConfig { auth: Auth::Jwt, forwards: vec![taken], ..ListenerConfig::default() };
    let own = document(&own, false);
    assert_eq!(lists(&own), 1, "what is configured comes first");
    assert!(own["components"]["schemas"].get("ShownSession").is_none());
}

#[test]
fn a_page_the_health_and_the_shape_of_errors_are_described_where_they_are() {
    let own = |change: &dyn Fn(&mut ListenerConfig)| {
        let mut listener = ListenerConfig { health: Some(HealthConfig::default()), ..ListenerConfig::default() };
        listener.files = Some(PathBuf::from("files"));
        change(&mut listener);
        document(&listener, false)
    };
    let plain = own(&|_| {});
    assert_eq!(paths(&plain), ["/", "/asyncapi.json", "/health", "/openapi.json"].into());
    assert_eq!(statuses(&plain, "/", "get"), ["200", "206", "304", "404", "412", "416", "429", "503"]);
    assert!(plain["paths"]["/"].get("head").is_some() && plain["paths"]["/health"].get("head").is_some());
    assert_eq!(plain["components"]["schemas"]["Error"]["required"], json!(["error"]));
    let everything = ForwardConfig { paths: vec!["/health".into(), "/".into()], ..ForwardConfig::default() };
    let forwarded = own(&|listener| listener.forwards = vec![everything.clone()]);
    assert_eq!(
        forwarded["paths"]["/health"].as_object().unwrap().len(),
        METHODS.len(),
        "what is configured comes first"
    );
    for (shape, example) in [
        (ErrorBody::Detail, json!({ "detail": "Not Found" })),
        (ErrorBody::Both, json!({ "error": "Not Found", "detail": "Not Found" })),
    ] {
        let document = own(&|listener| listener.error_body = shape);
        let response = &document["components"]["responses"]["NotFound"]["content"]["application/json"];
        assert_eq!(response["example"], example);
        let schema = &document["components"]["schemas"]["Error"];
        assert!(
            schema.get("required").is_none()
                && schema["anyOf"].is_array()
                && schema["properties"]["detail"].is_object()
        );
    }
    let of_forward = ForwardConfig { error_body: Some(ErrorBody::Both), ..everything };
    let mixed = own(&|listener| listener.forwards = vec![of_forward.clone()]);
    assert!(mixed["components"]["schemas"]["Error"]["anyOf"].is_array());
}
