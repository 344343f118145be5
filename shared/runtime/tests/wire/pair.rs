//! A service and a client, over a real server.

use std::time::Duration;

use ::http::{Request, Response};
use axum::{Router, body::Body};
use bytes::Bytes;
use herald_protocol::{InstanceId, Name};
use herald_runtime::{
    http_over_nats::{Client, ForwardError, Limits, RequestMeta, ServerHandle, serve},
    nats::Nats,
};
use herald_testkit::Nats as Server;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::connection::connect;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn gm() -> Name {
    Name::new("gm").unwrap()
}

pub(crate) fn meta() -> RequestMeta {
    RequestMeta {
        door: Name::new("app").unwrap(),
        timeout: Duration::from_secs(10),
        max_body: u64::MAX,
        confirm: false,
    }
}

pub(crate) async fn serve_on(nats: &Nats, router: Router, limits: Limits) -> ServerHandle {
    let handle = serve(nats, &gm(), &InstanceId::new("one").unwrap(), router, limits).await.unwrap();
    nats.client().flush().await.unwrap();
    handle
}

/// A server, a service on a connection of its own, a client on another.
pub(crate) struct Pair {
    pub(crate) server: Server,
    pub(crate) service: Nats,
    pub(crate) client: Client,
    pub(crate) handle: ServerHandle,
}

impl Pair {
    pub(crate) async fn new(router: Router) -> Self {
        Self::with(router, Limits::default(), Limits::default()).await
    }

    pub(crate) async fn with(router: Router, serving: Limits, asking: Limits) -> Self {
        let server = Server::start().await;
        let service = connect(&server).await;
        let client = Client::new(&connect(&server).await, asking).await.unwrap();
        let handle = serve_on(&service, router, serving).await;
        // The subscription must be known before the first request.
        service.client().request("$SRV.PING.gm.one", Bytes::new()).await.unwrap();
        Self { server, service, client, handle }
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, ForwardError> {
        self.client.request(&gm(), request, &meta()).await
    }

    pub(crate) async fn get(&self, uri: &str) -> Result<Response<Body>, ForwardError> {
        self.ask(Request::get(uri).body(Body::empty()).unwrap()).await
    }
}

pub(crate) async fn bytes(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

pub(crate) async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&bytes(response).await).unwrap()
}

/// Bytes that show where they stand.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at / 251 + at) % 256).unwrap()).collect()
}
