//! What somebody tries who means no good, each thing against real processes. The whole list, with what is tried elsewhere, is
//! in the README ("What is tried against it").

mod costs;
mod engines;
mod floods;
mod frames;
mod headers;
mod logs;
mod origins;
mod paths;
mod sessions;
mod tokens;
pub(crate) mod unreadable;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::Request, response::IntoResponse};
use herald_runtime::http_over_nats::Caller;
use herald_testkit::{
    Service,
    http::{Raw, raw},
};
use serde_json::json;

pub(crate) use crate::limits::BOUND;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// What an engine was asked: target, headers, and by whom, as one text each.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    /// An engine that notes whatever it is asked, and says it back.
    pub(crate) fn router(&self) -> Router {
        let notes = self.clone();
        Router::new().fallback(move |request: Request| {
            let notes = notes.clone();
            async move { notes.take(request) }
        })
    }

    fn take(&self, request: Request) -> impl IntoResponse + use<> {
        let headers: Vec<_> = request.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        let caller = request.extensions().get::<Caller>().map(|caller| caller.user().to_owned());
        let note = json!({ "uri": request.uri().to_string(), "headers": headers, "caller": caller });
        self.0.lock().unwrap().push(note.to_string());
        Json(note)
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Waits until the server has taken what the client sent so far, subscriptions above all, and has sent it what there was before.
pub(crate) async fn settle(client: &async_nats::Client) {
    assert!(client.request(client.new_inbox(), "".into()).await.is_err(), "nobody listens there");
}

/// Writes a request as it is; all that comes until the connection is closed.
pub(crate) async fn exchange(edge: &Service, request: impl AsRef<[u8]>) -> String {
    raw(edge.address(), request, BOUND).await
}

/// `GET` of a path as it is, without what a client would make of it. Lines of headers end with CR LF each.
pub(crate) async fn get_raw(edge: &Service, path: &str, headers: &str) -> String {
    exchange(edge, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")).await
}

/// The status of an answer that is there as text; 0 where it is none.
pub(crate) fn status(answer: &str) -> u16 {
    crate::limits::status(answer.strip_prefix("HTTP/1.").unwrap_or_default())
}

/// Asks for a socket as it stands there; the connection, the head of the answer, and what came behind it.
pub(crate) async fn knock(edge: &Service, path: &str, headers: &str) -> (Raw, String, Vec<u8>) {
    let request = crate::limits::upgrade(path);
    let (line, rest) = request.split_once("\r\n").unwrap();
    let mut raw = Raw::connect(edge.address()).await;
    raw.write(format!("{line}\r\n{headers}{rest}")).await;
    let mut read = raw.read_until(b"\r\n\r\n", BOUND).await;
    let head = read.windows(4).position(|four| four == b"\r\n\r\n").map_or(read.len(), |at| at + 4);
    let behind = read.split_off(head);
    (raw, String::from_utf8_lossy(&read).into_owned(), behind)
}

/// What a process has in memory, in bytes. Nothing where the system does not tell.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// What a process has computed so far. Nothing where the system does not tell.
pub(crate) fn computed(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}
