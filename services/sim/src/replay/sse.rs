//! Recorded SSE bodies as a Game Master: each request gets the next one of its kind, byte for byte.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    body::Body,
    extract::{Path as Segments, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream;
use herald_protocol::{
    SessionId,
    record::{Lang, NewsKind},
};
use herald_runtime::Context;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::read;
use crate::{
    cli::ReplayOptions,
    dice::Dice,
    gm::{
        game::{Game, Rules},
        poster,
    },
    pace::Speed,
    serve,
};

/// A piece of a body, and the pause before it, at speed 1.
pub type Piece = (Duration, Bytes);

/// A recorded body, cut for sending.
#[derive(Debug)]
pub struct Recording {
    pieces: Vec<Piece>,
}

impl Recording {
    /// Reads `NAME.sse` and, if it is there, `NAME.timing.ndjson`.
    ///
    /// # Errors
    /// If a file can't be read, or the timing is not that of the body.
    pub fn load(path: &Path, options: &ReplayOptions) -> Result<Self> {
        let body = Bytes::from(read(path)?);
        let timing = path.with_extension("timing.ndjson");
        let pieces = match (options.cut, options.chunk) {
            (Some(offset), _) => cut(&body, usize::try_from(offset)?),
            (None, Some(size)) => chunks(&body, size as usize),
            (None, None) if timing.exists() => {
                timed(&body, &read(&timing)?).with_context(|| timing.display().to_string())?
            }
            (None, None) => frames(&body).into_iter().map(|frame| (Duration::ZERO, frame)).collect(),
        };
        Ok(Self { pieces })
    }

    /// The body, piece by piece.
    fn body(&self, speed: Speed, token: CancellationToken) -> Body {
        let pieces = self.pieces.clone().into_iter();
        Body::from_stream(stream::unfold(pieces, move |mut pieces| {
            let token = token.clone();
            async move {
                let (pause, piece) = pieces.next()?;
                token.run_until_cancelled(speed.pause(pause)).await?;
                Some((Ok::<_, Infallible>(piece), pieces))
            }
        }))
    }
}

/// In two pieces.
fn cut(body: &Bytes, offset: usize) -> Vec<Piece> {
    let offset = offset.min(body.len());
    let pieces = [body.slice(..offset), body.slice(offset..)];
    pieces.into_iter().filter(|piece| !piece.is_empty()).map(|piece| (Duration::ZERO, piece)).collect()
}

/// In pieces of the same size.
fn chunks(body: &Bytes, size: usize) -> Vec<Piece> {
    let starts = (0..body.len()).step_by(size.max(1));
    starts.map(|at| (Duration::ZERO, body.slice(at..(at + size).min(body.len())))).collect()
}

/// Event by event; what follows the last empty line is a piece of its own.
fn frames(body: &Bytes) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut start = 0;
    for at in 1..body.len() {
        if &body[at - 1..=at] == b"\n\n" && at + 1 > start {
            frames.push(body.slice(start..=at));
            start = at + 1;
        }
    }
    if start < body.len() {
        frames.push(body.slice(start..));
    }
    frames
}

/// Event by event, each when it came.
fn timed(body: &Bytes, timing: &[u8]) -> Result<Vec<Piece>> {
    #[derive(Deserialize)]
    struct Came {
        t_ms: f64,
    }
    let frames = frames(body);
    let lines = timing.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let times = lines.map(serde_json::from_slice::<Came>).collect::<Result<Vec<_>, _>>()?;
    ensure!(times.len() == frames.len(), "{} times for {} events", times.len(), frames.len());
    let mut now = 0.0;
    let pieces = frames.into_iter().zip(times).map(|(frame, Came { t_ms })| {
        let pause = (t_ms - now).clamp(0.0, 86_400_000.0);
        now = t_ms;
        (Duration::from_secs_f64(pause / 1000.0), frame)
    });
    Ok(pieces.collect())
}

/// A game master whose story is fixed.
#[derive(Debug)]
pub struct Recorded {
    proposes: Reel,
    chooses: Reel,
    start: Value,
    state: Value,
    speed: Speed,
    token: CancellationToken,
}

