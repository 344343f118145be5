//! A client of any kind that comes back as it is told.

use std::time::Duration;

use herald_testkit::{sse, ws};

pub(crate) const BOUND: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    V1,
    Sse,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Plain, Kind::V1, Kind::Sse];

/// One connection.
pub(crate) enum Watch {
    Socket(ws::Client),
    Stream(sse::Client),
}

/// Where it may come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The code it was closed with; 0 for an event stream.
    pub(crate) code: u16,
    pub(crate) cursor: Option<String>,
    /// In how many milliseconds, if it was told.
    pub(crate) retry_ms: Option<u64>,
}

impl Watch {
    /// Watches session `S` at the door at `address`, behind `after`. `None`: it was refused.
    pub(crate) async fn open(address: std::net::SocketAddr, kind: Kind, after: Option<&str>) -> Option<Self> {
        Self::open_path(address, kind, "S", after).await
    }

    /// The same for another session, or with more of a query.
    pub(crate) async fn open_path(
        address: std::net::SocketAddr,
        kind: Kind,
        path: &str,
        after: Option<&str>,
    ) -> Option<Self> {
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let url = format!("ws://{address}/ws/{path}{query}");
        let protocols = match kind {
            Kind::Plain => ws::PLAIN,
            Kind::V1 => ws::V1,
            Kind::Sse => {
                // As a browser does it: the first query for ever, what it has in the header.
                let id = after.filter(|after| *after != "0");
                let query = if after.is_some() { "?after=0" } else { "" };
                let url = format!("http://{address}/sse/{path}{query}");
                return sse::Client::open(&url, id).await.ok().map(Self::Stream);
            }
        };
        let options = ws::Options { protocols, ..ws::Options::default() };
        ws::Client::open(&url, options).await.ok().map(Self::Socket)
    }

    /// Sequences of the events so far.
    pub(crate) fn seqs(&self) -> Vec<u64> {
        match self {
            Self::Socket(client) => client.events().iter().filter_map(ws::Frame::seq).collect(),
            Self::Stream(client) => client
                .events()
                .iter()
                .filter(|event| !event.event.starts_with("herald."))
                .filter_map(|event| event.json()["seq"].as_u64())
                .collect(),
        }
    }

    /// The gaps it was told of so far.
    pub(crate) fn gaps(&self) -> Vec<(u64, u64)> {
        let range = |data: &serde_json::Value| Some((data["from"].as_u64()?, data["to"].as_u64()?));
        match self {
            Self::Socket(client) => client
                .frames()
                .iter()
                .filter(|it| it.event() == "herald.gap")
                .filter_map(|it| range(it.data()))
                .collect(),
            Self::Stream(client) => client
                .events()
                .iter()
                .filter(|it| it.event == "herald.gap")
                .filter_map(|it| range(&it.json()))
                .collect(),
        }
    }

    /// Whether it has ended.
    pub(crate) fn ended(&self) -> bool {
        match self {
            Self::Socket(client) => client.ended().is_some(),
            Self::Stream(client) => client.ended(),
        }
    }

    /// Waits for that event.
    pub(crate) async fn wait_seq(&self, seq: u64) {
        match self {
            Self::Socket(client) => drop(client.wait_for("the event", BOUND, |frame| frame.seq() == Some(seq)).await),
            Self::Stream(client) => drop(client.wait_for("the event", BOUND, |event| event.json()["seq"] == seq).await),
        }
    }

    /// Waits for the first gap it is told of: by a frame, or by its close.
    pub(crate) async fn wait_gap(&self) -> Option<(u64, u64)> {
        match self {
            Self::Socket(client) if client.protocol().is_some() => {
                client.wait_for("a gap", BOUND, |frame| frame.event() == "herald.gap").await;
            }
            Self::Socket(client) => {
                let end = client.wait_end(BOUND).await;
                assert_eq!(end.code(), 4410, "{end:?}");
                return None;
            }
            Self::Stream(client) => drop(client.wait_for("a gap", BOUND, |event| event.event == "herald.gap").await),
        }
        self.gaps().first().copied()
    }

    /// Waits for the end, and says where to come back.
    pub(crate) async fn told(&self) -> Told {
        match self {
            Self::Socket(client) => {
                let end = client.wait_end(BOUND).await;
                let cursor = end.reason().split_once("after=").map(|(_, after)| after.to_owned());
                let frames = client.frames();
                let bye = frames.iter().find(|frame| frame.event() == "herald.bye");
                let retry_ms = bye.and_then(|bye| bye.data()["retry_ms"].as_u64());
                if let Some(bye) = bye {
                    assert_eq!(bye.data()["after"].as_str(), cursor.as_deref(), "both say the same");
                }
                if client.protocol().is_some() {
                    client.check_order();
                }
                Told { code: end.code(), cursor, retry_ms }
            }
            Self::Stream(client) => {
                client.wait_end(BOUND).await;
                Told { code: 0, cursor: client.last_id(), retry_ms: client.retry() }
            }
        }
    }
}
