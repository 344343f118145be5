//! The actions of a bridge, in a process of its own.

use std::{process::Stdio, sync::Arc};

use futures_util::{StreamExt as _, future::BoxFuture, stream};
use gm_bridge::{
    action::{Actions, Command, Lease, LeaseError},
    config::{ActionConfig, ActionPolicy, GmConfig},
    game_master::{GameMaster, GameMasters},
    redact::Redactor,
};
use herald_protocol::{
    InstanceId, SessionId,
    record::{ActionKind, Lang},
};
use herald_runtime::{Context, config::Common, nats};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command as Program},
};

use crate::session_id;

/// Commands that are claimed at once: players do not all press in the same moment.
const CLAIMS: usize = 32;

/// The running process. Killed when dropped.
pub(crate) struct Bridge(Child);

impl Bridge {
    /// Starts one, and waits until an action runs in each session.
    pub(crate) async fn start(nats: &str, masters: &str, sessions: u64) -> Self {
        let mut program = Program::new(std::env::current_exe().unwrap());
        program.args(["--bridge", nats, masters, &sessions.to_string()]).kill_on_drop(true);
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("running"));
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id().expect("it runs")
    }
}

/// Is one, until the other side closes its input.
pub(crate) async fn be(url: &str, masters: &str, sessions: u64) {
    let mut common = Common::with_operations_port(0);
    common.nats.url = url.to_owned();
    common.instance = InstanceId::new("players").unwrap();
    let context = Context::new("gm-bridge", common);
    let nats = nats::connect(&context.common.nats, "nats", &context).await.unwrap();
    let config = ActionConfig { max_running: sessions as usize + 1, ..ActionConfig::default() };
    let lease = Arc::new(OneEach { masters: GameMasters::new(&GmConfig::default()).unwrap(), url: masters.to_owned() });
    let closed = context.shutdown.token();
    let actions = Actions::start(&nats, &config, Redactor::new(&[]), lease, &context, closed);
    stream::iter(0..sessions)
        .for_each_concurrent(CLAIMS, async |session| {
            let command = Command::Propose { lang: Lang::En };
            actions.run(&session_id(session), command, ActionPolicy::Cancel).await.unwrap();
        })
        .await;
    println!("running");
    let _closed = tokio::io::stdin().read(&mut [0]).await;
}

/// Each session plays on a Game Master of its own.
struct OneEach {
    masters: GameMasters,
    url: String,
}

impl Lease for OneEach {
    fn begin<'a>(
        &'a self,
        session: &'a SessionId,
        _kind: ActionKind,
        _action: u64,
    ) -> BoxFuture<'a, Result<Option<GameMaster>, LeaseError>> {
        let number = session.as_str().trim_start_matches('p');
        let gm = self.masters.at(&format!("{}/{number}", self.url)).unwrap();
        Box::pin(std::future::ready(Ok(Some(gm))))
    }

    fn finish<'a>(&'a self, _session: &'a SessionId, _action: u64, _by_itself: bool) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}