/// Recordings of one kind, played one after the other, the last one again and again.
#[derive(Debug, Default)]
struct Reel {
    recordings: Vec<Recording>,
    played: AtomicUsize,
}

impl Reel {
    fn next(&self) -> Option<&Recording> {
        let at = self.played.fetch_add(1, Ordering::Relaxed);
        self.recordings.get(at.min(self.recordings.len().checked_sub(1)?))
    }
}

impl Recorded {
    /// Reads the files. `gm-start.json` and `gm-state.json` beside the first one are served too; without them a
    /// start of our own is.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn load(options: &ReplayOptions, token: CancellationToken) -> Result<Self> {
        let (mut proposes, mut chooses) = (Reel::default(), Reel::default());
        for path in &options.files {
            let choose = path.file_name().is_some_and(|name| name.to_string_lossy().contains("choose"));
            let reel = if choose { &mut chooses } else { &mut proposes };
            reel.recordings.push(Recording::load(path, options)?);
        }
        let beside = |name: &str| -> Option<Value> {
            let path = options.files.first()?.with_file_name(name);
            serde_json::from_slice(&std::fs::read(path).ok()?).ok()
        };
        let mut game = Game::new(Rules { seed: 1, turns: 10, article_bytes: 1000 }, SessionId::new("recorded")?);
        let start = beside("gm-start.json").map_or_else(|| serde_json::to_value(game.start(Lang::Fr)), Ok)?;
        let state = beside("gm-state.json").map_or_else(|| serde_json::to_value(game.state()), Ok)?;
        Ok(Self { proposes, chooses, start, state, speed: options.speed, token })
    }

    /// Its routes: those of a Game Master.
    pub fn router(self) -> Router {
        Router::new()
            .route("/api/start", get(async |State(gm): State<Arc<Self>>| gm.start()))
            .route("/api/state", get(async |State(gm): State<Arc<Self>>| axum::Json(gm.state.clone())))
            .route("/api/stream/propose", get(async |State(gm): State<Arc<Self>>| gm.play(&gm.proposes)))
            .route("/api/stream/choose", get(async |State(gm): State<Arc<Self>>| gm.play(&gm.chooses)))
            .route("/api/images/{id}/{file}", get(async |Segments((_, file)): Segments<(String, String)>| image(&file)))
            .with_state(Arc::new(self))
    }

    /// A start rewinds.
    fn start(&self) -> Response {
        self.proposes.played.store(0, Ordering::Relaxed);
        self.chooses.played.store(0, Ordering::Relaxed);
        axum::Json(self.start.clone()).into_response()
    }

    fn play(&self, reel: &Reel) -> Response {
        let Some(recording) = reel.next() else {
            return (StatusCode::NOT_FOUND, axum::Json(json!({ "detail": "Not Found" }))).into_response();
        };
        let headers = [
            (header::CACHE_CONTROL, "no-cache"),
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
            (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        ];
        (headers, recording.body(self.speed, self.token.clone())).into_response()
    }
}

/// The recorded pictures are not kept: a poster of our own stands for each.
fn image(file: &str) -> Response {
    match file.strip_suffix(".png").and_then(NewsKind::parse) {
        Some(kind) => {
            ([(header::CONTENT_TYPE, "image/png")], poster::draw(&mut Dice::new(1, file), kind)).into_response()
        }
        None => (StatusCode::NOT_FOUND, axum::Json(json!({ "error": "not found" }))).into_response(),
    }
}

/// Serves until the shutdown begins.
///
/// # Errors
/// If a file can't be read or the address can't be bound.
pub(super) async fn run(options: ReplayOptions, context: Context) -> Result<()> {
    let token = context.shutdown.token();
    let recorded = Recorded::load(&options, token.clone())?;
    let listener = context.listen("recorded game master", options.listen).await?;
    let (proposes, chooses) = (recorded.proposes.recordings.len(), recorded.chooses.recordings.len());
    tracing::info!(proposes, chooses, "recorded traffic, no game master");
    serve::until(token, listener, recorded.router()).await
}
