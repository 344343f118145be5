// One session being watched: the client's connection, the events it has brought, and the commands. Pages draw at most once a
// frame, however many events come.

import { connect, HeraldError, type From, type GameStart, type Herald, type Lang, type NewsKind, type Status } from "@herald/client";
import { past, type Past, type Summary } from "@herald/client/past";
import type { Entry } from "./entry.ts";
import { begun, type Game } from "./game.ts";
import { Log } from "./log.ts";
import { keep, kept } from "./memory.ts";

/** What went wrong with a command, or with the connection. */
export interface Trouble {
  error: HeraldError;
  /** Of which command; none: of the connection. */
  command?: Command;
}
export type Command = "start" | "propose" | "choose" | "cancel" | "fork";

/** Events of one request for the past: as many as the door gives at once. */
const PAGE = 5000;
/** Events that are taken in before the page is drawn again, so that a long past keeps nobody waiting. */
const AT_ONCE = 2000;
/** A connection that is away for so long is worth a word; before that it mostly is back. */
const AWAY_MS = 2500;
/** What passes by itself, as a rule. */
const PASSING: readonly string[] = ["broken", "unreachable", "unavailable", "limited", "protocol"];
/** Hidden pages get no frames. */
const HIDDEN_MS = 250;

/** How a game began that this tab has started: no event says so. */
interface Begun {
  after: number;
  start: GameStart;
  lang: Lang;
}

export class Watch {
  readonly session: string;
  readonly log = new Log();
  status: Status = { state: "connecting" };
  /** When the next attempt is due, ms since 1970, while it waits. */
  retryAt = 0;
  trouble: Trouble | null = null;
  gap: { from: number; to: number } | null = null;
  /** The command that was sent and is not answered yet. */
  pending: Command | null = null;
  /** Counts what has changed. */
  version = 0;
  /** What the Game Master says of a game whose beginning was not seen here. */
  told: Game | null = null;
  /** The language the game was started in here. */
  lang: Lang | undefined;
  /** What is kept of the session, as the door counts it; none before it is known, or where nothing is. */
  summary: Summary | null = null;
  /** How many events were read when that was asked. */
  counted = 0;
  /** The past is being read. */
  reading = false;
  #past: Past;
  #token: string;
  #herald: Promise<Herald>;
  #incoming: Entry[] = [];
  #due = false;
  #asked = false;
  #openedAt = 0;
  #awaySince = 0;
  #closed = false;
  #watchers = new Set<() => void>();

  /** `reads`: what is kept is asked for page by page, and only what comes then is waited for; else all of it comes as it happened. */
  constructor(session: string, token: string, reads: boolean) {
    this.session = session;
    this.#token = token;
    const known = kept<Begun>("begun", session);
    if (known) {
      this.lang = known.lang;
      this.log.begin(known.after, known.start);
    }
    this.#past = past(this.place);
    this.#herald = reads ? this.#read().then((next) => this.#open(next)) : Promise.resolve(this.#open("start"));
  }

