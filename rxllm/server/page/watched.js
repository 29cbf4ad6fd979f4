/** A stream on the page that others can see as well, and hold. */

const SILENT = 2; // seconds after which the server is asked whether somebody has paused it
export const ANSWER_WITHIN = 5; // seconds, or the server can't be reached

/** The messages of a stream. That somebody has paused it, or lets it go on, is shown in the view;
 * a pause as soon as what was said before it was taken.
 * @param {import("./rxllm.js").Client} client
 * @param {import("./rxllm.js").HttpStream} stream
 * @param {import("./view.js").StreamView} view */
export class Watched {
  #pausedAt = Infinity;
  #heard = performance.now();
  #over = false;
  #timer = 0;
  /** Of what the server is asked now. @type {AbortController | undefined} */
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

  /** Ask the server now; the answer to what was asked before is not waited for any more. What is
   * wrong with the server, the stream says as well. */
  async look() {
    const { stream, view } = this;
    if (!stream.id || view.state === "reconnecting") return;
    const { state } = view;
    const streams = await this.#ask();
    if (!streams || this.#over) return; // the view may show another one by now
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
