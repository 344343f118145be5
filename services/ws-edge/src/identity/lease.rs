//! How long a connection may go on: as long as its token says, and each fresh one anew.

use std::{future::Future, pin::Pin, sync::Arc};

use herald_protocol::{Close, SessionId};
use tokio::time::Instant;

use super::{
    Claims, Refusal, Verifier,
    token::{self, Token},
};
use crate::{
    admission::{Admission, Inquiry},
    guests::Who,
};

type Renewing = Pin<Box<dyn Future<Output = Result<Arc<Claims>, Close>> + Send>>;

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
    /// Who let it in beside.
    admitted: Option<Arc<LetIn>>,
    /// Whether what it is shown, or is told to engines, depends on the role that its token says.
    by_role: bool,
    /// A fresh token that is being verified.
    renewing: Option<Renewing>,
}

/// What an engine let a connection in for.
#[derive(Debug)]
pub struct LetIn {
    /// Who was asked.
    pub admission: Arc<Admission>,
    /// What about.
    pub inquiry: Inquiry,
    /// Whether that is an alias.
    pub alias: bool,
    /// What is shown since.
    pub session: SessionId,
    /// As whom, where it matters for what is shown or told to engines.
    pub who: Option<Who>,
}

impl Lease {
    /// The lease that a token gives, and an engine, where one was asked. `by_role`: whether it matters which role the token says.
    #[must_use]
    pub fn new(verifier: Arc<Verifier>, claims: Arc<Claims>, admitted: Option<LetIn>, by_role: bool) -> Self {
        let ends = Instant::now() + verifier.left(&claims);
        Self { verifier, claims, ends, admitted: admitted.map(Arc::new), by_role, renewing: None }
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
        let (verifier, before, admitted) = (self.verifier.clone(), self.claims.clone(), self.admitted.clone());
        let by_role = self.by_role;
        self.renewing = Some(Box::pin(async move {
            let claims = fresh(&verifier, &token, &before).await.map_err(Refusal::close)?;
            match admitted {
                Some(admitted) if !claims.say_the_same(&before) => admitted.again(&claims).await?,
                // It comes back, and is shown what is for those in its new role.
                None if by_role && claims.caller.role() != before.caller.role() => {
                    return Err(Close::Restart { after: None });
                }
                _ => {}
            }
            Ok(claims)
        }));
        Heard::Token
    }

    /// Renews the lease as soon as the fresh token is verified; never, where none has come. Cancelling is safe.
    ///
    /// # Errors
    /// How the connection ends where it is not good, another user's, or allows less, or where the engine that let it in would not
    /// do so again: it would go on with what it may not have.
    pub async fn renewed(&mut self) -> Result<(), Close> {
        let Some(renewing) = &mut self.renewing else { return std::future::pending().await };
        let renewed = renewing.await;
        self.renewing = None;
        self.claims = renewed?;
        self.ends = Instant::now() + self.verifier.left(&self.claims);
        Ok(())
    }
}

impl LetIn {
    /// Asks again, for somebody who is still the same and of whom something else is true.
    async fn again(&self, claims: &Claims) -> Result<(), Close> {
        if !claims.may_ask_for(self.inquiry.session(), self.alias) {
            return Err(Refusal::Session.close());
        }
        let welcome = self.admission.decide(&self.inquiry, Some(claims)).await.map_err(|refusal| refusal.close())?;
        let session = welcome.session.as_ref().or(self.inquiry.session());
        let user = welcome.user.as_deref().or(Some(claims.caller.user()));
        let role = welcome.role.as_deref().or(claims.caller.role());
        let same = self.who.as_ref().is_none_or(|who| who.user.as_deref() == user && who.role.as_deref() == role);
        // Of another session, and as somebody else, it shows nothing by itself: it comes back, and is shown that.
        if session == Some(&self.session) && same { Ok(()) } else { Err(Close::Restart { after: None }) }
    }
}

/// What a fresh token says.
async fn fresh(verifier: &Verifier, token: &Token, before: &Claims) -> Result<Arc<Claims>, Refusal> {
    let claims = verifier.verify(token).await?;
    if claims.caller.user() != before.caller.user() {
        return Err(Refusal::OtherUser);
    }
    if !claims.caller.sessions().covers(before.caller.sessions()) {
        return Err(Refusal::Narrower);
    }
    Ok(claims)
}
