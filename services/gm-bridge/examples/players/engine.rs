//! What the arena engine does for all of its sessions: plain publishes, without acknowledgement, spread evenly over time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{Load, Sender, topic};

/// How often it looks what is due.
const TURN: Duration = Duration::from_millis(1);

/// Runs until it is stopped.
pub(crate) struct Engine {
    quit: CancellationToken,
    task: JoinHandle<()>,
}

impl Engine {
    pub(crate) async fn start(nats: &str, load: Load, sender: Arc<Sender>) -> Self {
        let client = herald_testkit::users::connect(nats).await.expect("NATS answers");
        let quit = CancellationToken::new();
        let told = quit.clone();
        let task = tokio::spawn(async move {
            let (begun, rate) = (Instant::now(), load.sessions as f64 * load.pace);
            let mut published = 0_u64;
            while !told.is_cancelled() {
                let due = (begun.elapsed().as_secs_f64() * rate) as u64;
                while published < due {
                    let session = published % load.sessions;
                    let subject = format!("arena.p{session}.{}", topic(session));
                    client.publish(subject, sender.event(session).into()).await.expect("published");
                    published += 1;
                }
                client.flush().await.expect("flushed");
                sleep(TURN).await;
            }
        });
        Self { quit, task }
    }

    /// Ends when all that counts as sent has left.
    pub(crate) async fn stop(self) {
        self.quit.cancel();
        self.task.await.unwrap();
    }
}
