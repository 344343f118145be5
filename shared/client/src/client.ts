// The life of a client: one connection at a time, and what follows when it ends.
//
// connecting -> open -> waiting -> connecting ...; `paused` while a consumer is behind; `closed` at the end. Each connection
// has a number, and whatever belongs to an earlier one is ignored: so nothing that is late does any harm.

import { commands, type Commands } from "./commands.ts";
import { doorOf, type Door, type Place } from "./door.ts";
import { HeraldError } from "./errors.ts";
import { Listeners, matcher, type ClientEvents, type EventMap, type EventOf, type HeraldEvent, type Order, type Status } from "./events.ts";
import { openSocket, openStream, type Link, type SocketClass } from "./link.ts";
import { Position, type Frame, type From, type Gap } from "./position.ts";
import { Queue } from "./queue.ts";
import { renewIn, type Tokens } from "./token.ts";
import { judge, NO_TOKEN, NONSENSE, OVER, pause, type End } from "./verdict.ts";
import { whenAwake } from "./wake.ts";
import type { ArenaEvents } from "./arena.ts";

/** What to watch, and how. */
export interface Options extends Place {
  /** Where to begin: `live` (default) with what comes next, `start` with all that is kept, `snapshot` with the present state,
   * or behind a cursor or sequence that was seen before. With `speed`: `start`. */
  from?: From;
  /** Plays what it begins with in its own time, so many times as fast as it was (0.1 to 64), until it has come to now. */
  speed?: number;
  /** No pause is longer than so many seconds then. */
  maxGap?: number;
  /** How events come: `auto` (default) is `websocket`, and `sse` where that does not get through. */
  transport?: "auto" | "websocket" | "sse";
  /** How many events an iterator may be behind before the connection waits for it. Default 1000. */
  limit?: number;
  /** How long a connection may take to open, ms. Default 10,000. */
  timeout?: number;
  /** The paths behind the URL, where they are not the arena's. */
  paths?: { socket?: string; sse?: string };
  /** In place of the global one, where there is none (Node 20) or another one is wanted. */
  WebSocket?: SocketClass;
}

/** Options with all that has a default. */
type Settled = Options & Required<Pick<Options, "from" | "transport" | "limit" | "timeout" | "paths">>;

/** Why and how a client has ended. */
export type Closed = Extract<Status, { state: "closed" }>;

/** A session being watched. */
export interface Herald<E extends EventMap = ArenaEvents> extends AsyncIterable<EventOf<E, ">">>, Commands {
  /** The session. */
  readonly session: string;
  /** What the connection is doing. */
  readonly status: Status;
  /** The place of the last event that was shown, for `from`; undefined before there is one. */
  readonly cursor: string | undefined;
  /** Settles when the client has ended for good. Never rejects. */
  readonly closed: Promise<Closed>;
  /** Calls a handler with each event of that name or pattern: `*` is any one token, a last `>` one or more. The answer takes
   * it away again. */
  on<P extends keyof ClientEvents>(name: P, handler: (value: ClientEvents[P]) => void): () => void;
  on<P extends (keyof E & string) | (string & {})>(pattern: P, handler: (event: EventOf<E, P>) => void): () => void;
  /** The events of a pattern, to be read by `for await`. Where it is read too slowly the connection waits, and nothing is lost.
   * It ends with the session; where the door refuses, it throws. */
  events<P extends (keyof E & string) | (string & {}) = ">">(pattern?: P): AsyncIterableIterator<EventOf<E, P>>;
  /** Says something to the engine, where the door lets clients do so. `false`: there is no open socket, and it is not said. What
   * is said just before a connection breaks may be lost: an engine that answers (`message`) has heard it. */
  send(text: string): boolean;
  /** Plays the past, or plays it otherwise, from the next event or the place that is sought on. `replay` tells what came of it.
   *
   * @throws HeraldError where `seek` is no place, or `speed` too low or too high. */
  replay(order: Order): void;
  /** Ends it: nothing comes any more. */
  close(): void;
}

// Behind a connection that has lived so long the next pause is a short one again.
const STABLE_MS = 5000;
// After so long on an event stream that may have been chosen by mistake, the socket gets another chance.
const UPGRADE_MS = 30_000;
// Silence is suspicious from one and a half heartbeats on, and what a slow network takes.
const SLACK_MS = 2000;
// So many fresh tokens are tried in a row.
const TOKENS = 3;
const HEARTBEAT_MS = 25_000;
// A fresh token that can't be had, or not be told, is asked for again.
const SOON_MS = 5000;
// An hour: timers know no longer times than a few weeks, and end at once where they are told one.
const LONGEST_MS = 3_600_000;

