//! What clients send up, what engines say to one of them, and what is for some of them alone.

mod floods;
mod misuse;
mod newest;
mod up;
mod visible;
mod words;

use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use herald_testkit::{Edge, Nats, users, ws};
use serde_json::Value;

use crate::forge::{SECRET, claims, hs256, with};

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);

/// A door that asks for tokens, with these routes; each has its path and the rest of its table.
fn door(nats: &Nats, routes: &[(&str, &str)]) -> Edge {
    door_of(Edge::new(nats), routes)
}

/// The same, of an edge.
fn door_of(edge: Edge, routes: &[(&str, &str)]) -> Edge {
    let jwt = format!("[ws-edge.jwt]\nsecret = \"{SECRET}\"\nleeway = \"0s\"\nquery = true\n");
    let listener = "[[ws-edge.listeners]]\nname = \"table\"\nauth = \"jwt\"\n".to_owned();
    let routes = routes.iter().map(|(path, more)| {
        format!("[[ws-edge.listeners.routes]]\npath = {path:?}\nroots = [\"gm\", \"arena\"]\nsnapshot = [\"gm.>\"]\n{more}\n")
    });
    edge.config(jwt + &listener + &routes.collect::<String>())
}

/// The token of somebody who may open everything, in a role or in none.
fn token(user: &str, role: &str) -> String {
    let claims = claims(user, &["*"]);
    hs256(&if role.is_empty() { claims } else { with(claims, "role", role) })
}

/// A socket of somebody.
async fn join(url: &str, user: &str, role: &str, protocols: &[&str]) -> ws::Client {
    let bearer = format!("Bearer {}", token(user, role));
    let options = ws::Options { protocols, headers: &[("authorization", &bearer)], ..ws::Options::default() };
    ws::Client::open(url, options).await.unwrap_or_else(|refused| panic!("{url}: {refused:?}"))
}

/// Somebody who hears what goes up.
struct Ear {
    client: Client,
    heard: Subscriber,
}

impl Ear {
    async fn on(nats: &Nats, subject: &str) -> Self {
        let client = users::connect(&nats.url()).await.unwrap();
        let heard = client.subscribe(subject.to_owned()).await.unwrap();
        // A connection's commands are worked off in turn: with this answer the server knows of the subscription.
        client.request("$JS.API.INFO", "".into()).await.unwrap();
        Self { client, heard }
    }

    /// The next message.
    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(BOUND, self.heard.next()).await;
        next.unwrap().unwrap()
    }

    /// The next message: its subject and its text.
    async fn text(&mut self) -> (String, String) {
        let message = self.next().await;
        (message.subject.to_string(), String::from_utf8(message.payload.to_vec()).unwrap())
    }

    /// Waits for a join, and says which connection it is of.
    async fn joined(&mut self, session: &str) -> String {
        let message = self.next().await;
        assert_eq!(message.subject.as_str(), format!("in.gm.{session}.join"));
        message.reply.unwrap().to_string()
    }

    /// Sends to one connection with these headers, and returns the answer.
    async fn say(&self, to: &str, headers: &[(&str, &str)], payload: &str) -> String {
        let mut all = async_nats::HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, *value);
        }
        let answer = self.client.request_with_headers(to.to_owned(), all, payload.to_owned().into()).await.unwrap();
        String::from_utf8(answer.payload.to_vec()).unwrap()
    }
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

/// A frame about what a client sent.
fn is_told(frame: &ws::Frame, state: &str, reason: &str) -> bool {
    let data: &Value = frame.data();
    frame.event() == "herald.uplink" && data["state"] == state && data["reason"] == reason
}
