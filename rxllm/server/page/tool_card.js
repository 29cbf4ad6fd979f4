/** The card of a tool call in an answer. All texts are foreign, and set as text. */

import { h } from "./dom.js";

const STATES = {
  calling: "preparing",
  running: "running",
  done: "done",
  failed: "failed",
  denied: "refused",
  waiting: "waits for approval",
  decided: "decided",
  open: "without a result",
};
const SHORT = { characters: 200, lines: 6 };
const SHOWN = 20_000; // characters

/** JSON on several lines; other text as it is. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

const written = (output) =>
  typeof output === "string" ? output : JSON.stringify(output ?? null, null, 2);

/** A text under a title, collapsed if it is long when it first appears, or is final. */
class Folded {
  #content = h("pre", { tabIndex: 0, dir: "auto" });
  #title = h("summary");
  #text;
  #isFinal = false;

  constructor() {
    this.element = h("details", { hidden: true }, this.#title, this.#content);
  }

  /** @param {string} title @param {string} text @param {boolean} [isFinal] */
  show(title, text, isFinal = false) {
    if (text === this.#text && isFinal === this.#isFinal) return;
    this.#title.textContent = title;
    const isLong =
      text.length > SHORT.characters || text.split("\n", SHORT.lines + 1).length > SHORT.lines;
    if (this.element.hidden || isFinal) this.element.open = !isLong;
    this.element.hidden = false;
    this.#text = text;
    this.#isFinal = isFinal;
    const more = text.length - SHOWN;
    this.#content.textContent =
      more > 0 ? `${text.slice(0, SHOWN)}\n… ${more} more characters` : text;
  }
}

/** The buttons that decide about a call. */
class Decision {
  #why = h("p", { dir: "auto", hidden: true });
  #reason = h("input", { dir: "auto", maxLength: 1000, autocomplete: "off" });

  /** @param {string} name @param {(decision: boolean | string) => void} decide */
  constructor(name, decide) {
    const approve = h("button", { type: "button", className: "primary" }, "Approve");
    const refuse = h("button", { type: "button" }, "Refuse");
    approve.ariaLabel = `Approve ${name}`;
    refuse.ariaLabel = `Refuse ${name}`;
    approve.addEventListener("click", () => decide(true));
    refuse.addEventListener("click", () => decide(this.#reason.value.trim() || false));
    this.#reason.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      refuse.click();
    });
    const label = h("label", {}, "Reason to refuse (optional)", this.#reason);
    const actions = h("div", { className: "actions" }, approve, refuse);
    this.element = h("div", { className: "decision" }, this.#why, label, actions);
  }

  explain(reason) {
    this.#why.textContent = reason ?? "";
    this.#why.hidden = !reason;
  }
}

/** Collect decisions until no call waits for one.
 * @param {() => import("./rxllm.js").Tool[]} pending the calls that wait
 * @param {(approvals: import("./rxllm.js").Approvals) => void} done
 * @returns {(token: string, decision: boolean | string) => void} */
export function collectDecisions(pending, done) {
  let approvals = {};
  return (token, decision) => {
    approvals[token] = decision;
    if (pending().some((tool) => !Object.hasOwn(approvals, tool.token))) return;
    const decided = approvals;
    approvals = {};
    done(decided);
  };
}

export class ToolCard {
  #badge = h("span", { className: "badge" });
  #arguments = new Folded();
  #output = new Folded();
  #error = h("p", { className: "failure", dir: "auto", hidden: true });
  #inner = h("details", { className: "nested", hidden: true }, h("summary", {}, "Its own answer"));
  /** @type {Decision | undefined} */
  #decision;
  #decide;
  #makeView;
  #view;

  /**
   * @param {import("./rxllm.js").Tool} tool
   * @param {{decide?: (token: string, decision: boolean | string) => void,
   *   makeView: () => {element: HTMLElement, show: (run: object) => void}}} options
   *   `decide` is called with decisions about it; nobody can decide here without it. `makeView`
   *   makes the view of the run inside it.
   */
  constructor({ name }, { decide, makeView }) {
    this.#decide = decide;
    this.#makeView = makeView;
    const head = h("header", {}, h("span", { className: "name", dir: "auto" }, name), this.#badge);
    this.element = h("div", { className: "tool", tabIndex: -1 }, head);
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", `Tool ${name}`);
    this.element.append(this.#arguments.element, this.#inner, this.#output.element, this.#error);
  }

  /** @param {import("./rxllm.js").Tool} tool */
  show(tool) {
    const { state, output, error } = tool;
    this.#setState(state);
    if (tool.arguments) this.#arguments.show("Arguments", pretty(tool.arguments));
    if (output !== undefined && !error) {
      const isLast = state === "done";
      this.#output.show(isLast ? "Result" : "So far", written(output), isLast);
    }
    this.#error.hidden = !error;
    // That somebody has refused it is no error of the tool.
    const kind = state === "denied" || !error ? "" : `${error.type}: `;
    this.#error.textContent = kind + (error?.message ?? "");
    this.#showDecision(tool);
    this.#showInner(tool);
  }

  #setState(state) {
    if (this.element.dataset.state === state) return;
    this.element.dataset.state = this.#badge.dataset.state = state;
    this.#badge.textContent = STATES[state] ?? state;
  }

  #showDecision({ state, name, token, reason }) {
    if (state === "waiting" && this.#decide && !this.#decision) {
      this.#decision = new Decision(name, (decision) => this.#take(token, decision));
      this.element.append(this.#decision.element);
    } else if (state !== "waiting") this.#drop();
    this.#decision?.explain(reason);
  }

  #take(token, decision) {
    this.#drop();
    this.#setState("decided");
    this.#decide(token, decision);
  }

  #drop() {
    const element = this.#decision?.element;
    this.#decision = undefined;
    if (element?.contains(document.activeElement)) this.element.focus({ preventScroll: true });
    element?.remove();
  }

  #showInner({ run }) {
    if (!run) return;
    if (!this.#view) {
      this.#view = this.#makeView();
      this.#inner.append(this.#view.element);
      this.#inner.hidden = false;
    }
    this.#view.show(run);
  }
}
