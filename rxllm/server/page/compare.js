/** The same prompt twice, side by side: streamed and plain, or two models. */

import {
  announce,
  duration,
  h,
  optionsOf,
  selectExample,
  stopWithEscape,
  submitWithCtrlEnter,
  switchOver,
} from "./dom.js";
import { StreamView } from "./view.js";
import { Watched } from "./watched.js";

/** @param {import("./rxllm.js").Client} client */
export function setUpCompare(client) {
  const panel = document.getElementById("compare");
  const form = panel.querySelector("form");
  const fields = form.elements;
  const views = panel.querySelector(".views");
  const verdict = h("p", { className: "hint", hidden: true });
  views.before(verdict);
  let aborted = new AbortController();
  /** @type {import("./rxllm.js").HttpStream[]} */
  let streams = [];

  const arrange = () => {
    for (const part of form.querySelectorAll("[data-only]")) {
      part.hidden = part.dataset.only !== fields.mode.value;
    }
  };
  fields.mode.forEach((radio) => radio.addEventListener("change", arrange));
  arrange();

  async function streamed(view, request) {
    const { signal } = aborted;
    const stream = client.stream(request, { signal });
    stream.onResume = () => view.reconnecting();
    streams.push(stream);
    view.begin(request);
    try {
      for await (const message of new Watched(client, stream, view)) view.take(message);
    } catch (error) {
      if (signal.aborted) view.stopped();
      else view.fail(error);
    }
  }

  async function plain(view, request) {
    const { signal } = aborted;
    view.begin(request);
    try {
      view.whole(await client.generate(request, { signal }));
    } catch (error) {
      if (signal.aborted) view.stopped();
      else view.fail(error);
    }
  }

  async function compare() {
    const request = { prompt: fields.prompt.value, ...optionsOf(form) };
    aborted = new AbortController();
    streams = [];
    verdict.hidden = true;
    switchOver({ on: [fields.stop], off: [fields.run] });
    const two =
      fields.mode.value === "models"
        ? twoModels(request, fields.other.value)
        : [new StreamView("Streamed"), new StreamView("Plain", { plot: false })];
    views.replaceChildren(...two.map((view) => view.element));
    if (fields.mode.value === "models") {
      const other = { ...request, model: fields.other.value };
      await Promise.all([streamed(two[0], request), streamed(two[1], other)]);
    } else {
      await Promise.all([streamed(two[0], request), plain(two[1], request)]);
      judge(...two);
    }
    switchOver({ on: [fields.run], off: [fields.stop] });
  }

  const twoModels = ({ model }, other) => [new StreamView(model), new StreamView(other)];

  function judge(streaming, whole) {
    if (streaming.state !== "complete" || whole.state !== "complete") return;
    const [soon, late] = [streaming.times.first, whole.times.all].map(duration);
    const text = `The first text appeared after ${soon} when streamed, after ${late} when not.`;
    verdict.textContent = text;
    verdict.hidden = false;
    announce(text);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!fields.run.disabled) compare();
  });
  submitWithCtrlEnter(form);
  selectExample(fields.prompt);

  async function end() {
    if (fields.stop.disabled) return;
    // A stream survives its connection, so it has to be stopped.
    const known = streams.filter(({ id }) => id);
    await Promise.allSettled(known.map((stream) => stream.stop()));
    aborted.abort();
  }

  stopWithEscape(panel, end);
  fields.stop.addEventListener("click", end);
}
