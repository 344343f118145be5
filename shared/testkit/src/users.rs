//! The users of `nats/users.conf` in tests: each with a password that is no secret.

use std::path::{Path, PathBuf};

/// All of them, with the variable their password is in.
const USERS: [(&str, &str); 7] = [
    ("gm-bridge", "HERALD_NATS_GM_BRIDGE_PASSWORD"),
    ("ws-edge", "HERALD_NATS_WS_EDGE_PASSWORD"),
    ("ingest", "HERALD_NATS_INGEST_PASSWORD"),
    ("lobby", "HERALD_NATS_LOBBY_PASSWORD"),
    ("arena", "HERALD_NATS_ARENA_PASSWORD"),
    (OPERATOR, "HERALD_NATS_OPERATOR_PASSWORD"),
    // The example that the file shows.
    ("dice", "HERALD_NATS_DICE_PASSWORD"),
];

/// Who may do everything: the tests themselves.
pub const OPERATOR: &str = "operator";
/// The servers of a cluster among themselves.
pub const ROUTE: &str = "route";

/// A user's password.
#[must_use]
pub fn password(user: &str) -> String {
    format!("test-{user}")
}

/// A client of the tests' own, as `operator`; its requests are answered under the inbox that users may answer to.
///
/// # Errors
/// If no server answers.
pub async fn connect(urls: &str) -> Result<async_nats::Client, async_nats::ConnectError> {
    connect_with(async_nats::ConnectOptions::new(), urls).await
}

/// As [`connect`], with further options.
///
/// # Errors
/// If no server answers.
pub async fn connect_with(
    options: async_nats::ConnectOptions,
    urls: &str,
) -> Result<async_nats::Client, async_nats::ConnectError> {
    // The library takes no credentials from a URL.
    let options = options.user_and_password(OPERATOR.to_owned(), password(OPERATOR));
    let urls = url_of_nobody(urls);
    let urls: Vec<_> = urls.split(',').collect();
    options.custom_inbox_prefix(format!("_INBOX.{OPERATOR}")).connect(urls).await
}

/// A copy of `nats/local.conf`, in that folder, in which the example of an engine's user (`dice`) is no comment any more.
///
/// # Panics
/// If there is no such example.
#[must_use]
pub fn with_dice(folder: &Path) -> PathBuf {
    let (mut shown, mut lines) = (false, 0);
    let nats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nats");
    for entry in std::fs::read_dir(nats).expect("the folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a text").lines().fold(String::new(), |text, line| {
            shown = (shown || line.trim() == "# dice >>>") && line.trim() != "# dice <<<";
            lines += usize::from(shown);
            text + &if shown { line.replacen("# ", "", 1) } else { line.to_owned() } + "\n"
        });
        std::fs::write(folder.join(path.file_name().expect("a name")), text.replace("dice >>>", "# dice"))
            .expect("written");
    }
    assert!(lines > 10, "nats/users.conf has no example");
    folder.join("local.conf")
}

/// What a nats-server with users needs in its environment.
pub(crate) fn environment() -> impl Iterator<Item = (&'static str, String)> {
    USERS.iter().map(|(user, variable)| (*variable, password(user)))
}

/// The URLs, separated by commas, as that user has them: whoever they name is replaced.
#[must_use]
pub fn url_as(user: &str, urls: &str) -> String {
    let own = format!("nats://{user}:{}@", password(user));
    each(urls, &own)
}

/// The URLs, separated by commas, without anybody's name in them.
#[must_use]
pub fn url_of_nobody(urls: &str) -> String {
    each(urls, "nats://")
}

fn each(urls: &str, scheme: &str) -> String {
    let one = |url: &str| match url.trim().strip_prefix("nats://") {
        Some(rest) => format!("{scheme}{}", rest.rsplit('@').next().unwrap_or(rest)),
        // Not one of ours: whatever a test wants to try.
        None => url.to_owned(),
    };
    urls.split(',').map(one).collect::<Vec<_>>().join(",")
}

/// Lines of a nats-server's log that say that somebody was refused.
pub(crate) fn refusals(log: &str) -> Vec<&str> {
    let refusal = |line: &&str| line.contains(" Violation - ") || line.contains("authentication error");
    log.lines().filter(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_made_somebody_s_own() {
        assert_eq!(
            url_as("arena", "nats://a:1, nats://x:y@b:2"),
            "nats://arena:test-arena@a:1,nats://arena:test-arena@b:2"
        );
        assert_eq!(url_of_nobody("nats://x:y@b:2"), "nats://b:2");
        assert_eq!(url_as("arena", "http://x"), "http://x");
    }
}
