// The page of the lobby: its list and its new sessions, or one session, named by what is behind the `#`.

import * as api from "./api.js";
import { Watch } from "./watch.js";

/** Sessions that are shown at once. */
const SHOWN = 20;
const NAME = "lobby.name";

/** @template {HTMLElement} [T=HTMLElement] @param {string} selector @returns {T} */
const $ = (selector) => /** @type {T} */ (document.querySelector(selector));
/** @param {string} id */
const input = (id) => /** @type {HTMLInputElement} */ ($(`#${id}`));
/** @param {string} tag @param {string} text @param {string} [className] */
function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}
/** @param {string} sid */
const short = (sid) => sid.slice(0, 8);

/** @param {unknown} error */
const words = (error) => (error instanceof Error ? error.message : String(error));

/** @param {string} text @param {boolean} [bad] */
function say(text, bad = false) {
  const said = $("#said");
  said.className = bad ? "bad" : "";
  said.textContent = text;
}

/** Does what a button is for, once at a time, and says what goes wrong. @param {HTMLElement} button @param {() => Promise<void>} act */
async function doing(button, act) {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  say("");
  try {
    await act();
  } catch (error) {
    say(words(error), true);
  } finally {
    button.ariaDisabled = "false";
  }
}

// -- Who we are --------------------------------------------------------------------------------------------------------------

let name = localStorage.getItem(NAME) ?? `player-${crypto.getRandomValues(new Uint32Array(1))[0]?.toString(36)}`;

/** Takes a name, if it is one. @param {string} wanted */
function takeName(wanted) {
  const field = input("name");
  // The lobby's own rule; and "." and ".." would be no names but steps in an address.
  const wrong = /[<>\p{Cc}]/u.test(wanted) || /^\.{0,2}$/.test(wanted);
  field.setCustomValidity(wrong ? "This can't be a name: it has < or > in it, or is nothing but dots." : "");
  if (!field.reportValidity()) return false;
  name = wanted;
  localStorage.setItem(NAME, name);
  return true;
}

/** Shows which session we are in. */
async function showMine() {
  const asked = name;
  const mine = await api.sessionOf(asked);
  if (asked !== name) return mine;
  $("#mine").hidden = mine === null;
  const link = /** @type {HTMLAnchorElement} */ ($("#mine a"));
  if (mine !== null) {
    link.href = `#${mine}`;
    link.textContent = `session ${short(mine)}`;
  }
  return mine;
}

// -- Labyrinths --------------------------------------------------------------------------------------------------------------

/** @param {HTMLElement} figure @param {api.Labyrinth} labyrinth */
function draw(figure, { seed, start_x, start_y, tiles }) {
  const size = Math.sqrt(tiles.length);
  const map = /** @type {HTMLElement} */ (figure.querySelector(".map"));
  map.dataset.size = String(size);
  map.role = "img";
  map.ariaLabel = `Labyrinth, ${size} by ${size}. The start is in column ${start_x + 1}, row ${start_y + 1}.`;
  map.replaceChildren(
    ...tiles.map(({ x, y, image }) => {
      const tile = element("span", "", x === start_x && y === start_y ? "start" : "");
      const picture = document.createElement("img");
      picture.src = `/tiles/${image}`;
      picture.alt = "";
      tile.append(picture);
      return tile;
    }),
  );
  /** @type {HTMLElement} */ (figure.querySelector("figcaption")).textContent = `${size} × ${size}, seed “${seed}”; the dot is the start`;
}

// -- Home --------------------------------------------------------------------------------------------------------------------

/** What is previewed: a session that is created with the same fields is this one, with whatever seed it got. */
let previewed = { size: 0, field: "", seed: "" };
let shown = SHOWN;

const fields = () => ({ size: Number(input("size").value), field: input("seed").value });

async function preview() {
  const { size, field } = fields();
  const labyrinth = await api.preview(size, field);
  previewed = { size, field, seed: labyrinth.seed };
  draw($("#preview"), labyrinth);
  $("#preview").hidden = false;
  say(field ? "" : "This is a random one. Create makes a session of it, Preview draws another.");
}

async function create() {
  const { size, field } = fields();
  const isShown = previewed.size === size && previewed.field === field;
  location.hash = await api.create(size, isShown ? previewed.seed : field);
}

async function list() {
  const all = (await api.sessions()).reverse();
  $("#none").hidden = all.length > 0;
  $("#more").hidden = all.length <= shown;
  $("#sessions").textContent = all.length ? `Sessions (${all.length})` : "Sessions";
  $("#list").replaceChildren(
    ...all.slice(0, shown).map(({ id, seed, size, created_at }) => {
      const link = /** @type {HTMLAnchorElement} */ (element("a", `Session ${short(id)}`));
      link.href = `#${id}`;
      const what = element("span", "");
      what.append(link, ` ${size} × ${size}`);
      const line = element("p", "", "line");
      line.append(what, element("span", new Date(created_at).toLocaleString(), "note"));
      const row = document.createElement("li");
      row.append(line, element("p", `seed “${seed}”`, "note seed"));
      return row;
    }),
  );
}

