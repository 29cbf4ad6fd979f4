import { useEffect, useState, useSyncExternalStore } from "react";

import { ConnectionStore } from "./connectionStore.js";
import { Connection } from "./rxllm.js";

/**
 * Many streams over one WebSocket in a component.
 *
 *     const { streams, isConnected, start, stop } = useStreams();
 *     <button onClick={() => start({ prompt: "Tell me a story" })}>Go</button>
 *
 * The streams and the connection end when the component unmounts. A lost connection is
 * re-established, and its streams continue.
 *
 * @param {{connection?: Connection}} [options] `connection`: one that the application shares, which
 *   stays open; that of the first render is kept. By default the component has its own.
 * @returns {{isConnected: boolean, streams: Array<{id: string, prompt?: string, text: string,
 *   tokens: number, status: string, isLive: boolean, started: number, duration?: number,
 *   tools: import("./rxllm.js").Tool[], messages: object[], progress?: object, error?: object}>,
 *   start: (request: object) => string, stop: (id: string) => void, remove: (id: string) => void}}
 *   `started` is in Unix seconds; `duration` in seconds, once the stream has ended
 */
export function useStreams({ connection } = {}) {
  const [store] = useState(
    () => new ConnectionStore(connection ?? new Connection(), connection === undefined),
  );
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot);
  useEffect(() => {
    store.enter();
    return store.leave;
  }, [store]);
  const { start, stop, remove } = store;
  return { ...state, start, stop, remove };
}
