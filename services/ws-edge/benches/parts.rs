//! `cargo bench -p ws-edge --bench parts`: what the pure parts of the hot path take, one by one.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;

use async_nats::Subject;
use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use herald_protocol::{Cursor, frame::Tail};
use ws_edge::{
    dialect::DialectName,
    event::Event,
    intake::sequence_and_time,
    log::{Batch, Budget, Frame, Read, Ring},
    view::Encoding,
    websocket::Inbound,
};

use material::{EPOCH, READ_AT_ONCE, RING, STORED_MS, agent_output, client_frames, event, proposal, view};

#[path = "../examples/instructions/material.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the example that counts instructions")]
mod material;

const SIZES: [usize; 3] = [100, 300, 64 << 10];

fn main() {
    divan::main();
}

/// The frame of a Game Master's event, as each dialect and encoding has it, for each size.
mod frame {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn event_plain(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::Event, Encoding::Plain, "gm", "strategy", &proposal(size));
    }

    #[divan::bench(args = SIZES)]
    fn event_v1(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::Event, Encoding::V1, "gm", "strategy", &proposal(size));
    }

    #[divan::bench(args = SIZES)]
    fn event_sse(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::Event, Encoding::Sse, "gm", "strategy", &proposal(size));
    }

    #[divan::bench(args = SIZES)]
    fn app_plain(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::App, Encoding::Plain, "gm", "strategy", &proposal(size));
    }

    #[divan::bench(args = SIZES)]
    fn app_v1(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::App, Encoding::V1, "gm", "strategy", &proposal(size));
    }

    #[divan::bench(args = SIZES)]
    fn app_sse(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::App, Encoding::Sse, "gm", "strategy", &proposal(size));
    }

    // This dialect shows the arena alone.
    #[divan::bench(args = SIZES)]
    fn gm_plain(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::Gm, Encoding::Plain, "arena", "agent.a.output", &agent_output(size));
    }

    #[divan::bench(args = SIZES)]
    fn gm_v1(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::Gm, Encoding::V1, "arena", "agent.a.output", &agent_output(size));
    }

    #[divan::bench(args = SIZES)]
    fn gm_sse(bencher: Bencher<'_, '_>, size: usize) {
        encode(bencher, DialectName::Gm, Encoding::Sse, "arena", "agent.a.output", &agent_output(size));
    }

    fn encode(
        bencher: Bencher<'_, '_>,
        dialect: DialectName,
        encoding: Encoding,
        root: &str,
        topic: &str,
        payload: &Bytes,
    ) {
        let view = view(dialect, encoding);
        let subject = Subject::from(format!("{root}.{}.{topic}", material::SESSION));
        let event = Event::parse(subject, 48_210_377, STORED_MS, payload.clone()).unwrap();
        let tail = Tail { prev: Some(48_210_371), ..Tail::plain(event.seq, event.ts_ms) };
        let cursor = Some(Cursor { epoch: EPOCH, seq: event.seq });
        bencher.counter(BytesCount::new(payload.len())).bench(|| {
            let event = black_box(&event);
            view.shows(event).then(|| view.encode(&view.head(event).unwrap(), tail, cursor)).unwrap()
        });
    }
}

/// A ring as ws-edge has it, full: each frame that comes drops one.
mod ring {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn append(bencher: Bencher<'_, '_>, size: usize) {
        let (mut ring, bytes) = filled(size);
        let mut seq = RING.frames as u64;
        bencher.bench_local(|| {
            seq += 1;
            ring.append(seq, seq - 1, bytes.clone())
        });
    }

    /// As many frames as a connection that is behind reads at once.
    #[divan::bench(args = [100, 300])]
    fn read_64(bencher: Bencher<'_, '_>, size: usize) {
        let (ring, _) = filled(size);
        let after = RING.frames as u64 / 2;
        assert!(matches!(ring.read(after, READ_AT_ONCE.0, READ_AT_ONCE.1), Read::Frames(frames) if frames.len() == 64));
        bencher.bench(|| ring.read(black_box(after), READ_AT_ONCE.0, READ_AT_ONCE.1));
    }

    #[divan::bench]
    fn read_nothing(bencher: Bencher<'_, '_>) {
        let (ring, _) = filled(300);
        bencher.bench(|| ring.read(black_box(RING.frames as u64), READ_AT_ONCE.0, READ_AT_ONCE.1));
    }

    fn filled(size: usize) -> (Ring, Bytes) {
        let (mut ring, bytes) = (Ring::new(RING, Budget::new(256 << 20), 0), agent_output(size));
        for seq in 1..=RING.frames as u64 {
            ring.append(seq, seq - 1, bytes.clone());
        }
        (ring, bytes)
    }
}

/// Frames that go out together.
mod batch {
    use super::*;

    #[divan::bench(args = [1, 2, 8, 64])]
    fn join(bencher: Bencher<'_, '_>, count: usize) {
        bencher.with_inputs(|| frames(count)).bench_values(Batch::new);
    }

    #[divan::bench(args = [1, 64])]
    fn behind(bencher: Bencher<'_, '_>, count: usize) {
        let batch = Batch::new(frames(count));
        bencher.bench(|| batch.behind(black_box(0)).1.len());
    }

    fn frames(count: usize) -> Vec<Frame> {
        let (mut ring, bytes) = (Ring::new(RING, Budget::new(256 << 20), 0), agent_output(300));
        (1..=count as u64).map(|seq| ring.append(seq, seq - 1, bytes.clone()).unwrap()).collect()
    }
}

/// What arrives.
mod parse {
    use super::*;

    #[divan::bench(args = [
        "$JS.ACK.EVENTS.Jx2mK0qLw8.1.48210377.91022.1767225600000000017.3",
        "$JS.ACK._.hash.EVENTS.Jx2mK0qLw8.1.48210377.91022.1767225600000000017.3.random",
    ])]
    fn delivery(reply: &str) -> Option<(u64, u64)> {
        sequence_and_time(black_box(reply))
    }

    #[divan::bench]
    fn subject(bencher: Bencher<'_, '_>) {
        let payload = agent_output(300);
        bencher.bench(|| event(black_box(7), &payload));
    }

    /// Three frames of a client.
    #[divan::bench]
    fn inbound(bencher: Bencher<'_, '_>) {
        let (bytes, _) = client_frames();
        let mut parser = Inbound::new(4096);
        bencher.bench_local(|| {
            let mut input = black_box(&bytes[..]);
            while let Some(received) = parser.read(&mut input).unwrap() {
                black_box(received);
            }
        });
    }

    #[divan::bench(args = [DialectName::Event, DialectName::Gm])]
    fn shows(bencher: Bencher<'_, '_>, dialect: DialectName) {
        let (view, event) = (view(dialect, Encoding::Plain), event(7, &agent_output(300)));
        bencher.bench(|| Arc::as_ref(&view).shows(black_box(&event)));
    }
}
