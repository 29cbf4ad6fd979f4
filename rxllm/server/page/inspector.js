/** The streams of the server, and the tokens and events of one of them. */

import { describe } from "./describe.js";
import { announce, duration, h, showFailure, switchOver } from "./dom.js";
import { RxllmError, backoff } from "./rxllm.js";
import { StepTable } from "./steps.js";
import { StreamView } from "./view.js";
import { ANSWER_WITHIN, Watched } from "./watched.js";

const EVERY = 1.5;
const SHOWN = 600;
const SLOW = 3; // times the usual time between tokens

/** @param {import("./rxllm.js").Client} client */
export function setUpInspector(client) {
  const panel = document.getElementById("inspect");
  const list = new StreamList(panel.querySelector(".streams"), choose);
  const place = panel.querySelector(".inspected");
  const trouble = panel.querySelector(".failure");
  let failures = 0;
  let timer = 0;
  let aborted = new AbortController();

  /** Report a change once, however often the server is polled. @param {unknown} [error] */
  function report(error) {
    failures = error ? failures + 1 : 0;
    let text = error ? "Can't reach the server, trying again." : "";
    if (error instanceof RxllmError) text = `The server refused, trying again: ${error.message}`;
    if (text === trouble.textContent) return;
    trouble.textContent = text;
    trouble.hidden = !text;
    announce(text || "The server is back.");
  }

  async function refresh() {
    clearTimeout(timer);
    try {
      if (!document.hidden) {
        const signal = AbortSignal.timeout(ANSWER_WITHIN * 1000);
        list.show(await client.streams({ signal }));
        report();
      }
    } catch (error) {
      report(error);
    }
    clearTimeout(timer); // two refreshes may have overlapped
    const pause = failures ? backoff(failures - 1, { base: EVERY, cap: 10 }) : EVERY;
    if (!panel.hidden) timer = setTimeout(refresh, pause * 1000);
  }

  async function choose({ id, duration: elapsed }) {
    aborted.abort();
    aborted = new AbortController();
    const { signal } = aborted;
    const inspected = new Inspected(client, id);
    place.replaceChildren(inspected.element);
    await inspected.follow(signal, elapsed);
    refresh();
  }

  panel.addEventListener("shown", refresh);
  panel.addEventListener("hidden", () => clearTimeout(timer));
}

class StreamList {
  #items = new Map();

  constructor(element, choose) {
    this.element = element;
    this.choose = choose;
  }

  /** Update only what has changed, so that the focus stays in place. */
  show(streams) {
    const ids = new Set(streams.map(({ id }) => id));
    for (const [id, item] of this.#items) {
      if (ids.has(id)) continue;
      if (item.contains(document.activeElement)) this.element.focus();
      item.remove();
      this.#items.delete(id);
    }
    for (const stream of streams) this.#update(stream);
  }

  #update(stream) {
    const { id, status, model, duration: seconds, readers, position } = stream;
    let item = this.#items.get(id);
    if (!item) {
      const button = h("button", { type: "button", ariaPressed: "false" });
      button.append(h("span", { className: "id", title: id }, id));
      button.append(h("span", { className: "badge" }), h("small"));
      button.addEventListener("click", () => {
        for (const each of this.element.querySelectorAll("button")) each.ariaPressed = "false";
        button.ariaPressed = "true";
        this.choose(item.stream);
      });
      item = h("li", {}, button);
      this.#items.set(id, item);
      this.element.prepend(item); // newest first
    }
    item.stream = stream;
    const badge = item.querySelector(".badge");
    badge.textContent = badge.dataset.state = status;
    const details = [model, seconds !== undefined && duration(seconds)];
    if (readers !== undefined) details.push(`${readers} ${readers === 1 ? "reader" : "readers"}`);
    item.querySelector("small").textContent = details.filter(Boolean).join(" · ");
    // The stream of a request for the whole answer can't be read by others.
    item.querySelector("button").disabled = position === undefined;
  }
}

