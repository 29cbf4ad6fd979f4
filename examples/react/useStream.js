import { useEffect, useState, useSyncExternalStore } from "react";

import { Client } from "./rxllm.js";
import { StreamStore } from "./streamStore.js";

const theClient = new Client();

/**
 * A stream in a component.
 *
 *     const { text, status, start, stop } = useStream();
 *     <button onClick={() => start({ prompt: "Tell me a story" })}>Go</button>
 *
 * One store lives as long as the component does, however often it renders, and the client is
 * shared by all. A component that goes away ends its stream.
 *
 * @param {{client?: Client}} [options] `client`: for another server, or with a key; the one of the
 *   first rendering is kept.
 * @returns {{status: string, text: string, tokens: number, progress?: object, error?: Error,
 *   start: (request: object) => Promise<string>, stop: () => Promise<void>,
 *   pause: () => Promise<void>, resume: () => Promise<void>}}
 */
export function useStream({ client = theClient } = {}) {
  const [store] = useState(() => new StreamStore(client));
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot);
  useEffect(() => () => store.leave(), [store]);
  const { start, stop, pause, resume } = store;
  return { ...state, start, stop, pause, resume };
}
