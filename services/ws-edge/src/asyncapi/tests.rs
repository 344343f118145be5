//! The document and the configuration it describes. What is sent indeed is compared with it in
//! `shared/testkit/tests/asyncapi.rs`, and its form with AsyncAPI's own schema by the tests of `shared/client`.

use std::{collections::BTreeSet, sync::Arc};

use herald_protocol::{
    Epoch, Name,
    frame::{BEAT, Control},
    presence::{Person, PersonId},
};

use super::*;
use crate::config::{Config, ForwardConfig, HeartbeatConfig, UplinkRouteConfig};

fn arena(change: impl FnOnce(&mut ListenerConfig)) -> Value {
    let mut config = Config::default();
    change(&mut config.listeners[0]);
    Draft::new(&config.listeners()[0], false).written()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
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
fn it_is_whole_and_names_nothing_that_is_not_there() {
    for auth in [Auth::Off, Auth::Jwt] {
        let document = arena(|listener| listener.auth = auth);
        assert_eq!(document["asyncapi"], "3.0.0");
        let mut references = 0;
        each(&document, &mut |value| {
            let Some(reference) = value["$ref"].as_str() else { return };
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference}"));
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            references += 1;
        });
        assert!(references > 300, "{references}");
        for (name, channel) in document["channels"].as_object().unwrap() {
            let address = channel["address"].as_str().unwrap_or_default();
            let words = address.split(['.', '/']).filter_map(|word| word.strip_prefix('{')?.strip_suffix('}'));
            let parameters = channel.get("parameters").map(keys).unwrap_or_default();
            assert_eq!(words.collect::<BTreeSet<_>>(), parameters, "{name}");
            assert!(!keys(&channel["messages"]).is_empty(), "{name}");
        }
        for (name, operation) in document["operations"].as_object().unwrap() {
            let action = operation["action"].as_str().unwrap();
            assert!(["send", "receive"].contains(&action) && name.starts_with(action), "{name}");
            let channel = operation["channel"]["$ref"].as_str().unwrap();
            for message in operation["messages"].as_array().unwrap() {
                // As AsyncAPI wants it: of the channel, not of the components.
                assert!(message["$ref"].as_str().unwrap().starts_with(&format!("{channel}/messages/")), "{name}");
            }
        }
        for (name, message) in document["components"]["messages"].as_object().unwrap() {
            assert!(message["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
            assert!(message.get("payload").is_some(), "{name}");
            let excuse = message.get("x-not-in-recording");
            assert!(excuse.is_none_or(|it| it.as_str().is_some_and(|text| text.len() > 10)), "{name}");
        }
    }
}

#[test]
fn every_route_and_every_subject_of_the_arena_is_described() {
    let document = arena(|_| {});
    let channels = document["channels"].as_object().unwrap();
    let addresses: BTreeSet<_> = channels.values().filter_map(|it| it["address"].as_str()).collect();
    for route in Config::default().listeners()[0].routes.iter().filter(|route| route.transport.is_live()) {
        assert!(addresses.contains(route.path.as_str()), "{}", route.path);
    }
    for subject in [
        "gm.{sid}.proposal",
        "arena.{sid}.agent.{agent}.status",
        "arena.init",
        "arena.{sid}.input.fakenews",
        "gm.{sid}._action",
        "gm.{sid}._done",
        "gm.{sid}._over",
        "gm.{sid}._fork",
        "gm._purged",
        "http.gm",
        "epoch.{stream}",
        "edge.watching.{sid}",
    ] {
        assert!(addresses.contains(subject), "{subject}");
    }
    // A door shows its roots, in its dialect, without what is hidden.
    let messages = |channel: &str| keys(&document["channels"][channel]["messages"]);
    assert!(messages("ws.sid").contains("event.gm.proposal") && messages("ws.sid").contains("herald.beat"));
    assert!(messages("sse.sid").contains("event.gm.proposal") && messages("sse.sid").contains("sse.herald.hello"));
    assert!(!messages("sse.sid").contains("sse.herald.beat"), "comments do that");
    assert!(messages("app.ws.sid").contains("app.arena.state.global"));
    let gm = messages("gm.ws.sid");
    assert!(gm.contains("gm.arena.agent.output") && !gm.contains("gm.arena.agent.status"));
    assert!(!gm.iter().any(|name| name.starts_with("gm.gm.")), "it does not hear itself");
    for (name, channel) in channels {
        let shows = !name.starts_with("nats.") && keys(&channel["messages"]).iter().any(|it| it.contains("fakenews"));
        assert!(!shows, "{name}");
    }
}

#[test]
fn what_is_said_of_tokens_follows_from_the_configuration() {
    let open = arena(|_| {});
    assert!(
        open["components"].get("securitySchemes").is_none() && open["servers"]["sockets"].get("security").is_none()
    );
    let hears = |document: &Value| keys(&document["channels"]["ws.sid"]["messages"]).contains("herald.token");
    assert!(!hears(&open));
    let closed = arena(|listener| listener.auth = Auth::Jwt);
    assert_eq!(keys(&closed["components"]["securitySchemes"]), ["bearer"].into());
    assert!(hears(&closed) && keys(&closed["operations"]).contains("receive.ws.sid"));
    let mut listener = Config::default().listeners()[0].clone();
    listener.auth = Auth::Jwt;
    let in_query = Draft::new(&listener, true).written();
    assert_eq!(in_query["servers"]["sockets"]["security"].as_array().unwrap().len(), 2);
}

#[test]
fn of_another_engine_it_says_what_is_known() {
    let route = RouteConfig {
        path: "/dice/{sid}".into(),
        stream: "DICE".into(),
        roots: vec![Name::new("dice").unwrap()],
        admit: Name::new("dice").ok(),
        admit_query: vec!["player_id".into()],
        ..RouteConfig::default()
    };
    let forward = ForwardConfig { service: Name::new("dice").ok(), ..ForwardConfig::default() };
    let listener = ListenerConfig { routes: vec![route], forwards: vec![forward], ..ListenerConfig::default() };
    let document = Draft::new(&listener, false).written();
    assert_eq!(keys(&document["servers"]), ["nats", "sockets"].into());
    let frame = &document["components"]["messages"]["event.dice"]["payload"];
    assert_eq!(frame["properties"]["event"]["pattern"], "^dice\\..+$");
    assert_eq!(document["channels"]["nats.dice"]["address"], "dice.{sid}.{topic}");
    assert!(keys(&document["channels"]).contains("nats.http.dice"));
    assert!(keys(&document["channels"]).contains("nats.admit.dice"));
    let query = &document["channels"]["dice.sid"]["bindings"]["ws"]["query"]["properties"];
    assert_eq!(keys(query), ["after", "dialect", "max_gap", "player_id", "speed"].into());
    assert!(document["components"]["schemas"].get("News").is_none(), "what belongs to a game that is not there");
}

#[test]
fn a_route_with_options_says_what_its_clients_get() {
    let lobby = |path: &str, transport| RouteConfig {
        path: path.into(),
        transport,
        roots: vec![Name::new("gm").unwrap(), Name::new("lobby").unwrap()],
        topics: vec!["lobby.status".parse().unwrap()],
        dialect: Some(DialectName::Raw),
        delivery: Delivery::Latest,
        close_on: vec!["lobby.destroyed:1001".parse().unwrap()],
        heartbeat: Some(HeartbeatConfig { frame: "{}".into(), ..HeartbeatConfig::default() }),
        ..RouteConfig::default()
    };
    let routes = vec![lobby("/ws/{sid}", Transport::Socket), lobby("/sse/{sid}", Transport::Sse)];
    let listener = ListenerConfig { routes, ..ListenerConfig::default() };
    let document = Draft::new(&listener, false).written();
    let messages = |channel: &str| keys(&document["channels"][channel]["messages"]);
    assert_eq!(messages("ws.sid"), ["heartbeat.ws.sid", "raw.lobby"].into());
    assert!(messages("sse.sid").contains("sse.herald.closed") && messages("sse.sid").contains("sse.herald.hello"));
    let frame = &document["components"]["messages"]["raw.lobby"]["payload"];
    assert_eq!(frame["$ref"], schema("lobby"), "what was published");
}

#[test]
fn control_frames_are_described_as_they_are_written() {
    let up = |listener: &mut ListenerConfig| {
        let route = |path: &str, transport| RouteConfig {
            path: path.into(),
            transport,
            roots: vec![Name::new("dice").unwrap()],
            uplink: Some(UplinkRouteConfig::default()),
            ..RouteConfig::default()
        };
        listener.presence = PresenceMode::List;
        listener.routes.extend([route("/dice/{sid}", Transport::Socket), route("/rolls/{sid}", Transport::Sse)]);
    };
    let document = arena(up);
    let after = "000000ab-7".to_owned();
    let [user, role, name] = ["ann", "dm", "Ann"].map(|it| Some(it.into()));
    let person = Arc::new(Person { id: PersonId::new(7), user, role, name, since: 5 });
    let written = [
        Control::Hello { epoch: Epoch::new(0xab), head: 5, heartbeat_ms: 25_000 }.frame(),
        Control::Gap { from: 1, to: 9, reason: "epoch" }.frame(),
        Control::Live { after: 3 }.frame(),
        Control::Bye { after: after.clone(), retry_ms: 100 }.frame(),
        Control::Over { after }.frame(),
        Control::Uplink { state: "slowed", reason: "rate", retry_ms: 50 }.frame(),
        Control::Replay { state: "playing", reason: None, speed: 4_000, after: 3 }.frame(),
        Control::Replay { state: "refused", reason: Some("beyond"), speed: 4_000, after: 3 }.frame(),
        Control::Closed { code: 4000, reason: "over".into() }.frame(),
        Control::Presence { count: 3 }.frame(),
        Control::Join { person: person.clone(), count: 3 }.frame(),
        Control::Leave { person, count: 2 }.frame(),
        BEAT.to_owned(),
    ];
    for frame in written {
        let frame: Value = serde_json::from_str(&frame).unwrap();
        let name = frame["event"].as_str().unwrap();
        let messages = &document["components"]["messages"];
        let data = match &messages[name]["payload"] {
            // Of event streams alone.
            Value::Null => &messages[format!("sse.{name}")]["payload"],
            payload => {
                assert_eq!(payload["properties"]["event"]["const"], name);
                &payload["properties"]["data"]
            }
        };
        let data = document.pointer(&data["$ref"].as_str().unwrap()[1..]).unwrap();
        let described =
            data["properties"].as_object().map(|it| it.keys().map(String::as_str).collect()).unwrap_or_default();
        let said = keys(&frame["data"]);
        assert!(said.is_subset(&described), "{name}: {said:?} of {described:?}");
        let required: BTreeSet<_> =
            data["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert!(required.is_subset(&said), "{name}");
    }
}

#[test]
fn who_is_there_is_described_where_a_route_tells_it() {
    let telling = |presence| arena(|listener| listener.presence = presence);
    let (off, count, list) = (telling(PresenceMode::Off), telling(PresenceMode::Count), telling(PresenceMode::List));
    let told = |document: &Value, channel: &str| {
        let all = keys(&document["channels"][channel]["messages"]).into_iter();
        all.filter(|name| ["presence", "join", "leave"].iter().any(|it| name.ends_with(it))).count()
    };
    assert_eq!([&off, &count, &list].map(|document| told(document, "ws.sid")), [0, 1, 3]);
    assert_eq!([&off, &count, &list].map(|document| told(document, "sse.sid")), [0, 1, 3]);
    assert_eq!(told(&list, "gm.ws.sid"), 0, "a Game Master has no company");
    assert!(!keys(&off["channels"]).iter().any(|name| name.starts_with("nats.edge.present")));
    assert_eq!(list["channels"]["nats.edge.present.gm"]["address"], "edge.present.gm.{sid}");
    assert_eq!(list["operations"]["receive.nats.edge.present.gm"]["bindings"]["nats"]["queue"], "edge");
    assert_eq!(list["channels"]["nats.edge.presence"]["address"], "edge.presence.{life}");
}

#[test]
fn what_clients_and_engines_say_to_each_other_is_there_where_a_route_lets_them() {
    let closed = arena(|_| {});
    assert!(!keys(&closed["channels"]).iter().any(|name| name.starts_with("nats.in.") || *name == "nats.conn"));
    let route = RouteConfig {
        path: "/dice/{sid}".into(),
        roots: vec![Name::new("dice").unwrap()],
        uplink: Some(UplinkRouteConfig { binary: false, ..UplinkRouteConfig::default() }),
        ..RouteConfig::default()
    };
    let listener = ListenerConfig { routes: vec![route], ..ListenerConfig::default() };
    let document = Draft::new(&listener, false).written();
    let channels = &document["channels"];
    for kind in ["text", "binary", "join", "leave"] {
        let channel = &channels[format!("nats.in.dice.{kind}")];
        assert_eq!(channel["address"], format!("in.dice.{{sid}}.{kind}"));
        assert_eq!(keys(&channel["messages"]), [format!("in.{kind}").as_str()].into());
    }
    assert_eq!(channels["nats.conn"]["address"], "conn.{edge}.{conn}");
    assert_eq!(document["operations"]["receive.nats.conn"]["action"], "receive");
    let socket = keys(&channels["dice.sid"]["messages"]);
    assert!(socket.contains("up.text") && !socket.contains("up.binary") && socket.contains("herald.uplink"));
    assert!(socket.contains("word.dice.sid") && !socket.contains("herald.closed"));
    let word = &document["components"]["messages"]["word.dice.sid"]["payload"]["properties"];
    assert_eq!(word["event"]["pattern"], "^(dice)\\..+$");
}
