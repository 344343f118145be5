// That the document of sockets and subjects is one, by AsyncAPI's own schema. What it says is compared with what is sent by
// shared/testkit/tests/asyncapi.rs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ajv, type AnySchema } from "ajv";
import specs from "@asyncapi/specs";
import { House } from "./house.ts";

const EVERYTHING = `
[[ws-edge.listeners]]
builtin = "arena"
address = "127.0.0.1:0"
auth = "jwt"

[[ws-edge.listeners.routes]]
path = "/table/{sid}"
stream = "APP"
roots = ["app", "quiz"]
uplink = {}
newest = { roles = ["dm"] }
admit = "quiz"

[[ws-edge.listeners.routes]]
path = "/table/events/{sid}"
transport = "sse"
stream = "APP"
roots = ["app"]
uplink = {}
`;

const judge = new Ajv({ strict: false, validateFormats: false, allErrors: true, logger: false }).compile(
  (specs as unknown as { schemasWithoutId: Record<string, AnySchema> }).schemasWithoutId["3.0.0"] as AnySchema,
);

for (const [name, options] of [
  ["as it is without configuration", {}],
  ["with all that a route may have", { toml: EVERYTHING, ingest: true, edge: { HERALD_JWT__SECRET: "a secret of at least thirty-two bytes", HERALD_JWT__QUERY: "true" } }],
] as const) {
  test(`the AsyncAPI document is one: ${name}`, { timeout: 60_000 }, async () => {
    const house = await House.start(options);
    try {
      const document = (await (await fetch(`http://127.0.0.1:${house.port}/asyncapi.json`)).json()) as Record<string, Record<string, unknown>>;
      assert.ok(judge(document), JSON.stringify(judge.errors?.slice(0, 5), null, 1));
      assert.ok(Object.keys(document.channels ?? {}).length > 30);
      // A reference that leads nowhere is none to a schema.
      JSON.stringify(document, (key, value) => {
        if (key === "$ref") {
          const target = (value as string).slice(2).split("/").reduce<unknown>((at, word) => (at as Record<string, unknown> | undefined)?.[word], document);
          assert.ok(target !== undefined, value as string);
        }
        return value;
      });
      // And that the judge judges.
      assert.ok(!judge({ ...document, channels: { x: { address: 7 } } }));
    } finally {
      await house.end();
    }
  });
}
