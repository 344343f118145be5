//! A folder of files, as a page is made of: what a listener serves where there is nothing else.
//!
//! What is asked for is a path below the folder and nothing more: no names that begin with a dot, none that lead out of it, by
//! whatever way they are written, and no links that do. How a file is sent (types, ranges, what the client has already) is
//! `tower-http`'s work.

use std::{
    io,
    net::IpAddr,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use axum::body::Body;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::BodyExt as _;
use metrics::counter;
use percent_encoding::percent_decode_str;
use tokio::{sync::Semaphore, task::spawn_blocking};
use tower_http::services::ServeFile;

use crate::{
    answer::{self, Answer},
    limits::{Limits, Trust},
};

/// The file that stands for its folder.
const INDEX: &str = "index.html";
/// Kept by whoever likes, but asked for each time whether it is still the same: that costs little, and a new page is seen at once.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// A folder of files.
pub struct Files {
    folder: Arc<Path>,
    /// How many may be on their way to clients that take their time.
    sending: Arc<Semaphore>,
    /// How many of them to one address.
    limits: Arc<Limits>,
    trust: Trust,
}

impl Files {
    /// The files of `folder`, so many at a time, on a listener that has that trust in its clients.
    #[must_use]
    pub fn new(folder: &Path, at_once: usize, limits: &Arc<Limits>, trust: Trust) -> Self {
        let at_once = at_once.min(Semaphore::MAX_PERMITS);
        Self { folder: folder.into(), sending: Arc::new(Semaphore::new(at_once)), limits: limits.clone(), trust }
    }

    /// Answers a request for a file, of that address.
    pub async fn answer<B>(&self, request: &Request<B>, from: IpAddr) -> Answer {
        let (outcome, answer) = self.answered(request, from).await;
        counter!("herald_files_total", "outcome" => outcome).increment(1);
        answer
    }

    async fn answered<B>(&self, request: &Request<B>, from: IpAddr) -> (&'static str, Answer) {
        let Some(relative) = relative(request.uri().path()) else { return ("not_found", answer::not_found()) };
        let Ok(place) = self.sending.clone().try_acquire_owned() else {
            return ("busy", answer::unavailable("Too many files are being sent"));
        };
        let place = match self.limits.admit_reading(self.trust, from) {
            Ok(of_address) => (place, of_address),
            Err(refusal) => return ("busy", refusal.answer()),
        };
        let folder = self.folder.clone();
        let found = spawn_blocking(move || find(&folder, &relative)).await;
        let file = match found {
            Ok(Ok(Some(file))) => file,
            Ok(Ok(None)) | Err(_) => return ("not_found", answer::not_found()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a file is not served");
                return ("not_found", answer::not_found());
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return ("refused", answer::method_not_allowed("GET, HEAD"));
        }
        let mut asked = Request::new(Body::empty());
        asked.method_mut().clone_from(request.method());
        asked.headers_mut().clone_from(request.headers());
        if let Some(of) = asked.headers_mut().remove(IF_RANGE)
            && !is_still(&file, &of).await
        {
            asked.headers_mut().remove(RANGE);
        }
        let served = ServeFile::new(&file).ignore_multi_range_requests(true).try_call(asked).await;
        let Ok(served) = served.inspect_err(|error| tracing::warn!(%error, "a file can't be read")) else {
            return ("not_found", answer::not_found());
        };
        let status = served.status();
        if status.is_client_error() {
            return ("refused", refused(status, served.headers().get(CONTENT_RANGE)));
        }
        let mut answer = served.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &place;
                frame
            }))
        });
        answer.headers_mut().insert(CACHE_CONTROL, ASK_AGAIN);
        // It is what it is called, whatever is in it.
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        in_utf8(&mut answer);
        (if status == StatusCode::NOT_MODIFIED { "unchanged" } else { "sent" }, answer)
    }
}

/// A part that there is not, or a condition that does not hold.
fn refused(status: StatusCode, range: Option<&HeaderValue>) -> Answer {
    let mut answer = answer::error(status, status.canonical_reason().unwrap_or("Refused"));
    if let Some(range) = range {
        answer.headers_mut().insert(CONTENT_RANGE, range.clone());
    }
    answer
}

/// Whether a file is the one of which a client has a part (RFC 9110, 13.1.5): else that part would be joined with another one's. A
/// time proves nothing: in one second a file may change twice.
async fn is_still(file: &Path, part_of: &HeaderValue) -> bool {
    let mut look = Request::new(Body::empty());
    *look.method_mut() = Method::HEAD;
    let Ok(now) = ServeFile::new(file).try_call(look).await else { return false };
    now.headers().get(ETAG) == Some(part_of)
}

