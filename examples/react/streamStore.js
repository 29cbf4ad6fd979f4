/**
 * The state behind `useStream`, independent of React: one stream at a time, as an external store
 * for `useSyncExternalStore`. It processes every message from the first one on, even before any
 * component subscribes, and notifies its listeners at most once per frame.
 */

import { FrameStore } from "./frameStore.js";
import { isRestart, textOf } from "./rxllm.js";

const EMPTY = Object.freeze({
  // Later: "waiting" (until the first output), "streaming" or "paused"; finally "complete",
  // "stopped" or "failed".
  status: "ready",
  text: "",
  tokens: 0,
  progress: undefined,
  error: undefined,
});

const LIVE = new Set(["waiting", "streaming", "paused"]);

export class StreamStore extends FrameStore {
  #client;
  #aborter;
  #stream;
  #paused = false;
  #hasOutput = false;

  /** @param {import("./rxllm.js").Client} client */
  constructor(client) {
    super(EMPTY);
    this.#client = client;
  }

  /** Start a stream, ending the current one first. Resolves with the whole text and never rejects;
   * an error is in the state. @param {import("./rxllm.js").StreamRequest} request */
  start = async (request) => {
    this.#end();
    const aborter = new AbortController();
    const stream = this.#client.stream(request, { signal: aborter.signal });
    this.#aborter = aborter;
    this.#stream = stream;
    this.#paused = this.#hasOutput = false;
    this.set({ ...EMPTY, status: this.#liveStatus });
    try {
      for await (const message of stream) {
        if (this.#stream === stream) this.#take(message);
      }
    } catch (error) {
      const status = aborter.signal.aborted ? "stopped" : "failed";
      if (this.#stream === stream) this.set({ status, ...(status === "failed" && { error }) });
    }
    this.show();
    return stream.text;
  };

  stop = async () => {
    const aborter = this.#aborter; // may be replaced before the server answers
    if (this.#stream?.id) await this.#stream.stop().catch(() => aborter.abort());
    else aborter?.abort();
  };

  pause = () => this.#pause(true);

  resume = () => this.#pause(false);

  /** End the stream when the component unmounts. A component that remounts finds it stopped. */
  leave = () => {
    const live = this.#live;
    this.#end();
    if (live) this.set({ status: "stopped" });
    this.show();
  };

  async #pause(paused) {
    if (!this.#live) return;
    const stream = this.#stream;
    await (paused ? stream.pause() : stream.resume());
    if (!this.#live || this.#stream !== stream) return;
    this.#paused = paused;
    this.set({ status: this.#liveStatus });
  }

  /** Text in transit when the stream was paused doesn't make it "streaming" again. */
  get #liveStatus() {
    if (this.#paused) return "paused";
    return this.#hasOutput ? "streaming" : "waiting";
  }

  get #live() {
    return LIVE.has(this.state.status) && this.#stream !== undefined;
  }

  #end() {
    const stream = this.#stream;
    const live = this.#live;
    this.#stream = undefined;
    this.#aborter?.abort();
    if (stream?.id && live) this.#client.cancel(stream.id).catch(() => {}); // the server ends it anyway
  }

  #take({ type, chunk, finishReason }) {
    const { text, tokens } = this.state;
    if (type === "complete") {
      this.set({ status: finishReason === "cancelled" ? "stopped" : "complete" });
    } else if (isRestart(chunk)) {
      this.#hasOutput = false;
      this.set({ status: this.#liveStatus, text: "", tokens: 0 });
    } else if (chunk.type === "progress") {
      this.set({ progress: chunk });
    } else if (chunk.type === "reasoning") {
      this.#hasOutput = true;
      this.set({ status: this.#liveStatus });
    } else if (textOf(chunk)) {
      this.#hasOutput = true;
      const more = chunk.type === "batch" ? chunk.chunks.length : 1;
      const status = this.#liveStatus;
      this.set({ status, text: text + textOf(chunk), tokens: tokens + more });
    }
  }
}
