/**
 * Markdown of a model to DOM nodes, while it streams.
 *
 * The text is never read as HTML: nodes are made one by one and get their text as text, so a tag
 * in it is shown as it was written. Links lead to http and https alone. Headings (with `#`), lists,
 * quotes, rules, tables (whose header begins with a pipe), fenced code, bold, italic, struck and
 * inline code are known; the rest is text.
 *
 * What is shown does not depend on how the text was cut. Blocks that are done are not looked at
 * again, nor are the items, rows, lines of code and pieces of a paragraph that are done in the last
 * one. What may still change is: a quote and the last item of a list as a whole, and a paragraph
 * from the first mark on that was not closed, or from a last line that begins with a pipe. Of that,
 * the nodes that stay as they were are kept, so that they can be selected.
 */

import { blocksOf } from "./markdown_blocks.js";
import { nodeOf } from "./markdown_nodes.js";

/** Put `nodes` in the place of `shown`, and keep of these what is equal, or can be made so.
 * @param {Element} parent of `shown`, its last ones
 * @returns {Node[]} what is there now */
function refresh(parent, shown, nodes) {
  for (const old of shown.slice(nodes.length)) old.remove();
  return nodes.map((node, index) => {
    const old = shown[index];
    if (!old) parent.append(node);
    else if (become(old, node)) return old;
    else old.replaceWith(node);
    return node;
  });
}

/** Make a node equal to another one, if they differ in what is in them alone. */
function become(old, made) {
  if (old === made) return true;
  if (old instanceof Text && made instanceof Text) {
    const { data } = made;
    if (data.startsWith(old.data)) old.appendData(data.slice(old.length));
    else old.data = data;
    return true;
  }
  if (!old.cloneNode(false).isEqualNode(made.cloneNode(false))) return false;
  refresh(old, [...old.childNodes], [...made.childNodes]);
  return true;
}

/** Where the items, rows, lines or pieces of a block are. */
function insideOf(node) {
  if (node.localName === "pre") return node.firstChild;
  return node.localName === "table" ? node.tBodies[0] : node;
}

/** Its children from the one at `index` on. */
function childrenFrom(node, index) {
  const children = [];
  let child = node.childNodes[index];
  for (; child; child = child.nextSibling) children.push(child);
  return children;
}

const REST = 3;

/** Markdown that grows, in `container`. */
export class MarkdownView {
  #container;
  /** What may still change, and the nodes that show it. */
  #text = "";
  #tail = [];
  /** The block that the text begins in the middle of, and how many of its nodes are done.
   * @type {import("./markdown_blocks.js").Block | undefined} */
  #within;
  #kept = 0;
  #frame = 0;
  #restUntil = 0;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#container = container;
  }

  /** Add text. It is shown with the next frame; after one that took long, the next ones are left
   * out for three times as long. @param {string} text */
  append(text) {
    if (!text) return;
    this.#text += text;
    this.#frame ||= requestAnimationFrame(() => this.#show());
  }

  #show() {
    const began = performance.now();
    if (began < this.#restUntil) {
      this.#frame = requestAnimationFrame(() => this.#show());
      return;
    }
    this.flush();
    setTimeout(() => {
      // The frame is painted by now.
      const now = performance.now();
      this.#restUntil = now + REST * (now - began);
    });
  }

  /** Forget everything. */
  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#text = "";
    this.#tail = [];
    this.#within = undefined;
    this.#kept = 0;
    this.#container.replaceChildren();
  }

  /** Show what there is now. */
  flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const text = this.#text;
    const within = this.#within && { ...this.#within, lines: [] };
    const blocks = blocksOf(text, within);
    const nodes = blocks.map((block) => nodeOf(block, 0));
    if (within) {
      const inside = insideOf(this.#tail[0]);
      refresh(inside, childrenFrom(inside, this.#kept), childrenFrom(insideOf(nodes[0]), 0));
      nodes[0] = this.#tail[0];
    }
    this.#tail = refresh(this.#container, this.#tail, nodes);
    // A block that a line made whose end is not here yet may still join the one before it.
    const lineStart = text.lastIndexOf("\n") + 1;
    const settled = blocks.length - 1 - Number((blocks.at(-1)?.decided ?? 0) >= lineStart);
    if (settled > 0) {
      this.#text = text.slice(blocks[settled].start);
      this.#tail = this.#tail.slice(settled);
      this.#within = undefined;
      this.#kept = 0;
    } else if (blocks.length === 1) this.#settle(blocks[0]);
  }

  /** Leave out from now on what of the only block is done. @param {import("./markdown_blocks.js").Block} block */
  #settle(block) {
    if (!block.done) return;
    const { children, line, column = 0 } = block.done;
    const before = block.lines.slice(0, line).reduce((sum, { length }) => sum + length + 1, 0);
    if (block.kind === "code") insideOf(this.#tail[0]).lastChild.splitText(before);
    this.#text = this.#text.slice(block.body + before + column);
    this.#kept += children;
    this.#within = { ...block, partOf: true, start: 0, body: 0, decided: -1, done: undefined };
  }
}
