//! File descriptors: every connection is one, and shells give a process 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process needs beside its connections: its NATS connections, listeners, the runtime, pictures.
const OTHERS: u64 = 128;

/// Allows this process as many descriptors as `connections` and `files` need, as far as it may; says so where it may not.
pub(crate) fn raise(connections: usize, files: u64) {
    let needed = connections as u64 + files + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is no limit at all.
    let Some(now) = current.filter(|now| *now < needed) else { return };
    let wanted = maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    let limit = if raised.is_ok() { wanted } else { now };
    if limit < needed {
        tracing::warn!(limit, needed, "fewer file descriptors (ulimit -n) than http.max_connections would need");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        let before = getrlimit(Resource::Nofile);
        raise(3000, 1000);
        let after = getrlimit(Resource::Nofile).current;
        let allowed = before.maximum.map_or(4000 + OTHERS, |maximum| maximum.min(4000 + OTHERS));
        assert!(after.is_none_or(|limit| limit >= allowed.max(before.current.unwrap_or(0))), "{after:?}");
    }
}
