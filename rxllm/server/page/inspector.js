/** The live streams of the server, and one of them token by token. */

import { announce, duration, h, noticeText } from "./dom.js";
import { StreamView, watched } from "./view.js";

const EVERY = 1.5;
const SHOWN = 600;
const SLOW = 3; // times the usual time between tokens

/** @param {import("./rxllm.js").Client} client */
export function setUpInspector(client) {
  const panel = document.getElementById("inspect");
  const list = new StreamList(panel.querySelector(".streams"), choose);
  const place = panel.querySelector(".inspected");
  let timer = 0;
  let aborted = new AbortController();

  async function refresh() {
    clearTimeout(timer);
    try {
      if (!document.hidden) list.show(await client.streams());
    } catch (error) {
      list.show([]);
      announce(`The streams could not be listed: ${error.message}`);
    }
    clearTimeout(timer); // two may have been on their way
    if (!panel.hidden) timer = setTimeout(refresh, EVERY * 1000);
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

  /** Only what has changed is touched, so that the focus stays where it is. */
  show(streams) {
    const ids = new Set(streams.map(({ id }) => id));
    for (const [id, item] of this.#items) {
      if (ids.has(id)) continue;
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
      this.element.prepend(item); // the newest first
    }
    item.stream = stream;
    const badge = item.querySelector(".badge");
    badge.textContent = badge.dataset.state = status;
    const told = [model, seconds !== undefined && duration(seconds)];
    if (readers !== undefined) told.push(`${readers} ${readers === 1 ? "reader" : "readers"}`);
    item.querySelector("small").textContent = told.filter(Boolean).join(" · ");
    // A stream of a WebSocket, or of a plain request, can't be read by others.
    item.querySelector("button").disabled = position === undefined;
  }
}

/** One stream, token by token. */
class Inspected {
  #events = h("ol", { className: "events", tabIndex: 0, ariaLabel: "Events" });
  #last;
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
          announce(error.message);
        }
      });
      return button;
    };
    const actions = h("div", { className: "actions" });
    actions.append(
      act("Pause", () => client.pause(id).then(() => this.view.hold(true))),
      act("Resume", () => client.resume(id).then(() => this.view.hold(false))),
      act("Stop", () => client.cancel(id)),
    );
    this.view.onState = () => {
      for (const button of actions.children) button.disabled = !this.view.live;
    };
    this.element.insertBefore(this.#events, this.element.lastChild);
    this.element.querySelector("header").append(actions); // in sight, however long the answer
  }

  async follow(signal, elapsed) {
    this.view.begin({}, elapsed);
    try {
      const stream = this.client.watch(this.id, { signal });
      for await (const message of watched(this.client, stream, this.view)) {
        this.view.take(message);
        this.#show(message);
      }
    } catch (error) {
      if (signal.aborted) this.view.stopped();
      else {
        this.view.fail(error);
        this.#add("error", `error · ${error.message}`);
      }
    }
  }

  #show({ type, chunk, timestamp, position, ...rest }) {
    if (type === "complete") {
      const { tokens, seconds } = rest;
      this.#add("complete", `complete · ${tokens} tokens in ${duration(seconds)}`, position);
    } else if (chunk.type === "token" || chunk.type === "reasoning") {
      this.#token(chunk, timestamp, position);
    } else {
      this.#add(chunk.type, told(chunk), position);
    }
  }

  #token({ text, confidence }, timestamp, position) {
    const gap = this.#last === undefined ? undefined : timestamp - this.#last;
    this.#last = timestamp;
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

/** A chunk that is no token, in a line. */
function told(chunk) {
  if (chunk.type === "notice") return `${chunk.kind} · ${noticeText(chunk)}`;
  if (chunk.type === "start") {
    return ["start", chunk.model, chunk.provider].filter(Boolean).join(" · ");
  }
  if (chunk.type === "batch") return `${chunk.chunks.length} tokens so far · ${chunk.text}`;
  if (chunk.type === "end") return `end · ${chunk.finishReason}`;
  if (chunk.type === "progress") return progressText(chunk);
  const { type, ...rest } = chunk;
  const parts = Object.entries(rest).map(([name, value]) =>
    `${name} ${typeof value === "number" ? Math.round(value * 100) / 100 : JSON.stringify(value)}`,
  );
  return [type, ...parts].join(" · ");
}

function progressText({ tokens, tokensPerSecond, percentage, remaining }) {
  const parts = [`${tokens} tokens`];
  if (tokensPerSecond !== undefined) parts.push(`${tokensPerSecond.toFixed(1)} a second`);
  if (percentage !== undefined) parts.push(`${Math.round(percentage)} %`);
  if (remaining) parts.push(`${duration(remaining)} left at most`);
  return parts.join(" · ");
}
