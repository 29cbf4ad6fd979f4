/** One stream on the page: its state, figures and text. */

import { Aside } from "./aside.js";
import { announce, duration, h, noticeText } from "./dom.js";
import { GapPlot } from "./plot.js";
import { Run } from "./rxllm.js";
import { RunView } from "./run_view.js";

const STATES = {
  ready: "ready",
  waiting: "waiting",
  streaming: "streaming",
  paused: "paused",
  reconnecting: "reconnecting",
  complete: "complete",
  asking: "waits for approval",
  stopped: "stopped",
  failed: "failed",
};
const LIVE = new Set(["waiting", "streaming", "paused", "reconnecting"]);

/** How many tokens a chunk holds. */
const tokensIn = ({ type, chunks }) =>
  type === "batch" ? chunks.length : Number(type === "token" || type === "reasoning");

export class StreamView {
  #badge = h("span", { className: "badge" });
  #bar = h("progress", { max: 100, value: 0 });
  #happened = h("ul", { className: "happened" });
  #failure = h("p", { className: "failure", hidden: true });
  #output = h("div", { className: "output", tabIndex: 0 });
  #aside;
  #answers;
  #plot = new GapPlot();
  #position = 0;
  #figures = {};
  #ticker = 0;
  #finish;
  #mayDecide;

