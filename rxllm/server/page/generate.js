/** A prompt and its streamed answer. A reload resumes a running stream. */

import {
  h,
  optionsOf,
  remembered,
  selectExample,
  showFailure,
  stopWithEscape,
  submitWithCtrlEnter,
  switchOver,
} from "./dom.js";
import { Run } from "./rxllm.js";
import { collectDecisions } from "./tool_card.js";
import { StreamView } from "./view.js";
import { Watched } from "./watched.js";

const RUNNING = "rxllm-running";

/** @param {import("./rxllm.js").Client} client */
export function setUpGenerate(client) {
  const panel = document.getElementById("generate");
  const form = panel.querySelector("form");
  const { prompt, model, maxTokens, temperature, run, hold, stop } = form.elements;
  const decide = collectDecisions(() => view.run.pending, proceed);
  const view = new StreamView("Answer", { onState: buttons, decide });
  panel.querySelector(".views").append(view.element);
  /** @type {import("./rxllm.js").HttpStream | undefined} */
  let stream;
  /** @type {Watched | undefined} */
  let watched;
  let aborted = new AbortController();
  /** The first request, which the whole run answers. */
  let first;

  function buttons(state) {
    const live = ["waiting", "streaming", "paused", "reconnecting"].includes(state);
    if (live) switchOver({ on: [stop, hold], off: [run] });
    else switchOver({ on: [run], off: [stop, hold] });
    hold.textContent = state === "paused" ? "Resume" : "Pause";
  }

  /** @param {Run} [run] one that it continues */
  async function follow(begun, request, elapsed, run) {
    stream = begun;
    first = request;
    begun.onResume = () => view.reconnecting();
    const earlier = run && JSON.stringify(run);
    view.begin(request, elapsed, run);
    let kept = false; // for a reload: a stream survives its page for a while
    watched = new Watched(client, begun, view);
    const since = Date.now() - (elapsed ?? 0) * 1000;
    try {
      for await (const message of watched) {
        if (!kept) remember({ id: begun.id, request, since, run: earlier });
        kept = true;
        view.take(message);
      }
    } catch (error) {
      if (aborted.signal.aborted) view.stopped();
      else view.fail(error);
    }
    remembered.set(RUNNING, undefined);
    if (view.run.pending.length) remember({ request, run: JSON.stringify(view.run) });
  }

  const remember = (running) => remembered.set(RUNNING, JSON.stringify(running));

  /** Continue the run after decisions about its calls. */
  function proceed(approvals) {
    const { prompt: asked, ...options } = first;
    const messages = [{ role: "user", content: asked }, ...view.run.messages];
    const request = { ...options, messages, approvals };
    aborted = new AbortController();
    const { signal } = aborted;
    follow(client.stream(request, { signal }), first, undefined, view.run.continued(approvals));
  }

  /** Restore the form for a request. */
  function fill(request) {
    prompt.value = request.prompt;
    maxTokens.value = request.maxTokens ?? "";
    temperature.value = request.temperature ?? "";
    // Until the list of models is loaded, which keeps the selection.
    if (request.model) model.replaceChildren(h("option", {}, request.model));
  }

  function generate(request) {
    aborted = new AbortController();
    return follow(client.stream(request, { signal: aborted.signal }), request);
  }

  /** @returns {Promise<boolean>} whether it succeeded */
  async function tried(name, action) {
    try {
      await action();
      return true;
    } catch (error) {
      showFailure(`${name} failed: ${error.message}`);
      return false;
    }
  }

  async function end() {
    if (stop.disabled) return;
    const ended = stream?.id !== undefined && (await tried("Stop", () => stream.stop()));
    if (!ended) aborted.abort(); // it has no id yet, or the server is unreachable
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!run.disabled) generate({ prompt: prompt.value, ...optionsOf(form) });
  });
  submitWithCtrlEnter(form);
  selectExample(prompt);
  stopWithEscape(panel, end);
  stop.addEventListener("click", end);
  hold.addEventListener("click", async () => {
    const pausing = view.state !== "paused";
    if (pausing) {
      if (await tried("Pause", () => stream.pause())) watched.look();
    } else if (await tried("Resume", () => stream.resume())) view.hold(false);
  });

  const running = JSON.parse(remembered.get(RUNNING) ?? "null");
  if (running) {
    const { id, request, since } = running;
    const run = running.run && new Run(JSON.parse(running.run));
    fill(request);
    aborted = new AbortController();
    if (id) {
      const begun = client.watch(id, { signal: aborted.signal });
      follow(begun, request, (Date.now() - since) / 1000, run);
    } else {
      first = request;
      view.ask(run);
    }
  }
}
