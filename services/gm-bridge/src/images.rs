//! The Game Master's pictures. It overwrites them each turn under the same name: a browser keeps them, but asks each time.

use axum::{
    body::Bytes,
    response::{IntoResponse, Response},
};
use herald_protocol::{Segment, SessionId};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    game_master::{Image, RequestError},
    pool::{Pool, Seat},
    query::Parameters,
    refusal::Refusal,
    sessions::Sessions,
};

/// What a picture is where the Game Master does not say.
const UNKNOWN_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A picture that is opened by itself is no page of ours, whatever the Game Master says it is: nothing in it runs.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");

/// A picture with the name of its content, for `If-None-Match`.
#[derive(Debug)]
pub(crate) struct Picture {
    image: Image,
    tag: String,
}

/// Fetches a picture of the game `id`: a Game Master's own id, as its events name it, or a session's. Whoever asks must be
/// one that may open the session it is played in; `asked` knows.
pub(crate) async fn fetch(
    sessions: &Sessions,
    pool: &Pool,
    asked: &Parameters,
    id: &Segment,
    file: &Segment,
) -> Result<Picture, Refusal> {
    if let Some((seat, played)) = pool.by_game(id.as_str()).await? {
        match played {
            Some(played) => drop(asked.allowed(played.session)?),
            None => asked.all_allowed()?,
        }
        return from(seat, id, file).await;
    }
    if let Ok(session) = SessionId::new(id.as_str())
        && let Some(known) = sessions.get(&session).await?
        && let Some(seat) = pool.of(&session, &known).await?
        && let Some(game) = pool.game_of(seat).await?.and_then(|g| Segment::new(&g).ok())
    {
        asked.allowed(session)?;
        return from(seat, &game, file).await;
    }
    // Nobody's that we know, as after a restart of the Game Master: each of them may have it.
    asked.all_allowed()?;
    let mut refusal = not_found();
    for seat in pool.seats() {
        match from(seat, id, file).await {
            Err(other) if other.status == StatusCode::NOT_FOUND => {}
            Err(other) => refusal = other,
            found => return found,
        }
    }
    Err(refusal)
}

/// Neither we nor the Game Master have it.
pub(crate) fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "Image not found")
}

async fn from(seat: &Seat, game: &Segment, file: &Segment) -> Result<Picture, Refusal> {
    match seat.gm.image(game, file).await {
        Ok(image) => Ok(Picture { tag: tag(&image.bytes), image }),
        Err(RequestError::NotFound) => Err(not_found()),
        Err(error) => Err(Refusal::game_master(&error, "Image fetch failed")),
    }
}

/// A strong entity tag: two pictures have the same one only if they are the same.
fn tag(bytes: &Bytes) -> String {
    format!("\"{}\"", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, bytes).simple())
}

impl Picture {
    /// The answer to a request with these headers: 304 without the picture where the client has it.
    pub(crate) fn answer(self, request: &HeaderMap) -> Response {
        let Ok(tag) = HeaderValue::from_str(&self.tag) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let headers = [
            (header::ETAG, tag),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, NO_PAGE),
        ];
        if known(request, &self.tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.image.content_type.unwrap_or(UNKNOWN_TYPE))];
        (headers, content_type, self.image.bytes).into_response()
    }
}

/// Whether `If-None-Match` names the tag; a weak tag names the same picture.
fn known(request: &HeaderMap, tag: &str) -> bool {
    let lists = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|have| have == "*" || have.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let bytes = Bytes::from_static(b"png");
        let image = Image { content_type: Some(HeaderValue::from_static("image/png")), bytes: bytes.clone() };
        Picture { image, tag: tag(&bytes) }
    }

    #[test]
    fn a_picture_names_its_content_and_is_asked_for_again() {
        let response = picture().answer(&HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "image/png");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        assert_eq!(response.headers()[header::ETAG].to_str().unwrap(), picture().tag);
        assert_ne!(tag(&Bytes::from_static(b"other")), picture().tag);
    }

    #[test]
    fn a_picture_that_the_client_has_is_not_sent_again() {
        let tag = picture().tag;
        for (sent, status) in [
            (tag.clone(), StatusCode::NOT_MODIFIED),
            (format!("\"x\", W/{tag}"), StatusCode::NOT_MODIFIED),
            ("*".to_owned(), StatusCode::NOT_MODIFIED),
            ("\"x\"".to_owned(), StatusCode::OK),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(&sent).unwrap())]);
            assert_eq!(picture().answer(&headers).status(), status, "{sent}");
        }
    }
}
