//! What is forwarded: HTTP that services answer.

use herald_protocol::Name;
use herald_runtime::config::{HumanDuration, comma_separated};
use serde::{Deserialize, Serialize};

use super::name;
use crate::answer::ErrorBody;

/// HTTP that is answered by a service over NATS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForwardConfig {
    /// What answers calls it, when it is not there: `gm-bridge`. No default.
    pub name: String,
    /// The service: requests go to `http.<service>`. No default.
    pub service: Option<Name>,
    /// Paths: a whole path (`/submit_news`), or everything below one (`/api/*`); with `{sid}` for the session, if the path names it
    /// (`/sessions/{sid}/events`). No default.
    #[serde(deserialize_with = "comma_separated")]
    pub paths: Vec<String>,
    /// What is cut from the beginning of the path before it goes on: `/app`. Default: nothing.
    pub strip: String,
    /// The door's name, told to the service. Default `event`.
    pub door: Name,
    /// Whether its requests change something although they are GET: a browser's prefetch is then refused. Default false.
    pub commands: bool,
    /// Which of its paths cost nothing although it is marked `commands`: their requests are not limited
    /// (`limits.commands_*`). Whole paths; comma-separated in an environment variable. Default: none.
    #[serde(deserialize_with = "comma_separated")]
    pub free: Vec<String>,
    /// The query parameter, or field of a JSON body, that names the session of a command where the path does not. Default
    /// `session_id`.
    pub session: String,
    /// How long the answer may take to begin. Default 30s.
    pub timeout: HumanDuration,
    /// Whether the edge answers itself where no service does, with what its listener says of its health. Default false.
    pub health: bool,
    /// As the listener's, for these paths. Default: the listener's.
    pub error_body: Option<ErrorBody>,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            service: None,
            paths: Vec::new(),
            strip: String::new(),
            door: name(herald_protocol::headers::DEFAULT_DOOR),
            commands: false,
            free: Vec::new(),
            session: "session_id".to_owned(),
            timeout: HumanDuration::from_secs(30),
            health: false,
            error_body: None,
        }
    }
}
