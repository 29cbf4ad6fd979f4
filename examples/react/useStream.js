import { useEffect, useState, useSyncExternalStore } from "react";

import { Client } from "./rxllm.js";
import { StreamStore } from "./streamStore.js";

const defaultClient = new Client();

/**
 * A stream in a component.
 *
 *     const { text, status, start, stop } = useStream();
 *     <button onClick={() => start({ prompt: "Tell me a story" })}>Go</button>
 *
 * The store lives as long as the component, and the default client is shared by all components. The
 * stream ends when the component unmounts.
 *
 * @param {{client?: Client}} [options] `client`: for another server, or with a key; the client of
 *   the first render is kept.
 * @returns {{status: string, text: string, tokens: number, progress?: object, error?: Error,
 *   tools: import("./rxllm.js").Tool[], messages: object[],
 *   start: (request: object) => Promise<string>, stop: () => Promise<void>,
 *   approve: (approvals: Record<string, boolean | string>) => Promise<string>,
 *   pause: () => Promise<void>, resume: () => Promise<void>}} `messages`: what the stream adds to
 *   the conversation, once it has ended; `approve`: continues it after decisions about the tools
 *   whose `state` is `waiting`, by their tokens
 */
export function useStream({ client = defaultClient } = {}) {
  const [store] = useState(() => new StreamStore(client));
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot);
  useEffect(() => () => store.leave(), [store]);
  const { start, stop, approve, pause, resume } = store;
  return { ...state, start, stop, approve, pause, resume };
}
