//! A real nats-server of its own for each test.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
};

use crate::{eventually, folder::Folder, port::Reserved, process::Process, users, wait::until};

/// How long a server may take to start: its JetStream may have to recover a store.
const START: Duration = Duration::from_secs(20);

/// What a test may want of its server, beyond what the configuration says that we ship.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// Which file of `nats/` it runs on, or another one. Default `local.conf`: users with their rights, an arena engine
    /// without a name.
    pub config: PathBuf,
    /// Whether the test is about somebody who is refused something. Else that is a failure: rights are enough for all that
    /// our services do. Default no.
    pub refuses: bool,
    /// Whether it has JetStream. Default yes.
    pub jetstream: bool,
    /// Its `max_payload`, where it is not that of the file.
    pub max_payload: Option<&'static str>,
    /// More lines for its configuration; what they set replaces what the file sets.
    pub more: String,
    /// More arguments.
    pub arguments: Vec<String>,
    /// Where it keeps its configuration, log and store, beyond its end. Default: a temporary folder.
    pub folder: Option<PathBuf>,
}

impl Default for NatsOptions {
    fn default() -> Self {
        let (more, arguments) = (String::new(), Vec::new());
        Self {
            config: "local.conf".into(),
            refuses: false,
            jetstream: true,
            max_payload: None,
            more,
            arguments,
            folder: None,
        }
    }
}

/// A nats-server on loopback with a port and a store of its own, which it keeps when it is stopped and started again.
#[derive(Debug)]
pub struct Nats {
    // The order is that of the drops: the process before its folder and its port.
    process: Option<Process>,
    options: NatsOptions,
    folder: Folder,
    port: Reserved,
}

impl Nats {
    /// A running server with JetStream.
    pub async fn start() -> Self {
        Self::start_with(NatsOptions::default()).await
    }

    /// A running server.
    ///
    /// # Panics
    /// If it can't be started.
    pub async fn start_with(options: NatsOptions) -> Self {
        let mut nats = Self::reserve(options);
        nats.resume().await;
        nats
    }

    /// A server that is not started yet ([`Nats::resume`] does), with its address already known.
    #[must_use]
    pub fn reserve(options: NatsOptions) -> Self {
        let folder = Folder::new("nats", options.folder.clone());
        Self { process: None, options, folder, port: Reserved::take() }
    }

    /// Its URL as the `operator` has it, who may do everything.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_as(users::OPERATOR)
    }

    /// Its URL as that user has it.
    #[must_use]
    pub fn url_as(&self, user: &str) -> String {
        users::url_as(user, &self.url_of_nobody())
    }

    /// `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn url_of_nobody(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where it listens, or will.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its options, for the next start.
    pub fn options(&mut self) -> &mut NatsOptions {
        &mut self.options
    }

    /// A plain client of its own, as `operator`.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn client(&self) -> async_nats::Client {
        users::connect(&self.url()).await.expect("the nats-server answers")
    }

    /// JetStream, over a client of its own.
    pub async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.client().await)
    }

    /// Its process, for signals; `None` while it is stopped.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Starts it (again), on the same port and store, and waits until it answers.
    ///
    /// # Panics
    /// If it is running, or does not start.
    pub async fn resume(&mut self) {
        assert!(!self.running(), "the nats-server is already running");
        let mut command = std::process::Command::new(binary());
        let address = self.address();
        command.arg("--config").arg(self.configuration()).arg("--store_dir").arg(self.store());
        command.args(["--addr", &address.ip().to_string(), "--port", &address.port().to_string()]);
        command.args(&self.options.arguments).envs(users::environment());
        let mut process = Process::spawn("nats-server", command, &self.folder.path().join("log"));
        eventually("nats-server answers", START, async || {
            assert!(process.running(), "nats-server has ended:\n{}", process.log());
            greeting(address).await
        })
        .await;
        self.process = Some(process);
    }

    /// Waits until its JetStream answers.
    ///
    /// # Errors
    /// In words, if it does not within `bound`.
    pub async fn answers_within(&self, bound: Duration) -> Result<(), String> {
        until(bound, Duration::from_millis(20), async || {
            let client = users::connect(&self.url()).await.map_err(|error| error.to_string())?;
            let account = async_nats::jetstream::new(client).query_account().await;
            account.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.take().terminate(Duration::from_secs(20)).await
    }

    /// Ends it at once (SIGKILL).
    pub async fn kill(&mut self) {
        self.take().kill().await;
    }

    /// Whether it is running.
    pub fn running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::running)
    }

    /// Halts it (SIGSTOP): connections stay open and nothing answers.
    pub async fn freeze(&mut self) {
        self.process.as_mut().expect("a running server").freeze().await;
    }

    /// Lets it go on after [`Nats::freeze`].
    pub fn thaw(&mut self) {
        self.process.as_mut().expect("a running server").thaw();
    }

    /// Where its streams are kept. Remove or copy it while the server is stopped, to lose or roll back everything.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("a running server").id()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn take(&mut self) -> Process {
        self.process.take().expect("a running server")
    }

    /// The file that we ship; where a test wants something else too, one that includes it.
    fn configuration(&self) -> PathBuf {
        let NatsOptions { config, jetstream, max_payload, more, .. } = &self.options;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nats").join(config);
        let shipped = shipped.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", shipped.display()));
        let payload = max_payload.map(|size| format!("max_payload: {size}\n")).unwrap_or_default();
        let own = format!("{payload}{}{more}\n", if *jetstream { "" } else { "jetstream: false\n" });
        if own.trim().is_empty() {
            return shipped;
        }
        // An included file is named from the folder of the one that includes it, always.
        let folder = self.folder.path().canonicalize().expect("a folder");
        let up = "../".repeat(folder.components().count() - 1);
        let included = shipped.strip_prefix("/").expect("an absolute path").display();
        let file = folder.join("nats.conf");
        std::fs::write(&file, format!("include \"{up}{included}\"\n{own}")).expect("a configuration file");
        file
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let log = self.log();
        let refusals = users::refusals(&log);
        if !self.options.refuses && !refusals.is_empty() && !std::thread::panicking() {
            panic!("somebody lacks a right in nats/users.conf:\n{}", refusals.join("\n"));
        }
    }
}

