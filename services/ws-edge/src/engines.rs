//! What engines are told of those who are connected, and tell them: where any route has something for them to hear.

use std::{sync::Arc, time::Duration};

use herald_runtime::{
    Context,
    nats::{self, Nats},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    guests::{Guests, Watcher},
    newest::Newest,
    presence::Presence,
    uplink::Uplink,
    words,
};

/// Who is connected, and the way between them and engines.
pub struct Engines {
    /// Who is connected.
    pub guests: Arc<Guests>,
    /// Where what clients say goes, if any route lets them say something.
    pub uplink: Option<Arc<Uplink>>,
    /// Who is there over all edges, if any route tells it.
    pub presence: Option<Arc<Presence>>,
    way: Option<Way>,
}

struct Way {
    /// A connection of its own: what clients send delays nothing else.
    nats: Nats,
    /// All that clients said has left.
    carried: CancellationToken,
}

impl Engines {
    /// Opens the book of guests, and the way to engines where a route needs one. It is served until `end`.
    ///
    /// # Errors
    /// Where NATS can't be used.
    pub async fn open(config: &Config, context: &Context, end: &CancellationToken) -> anyhow::Result<Self> {
        let listeners = config.listeners();
        let routes = || listeners.iter().flat_map(|listener| &listener.routes);
        let presence = Presence::of(config, &context.instance);
        let mut watchers: Vec<Box<dyn Watcher>> = Vec::new();
        if let Some(presence) = &presence {
            watchers.push(Box::new(presence.clone()));
        }
        if !routes().any(|route| route.uplink.is_some() || route.newest.is_some()) {
            let guests = Guests::new(&context.instance, watchers);
            return Ok(Self { guests, uplink: None, presence, way: None });
        }
        let nats = nats::connect(&context.common.nats, "uplink", context).await?;
        let (uplink, waiting) = Uplink::new(&nats, &context.instance, &config.uplink);
        let (newest, outbox) = Newest::new();
        watchers.push(Box::new(uplink.clone()));
        watchers.push(Box::new(newest.clone()));
        let guests = Guests::new(&context.instance, watchers);

        let carried = CancellationToken::new();
        let (carrying, done) = (uplink.clone().carry(waiting, end.clone()), carried.clone().drop_guard());
        context.supervise("uplink", async move {
            carrying.await;
            drop(done);
        });
        context.supervise("words", words::hear(nats.clone(), guests.clone(), end.clone()));
        if routes().any(|route| route.newest.is_some()) {
            context.supervise("newest", newest.run(nats.clone(), outbox, end.clone()));
        }
        Ok(Self { guests, uplink: Some(uplink), presence, way: Some(Way { nats, carried }) })
    }

    /// Closes the way, once everybody has been told that the last clients have left. `limit`: how long closing may take.
    pub async fn close(self, limit: Duration) {
        if let Some(Way { nats, carried }) = self.way {
            carried.cancelled().await;
            nats.close(limit).await;
        }
    }
}