/** Whether it is a number that a door may say. */
const isPlace = (value: unknown): value is number => typeof value === "number" && value >= 0;

function checked(speed: number | undefined): number | undefined {
  if (speed !== undefined && !(speed >= 0.1 && speed <= 64)) throw new HeraldError("bad_request", `speed: ${speed} is not 0.1 to 64`);
  return speed;
}

class Client implements Herald<EventMap> {
  readonly session: string;
  readonly closed: Promise<Closed>;
  #status: Status = { state: "connecting" };
  #options: Settled;
  #door: Door;
  #position: Position;
  #tokens: Tokens;
  /** Who hears of the session, and who of the client itself: `>` is all of the session. */
  #listeners = new Listeners();
  #watchers = new Listeners();
  #queues = new Map<Queue<HeraldEvent>, (name: string) => boolean>();
  #timers: Record<string, ReturnType<typeof setTimeout> | undefined> = {};
  #asleep: () => void;
  #settle!: (closed: Closed) => void;
  /** The number of the connection; what belongs to another one is late. */
  #run = 0;
  #link: Link | undefined;
  /** Whether it is, or is going to be, an event stream. */
  #streams = false;
  /** A socket has worked here. */
  #socketWorked = false;
  /** Attempts in a row that did not get as far as a greeting. */
  #failures = 0;
  /** Attempts since the last good connection, for the pauses. */
  #attempts = 0;
  #refused = 0;
  #heartbeat = HEARTBEAT_MS;
  #openedAt = 0;
  #heardAt = 0;
  #byeMs: number | undefined;
  /** How fast the past is played, whether it is (else it was shown already), and whether it is halted. */
  #speed: number | undefined;
  #plays: boolean;
  #halted = false;
  /** What was ordered and is not answered yet. */
  #orders: (() => void)[] = [];
  /** What has come of a snapshot that is not complete. */
  #snapshot: HeraldEvent[] = [];

