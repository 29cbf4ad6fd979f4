/** A small live plot of the time between tokens. */

const SHOWN = 240;

export class GapPlot {
  #canvas = document.createElement("canvas");
  #caption = document.createElement("span");
  #peak = document.createElement("span");
  /** @type {number[]} */
  #gaps = [];
  #frame = 0;

  constructor() {
    this.element = document.createElement("figure");
    this.element.className = "plot";
    this.#canvas.setAttribute("role", "img");
    const caption = document.createElement("figcaption");
    caption.append(this.#caption, this.#peak);
    this.element.append(this.#canvas, caption);
    this.clear();
    new ResizeObserver(() => this.#soon()).observe(this.#canvas);
  }

  clear() {
    this.#gaps = [];
    this.#soon();
  }

  /** @param {number} seconds since the token before */
  add(seconds) {
    this.#gaps.push(seconds * 1000);
    if (this.#gaps.length > SHOWN) this.#gaps.shift();
    this.#soon();
  }

  #soon() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const gaps = this.#gaps;
    const sorted = [...gaps].sort((a, b) => a - b);
    const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
    const longest = at(1);
    this.#caption.textContent = sorted.length
      ? `between tokens: median ${milliseconds(at(0.5))}`
      : "between tokens";
    this.#peak.textContent = sorted.length ? `longest ${milliseconds(longest)}` : "";
    this.#canvas.setAttribute(
      "aria-label",
      sorted.length
        ? `Times between the last ${sorted.length + 1} tokens: ` +
            `median ${milliseconds(at(0.5))}, longest ${milliseconds(longest)}`
        : "Times between tokens: none yet",
    );
    this.#bars(Math.max(1, longest ?? 0));
  }

  #bars(top) {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width) return; // not visible
    const scale = devicePixelRatio;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const brush = canvas.getContext("2d");
    brush.scale(scale, scale);
    const style = getComputedStyle(canvas);
    brush.fillStyle = style.color;
    brush.globalAlpha = 0.25;
    brush.fillRect(0, height - 1, width, 1);
    brush.globalAlpha = 1;
    const step = width / Math.max(60, this.#gaps.length);
    this.#gaps.forEach((gap, index) => {
      const tall = Math.max(1.5, (gap / top) * (height - 3));
      brush.fillRect(index * step, height - tall, Math.max(1, step - 1), tall);
    });
  }
}

function milliseconds(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}
