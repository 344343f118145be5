//! A command from its claim to its last event.

mod burst;

use futures_util::{FutureExt, future::BoxFuture};

use herald_protocol::TraceContext;
use herald_runtime::traces::{self, Kind, Span};

use self::burst::Burst;
use super::{
    Command,
    claim::Claim,
    ending::{Ending, failed},
};
use crate::{
    game_master::{GameMaster, StreamError},
    metrics,
    publisher::PublishFailure,
};

/// Why a stream did not come to its own end: told to the session as the `detail` of its last event.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The Game Master's fault, or the way's.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The session was never started, or its Game Master was taken over.
    #[error("no game started")]
    NoGame,
    /// This bridge is being stopped.
    #[error("bridge stopped")]
    Stopped,
    /// An event that NATS does not take.
    #[error("an event is larger than NATS takes")]
    TooLarge,
    /// As much is kept of the session as may be.
    #[error("the session's quota is used up")]
    QuotaUsedUp,
}

/// Runs a claimed command, and those that waited for its end. Boxed, as it may lead to a claim, and a claim to it.
pub(super) fn drive(claim: Claim, command: Command) -> BoxFuture<'static, ()> {
    Box::pin(run(claim, command))
}

async fn run(claim: Claim, command: Command) {
    let mut next = Some((claim, command));
    // Those that waited for its end were asked for by others.
    let mut trace = traces::current();
    while let Some((mut claim, command)) = next {
        let (session, n) = (claim.session().clone(), claim.number());
        match perform(&mut claim, command, trace.take()).await {
            Ok(()) => {}
            Err(PublishFailure::Superseded) => {
                tracing::info!(%session, n, "action superseded");
                return claim.leave().await;
            }
            Err(failure) => {
                let error = &failure as &dyn std::error::Error;
                tracing::error!(%session, n, error, "action given up, its record lapses");
                return;
            }
        }
        next = match claim.finish_and_claim_next().await {
            Ok(next) => next,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%session, n, error, "end of the action not recorded");
                return;
            }
        };
    }
}

/// One action: the end of the one before, the stream, the last event. The stream is closed before that is published.
async fn perform(claim: &mut Claim, command: Command, trace: Option<TraceContext>) -> Result<(), PublishFailure> {
    let mut span = traces::follow(trace, "action", Kind::Internal);
    span.text("herald.session", claim.session());
    span.text("herald.command", command.name());
    span.number("herald.action", claim.number());
    claim.end_predecessor(Ending::Superseded).await?;
    let outcome = match stream(claim, command, &span).await {
        Ok(outcome) => outcome,
        Err(failure) => {
            span.fail(&failure);
            return Err(failure);
        }
    };
    claim.notes().closed();
    let by_itself = outcome.is_ok();
    if let Err(failure) = outcome {
        tracing::warn!(
            session = %claim.session(),
            n = claim.number(),
            error = &failure as &dyn std::error::Error,
            "stream of the game master failed"
        );
        metrics::stream_failed(failure.reason());
        span.fail(failure.reason());
        claim.fail(failed(command.kind()), &failure.to_string()).await?;
    }
    claim.shared().lease.finish(claim.session(), claim.sequence(), by_itself).await;
    Ok(())
}

/// Asks the Game Master and publishes what it says, up to its `result` or `error`.
async fn stream(claim: &mut Claim, command: Command, span: &Span) -> Result<Result<(), Failure>, PublishFailure> {
    if !has_room(claim).await? {
        return Ok(Err(Failure::QuotaUsedUp));
    }
    let gm = match game_master(claim, command).await? {
        Some(gm) => gm,
        None => return Ok(Err(Failure::NoGame)),
    };
    claim.notes().asks(gm.place());
    // Time has passed since it was claimed, perhaps in another way than it seemed to us.
    claim.surely_held().await?;
    let mut asking = span.child("gm.request", Kind::Client);
    let mut events = match interruptible(claim, gm.open(command)).await? {
        Ok(events) => events,
        Err(failure) => {
            asking.fail(failure.reason());
            return Ok(Err(failure));
        }
    };
    claim.notes().opened();
    drop(asking);
    let mut burst = Burst::of(span);
    loop {
        if let Some(end) = burst.end() {
            return Ok(end);
        }
        if burst.is_empty() {
            let next = interruptible(claim, events.next()).await?;
            burst.take(claim.shared(), next);
        } else {
            match burst.publish(claim, &mut events).await {
                Ok(()) => {}
                Err(PublishFailure::TooLarge) => return Ok(Err(Failure::TooLarge)),
                Err(PublishFailure::QuotaUsedUp) => return Ok(Err(Failure::QuotaUsedUp)),
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// Whether more may be kept of the session.
async fn has_room(claim: &mut Claim) -> Result<bool, PublishFailure> {
    let mut patience = claim.shared().patience();
    while claim.is_held() {
        match claim.has_room().await {
            Ok(has_room) => return Ok(has_room),
            Err(error) => patience.after(&error).await?,
        }
    }
    Err(PublishFailure::Superseded)
}

/// The Game Master to ask, if the session still has one.
async fn game_master(claim: &Claim, command: Command) -> Result<Option<GameMaster>, PublishFailure> {
    let shared = claim.shared();
    let mut patience = shared.patience();
    let lease = async {
        loop {
            match shared.lease.begin(claim.session(), command.kind(), claim.sequence()).await {
                Ok(gm) => return Ok(gm),
                Err(error) => patience.after(&error).await?,
            }
        }
    };
    tokio::select! {
        biased;
        () = claim.superseded() => Err(PublishFailure::Superseded),
        gm = lease => gm,
    }
}

/// Waits for the Game Master, but no longer than the action is ours and may go on.
async fn interruptible<T>(
    claim: &Claim,
    work: impl Future<Output = Result<T, StreamError>>,
) -> Result<Result<T, Failure>, PublishFailure> {
    tokio::select! {
        biased;
        () = claim.superseded() => Err(PublishFailure::Superseded),
        () = claim.shared().cut.cancelled() => Ok(Err(Failure::Stopped)),
        done = work.map(|done| done.map_err(Failure::Stream)) => Ok(done),
    }
}

impl Failure {
    const fn reason(&self) -> &'static str {
        match self {
            Self::NoGame => "no_game",
            Self::Stopped => "stopped",
            Self::TooLarge => "too_large",
            Self::QuotaUsedUp => "quota",
            Self::Stream(error) => error.reason(),
        }
    }
}