/** One stream, token by token. */
class Inspected {
  #events = h("ol", { className: "events", tabIndex: 0, ariaLabel: "Events" });
  #steps = new StepTable();
  /** The item of each call, which changes while its arguments arrive. */
  #calls = new Map();
  #usual;

  constructor(client, id) {
    this.client = client;
    this.id = id;
    this.view = new StreamView(id);
    this.element = this.view.element;
    const act = (label, action) => {
      const button = h("button", { type: "button" }, label);
      button.addEventListener("click", async () => {
        try {
          await action();
        } catch (error) {
          showFailure(`${label} failed: ${error.message}`);
        }
      });
      return button;
    };
    const actions = h("div", { className: "actions" });
    actions.append(
      act("Pause", () => client.pause(id).then(() => this.watched?.look())),
      act("Resume", () => client.resume(id).then(() => this.view.hold(false))),
      act("Stop", () => client.cancel(id)),
    );
    this.view.onState = () => {
      const buttons = [...actions.children];
      if (this.view.live) switchOver({ on: buttons, off: [] });
      else switchOver({ on: [], off: buttons }, this.#events);
    };
    this.element.insertBefore(this.#events, this.element.lastChild);
    this.element.insertBefore(this.#steps.element, this.#events);
    this.element.querySelector("header").append(actions); // stays in view, however long the answer
  }

  async follow(signal, elapsed) {
    this.view.begin({}, elapsed);
    try {
      const stream = this.client.watch(this.id, { signal });
      stream.onResume = () => this.view.reconnecting();
      this.watched = new Watched(this.client, stream, this.view);
      for await (const message of this.watched) {
        this.view.take(message);
        this.#show(message);
      }
    } catch (error) {
      if (signal.aborted) this.view.leave(); // another one was selected
      else {
        this.view.fail(error);
        this.#add("error", `error · ${error.message}`);
      }
    }
  }

  #show(message) {
    const { type, chunk, position, tokens, seconds } = message;
    if (type === "chunk") this.#steps.take(message);
    if (type === "complete") {
      this.#add("complete", `complete · ${tokens} tokens in ${duration(seconds)}`, position);
    } else if (chunk.type === "tool_call") {
      this.#call(chunk, position);
    } else if (chunk.type === "token" || chunk.type === "reasoning") {
      this.#token(chunk, position);
    } else {
      this.#add(chunk.type, describe(chunk), position);
    }
  }

  /** One item for all messages about a call. */
  #call(chunk, position) {
    const key = JSON.stringify([chunk.source, chunk.index, chunk.id]);
    const item = this.#calls.get(key);
    if (item?.isConnected) item.textContent = describe(chunk);
    else this.#calls.set(key, this.#add(chunk.type, describe(chunk), position));
    if (chunk.complete) this.#calls.delete(key);
  }

  #token({ text, confidence }, position) {
    const { gap, events } = this.view;
    if (events > 1) {
      this.#add("batch", `${events} events joined · ${text}`, position);
      return;
    }
    const item = this.#add("token", text.replaceAll("\n", "⏎"), position);
    if (confidence !== undefined) item.title += `, probability ${confidence.toFixed(2)}`;
    if (gap === undefined) return;
    item.append(h("small", {}, `${Math.round(gap * 1000)}`));
    item.title += `, ${Math.round(gap * 1000)} ms after the one before`;
    if (this.#usual && gap > SLOW * this.#usual && gap > 0.02) item.classList.add("slow");
    this.#usual = this.#usual === undefined ? gap : 0.9 * this.#usual + 0.1 * gap;
  }

  #add(kind, text, position) {
    const item = h("li", { className: kind }, text);
    item.title = position ? `event ${position}` : kind;
    const { scrollHeight, scrollTop, clientHeight } = this.#events;
    const atEnd = scrollHeight - scrollTop - clientHeight < 40;
    this.#events.append(item);
    if (this.#events.childElementCount > SHOWN) this.#events.firstElementChild.remove();
    if (atEnd) this.#events.scrollTop = this.#events.scrollHeight;
    return item;
  }
}
