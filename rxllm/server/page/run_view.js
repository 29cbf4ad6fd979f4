/** The answers of a run and the tools between them, in order, while they stream. */

import { h } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { ToolCard } from "./tool_card.js";

/** Growing text. */
class TextBlock {
  #shown = "";

  constructor() {
    this.element = h("div", { className: "text", dir: "auto" });
    this.markdown = new MarkdownView(this.element);
  }

  show({ text }) {
    if (!text.startsWith(this.#shown)) {
      this.markdown.clear();
      this.#shown = "";
    }
    this.markdown.append(text.slice(this.#shown.length));
    this.#shown = text;
  }

  flush() {
    this.markdown.flush();
  }
}

/** A message of the user that joined the run. */
class UserBlock {
  constructor() {
    this.element = h("div", { className: "steering", dir: "auto" });
  }

  show({ text }) {
    if (this.element.textContent !== text) this.element.textContent = text;
  }
}

/** What is shown of a run: a text of each source between two tools, tools, and the user's messages.
 * @param {import("./rxllm.js").Run} run */
function blocksOf(run) {
  const blocks = new Map();
  let segment = 0;
  for (const part of run.parts) {
    const { type, step, source = "" } = part;
    if (type === "tool") blocks.set(`tool ${++segment} ${part.id}`, { kind: type, content: part });
    else if (type === "user") blocks.set(`user ${++segment}`, { kind: type, content: part });
    else if (type === "text") {
      const key = `text ${segment} ${step} ${source}`;
      const before = blocks.get(key)?.content.text ?? "";
      blocks.set(key, { kind: type, content: { text: before + part.text } });
    }
  }
  return blocks;
}

export class RunView {
  element = h("div", { className: "run" });
  /** By their keys. @type {Map<string, {element: HTMLElement, show: (content: object) => void}>} */
  #shown = new Map();
  #options;
  #run;
  #frame = 0;

  /** @param {{element?: HTMLElement, decide?: (token: string, decision: boolean | string) => void}}
   *   [options] `element`: where to show it; `decide`: see `ToolCard` */
  constructor({ element, decide } = {}) {
    if (element) this.element = element;
    this.#options = { decide, makeView: () => new RunView() };
  }

  /** Show a run with the next frame. @param {import("./rxllm.js").Run} run */
  show(run) {
    this.#run = run;
    this.#frame ||= requestAnimationFrame(() => this.#refresh());
  }

  /** Show all of it now. */
  flush() {
    this.#refresh();
    for (const block of this.#shown.values()) block.flush?.();
  }

  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#run = undefined;
    for (const { element } of this.#shown.values()) element.remove();
    this.#shown.clear();
  }

  #refresh() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#run) return;
    const blocks = blocksOf(this.#run);
    for (const [key, { element }] of this.#shown) {
      if (blocks.has(key)) continue;
      element.remove();
      this.#shown.delete(key);
    }
    for (const [key, { kind, content }] of blocks) {
      let block = this.#shown.get(key);
      if (!block) {
        block = this.#make(kind, content);
        this.#shown.set(key, block);
        this.element.append(block.element);
      }
      block.show(content);
    }
  }

  #make(kind, content) {
    if (kind === "text") return new TextBlock();
    return kind === "user" ? new UserBlock() : new ToolCard(content, this.#options);
  }
}
