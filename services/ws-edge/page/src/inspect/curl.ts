// An event as a command line that shows it again. Pure.

/** Quoted for a POSIX shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The command that asks the door for that event of the session. */
export function curl(base: URL, session: string, seq: number, token: boolean): string {
  const url = new URL(`sessions/${session}/events?after=${Math.max(seq - 1, 0)}&limit=1`, base);
  const head = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `curl -sS${head} ${quoted(url.href)}`;
}
