// What operators are told by a door: who is shown what by it, at this moment.

/** A session that somebody is shown. */
export interface ShownSession {
  root: string;
  session: string;
  viewers: number;
  over: boolean;
  rings: { last: number; held: Amount }[];
}

/** A connection that shows one. */
export interface ShownConnection {
  conn: string;
  route: string;
  transport: string;
  session: string | null;
  user: string | null;
  role: string | null;
  name: string | null;
  address: string;
  age_s: number;
  view: { encoding: string };
  doing: string;
  lag: Amount;
}

export interface Amount {
  frames: number;
  bytes: number;
}

/** A page of a list, or why there is none. */
export type Told<Row> = { rows: Row[]; next: string | null } | Refusal;
export type Refusal = "unauthorized" | "forbidden" | "none" | "away";

/** Rows that are asked for at once. */
const ROWS = 50;
const PATIENCE_MS = 10_000;

const REFUSALS: Record<number, Refusal> = { 401: "unauthorized", 403: "forbidden", 404: "none" };

/** Whether asking again, with the same token, is of no use. */
export function isFinal(told: unknown): told is Refusal {
  return Object.values(REFUSALS).includes(told as Refusal);
}

/** Asks for a page of a list, behind `after`. */
export async function ask<Row>(list: "sessions" | "connections", after: string | null, token: string, signal: AbortSignal): Promise<Told<Row>> {
  const url = new URL(`operator/${list}?limit=${ROWS}`, new URL(".", location.href));
  if (after) url.searchParams.set("after", after);
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), PATIENCE_MS);
  signal.addEventListener("abort", () => abort.abort());
  try {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch(url, { headers, cache: "no-store", signal: abort.signal });
    if (!answer.ok) return REFUSALS[answer.status] ?? "away";
    const told = (await answer.json()) as Record<string, unknown> & { next: string | null };
    return { rows: told[list] as Row[], next: told.next };
  } catch {
    return "away";
  } finally {
    clearTimeout(timer);
  }
}
