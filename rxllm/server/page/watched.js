/** A stream on the page that others can see as well, and hold. */

const SILENT = 2; // seconds after which the server is asked whether somebody has paused it

/** The messages of a stream. That somebody has paused it, or lets it go on, is shown in the view;
 * a pause as soon as what was said before it was taken.
 * @param {import("./rxllm.js").Client} client
 * @param {import("./rxllm.js").HttpStream} stream
 * @param {import("./view.js").StreamView} view */
export class Watched {
  #pausedAt = Infinity;
  #silent = false;
  #over = false;

  constructor(client, stream, view) {
    this.client = client;
    this.stream = stream;
    this.view = view;
  }

  async *[Symbol.asyncIterator]() {
    const timer = setInterval(() => {
      if (this.#silent) this.look();
      this.#silent = true;
    }, SILENT * 1000);
    try {
      this.look();
      for await (const message of this.stream) {
        this.#silent = false;
        yield message;
        this.#hold();
      }
    } finally {
      this.#over = true;
      clearInterval(timer);
    }
  }

  /** Ask the server now. What is wrong with it, the stream says as well. */
  async look() {
    const { stream, view } = this;
    if (!stream.id || view.state === "reconnecting") return;
    const { state } = view;
    const streams = await this.client.streams().catch(() => []);
    if (this.#over) return; // the view may show another one by now
    const found = streams.find(({ id }) => id === stream.id);
    if (found?.status === "paused" && state !== "paused") {
      this.#pausedAt = found.position ?? 0;
      this.#hold();
    } else if (found?.status === "running" || found?.status === "waiting") {
      this.#pausedAt = Infinity;
      if (state === "paused" && view.state === "paused") view.hold(false);
    }
  }

  #hold() {
    if (this.stream.position < this.#pausedAt) return;
    this.#pausedAt = Infinity;
    this.view.hold(true);
  }
}
