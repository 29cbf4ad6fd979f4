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
 * one. Of the rest, the nodes that stay as they were are kept, so that they can be selected.
 */

// None of these patterns can be made slow by a text: no two of their repetitions overlap.
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const RULE = /^ {0,3}(?:-{3,}|\*{3,}|_{3,})[ \t]*$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])[ \t]+(?=\S)/;
const QUOTE = /^ {0,3}> ?/;
const ROW = /^ {0,3}\|/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const DEEPEST = 8;
const MOST_COLUMNS = 100;

/**
 * @typedef {{kind: string, lines: string[], start: number, body: number, decided: number,
 *   fence?: string, language?: string, indent?: number, bullet?: string,
 *   aligned?: string[], header?: string, partOf?: boolean,
 *   done?: {children: number, line: number, column?: number}}} Block
 *   `start`, `body` and `decided` are places in the text: where it begins, where `lines` begin,
 *   and the beginning of the line that made it what it is. `partOf`: it is the rest of a block
 *   whose beginning is shown. `done`: how many of its nodes can't change any more, and where in
 *   `lines` the others begin.
 */

/** The kind of block that a line begins, if it is no paragraph. */
function kindOf(line) {
  if (FENCE.test(line)) return "code";
  if (HEADING.test(line)) return "heading";
  if (RULE.test(line)) return "rule";
  if (ITEM.test(line)) return "list";
  if (QUOTE.test(line)) return "quote";
  return undefined;
}

/** Whether a line goes on with the block before it. @param {Block} block @param {string} line */
function continues(block, line) {
  const last = block.lines.at(-1) ?? "";
  const kind = kindOf(line);
  if (block.kind === "list") {
    if (line.trim() === "") return true;
    if (kind === "list" && !isNested(block, line)) return markerOf(line).bullet === block.bullet;
    return /^( {2,}|\t)/.test(line) || (kind === undefined && last.trim() !== "");
  }
  if (block.kind === "table") return kind === undefined && line.trim() !== "";
  if (block.kind === "quote") return kind === "quote" || (kind === undefined && line.trim() !== "");
  return block.kind === "paragraph" && kind === undefined && line.trim() !== "";
}

/** How far the marker of an item is indented, and what tells it from those of other lists. */
function markerOf(line) {
  const [, { length: indent }, marker] = ITEM.exec(line);
  return { indent, bullet: marker.at(-1) };
}

const isNested = ({ indent = 0 }, line) => markerOf(line).indent >= indent + 2;

/** @param {string} text
 * @param {Block} [first] in which the text begins; its `lines` are added to
 * @returns {Block[]} */
export function blocksOf(text, first) {
  const blocks = first ? [first] : [];
  /** @type {Block | undefined} */
  let open = first;
  let start = 0;
  for (const line of text.split("\n")) {
    const columns = open?.kind === "paragraph" ? columnsOf(open, line) : undefined;
    if (open?.fence) {
      if (closes(open, line)) open = undefined;
      else open.lines.push(line);
    } else if (columns) {
      open = tableIn(blocks, columns, start, line);
    } else if (open?.partOf && open.kind === "paragraph" && !open.lines.length) {
      open.lines.push(line); // the rest of a line, whatever it looks like
    } else if (open && continues(open, line)) {
      open.lines.push(line);
    } else {
      open = line.trim() === "" ? undefined : begin(line, start);
      if (open) blocks.push(open);
      if (open?.kind === "heading" || open?.kind === "rule") open = undefined;
    }
    start += line.length + 1;
  }
  return blocks;
}

/** @returns {Block} */
function begin(line, start) {
  const kind = kindOf(line) ?? "paragraph";
  const block = { kind, lines: [line], start, body: start, decided: start };
  if (kind === "list") return { ...block, ...markerOf(line) };
  if (kind !== "code") return block;
  const [, fence, told] = FENCE.exec(line);
  const language = told.trim().split(/\s/)[0];
  return { ...block, lines: [], body: start + line.length + 1, fence, language };
}

/** How each column of a table is aligned, if this line below that paragraph makes one. */
function columnsOf({ lines }, line) {
  const header = lines.at(-1) ?? "";
  if (!ROW.test(header) || !line.includes("|") || !DELIMITERS.test(line)) return undefined;
  if (kindOf(line)) return undefined;
  const columns = cellsOf(line).map((cell) => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return cell.startsWith(":") ? "left" : "";
  });
  if (columns.length > MOST_COLUMNS || cellsOf(header).length !== columns.length) return undefined;
  return columns;
}

/** The last line of the last paragraph is the header of a table. */
function tableIn(blocks, aligned, decided, delimiters) {
  const { lines } = blocks.at(-1);
  const header = lines.pop();
  if (!lines.length) blocks.pop();
  const start = decided - header.length - 1;
  const body = decided + delimiters.length + 1;
  const table = { kind: "table", lines: [], start, body, decided, header, aligned };
  blocks.push(table);
  return table;
}

