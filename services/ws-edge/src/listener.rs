//! Taking connections, and speaking HTTP on them until they become something else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, service_fn};

use crate::{
    config::HttpConfig,
    door::{Door, Peer, Served},
    edge::Edge,
    metrics::Counted,
    proxy::{Proxies, Vouched},
};

/// How long bytes may stay unacknowledged before the kernel gives a connection up. Longer than the sockets' own limit for
/// a client that does not read, as that one can still say why.
const UNACKNOWLEDGED: Duration = Duration::from_secs(90);
/// The first and the longest pause after a connection could not be taken, mostly for want of file descriptors.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// One address, taking connections.
pub struct Listener {
    /// Its name, for metrics.
    pub name: String,
    /// Where they come in.
    pub tcp: TcpListener,
    /// Where they go.
    pub door: Arc<Door>,
    /// Who speaks for others.
    pub proxies: Arc<Proxies>,
    /// Room for connections, shared by all listeners.
    pub places: Arc<Semaphore>,
    /// How HTTP is spoken.
    pub http: HttpConfig,
}

impl Listener {
    /// Takes connections until `stop`, and serves each in a task of `edge`.
    pub async fn run(self, edge: Arc<Edge>, stop: CancellationToken) {
        let mut pause = PAUSE.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => {
                    pause = PAUSE.0;
                    let Ok(place) = self.places.clone().try_acquire_owned() else {
                        ::metrics::counter!("herald_connections_refused_total", "reason" => "too_many").increment(1);
                        continue;
                    };
                    ::metrics::counter!("herald_connections_total", "listener" => self.name.clone()).increment(1);
                    prepare(&tcp, edge.limits.send_buffer);
                    let connection = self.connection(tcp, address, place, stop.clone());
                    edge.tasks.spawn(connection);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    ::metrics::counter!("herald_connections_refused_total", "reason" => "accept").increment(1);
                    tracing::warn!(%error, listener = self.name, "connection not taken");
                    // Without a pause, what is wrong is wrong again at once, on a whole core.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                    }
                }
            }
        }
    }

    fn connection(
        &self,
        mut tcp: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (door, proxies, http) = (self.door.clone(), self.proxies.clone(), self.http.clone());
        let counted = Counted::http();
        async move {
            let _counted = counted;
            let client = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                client = proxies.client_of(&mut tcp, address) => client,
            };
            let (address, vouched) = match client {
                Ok(client) if client != address => (client, Vouched::Protocol),
                Ok(client) => (client, Vouched::Nothing),
                Err(error) => return tracing::debug!(%error, %address, "connection refused"),
            };
            let peer = Peer { address, vouched, abort: CancellationToken::new(), place: Arc::new(place) };
            let abort = peer.abort.clone();
            let service =
                ServiceBuilder::new().layer(door.cors()).service(service_fn(move |mut request: Request<_>| {
                    let (door, mut peer) = (door.clone(), peer.clone());
                    let (client, vouched) = proxies.client_of_request(request.headers_mut(), address);
                    peer.address = client;
                    if vouched != Vouched::Nothing {
                        peer.vouched = vouched;
                    }
                    async move { Served::Ok(door.answer(request, peer).await) }
                }));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(http.header_timeout.get())
                .max_headers(http.max_headers)
                .max_buf_size(http.max_header.as_usize())
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(service))
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                biased;
                () = abort.cancelled() => return,
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        biased;
                        () = abort.cancelled() => return,
                        ended = connection => ended,
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, %address, "connection broke off");
            }
        }
    }
}

/// Nothing waits for more to send, a peer that is gone does not stay for ever, and one that does not read does not fill the
/// kernel: left to itself, the buffer of each grows to megabytes.
fn prepare(tcp: &TcpStream, send_buffer: usize) {
    let options = tcp.set_nodelay(true).and_then(|()| SockRef::from(tcp).set_send_buffer_size(send_buffer));
    #[cfg(target_os = "linux")]
    let options = options.and_then(|()| SockRef::from(tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED)));
    if let Err(error) = options {
        tracing::debug!(%error, "socket options not set");
    }
}

/// Whether the client, and not this machine, is why a connection could not be taken.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Waits for all connections of `edge` to end, and aborts nothing: each has its own limits. False if they did not in time.
pub async fn finish(edge: &Edge, until: Instant) -> bool {
    edge.tasks.close();
    timeout(until.saturating_duration_since(Instant::now()), edge.tasks.wait()).await.is_ok()
}
