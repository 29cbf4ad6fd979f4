/**
 * Renders a model's Markdown to DOM nodes while it streams.
 *
 * The text is never parsed as HTML: nodes are created one by one and their text is set as text, so
 * a tag in it is shown as written. Links lead only to http and https. Headings (with `#`), lists,
 * quotes, rules, tables (whose header begins with a pipe), fenced code, bold, italic,
 * strikethrough and inline code are supported; the rest is text.
 *
 * The output doesn't depend on how the text was split into pieces. Finished blocks aren't processed
 * again, nor are the finished items, rows, lines of code and pieces of a paragraph in the last
 * block. These may still change: a quote and the last item of a list as a whole, and a paragraph
 * from its first unclosed mark, or from a last line that begins with a pipe. Within these,
 * unchanged nodes are kept, so that a selection survives.
 */

import { blocksOf } from "./markdown_blocks.js";
import { nodeOf } from "./markdown_nodes.js";

/** Replace `shown` by `nodes`, but keep shown nodes that are equal or can be made equal.
 * @param {Element} parent whose last children are `shown`
 * @returns {Node[]} the nodes now shown */
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

/** Make a node equal to another one, if they differ only in their contents. */
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

/** The node that holds the items, rows, lines or pieces of a block. */
function insideOf(node) {
  if (node.localName === "pre") return node.firstChild;
  return node.localName === "table" ? node.tBodies[0] : node;
}

/** The children of a node from `index` on. */
function childrenFrom(node, index) {
  const children = [];
  let child = node.childNodes[index];
  for (; child; child = child.nextSibling) children.push(child);
  return children;
}

const REST = 3;

/** Growing Markdown in a container. */
export class MarkdownView {
  #container;
  /** The text that may still change, and the nodes that show it. */
  #text = "";
  #tail = [];
  /** The block in the middle of which the text begins, and how many of its nodes are finished.
   * @type {import("./markdown_blocks.js").Block | undefined} */
  #within;
  #kept = 0;
  #frame = 0;
  #restUntil = 0;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#container = container;
  }

  /** Add text, shown with the next frame. After a frame that took long, frames are skipped for
   * three times as long. @param {string} text */
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
      // The frame has been painted by now.
      const now = performance.now();
      this.#restUntil = now + REST * (now - began);
    });
  }

  /** Remove everything. */
  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#text = "";
    this.#tail = [];
    this.#within = undefined;
    this.#kept = 0;
    this.#container.replaceChildren();
  }

  /** Show all text now. */
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
    // A block that begins with an incomplete line may still join the one before it.
    const lineStart = text.lastIndexOf("\n") + 1;
    const settled = blocks.length - 1 - Number((blocks.at(-1)?.decided ?? 0) >= lineStart);
    if (settled > 0) {
      this.#text = text.slice(blocks[settled].start);
      this.#tail = this.#tail.slice(settled);
      this.#within = undefined;
      this.#kept = 0;
    } else if (blocks.length === 1) this.#settle(blocks[0]);
  }

  /** Drop the finished text of the only block.
   * @param {import("./markdown_blocks.js").Block} block */
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
