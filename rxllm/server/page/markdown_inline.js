/** Markdown within a line: emphasis, code and links as DOM nodes, whose text is set as text. */

/** Create an element with children; strings become text. */
export function element(name, children = []) {
  const made = document.createElement(name);
  for (const child of children) made.append(child);
  return made;
}

const TAGS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "s" };
// A URL may contain pairs of parentheses, as on Wikipedia.
const ADDRESS = /https?:\/\/(?:[^\s<>()]|\([^\s<>()]{0,200}\)){1,2000}/;
const TITLE = /(?:[ \t]{1,9}(?:"([^"\n]{0,500})"|'([^'\n]{0,500})'))?/;
// In this order: an escape, a run of backticks, a link, a URL, an emphasis mark, a line break.
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

/** Convert a text without blocks to nodes, in linear time.
 * @param {string} text @returns {(Node | string)[]} */
export const inline = (text, links = true) => piecesOf(text, links).nodes;

/** Like `inline`, but also returns how many nodes won't change however the text continues, and where
 * the others begin, before `limit`. */
export function piecesOf(text, links = true, limit = 0) {
  const stack = [{ mark: "", nodes: [] }];
  const ticks = new Map(); // lengths of backtick runs that don't occur again
  const put = (node) => node && stack.at(-1).nodes.push(node);
  let done = { children: 0, at: 0 };
  let bracket = false; // whether this line has one that may still begin a link
  let at = 0;
  for (let match; (match = execAt(text, at)); ) {
    const plain = text.slice(at, match.index);
    put(plain);
    bracket ||= plain.includes("[");
    const [whole, escaped, run, label, target, double, single, bare, mark] = match;
    if (whole === "\n") bracket = false;
    const open = stack.length > 1 || ticks.size || bracket || match.index >= limit;
    if (!open && (whole === "\n" || /[ \t]$/.test(plain))) {
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

/** Remove punctuation after a URL, which belongs to the sentence. */
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

/** Close and open emphasis. A mark between spaces is text, as is _ within a word. */
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

/** Close the emphasis that a run of marks ends, innermost first: three marks are one and two, in
 * any order. @returns {number} how many marks are left */
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

/** Turn an unclosed mark into text. */
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
  if (!/^https?:\/\//i.test(target.trim())) return source;
  const link = element("a", children);
  link.href = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = title ? `${title} (${url.href})` : url.href;
  return link;
}
