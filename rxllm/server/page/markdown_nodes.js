/** The DOM nodes of Markdown blocks. */

import { FENCE, HEADING, ITEM, QUOTE, blocksOf, cellsOf, isNested } from "./markdown_blocks.js";
import { element, inline, piecesOf } from "./markdown_inline.js";

const DEEPEST = 8;

export function nodeOf(block, depth) {
  const text = block.lines.join("\n");
  if (block.kind === "code") return codeOf(block, text);
  if (block.kind === "rule") return element("hr");
  if (block.kind === "heading") {
    const [begin, marks] = HEADING.exec(text);
    // The page itself uses the first two levels of headings.
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
  const { nodes, done } = piecesOf(trimmed.join("\n"), true, beginningOfTable(trimmed));
  if (done.children) {
    let [line, column] = [0, done.at];
    while (column > trimmed[line].length) column -= trimmed[line++].length + 1;
    column += block.lines[line].length - trimmed[line].length;
    block.done = { children: done.children, line, column };
  }
  return element("p", nodes);
}

/** Where the last line begins that may become the header of a table, or Infinity. */
function beginningOfTable(lines) {
  const last = lines.at(-1) ?? "";
  const before = lines.at(-2) ?? "";
  const whole = lines.reduce((sum, { length }) => sum + length + 1, 0);
  // The line below a header holds nothing else.
  if (before[0] === "|" && /^[-:|\s]*$/.test(last)) return whole - last.length - before.length - 2;
  return last[0] === "|" ? whole - last.length - 1 : Infinity;
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
  // The last line is removed if it turns out to end the code, together with its line break.
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

/** Show an item that is a single paragraph without a `<p>`. */
function itemOf(text, depth) {
  const nodes = nodesOf(text, depth + 1);
  if (nodes[0]?.tagName !== "P" || nodes[1]?.tagName === "P") return element("li", nodes);
  return element("li", [...nodes[0].childNodes, ...nodes.slice(1)]);
}

const nodesOf = (text, depth) => blocksOf(text).map((block) => nodeOf(block, depth));