  /**
   * @param {string} title
   * @param {{empty?: string, plot?: boolean, onState?: (state: string) => void,
   *   decide?: (token: string, decision: boolean | string) => void}} [options] `decide`: see
   *   `ToolCard`
   */
  constructor(
    title,
    { empty = "The answer appears here.", plot = true, onState = () => {}, decide } = {},
  ) {
    this.title = h("h2", {}, title);
    this.onState = onState;
    this.#answers = new RunView({ element: this.#output, decide });
    this.#mayDecide = decide !== undefined;
    this.#output.dataset.empty = empty;
    this.#output.setAttribute("role", "region");
    this.#output.setAttribute("aria-label", `${title}: the answer`);
    this.#bar.setAttribute("aria-label", `${title}: progress`);
    this.#aside = new Aside(title);
    this.#plot.element.hidden = !plot;
    const figures = h("dl", { className: "figures" });
    for (const name of ["tokens", "tokens/s", "first token", "elapsed"]) {
      this.#figures[name] = h("dd", {}, "–");
      figures.append(h("div", {}, h("dt", {}, name), this.#figures[name]));
    }
    const head = h("header", {}, this.title, this.#badge);
    this.element = h("article", { className: "card" }, head, this.#bar, figures);
    this.element.append(this.#plot.element, this.#happened, this.#failure);
    this.element.append(this.#aside.thought, this.#output, this.#aside.extras);
    this.#clear();
    this.#set("ready");
  }

  /** Whether it hasn't ended. */
  get live() {
    return LIVE.has(this.state);
  }

  /** Seconds to the first token and to the end, once known. */
  get times() {
    return { first: this.first, all: this.all };
  }

  /** Seconds between the tokens of the last chunk and the one before, as measured by the server.
   * @type {number | undefined} */
  gap;
  /** How many events of the stream the last chunk joins. */
  events = 1;

  /** What it has said and done so far. */
  run = new Run();

  /** Show a new stream, or one that has already run for `elapsed` seconds elsewhere.
   * @param {{maxTokens?: number}} [request] @param {number} [elapsed]
   * @param {Run} [run] one that it continues */
  begin({ maxTokens } = {}, elapsed, run) {
    this.#clear(run);
    this.maxTokens = maxTokens;
    this.joined = elapsed !== undefined;
    this.started = performance.now() - (elapsed ?? 0) * 1000;
    clearInterval(this.#ticker);
    this.#ticker = setInterval(() => this.#tick(), 100);
    this.#set("waiting");
  }

  /** Show a run that has ended, and waits for an approval. @param {Run} run */
  ask(run) {
    this.#clear(run);
    this.#set("asking");
  }

  /** @param {import("./rxllm.js").Message} message */
  take(message) {
    this.run.take(message);
    this.#answers.show(this.run);
    if (message.type === "complete") this.#complete(message);
    else if (message.type === "error") this.fail(message);
    else if (message.type === "chunk") {
      this.events = message.position - this.#position;
      if (this.events > 1) this.last = undefined; // joined: the time between tokens is unknown
      this.#position = message.position;
      this.#chunk(message.chunk, message.timestamp);
    }
  }

  /** Show that the server has paused or resumed it. @param {boolean} paused */
  hold(paused) {
    if (!this.live) return;
    this.last = undefined; // the pause doesn't count as time between tokens
    this.#set(paused ? "paused" : this.tokens ? "streaming" : "waiting");
  }

  /** Show that the connection was cut and is being re-established. */
  reconnecting() {
    if (this.live) this.#set("reconnecting");
  }

  /** @param {{message: string, code?: string}} error */
  fail({ message, code }) {
    this.#failure.textContent = code ? `${message} (${code})` : message;
    this.#failure.hidden = false;
    this.run.take({ type: "error" });
    this.#end("failed", `${this.title.textContent} failed: ${message}`);
  }

  /** Show a whole answer. @param {{text: string, tokens: number, seconds: number}} generated */
  whole({ text, tokens, finishReason }) {
    this.tokens = tokens;
    this.first = this.#elapsed();
    this.run.add({ type: "token", text });
    this.#complete({ tokens, finishReason });
  }

  /** Show that it was stopped from here. */
  stopped() {
    if (this.live) this.#end("stopped", "Stopped");
  }

  /** Stop updating it. */
  leave() {
    clearInterval(this.#ticker);
  }

  #chunk(chunk, timestamp) {
    this.gap = undefined;
    this.#aside.take(chunk, this.run);
    if (chunk.type === "notice") this.#happened.append(h("li", {}, noticeText(chunk)));
    if (chunk.type === "end") this.#finish = chunk.finishReason;
    if (chunk.type === "progress") this.#progress(chunk);
    const tokens = tokensIn(chunk);
    if (tokens) this.#count(tokens, timestamp);
  }

  /** @param {number} timestamp from the server, since one read may contain many tokens */
  #count(tokens, timestamp) {
    if (!this.joined) this.first ??= (performance.now() - this.started) / 1000;
    if (this.last !== undefined) {
      this.gap = Math.max(0, timestamp - this.last) / tokens;
      this.#plot.add(this.gap);
    }
    this.last = timestamp;
    this.tokens += tokens;
    if (this.state !== "streaming") {
      if (this.state === "waiting") announce(`${this.title.textContent}: streaming`);
      this.#set("streaming");
    }
    if (this.maxTokens) this.#bar.value = Math.min(100, (100 * this.tokens) / this.maxTokens);
  }

  #progress({ tokens, percentage, tokensPerSecond, stage, place }) {
    if (stage === "queue" && this.state === "waiting") {
      this.#badge.textContent = place ? `number ${place} in the queue` : STATES.waiting;
    }
    if (stage === "prompt" || stage === "queue") return; // the bar is that of the answer
    this.tokens = Math.max(this.tokens, tokens);
    this.speed = tokensPerSecond;
    if (percentage !== undefined) this.#bar.value = percentage;
  }

  #complete({ tokens, finishReason, seconds }) {
    if (this.joined) this.all = seconds;
    this.tokens = Math.max(this.tokens, tokens ?? 0);
    const stopped = (finishReason ?? this.#finish) === "cancelled";
    const summary = `${stopped ? "Stopped" : "Complete"}: ${this.tokens} tokens`;
    this.#bar.value = stopped ? this.#bar.value : 100;
    const state = stopped ? "stopped" : this.run.pending.length ? "asking" : "complete";
    this.#end(state, `${summary} in ${duration(this.#elapsed())}`);
  }

  #end(state, summary) {
    this.all ??= this.#elapsed();
    clearInterval(this.#ticker);
    this.#set(state);
    this.#tick();
    this.#answers.show(this.run);
    this.#answers.flush();
    const waiting = this.run.pending.map(({ name }) => name).join(", ");
    announce(waiting && this.#mayDecide ? `${waiting}: waits for approval` : summary);
  }

  #elapsed() {
    return this.all ?? (performance.now() - this.started) / 1000;
  }

  #tick() {
    const elapsed = this.#elapsed();
    const speed = this.speed ?? this.tokens / elapsed;
    this.#figures.tokens.textContent = String(this.tokens);
    this.#figures["tokens/s"].textContent = speed ? speed.toFixed(1) : "–";
    const first = this.first === undefined ? "–" : duration(this.first);
    this.#figures["first token"].textContent = first;
    this.#figures.elapsed.textContent = duration(elapsed);
  }

  #clear(run) {
    this.run = run ?? new Run();
    this.tokens = this.#position = 0;
    this.first = this.all = this.last = this.gap = this.speed = this.#finish = undefined;
    if (run) this.#answers.show(run);
    else this.#answers.clear();
    this.#plot.clear();
    this.#bar.value = 0;
    this.#happened.replaceChildren();
    this.#failure.hidden = true;
    this.#aside.show(this.run);
    for (const figure of Object.values(this.#figures)) figure.textContent = "–";
  }

  #set(state) {
    this.state = state;
    this.#badge.textContent = STATES[state];
    this.#badge.dataset.state = state;
    this.#output.setAttribute("aria-busy", String(this.live));
    this.onState(state);
  }
}
