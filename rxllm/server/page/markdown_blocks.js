/** The blocks of a Markdown text: their kinds, and where each begins and ends. */

// No text can make these patterns slow: none of their repetitions overlap.
export const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
export const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const RULE = /^ {0,3}(?:-{3,}|\*{3,}|_{3,})[ \t]*$/;
export const ITEM = /^( *)([-*+]|\d{1,9}[.)])[ \t]+(?=\S)/;
export const QUOTE = /^ {0,3}> ?/;
const ROW = /^ {0,3}\|/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const MOST_COLUMNS = 100;

/**
 * @typedef {{kind: string, lines: string[], start: number, body: number, decided: number,
 *   fence?: string, language?: string, indent?: number, bullet?: string,
 *   aligned?: string[], header?: string, partOf?: boolean,
 *   done?: {children: number, line: number, column?: number}}} Block
 *   `start`, `body` and `decided` are offsets in the text: where the block begins, where `lines`
 *   begin, and the beginning of the line that decided its kind. `partOf`: it is the rest of a block
 *   whose beginning is shown. `done`: how many of its nodes can no longer change, and where in
 *   `lines` the others begin.
 */

/** The kind of block that a line begins, or undefined for a paragraph. */
function kindOf(line) {
  if (FENCE.test(line)) return "code";
  if (HEADING.test(line)) return "heading";
  if (RULE.test(line)) return "rule";
  if (ITEM.test(line)) return "list";
  if (QUOTE.test(line)) return "quote";
  return undefined;
}

/** Whether a line continues the block before it. @param {Block} block @param {string} line */
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

/** How far the marker of an item is indented, and the character that identifies its list. */
function markerOf(line) {
  const [, { length: indent }, marker] = ITEM.exec(line);
  return { indent, bullet: marker.at(-1) };
}

export const isNested = ({ indent = 0 }, line) => markerOf(line).indent >= indent + 2;

/** @param {string} text
 * @param {Block} [first] the block in which the text begins, extended in place
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
  const [, fence, info] = FENCE.exec(line);
  const language = info.trim().split(/\s/)[0];
  return { ...block, lines: [], body: start + line.length + 1, fence, language };
}

/** The alignment of each column, if this line turns the end of the paragraph into a table. */
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

/** Turn the last line of the last paragraph into the header of a table. */
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

export function cellsOf(line) {
  const cells = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
  if (cells.length > 1 && cells.at(-1).trim() === "") cells.pop();
  return cells.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** Whether a line ends a block of code. @param {Block} block @param {string} line */
function closes({ fence = "" }, line) {
  const run = line.trim();
  return run.length >= fence.length && run === fence[0].repeat(run.length) && !/^ {4}/.test(line);
}
