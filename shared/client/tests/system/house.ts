// A real Herald on free ports of this machine: nats-server, gm-bridge, a Game Master stand-in, ws-edge. All of it ends with
// the test, also where that is killed.

import { spawn, type ChildProcess } from "node:child_process";
import { createConnection, type Socket } from "node:net";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const READY_MS = 30_000;

/** Waits for a condition, for a bounded time; says what it last was. */
export async function eventually<T>(what: string, look: () => T | Promise<T>, ms = READY_MS): Promise<Exclude<NonNullable<T>, false>> {
  const until = Date.now() + ms;
  for (;;) {
    let last: unknown;
    try {
      const found = await look();
      if (found) return found as Exclude<NonNullable<T>, false>;
      last = found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > until) throw new Error(`${what}: not within ${ms} ms, last: ${String(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// Reads the pids that run now; where its input ends before "done", the test was killed, and it ends what is left.
const WATCH = "trap '' INT TERM HUP; pids=''; while read -r line; do [ \"$line\" != done ] || exit 0; pids=$line; done; kill -9 $pids";

export interface HouseOptions {
  /** Settings of ws-edge, as environment variables. */
  edge?: Record<string, string>;
  /** Flags of `sim gm`. */
  gm?: string[];
  arena?: boolean;
  /** Whether there is an engine for those who have none. */
  ingest?: boolean;
  /** So many lobbies, in place of the Game Master and its bridge. */
  lobbies?: number;
  /** The text of `herald.toml`. */
  toml?: string;
}

export class House {
  readonly folder = mkdtempSync(join(tmpdir(), "herald-client-"));
  #running = new Map<string, ChildProcess>();
  #watchdog = spawn("sh", ["-c", WATCH], { stdio: ["pipe", "ignore", "ignore"], detached: true });
  #options: HouseOptions;
  #nats = 0;
  /** Where the edge listens. */
  port = 0;
  #output: string[] = [];

  constructor(options: HouseOptions) {
    this.#options = options;
  }

  static async start(options: HouseOptions = {}): Promise<House> {
    const house = new House(options);
    try {
      await house.#open();
    } catch (error) {
      const said = house.#output.slice(-20).join("\n");
      await house.end();
      throw new Error(`${String(error)}\n${said}`);
    }
    return house;
  }

  async #open(): Promise<void> {
    if (this.#options.toml) writeFileSync(join(this.folder, "herald.toml"), this.#options.toml);
    const nats = process.env.HERALD_NATS_SERVER ?? "nats-server";
    this.#run("nats", nats, ["-js", "-a", "127.0.0.1", "-p", "-1", "-sd", join(this.folder, "store"), "--ports_file_dir", this.folder]);
    this.#nats = await eventually("nats-server", () => {
      const name = readdirSync(this.folder).find((name) => name.startsWith("nats-server") && name.endsWith(".ports"));
      return name === undefined ? undefined : Number(new URL(JSON.parse(readFileSync(join(this.folder, name), "utf8")).nats[0]).port);
    });
    if (this.#options.lobbies) await this.#openLobbies(this.#options.lobbies);
    else await this.#openGame();
    if (this.#options.ingest) {
      const ingest = this.#ports("ingest");
      this.#run("ingest", "ingest", [], { HERALD_PORTS_FILE: ingest.file });
      await ready(() => ingest.read().operations, "ingest");
    }
    await this.openDoor();
    if (this.#options.arena) this.#run("arena", "sim", ["arena", "--speed", "50"]);
  }

  async #openGame(): Promise<void> {
    const gm = this.#ports("gm");
    const flags = ["gm", "--listen", "127.0.0.1:0", ...(this.#options.gm ?? ["--no-door", "--speed", "max"])];
    this.#run("gm", "sim", flags, { HERALD_PORTS_FILE: gm.file });
    const master = await eventually("the Game Master", () => gm.read().listeners[0]);
    const bridge = this.#ports("gm-bridge");
    this.#run("gm-bridge", "gm-bridge", [], {
      GM_BASE_URL: `http://${master}`, HERALD_PORTS_FILE: bridge.file, HERALD_GM__CUT_CHOOSE: "0s", HERALD_GM__WHEN_BUSY: "takeover",
    });
    await ready(() => bridge.read().operations, "gm-bridge");
  }

  async #openLobbies(count: number): Promise<void> {
    const lobbies = Array.from({ length: count }, (_, number) => `lobby-${number}`).map((name) => ({ name, ports: this.#ports(name) }));
    for (const { name, ports } of lobbies) this.#run(name, "lobby", [], { HERALD_PORTS_FILE: ports.file });
    for (const { name, ports } of lobbies) await ready(() => ports.read().operations, name);
  }

  /** Starts the edge, where it was before if it has been there. */
  async openDoor(): Promise<void> {
    const edge = this.#ports("ws-edge");
    rmSync(edge.file, { force: true });
    this.#run("ws-edge", "ws-edge", [], {
      PORT: String(this.port), HERALD_HISTORY__SHELF: "0B", HERALD_PORTS_FILE: edge.file, HERALD_DRAIN__PERIOD: "300ms", HERALD_DRAIN__RETRY: "300ms",
      ...this.#options.edge,
    });
    await ready(() => edge.read().operations, "ws-edge");
    this.port = Number(edge.read().listeners[0]?.split(":").at(-1));
  }

  /** Ends the edge: with a word to its clients (SIGTERM), or without (SIGKILL). */
  async closeDoor(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const edge = this.#running.get("ws-edge") as ChildProcess;
    edge.kill(signal);
    await gone(edge);
    this.#running.delete("ws-edge");
  }

  /** Where nats-server listens. */
  get nats(): string {
    return `nats://127.0.0.1:${this.#nats}`;
  }

  /** A connection to NATS by which an arena engine publishes. */
  engine(): Promise<Engine> {
    return Engine.connect(this.#nats);
  }

  async end(): Promise<void> {
    for (const child of [...this.#running.values()].reverse()) {
      child.kill("SIGKILL");
      await gone(child);
    }
    this.#watchdog.stdin.end("done\n");
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  #ports(name: string) {
    const file = join(this.folder, `${name}.json`);
    const read = (): { operations: string; listeners: string[] } => JSON.parse(readFileSync(file, "utf8"));
    return { file, read };
  }

  #run(name: string, program: string, argv: string[], env: Record<string, string> = {}): void {
    // Services know no keys but their own.
    const clean = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("HERALD_")));
    const path = program.includes("/") || name === "nats" ? program : join(process.env.HERALD_BINARIES ?? "", program);
    const child = spawn(path, argv, {
      stdio: ["ignore", "pipe", "pipe"],
      cwd: this.folder,
      env: {
        ...clean, NATS_URL: `nats://127.0.0.1:${this.#nats}`, HERALD_OPERATIONS__ADDRESS: "127.0.0.1:0",
        HERALD_LOG__FILTER: "warn", HERALD_LOG__FORMAT: "pretty", ...env,
      },
    });
    child.on("error", (error) => this.#output.push(`${name}: ${error.message}`));
    for (const out of [child.stdout, child.stderr]) {
      out.setEncoding("utf8").on("data", (text: string) => {
        this.#output.push(...text.trimEnd().split("\n").map((line) => `${name} | ${line}`));
        this.#output.splice(0, this.#output.length - 200);
      });
    }
    this.#running.set(name, child);
    this.#watchdog.stdin.write(`${[...this.#running.values()].map((one) => one.pid).join(" ")}\n`);
  }
}

