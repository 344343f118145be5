// Live events of a Herald session: in order, exactly once, across every reconnect.

export { connect, type Herald, type Options } from "./client.ts";
export { HeraldError, type ErrorCode } from "./errors.ts";
export type { ClientEvents, EventMap, EventOf, HeraldEvent, KeysOf, Order, Person, Replay, Status } from "./events.ts";
export type { From, Gap } from "./position.ts";
export type { Commands } from "./commands.ts";
export type { TokenSource } from "./token.ts";
export type * from "./arena.ts";
