/** The steps of a run: what each answer took, and the calls of tools after it. */

import { duration, h } from "./dom.js";
import { isRestart } from "./rxllm.js";

const COLUMNS = ["step", "model", "tokens", "time", "calls"];

/** A step, with times in Unix seconds. */
class Step {
  model = "";
  tokens = 0;
  /** Those of the usage, which replaces the count. @type {number | undefined} */
  reported;
  /** @type {number | undefined} */
  ended;
  /** By their ids. @type {Map<string, {name: string, begun?: number, ended?: number,
   *   state: string}>} */
  calls = new Map();

  constructor(number, started) {
    this.number = number;
    this.started = started;
  }

  call(id, name) {
    if (!this.calls.has(id)) this.calls.set(id, { name, state: "" });
    return this.calls.get(id);
  }
}

const STATES = { failed: "failed", denied: "refused", waiting: "waits for approval" };

export class StepTable {
  #rows = h("tbody");
  /** @type {Step[]} */
  #steps = [];
  #isClosed = true;
  /** What each step and its row look like now. @type {Map<Step, HTMLElement>} */
  #shown = new Map();

  constructor() {
    const head = h("tr", {}, ...COLUMNS.map((name) => h("th", { scope: "col" }, name)));
    const caption = h("caption", {}, "Steps");
    const table = h("table", {}, caption, h("thead", {}, head), this.#rows);
    // It is scrolled on a narrow screen.
    this.element = h("div", { className: "steps", tabIndex: 0, hidden: true }, table);
    this.element.setAttribute("role", "region");
    this.element.setAttribute("aria-label", "Steps of the run");
  }

  /** @param {import("./rxllm.js").Message} message a `chunk` of the stream */
  take({ chunk, timestamp, position }) {
    if (chunk.source !== undefined) return; // of a run inside a tool
    if (isRestart(chunk)) this.#restart(position);
    else if (!this.#take(chunk, timestamp)) return;
    this.#show();
  }

  /** @returns {boolean} whether the table has changed */
  #take(chunk, now) {
    const { type } = chunk;
    if (type === "tool_result") this.#receive(chunk, now);
    else if (type === "approval_request") this.#find(chunk.id).state = "waiting";
    else if (type === "end") this.#end(chunk, now);
    else if (type === "usage") this.#step(now).reported = chunk.outputTokens;
    else if (type === "start") this.#step(now).model = chunk.model ?? "";
    else if (type === "tool_call") this.#step(now).call(chunk.id, chunk.name);
    else if (type === "token" || type === "reasoning") this.#step(now).tokens += 1;
    else if (type === "batch") this.#step(now).tokens += chunk.chunks.length;
    else return false;
    return type !== "token" && type !== "reasoning";
  }

  /** The answer under way. */
  #step(now) {
    if (this.#isClosed) {
      const number = (this.#steps.at(-1)?.number ?? 0) + 1;
      this.#steps.push(new Step(number, now));
      this.#isClosed = false;
    }
    return this.#steps.at(-1);
  }

  #end({ more }, now) {
    const step = this.#steps.at(-1);
    if (!step || this.#isClosed) return;
    step.ended ??= now;
    this.#isClosed = Boolean(more);
    if (more) for (const call of step.calls.values()) call.begun ??= now;
  }

  #receive({ id, name, error, preliminary }, now) {
    const call = this.#find(id, name);
    if (preliminary) return;
    call.ended = now;
    call.state = !error ? "" : error.type === "DeniedError" ? "denied" : "failed";
  }

  /** A call by its id; one of an earlier stream belongs to a step without a number. */
  #find(id, name = id) {
    const step = this.#steps.findLast(({ calls }) => calls.has(id));
    if (step) return step.calls.get(id);
    if (this.#steps[0]?.number !== 0) this.#steps.unshift(new Step(0));
    return this.#steps[0].call(id, name);
  }

  #restart(position) {
    if (!position) {
      this.#steps = []; // the stream itself begins again
      this.#isClosed = true;
    } else if (!this.#isClosed) {
      const { number, started, model } = this.#steps.pop();
      this.#steps.push(Object.assign(new Step(number, started), { model }));
    }
  }

  #show() {
    const isRun = this.#steps.some(({ number, calls }) => number !== 1 || calls.size);
    this.element.hidden = !isRun;
    if (!isRun) return;
    for (const [step, row] of this.#shown) {
      if (this.#steps.includes(step)) continue;
      row.remove();
      this.#shown.delete(step);
    }
    for (const [index, step] of this.#steps.entries()) {
      const row = rowOf(step);
      const shown = this.#shown.get(step);
      this.#shown.set(step, row);
      if (shown) shown.replaceWith(row);
      else this.#rows.insertBefore(row, this.#rows.children[index] ?? null);
    }
  }
}

function rowOf({ number, model, tokens, reported, started, ended, calls }) {
  const time = started !== undefined && ended !== undefined ? duration(ended - started) : "–";
  const made = [...calls.values()].map((call) => h("li", { dir: "auto" }, callText(call)));
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, number ? String(number) : "before"),
    h("td", { dir: "auto" }, model || "–"),
    h("td", {}, number ? String(reported || tokens) : "–"),
    h("td", {}, time),
    h("td", {}, made.length ? h("ul", {}, ...made) : "–"),
  );
}

function callText({ name, begun, ended, state }) {
  const parts = [name];
  if (ended !== undefined && begun !== undefined) parts.push(duration(ended - begun));
  if (state) parts.push(STATES[state]);
  return parts.join(" · ");
}
