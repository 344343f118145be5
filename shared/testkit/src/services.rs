//! The services by name, with what each needs.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::{
    Nats,
    service::{Launch, Service},
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
    /// The Game Master stand-in, as fast as it can be unless told otherwise: `SimGm::new().start().await`.
    SimGm
);
starter!(
    /// The arena engine stand-in, as fast as it can be unless told otherwise: `SimArena::new(&nats).start().await`.
    SimArena
);

/// What [`Edge`] and [`Bridge`] can be told beside.
macro_rules! service {
    ($name:ident) => {
        impl $name {
            /// Sets one configuration key.
            #[must_use]
            pub fn set(self, key: &str, value: impl std::fmt::Display) -> Self {
                Self(self.0.set(key, value))
            }

            /// Gives it a `herald.toml`.
            #[must_use]
            pub fn config(self, text: impl Into<String>) -> Self {
                Self(self.0.config(text))
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

impl Edge {
    /// An edge of its own port with the built-in configuration: the arena game.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        // Port 0: a free one.
        Self(Launch::new("ws-edge").env("NATS_URL", nats.url()).env("PORT", "0"))
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
        Self(Launch::new("gm-bridge").env("NATS_URL", nats.url()))
    }

    /// Where its Game Masters are, separated by commas.
    #[must_use]
    pub fn gm(self, urls: &str) -> Self {
        self.env("GM_BASE_URL", urls)
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
    /// A Game Master that calls no door.
    #[must_use]
    pub fn new() -> Self {
        Self(Launch::new("sim").arg("gm").arg("--listen=127.0.0.1:0").arg("--speed=max"))
    }

    /// Starts it and waits until it listens. `--no-door` or `--door=URL` is for the caller to say, by [`SimGm::arg`].
    pub async fn start(self) -> Sim {
        let mut service = self.0.spawn();
        service.wait_listeners(1, START).await;
        Sim(service)
    }
}

impl SimArena {
    /// An arena on that server.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        Self(Launch::new("sim").arg("arena").arg(format!("--nats={}", nats.url())).arg("--speed=max"))
    }

    /// Starts it and waits until it has subscribed.
    pub async fn start(self) -> Sim {
        let mut service = self.0.spawn();
        service.process().wait_for_log("subscribed", START).await;
        Sim(service)
    }
}
