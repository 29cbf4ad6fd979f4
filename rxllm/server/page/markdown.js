/**
 * Markdown of a model to DOM nodes, while it streams.
 *
 * The text is never read as HTML: nodes are made one by one and get their text as text, so a tag
 * in it is shown as it was written. Links lead to http and https alone. Headings, lists, quotes,
 * rules, fenced code, bold, italic, struck and inline code are known; the rest is text.
 *
 * What is shown does not depend on how the text was cut, and a block is made once: only the last
 * ones, which may still change, are made again.
 */

// None of these patterns can be made slow by a text: no two of their repetitions overlap.
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const RULE = /^ {0,3}(?:-{3,}|\*{3,}|_{3,})[ \t]*$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])[ \t]+(?=\S)/;
const QUOTE = /^ {0,3}> ?/;
const DEEPEST = 8;

/**
 * @typedef {{kind: string, lines: string[], start: number, fence?: string,
 *   language?: string}} Block
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
    if (line.trim() === "" || /^( {2,}|\t)/.test(line) || kind === "list") return true;
    return kind === undefined && last.trim() !== "";
  }
  if (block.kind === "quote") return kind === "quote" || (kind === undefined && line.trim() !== "");
  return block.kind === "paragraph" && kind === undefined && line.trim() !== "";
}

/** @param {string} text @returns {Block[]} with the place in `text` where each begins */
export function blocksOf(text) {
  const blocks = [];
  /** @type {Block | undefined} */
  let open;
  let start = 0;
  for (const line of text.split("\n")) {
    if (open?.fence) {
      if (closes(open, line)) open = undefined;
      else open.lines.push(line);
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
  if (kind !== "code") return { kind, lines: [line], start };
  const [, fence, language] = FENCE.exec(line);
  return { kind, lines: [], start, fence, language: language.trim().split(/\s/)[0] };
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
  if (depth < DEEPEST && block.kind === "list") return listOf(block.lines, depth);
  if (depth < DEEPEST && block.kind === "quote") {
    const inner = block.lines.map((line) => line.replace(QUOTE, "")).join("\n");
    return element("blockquote", nodesOf(inner, depth + 1));
  }
  return element("p", inline(block.lines.map((line) => line.trimStart()).join("\n")));
}

function codeOf(block, text) {
  const pre = element("pre", [element("code", [text])]);
  pre.tabIndex = 0; // so that it can be scrolled with the keyboard
  if (block.language) pre.dataset.language = block.language;
  return pre;
}

function listOf(lines, depth) {
  const [, indent, first] = ITEM.exec(lines[0]);
  const ordered = /\d/.test(first);
  const list = element(ordered ? "ol" : "ul");
  if (ordered) list.setAttribute("start", String(parseInt(first, 10)));
  let item = [];
  let width = 0;
  const flush = () => {
    if (item.length) list.append(itemOf(item.join("\n"), depth));
  };
  let fenced = false;
  for (const line of lines) {
    const marker = fenced ? null : ITEM.exec(line);
    if (marker && marker[1].length < indent.length + 2) {
      flush();
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
// In turn: an escape, a run of backticks, a link, an address, a mark of emphasis, a line end.
const PIECE = new RegExp(
  [
    /\\([!-/:-@[-`{-~])/,
    /(`+)/,
    /!?\[([^[\]\n]{0,500})\]\(<?(https?:\/\/[^\s<>()]{1,2000})>?\)/,
    /<?(https?:\/\/[^\s<>()"'`*]{1,2000})>?/,
    /(\*\*|__|~~|\*|_)/,
    /\n/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "gi",
);
const WORD = /[\p{L}\p{N}]/u;

/** The nodes of a text without blocks. Linear in its length.
 * @param {string} text @returns {(Node | string)[]} */
export function inline(text, links = true) {
  const stack = [{ mark: "", nodes: [] }];
  const ticks = new Map(); // run of backticks -> no such run from here on
  const put = (node) => node && stack.at(-1).nodes.push(node);
  let at = 0;
  PIECE.lastIndex = 0;
  for (let match; (match = execAt(text, at)); ) {
    put(text.slice(at, match.index));
    const [whole, escaped, run, label, target, bare, mark] = match;
    at = match.index + whole.length;
    if (escaped) put(escaped);
    else if (run) at = putCode(text, at, run, ticks, put);
    else if (target && links) put(linkOf(target, inline(label || target, false), whole));
    else if (bare && links) {
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
  return stack[0].nodes;
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

/** Open or close an emphasis. A mark between spaces is none, nor is _ within a word. */
function putMark(text, index, mark, stack, put) {
  const before = text[index - 1] ?? " ";
  const after = text[index + mark.length] ?? " ";
  const inWord = mark[0] === "_" && WORD.test(before) && WORD.test(after);
  const opened = stack.findLastIndex((frame) => frame.mark === mark);
  if (opened > 0 && !/\s/.test(before) && !inWord) {
    while (stack.length > opened + 1) unwind(stack);
    const { nodes } = stack.pop();
    put(element(TAGS[mark], nodes));
  } else if (opened < 0 && !/\s/.test(after) && !inWord) {
    stack.push({ mark, nodes: [] }); // at most one frame of each mark: the stack is short
  } else {
    put(mark);
  }
}

/** A mark that was never closed is text. */
function unwind(stack) {
  const { mark, nodes } = stack.pop();
  const outer = stack.at(-1).nodes;
  outer.push(mark);
  for (const node of nodes) outer.push(node);
}

function linkOf(target, children, source = target) {
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
  link.title = url.href;
  return link;
}

/** Markdown that grows, in `container`. */
export class MarkdownView {
  #container;
  #text = "";
  #tail = [];
  #frame = 0;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#container = container;
  }

  /** Add text. It is shown with the next frame. @param {string} text */
  append(text) {
    if (!text) return;
    this.#text += text;
    this.#frame ||= requestAnimationFrame(() => this.flush());
  }

  /** Forget everything. */
  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#text = "";
    this.#tail = [];
    this.#container.replaceChildren();
  }

  /** Show what there is now. */
  flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const text = this.#text;
    const blocks = blocksOf(text);
    const nodes = blocks.map((block) => nodeOf(block, 0));
    for (const node of this.#tail) node.remove();
    for (const node of nodes) this.#container.append(node);
    // A block that began in a line whose end is not here yet may still join the one before it.
    const lineStart = text.lastIndexOf("\n") + 1;
    const settled = blocks.length - 1 - Number((blocks.at(-1)?.start ?? 0) >= lineStart);
    if (settled > 0) this.#text = text.slice(blocks[settled].start);
    this.#tail = nodes.slice(Math.max(0, settled));
  }
}
