//! `/`: the page for people, to play the arena game and to look into any session. It is written in `services/ws-edge/page`; what
//! Vite makes of that is committed in its `dist` and stands in this binary, so that no Node is needed to build it, and no folder
//! and no network to show it.
//!
//! The names of its files stay the same whatever is in them, and browsers ask each time whether they have changed: behind
//! edges of several versions a page never asks for a file that only another edge has.

use std::{io::Write as _, sync::LazyLock};

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
        REFERRER_POLICY, VARY,
    },
};
use ring::digest::{SHA256, digest};

use crate::{
    answer::{self, Answer},
    selftest::wants_page,
};

/// Where browsers get it, unless something else is there by configuration.
pub const PATH: &str = "/";
/// Where its other files are, as a path of an OpenAPI document.
pub const FILE: &str = "/page/{file}";

/// Path, media type and content of each file.
const FILES: [(&str, &str, &[u8]); 4] = [
    (PATH, "text/html; charset=utf-8", include_bytes!("../page/dist/index.html")),
    ("/page/herald.js", "text/javascript; charset=utf-8", include_bytes!("../page/dist/page/herald.js")),
    ("/page/herald.css", "text/css; charset=utf-8", include_bytes!("../page/dist/page/herald.css")),
    ("/page/icon.svg", "image/svg+xml", include_bytes!("../page/dist/page/icon.svg")),
];
/// Nothing from elsewhere, no script or style within the page, and in nobody's frame. Posters that need a token come as `blob:`.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);
/// To be asked for again each time, and answered 304 as long as it is the same.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// A file as it is served.
struct File {
    path: &'static str,
    media_type: HeaderValue,
    plain: Encoded,
    zipped: Encoded,
}

/// A file in one encoding; each has a tag of its own.
struct Encoded {
    bytes: Bytes,
    tag: String,
}

/// Made when somebody first asks: most edges are never asked.
static SERVED: LazyLock<Vec<File>> = LazyLock::new(|| FILES.map(File::new).into());

impl File {
    fn new((path, media_type, content): (&'static str, &'static str, &'static [u8])) -> Self {
        let hash = digest(&SHA256, content);
        let hash = hash.as_ref()[..16].iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
        let zipped = Encoded { bytes: zipped(content), tag: format!("\"{hash}-gzip\"") };
        let plain = Encoded { bytes: Bytes::from_static(content), tag: format!("\"{hash}\"") };
        Self { path, media_type: HeaderValue::from_static(media_type), plain, zipped }
    }

    fn answer(&self, headers: &HeaderMap) -> Answer {
        let encoded = if takes_gzip(headers) { &self.zipped } else { &self.plain };
        let known = has_tag(headers, &encoded.tag);
        let mut answer = Response::new(if known { Body::empty() } else { Body::from(encoded.bytes.clone()) });
        let set = answer.headers_mut();
        set.extend(HeaderValue::try_from(encoded.tag.as_str()).map(|tag| (ETAG, tag)));
        set.insert(CACHE_CONTROL, ASK_AGAIN);
        set.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if known {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        set.insert(CONTENT_TYPE, self.media_type.clone());
        set.insert(CONTENT_SECURITY_POLICY, POLICY);
        set.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if encoded.tag == self.zipped.tag {
            set.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    }
}

/// The answer to a request for the page or one of its files; `None` where it is for neither. At `/` the page is for browsers
/// alone: to all others nothing is there.
#[must_use]
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Answer> {
    let file = SERVED.iter().find(|file| file.path == path)?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(answer::method_not_allowed("GET, HEAD"));
    }
    (path != PATH || wants_page(headers)).then(|| file.answer(headers))
}

/// Whether the client says that it reads gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
    })
}

/// Whether the client has what that tag stands for.
fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    let lines = headers.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn zipped(content: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Into memory: it can't fail.
    encoder.write_all(content).and_then(|()| encoder.finish()).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Bytes of all files together, zipped: a second on a slow phone's line.
    const LARGEST: usize = 100_000;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_page_names_files_that_are_there_and_holds_no_script() {
        let html = std::str::from_utf8(FILES[0].2).unwrap();
        let named: Vec<_> = html.split(['"', '\'']).filter_map(|part| part.strip_prefix("./")).collect();
        assert_eq!(named.len(), FILES.len() - 1, "{named:?}");
        assert!(named.iter().all(|name| FILES.iter().any(|(path, ..)| path[1..] == **name)), "{named:?}");
        for forbidden in ["http:", "https:", "//", " style=", "<style", " onload", "javascript:"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        let scripts: Vec<_> = html.split("<script").skip(1).collect();
        assert!(scripts.iter().all(|script| script.contains("src=") && script.contains("></script>")), "{scripts:?}");
    }

    #[test]
    fn each_file_is_small_and_comes_back_out_of_gzip() {
        for file in SERVED.iter() {
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&*file.zipped.bytes).read_to_end(&mut text).unwrap();
            assert_eq!(text, file.plain.bytes, "{}", file.path);
        }
        let all: usize = SERVED.iter().map(|file| file.zipped.bytes.len()).sum();
        assert!(all < LARGEST, "{all} bytes");
    }

    #[test]
    fn encodings_and_tags_are_read_as_they_are_meant() {
        for (value, expected) in [
            ("gzip", true),
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZip;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=x", false),
            ("x-gzip", false),
            ("identity", false),
        ] {
            assert_eq!(takes_gzip(&headers(&[("accept-encoding", value)])), expected, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
        for (value, expected) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(has_tag(&headers(&[("if-none-match", value)]), "\"a\""), expected, "{value}");
        }
        assert!(!has_tag(&HeaderMap::new(), "\"a\""));
    }

    #[test]
    fn at_the_root_only_browsers_find_something() {
        let (browser, program) = (headers(&[("accept", "text/html,*/*;q=0.8")]), headers(&[("accept", "*/*")]));
        let status = |method: Method, path: &str, headers: &HeaderMap| {
            answer(&method, path, headers).map(|answer| answer.status().as_u16())
        };
        assert_eq!(status(Method::GET, "/", &browser), Some(200));
        assert_eq!(status(Method::HEAD, "/", &browser), Some(200));
        assert_eq!(status(Method::GET, "/", &program), None);
        assert_eq!(status(Method::POST, "/", &browser), Some(405));
        assert_eq!(status(Method::GET, "/page/herald.js", &program), Some(200));
        for path in
            ["", "/page", "/page/", "/page/index.html", "/page/../page/herald.js", "/page/herald.js/", "/index.html"]
        {
            assert_eq!(status(Method::GET, path, &browser), None, "{path}");
        }
    }
}