/// Says of a text how it is written: today's are.
fn in_utf8(answer: &mut Answer) {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let text = kind.filter(|kind| kind.starts_with("text/") && !kind.contains(';'));
    if let Some(kind) = text.and_then(|text| HeaderValue::try_from(format!("{text}; charset=utf-8")).ok()) {
        answer.headers_mut().insert(CONTENT_TYPE, kind);
    }
}

/// The path of a file below its folder, from that of a request. `None`: there can't be such a file.
fn relative(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    let mut segments = path.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_none() {
            relative.push(INDEX);
            break;
        }
        let name = percent_decode_str(segment).decode_utf8().ok()?;
        if !is_plain(&name) || name.contains(['/', '\\']) || name.contains(char::is_control) {
            return None;
        }
        relative.push(&*name);
    }
    Some(relative)
}

/// Whether a name is neither hidden nor `.` nor `..`.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.')
}

/// The file itself, if it is one and lies in the folder, links followed. The folder is looked at each time: it may be a link
/// that is set to a new release.
fn find(folder: &Path, relative: &Path) -> io::Result<Option<PathBuf>> {
    let file = match folder.join(relative).canonicalize() {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let home = folder.canonicalize()?;
    let Ok(inside) = file.strip_prefix(&home) else { return Ok(None) };
    let plain = |part: Component<'_>| matches!(part, Component::Normal(name) if name.to_str().is_some_and(is_plain));
    Ok((inside.components().all(plain) && file.metadata()?.is_file()).then_some(file))
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, IF_NONE_MATCH, LAST_MODIFIED};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn files(folder: &Path, at_once: usize) -> Files {
        Files::new(folder, at_once, &Limits::new(&crate::config::Config::default()), Trust::None)
    }

    /// A folder with files of all kinds, and one beside it that is nobody's to see.
    fn house() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("files");
        for inner in ["tiles", "empty", ".git"] {
            std::fs::create_dir_all(folder.join(inner)).unwrap();
        }
        for (name, text) in [
            ("index.html", "<h1>é</h1>"),
            ("tiles/a b.png", "0123456789"),
            ("tiles/index.html", "tiles"),
            ("app.js", "x"),
            ("odd", "?"),
            (".env", "secret"),
            (".git/config", "secret"),
            ("%2e%2e", "a name"),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        #[cfg(unix)]
        for (link, target) in [
            ("out", "../secret"),
            ("root", "/"),
            ("in.js", "app.js"),
            ("hidden.js", ".env"),
            ("up", ".."),
            ("loop", "loop"),
        ] {
            std::os::unix::fs::symlink(target, folder.join(link)).unwrap();
        }
        (outer, folder)
    }

    async fn ask(files: &Files, method: Method, path: &str, headers: &[(http::HeaderName, &str)]) -> (Answer, String) {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (head, body) = files.answer(&request, HERE).await.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (Answer::from_parts(head, Body::empty()), String::from_utf8(body.to_vec()).unwrap())
    }

    fn header(answer: &Answer, name: http::HeaderName) -> &str {
        answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[tokio::test]
    async fn files_are_served_as_what_they_are() {
        let (_outer, folder) = house();
        let files = files(&folder, 2);
        for (path, text, kind) in [
            ("/", "<h1>é</h1>", "text/html; charset=utf-8"),
            ("/index.html", "<h1>é</h1>", "text/html; charset=utf-8"),
            ("/tiles/", "tiles", "text/html; charset=utf-8"),
            ("/tiles/a%20b.png", "0123456789", "image/png"),
            ("/app.js", "x", "text/javascript; charset=utf-8"),
            ("/in.js", "x", "text/javascript; charset=utf-8"),
            ("/odd", "?", "application/octet-stream"),
            ("/%252e%252e", "a name", "application/octet-stream"),
        ] {
            let (answer, body) = ask(&files, Method::GET, path, &[]).await;
            assert_eq!(
                (answer.status(), &*body, header(&answer, CONTENT_TYPE)),
                (StatusCode::OK, text, kind),
                "{path}"
            );
            assert_eq!(header(&answer, CACHE_CONTROL), "no-cache", "{path}");
            assert_eq!(header(&answer, CONTENT_LENGTH), text.len().to_string(), "{path}");
            let tag = header(&answer, ETAG).to_owned();
            assert!(!tag.is_empty());
            let (same, body) = ask(&files, Method::GET, path, &[(IF_NONE_MATCH, &tag)]).await;
            assert_eq!((same.status(), &*body, header(&same, ETAG)), (StatusCode::NOT_MODIFIED, "", &*tag));
            let (head, body) = ask(&files, Method::HEAD, path, &[]).await;
            assert_eq!((head.status(), &*body), (StatusCode::OK, ""));
            assert_eq!(header(&head, CONTENT_LENGTH), text.len().to_string(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_served_and_what_is_not_there_refused() {
        let (_outer, folder) = house();
        let files = files(&folder, 2);
        let part = async |range: &str| ask(&files, Method::GET, "/tiles/a%20b.png", &[(RANGE, range)]).await;
        let (answer, body) = part("bytes=2-4").await;
        assert_eq!((answer.status(), &*body), (StatusCode::PARTIAL_CONTENT, "234"));
        assert_eq!((header(&answer, CONTENT_RANGE), header(&answer, ACCEPT_RANGES)), ("bytes 2-4/10", "bytes"));
        let (answer, body) = part("bytes=20-").await;
        assert_eq!(
            (answer.status(), header(&answer, CONTENT_RANGE)),
            (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10")
        );
        assert!(body.contains("\"error\""), "{body}");
        assert_eq!(part("bytes=0-1,4-5").await.1, "0123456789", "many parts are the whole");
    }

    #[tokio::test]
    async fn a_part_is_served_only_of_what_the_client_has_the_rest_of() {
        let (_outer, folder) = house();
        let files = files(&folder, 2);
        let path = "/tiles/a%20b.png";
        let (whole, _) = ask(&files, Method::GET, path, &[]).await;
        let (tag, time) = (header(&whole, ETAG).to_owned(), header(&whole, LAST_MODIFIED).to_owned());
        assert_eq!(header(&whole, X_CONTENT_TYPE_OPTIONS), "nosniff");
        let rest = async |of: &str| {
            let (answer, body) = ask(&files, Method::GET, path, &[(RANGE, "bytes=7-"), (IF_RANGE, of)]).await;
            (answer.status(), body)
        };
        assert_eq!(rest(&tag).await, (StatusCode::PARTIAL_CONTENT, "789".to_owned()));
        let weak = format!("W/{tag}");
        for of in ["\"another\"", &weak, &time, "Thu, 01 Jan 1970 00:00:00 GMT", "", "*"] {
            assert_eq!(rest(of).await, (StatusCode::OK, "0123456789".to_owned()), "{of}");
        }
        std::fs::write(folder.join("tiles/a b.png"), "9876543210").unwrap();
        assert_eq!(rest(&tag).await, (StatusCode::OK, "9876543210".to_owned()), "it was another one");
    }

    #[tokio::test]
    async fn nothing_is_served_that_is_not_a_file_of_the_folder() {
        let (_outer, folder) = house();
        let files = files(&folder, 2);
        for path in [
            "/none",
            "/tiles",
            "/empty/",
            "/app.js/",
            "/app.js/x",
            "//",
            "//index.html",
            "/./index.html",
            "/tiles/../index.html",
            "/..",
            "/../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/%2e%2e%2fsecret",
            "/tiles/..%5c..%5csecret",
            "/..\\secret",
            "/.env",
            "/%2eenv",
            "/.git/config",
            "/hidden.js",
            "/out",
            "/root/etc/hostname",
            "/up/secret",
            "/loop",
            "/index.html%00",
            "/index.html%00.png",
            "/index.html%0a",
            "/%ff",
            "/%2fetc%2fhostname",
        ] {
            let (answer, body) = ask(&files, Method::GET, path, &[]).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            assert_eq!(body, "{\"error\":\"Not Found\"}", "{path}");
        }
        let long = format!("/{}", "x".repeat(5000));
        assert_eq!(ask(&files, Method::GET, &long, &[]).await.0.status(), StatusCode::NOT_FOUND);
        assert_eq!(ask(&files, Method::POST, "/app.js", &[]).await.0.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(&files, Method::POST, "/none", &[]).await.0.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn so_many_are_sent_at_a_time_and_the_folder_may_be_another_one_the_next_time() {
        let (outer, folder) = house();
        let current = outer.path().join("current");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&folder, &current).unwrap();
        let files = files(&current, 1);
        let request = Request::get("/app.js").body(()).unwrap();
        let kept = files.answer(&request, HERE).await;
        assert_eq!(files.answer(&request, HERE).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(kept);
        assert_eq!(files.answer(&request, HERE).await.status(), StatusCode::OK);
        let next = outer.path().join("next");
        std::fs::create_dir(&next).unwrap();
        std::fs::write(next.join("app.js"), "new").unwrap();
        #[cfg(unix)]
        {
            std::fs::remove_file(&current).unwrap();
            std::os::unix::fs::symlink(&next, &current).unwrap();
        }
        assert_eq!(ask(&files, Method::GET, "/app.js", &[]).await.1, "new");
    }
}
