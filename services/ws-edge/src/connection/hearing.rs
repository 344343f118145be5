//! What a client sends: signs of life, fresh tokens, messages for its engine, a close.

use std::io;

use herald_protocol::Close;
use metrics::counter;
use tokio::time::Instant;

use super::{Connection, End, READ_AT_ONCE, inflow::Flood};
use crate::{
    identity::{Heard, token},
    replay::Command,
    websocket::{self, Kept, Received},
};

impl Connection {
    pub(super) fn read(&mut self) -> Result<(), End> {
        let mut buffer = [0; READ_AT_ONCE];
        match self.socket.tcp().try_read(&mut buffer) {
            Ok(0) => Err(End::Gone),
            Ok(read) => self.receive(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A message: a fresh token, something for the engine, or of no interest. Returns whether the next may be looked at by now.
    fn message(&mut self) -> Result<bool, End> {
        let kept = self.inbound.take();
        // Whether or not anybody asks for tokens here: one is for nobody else.
        let about_token = match &kept {
            Some(Kept { binary: false, message }) => message.len() <= token::MAX_FRAME && token::is_frame(message),
            _ => false,
        };
        let heard = match (&mut self.lease, &kept) {
            (Some(lease), Some(Kept { message, .. })) if about_token => lease.hear(message),
            _ => Heard::Else,
        };
        if let (Heard::Else, true, Some(Kept { binary: false, message })) = (heard, self.feed.is_timed(), &kept)
            && self.view.is_chained()
            && message.len() <= Command::MAX_FRAME
            && let Some(command) = Command::in_frame(message)
        {
            self.replay(command);
            return Ok(true);
        }
        match (heard, &mut self.upward, kept) {
            (Heard::Token, ..) => Ok(true),
            (Heard::TooMany, ..) => Err(End::Close(Close::Policy("one token at a time"))),
            (Heard::Else, Some(upward), Some(Kept { binary, message })) if !about_token => {
                upward.send(self.stay.guest(), binary, message)
            }
            (Heard::Else, ..) => {
                #[cfg(feature = "echo")]
                self.echo()?;
                #[cfg(not(feature = "echo"))]
                counter!("herald_ignored_messages_total").increment(1);
                Ok(true)
            }
        }
    }

    /// Takes in what the client sent: signs of life, a close, messages.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<(), End> {
        let bytes = input.len();
        if bytes > 0 {
            self.heartbeat.heard();
        }
        let now = Instant::now();
        if self.inflow.is_paid(now) && self.upward.as_ref().is_none_or(|upward| upward.is_paid(now)) {
            self.inflow.rested();
            if let Some(upward) = &mut self.upward {
                upward.rested();
            }
        }
        self.look_at(input)?;
        match self.inflow.read(&self.limits.inflow, self.inbound.take_frames(), bytes, Instant::now()) {
            Ok(false) => {}
            Ok(true) => counter!("herald_inbound_slowed_total").increment(1),
            Err(Flood) => return Err(End::Broken(Close::Policy("too much is sent"))),
        }
        Ok(())
    }

    /// Looks at what came, up to a message that is one too many: the rest waits.
    pub(super) fn look_at(&mut self, mut input: &[u8]) -> Result<(), End> {
        while let Some(received) = self.inbound.read(&mut input).map_err(End::Broken)? {
            match received {
                Received::Message(_) => {
                    let next = self.message();
                    if let (Ok(false) | Err(_), Some(upward)) = (&next, &mut self.upward) {
                        upward.hold(input);
                        return next.map(drop);
                    }
                    next?;
                }
                Received::Ping(payload) => self.send_control(websocket::pong_frame(&payload).into())?,
                Received::Pong => {}
                Received::Close(_) => return Err(End::Asked),
            }
        }
        if let Some(upward) = &mut self.upward {
            let (bytes, binary) = self.inbound.unfinished();
            upward.arriving(bytes, binary)?;
        }
        Ok(())
    }
}
