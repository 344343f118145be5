//! How long a connection may go on: as long as its token says, and each fresh one anew.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::time::Instant;

use super::{
    Claims, Refusal, Verifier,
    token::{self, Token},
};

type Renewing = Pin<Box<dyn Future<Output = Result<Arc<Claims>, Refusal>> + Send>>;

/// What a client has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A fresh token, which is looked at from now on.
    Token,
    /// A fresh token while another one still is.
    TooMany,
    /// Something else.
    Else,
}

/// What a connection was let in by.
pub struct Lease {
    verifier: Arc<Verifier>,
    claims: Arc<Claims>,
    ends: Instant,
    /// A fresh token that is being verified.
    renewing: Option<Renewing>,
}

impl Lease {
    /// The lease that a token gives.
    #[must_use]
    pub fn new(verifier: Arc<Verifier>, claims: Arc<Claims>) -> Self {
        let ends = Instant::now() + verifier.left(&claims);
        Self { verifier, claims, ends, renewing: None }
    }

    /// When the connection ends, unless the lease is renewed.
    #[must_use]
    pub const fn ends(&self) -> Instant {
        self.ends
    }

    /// A text frame of the client.
    #[must_use]
    pub fn hear(&mut self, text: &[u8]) -> Heard {
        let Some(token) = token::in_frame(text) else { return Heard::Else };
        if self.renewing.is_some() {
            return Heard::TooMany;
        }
        self.renewing = Some(verified(self.verifier.clone(), token));
        Heard::Token
    }

    /// Renews the lease as soon as the fresh token is verified; never, where none has come. Cancelling is safe.
    ///
    /// # Errors
    /// Where it is not good, another user's, or allows less: the connection would go on with what it may not have.
    pub async fn renewed(&mut self) -> Result<(), Refusal> {
        let Some(renewing) = &mut self.renewing else { return std::future::pending().await };
        let verified = renewing.await;
        self.renewing = None;
        let claims = verified?;
        if claims.caller.user() != self.claims.caller.user() {
            return Err(Refusal::OtherUser);
        }
        if !claims.caller.sessions().covers(self.claims.caller.sessions()) {
            return Err(Refusal::Narrower);
        }
        self.ends = Instant::now() + self.verifier.left(&claims);
        self.claims = claims;
        Ok(())
    }
}

fn verified(verifier: Arc<Verifier>, token: Token) -> Renewing {
    Box::pin(async move { verifier.verify(&token).await })
}
