//! The HTTP API, with the answers of the original's framework where a client can see them.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use herald_protocol::record::{Lang, NewsKind};
use serde_json::{Value, json};

use super::{GameMaster, action::Command, door::Door, stream};

type Gm = State<Arc<GameMaster>>;
type Params = Query<HashMap<String, String>>;

/// The routes.
pub fn router(gm: Arc<GameMaster>) -> Router {
    Router::new()
        .route("/api/start", only_get(get(start)))
        .route("/api/state", only_get(get(state)))
        .route("/api/stream/propose", only_get(get(propose)))
        .route("/api/stream/choose", only_get(get(choose)))
        .route("/api/images/{id}/{file}", only_get(get(image)))
        .route("/api/wh26", only_get(get(arena)))
        .route("/health", only_get(get(health)))
        .route("/calls", only_get(get(calls)))
        .fallback(async || answer(StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" })))
        .layer(middleware::map_response(async |mut response: Response| {
            response.headers_mut().insert(header::SERVER, HeaderValue::from_static("herald-sim"));
            response
        }))
        .with_state(gm)
}

/// Nothing but GET, as in the original: here a HEAD would wipe a game.
fn only_get<S: Clone + Send + Sync + 'static>(route: MethodRouter<S>) -> MethodRouter<S> {
    let refuse = async |_: Method| {
        let refusal = answer(StatusCode::METHOD_NOT_ALLOWED, &json!({ "detail": "Method Not Allowed" }));
        ([(header::ALLOW, "GET")], refusal)
    };
    route.head(refuse).fallback(refuse)
}

async fn start(State(gm): Gm, Query(params): Params) -> Response {
    match lang(&params) {
        Ok(lang) => answer(StatusCode::OK, &gm.game().start(lang)),
        Err(refusal) => *refusal,
    }
}

async fn state(State(gm): Gm) -> Response {
    answer(StatusCode::OK, &gm.game().state())
}

async fn propose(State(gm): Gm, Query(params): Params) -> Response {
    match lang(&params) {
        Ok(lang) => play(&gm, Command::Propose, lang),
        Err(refusal) => *refusal,
    }
}

async fn choose(State(gm): Gm, Query(params): Params) -> Response {
    let lang = match lang(&params) {
        Ok(lang) => lang,
        Err(refusal) => return *refusal,
    };
    let Some(kind) = params.get("kind") else {
        return invalid(json!({ "type": "missing", "loc": ["query", "kind"], "msg": "Field required", "input": null }));
    };
    match NewsKind::parse(kind) {
        Some(kind) => play(&gm, Command::Choose(kind), lang),
        // The original looks the kind up without a check.
        None => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response(),
    }
}

async fn image(State(gm): Gm, Path((id, file)): Path<(String, String)>) -> Response {
    let own = id == gm.game().id.as_str();
    let poster = file.strip_suffix(".png").filter(|_| own).and_then(|kind| gm.posters().get(kind).cloned());
    match poster {
        Some(poster) => ([(header::CONTENT_TYPE, "image/png")], poster).into_response(),
        None => answer(StatusCode::NOT_FOUND, &json!({ "error": "not found" })),
    }
}

async fn arena(State(gm): Gm) -> Response {
    let door = gm.door.as_ref();
    let body = json!({
        "connected": door.is_some_and(Door::connected),
        "wh26_url": door.map(Door::url),
        "arena_session_id": gm.game().id,
    });
    answer(StatusCode::OK, &body)
}

async fn health(State(gm): Gm) -> Response {
    let game = gm.game();
    let body = json!({
        "status": "ok",
        "service": "sim gm",
        "stand_in": true,
        "note": "no model: invented texts drawn by lot from the seed",
        "seed": gm.options.seed,
        "games": game.number,
        "turn": game.turn,
        "door_open": gm.door.as_ref().is_some_and(Door::connected),
        "heard": gm.door.as_ref().map(Door::heard),
    });
    answer(StatusCode::OK, &body)
}

/// With `--numbered`: what was called for, for people.
async fn calls(State(gm): Gm) -> Response {
    match &gm.numbered {
        Some(numbered) => answer(StatusCode::OK, &json!({ "id": gm.game().id, "calls": numbered.calls() })),
        None => answer(StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" })),
    }
}

fn play(gm: &Arc<GameMaster>, command: Command, lang: Lang) -> Response {
    let (stamp, token) = (gm.options.stamp, gm.token.clone());
    let body = match &gm.numbered {
        Some(_) => gm.call(command).map(|bursts| stream::body(bursts, |burst| burst, token)),
        None => {
            gm.act(command, lang).map(|events| stream::body(events, move |event| stream::write(event, stamp), token))
        }
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "detail": error.to_string() })),
    };
    let headers = [
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    ];
    (headers, body).into_response()
}

/// `lang`, French by default.
fn lang(params: &HashMap<String, String>) -> Result<Lang, Box<Response>> {
    let Some(given) = params.get("lang") else { return Ok(Lang::Fr) };
    Lang::parse(given).ok_or_else(|| {
        Box::new(invalid(json!({
            "type": "string_pattern_mismatch",
            "loc": ["query", "lang"],
            "msg": "String should match pattern '^(fr|en)$'",
            "input": given,
            "ctx": { "pattern": "^(fr|en)$" },
        })))
    })
}

fn invalid(detail: Value) -> Response {
    answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "detail": [detail] }))
}

fn answer(status: StatusCode, body: &impl serde::Serialize) -> Response {
    // Strings and numbers: they can't fail to become JSON.
    let body = serde_json::to_vec(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
