//! Taking connections, and speaking HTTP on them until they become something else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, StatusCode, Version, header::HOST};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, service_fn};

use crate::{
    answer::{self, ErrorBody},
    config::HttpConfig,
    door::{Door, Peer, Served},
    edge::Edge,
    limits::{ConnectionTicket, Limit, Refusal},
    metrics::Counted,
    proxy::{Proxies, Vouched},
};

/// How long bytes may stay unacknowledged before the kernel gives a connection up. Longer than the sockets' own limit for
/// a client that does not read, as that one can still say why.
const UNACKNOWLEDGED: Duration = Duration::from_secs(90);
/// The first and the longest pause after a connection could not be taken, mostly for want of file descriptors.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a connection that there is no place for may take to hear it.
const TURNING_AWAY: Duration = Duration::from_secs(1);

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
    /// How HTTP is spoken.
    pub http: HttpConfig,
    /// The shape of its errors.
    pub errors: ErrorBody,
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
                    // A proxy has as many as its clients; those are counted by what it says of them.
                    let from = Some(address.ip()).filter(|ip| !self.proxies.trusts(*ip));
                    let (place, lost) = match edge.limits.admit_connection(from) {
                        Ok(admitted) => admitted,
                        Err(refusal) => {
                            turn_away(&edge, tcp, &refusal, self.errors);
                            continue;
                        }
                    };
                    ::metrics::counter!("herald_connections_total", "listener" => self.name.clone()).increment(1);
                    prepare(&tcp, edge.per_connection.send_buffer);
                    let connection = self.connection(&edge, tcp, address, (place, lost), stop.clone());
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
        edge: &Arc<Edge>,
        mut tcp: TcpStream,
        address: SocketAddr,
        (place, lost): (ConnectionTicket, oneshot::Receiver<()>),
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (door, proxies, http, errors) = (self.door.clone(), self.proxies.clone(), self.http.clone(), self.errors);
        let (place, edge) = (Arc::new(place), edge.clone());
        let counted = Counted::http();
        async move {
            let _counted = counted;
            let mut lost = std::pin::pin!(place_lost(lost, &place));
            let client = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                client = proxies.client_of(&mut tcp, address) => client,
                () = &mut lost => return,
            };
            let (address, vouched) = match client {
                Ok(client) if client != address => (client, Vouched::Protocol),
                Ok(client) => (client, Vouched::Nothing),
                Err(error) => return tracing::debug!(%error, %address, "connection refused"),
            };
            // All of such a connection is its client's, unless that is a proxy too.
            if vouched == Vouched::Protocol
                && !proxies.trusts(address.ip())
                && let Err(refusal) = place.count_for(address.ip())
            {
                return turn_away(&edge, tcp, &refusal, errors);
            }
            drop(edge);
            let peer = Peer { address, vouched, abort: CancellationToken::new(), place: place.clone() };
            let abort = peer.abort.clone();
            let service =
                ServiceBuilder::new().layer(door.cors()).service(service_fn(move |mut request: Request<_>| {
                    let (door, mut peer) = (door.clone(), peer.clone());
                    peer.place.open();
                    let (client, vouched) = proxies.client_of_request(request.headers_mut(), address);
                    peer.address = client;
                    if vouched != Vouched::Nothing {
                        peer.vouched = vouched;
                    }
                    async move {
                        let answer = if !is_for_one_host(&request) {
                            answer::closing(StatusCode::BAD_REQUEST, "Host: expected once")
                        } else if !door.is_asked_by_name(&request) {
                            answer::closing(StatusCode::MISDIRECTED_REQUEST, "Host: nothing of that name is here")
                        } else {
                            door.answer(request, peer).await
                        };
                        Served::Ok(answer::taken_at_its_word(door.shape(answer)))
                    }
                }));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(http.header_timeout.get())
                .max_headers(http.max_headers)
                // The buffer may hold almost twice as much before it is full.
                .max_header_size(http.max_header.as_usize())
                .max_buf_size(http.max_header.as_usize())
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(service))
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                biased;
                () = abort.cancelled() => return,
                ended = connection.as_mut() => ended,
                // Behind the connection, which so has read all that is there: whoever has asked for something stays.
                () = lost => return,
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
                if let Some(reason) = unread(&error) {
                    ::metrics::counter!("herald_requests_refused_total", "reason" => reason).increment(1);
                }
                tracing::debug!(%error, %address, "connection broke off");
            }
        }
    }
}

/// Waits until the place goes to another connection, because nothing was asked for on this one.
async fn place_lost(lost: oneshot::Receiver<()>, place: &ConnectionTicket) {
    if lost.await.is_err() || place.is_open() {
        return std::future::pending().await;
    }
    ::metrics::counter!("herald_connections_refused_total", "reason" => "half_open").increment(1);
}

/// Whether a request names one host, as HTTP/1.1 asks for (RFC 9112, section 3.2): who is in between may have decided by another
/// one that it may pass.
fn is_for_one_host<B>(request: &Request<B>) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    hosts == 1 || hosts == 0 && request.version() < Version::HTTP_11
}

/// Why the head of a request could not be read, if it is that.
fn unread(error: &hyper::Error) -> Option<&'static str> {
    match error {
        error if error.is_timeout() => Some("head_slow"),
        error if error.is_parse_too_large() => Some("head_too_large"),
        error if error.is_parse() => Some("head_malformed"),
        _ => None,
    }
}

/// Tells a connection that there is no place for it, as far as there is time for that: some at once, for a moment each.
/// Where all places are taken, none is left for that either.
fn turn_away(edge: &Edge, mut tcp: TcpStream, refusal: &Refusal, errors: ErrorBody) {
    let Ok(turn) = edge.turned_away.clone().try_acquire_owned() else { return };
    if refusal.limit == Limit::Connections {
        return;
    }
    let text = refusal.raw(errors);
    edge.tasks.spawn(async move {
        let said = async {
            tcp.write_all(text.as_bytes()).await?;
            tcp.shutdown().await?;
            // A connection dropped with unread bytes in it takes back what was said.
            let mut thrown_away = [0; 1024];
            while tcp.read(&mut thrown_away).await? > 0 {}
            io::Result::Ok(())
        };
        let _late = timeout(TURNING_AWAY, said).await;
        drop(turn);
    });
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