  constructor(options: Settled, door: Door) {
    this.#options = options;
    this.#door = door;
    this.session = options.session;
    this.#position = new Position(options.from);
    this.#speed = checked(options.speed);
    this.#plays = !!options.speed && options.from !== "live";
    this.#tokens = door.tokens;
    this.closed = new Promise((resolve) => (this.#settle = resolve));
    Object.assign(this, commands(door));
    this.#asleep = whenAwake((moved) => this.#wake(moved));
    this.#connect();
  }

  declare start: Commands["start"];
  declare propose: Commands["propose"];
  declare choose: Commands["choose"];
  declare cancel: Commands["cancel"];
  declare state: Commands["state"];

  get status(): Status {
    return this.#status;
  }

  get cursor(): string | undefined {
    return this.#position.cursor;
  }

  on(pattern: string, handler: (value: never) => void): () => void {
    return (/^\w+$/.test(pattern) ? this.#watchers : this.#listeners).add(pattern, handler);
  }

  events(pattern = ">"): AsyncIterableIterator<never> {
    const queue = new Queue<HeraldEvent>(this.#options.limit, (queue, left) => {
      if (left) this.#queues.delete(queue);
      if (this.#status.state === "paused" && !this.#some((one) => one.behind)) this.#connect();
    });
    if (this.#status.state === "closed") this.#finish(queue, this.#status);
    else this.#queues.set(queue, matcher(pattern));
    return queue as AsyncIterableIterator<never>;
  }

  [Symbol.asyncIterator](): AsyncIterator<never> {
    return this.events();
  }

  send(text: string): boolean {
    return this.#status.state === "open" && !!this.#link?.send?.(text);
  }

  replay(order: Order): void {
    const { live, seek, pause, speed } = order;
    const to = live ? "live" : seek;
    const position = to === undefined ? undefined : new Position(to);
    checked(speed);
    // By the query of the next connection: what a broken one has not answered, and event streams are not told otherwise.
    this.#orders.push(() => {
      this.#position = position ?? this.#position;
      this.#speed = speed ?? this.#speed ?? 1;
      this.#plays = !live;
      this.#halted = !live && (pause ?? this.#halted);
    });
    if (this.#plays && this.send(JSON.stringify({ event: "herald.replay", data: order }))) return;
    // It goes on in its own time.
    if (/wait|closed/.test(this.#status.state)) this.#follow();
    else this.#connect();
  }

  /** Follows what was ordered and not answered. */
  #follow(): void {
    for (const follow of this.#orders.splice(0)) follow();
  }

  close(): void {
    this.#stop({ state: "closed", reason: "closed" });
  }

  // ---- connecting

  async #connect(): Promise<void> {
    this.#leave();
    this.#follow();
    if (this.#halted) return this.#set({ state: "paused" });
    const run = this.#run;
    // Nothing of the last one counts any more.
    this.#position.begin();
    this.#snapshot = [];
    this.#byeMs = undefined;
    this.#set({ state: "connecting" });
    // A handler may have ended it.
    if (run !== this.#run) return;
    this.#after("hello", this.#options.timeout, () => {
      // It may be the token function that has no answer.
      this.#tokens.drop();
      this.#ended(run, { code: 0, reason: "no answer" });
    });
    this.#streams = this.#wantsStream();
    let token: string | undefined;
    try {
      token = await this.#tokens.get();
    } catch (cause) {
      return this.#ended(run, { code: NO_TOKEN, reason: String((cause as Error)?.message), cause });
    }
    if (run !== this.#run) return;
    const { paths, WebSocket, maxGap } = this.#options;
    const path = this.#streams ? (paths.sse ?? "sse/{session}") : (paths.socket ?? "ws/{session}");
    const url = new URL(path.replace("{session}", this.session), this.#door.base);
    url.search = this.#position.query + (this.#plays ? `&speed=${this.#speed}${maxGap ? `&max_gap=${maxGap}` : ""}` : "");
    const sink = {
      heard: () => {
        if (run === this.#run) this.#heardAt = Date.now();
      },
      frame: (frame: Frame) => {
        if (run === this.#run) this.#frame(run, frame);
      },
      end: (end: End) => this.#ended(run, end),
    };
    try {
      this.#link = this.#streams ? openStream(this.#door.request, url, token, sink) : openSocket(WebSocket as SocketClass, url, token, sink);
    } catch (cause) {
      return this.#ended(run, { code: 0, cause });
    }
    this.#renewLater(run, token);
  }

  /** Sockets first. Where none has ever worked, event streams are tried by turns from the second attempt on; where one has,
   * which mostly means that the door is away, from the fourth on. */
  #wantsStream(): boolean {
    const { transport, WebSocket } = this.#options;
    if (transport !== "auto") return transport === "sse";
    if (!WebSocket) return true;
    const over = this.#failures - (this.#socketWorked ? 3 : 1);
    return over >= 0 && over % 2 === 0;
  }

  // ---- what comes

  #frame(run: number, frame: Frame): void {
    const data = frame.data as Record<string, unknown>;
    const own = /^herald\.(.*)/.exec(frame.event)?.[1];
    switch (own) {
      case "hello":
        return this.#hello(run, data);
      case "gap": {
        if (!isPlace(data.to)) return this.#ended(run, { code: NONSENSE });
        const gap = this.#position.gap(data as unknown as Gap);
        return gap && this.#emit("gap", gap);
      }
      case "live": {
        const { after } = data;
        if (!isPlace(after)) return this.#ended(run, { code: NONSENSE });
        this.#position.move(after);
        this.#plays = false;
        const shown = this.#snapshot;
        this.#snapshot = [];
        for (const event of shown) {
          // A handler may have ended it.
          if (run === this.#run) this.#show(event);
        }
        if (run !== this.#run) return;
        this.#emit("live", { after });
        return this.#hold();
      }
      case "bye": {
        // Its cursor is not needed: what was seen is known here, and proved.
        if (isPlace(data.retry_ms)) this.#byeMs = data.retry_ms;
        return data.over ? this.#ended(run, { code: OVER }) : undefined;
      }
      case "replay": {
        const { state, after, speed } = data as unknown as ClientEvents["replay"];
        if (!isPlace(after)) return this.#ended(run, { code: NONSENSE });
        this.#orders.shift();
        if (state !== "refused") {
          this.#position.move(after);
          this.#speed = speed;
          this.#plays = state !== "live";
          this.#halted = state === "paused";
        }
        break;
      }
      case "closed":
        // What a socket is told by its close.
        return this.#ended(run, { code: Number(data.code) || 0, reason: data.reason as string });
    }
    // Of what comes some day whoever asks for it hears, too.
    if (own) this.#emit(own as "replay", data as unknown as ClientEvents["replay"]);
    else if (frame.seq) this.#event(run, frame as Frame & { seq: number });
    else this.#emit("message", frame);
  }

  #hello(run: number, { epoch, head, heartbeat_ms }: Record<string, unknown>): void {
    if (typeof epoch !== "string" || !isPlace(head)) return this.#ended(run, { code: NONSENSE });
    const gap = this.#position.hello(epoch, head);
    this.#snapshot = [];
    this.#heartbeat = Math.min(Number(heartbeat_ms) || HEARTBEAT_MS, LONGEST_MS);
    this.#refused = 0;
    if (this.#status.state !== "open") {
      this.#cancel("hello");
      this.#heardAt = Date.now();
      this.#watch(run);
      this.#openedAt = this.#heardAt;
      // Several attempts, and then this way worked: that says nothing against the other one.
      const { transport, WebSocket } = this.#options;
      if (this.#streams && this.#failures > 1 && transport === "auto" && WebSocket) {
        this.#after("upgrade", UPGRADE_MS, () => {
          this.#socketWorked = false;
          this.#connect();
        });
      }
      this.#failures = 0;
      this.#socketWorked ||= !this.#streams;
      this.#set({ state: "open", transport: this.#streams ? "sse" : "websocket" });
    }
    if (gap) this.#emit("gap", gap);
  }

  #event(run: number, { event, data, seq, ts = 0, prev, snapshot }: Frame & { seq: number }): void {
    if (!this.#position.greeted) return this.#ended(run, { code: NONSENSE });
    if (snapshot) {
      this.#snapshot.push({ event, data, seq, ts, snapshot });
      return;
    }
    const step = this.#position.event(seq, prev);
    if (step === "double") return;
    if (step === "lost") return this.#ended(run, { code: 1006, reason: "an event is missing" });
    // A connection that brings something new is a good one, however short its life.
    this.#attempts = 0;
    if (step !== "new") this.#emit("gap", step);
    if (run !== this.#run) return;
    this.#show({ event, data, seq, ts, cursor: this.#position.cursor as string });
    this.#hold();
  }

  #show(event: HeraldEvent): void {
    for (const [queue, matches] of this.#queues) if (matches(event.event)) queue.push(event);
    this.#listeners.call(event.event, event);
  }

  /** Closes the connection while a consumer is behind: a socket knows no other way to make the door wait. */
  #hold(): void {
    if (this.#status.state !== "open" || !this.#some((queue) => queue.full)) return;
    this.#leave();
    this.#set({ state: "paused" });
  }

  #some(is: (queue: Queue<HeraldEvent>) => boolean): boolean {
    return [...this.#queues.keys()].some(is);
  }

  // ---- how it ends, and what then

  #ended(run: number, end: End): void {
    if (run !== this.#run) return;
    const greeted = this.#position.greeted;
    // A socket says 1006 of an attempt that failed, too, and a stream that breaks off says nothing.
    const mute = end.code === 0 || end.code === 1006;
    const code = !mute ? end.code : greeted ? 1006 : 0;
    let { act, after, error, floor } = judge({ ...end, code, retryMs: this.#byeMs ?? end.retryMs });
    // A connection that has lived long is a good one, though it brought nothing.
    if (greeted && Date.now() - this.#openedAt >= STABLE_MS) this.#attempts = 0;
    this.#leave();
    // A socket that was closed in our words got through, whatever they were; all else is tried another way.
    if (!this.#streams && /^(4|10(08|1[23]))/.test(`${code}`)) this.#socketWorked = true;
    else if (!greeted && code !== NO_TOKEN) this.#failures++;
    if (act === "renew") {
      this.#tokens.drop();
      if (!this.#tokens.renewable || ++this.#refused > TOKENS) act = "stop";
    }
    // Where sockets have worked, what an event stream is told is not the last word: it may not be offered at all.
    if (act === "stop" && code < 1000 && code !== 401 && this.#socketWorked) act = "retry";
    if (act === "over") return this.#stop({ state: "closed", reason: "over", error });
    this.#emit("error", error);
    if (act === "stop") return this.#stop({ state: "closed", reason: "refused", error });
    if (after) {
      const from = this.#position.seq + 1;
      this.#position.jump(after);
      this.#emit("gap", { from, to: this.#position.seq, reason: "trimmed" });
    }
    // The door spreads its clients itself where it says when.
    const ms = error.retryMs === undefined ? pause(this.#attempts, floor) : error.retryMs + (floor && pause(this.#attempts));
    if (this.#byeMs === undefined) this.#attempts++;
    // A handler may have ended it.
    if (this.#status.state === ("closed" as Status["state"])) return;
    const retryMs = Math.min(Math.round(ms), LONGEST_MS);
    this.#after("retry", retryMs, () => this.#connect());
    this.#set({ state: "waiting", retryMs, error });
  }

  #stop(closed: Closed): void {
    if (this.#status.state === "closed") return;
    this.#leave();
    this.#asleep();
    this.#set(closed);
    const queues = [...this.#queues.keys()];
    this.#queues.clear();
    for (const queue of queues) this.#finish(queue, closed);
    this.#settle(closed);
  }

  #finish(queue: Queue<HeraldEvent>, closed: Closed): void {
    queue.end(closed.reason === "refused" ? closed.error : undefined, closed.reason === "closed");
  }

  /** Leaves the connection, whatever it is doing; what it still says is late. */
  #leave(): void {
    this.#run++;
    for (const name in this.#timers) this.#cancel(name);
    this.#link?.close();
    this.#link = undefined;
  }

  // ---- what time brings

  /** Looks whether something is heard from the door. */
  #watch(run: number): void {
    const limit = this.#heartbeat * 1.5 + SLACK_MS;
    const silent = Date.now() - this.#heardAt;
    if (silent >= limit) return this.#ended(run, { code: 1006, reason: "silence for too long" });
    // A clock that was set back must not make it wait for ever.
    this.#after("watch", Math.min(limit, limit - silent), () => this.#watch(run));
  }

  /** A page is looked at again, or its network is another one (`moved`): timers may have slept, and connections died. One that
   * is said to be gone is tried all the same: it may be another one that leads to the door, as on one machine. */
  #wake(moved: boolean): void {
    const { state } = this.#status;
    if (state === "waiting") {
      this.#attempts = 0;
      this.#connect();
    } else if (state === "open" && (moved || Date.now() - this.#heardAt > this.#heartbeat + SLACK_MS)) {
      this.#connect();
    }
  }

  /** Asks for a fresh token when it is time; without this one, soon. */
  #renewLater(run: number, token?: string): void {
    const ms = token ? renewIn(token, Date.now()) : SOON_MS;
    if (ms && this.#tokens.renewable) this.#after("renew", ms, () => void this.#renew(run));
  }

  async #renew(run: number): Promise<void> {
    if (this.#status.state !== "open") return this.#renewLater(run);
    this.#tokens.drop();
    // An event stream can't be told: it is opened anew, where it was.
    if (!this.#link?.send) return this.#connect();
    let token: string | undefined;
    try {
      token = await this.#tokens.get();
      if (run !== this.#run) return;
      this.#link.send(JSON.stringify({ event: "herald.token", data: { token } }));
    } catch (cause) {
      if (run !== this.#run) return;
      // The door waits a little for it.
      this.#renewLater(run);
      return this.#emit("error", judge({ code: NO_TOKEN, cause }).error);
    }
    this.#renewLater(run, token);
  }

  // ---- small things

  #after(name: string, ms: number, act: () => void): void {
    this.#cancel(name);
    this.#timers[name] = setTimeout(act, ms);
  }

  #cancel(name: string): void {
    clearTimeout(this.#timers[name]);
  }

  #set(status: Status): void {
    this.#status = status;
    this.#emit("status", status);
  }

  #emit<K extends keyof ClientEvents>(name: K, value: ClientEvents[K]): void {
    // Who closes it in a handler hears nothing more but that.
    if (this.#status.state !== "closed" || name === "status") this.#watchers.call(name, value);
  }
}

/**
 * Watches a session. Handlers added before the next `await` miss nothing.
 *
 * @throws HeraldError where an option makes no sense. Whatever happens later is told by `status` and `error`.
 */
export function connect<E extends EventMap = ArenaEvents>(options: Options): Herald<E> {
  const settled = { from: options.speed ? "start" : "live", transport: "auto", limit: 1000, timeout: 10_000, paths: {}, WebSocket: globalThis.WebSocket, ...options } as Settled;
  if (settled.transport === "websocket" && !settled.WebSocket) {
    throw new HeraldError("bad_request", "transport: no WebSocket here; pass one, or use sse");
  }
  return new Client(settled, doorOf(options)) as unknown as Herald<E>;
}
