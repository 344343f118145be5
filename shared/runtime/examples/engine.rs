//! An engine: `POST /dice/roll/SESSION` rolls a die that every client of the session sees as `dice.roll`.

use std::process::ExitCode;

use axum::{Router, extract::Path, http::StatusCode, routing::post};
use herald_protocol::{Name, SessionId};
use herald_runtime::{
    Context,
    config::ServiceConfig,
    http_over_nats::{Limits, serve},
    jetstream::{Expect, StreamSpec, epoch::EpochOwner, publish},
    nats, service,
};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Config {}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "dice";
    const OPERATIONS_PORT: u16 = 9110;
}

fn main() -> ExitCode {
    service::main(start)
}

async fn start(_: Config, context: Context) -> anyhow::Result<()> {
    let nats = nats::connect(&context.common.nats, "nats", &context).await?;
    // One stream per game system: its engine creates it and keeps its epoch.
    let owner = EpochOwner::spawn(&nats, StreamSpec::new("DICE", ["dice.>"]), Vec::new());
    owner.ready().await;

    let log = nats.clone();
    let roll = async move |Path(session): Path<String>| {
        let session = SessionId::new(&session).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        let event = format!(r#"{{"face":{}}}"#, uuid::Uuid::new_v4().as_u128() % 6 + 1);
        let stored =
            publish(&log, &format!("dice.{session}.roll"), Default::default(), event.into(), Expect::default()).await;
        // Acknowledged: from here on every client of the session gets it, or is told of a gap.
        stored.map(|ack| ack.seq.to_string()).map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
    };
    let router = Router::new().route("/dice/roll/{session}", post(roll));
    let server = serve(&nats, &Name::new("dice")?, &context.instance, router, Limits::default()).await?;
    context.health.started();
    context.shutdown.begun().await;
    server.drain(context.shutdown.remaining()).await;
    Ok(())
}
