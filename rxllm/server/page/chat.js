/** A conversation with a model over the WebSocket. The server keeps its history. */

import {
  announce,
  h,
  optionsOf,
  showFailure,
  stopWithEscape,
  submitWithEnter,
  switchOver,
} from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { isRestart, textOf } from "./rxllm.js";

/** A message in a log. */
export class Said {
  #text = h("div", { className: "text", dir: "auto" });
  #markdown = new MarkdownView(this.#text);
  /** @type {HTMLElement | undefined} */
  #lost;

  /** @param {string} who @param {{mine?: boolean, plain?: string}} [options] */
  constructor(who, { mine = false, plain } = {}) {
    const name = h("span", { className: "who", dir: "auto" }, who);
    this.element = h("div", { className: "said" }, name, this.#text);
    this.element.classList.toggle("mine", mine);
    if (plain !== undefined) {
      this.#text.classList.add("plain");
      this.#text.textContent = plain;
    } else {
      this.begin();
    }
  }

  get live() {
    return this.element.dataset.state === "streaming";
  }

  /** Start to stream it, from the beginning. */
  begin() {
    this.#markdown.clear();
    this.#lost?.remove();
    this.element.dataset.state = "streaming";
  }

  /** @param {import("./rxllm.js").Chunk} chunk */
  take(chunk) {
    if (isRestart(chunk)) this.#markdown.clear();
    this.#markdown.append(textOf(chunk));
  }

  /** Show the whole text. @param {string} text */
  replace(text) {
    this.begin();
    this.#markdown.append(text);
    this.end();
  }

  end() {
    this.#markdown.flush();
    delete this.element.dataset.state;
  }

  /** Show that the rest of it was lost. */
  lose() {
    this.end();
    this.#lost = h("p", { className: "event bad" }, "The answer was lost.");
    this.element.append(this.#lost);
  }
}

const LOGGED = 500;

/** A log that stays scrolled to its end, and keeps a limited number of entries. */
export class Log {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.empty = element.querySelector(".empty");
    // Text is rendered in animation frames, after it was added.
    this.following = true;
    element.addEventListener("scroll", () => {
      this.following = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    });
    new MutationObserver(() => {
      if (this.following) element.scrollTop = element.scrollHeight;
    }).observe(element, { childList: true, subtree: true, characterData: true });
  }

  /** Whether nothing was ever added. */
  get untouched() {
    return this.empty?.isConnected ?? false;
  }

  /** @param {Node} node */
  add(node) {
    this.empty?.remove();
    this.element.append(node);
    if (this.element.childElementCount > LOGGED) this.element.firstElementChild.remove();
  }

  clear() {
    this.element.replaceChildren();
  }

  /** Add a line about an event. @param {string} text */
  event(text, bad = false) {
    this.add(h("p", { className: bad ? "event bad" : "event" }, text));
  }
}

/** Show the state of a connection. @param {import("./rxllm.js").Connection} connection */
export function showConnection(connection, element) {
  const texts = { open: "connected", connecting: "connecting …", closed: "not connected" };
  const show = ({ status, delay }) => {
    element.dataset.status = status;
    element.textContent = texts[status] ?? `connection lost, retrying in ${Math.ceil(delay)} s`;
  };
  connection.addEventListener("status", ({ detail }) => show(detail));
  show(connection);
}

/** @param {import("./rxllm.js").Connection} connection */
export function setUpChat(connection) {
  const panel = document.getElementById("chat");
  const form = panel.querySelector(".composer");
  const { text, send, stop } = form.elements;
  const settings = panel.querySelector(".settings");
  const { model, system } = settings.elements;
  const log = new Log(panel.querySelector(".log"));
  let spoken = false; // whether the server keeps a conversation
  /** @type {import("./rxllm.js").SocketStream | undefined} */
  let stream;

  panel.addEventListener("shown", () => connection.connect());
  showConnection(connection, panel.querySelector(".connection"));
  connection.addEventListener("connected", ({ detail }) => {
    if (log.untouched && detail.welcome) log.event(detail.welcome);
  });
  connection.addEventListener("chat_message", () => {
    spoken = true;
  });
  connection.addEventListener("forgotten", () => {
    if (spoken) log.event("The connection was lost, and the server dropped the conversation.");
    spoken = false;
  });

  function answer(said) {
    const bubble = new Said(model.value || "model");
    log.add(bubble.element);
    stop.hidden = false;
    switchOver({ on: [], off: [send] }, text);
    const options = { ...optionsOf(settings), system: system.value.trim() || undefined };
    stream = connection.chat(said, (message) => take(bubble, message), options);
  }

  function take(bubble, message) {
    if (message.type === "chunk") bubble.take(message.chunk);
    if (message.type !== "complete" && message.type !== "error") return;
    bubble.end();
    send.disabled = false;
    switchOver({ on: [], off: [stop], hide: true }, text);
    if (message.type === "error") {
      log.event(`${message.message} (${message.code})`, true);
      announce(`The answer failed: ${message.message}`);
    } else {
      announce(`Answer: ${stream?.text ?? ""}`);
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (!said || send.disabled) return;
    if (!settings.checkValidity()) {
      settings.querySelector("details").open = true; // or the message would have no place
      settings.reportValidity();
      return;
    }
    log.following = true;
    log.add(new Said("you", { mine: true, plain: said }).element);
    text.value = "";
    answer(said);
  });
  submitWithEnter(form);
  settings.addEventListener("submit", (event) => event.preventDefault());

  function end() {
    if (stop.hidden) return;
    try {
      stream?.stop();
    } catch (error) {
      showFailure(`Stop failed: ${error.message}`);
    }
  }

  stopWithEscape(panel, end);
  stop.addEventListener("click", end);
}
