//! The skeleton of every service: `main` in one call.

use std::{io::Write as _, process::ExitCode, sync::mpsc, time::Duration};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    Context,
    config::{Faults, Loaded, ServiceConfig, Sources, load},
    metrics::{self, Metrics},
    operations, telemetry, traces,
};

/// The exit code of a bad configuration or command line (`EX_USAGE` of sysexits).
const BAD_CONFIGURATION: u8 = 64;
/// What is left of the shutdown's time for the runtime itself to end.
const RUNTIME_END: Duration = Duration::from_millis(500);

#[derive(Debug, Parser)]
struct Arguments {
    /// The configuration file [default: herald.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "HERALD_CONFIG", global = true)]
    config: Option<std::path::PathBuf>,
    /// Set one value, over file and environment: nats.url=nats://host:4222
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
    /// Print the configuration, with where each value comes from, and exit
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the running service whether it is ready; exit 0 if so, else 1
    Healthcheck,
}

/// The whole life of a service's process. `start` gets the configuration and a [`Context`], opens what the service needs,
/// calls `context.health.started()`, runs until `context.shutdown` begins, drains, and returns. Exit codes: 0 a clean end, 1
/// a failed start or end, or one that took too long, 64 a bad configuration or command line.
pub fn main<C: ServiceConfig>(start: impl AsyncFnOnce(C, Context) -> anyhow::Result<()>) -> ExitCode {
    let command = Arguments::command().name(C::SERVICE).version(env!("CARGO_PKG_VERSION"));
    let arguments = match command.try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no faults. A closed pipe is nobody to tell.
            let _told = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_CONFIGURATION) } else { ExitCode::SUCCESS };
        }
    };
    let sources = Sources::of_process(arguments.config, arguments.set);
    let loaded = match load::<C>(&sources) {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(C::SERVICE, &faults),
    };
    if arguments.print_config {
        let _told = std::io::stdout().write_all(loaded.print().as_bytes());
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(C::SERVICE, &anyhow::Error::new(error).context("no runtime")),
    };
    let result = match arguments.command {
        Some(Command::Healthcheck) => {
            let address = loaded.common.operations_address();
            runtime.block_on(operations::check(address)).map_err(anyhow::Error::new)
        }
        None => runtime.block_on(run(loaded, start)),
    };
    runtime.shutdown_timeout(RUNTIME_END);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(C::SERVICE, &error),
    }
}

async fn run<C: ServiceConfig>(
    loaded: Loaded<C>,
    start: impl AsyncFnOnce(C, Context) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Loaded { common, service, .. } = loaded;
    telemetry::init(&common.log).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let metrics = Metrics::install()?;
    let context = Context::new(C::SERVICE, common);
    metrics::describe(C::SERVICE, context.instance.as_str());
    let (health, ready) = (context.health.clone(), ::metrics::gauge!("herald_ready"));
    metrics::at_scrape(move || {
        ready.set(if health.ready() { 1.0 } else { 0.0 });
        true
    });
    tracing::info!(service = C::SERVICE, instance = %context.instance, version = env!("CARGO_PKG_VERSION"), "starting");
    // Before anything can be waited for: a signal during the start ends it.
    let signals = Signals::new()?;
    let end = signals.watch(context.clone());

    let traces = traces::start(&context).map_err(anyhow::Error::new)?;
    let listener = context.listen_operations().await?;
    let operations = operations::serve(listener, context.health.clone(), metrics.clone(), context.inspector());
    let upkeep = upkeep(metrics);
    let life = async {
        let mut result = start(service, context.clone()).await;
        if let Err(error) = &result
            && context.shutdown.has_begun()
            && context.failure().is_none()
            && !context.health.has_started()
        {
            // Told to end while it was starting: what it was waiting for broke off, and nothing is lost.
            tracing::info!(error = format!("{error:#}"), "start broken off by the shutdown");
            result = Ok(());
        }
        // Whatever made it return, its tasks are told to end, and waited for.
        context.health.stopping();
        context.shutdown.begin();
        let in_time = tokio::time::timeout(context.shutdown.remaining(), context.finish()).await;
        if let Some(traces) = traces {
            traces.finish(context.shutdown.remaining()).await;
        }
        match (result, context.failure()) {
            // The first failure is the cause of what `start` said then.
            (_, Some(reason)) => Err(anyhow::anyhow!("{reason}")),
            (Err(error), None) => Err(error),
            (Ok(()), None) if in_time.is_err() => Err(anyhow::anyhow!("tasks did not end in time")),
            (Ok(()), None) => Ok(()),
        }
    };
    let result = tokio::select! {
        result = life => result,
        never = operations => match never {},
        never = upkeep => match never {},
    };
    end.abort();
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

async fn upkeep(metrics: Metrics) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(metrics::UPKEEP).await;
        metrics.upkeep();
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The first signal begins the shutdown, the second ends the process; so does the end of the shutdown's time.
    fn watch(mut self, context: Context) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            let begun = tokio::select! {
                name = self.next() => Some(name),
                () = context.shutdown.begun() => None,
            };
            let limit = context.shutdown.remaining();
            tracing::info!(signal = begun, ?limit, "shutting down");
            context.health.stopping();
            context.shutdown.begin();
            force_exit_after(limit);
            let name = self.next().await;
            tracing::error!(signal = name, "second signal, ended by force");
            std::process::exit(1);
        })
    }
}

/// On a thread of its own: it has to work when the runtime hangs.
fn force_exit_after(limit: Duration) {
    let watchdog = move || {
        // Nothing is ever sent: a wait with an end.
        let (_keep, never) = mpsc::channel::<()>();
        let _timeout = never.recv_timeout(limit);
        tracing::error!(?limit, "shutdown took too long, ended by force");
        std::process::exit(1);
    };
    if let Err(error) = std::thread::Builder::new().name("shutdown".to_owned()).spawn(watchdog) {
        tracing::error!(%error, "no watchdog for the shutdown");
    }
}

fn refuse(service: &str, faults: &Faults) -> ExitCode {
    let _told = writeln!(std::io::stderr(), "{service}: {faults}");
    ExitCode::from(BAD_CONFIGURATION)
}

/// One sentence for people, whatever the form of the log.
fn fail(service: &str, error: &anyhow::Error) -> ExitCode {
    tracing::error!(error = format!("{error:#}"), "failed");
    let _told = writeln!(std::io::stderr(), "{service}: {error:#}");
    ExitCode::FAILURE
}
