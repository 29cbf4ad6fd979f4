/**
 * What `useStream` shows, apart from React: the state of one stream at a time, for
 * `useSyncExternalStore`. It is told of each message from the first one on, whether or not a
 * component looks already, and tells its listeners at most once a frame.
 */

import { isRestart, textOf } from "./rxllm.js";

const EMPTY = Object.freeze({
  // Then waiting, until something is said; streaming, paused; and complete, stopped, failed.
  status: "ready",
  text: "",
  tokens: 0,
  progress: undefined,
  error: undefined,
});

const LIVE = new Set(["waiting", "streaming", "paused"]);

export class StreamStore {
  #client;
  #state = EMPTY;
  #shown = EMPTY;
  #listeners = new Set();
  #frame = 0;
  #aborter;
  #stream;
  #paused = false;
  #said = false;

  /** @param {import("./rxllm.js").Client} client */
  constructor(client) {
    this.#client = client;
  }

  // For useSyncExternalStore: both keep their identity, and a snapshot changes only with a change.
  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getSnapshot = () => this.#shown;

  /** Ask. A stream that goes on is ended first. Resolves with the whole text; never rejects: the
   * error is in the state. @param {import("./rxllm.js").StreamRequest} request */
  start = async (request) => {
    this.#end();
    const aborter = new AbortController();
    const stream = this.#client.stream(request, { signal: aborter.signal });
    this.#aborter = aborter;
    this.#stream = stream;
    this.#paused = this.#said = false;
    this.#set({ ...EMPTY, status: this.#liveStatus });
    try {
      for await (const message of stream) {
        if (this.#stream === stream) this.#take(message);
      }
    } catch (error) {
      const status = aborter.signal.aborted ? "stopped" : "failed";
      if (this.#stream === stream) this.#set({ status, ...(status === "failed" && { error }) });
    }
    this.#show();
    return stream.text;
  };

  stop = async () => {
    const aborter = this.#aborter; // by the time that the server answers there may be another
    if (this.#stream?.id) await this.#stream.stop().catch(() => aborter.abort());
    else aborter?.abort();
  };

  pause = () => this.#pause(true);

  resume = () => this.#pause(false);

  /** The component has gone: end the stream. One that comes back finds it stopped. */
  leave = () => {
    const live = this.#live;
    this.#end();
    if (live) this.#state = { ...this.#state, status: "stopped" };
    this.#show();
  };

  async #pause(paused) {
    if (!this.#live) return;
    const stream = this.#stream;
    await (paused ? stream.pause() : stream.resume());
    if (!this.#live || this.#stream !== stream) return;
    this.#paused = paused;
    this.#set({ status: this.#liveStatus });
  }

  /** Text that was under way when the stream was paused does not make it go on. */
  get #liveStatus() {
    if (this.#paused) return "paused";
    return this.#said ? "streaming" : "waiting";
  }

  get #live() {
    return LIVE.has(this.#state.status) && this.#stream !== undefined;
  }

  #end() {
    const stream = this.#stream;
    const live = this.#live;
    this.#stream = undefined;
    this.#aborter?.abort();
    if (stream?.id && live) this.#client.cancel(stream.id).catch(() => {}); // the server ends it alone
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  #take({ type, chunk, finishReason }) {
    const { text, tokens } = this.#state;
    if (type === "complete") {
      this.#set({ status: finishReason === "cancelled" ? "stopped" : "complete" });
    } else if (isRestart(chunk)) {
      this.#said = false;
      this.#set({ status: this.#liveStatus, text: "", tokens: 0 });
    } else if (chunk.type === "progress") {
      this.#set({ progress: chunk });
    } else if (chunk.type === "reasoning") {
      this.#said = true;
      this.#set({ status: this.#liveStatus });
    } else if (textOf(chunk)) {
      this.#said = true;
      const more = chunk.type === "batch" ? chunk.chunks.length : 1;
      const status = this.#liveStatus;
      this.#set({ status, text: text + textOf(chunk), tokens: tokens + more });
    }
  }

  #set(changes) {
    this.#state = { ...this.#state, ...changes };
    this.#frame ||= requestAnimationFrame(() => this.#show());
  }

  #show() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#shown === this.#state) return;
    this.#shown = this.#state;
    for (const listener of [...this.#listeners]) listener();
  }
}
