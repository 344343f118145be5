// Which view is shown, of which session: the part of the address behind `#`. Pure.

export type View = "home" | "play" | "inspect";

export interface Route {
  view: View;
  session?: string;
  /** What stands there in place of a view or a session, and can be none. */
  wrong?: string;
}

const SESSION = /^[a-zA-Z0-9][\w-]{0,63}$/;
/** Characters of a wrong address that are shown. */
const LONGEST = 80;

/** Whether a text can be the id of a session. */
export function isSession(text: string): boolean {
  return SESSION.test(text);
}

export function parse(hash: string): Route {
  const [view = "", session = ""] = hash.replace(/^#?\/?/, "").split("/");
  const known = view === "play" || view === "inspect";
  if (known && isSession(session)) return { view, session };
  const wrong = readable(known ? session : view);
  return { view: view === "inspect" ? view : "home", ...(wrong ? { wrong } : {}) };
}

/** A part of an address, for people. */
function readable(part: string): string {
  try {
    return decodeURIComponent(part).slice(0, LONGEST);
  } catch {
    return part.slice(0, LONGEST);
  }
}

export function format({ view, session }: Route): string {
  if (view === "home") return "#/";
  return session ? `#/${view}/${session}` : `#/${view}`;
}

/** A fresh id, a UUID: the arena engine takes no others. Pages that came over plain HTTP have no `randomUUID`. */
export function freshSession(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
