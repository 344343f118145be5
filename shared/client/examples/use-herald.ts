// A React hook: what has become of a session by its events, and what the connection is doing.

import { useEffect, useReducer, useRef, useState } from "react";
import { connect, type ArenaEvents, type EventOf, type Herald, type Options, type Status } from "@herald/client";

export type ArenaEvent = EventOf<ArenaEvents, ">">;

/**
 * Follows a session while the component is there. `reduce` makes the next state of the last one and an event; of a session that is
 * shown anew everything begins with `initial`.
 */
export function useHerald<S>(options: Options, reduce: (state: S, event: ArenaEvent) => S, initial: S) {
  const { session, url } = options;
  const [herald, setHerald] = useState<Herald>();
  const [status, setStatus] = useState<Status>({ state: "connecting" });
  const [state, dispatch] = useReducer((state: S, event: ArenaEvent | null) => (event ? reduce(state, event) : initial), initial);
  const latest = useRef(options);
  latest.current = options;

  useEffect(() => {
    const herald = connect({ from: "start", ...latest.current });
    setHerald(herald);
    setStatus(herald.status);
    dispatch(null);
    herald.on("status", setStatus);
    herald.on(">", dispatch);
    return () => herald.close();
  }, [session, String(url)]);

  return { herald, status, state };
}
