//! Game Masters of any number of sessions, each of which speaks at the same pace while it is told to.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval_at},
};

use crate::Sender;

/// They end when dropped, but for streams that are open.
pub(crate) struct Masters {
    url: String,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Masters {
    /// Game Master number `n` is at `<url>/<n>`; each says so many events a second.
    pub(crate) async fn start(pace: f64, sender: Arc<Sender>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let open = watch::Sender::new(false);
        let opened = open.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // The other side has hung up.
                let (opened, sender) = (opened.clone(), Arc::clone(&sender));
                tokio::spawn(async move { drop(speak(stream, opened, pace, &sender).await) });
            }
        });
        Self { url, open, task }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether they speak.
    pub(crate) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Drop for Masters {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn speak(
    mut stream: TcpStream,
    mut opened: watch::Receiver<bool>,
    pace: f64,
    sender: &Sender,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; 4096];
    let length = stream.read(&mut request).await?;
    // GET /17/api/stream/propose?lang=en
    let request = String::from_utf8_lossy(&request[..length]);
    let session = request.split('/').nth(1).and_then(|number| number.parse().ok()).expect("a number in the path");
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await?;
    let every = Duration::from_secs_f64(1.0 / pace);
    opened.wait_for(|open| *open).await.map_err(std::io::Error::other)?;
    // Spread evenly: nobody speaks in chorus.
    let phase = every.mul_f64((session as f64 * 0.618_034).fract());
    let mut ticks = interval_at(tokio::time::Instant::now() + phase, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if *opened.borrow() {
            stream.write_all(format!("data: {}\n\n", sender.event(session)).as_bytes()).await?;
        } else {
            // Silent, but there: the action goes on.
            opened.wait_for(|open| *open).await.map_err(std::io::Error::other)?;
        }
    }
}
