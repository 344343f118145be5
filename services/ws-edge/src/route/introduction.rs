//! A socket that came without a token, and says who it is as soon as it is open.

use std::sync::Arc;

use bytes::Bytes;
use herald_protocol::Close;
use hyper::upgrade::OnUpgrade;
use tokio::net::TcpStream;

use super::{
    Route,
    serving::{begin, farewell},
    unwatched::Unwatched,
    watch::{Admitted, Watch},
};
use crate::{
    edge::Edge,
    handshake::take_over,
    identity::{self, Identity, Unheard},
    limits::AddressTicket,
    view::Encoding,
};

impl Route {
    /// Hears from an open socket who it is, then serves it as any other.
    pub(super) async fn introduce(
        self: Arc<Self>,
        edge: Arc<Edge>,
        upgrade: OnUpgrade,
        watch: Watch,
        encoding: Encoding,
        guest: AddressTicket,
    ) {
        let mut guest = Some(guest);
        let Some((mut tcp, leftover)) = take_over(upgrade).await else { return };
        let admitted = tokio::select! {
            biased;
            () = edge.drain.called() => Err(Unheard::Close(Close::Restart { after: None })),
            admitted = self.introduced(&edge, (&mut tcp, leftover), &watch, encoding, &mut guest) => admitted,
        };
        match admitted {
            Ok((leftover, admitted)) => begin(&edge, tcp, leftover, watch.peer, admitted),
            Err(Unheard::Close(close)) => farewell(&edge, tcp, &close).await,
            Err(Unheard::Gone) => {}
        }
    }

    async fn introduced(
        &self,
        edge: &Edge,
        (tcp, leftover): (&mut TcpStream, Bytes),
        watch: &Watch,
        encoding: Encoding,
        guest: &mut Option<AddressTicket>,
    ) -> Result<(Bytes, Admitted), Unheard> {
        let not_ready = || Unheard::Close(Unwatched::NotReady.close());
        let verifier = watch.verifier.as_ref().ok_or_else(not_ready)?;
        let (token, leftover) = identity::hear(tcp, leftover, verifier, edge.per_connection.inbound_message).await?;
        let verified = verifier.verify(&token).await;
        let permit = verified.map_err(Unwatched::Refused);
        let permit = permit.and_then(|claims| self.permit(watch, Identity::Known(claims)));
        let upstream = edge.upstream().ok_or_else(not_ready)?;
        let refused = |unwatched: Unwatched| Unheard::Close(unwatched.close());
        let pass = self.pass(upstream, watch, permit.map_err(refused)?).await.map_err(refused)?;
        // From here on it counts as one that watches, or that is sent away after all.
        drop(guest.take());
        let admitted = self.admit(edge, upstream, watch, encoding, &pass);
        if admitted.is_err() {
            *guest = edge.limits.admit_guest(&watch.peer.place, watch.peer.address.ip()).ok();
        }
        Ok((leftover, admitted.map_err(refused)?))
    }
}