/// The server's first line, once it takes connections.
async fn greeting(address: SocketAddr) -> Result<String, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.map_err(|error| error.to_string())?;
    if line.starts_with("INFO ") { Ok(line) } else { Err(format!("greeted with {line:?}")) }
}

/// `HERALD_NATS_SERVER`, the one that the scripts brought, or that of the `PATH`.
fn binary() -> PathBuf {
    let variable = |name: &str| std::env::vars_os().find(|(variable, _)| variable == name).map(|(_, value)| value);
    let told = variable("HERALD_NATS_SERVER").map(PathBuf::from);
    let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.herald/bin/nats-server");
    let path = variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    let found = told.into_iter().chain([brought]).chain(on_path).find(|path| path.is_file());
    found.expect("nats-server: set HERALD_NATS_SERVER, or put it on the PATH; ./scripts/test brings one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::within;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_stopped_server_comes_back_with_its_port_and_streams() {
        within(LIMIT, async {
            let mut nats = Nats::start().await;
            let url = nats.url();
            let config = async_nats::jetstream::stream::Config { name: "KEPT".to_owned(), ..Default::default() };
            nats.jetstream().await.create_stream(config).await.expect("created");

            assert!(nats.stop().await.code().is_some(), "ended in order");
            assert!(!nats.running());
            assert!(TcpStream::connect(nats.address()).await.is_err(), "nobody listens");
            nats.resume().await;
            assert_eq!(nats.url(), url);
            nats.jetstream().await.get_stream("KEPT").await.expect("kept");

            nats.kill().await;
            std::fs::remove_dir_all(nats.store()).expect("removed");
            nats.resume().await;
            nats.jetstream().await.get_stream("KEPT").await.expect_err("lost with the store");
        })
        .await;
    }

    #[tokio::test]
    async fn servers_do_not_meet() {
        within(LIMIT, async {
            let (one, two) = tokio::join!(Nats::start(), Nats::start());
            assert_ne!(one.url(), two.url());
            assert_eq!(one.client().await.max_payload(), 8 * 1024 * 1024);
        })
        .await;
    }

    #[tokio::test]
    async fn a_frozen_server_answers_nothing_until_it_is_thawed() {
        within(LIMIT, async {
            let mut nats = Nats::start().await;
            let client = nats.client().await;
            nats.freeze().await;
            let account = async_nats::jetstream::new(client.clone());
            let asked = tokio::time::timeout(Duration::from_millis(200), account.query_account()).await;
            assert!(asked.is_err(), "nothing answers");
            nats.thaw();
            account.query_account().await.expect("answers again");
        })
        .await;
    }

    #[tokio::test]
    async fn a_server_without_jetstream_has_none() {
        within(LIMIT, async {
            let nats = Nats::start_with(NatsOptions { jetstream: false, ..NatsOptions::default() }).await;
            nats.jetstream().await.query_account().await.expect_err("no JetStream");
        })
        .await;
    }
}