function cellsOf(line) {
  const cells = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
  if (cells.length > 1 && cells.at(-1).trim() === "") cells.pop();
  return cells.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** @param {Block} block of code @param {string} line */
function closes({ fence = "" }, line) {
  const run = line.trim();
  return run.length >= fence.length && run === fence[0].repeat(run.length) && !/^ {4}/.test(line);
}

/** An element with children; strings become text. */
function element(name, children = []) {
  const made = document.createElement(name);
  for (const child of children) made.append(child);
  return made;
}

function nodeOf(block, depth) {
  const text = block.lines.join("\n");
  if (block.kind === "code") return codeOf(block, text);
  if (block.kind === "rule") return element("hr");
  if (block.kind === "heading") {
    const [begin, marks] = HEADING.exec(text);
    // The page has a first and a second heading of its own.
    return element(`h${Math.min(6, marks.length + 2)}`, inline(text.slice(begin.length).trim()));
  }
  if (block.kind === "table") return tableOf(block);
  if (depth < DEEPEST && block.kind === "list") return listOf(block, depth);
  if (depth < DEEPEST && block.kind === "quote") {
    const inner = block.lines.map((line) => line.replace(QUOTE, "")).join("\n");
    return element("blockquote", nodesOf(inner, depth + 1));
  }
  return paragraphOf(block);
}

function paragraphOf(block) {
  const trimmed = block.lines.map((line) => line.trimStart());
  const { nodes, done } = piecesOf(trimmed.join("\n"));
  if (done.children) {
    let [line, column] = [0, done.at];
    while (column > trimmed[line].length) column -= trimmed[line++].length + 1;
    // A last line may still be the header of a table.
    if (trimmed[line][0] !== "|") {
      column += block.lines[line].length - trimmed[line].length;
      block.done = { children: done.children, line, column };
    }
  }
  return element("p", nodes);
}

function tableOf(block) {
  const { lines, header, aligned } = block;
  const row = (name, line) => {
    const cells = cellsOf(line).slice(0, aligned.length);
    const made = cells.map((text) => element(name, inline(text)));
    for (const [column, cell] of made.entries()) {
      if (aligned[column]) cell.setAttribute("align", aligned[column]);
    }
    return element("tr", made);
  };
  const head = element("thead", [row("th", header)]);
  const rows = lines.map((line) => row("td", line));
  const body = element("tbody", rows);
  if (lines.length > 1) block.done = { children: lines.length - 1, line: lines.length - 1 };
  return element("table", [head, body]);
}

function codeOf(block, text) {
  const pre = element("pre", [element("code", [text])]);
  pre.tabIndex = 0; // so that it can be scrolled with the keyboard
  if (block.language) pre.dataset.language = block.language;
  // The last line goes once it is the end of the code, and the line end before it as well.
  if (block.lines.length > 2) block.done = { children: 1, line: block.lines.length - 2 };
  return pre;
}

function listOf(block, depth) {
  const ordered = block.bullet === "." || block.bullet === ")";
  const list = element(ordered ? "ol" : "ul");
  if (ordered) list.setAttribute("start", String(parseInt(block.lines[0], 10)));
  let item = [];
  let width = 0;
  const flush = () => {
    if (item.length) list.append(itemOf(item.join("\n"), depth));
  };
  let fenced = false;
  for (const [index, line] of block.lines.entries()) {
    const marker = fenced ? null : ITEM.exec(line);
    if (marker && !isNested(block, line)) {
      flush();
      if (index) block.done = { children: list.childNodes.length, line: index };
      width = marker[0].length;
      item = [line.slice(width)];
    } else {
      const spaces = /^ */.exec(line)[0].length;
      item.push(line.slice(Math.min(width, spaces)));
    }
    if (FENCE.test(item.at(-1))) fenced = !fenced;
  }
  flush();
  return list;
}

/** An item of one paragraph is shown without one. */
function itemOf(text, depth) {
  const nodes = nodesOf(text, depth + 1);
  if (nodes[0]?.tagName !== "P" || nodes[1]?.tagName === "P") return element("li", nodes);
  return element("li", [...nodes[0].childNodes, ...nodes.slice(1)]);
}

const nodesOf = (text, depth) => blocksOf(text).map((block) => nodeOf(block, depth));

// Inside of a line.

const TAGS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "s" };
// An address may hold pairs of parentheses, as those of Wikipedia do.
const ADDRESS = /https?:\/\/(?:[^\s<>()]|\([^\s<>()]{0,200}\)){1,2000}/;
const TITLE = /(?:[ \t]{1,9}(?:"([^"\n]{0,500})"|'([^'\n]{0,500})'))?/;
// In turn: an escape, a run of backticks, a link, an address, a mark of emphasis, a line end.
const PIECE = new RegExp(
  [
    /\\([!-/:-@[-`{-~])/,
    /(`+)/,
    new RegExp(`!?\\[([^[\\]\\n]{0,500})\\]\\(<?(${ADDRESS.source})>?${TITLE.source}\\)`),
    /<?(https?:\/\/(?:[^\s<>()"'`*]|\([^\s<>()"'`*]{0,200}\)){1,2000})>?/,
    /(\*{1,3}|_{1,3}|~~)/,
    /\n/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "gi",
);
const WORD = /[\p{L}\p{N}]/u;

/** The nodes of a text without blocks. Linear in its length.
 * @param {string} text @returns {(Node | string)[]} */
export const inline = (text, links = true) => piecesOf(text, links).nodes;

/** Also, how many of the nodes will stay however the text goes on, and where the others begin. */
function piecesOf(text, links = true) {
  const stack = [{ mark: "", nodes: [] }];
  const ticks = new Map(); // run of backticks -> no such run from here on
  const put = (node) => node && stack.at(-1).nodes.push(node);
  let done = { children: 0, at: 0 };
  let bracket = false; // in this line, that may still be a link's
  let at = 0;
  for (let match; (match = execAt(text, at)); ) {
    const plain = text.slice(at, match.index);
    put(plain);
    bracket ||= plain.includes("[");
    const [whole, escaped, run, label, target, double, single, bare, mark] = match;
    if (whole === "\n") bracket = false;
    else if (stack.length === 1 && !ticks.size && !bracket && /[ \t]$/.test(plain)) {
      done = { children: stack[0].nodes.length, at: match.index };
    }
    at = match.index + whole.length;
    if (escaped) put(escaped);
    else if (run) at = putCode(text, at, run, ticks, put);
    else if (target && links) {
      put(linkOf(target, inline(label || target, false), whole, double ?? single));
    } else if (bare && links) {
      const url = withoutPunctuation(bare);
      put(linkOf(url, [url]));
      at -= whole.length - whole.indexOf(bare) - url.length;
      if (whole.startsWith("<") && text[at] === ">") at += 1;
    } else if (mark) putMark(text, match.index, mark, stack, put);
    else if (whole === "\n") put(document.createElement("br"));
    else put(whole);
  }
  put(text.slice(at));
  while (stack.length > 1) unwind(stack);
  return { nodes: stack[0].nodes, done };
}

/** A dot or a comma behind an address belongs to the sentence. */
function withoutPunctuation(url) {
  let end = url.length;
  while (".,;:!?".includes(url[end - 1])) end -= 1;
  return url.slice(0, end);
}

function execAt(text, at) {
  PIECE.lastIndex = at;
  return PIECE.exec(text);
}

function putCode(text, at, run, ticks, put) {
  let close = ticks.has(run.length) ? -1 : at;
  while (close >= 0) {
    close = text.indexOf(run, close);
    if (close < 0 || text[close + run.length] !== "`") break;
    while (text[close] === "`") close += 1;
  }
  if (close < 0) {
    ticks.set(run.length, true);
    put(run);
    return at;
  }
  const code = text.slice(at, close).replaceAll("\n", " ");
  const padded = code.startsWith(" ") && code.endsWith(" ") && code.trim();
  put(element("code", [padded ? code.slice(1, -1) : code]));
  return close + run.length;
}

/** Close and open emphasis. A mark between spaces is none, nor is _ within a word. */
function putMark(text, index, run, stack, put) {
  const before = text[index - 1] ?? " ";
  const after = text[index + run.length] ?? " ";
  const inWord = run[0] === "_" && WORD.test(before) && WORD.test(after);
  const left = /\s/.test(before) || inWord ? run.length : close(stack, run);
  const mark = run.slice(0, left);
  if (!left) return;
  const clashes = (frame) =>
    frame.mark === mark || (frame.mark[0] === mark[0] && left + frame.mark.length > 3);
  // At most one frame of each mark: the stack is short.
  if (/\s/.test(after) || inWord || stack.some(clashes)) put(mark);
  else stack.push({ mark, nodes: [] });
}

/** Close what a run of marks closes, the innermost first: three of them are one and two, in any
 * order. @returns {number} how many are left */
function close(stack, run) {
  let left = run.length;
  for (;;) {
    const opened = stack.findLastIndex(({ mark, nodes }) => {
      const { length } = mark;
      if (mark[0] !== run[0] || !nodes.length) return false;
      return length === left || length === 3 || (run.length === 3 && length < left);
    });
    if (opened < 1) return left;
    while (stack.length > opened + 1) unwind(stack);
    const { mark, nodes } = stack.pop();
    const used = Math.min(left, mark.length);
    const made = used < 3 ? element(TAGS[run.slice(0, used)], nodes) : bothOf(run[0], nodes);
    const outer = mark.slice(used);
    if (outer) stack.push({ mark: outer, nodes: [made] });
    else stack.at(-1).nodes.push(made);
    left -= used;
    if (!left) return left;
  }
}

const bothOf = (mark, nodes) => element(TAGS[mark], [element(TAGS[mark + mark], nodes)]);

/** A mark that was never closed is text. */
function unwind(stack) {
  const { mark, nodes } = stack.pop();
  const outer = stack.at(-1).nodes;
  outer.push(mark);
  for (const node of nodes) outer.push(node);
}

function linkOf(target, children, source = target, title = "") {
  let url;
  try {
    url = new URL(target);
  } catch {
    return source;
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return source;
  const link = element("a", children);
  link.href = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = title ? `${title} (${url.href})` : url.href;
  return link;
}

// Showing.

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
   * @type {Block | undefined} */
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

  /** Leave out from now on what of the only block is done. @param {Block} block */
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
