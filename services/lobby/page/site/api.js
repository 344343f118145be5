// What the lobby is asked for, and what it answers.

/** How long an answer may take. The door gives up before. */
const PATIENCE_MS = 15_000;

/** @typedef {{ client_id: string, ready: boolean }} Player */
/** @typedef {{ players: Player[], all_ready: boolean }} Status */
/** @typedef {{ x: number, y: number, type: string, open_directions: string[], image: string }} Tile */
/** @typedef {{ seed: string, start_x: number, start_y: number, tiles: Tile[] }} Labyrinth */
/** @typedef {{ id: string, seed: string, size: number, created_at: string }} Session */

/** The lobby said no, or said nothing. */
export class Refused extends Error {
  /** @param {number} status 0 where nobody answered; @param {string} text */
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 */
async function ask(method, path, body) {
  let answer, text;
  try {
    answer = await fetch(path, {
      method,
      ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await answer.text();
  } catch {
    throw new Refused(0, "The lobby does not answer.");
  }
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    throw new Refused(answer.status, `The lobby answers in a way that this page does not know (${answer.status}).`);
  }
  if (answer.ok) return said;
  // One sentence, or a list of what is wrong with which field.
  const { detail } = said;
  const sentence = Array.isArray(detail) ? detail.map(({ msg, loc }) => `${loc?.at(-1)}: ${msg}`).join("; ") : detail;
  throw new Refused(answer.status, String(sentence ?? `The lobby says ${answer.status}.`));
}

/** @param {string} sid */
const of = (sid) => `/api/game_sessions/${encodeURIComponent(sid)}`;
/** @param {string} seed */
const seeded = (seed) => (seed ? { seed } : {});

/** @returns {Promise<Session[]>} all of them, oldest first */
export const sessions = async () => (await ask("GET", "/api/game_sessions")).sessions;

/** @param {number} size @param {string} seed @returns {Promise<Labyrinth>} without a session of it */
export const preview = (size, seed) => ask("POST", "/generate-labyrinth", { size, ...seeded(seed) });

/** @param {number} size @param {string} seed @returns {Promise<string>} its id */
export const create = async (size, seed) => (await ask("POST", "/api/game_sessions/create", { size, ...seeded(seed) })).session_id;

/** @param {string} sid @returns {Promise<Labyrinth>} */
export const labyrinth = (sid) => ask("GET", `${of(sid)}/labyrinth`);

/** @param {string} sid @param {string} client_id @returns {Promise<boolean>} false: it is in a session already */
export const join = async (sid, client_id) => "session_id" in (await ask("POST", `${of(sid)}/join`, { client_id }));

/** @param {string} client_id */
export const leave = (client_id) => ask("POST", "/api/game_sessions/leave", { client_id });

/** @param {string} sid @param {string} client_id @param {boolean} ready @returns {Promise<Status>} */
export const setReady = (sid, client_id, ready) => ask("POST", `${of(sid)}/toggle_readiness`, { client_id, ready });

/** @param {string} client_id @returns {Promise<string | null>} the session that it is in */
export const sessionOf = async (client_id) =>
  (await ask("GET", `/api/game_sessions/client_state/${encodeURIComponent(client_id)}`)).connected_session;

/** @param {string} sid @returns {Promise<boolean>} */
export async function exists(sid) {
  try {
    await ask("GET", `${of(sid)}/clients`);
    return true;
  } catch (error) {
    if (error instanceof Refused && (error.status === 404 || error.status === 422)) return false;
    throw error;
  }
}
