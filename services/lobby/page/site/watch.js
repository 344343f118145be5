// Who is in a session and who is ready, as it changes.

import { exists } from "./api.js";

/** @typedef {import("./api.js").Status} Status */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** A session looked at, until it is closed or the session is gone. A socket that ends is opened again. */
export class Watch {
  #sid;
  #told;
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #again;
  #wait = FIRST_WAIT_MS;
  #closed = false;

  /**
   * @param {string} sid
   * @param {{ status(status: Status): void, away(): void, gone(): void }} told what happens: there is a status; none can be had just now; there is no such session
   */
  constructor(sid, told) {
    this.#sid = sid;
    this.#told = told;
    this.#open();
  }

  #open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/${encodeURIComponent(this.#sid)}`);
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      this.#wait = FIRST_WAIT_MS;
      if (!this.#closed) this.#told.status(JSON.parse(data));
    };
    socket.onclose = () => void this.#ended();
  }

  async #ended() {
    if (this.#closed) return;
    this.#told.away();
    // A page is not told why its socket was refused.
    const there = await exists(this.#sid).catch(() => true);
    if (this.#closed) return;
    if (!there) {
      this.close();
      this.#told.gone();
      return;
    }
    // Not all at once, where many have lost it at once.
    this.#again = setTimeout(() => this.#open(), this.#wait * (0.5 + Math.random()));
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#again);
    this.#socket?.close();
  }
}
