//! The smallest service: what `main.rs`, `config.rs` and `lib.rs` of a real one hold, in one file. The tests of `service` run it.
//!
//! ```sh
//! cargo run -p herald-runtime --example minimal -- --print-config
//! ```

use std::{net::SocketAddr, process::ExitCode};

use herald_runtime::{
    Context,
    config::{Fault, HumanDuration, ServiceConfig},
    nats, service,
};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    service::main(start)
}

/// The service's own keys: here those of `[sim]`, as this is no service that a file would have a section for.
#[derive(Debug, Serialize, Deserialize)]
struct Config {
    /// Where it listens. Default `127.0.0.1:0`.
    address: SocketAddr,
    /// How long its work in flight takes to end. Default none.
    drain: HumanDuration,
    /// What to do wrong, for tests. Default nothing.
    mischief: Mischief,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mischief {
    None,
    /// A task panics.
    Panic,
    /// The runtime's threads are blocked for good when the shutdown begins.
    Block,
    /// `start` fails.
    Fail,
    /// A task never ends.
    Linger,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            drain: HumanDuration::from_secs(0),
            mischief: Mischief::None,
        }
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "sim";
    const OPERATIONS_PORT: u16 = 9199;

    fn validate(&self) -> Vec<Fault> {
        if self.drain > HumanDuration::from_secs(3600) {
            return vec![Fault::new("drain", "must not be longer than 1h")];
        }
        Vec::new()
    }
}

async fn start(config: Config, context: Context) -> anyhow::Result<()> {
    let nats = nats::connect(&context.common.nats, "nats", &context).await?;
    nats.require_jetstream(&context).await?;
    let _listener = context.listen("public", config.address).await?;
    match config.mischief {
        Mischief::Panic => context.supervise("mischief", async { panic!("as told") }),
        Mischief::Linger => context.supervise("mischief", std::future::pending()),
        Mischief::Fail => anyhow::bail!("as told"),
        Mischief::None | Mischief::Block => {}
    }
    context.health.started();

    context.shutdown.begun().await;
    if config.mischief == Mischief::Block {
        loop {
            std::thread::park();
        }
    }
    tokio::time::sleep(config.drain.get()).await;
    nats.close(context.shutdown.remaining()).await;
    Ok(())
}
