/** A stream on the page that other clients can pause as well. */

const SILENT = 2; // seconds of silence before the server is asked whether the stream is paused
export const ANSWER_WITHIN = 5; // seconds before the server counts as unreachable

/** The messages of a stream. The view shows when other clients pause or resume it; a pause is shown
 * once the messages before it have been received.
 * @param {import("./rxllm.js").Client} client
 * @param {import("./rxllm.js").HttpStream} stream
 * @param {import("./view.js").StreamView} view */
export class Watched {
  #pausedAt = Infinity;
  #heard = performance.now();
  #over = false;
  #timer = 0;
  /** Aborts the pending request. @type {AbortController | undefined} */
  #asked;

  constructor(client, stream, view) {
    this.client = client;
    this.stream = stream;
    this.view = view;
  }

  async *[Symbol.asyncIterator]() {
    try {
      this.look();
      this.#listen();
      for await (const message of this.stream) {
        this.#heard = performance.now();
        yield message;
        this.#hold();
      }
    } finally {
      this.#over = true;
      clearTimeout(this.#timer);
      this.#asked?.abort();
    }
  }

  #listen() {
    let wait = SILENT - (performance.now() - this.#heard) / 1000;
    if (wait <= 0) {
      wait = SILENT;
      if (!this.#asked) this.look();
    }
    this.#timer = setTimeout(() => this.#listen(), wait * 1000);
  }

  /** Ask the server for the status now, in place of any pending request. Failures are ignored,
   * since the stream reports them as well. */
  async look() {
    const { stream, view } = this;
    if (!stream.id || view.state === "reconnecting") return;
    const { state } = view;
    const streams = await this.#ask();
    if (!streams || this.#over) return; // the view may show another stream by now
    const found = streams.find(({ id }) => id === stream.id);
    if (found?.status === "paused" && state !== "paused") {
      this.#pausedAt = found.position ?? 0;
      this.#hold();
    } else if (found?.status === "running" || found?.status === "waiting") {
      this.#pausedAt = Infinity;
      if (state === "paused" && view.state === "paused") view.hold(false);
    }
  }

  /** @returns {Promise<object[] | undefined>} */
  async #ask() {
    this.#asked?.abort();
    const asked = new AbortController();
    this.#asked = asked;
    const signal = AbortSignal.any([asked.signal, AbortSignal.timeout(ANSWER_WITHIN * 1000)]);
    try {
      return await this.client.streams({ signal });
    } catch {
      return undefined;
    } finally {
      if (this.#asked === asked) this.#asked = undefined;
    }
  }

  #hold() {
    if (this.stream.position < this.#pausedAt) return;
    this.#pausedAt = Infinity;
    this.view.hold(true);
  }
}
