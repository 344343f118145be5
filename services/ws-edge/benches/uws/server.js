// The peer `uws`: uWebSockets.js does what `sim floor` does. NATS core in (`arena.<sid>.<topic>`), the same envelope out on
// `/ws/<sid>`, one frame per event.
//
//     NODE_PATH=FOLDER_OF_NODE_MODULES node server.js --listen PORT --nats PORT [--coalesce]
//
// Each socket gets each frame at once. With `--coalesce` everything that one read from NATS brought for a session goes
// out in one corked write per socket.

"use strict";

const net = require("node:net");
const path = require("node:path");

// The binary itself: the package would fall back to JavaScript without a word where it has none for this Node.js.
const binary = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
const uws = require(path.join("@trufflesuite/uws-js-unofficial", "binaries", binary));

const flag = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const port = Number(flag("listen", "0"));
const natsPort = Number(flag("nats", "4222"));
const coalesce = process.argv.includes("--coalesce");

/** What is known of a session: its sockets, and with `--coalesce` the frames that wait for the end of this read. */
class Session {
  constructor(id) {
    this.id = id;
    this.sockets = new Set();
    this.waiting = [];
  }
}

const sessions = new Map();
let sequence = 0;

// Larger than any frame: the contract bounds an event to 1 MiB.
const scratch = Buffer.allocUnsafe((1 << 20) + 4096);
const DATA = Buffer.from(',"data":');

/** Builds the frame of an event in `scratch`, without a copy per socket before uWebSockets.js makes its own. */
function frame(topic, read, from, to) {
  let at = scratch.latin1Write(`{"event":"arena.${topic}"`, 0);
  at += DATA.copy(scratch, at);
  at += read.copy(scratch, at, from, to);
  sequence += 1;
  at += scratch.latin1Write(`,"seq":${sequence},"ts":${Date.now()}}`, at);
  return scratch.subarray(0, at);
}

const touched = new Set();

function event(subject, read, from, to) {
  const dot = subject.indexOf(".", 6);
  const session = sessions.get(subject.slice(6, dot));
  // Nobody watches: the floor does no more either.
  if (session === undefined) return;
  const bytes = frame(subject.slice(dot + 1), read, from, to);
  if (coalesce) {
    session.waiting.push(Buffer.from(bytes));
    touched.add(session);
  } else {
    for (const socket of session.sockets) socket.send(bytes, false);
  }
}

/** Writes what this read has brought. */
function flush() {
  for (const session of touched) {
    const frames = session.waiting;
    session.waiting = [];
    for (const socket of session.sockets) {
      socket.cork(() => {
        for (const bytes of frames) socket.send(bytes, false);
      });
    }
  }
  touched.clear();
}

const app = uws
  .App()
  .ws("/ws/:sid", {
    compression: uws.DISABLED,
    maxPayloadLength: 64 * 1024,
    idleTimeout: 120,
    // Nothing may be lost here, so that a client that stops reading is buffered for, within reason.
    maxBackpressure: 256 * 1024 * 1024,
    upgrade(response, request, context) {
      response.upgrade(
        { sid: request.getParameter(0) },
        request.getHeader("sec-websocket-key"),
        request.getHeader("sec-websocket-protocol"),
        request.getHeader("sec-websocket-extensions"),
        context,
      );
    },
    open(socket) {
      const { sid } = socket.getUserData();
      if (!sessions.has(sid)) sessions.set(sid, new Session(sid));
      sessions.get(sid).sockets.add(socket);
    },
    close(socket) {
      const session = sessions.get(socket.getUserData().sid);
      session.sockets.delete(socket);
      if (session.sockets.size === 0) sessions.delete(session.id);
    },
  });

const nats = net.connect({ host: "127.0.0.1", port: natsPort, noDelay: true }, () => {
  nats.write('CONNECT {"verbose":false,"pedantic":false,"name":"uws"}\r\nSUB arena.> 1\r\nPING\r\n');
});
nats.on("error", (error) => {
  console.error(`nats: ${error.message}`);
  process.exit(1);
});
nats.on("close", () => process.exit(1));

let rest = null;

nats.on("data", (chunk) => {
  const read = rest === null ? chunk : Buffer.concat([rest, chunk]);
  let at = 0;
  for (;;) {
    const end = read.indexOf(10, at);
    if (end < 0) break;
    if (read[at] === 77 /* MSG subject sid size */) {
      const line = read.latin1Slice(at + 4, end - 1);
      const from = end + 1;
      const to = from + Number(line.slice(line.lastIndexOf(" ") + 1));
      if (to + 2 > read.length) break;
      event(line.slice(0, line.indexOf(" ")), read, from, to);
      at = to + 2;
    } else {
      const line = read.latin1Slice(at, end - 1);
      if (line === "PING") nats.write("PONG\r\n");
      if (line === "PONG") listen();
      if (line.startsWith("-ERR")) console.error(`nats: ${line}`);
      at = end + 1;
    }
  }
  rest = at === read.length ? null : read.subarray(at);
  if (coalesce) flush();
});

/** Once the subscription is known to be in place. */
let listening = false;
function listen() {
  if (listening) return;
  listening = true;
  app.listen("127.0.0.1", port, (socket) => {
    if (!socket) {
      console.error(`port ${port} is not available`);
      process.exit(1);
    }
    console.log(`listening on 127.0.0.1:${uws.us_socket_local_port(socket)}`);
  });
}