// -- A session ---------------------------------------------------------------------------------------------------------------

/** @type {{ sid: string, watch: Watch, status?: api.Status } | undefined} */
let open;

function showStatus() {
  const status = open?.status;
  const players = status?.players ?? [];
  const me = players.find(({ client_id }) => client_id === name);
  const waiting = players.filter(({ ready }) => !ready).length;
  const sentence = status?.all_ready ? "All are ready." : players.length ? `Waiting for ${waiting} of ${players.length}.` : "Nobody is here yet.";
  const ready = $("#ready");
  if (ready.textContent !== sentence) ready.textContent = sentence;
  ready.className = status?.all_ready ? "all" : "";
  $("#members").replaceChildren(
    ...players.map(({ client_id, ready }) => {
      const row = document.createElement("li");
      row.append(
        element("span", client_id + (client_id === name ? " (you)" : ""), "name"),
        element("span", ready ? "✓ ready" : "not ready", ready ? "ready" : "waits"),
      );
      return row;
    }),
  );
  // A button that goes hands its focus on to the one that comes.
  const focused = document.activeElement;
  $("#join").hidden = !status || !!me;
  $("#toggle").hidden = $("#leave").hidden = !me;
  $("#toggle").ariaPressed = String(!!me?.ready);
  $("#toggle").textContent = me?.ready ? "✓ I am ready" : "I am ready";
  if (focused instanceof HTMLElement && focused.matches("#join, #toggle, #leave") && focused.hidden) $(me ? "#toggle" : "#join").focus();
}

/** @param {string} sid */
async function openSession(sid) {
  const watch = new Watch(sid, {
    status(status) {
      if (open?.watch !== watch) return;
      open.status = status;
      $("#away").textContent = "";
      showStatus();
    },
    away() {
      $("#away").textContent = "The lobby is not heard just now: what is shown may be old.";
    },
    gone() {
      // Nobody shall come back to it, by the browser's own button either.
      history.replaceState(null, "", location.pathname);
      void show().then(() => say(`There is no session ${short(sid)}.`, true));
    },
  });
  open = { sid, watch };
  $("#which").textContent = `Session ${short(sid)}`;
  showStatus();
  const labyrinth = await api.labyrinth(sid);
  if (open?.watch === watch) draw($("#session figure"), labyrinth);
}

/** @param {string} sid */
async function join(sid) {
  if (!takeName(input("name").value)) return;
  const joined = await api.join(sid, name);
  const mine = await showMine();
  if (!joined && mine !== null && mine !== sid) throw new Error(`You are in session ${short(mine)} already: leave it first.`);
}

// -- What leads where --------------------------------------------------------------------------------------------------------

async function show(first = false) {
  const sid = location.hash.slice(1);
  open?.watch.close();
  open = undefined;
  $("#away").textContent = "";
  $("#home").hidden = sid !== "";
  $("#session").hidden = sid === "";
  document.title = sid ? `Session ${short(sid)} – Lobby` : "Lobby";
  for (const part of document.querySelectorAll("#session .map, #session figcaption")) part.replaceChildren();
  // Who listens hears where they are; at the very beginning they know.
  if (!first) $(sid ? "#which" : "#new").focus();
  try {
    await Promise.all([showMine(), sid ? openSession(sid) : list()]);
  } catch (error) {
    // That there is no such session is said by the one who watches it.
    if (!(error instanceof api.Refused && [404, 422].includes(error.status))) say(words(error), true);
  }
}

/** @param {string} id @param {(open: { sid: string }) => Promise<void>} act */
const inSession = (id, act) => $(`#${id}`).addEventListener("click", ({ currentTarget }) => {
  const where = open;
  if (where) void doing(/** @type {HTMLElement} */ (currentTarget), () => act(where));
});

inSession("join", ({ sid }) => join(sid));
inSession("toggle", async ({ sid }) => void (await api.setReady(sid, name, $("#toggle").ariaPressed !== "true")));
inSession("leave", async () => {
  await api.leave(name);
  await showMine();
});
$("#refresh").addEventListener("click", ({ currentTarget }) => void doing(/** @type {HTMLElement} */ (currentTarget), list));
$("#more").addEventListener("click", ({ currentTarget }) => {
  shown += 5 * SHOWN;
  void doing(/** @type {HTMLElement} */ (currentTarget), list);
});
$("#create").addEventListener("submit", (event) => {
  event.preventDefault();
  const button = /** @type {HTMLButtonElement} */ (event.submitter ?? $("#create .main"));
  void doing(button, button.value === "preview" ? preview : create);
});
$("#who").addEventListener("submit", (event) => {
  event.preventDefault();
  const button = $("#who button");
  void doing(button, async () => {
    if (!takeName(input("name").value)) return;
    showStatus();
    await showMine();
    say(`You are ${name} now.`);
  });
});
input("name").addEventListener("input", () => input("name").setCustomValidity(""));
addEventListener("hashchange", () => {
  say("");
  void show();
});

input("name").value = name;
localStorage.setItem(NAME, name);
void show(true);
