//! `--watch`: the frames of one session, one line each, for whoever has no WebSocket client at hand.

use std::{io::Write, time::Duration};

use anyhow::{Result, bail};
use futures_util::StreamExt;
use herald_protocol::{Cursor, Epoch, SessionId, frame};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;

use super::http::Api;
use crate::{
    cli::PlayersOptions,
    frame::Frame,
    websocket::{Speech, connect},
};

/// Between two attempts to reach a door that is away.
const RETRY: Duration = Duration::from_secs(1);
/// Of an event's content, so many characters are shown; `--raw` shows all.
const SHOWN: usize = 150;

/// Prints until the token is cancelled, the reader of the output is gone, or the door says no for good.
///
/// # Errors
/// If the door refuses the socket.
pub async fn watch(api: &Api, session: &SessionId, options: &PlayersOptions, token: CancellationToken) -> Result<()> {
    let mut place =
        Place { epoch: None, query: options.after.map(|after| format!("?after={after}")).unwrap_or_default() };
    if options.snapshot {
        place.query = "?snapshot=1".into();
    }
    let mut out = std::io::stdout();
    loop {
        let url = format!("{}{}", api.socket(session), place.query);
        let Some(opened) = token.run_until_cancelled(connect(&url, Speech::V1)).await else { return Ok(()) };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(WsError::Http(response)) if response.status().is_client_error() => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                bail!("{url}: {} {body}", response.status());
            }
            Err(error) => {
                tracing::warn!(%error, "the door is away, trying again");
                token.run_until_cancelled(tokio::time::sleep(RETRY)).await;
                continue;
            }
        };
        while let Some(Some(message)) = token.run_until_cancelled(stream.next()).await {
            let text = match message {
                // Of interest to nobody who reads along.
                Ok(Message::Text(text)) if text.as_str() == frame::BEAT => continue,
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(close)) => {
                    tracing::warn!(close = close.map(|close| close.to_string()), "closed");
                    break;
                }
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%error, "lost");
                    break;
                }
            };
            let line = if options.raw { text.to_string() } else { readable(&text) };
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return Ok(());
            }
            place.note(&text);
        }
        if token.is_cancelled() {
            let _ = tokio::time::timeout(RETRY, stream.close(None)).await;
        }
        token.run_until_cancelled(tokio::time::sleep(RETRY)).await;
    }
}

/// Where to come back: behind the last event, in that life of the stream which the last hello named.
struct Place {
    epoch: Option<Epoch>,
    query: String,
}

impl Place {
    fn note(&mut self, text: &str) {
        #[derive(Deserialize)]
        struct Hello {
            epoch: Epoch,
            head: u64,
        }
        let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else { return };
        match (frame.seq, self.epoch) {
            (Some(seq), Some(epoch)) => self.query = format!("?after={}", Cursor { epoch, seq }),
            (Some(seq), None) => self.query = format!("?after={seq}"),
            (None, _) if frame.event == "herald.hello" => {
                let Ok(Hello { epoch, head }) = serde_json::from_str(frame.data.get()) else { return };
                self.epoch = Some(epoch);
                if self.query.is_empty() {
                    // It began with what is live: behind the head of that moment.
                    self.query = format!("?after={}", Cursor { epoch, seq: head });
                }
            }
            (None, _) => {}
        }
    }
}

/// Time, sequence, event, the beginning of the content.
fn readable(text: &str) -> String {
    let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else { return text.to_owned() };
    let seconds = frame.ts.map_or(0, |ms| ms / 1000) % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let time = match frame.ts {
        Some(ms) => format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, ms % 1000),
        None => "            ".into(),
    };
    let seq = frame.seq.map(|seq| seq.to_string()).unwrap_or_default();
    let data = frame.data.get();
    let shown: String = data.chars().take(SHOWN).collect();
    let more = if shown.len() < data.len() { "…" } else { "" };
    format!("{time} {seq:>8} {:<24} {shown}{more}", frame.event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_readable_line() {
        let frame = r#"{"event":"gm.phase","data":{"type": "phase"},"seq":7,"ts":1700000000123,"prev":0}"#;
        assert_eq!(readable(frame), r#"22:13:20.123        7 gm.phase                 {"type": "phase"}"#);
        let control = r#"{"event":"herald.live","data":{"after":3}}"#;
        assert_eq!(readable(control), r#"                      herald.live              {"after":3}"#);
        let long = format!(r#"{{"event":"gm.x","data":"{}","seq":1,"ts":0}}"#, "é".repeat(500));
        assert!(readable(&long).ends_with('…') && readable(&long).chars().count() < 220);
        assert_eq!(readable("odd"), "odd");
    }

    #[test]
    fn it_comes_back_behind_the_last_event_of_the_same_life() {
        let mut place = Place { epoch: None, query: "?after=3".into() };
        let mut after = |text: &str| {
            place.note(text);
            place.query.clone()
        };
        assert_eq!(after("odd"), "?after=3");
        assert_eq!(after(r#"{"event":"gm.phase","data":{},"seq":7}"#), "?after=7");
        let hello = |epoch: &str| format!(r#"{{"event":"herald.hello","data":{{"epoch":"{epoch}","head":9}}}}"#);
        assert_eq!(after(&hello("3f2a9c01")), "?after=7");
        assert_eq!(after(r#"{"event":"gm.phase","data":{},"seq":8}"#), "?after=3f2a9c01-8");
        assert_eq!(after(r#"{"event":"herald.live","data":{"after":3}}"#), "?after=3f2a9c01-8");
        let mut live = Place { epoch: None, query: String::new() };
        live.note(&hello("3f2a9c01"));
        assert_eq!(live.query, "?after=3f2a9c01-9");
        after(&hello("00000002"));
        assert_eq!(after(r#"{"event":"gm.phase","data":{},"seq":1}"#), "?after=00000002-1");
    }
}
