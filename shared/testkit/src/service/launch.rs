//! How a service is started, and started again.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use super::{READY, Service, program::program};
use crate::{folder::Folder, port::Reserved, process::Process, users};

/// How to start one of our services, in any number of processes.
#[derive(Clone, Debug)]
pub struct Launch {
    binary: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    config: Option<String>,
    /// Who it is for NATS, wherever that is.
    user: Option<&'static str>,
    folder: Option<PathBuf>,
    /// Looked for once: what is built while a test runs concerns the next one.
    program: OnceLock<PathBuf>,
    /// Only kept: the environment names them.
    ports: Vec<Arc<Reserved>>,
}

impl Launch {
    /// The program of that name in the target folder.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        Self {
            binary: binary.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            config: None,
            user: None,
            folder: None,
            program: OnceLock::new(),
            ports: Vec::new(),
        }
    }

    /// Starts the program of that name in its place, one that is configured alike.
    #[must_use]
    pub fn program(mut self, binary: &str) -> Self {
        binary.clone_into(&mut self.binary);
        self.program = OnceLock::new();
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable. Of the tester's own environment, nothing that configures a service is passed on.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Makes it connect to NATS as that user, whoever its `NATS_URL` names.
    #[must_use]
    pub fn user(mut self, user: &'static str) -> Self {
        self.user = Some(user);
        self
    }

    /// Sets one configuration key, as `--set` does.
    #[must_use]
    pub fn set(self, key: &str, value: impl std::fmt::Display) -> Self {
        self.arg("--set").arg(format!("{key}={value}"))
    }

    /// Puts a `herald.toml` of that text into the process's folder.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// Sets a variable to a port that it keeps when it is started again.
    #[must_use]
    pub fn port_env(self, name: &str) -> Self {
        let port = Reserved::take();
        let value = port.port().to_string();
        self.keep(port).env(name, value)
    }

    /// Gives it an operations port that it keeps when it is started again.
    #[must_use]
    pub fn fixed_operations(self) -> Self {
        let port = Reserved::take();
        let address = port.address().to_string();
        self.keep(port).env("HERALD_OPERATIONS__ADDRESS", address)
    }

    /// Gives it that folder, which outlives it, with its log; without, it has a temporary one.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    fn keep(mut self, port: Reserved) -> Self {
        self.ports.push(Arc::new(port));
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If it ends, or is not ready within 20 s.
    pub async fn start(self) -> Service {
        let mut service = self.spawn();
        service.wait_ready(READY).await;
        service
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// If its program is missing or older than its sources.
    #[must_use]
    pub fn spawn(self) -> Service {
        let folder = Folder::new(&self.binary, self.folder.clone());
        if let Some(text) = &self.config {
            std::fs::write(folder.path().join("herald.toml"), text).expect("a configuration file");
        }
        let process = self.process(folder.path());
        Service { process, launch: self, folder, ports: super::Ports::default() }
    }

    pub(super) fn binary(&self) -> &str {
        &self.binary
    }

    pub(super) fn process(&self, folder: &Path) -> Process {
        let mut command = std::process::Command::new(self.program.get_or_init(|| program(&self.binary)));
        let of_the_tester = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in of_the_tester.filter(|name| {
            let known = ["NATS_URL", "GM_BASE_URL", "PORT", "RUST_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT"];
            name.starts_with("HERALD_") || known.contains(&name.as_str())
        }) {
            command.env_remove(name);
        }
        command.current_dir(folder).args(&self.arguments);
        command.env("HERALD_PORTS_FILE", folder.join("ports.json"));
        command.env("HERALD_OPERATIONS__ADDRESS", "127.0.0.1:0");
        command.env("HERALD_LOG__FORMAT", "pretty");
        command.envs(self.environment.iter().map(|(name, value)| match self.user {
            Some(user) if name == "NATS_URL" => (name, users::url_as(user, value)),
            _ => (name, value.clone()),
        }));
        Process::spawn(&self.binary, command, &folder.join("log"))
    }
}
