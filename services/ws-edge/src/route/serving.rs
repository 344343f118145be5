//! Serving somebody who may watch, and sending others away.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use herald_protocol::Close;
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::watch::{Admitted, Watch};
use crate::{
    answer::Answer, connection, door::Peer, edge::Edge, handshake::take_over, limits::AddressTicket, metrics::Counted,
    sse, websocket,
};

/// So often a socket that is at its end is read without a pause, a KiB each time.
const LAST_READS: usize = 128;
/// Between further ones.
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// The events of a session as the body of a response.
pub(super) fn stream(edge: &Edge, watch: Watch, admitted: Admitted) -> Answer {
    let Admitted { setup, place, lease } = admitted;
    let (ends, peer) = (lease.map(|lease| lease.ends()), watch.peer);
    let (limits, drain) = (edge.per_connection.clone(), edge.drain.clone());
    let (response, feeding) = sse::respond(setup, ends, limits, edge.comment, drain, peer.abort.clone());
    edge.tasks.spawn(async move {
        let _counted = Counted::watching("sse");
        feeding.await;
        drop((place, peer));
    });
    response.map(Body::new)
}

/// Waits for the socket behind the handshake, then has it served.
pub(super) async fn serve(edge: Arc<Edge>, upgrade: OnUpgrade, peer: Peer, admitted: Admitted) {
    if let Some((tcp, leftover)) = take_over(upgrade).await {
        begin(&edge, tcp, leftover, peer, admitted);
    }
}

/// Has a socket served to its end in a task of its own, which is as small as it can be: most of them sleep for hours.
pub(super) fn begin(edge: &Edge, tcp: TcpStream, leftover: Bytes, peer: Peer, admitted: Admitted) {
    let Admitted { setup, place, lease } = admitted;
    let (counted, places) = (Counted::watching("socket"), (place, peer.place));
    let serving = connection::serve(tcp, leftover, setup, lease, edge.per_connection.clone(), edge.drain.clone());
    edge.tasks.spawn(serving.map(move |()| drop((counted, places))));
}

/// Closes a socket as soon as it is open, in a way that its client understands.
pub(super) async fn send_away(edge: Arc<Edge>, upgrade: OnUpgrade, close: Close, places: (Peer, AddressTicket)) {
    if let Some((tcp, _)) = take_over(upgrade).await {
        farewell(&edge, tcp, &close).await;
    }
    drop(places);
}

/// Closes an open socket that shows nothing yet.
pub(super) async fn farewell(edge: &Edge, mut tcp: TcpStream, close: &Close) {
    let closing = async {
        if tcp.write_all(&websocket::close_frame(close)).await.is_ok() && tcp.shutdown().await.is_ok() {
            read_to_end(&mut tcp).await;
        }
    };
    // Whoever does not answer the close is closed all the same.
    let _late = timeout(edge.per_connection.close_timeout, closing).await;
}

/// A socket dropped with unread bytes in it takes the close frame back. What was on its way is read at once, whatever else is
/// sent slowly: nobody can know that it is thrown away, and who means ill does not care.
pub(crate) async fn read_to_end(tcp: &mut TcpStream) {
    let (mut thrown_away, mut reads) = ([0; 1024], 0);
    while tcp.read(&mut thrown_away).await.is_ok_and(|read| read > 0) {
        reads += 1;
        if reads > LAST_READS {
            sleep(LAST_PAUSE).await;
        }
    }
}
