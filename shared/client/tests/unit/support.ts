// A door that does what a test says, without a network, and a clock that a test moves.

import { mock, type TestContext } from "node:test";
import { connect, type Herald, type Options } from "../../src/index.ts";

export const A = "000000aa";
export const B = "000000bb";

/** A token that says what it is to say. */
export function jwt(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part(claims)}.x-y_z`;
}

/** Lets everything happen that needs no time. */
export const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Moves the clock, in steps that let things happen in between. */
export async function pass(ms: number): Promise<void> {
  let left = ms;
  // What is due at once, too: a pause that is drawn by lot may be none.
  do {
    mock.timers.tick(Math.min(left, 250));
    await settle();
    left -= 250;
  } while (left > 0);
}

/** The other end of a socket. */
export class FakeSocket {
  static all: FakeSocket[] = [];
  onopen: unknown = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  sent: string[] = [];
  closed: number | undefined;

  constructor(readonly url: string, readonly protocols: string[] = []) {
    FakeSocket.all.push(this);
  }

  static get last(): FakeSocket {
    return FakeSocket.all.at(-1) as FakeSocket;
  }

  get query(): string {
    return new URL(this.url).search.slice(1);
  }

  send(text: string): void {
    this.sent.push(text);
  }

  close(code?: number): void {
    this.closed ??= code ?? 1005;
  }

  // What the door does.
  text(data: unknown): void {
    this.onmessage?.({ data });
  }

  say(event: string, data: object, more: object = {}): void {
    this.text(JSON.stringify({ event, data, ...more }));
  }

  hello(epoch = A, head = 100): void {
    this.say("herald.hello", { epoch, head, heartbeat_ms: 25_000 });
  }

  event(seq: number, prev = seq - 1, event = "gm.phase"): void {
    this.say(event, { type: "phase", phase: String(seq) }, { seq, ts: seq * 10, prev });
  }

  end(code: number, reason = ""): void {
    this.onclose?.({ code, reason });
  }
}

/** The other end of an event stream. */
export class FakeStream {
  static all: FakeStream[] = [];
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  aborted = false;
  answer: (answer: Response) => void = () => {};

  constructor(readonly url: URL, readonly init: RequestInit, readonly fail: (cause: Error) => void) {
    FakeStream.all.push(this);
    init.signal?.addEventListener("abort", () => {
      this.aborted = true;
      fail(new DOMException("aborted", "AbortError"));
    });
  }

  static get last(): FakeStream {
    return FakeStream.all.at(-1) as FakeStream;
  }

  open(type = "text/event-stream"): void {
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (this.#controller = controller) });
    this.answer(new Response(body, { headers: { "content-type": type } }));
  }

  refuse(status: number, error?: string, headers: Record<string, string> = {}): void {
    this.answer(new Response(status === 204 ? null : error === undefined ? "<html>" : JSON.stringify({ error }), { status, headers }));
  }

  async text(text: string): Promise<void> {
    this.#controller.enqueue(new TextEncoder().encode(text));
    await settle();
  }

  hello(epoch = A, head = 100): Promise<void> {
    return this.text(`event: herald.hello\nid: ${epoch}-${head}\ndata: {"epoch":"${epoch}","head":${head},"heartbeat_ms":25000}\n\n`);
  }

  event(seq: number, epoch = A): Promise<void> {
    return this.text(`id: ${epoch}-${seq}\ndata: {"event":"gm.phase","data":{},"seq":${seq},"ts":1}\n\n`);
  }

  async break(): Promise<void> {
    this.#controller.error(new TypeError("network error"));
    await settle();
  }

  async end(): Promise<void> {
    this.#controller.close();
    await settle();
  }
}

export const fakeFetch = ((url: URL, init: RequestInit = {}) =>
  new Promise<Response>((resolve, reject) => {
    const stream = new FakeStream(url, init, reject);
    stream.answer = resolve;
  })) as unknown as typeof fetch;

/** A client of such a door, and all that it tells. */
export interface Watched {
  herald: Herald;
  seqs: number[];
  told: string[];
}

/** Watches session `s`; the clock stands until the test moves it, and lots are drawn in the middle. */
export async function watch(t: TestContext, options: Partial<Options> = {}): Promise<Watched> {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_700_000_000_000 });
  mock.method(Math, "random", () => 0.5);
  FakeSocket.all = [];
  FakeStream.all = [];
  const herald = connect({ url: "http://door.example", session: "s", WebSocket: FakeSocket, fetch: fakeFetch, ...options });
  t.after(() => {
    herald.close();
    mock.timers.reset();
    mock.restoreAll();
  });
  const watched: Watched = { herald, seqs: [], told: [] };
  herald.on(">", ({ seq }) => watched.seqs.push(seq));
  herald.on("status", (status) => watched.told.push(status.state));
  herald.on("gap", ({ from, to, reason }) => watched.told.push(`gap ${from}-${to} ${reason}`));
  herald.on("live", ({ after }) => watched.told.push(`live ${after}`));
  herald.on("error", (error) => watched.told.push(`error ${error.code}`));
  await settle();
  return watched;
}

/** The events that are read from an iterator at once. */
export async function take<T>(events: AsyncIterator<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  while (taken.length < count) {
    const next = await events.next();
    if (next.done) break;
    taken.push(next.value);
  }
  return taken;
}
