// An event as a command line that shows it again. Pure.

/** Quoted for a POSIX shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The command that asks the door for the session's log from that event on, and stops behind it. */
export function curl(base: URL, session: string, seq: number, token: boolean): string {
  const url = new URL(`sse/${session}?after=${Math.max(seq - 1, 0)}`, base);
  const head = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `curl -sN --max-time 5${head} ${quoted(url.href)} | grep -m 1 -F ${quoted(`"seq":${seq},`)}`;
}
