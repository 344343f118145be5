// One connection to the door, by either way: a WebSocket, or server-sent events where WebSockets are blocked.

import type { Frame } from "./position.ts";
import { NO_DOOR, NONSENSE, type End } from "./verdict.ts";

/** What a connection tells. Nothing more after `end`, and nothing after `close`. */
export interface Sink {
  /** Something was heard: the connection lives. */
  heard(): void;
  frame(frame: Frame): void;
  end(end: End): void;
}

/** An open connection. */
export interface Link {
  /** Ends it without a word to the sink. */
  close(): void;
  /** Says something to the door; event streams can't. */
  send?(text: string): boolean;
}

/** The part of `WebSocket` that is needed; that of browsers and Node, and those of packages. */
export interface Socket {
  onopen: unknown;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => unknown) | null;
  send(text: string): void;
  close(code?: number): void;
}

export type SocketClass = new (url: string, protocols?: string[]) => unknown;

/** Opens a socket. */
export function openSocket(Class: SocketClass, url: URL, token: string | undefined, sink: Sink): Link {
  const href = url.href.replace(/^http/, "ws");
  const socket = new Class(href, ["herald.v1", ...(token ? [`herald.token.${token}`] : [])]) as Socket;
  const close = () => {
    socket.onmessage = socket.onclose = null;
    socket.close(1000);
  };
  const end = (code: number, reason?: unknown) => {
    if (!socket.onclose) return;
    close();
    sink.end({ code, reason: String(reason ?? "") });
  };
  // The close that follows says it. In Node 20 none follows where nobody answers.
  socket.onerror = () => setTimeout(() => end(1006));
  socket.onmessage = ({ data }: { data: unknown }) => {
    sink.heard();
    const frame = parse(data);
    if (frame) sink.frame(frame);
    else end(NONSENSE);
  };
  // 1006: the socket could not be opened, or it broke; which of them the sink knows.
  socket.onclose = ({ code, reason }: { code: number; reason: unknown }) => end(code, reason);
  return { close, send: (text) => (socket.send(text), true) };
}

/** Asks the door for something. A worker or a framework may want to keep answers: these are of the moment, or have no end. */
export function ask(request: typeof fetch, url: URL, accept: string, token: string | undefined, signal: AbortSignal, method = "GET"): Promise<Response> {
  return request(url, { method, headers: { accept, ...(token && { authorization: `Bearer ${token}` }) }, signal, cache: "no-store" });
}

/** Opens an event stream, by fetch: an `EventSource` can't say who it is, nor why it failed. */
export function openStream(request: typeof fetch, url: URL, token: string | undefined, sink: Sink): Link {
  const abort = new AbortController();
  const read = async (): Promise<End> => {
    const answer = await ask(request, url, "text/event-stream", token, abort.signal);
    // 204: there is nothing more to come.
    if (!answer.ok || answer.status === 204) return refusal(answer);
    const type = answer.headers.get("content-type") ?? "";
    if (!answer.body || !type.startsWith("text/event-stream")) return { code: NO_DOOR };
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventStream();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { code: 1012, retryMs: events.retryMs };
      sink.heard();
      for (const frame of events.push(value)) {
        if (abort.signal.aborted) break;
        if (!frame) return { code: NONSENSE };
        sink.frame(frame);
      }
    }
  };
  read()
    .catch((cause: unknown): End => ({ code: 0, cause }))
    .then((end) => {
      if (abort.signal.aborted) return;
      abort.abort();
      sink.end(end);
    });
  return { close: () => abort.abort() };
}

/** What an answer other than 200 says. */
export async function refusal(answer: Response): Promise<End> {
  const text = await answer.text().catch(() => "");
  const seconds = Number(answer.headers.get("retry-after") ?? NaN);
  let reason = "";
  try {
    reason = String((JSON.parse(text) as { error?: unknown }).error ?? "");
  } catch {
    // Not ours: a proxy's page, of no use to people.
  }
  return { code: answer.status, reason, retryMs: seconds >= 0 ? seconds * 1000 : undefined };
}

/** Reads server-sent events as the standard has them, whatever pieces they come in. */
export class EventStream {
  /** What the stream last said about coming back. */
  retryMs: number | undefined;
  #rest = "";
  /** What the event at hand has so far. */
  #fields: Record<string, string> = {};

  /** The frames that a piece of text completes; `undefined` for one that makes no sense. */
  *push(text: string): Generator<Frame | undefined> {
    const all = this.#rest + text;
    // A line break may come in two pieces.
    const end = all.endsWith("\r") ? -1 : all.length;
    const lines = all.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? "") + all.slice(end);
    for (const line of lines) {
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line) as unknown as [string, string, string];
      const { event, id, data } = this.#fields;
      if (!line) {
        this.#fields = {};
        if (!data) continue;
        const frame = parse(event ? `{"event":${JSON.stringify(event)},"data":${data}}` : data);
        // What is part of a snapshot has no place of its own to come back to.
        if (frame?.seq && id === undefined) frame.snapshot = true;
        yield frame;
      } else if (name !== "retry") this.#fields[name] = name === "data" && data ? `${data}\n${value}` : value;
      else if (/^\d+$/.test(value)) this.retryMs = Number(value);
    }
  }
}

/** A text as a frame; `undefined` where it is none. */
function parse(text: unknown): Frame | undefined {
  try {
    const frame = JSON.parse(text as string) as Frame;
    const { event, data, seq = 0 } = frame;
    // Without a place in the log it is for this client alone.
    return (event.startsWith("herald.") ? data && typeof data === "object" : typeof seq === "number") ? frame : undefined;
  } catch {
    return undefined;
  }
}