function gone(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) resolve();
    else child.once("exit", () => resolve());
  });
}

async function ready(operations: () => string, what: string): Promise<void> {
  await eventually(what, async () => (await fetch(`http://${operations()}/readyz`)).ok);
}

/** Publishes as an arena engine does: without acknowledgements. */
export class Engine {
  #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static connect(port: number): Promise<Engine> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(port, "127.0.0.1", () => {
        socket.write('CONNECT {"verbose":false,"pedantic":false,"name":"test engine"}\r\n');
        resolve(new Engine(socket));
      });
      socket.on("error", reject);
      socket.on("data", (data) => {
        if (data.includes("PING")) socket.write("PONG\r\n");
      });
    });
  }

  publish(subject: string, payload: unknown): void {
    const text = JSON.stringify(payload);
    this.#socket.write(`PUB ${subject} ${Buffer.byteLength(text)}\r\n${text}\r\n`);
  }

  /** Publishes `count` numbered events in a session, from number `first` on, spread over a time. */
  async tell(session: string, first: number, count: number, ms: number): Promise<void> {
    const began = Date.now();
    for (let told = 0; told < count; ) {
      const due = ms ? Math.min(count, Math.ceil(((Date.now() - began) / ms) * count)) : count;
      for (; told < due; told++) {
        const n = first + told;
        this.publish(`arena.${session}.agent.a${n % 4}.output`, { n, pad: "é".repeat(n % 300) });
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  close(): void {
    this.#socket.end();
  }
}
