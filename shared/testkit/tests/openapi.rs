//! What `/openapi.json` says is so: everything it names is there, answers as it says, and nothing of the game is missing.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use herald_testkit::{Bridge, Edge, Ingest, Nats, Service, Sim, SimGm, http, within};
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);
const METHODS: [&str; 6] = ["get", "head", "post", "put", "patch", "delete"];
/// What a picture begins with: nobody looks at it.
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The document of a door.
struct Document(Value);

/// One operation of it, with the examples it gives.
struct Operation<'a> {
    document: &'a Document,
    method: &'a str,
    path: &'a str,
    url: String,
    headers: Vec<(&'a str, &'a str)>,
    body: String,
    responses: BTreeMap<&'a str, &'a Value>,
}

impl Document {
    async fn of(edge: &Service) -> Self {
        let reply = edge.get("/openapi.json").await.expect_status(200);
        assert_eq!(reply.header("content-type"), "application/json");
        Self(reply.json())
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        self.0.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}"))
    }

    fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.0["paths"].as_object().expect("paths").iter();
        let all = paths.flat_map(|(path, item)| item.as_object().expect("methods").iter().map(move |it| (path, it)));
        all.map(|(path, (method, operation))| self.operation(path, method, operation)).collect()
    }

    fn operation<'a>(&'a self, path: &'a str, method: &'a str, operation: &'a Value) -> Operation<'a> {
        let (mut url, mut query, mut headers) = (path.to_owned(), Vec::new(), Vec::new());
        // One Game Master plays one game: each door has a session of its own.
        let session = match path.split('/').nth(1) {
            Some("app") => "table-app",
            Some("gm") => "table-gm",
            _ => "table-1",
        };
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = self.resolved(parameter);
            let name = parameter["name"].as_str().expect("a name");
            let Some(example) = parameter["example"].as_str() else {
                assert_ne!(parameter["required"], true, "{method} {path}: {name} has no example");
                continue;
            };
            match parameter["in"].as_str() {
                Some("path") => url = url.replace(&format!("{{{name}}}"), &example.replace("table-1", session)),
                Some("query") => query.push(format!("{name}={}", example.replace("table-1", session))),
                _ => headers.push((name, example)),
            }
        }
        if !query.is_empty() {
            url = format!("{url}?{}", query.join("&"));
        }
        let body = &operation["requestBody"]["content"]["application/json"]["example"];
        let body = if body.is_null() { String::new() } else { body.to_string().replace("table-1", session) };
        let responses = operation["responses"].as_object().expect("responses").iter();
        let responses = responses.map(|(status, response)| (status.as_str(), self.resolved(response))).collect();
        Operation { document: self, method, path, url, headers, body, responses }
    }
}

