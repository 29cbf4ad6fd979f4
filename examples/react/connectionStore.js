/**
 * The state behind `useStreams`, independent of React: many streams over one connection, as an
 * external store for `useSyncExternalStore`. It notifies its listeners at most once per frame.
 */

import { FrameStore } from "./frameStore.js";
import { isRestart, textOf } from "./rxllm.js";

const EMPTY = Object.freeze({ isConnected: false, streams: Object.freeze([]) });

export class ConnectionStore extends FrameStore {
  #connection;
  #isOwn;
  /** Those that run, by their ids. @type {Map<string, import("./rxllm.js").SocketStream>} */
  #live = new Map();

  /** @param {import("./rxllm.js").Connection} connection
   * @param {boolean} isOwn whether the connection ends with the component */
  constructor(connection, isOwn) {
    super(EMPTY);
    this.#connection = connection;
    this.#isOwn = isOwn;
  }

  /** Connect when the component mounts. */
  enter = () => {
    this.#connection.addEventListener("connected", this.#onStatus);
    this.#connection.addEventListener("status", this.#onStatus);
    this.#connection.connect();
    this.#onStatus();
  };

  /** Stop the streams when the component unmounts. */
  leave = () => {
    this.#connection.removeEventListener("connected", this.#onStatus);
    this.#connection.removeEventListener("status", this.#onStatus);
    for (const id of [...this.#live.keys()]) {
      this.#live.get(id).stop();
      this.#end(id, { status: "stopped" });
    }
    if (this.#isOwn) this.#connection.disconnect();
    this.set({ isConnected: false });
    this.show();
  };

  /** Start a stream, and return its id. @param {import("./rxllm.js").StreamRequest} request */
  start = (request) => {
    const waiting = [];
    let take = (message) => waiting.push(message);
    const stream = this.#connection.start(request, (message) => take(message));
    const { id } = stream;
    this.#live.set(id, stream);
    const { prompt } = request;
    const started = Date.now() / 1000;
    const nothing = { text: "", tokens: 0, tools: [], messages: [] };
    this.#add({ id, prompt, started, ...nothing, status: "waiting", isLive: true });
    take = (message) => this.#take(id, message);
    waiting.forEach(take);
    return id;
  };

  stop = (id) => this.#live.get(id)?.stop();

  /** Take a stream off the list, and stop it if it runs. */
  remove = (id) => {
    this.#live.get(id)?.stop();
    this.#live.delete(id);
    this.#setStreams(this.state.streams.filter((stream) => stream.id !== id));
  };

  #onStatus = () => {
    const isConnected = this.#connection.connected !== undefined;
    if (isConnected !== this.state.isConnected) this.set({ isConnected });
  };

  #add(stream) {
    this.#setStreams([...this.state.streams, stream]);
  }

  #take(id, { type, chunk, finishReason, ...failure }) {
    if (!this.#live.has(id)) return; // it was removed, or left behind
    if (type === "complete") {
      this.#end(id, { status: finishReason === "cancelled" ? "stopped" : "complete" });
    } else if (type === "error") {
      this.#end(id, { status: "failed", error: failure });
    } else if (type === "chunk") {
      this.#takeChunk(id, chunk);
    }
  }

  #takeChunk(id, chunk) {
    if (isRestart(chunk)) {
      this.#change(id, () => ({ ...this.#done(id), status: "waiting" }));
    } else if (chunk.type === "progress") {
      this.#change(id, () => ({ progress: chunk }));
    } else if (textOf(chunk)) {
      const { text, tokens } = this.#live.get(id).run;
      this.#change(id, () => ({ text, tokens, status: "streaming" }));
    } else if (chunk.type !== "reasoning") {
      this.#change(id, () => this.#done(id));
    }
  }

  /** What a stream has said and done so far. */
  #done(id) {
    const { text, tokens, tools } = this.#live.get(id).run;
    return { text, tokens, tools: tools.map((tool) => ({ ...tool })) };
  }

  #end(id, changes) {
    const { messages } = this.#live.get(id).run;
    const ended = { ...changes, ...this.#done(id), messages, isLive: false };
    this.#live.delete(id);
    const now = Date.now() / 1000;
    this.#change(id, ({ started }) => ({ ...ended, duration: now - started }));
  }

  #change(id, changes) {
    const change = (stream) => (stream.id === id ? { ...stream, ...changes(stream) } : stream);
    this.#setStreams(this.state.streams.map(change));
  }

  #setStreams(streams) {
    this.set({ streams });
  }
}
