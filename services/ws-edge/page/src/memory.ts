// What the page remembers: of this tab until it is closed, of this browser until it is told to forget. Browsers may refuse both.

type Where = "begun" | "wanted" | "token" | "operators" | "tongue" | "theme" | "recent";

/** Of the tab: what is secret, and what belongs to a game that runs. The rest is the browser's. */
const OF_THE_TAB: readonly Where[] = ["begun", "wanted", "token", "operators"];

export function kept<T>(where: Where, name = ""): T | undefined {
  try {
    const text = place(where).getItem(key(where, name));
    return text === null ? undefined : (JSON.parse(text) as T);
  } catch {
    return undefined;
  }
}

export function keep(where: Where, name: string, value: unknown): void {
  try {
    if (value === undefined || value === "") place(where).removeItem(key(where, name));
    else place(where).setItem(key(where, name), JSON.stringify(value));
  } catch {
    // Full, or not allowed: it is forgotten with the page.
  }
}

const MOST_RECENT = 5;

/** The sessions that were opened here, the last one first. */
export function recent(): string[] {
  const all = kept<unknown>("recent");
  return Array.isArray(all) ? all.filter((one): one is string => typeof one === "string").slice(0, MOST_RECENT) : [];
}

export function remember(session: string): void {
  keep("recent", "", [session, ...recent().filter((one) => one !== session)].slice(0, MOST_RECENT));
}

function place(where: Where): Storage {
  return OF_THE_TAB.includes(where) ? sessionStorage : localStorage;
}

function key(where: Where, name: string): string {
  return name ? `herald.${where}.${name}` : `herald.${where}`;
}
