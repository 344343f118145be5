//! Whether the code comes back at all: what hangs is ended, as nobody can be waited for for ever.

use std::{
    process::exit,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::spawn,
    time::Duration,
};

use crate::write;

/// Longer than any input may take, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Knows the input that is being tried. Ends with its owner.
pub(crate) struct Watch {
    now: Arc<Mutex<Now>>,
    _ends: Sender<()>,
}

#[derive(Default)]
struct Now {
    input: Vec<u8>,
    count: u64,
}

impl Watch {
    pub(crate) fn start(target: &'static str) -> Self {
        let now = Arc::<Mutex<Now>>::default();
        let (ends, ended) = channel::<()>();
        let watched = now.clone();
        spawn(move || {
            let mut last = 0;
            while ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let now = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if now.count == last && last > 0 {
                    let file = write(target, &now.input);
                    eprintln!(
                        "fuzz {target}: not done within {PATIENCE:?}: ./scripts/fuzz {target} --input {}",
                        file.display()
                    );
                    exit(101);
                }
                last = now.count;
            }
        });
        Self { now, _ends: ends }
    }

    pub(crate) fn begins(&self, input: &[u8]) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.input.clear();
        now.input.extend_from_slice(input);
        now.count += 1;
    }
}
