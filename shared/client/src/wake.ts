// When a page is looked at again, or its network is back. Where there is no page, never.

const NAMES = ["online", "pageshow", "visibilitychange"];

/** Calls `awake` then; `moved`: the network was away, so that old connections lead nowhere. The answer ends it. */
export function whenAwake(awake: (moved: boolean) => void): () => void {
  const heard = ({ type }: { type: string }) => {
    if ((globalThis.document as Document | undefined)?.visibilityState !== "hidden") awake(type === "online");
  };
  for (const name of NAMES) globalThis.addEventListener?.(name, heard);
  return () => {
    for (const name of NAMES) globalThis.removeEventListener?.(name, heard);
  };
}