  /** The session and its door, as the client has them. */
  get place() {
    return { url: new URL(".", location.href), session: this.session, ...(this.#token ? { token: this.#token } : {}) };
  }

  /** Reads what is kept; returns where to go on. What can't be read so comes by the connection, which says what is wrong, too. */
  async #read(): Promise<From> {
    let next: From = "start";
    this.reading = true;
    try {
      for await (const page of this.#past.pages({ limit: PAGE })) {
        if (this.#closed) break;
        next = page.next;
        const [first, last] = [page.gaps[0], page.gaps.at(-1)];
        if (first && last) this.gap = { from: this.gap?.from ?? first.from, to: last.to };
        for (const { event, data, seq, ts } of page.events) this.#incoming.push({ event, data, seq, ts, lag: null });
        this.#soon();
        // A page that nobody looks at takes them in slowly: no more is asked for than it takes.
        while (this.#incoming.length > PAGE && !this.#closed) await new Promise((resolve) => setTimeout(resolve, HIDDEN_MS));
      }
    } catch {
      // See above.
    }
    this.reading = false;
    return next;
  }

  #open(from: From): Herald {
    const herald = connect({ ...this.place, from });
    if (this.#closed) herald.close();
    herald.on(">", ({ event, data, seq, ts }) => {
      const lag = this.#openedAt && ts >= this.#openedAt ? Date.now() - ts : null;
      this.#incoming.push({ event, data, seq, ts, lag });
      this.#soon();
    });
    herald.on("status", (status) => {
      this.status = status;
      if (status.state === "open") this.#openedAt ||= Date.now();
      this.retryAt = status.state === "waiting" ? Date.now() + status.retryMs : 0;
      if (status.state === "open") {
        this.#awaySince = 0;
        if (!this.trouble?.command) this.trouble = null;
      } else if ("error" in status) {
        this.#awaySince ||= Date.now();
        const passing = status.state === "waiting" && PASSING.includes(status.error.code);
        // A session that is over has come to its end as it should: `status` says so.
        const said = status.state === "waiting" || status.reason === "refused";
        if (said && (!passing || Date.now() - this.#awaySince > AWAY_MS)) this.trouble = { error: status.error };
      }
      this.#changed();
    });
    herald.on("gap", ({ from, to }) => {
      this.gap = { from, to };
      this.#changed();
    });
    return herald;
  }

  subscribe(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  close(): void {
    this.#closed = true;
    void this.#herald.then((herald) => herald.close());
    this.#watchers.clear();
  }

  /** Forgets what went wrong. */
  dismiss(): void {
    this.trouble = this.gap = null;
    this.#changed();
  }

  // ---- commands; none throws: what goes wrong is `trouble`

  async start(lang: Lang): Promise<boolean> {
    const after = this.log.last?.seq ?? 0;
    return this.#send("start", async () => {
      const start = await (await this.#herald).start({ lang });
      this.lang = lang;
      this.log.begin(after, start);
      keep("begun", this.session, { after, start, lang } satisfies Begun);
    });
  }

  propose(lang: Lang): Promise<boolean> {
    return this.#send("propose", async () => (await this.#herald).propose({ lang: this.lang ?? lang }));
  }

  choose(kind: NewsKind, lang: Lang): Promise<boolean> {
    return this.#send("choose", async () => (await this.#herald).choose(kind, { lang: this.lang ?? lang }));
  }

  /** Asks the Game Master how a game stands that was begun elsewhere: no event says how it began. At most once. */
  async ask(): Promise<void> {
    if (this.#asked) return;
    this.#asked = true;
    try {
      this.told = begun(await (await this.#herald).state());
      this.#changed();
    } catch {
      // Then the gauges are known after the first turn.
    }
  }

  cancel(): Promise<boolean> {
    return this.#send("cancel", async () => (await this.#herald).cancel());
  }

  /** Makes a session that begins with the events of this one, up to and including that one. Returns its id. */
  async fork(at: number): Promise<string | undefined> {
    let made: string | undefined;
    await this.#send("fork", async () => {
      made = (await this.#past.fork(at)).session_id;
    });
    return made;
  }

  /** Asks the door what is kept of the session. Where it does not say, what was known stays. */
  async count(): Promise<void> {
    this.counted = this.log.end;
    try {
      this.summary = await this.#past.summary();
      this.#changed();
    } catch {
      // The connection says what is wrong.
    }
  }

  async #send(command: Command, act: () => Promise<unknown>): Promise<boolean> {
    if (this.pending) return false;
    this.pending = command;
    this.trouble = null;
    this.#changed();
    try {
      await act();
      return true;
    } catch (error) {
      this.trouble = { error: error instanceof HeraldError ? error : new HeraldError("internal", String(error)), command };
      return false;
    } finally {
      this.pending = null;
      this.#changed();
    }
  }

  // ---- drawing

  #soon(): void {
    if (this.#due) return;
    this.#due = true;
    const act = () => {
      this.#due = false;
      this.#take();
    };
    if (document.hidden) setTimeout(act, HIDDEN_MS);
    else requestAnimationFrame(act);
  }

  #take(): void {
    if (this.#closed) return;
    const { length } = this.#incoming;
    const taken = this.#incoming.splice(0, AT_ONCE);
    for (const entry of taken) this.log.append(entry);
    if (length > AT_ONCE) this.#soon();
    this.#changed();
  }

  #changed(): void {
    if (this.#closed) return;
    this.version++;
    for (const watcher of [...this.#watchers]) watcher();
  }
}
