/** What stands beside the text of a stream: its thinking, sources and files. */

import { h } from "./dom.js";
import { isRestart } from "./rxllm.js";

/** A source that the answer cites, as a link if its address is one of the web. */
function citationOf({ url, title, text }) {
  const name = title ?? url ?? text ?? "";
  if (!/^https?:\/\//.test(url ?? "")) return h("li", { dir: "auto" }, name);
  const options = { href: url, target: "_blank", rel: "noopener noreferrer nofollow", title: url };
  return h("li", { dir: "auto" }, h("a", options, name));
}

/** A file: an image that came with its data is shown, all else is named. */
function fileOf({ mediaType, data, url }) {
  if (data && /^image\/(png|jpeg|gif|webp)$/.test(mediaType)) {
    const src = `data:${mediaType};base64,${data}`;
    return h("li", {}, h("img", { src, alt: "An image of the answer" }));
  }
  return h("li", { dir: "auto" }, url ? `${mediaType}: ${url}` : mediaType);
}

const SHOWN = { citation: citationOf, file: fileOf };

export class Aside {
  #thinking = h("p", { dir: "auto" });
  /** Before the text. */
  thought = h("details", { className: "thinking" }, h("summary", {}, "Thinking"), this.#thinking);
  /** After the text. */
  extras = h("ul", { className: "extras" });

  /** @param {string} title of the stream */
  constructor(title) {
    this.extras.setAttribute("aria-label", `${title}: sources and files`);
  }

  /** Show what a chunk has added to a run.
   * @param {import("./rxllm.js").Chunk} chunk @param {import("./rxllm.js").Run} run */
  take(chunk, run) {
    const { type, source, text } = chunk;
    if (isRestart(chunk) || type === "batch") this.show(run);
    else if (source !== undefined) return; // of a run inside a tool
    else if (type in SHOWN) this.extras.append(SHOWN[type](chunk));
    else if (type === "reasoning") {
      this.thought.hidden = false;
      this.#thinking.append(text);
    }
  }

  /** Show what there is beside the text of a run. @param {import("./rxllm.js").Run} run */
  show({ parts }) {
    const extras = parts.filter(({ type }) => type in SHOWN);
    this.extras.replaceChildren(...extras.map((part) => SHOWN[part.type](part)));
    const thoughts = parts.filter(({ type }) => type === "reasoning");
    this.#thinking.textContent = thoughts.map(({ text }) => text).join("");
    this.thought.hidden = !thoughts.length;
  }
}
