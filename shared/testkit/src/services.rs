//! The services by name, with what each needs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::{Deref, DerefMut},
    time::Duration,
};

use crate::{
    Nats,
    service::{Launch, Service},
    users,
};

/// How long a stand-in may take to start.
const START: Duration = Duration::from_secs(20);

/// A starter for one of the services: [`Launch`] with its own settings.
macro_rules! starter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(Launch);

        impl $name {
            /// Sets a variable.
            #[must_use]
            pub fn env(self, name: &str, value: impl Into<String>) -> Self {
                Self(self.0.env(name, value))
            }

            /// Adds an argument.
            #[must_use]
            pub fn arg(self, argument: impl Into<String>) -> Self {
                Self(self.0.arg(argument))
            }

            /// Gives it that folder, which outlives it, with its log; without, it has a temporary one.
            #[must_use]
            pub fn folder(self, folder: impl Into<std::path::PathBuf>) -> Self {
                Self(self.0.folder(folder))
            }
        }
    };
}

starter!(
    /// ws-edge: `Edge::new(&nats).start().await`.
    Edge
);
starter!(
    /// gm-bridge: `Bridge::new(&nats).gm(&gm.url()).start().await`.
    Bridge
);
starter!(
    /// ingest: `Ingest::new(&nats).start().await`.
    Ingest
);
starter!(
    /// lobby: `Lobby::new(&nats).start().await`.
    Lobby
);
starter!(
    /// The Game Master stand-in: `SimGm::new().arg("--no-door").start().await`.
    SimGm
);
starter!(
    /// The arena engine stand-in: `SimArena::new(&nats).start().await`.
    SimArena
);

/// What [`Edge`], [`Bridge`], [`Ingest`] and [`Lobby`] can be told beside.
macro_rules! service {
    ($name:ident) => {
        impl $name {
            /// Sets one configuration key.
            #[must_use]
            pub fn set(self, key: &str, value: impl std::fmt::Display) -> Self {
                Self(self.0.set(key, value))
            }

            /// Starts the program of that name in its place, one that is configured alike.
            #[must_use]
            pub fn program(self, binary: &str) -> Self {
                Self(self.0.program(binary))
            }

            /// Gives it a `herald.toml`.
            #[must_use]
            pub fn config(self, text: impl Into<String>) -> Self {
                Self(self.0.config(text))
            }

            /// Gives it an operations port that it keeps when it is started again.
            #[must_use]
            pub fn fixed_operations(self) -> Self {
                Self(self.0.fixed_operations())
            }

            /// Starts it and waits until it is ready.
            pub async fn start(self) -> Service {
                self.0.start().await
            }

            /// Starts it and waits for nothing.
            #[must_use]
            pub fn spawn(self) -> Service {
                self.0.spawn()
            }
        }
    };
}
service!(Edge);
service!(Bridge);
service!(Ingest);
service!(Lobby);

impl Edge {
    /// An edge of its own port with the built-in configuration: the arena game.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        Self::at(&nats.url())
    }

    /// As [`Edge::new`], with the addresses of its NATS, separated by commas.
    #[must_use]
    pub fn at(nats: &str) -> Self {
        // Port 0: a free one.
        Self(Launch::new("ws-edge").user("ws-edge").env("NATS_URL", nats).env("PORT", "0"))
    }

    /// With a port that it keeps when it is started again.
    #[must_use]
    pub fn fixed_port(self) -> Self {
        Self(self.0.port_env("PORT"))
    }
}

impl Bridge {
    /// A bridge without a Game Master that answers; see [`Bridge::gm`].
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        Self::at(&nats.url())
    }

    /// As [`Bridge::new`], with the addresses of its NATS, separated by commas.
    #[must_use]
    pub fn at(nats: &str) -> Self {
        Self(Launch::new("gm-bridge").user("gm-bridge").env("NATS_URL", nats))
    }

    /// Where its Game Masters are, separated by commas.
    #[must_use]
    pub fn gm(self, urls: &str) -> Self {
        self.env("GM_BASE_URL", urls)
    }
}

impl Ingest {
    /// One that takes events from whoever a door lets in.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        Self::at(&nats.url())
    }

    /// As [`Ingest::new`], with the addresses of its NATS, separated by commas.
    #[must_use]
    pub fn at(nats: &str) -> Self {
        Self(Launch::new("ingest").user("ingest").env("NATS_URL", nats))
    }
}

/// Where the door of the lobby is configured, from the root of the repository.
const LOBBY_DOOR: &str = "compose/edges/lobby.toml";
/// What it says of the folder of the page.
const LOBBY_PAGES: &str = "services/lobby/page/site";

impl Lobby {
    /// One as it comes.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        Self::at(&nats.url())
    }

    /// As [`Lobby::new`], with the addresses of its NATS, separated by commas.
    #[must_use]
    pub fn at(nats: &str) -> Self {
        Self(Launch::new("lobby").user("lobby").env("NATS_URL", nats))
    }

    /// The door to it that we ship, at a port of its own.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn door(nats: &str) -> Edge {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let config = std::fs::read_to_string(root.join(LOBBY_DOOR)).expect("the door of the lobby");
        assert!(config.contains(LOBBY_PAGES), "{LOBBY_DOOR} names no pages");
        Edge::at(nats).config(config.replace(LOBBY_PAGES, &root.join(LOBBY_PAGES).display().to_string()))
    }
}

/// A running stand-in.
#[derive(Debug)]
pub struct Sim(Service);

impl Deref for Sim {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.0
    }
}

impl DerefMut for Sim {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.0
    }
}

impl Sim {
    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.http("")
    }
}

impl Default for SimGm {
    fn default() -> Self {
        Self::new()
    }
}

impl SimGm {
    /// A Game Master as fast as can be, on a free port.
    #[must_use]
    pub fn new() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), "max")
    }

    /// A Game Master of that `--speed` at that address.
    #[must_use]
    pub fn at(address: SocketAddr, speed: &str) -> Self {
        let flags = [format!("--listen={address}"), format!("--speed={speed}")];
        Self(flags.into_iter().fold(Launch::new("sim").arg("gm"), Launch::arg))
    }

    /// Starts it and waits for nothing.
    #[must_use]
    pub fn spawn(self) -> Service {
        self.0.spawn()
    }

    /// Starts it and waits until it listens. Say `--no-door` or `--door=URL` by [`SimGm::arg`]: without, it calls a door
    /// where there is none.
    pub async fn start(self) -> Sim {
        let mut service = self.0.spawn();
        service.wait_listeners(1, START).await;
        Sim(service)
    }
}

impl SimArena {
    /// An arena on that server, as fast as can be. As the engine it stands for, it says no name.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        Self::at_speed(nats, "max")
    }

    /// An arena of that `--speed`.
    #[must_use]
    pub fn at_speed(nats: &Nats, speed: &str) -> Self {
        Self::with(&nats.url_of_nobody(), speed)
    }

    /// As [`SimArena::at_speed`], with the addresses of its NATS, separated by commas; there it is the user `arena`.
    #[must_use]
    pub fn at(nats: &str, speed: &str) -> Self {
        Self::with(&users::url_as("arena", nats), speed)
    }

    fn with(nats: &str, speed: &str) -> Self {
        let flags = [format!("--nats={nats}"), format!("--speed={speed}")];
        Self(flags.into_iter().fold(Launch::new("sim").arg("arena"), Launch::arg))
    }

    /// Starts it and waits until it has subscribed.
    pub async fn start(self) -> Sim {
        let mut service = self.0.spawn();
        service.process().wait_for_log("subscribed", START).await;
        Sim(service)
    }
}
