/** The log of a conversation, and the messages in it. */

import { h } from "./dom.js";
import { Run } from "./rxllm.js";
import { RunView } from "./run_view.js";

/** A message in a log. */
export class Said {
  /** What it says and does. */
  run = new Run();
  #view;
  /** @type {HTMLElement | undefined} */
  #lost;

  /** @param {string} who
   * @param {{mine?: boolean, plain?: string,
   *   decide?: (token: string, decision: boolean | string) => void}} [options] `decide`: see
   *   `ToolCard` */
  constructor(who, { mine = false, plain, decide } = {}) {
    const name = h("span", { className: "who", dir: "auto" }, who);
    this.#view = new RunView({ decide });
    this.element = h("div", { className: "said" }, name);
    this.element.classList.toggle("mine", mine);
    if (plain !== undefined) {
      this.element.append(h("div", { className: "text plain", dir: "auto" }, plain));
    } else {
      this.element.append(this.#view.element);
      this.begin();
    }
  }

  get live() {
    return this.element.dataset.state === "streaming";
  }

  /** Start to stream it, from the beginning, or from a run that it continues. @param {Run} [run] */
  begin(run) {
    this.run = run ?? new Run();
    if (run) this.#view.show(run);
    else this.#view.clear();
    this.#lost?.remove();
    this.element.dataset.state = "streaming";
  }

  /** @param {import("./rxllm.js").Message} message */
  take(message) {
    this.run.take(message);
    this.#view.show(this.run);
  }

  /** Show the whole text, unless all of it was received. @param {string} text */
  replace(text) {
    if (this.run.text !== text) {
      this.begin();
      this.run.add({ type: "token", text });
    }
    this.#lost?.remove();
    this.end();
  }

  end() {
    this.#view.show(this.run);
    this.#view.flush();
    delete this.element.dataset.state;
  }

  /** Show another state of its run. @param {Run} run */
  show(run) {
    this.run = run;
    this.#view.show(run);
  }

  /** Ask no longer for decisions about its calls. */
  dismiss() {
    for (const tool of this.run.pending) tool.state = "open";
    this.#view.show(this.run);
  }

  /** Show that the rest of it was lost. */
  lose() {
    this.end();
    this.#lost = h("p", { className: "event bad" }, "The answer was lost.");
    this.element.append(this.#lost);
  }
}

const LOGGED = 500;

/** A log that stays scrolled to its end, and keeps a limited number of entries. */
export class Log {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.empty = element.querySelector(".empty");
    // Text is rendered in animation frames, after it was added.
    this.following = true;
    element.addEventListener("scroll", () => {
      this.following = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    });
    new MutationObserver(() => {
      if (this.following) element.scrollTop = element.scrollHeight;
    }).observe(element, { childList: true, subtree: true, characterData: true });
  }

  /** Whether nothing was ever added. */
  get untouched() {
    return this.empty?.isConnected ?? false;
  }

  /** @param {Node} node */
  add(node) {
    this.empty?.remove();
    this.element.append(node);
    if (this.element.childElementCount > LOGGED) this.element.firstElementChild.remove();
  }

  clear() {
    this.element.replaceChildren();
  }

  /** Add a line about an event. @param {string} text */
  event(text, bad = false) {
    this.add(h("p", { className: bad ? "event bad" : "event" }, text));
  }
}
