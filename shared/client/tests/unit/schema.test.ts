// The types of the game's events are those of its schemas, from which the door makes its AsyncAPI document.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { compile } from "../recorded.ts";

interface Schema {
  $ref?: string;
  const?: unknown;
  enum?: unknown[];
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: boolean | Schema;
}
interface Known {
  events: Record<string, { payload: Schema }>;
  schemas: Record<string, Schema>;
}

const KNOWN = JSON.parse(readFileSync("../../services/ws-edge/src/config/builtin/arena.events.json", "utf8")) as Known;

/** A schema as a type; `whole`: as if everything had to be there. */
function typeOf(schema: Schema, whole: boolean, known = KNOWN): string {
  if (schema.$ref) return typeOf(known.schemas[schema.$ref.split("/").at(-1) as string] as Schema, whole, known);
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const one = (type: string): string => {
    if (type === "array") return `(${typeOf(schema.items ?? {}, whole, known)})[]`;
    if (type === "integer") return "number";
    if (type !== "object") return type;
    const { properties = {}, additionalProperties: more, required = [] } = schema;
    if (more) return `Record<string, ${typeof more === "object" ? typeOf(more, whole, known) : "any"}>`;
    const fields = Object.entries(properties).map(([name, field]) => {
      // Several events of the Game Master share one schema: each knows its own name better.
      const own = name === "type" && field.type === "string" ? "any" : typeOf(field, whole, known);
      return `${JSON.stringify(name)}${whole || required.includes(name) ? "" : "?"}: ${own}`;
    });
    return `{ ${fields.join("; ")} }`;
  };
  return schema.type === undefined ? "any" : [schema.type].flat().map(one).join(" | ");
}

/** What the compiler says of types next to their schemas. */
function beside(name: string, known: Known, types: [ours: string, schema: Schema][]): string {
  const lines = [
    'import type { ArenaEvents } from "../src/arena.ts";',
    'import type { ClientEvents, Order } from "../src/events.ts";',
    'export type { ArenaEvents, ClientEvents, Order };',
    "type Whole<T> = T extends readonly (infer I)[] ? Whole<I>[] : T extends object ? { [K in keyof T]-?: Whole<T[K]> } : T;",
    "declare function take<T>(value: T): void;",
  ];
  for (const [ours, payload] of types) {
    const [said, all] = [typeOf(payload, false, known), typeOf(payload, true, known)];
    lines.push(
      // No field that is in one of them alone, or of another type there.
      `take<Whole<${ours}>>(null! as ${all});`,
      `take<${all}>(null! as Whole<${ours}>);`,
      // What must be there is never said to be missing. That more is always there is seen in the recorded game.
      `take<${said}>(null! as ${ours});`,
    );
  }
  return compile(name, lines);
}

/** The events of the game. */
function compared(name: string, known: Known): string {
  const events = Object.entries(known.events);
  return beside(name, known, events.map(([event, { payload }]) => [`ArenaEvents[${JSON.stringify(event.replace(/\{\w+\}/g, "*"))}]`, payload]));
}

test("the types of events are those of the schemas", () => {
  // One that is of no type at all has no type here either.
  const { "gm.unknown": _unknown, ...events } = KNOWN.events;
  const types = [...readFileSync("src/arena.ts", "utf8").matchAll(/^ {2}"((?:gm|arena)\.[^"]+)":/gm)].map(([, name]) => name as string);
  assert.deepEqual(types.sort(), Object.keys(events).map((name) => name.replace(/\{\w+\}/g, "*")).sort());
  assert.equal(compared("schemas", { ...KNOWN, events }), "");
});

test("a field that is missing, of another type, or not always there is found", () => {
  const wrong = (properties: Record<string, Schema>, required: string[]) =>
    compared("schemas-wrong", { ...KNOWN, events: { "gm.tool_error": { payload: { type: "object", properties, required } } } });
  const [type, tool, error, text] = [{ const: "tool_error" }, { type: "string" }, { type: "string" }, { type: "string" }];
  assert.equal(wrong({ type, tool, error }, ["type"]), "");
  assert.match(wrong({ type, tool }, []), /error/);
  assert.match(wrong({ type, tool, error, text }, []), /text/);
  assert.match(wrong({ type, tool, error: { type: "integer" } }, []), /number/);
  assert.match(
    compared("schemas-wrong", { ...KNOWN, events: { "gm.phase": { payload: { type: "object", required: ["turns"], properties: { type: { const: "phase" }, phase: { type: "string" }, turns: { type: "integer" } } } } } }),
    /optional/,
  );
});

// What the door itself says on any route, and what it can be told about the past.
const DOOR = JSON.parse(readFileSync("../../services/ws-edge/src/asyncapi/door.json", "utf8")) as {
  controls: Record<string, { schema: string }>;
  document: { components: { schemas: Record<string, Schema>; messages: Record<string, { payload: Schema }> } };
};

test("the types of what the door tells of itself are those of its schemas", () => {
  const { controls, document } = DOOR;
  const known: Known = { events: {}, schemas: document.components.schemas };
  const of = (name: string) => known.schemas[controls[`herald.${name}`]?.schema as string] as Schema;
  const told = ["gap", "live", "replay", "presence", "join", "leave", "uplink"];
  // The others are the client's own business.
  assert.deepEqual(Object.keys(controls).sort(), [...told, "hello", "bye", "closed", "beat"].map((name) => `herald.${name}`).sort());
  const order = document.components.messages["replay.order"]?.payload.properties?.data as Schema;
  assert.equal(beside("door", known, [...told.map((name): [string, Schema] => [`ClientEvents["${name}"]`, of(name)]), ["Order", order]]), "");
  const { reason: _, ...less } = of("replay").properties as Record<string, Schema>;
  assert.match(beside("door-wrong", known, [['ClientEvents["replay"]', { ...of("replay"), properties: less }]]), /reason/);
});