impl Operation<'_> {
    /// Sends it with those headers; its status, if the answer is as it is documented.
    async fn answered(&self, edge: &Service, headers: &[(&str, &str)]) -> u16 {
        let what = format!("{} {}", self.method, self.url);
        let method = Method::from_bytes(self.method.to_uppercase().as_bytes()).expect("a method");
        let response = http::open(method, &edge.http(&self.url), headers, self.body.clone()).await;
        let (head, body) = response.unwrap_or_else(|error| panic!("{what}: {error}")).into_parts();
        let status = head.status.as_u16();
        // Of services that nobody has described it is only known that they answer.
        let documented = self.responses.get(status.to_string().as_str()).or_else(|| self.responses.get("default"));
        let documented = documented.unwrap_or_else(|| panic!("{what}: {status} is not documented"));
        for (name, header) in documented["headers"].as_object().into_iter().flatten() {
            let required = self.document.resolved(header)["required"] == true;
            assert!(!required || head.headers.contains_key(name.as_str()), "{what}: {status} without {name}");
        }
        let Some(content) = documented["content"].as_object() else { return status };
        let media_type = head.headers.get("content-type").and_then(|it| it.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default();
        let (family, _) = media_type.split_once('/').unwrap_or_default();
        let named = |range: &String| [media_type, &format!("{family}/*"), "*/*"].contains(&range.as_str());
        assert!(content.keys().any(named), "{what}: {status} with {media_type:?}");
        if media_type == "application/json" {
            let body = body.collect().await.expect("a body").to_bytes();
            let json: Value = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{what}: {error}"));
            if status >= 400 {
                assert!(json["error"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {json}");
            }
        }
        status
    }
}

/// A door with pictures, a bridge, and a Game Master for each session.
async fn house(nats: &Nats, pictures: &Path) -> (Service, Service, Vec<Sim>) {
    std::fs::write(pictures.join("pavel.png"), PICTURE).expect("written");
    let mut gms = Vec::new();
    for _ in 0..3 {
        gms.push(SimGm::new().arg("--no-door").start().await);
    }
    let urls: Vec<_> = gms.iter().map(Sim::url).collect();
    // No arena engine is there to be waited for.
    let bridge = Bridge::new(nats).gm(&urls.join(",")).set("arena.waiting_timeout", "50ms").start().await;
    let config = format!(
        "[[ws-edge.listeners]]\nbuiltin = \"arena\"\npresence = \"list\"\navatars = \"{}\"\n",
        pictures.display()
    );
    let edge = Edge::new(nats).config(config).start().await;
    (edge, bridge, gms)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_documented_is_there_and_answers_as_it_says() {
    within(MINUTE * 2, async {
        let (nats, pictures) = (Nats::start().await, tempfile::tempdir().expect("a folder"));
        let (edge, mut bridge, _gms) = house(&nats, pictures.path()).await;
        let document = Document::of(&edge).await;
        let operations = document.operations();
        // Starts first: the others need a game.
        let (starts, mut others): (Vec<_>, Vec<_>) = operations.iter().partition(|it| it.path.ends_with("/api/start"));
        // What ends it comes last.
        others.sort_by_key(|it| (it.method == "delete", it.path.ends_with("/end")));
        for operation in starts.iter().chain(&others) {
            let status = operation.answered(&edge, &operation.headers).await;
            // There is a picture only once something was proposed.
            // And an end is refused while something runs.
            let (picture, end) = (operation.path.contains("/api/images/"), operation.path.ends_with("/end"));
            let good = status < 400 || status == 404 && picture || status == 409 && end;
            assert!(good, "{} {}: {status}", operation.method, operation.url);
            if !operation.headers.is_empty() && operation.path.contains("/ws/") {
                assert_eq!(operation.answered(&edge, &[]).await, 426, "{}", operation.url);
            }
        }
        let mut documented = BTreeMap::<_, BTreeSet<_>>::new();
        for operation in &operations {
            documented.entry(operation.url.split('?').next().unwrap()).or_default().insert(operation.method);
        }
        for (path, methods) in documented {
            let allowed = methods.iter().map(|method| method.to_uppercase()).collect::<BTreeSet<_>>();
            // There the past is read, and the rest is passed on to a bridge that knows no such path.
            let shared = path.ends_with("/events");
            for method in METHODS.into_iter().filter(|method| !methods.contains(method) && !shared) {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
                let reply = http::send(method.clone(), &edge.http(path), &[], "").await.expect_status(405);
                let allow = reply.header("allow").split(',').map(|method| method.trim().to_owned());
                assert_eq!(allow.collect::<BTreeSet<_>>(), allowed, "{method} {path}");
            }
        }
        // With nobody behind the door, too.
        bridge.kill().await;
        for operation in &operations {
            let status = operation.answered(&edge, &operation.headers).await;
            let path = operation.path;
            let own = ["/ws/", "/sse/", "/static/", "/health", "/openapi", "/asyncapi", "/presence/"];
            let past = operation.method == "get" && path.contains("/sessions/");
            let own = past || own.iter().any(|own| path.contains(own));
            assert_eq!(status == 503, !own, "{} {path}: {status}", operation.method);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_of_its_own_answers_as_its_document_says() {
    within(MINUTE, async {
        let (nats, files) = (Nats::start().await, tempfile::tempdir().expect("a folder"));
        std::fs::write(files.path().join("index.html"), "<h1>hello</h1>").expect("written");
        let _ingest = Ingest::new(&nats).start().await;
        let config = format!(
            r#"
            [[ws-edge.listeners]]
            name = "lobby"
            static = {:?}
            error_body = "both"
            health = {{ ok = '{{"status":"healthy"}}' }}
            presence = "list"
            routes = [
                {{ path = "/ws/{{sid}}", stream = "APP", roots = ["app"], dialect = "raw", refuse = "answer" }},
                {{ path = "/sse/{{sid}}", transport = "sse", stream = "APP", roots = ["app"], delivery = "latest" }},
                {{ path = "/asked/{{sid}}", stream = "APP", roots = ["app"], admit = "nobody", refuse = "answer", presence = "off" }},
                {{ path = "/past/{{sid}}", transport = "events", stream = "APP", roots = ["app"] }},
            ]
            forwards = [{{ name = "ingest", service = "ingest", paths = ["/sessions/{{sid}}/events"], error_body = "error" }}]
            "#,
            files.path()
        );
        let edge = Edge::new(&nats).config(config).start().await;
        let document = Document::of(&edge).await;
        let mut answered = BTreeMap::new();
        for operation in document.operations() {
            let status = operation.answered(&edge, &operation.headers).await;
            answered.insert((operation.method.to_owned(), operation.path.to_owned()), status);
        }
        let of = |method: &str, path: &str| answered.get(&(method.to_owned(), path.to_owned())).copied();
        for (method, path, status) in [
            ("get", "/", 200),
            ("head", "/", 200),
            ("get", "/health", 200),
            ("get", "/ws/{sid}", 101),
            ("get", "/sse/{sid}", 200),
            ("get", "/asked/{sid}", 503),
            ("get", "/presence/{sid}", 200),
            ("get", "/past/{sid}", 404),
            ("get", "/openapi.json", 200),
        ] {
            assert_eq!(of(method, path), Some(status), "{method} {path}: {answered:?}");
        }
        let missing = edge.get("/nothing").await.expect_status(404).json();
        assert_eq!((&missing["error"], &missing["detail"]), (&"Not Found".into(), &"Not Found".into()));
    })
    .await;
}

#[test]
fn every_path_of_the_bridge_is_documented() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    let read =
        |path: &str| std::fs::read_to_string(repository.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    // Parameters are called differently: what the bridge takes for a session may be a Game Master's id.
    let nameless = |path: &str| {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    let routes = read("services/gm-bridge/src/routes.rs");
    let routes = routes.split(".route(\"").skip(1).map(|rest| nameless(rest.split('"').next().unwrap()));
    let document: Value = serde_json::from_str(&read("services/ws-edge/src/config/builtin/arena.json")).expect("JSON");
    let documented = document["paths"].as_object().expect("paths").keys().map(|path| nameless(path));
    assert_eq!(documented.collect::<BTreeSet<_>>(), routes.collect::<BTreeSet<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_for_everybody_unless_the_operator_says_otherwise() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _bridge = Bridge::new(&nats).start().await;
        let secret = "[ws-edge.jwt]\nsecret = \"00112233445566778899aabbccddeeff\"\n";
        let listener = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\n";
        let edge = Edge::new(&nats).config(format!("{secret}{listener}")).start().await;
        let document = Document::of(&edge).await;
        assert!(document.0["security"].is_array());
        for operation in document.operations().iter().filter(|it| it.method != "head") {
            let status = operation.answered(&edge, &operation.headers).await;
            let open = ["/ws/", "_selftest", "/health", "/openapi", "/asyncapi"]
                .iter()
                .any(|open| operation.path.contains(open));
            assert_eq!(status == 401, !open, "{} {}: {status}", operation.method, operation.path);
        }
        let head = http::send(Method::HEAD, &edge.http("/openapi.json"), &[], "").await.expect_status(200);
        assert!(head.body.is_empty() && !head.header("content-length").is_empty());
        let post = http::post(&edge.http("/openapi.json")).await.expect_status(405);
        assert_eq!(post.header("allow"), "GET, HEAD");
        let silent = Edge::new(&nats).config(format!("{secret}{listener}openapi = false\n")).start().await;
        silent.get("/openapi.json").await.expect_status(404);
        silent.get("/asyncapi.json").await.expect_status(404);
    })
    .await;
}
