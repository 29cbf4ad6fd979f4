/**
 * The state behind `useStream`, independent of React: one stream at a time, as an external store
 * for `useSyncExternalStore`. It processes every message from the first one on, even before any
 * component subscribes, and notifies its listeners at most once per frame.
 */

import { FrameStore } from "./frameStore.js";
import { Run, isRestart, textOf } from "./rxllm.js";

const EMPTY = Object.freeze({
  // Later: "waiting" (until the first output), "streaming" or "paused"; finally "complete",
  // "stopped" or "failed".
  status: "ready",
  text: "", // of the answer under way, or of the last one
  tokens: 0,
  tools: Object.freeze([]), // `Tool`s of rxllm.js: {id, name, arguments, state, output, error}
  messages: Object.freeze([]), // what the stream adds to the conversation, once it has ended
  progress: undefined,
  error: undefined,
});

const LIVE = new Set(["waiting", "streaming", "paused"]);

export class StreamStore extends FrameStore {
  #client;
  #aborter;
  #stream;
  #request;
  #run = new Run();
  #paused = false;
  #hasOutput = false;

  /** @param {import("./rxllm.js").Client} client */
  constructor(client) {
    super(EMPTY);
    this.#client = client;
  }

  /** Start a stream, ending the current one first. Resolves with the whole text and never rejects;
   * an error is in the state. @param {import("./rxllm.js").StreamRequest} request */
  start = (request) => {
    this.#request = request;
    return this.#follow(request);
  };

  /** Decide about the calls of tools that wait, and continue the stream.
   * @param {import("./rxllm.js").Approvals} approvals by the tokens of the `tools` */
  approve = (approvals) => {
    const run = this.#run;
    const { prompt, messages = [{ role: "user", content: prompt }], ...options } = this.#request;
    const asked = [...messages, ...run.messages];
    return this.#follow({ ...options, messages: asked, approvals }, run.continued(approvals));
  };

  async #follow(request, run = new Run()) {
    this.#end();
    const aborter = new AbortController();
    const stream = this.#client.stream(request, { signal: aborter.signal });
    this.#aborter = aborter;
    this.#stream = stream;
    this.#run = run;
    this.#paused = this.#hasOutput = false;
    this.set({ ...EMPTY, ...this.#done, status: this.#liveStatus });
    try {
      for await (const message of stream) {
        if (this.#stream === stream) this.#take(message);
      }
    } catch (error) {
      const status = aborter.signal.aborted ? "stopped" : "failed";
      const failure = status === "failed" && { error };
      run.take({ type: "error" });
      if (this.#stream === stream) this.set({ status, ...this.#done, ...failure });
    }
    if (this.#stream === stream) this.set({ messages: run.messages });
    this.show();
    return stream.text;
  }

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

  /** What the stream has said and done so far. */
  get #done() {
    const { text, tokens, tools } = this.#run;
    return { text, tokens, tools: tools.map((tool) => ({ ...tool })) };
  }

  #take(message) {
    const { type, chunk, finishReason } = message;
    this.#run.take(message);
    if (type === "complete") {
      this.set({ status: finishReason === "cancelled" ? "stopped" : "complete", ...this.#done });
    } else if (isRestart(chunk)) {
      this.#hasOutput = false;
      this.set({ status: this.#liveStatus, ...this.#done });
    } else if (chunk.type === "progress") {
      this.set({ progress: chunk });
    } else if (chunk.type === "reasoning") {
      this.#hasOutput = true;
      this.set({ status: this.#liveStatus });
    } else if (textOf(chunk)) {
      this.#hasOutput = true;
      const { text, tokens } = this.#run;
      this.set({ status: this.#liveStatus, text, tokens });
    } else {
      this.set(this.#done);
    }
  }
}
