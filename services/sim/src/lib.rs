//! Stand-ins for what Herald does not contain. Nothing here is an LLM, the original Game Master or the original arena
//! engine: texts are invented and drawn by lot from a seed, rules are kept where Herald or a client can see them.
//!
//! | command | speaks | for |
//! |---|---|---|
//! | `sim gm` | the Game Master's HTTP and SSE | playing without the real one |
//! | `sim arena` | the arena engine's NATS subjects | debates without the real one |
//! | `sim replay FILE...` | recorded `.sse` bodies over HTTP, or a recorded `arena.ndjson` over NATS | tests on real traffic |
//! | `sim players` | the public door: HTTP and WebSocket | playing, watching, proof, load |
//! | `sim check` | the public door, and NATS as an arena engine and to read the log | proof under faults |
//! | `sim load` | the public door's WebSocket, and NATS as an arena engine | speed: exactness, latencies, CPU, memory |
//! | `sim floor` | the public door's WebSocket, from NATS | the yardstick of that: the least a server can do |
//!
//! ```text
//! sim gm      [--listen 127.0.0.1:8899] [--door http://127.0.0.1:8000/gm | --no-door] [--id G] [--seed N] [--speed F]
//!             [--turns 10] [--tokens N] [--article-bytes N] [--stamp] [--arena-wait 120s] [--reopen] [--leak]
//!             [--numbered [--events 100] [--pace 20ms]]         (--listen several times: several game masters)
//! sim arena   [--nats nats://127.0.0.1:4222] [--seed N] [--speed F] [--rounds 10] [--patience 5m] [--saves DIR]
//! sim replay  FILE... [--speed F] [--listen 127.0.0.1:8899] [--chunk BYTES] [--cut OFFSET]       (.sse)
//!                     [--nats URL] [--map OLD=NEW]... [--session S] [--with-init]                  (.ndjson)
//! sim players [--url http://127.0.0.1:8000] [--sockets N] [--sessions M] [--turns T] [--lang fr|en] [--seed N]
//!             [--pick real|fake|satirical|lot] [--debates] [--article-bytes N] [--timeout 180s]
//!             [--check | --watch [--raw] [--after CURSOR | --snapshot]] [--session S]
//! sim check   [--url http://127.0.0.1:8000]... [--nats nats://127.0.0.1:4222] [--seconds 60] [--seed N]
//!             [--sessions 6] [--clients 8] [--rate 10] [--gm-sessions 0] [--life 40s] [--settle 30s] [--marks] [--json FILE]
//! sim load    --rate R | --window N | --burst N | --idle | --connect-rate | --resume K [--within 2s]
//!             [--url ws://127.0.0.1:8000] [--protocol herald|plain|nats] [--v1] [--nats 127.0.0.1:4222] [--pid PID,...]
//!             [--sessions 1] [--clients 1] [--watched W] [--seconds 10] [--warmup 2] [--size 300] [--acks N]
//!             [--stalled K [--stall-seconds 8]] [--receive-buffer BYTES] [--handshakes 128] [--sources 1] [--threads 1]
//!             [--settle 10s] [--json]
//! sim floor   [--listen 127.0.0.1:8000] [--nats 127.0.0.1:4222] [--subject 'arena.>'] [--coalesce]
//! ```
//!
//! Each takes `--log-format auto|pretty|json` (`HERALD_LOG__FORMAT`); logs go to standard error.
//!
//! `--speed F` divides every pause by F; `--speed max` leaves them out. Time limits (the 120 s and 5 minutes of the
//! originals, a heartbeat each silent second) are not paces: they stay. `--listen` may name port 0; the address bound
//! is printed, and written to the file named by `HERALD_PORTS_FILE` as `{"listeners":["127.0.0.1:1234"]}` (`floor` prints it
//! alone). SIGTERM and Ctrl-C end every command with 0, but `floor` and `load`, which they end as they end what does not know them;
//! `players` exits 1 where something was lost, doubled or out of order, or a turn did not come to its end, `load` where a
//! client did not see each event once and in order, and `check` where its verdict is not `ok` (on SIGTERM, too, it first brings what it plays to
//! its end).

#![forbid(unsafe_code)]

pub mod arena;
pub mod check;
pub mod cli;
pub mod dice;
pub mod floor;
pub mod frame;
pub mod gm;
pub mod load;
pub mod pace;
pub mod players;
pub mod replay;
pub mod serve;
pub mod websocket;
pub mod wire;
