//! Is a token good, and what does it say?

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use herald_protocol::Grant;
use herald_runtime::{Context, http_over_nats::Caller};
use http::request::Parts;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Claims, Identity, Refusal, crypto,
    keys::{self, Keys, Reader},
    token::{self, MAX_TOKEN, Token},
};
use crate::config::JwtConfig;

/// A time no token outlives.
const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Verifies tokens, as the configuration says.
pub struct Verifier {
    secret: Option<DecodingKey>,
    keys: Option<Keys>,
    validation: Validation,
    config: JwtConfig,
}

/// Tokens that can't be verified as the configuration wants it.
#[derive(Debug, thiserror::Error)]
#[error("the keys of tokens can't be asked for")]
pub struct InvalidJwt(#[from] reqwest::Error);

impl Verifier {
    /// A verifier. Where it has a JWKS, that is read for as long as `end` is not cancelled; until then it lets nobody in.
    ///
    /// # Errors
    /// Where the system has nothing to ask for keys with.
    pub fn start(config: &JwtConfig, context: &Context, end: CancellationToken) -> Result<Arc<Self>, InvalidJwt> {
        let (verifier, reader) = Self::new(config)?;
        if let Some(host) = config.jwks.as_deref().and_then(keys::open_host) {
            tracing::warn!(
                host,
                "the keys of tokens come over plain HTTP: whoever can change them on their way can let anybody in"
            );
        }
        if let Some(reader) = reader {
            let condition = context.health.condition("token keys");
            context.supervise("token keys", async move {
                end.run_until_cancelled(reader.run(condition)).await;
            });
        }
        Ok(verifier)
    }

    fn new(config: &JwtConfig) -> Result<(Arc<Self>, Option<Reader>), InvalidJwt> {
        crypto::install();
        let secret = Some(config.secret.expose()).filter(|secret| !secret.is_empty());
        let (keys, reader) = config.jwks.as_deref().map(|place| Keys::new(place, config)).transpose()?.unzip();
        let mut required = vec!["exp"];
        let mut validation = Validation::default();
        let set = |list: &[String]| (!list.is_empty()).then(|| list.iter().cloned().collect::<HashSet<_>>());
        // A token that names an audience is for that audience, also where we have no name ourselves (RFC 7519, 4.1.3).
        (validation.iss, validation.aud) = (set(&config.issuers), set(&config.audiences));
        required.extend(validation.iss.as_ref().map(|_| "iss"));
        required.extend(validation.aud.as_ref().map(|_| "aud"));
        validation.set_required_spec_claims(&required);
        validation.validate_nbf = true;
        validation.leeway = config.leeway.get().as_secs();
        let secret = secret.map(|secret| DecodingKey::from_secret(secret.as_bytes()));
        Ok((Arc::new(Self { secret, keys, validation, config: config.clone() }), reader))
    }

    /// The token of a request.
    ///
    /// # Errors
    /// [`Refusal::Missing`], [`Refusal::Several`].
    pub fn find(&self, head: &Parts) -> Result<Token, Refusal> {
        token::find(head, self.config.query)?.ok_or(Refusal::Missing)
    }

    /// Whether a token may stand in the query.
    #[must_use]
    pub fn reads_query(&self) -> bool {
        self.config.query
    }

    /// Whether a token says that somebody is an operator.
    #[must_use]
    pub fn is_operator(&self, who: &Identity) -> bool {
        who.role().is_some_and(|role| role == self.config.operator_role)
    }

    /// Takes the token out of a request that goes on.
    pub fn strip(&self, head: &mut Parts) {
        token::strip(head, self.config.query);
    }

    /// How long a socket that came without a token may take to bring one.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.config.wait.get()
    }

    /// How long a connection with that token may go on from now, unless it is renewed.
    #[must_use]
    pub fn left(&self, claims: &Claims) -> Duration {
        // Who is let in by the leeway is not thrown out before it is over.
        let end = claims.expires + self.config.grace.get().max(self.config.leeway.get());
        end.duration_since(SystemTime::now()).unwrap_or_default().min(FAR)
    }

    /// What a token says, if it is good. Waits where its key has to be asked for. Cancelling is safe.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn verify(&self, token: &Token) -> Result<Arc<Claims>, Refusal> {
        let text = token.expose();
        if text.len() > MAX_TOKEN {
            return Err(Refusal::Malformed);
        }
        // `none` is no algorithm: such a token is malformed.
        let header = decode_header(text).map_err(|_| Refusal::Malformed)?;
        if header.crit.is_some() {
            // Something has to be understood that nobody here does (RFC 7515, 4.1.11).
            return Err(Refusal::Malformed);
        }
        // By the algorithm it is known which kind of key it must be: a secret is never compared with a public key.
        let key = match (header.alg, &self.secret, &self.keys) {
            (Algorithm::HS256, Some(secret), _) => secret.clone(),
            (Algorithm::RS256 | Algorithm::ES256, _, Some(keys)) => {
                keys.find(header.kid.as_deref(), header.alg).await?
            }
            _ => return Err(Refusal::Algorithm),
        };
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let decoded = decode::<Value>(text, &key, &validation).map_err(|error| refusal(&error))?;
        let claims = self.read(&decoded.claims).ok_or(Refusal::Claims)?;
        // The library counts whole seconds.
        if claims.expires + self.config.leeway.get() <= SystemTime::now() {
            return Err(Refusal::Expired);
        }
        Ok(Arc::new(claims))
    }

    fn read(&self, claims: &Value) -> Option<Claims> {
        // One that is no text is none to the library, and nobody's to us.
        if self.validation.aud.is_none() && !claims["aud"].is_null() {
            return None;
        }
        let user = self.claim(claims, &self.config.user_claim).as_str()?;
        let role = match self.claim(claims, &self.config.role_claim) {
            Value::Null => None,
            role => Some(role.as_str()?),
        };
        let sessions = self.claim(claims, &self.config.sessions_claim);
        let names_sessions = !sessions.is_null();
        let sessions = match sessions {
            Value::Null => Grant::of([]),
            Value::String(one) => Grant::of([one.as_str()]),
            Value::Array(several) => Grant::of(several.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?),
            _ => return None,
        };
        // Times may have fractions.
        let expires = Duration::try_from_secs_f64(claims["exp"].as_f64()?).ok()?.min(FAR);
        let caller = Caller::new(user, role, sessions.ok()?).ok()?;
        let further = self.config.admission_claims.iter().filter_map(|name| {
            let value = self.claim(claims, name);
            (!value.is_null()).then(|| (name.clone(), value.clone()))
        });
        Some(Claims { caller, expires: SystemTime::UNIX_EPOCH + expires, names_sessions, further: further.collect() })
    }

    /// A claim by its name, or by a JSON pointer where it stands deeper.
    fn claim<'a>(&self, claims: &'a Value, name: &str) -> &'a Value {
        if name.starts_with('/') { claims.pointer(name).unwrap_or(&Value::Null) } else { &claims[name] }
    }
}

fn refusal(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::Early,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "iss" => Refusal::Issuer,
            "aud" => Refusal::Audience,
            _ => Refusal::Expired,
        },
        ErrorKind::InvalidClaimFormat(_) => Refusal::Claims,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        ErrorKind::InvalidSignature => Refusal::Signature,
        _ => Refusal::Malformed,
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
