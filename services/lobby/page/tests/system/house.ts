// Where the tests find a lobby behind its door, and the one that ends it.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { House } from "../../../../../shared/client/tests/system/house.ts";

/** The door's configuration as it is shipped, with the page's folder where it is from here. */
function toml(): string {
  const shipped = readFileSync("../../../compose/edges/lobby.toml", "utf8");
  return shipped.replace("services/lobby/page/site", resolve("site"));
}

/** Three lobbies and a door: what one says is what the others say. */
export function start(): Promise<House> {
  return House.start({ toml: toml(), lobbies: 3 });
}
