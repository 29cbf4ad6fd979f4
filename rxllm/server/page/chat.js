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
import { Run } from "./rxllm.js";
import { RunView } from "./run_view.js";
import { collectDecisions } from "./tool_card.js";

/** A message in a log. */
export class Said {
  /** What it says and does. */
  run = new Run();
  #view;
  /** @type {HTMLElement | undefined} */
  #lost;

  /** @param {string} who
   * @param {{mine?: boolean, plain?: string,
   *   decide?: (token: string, decision: boolean | string) => void}} [options] `decide`: see
   *   `ToolCard` */
  constructor(who, { mine = false, plain, decide } = {}) {
    const name = h("span", { className: "who", dir: "auto" }, who);
    this.#view = new RunView({ decide });
    this.element = h("div", { className: "said" }, name);
    this.element.classList.toggle("mine", mine);
    if (plain !== undefined) {
      this.element.append(h("div", { className: "text plain", dir: "auto" }, plain));
    } else {
      this.element.append(this.#view.element);
      this.begin();
    }
  }

  get live() {
    return this.element.dataset.state === "streaming";
  }

  /** Start to stream it, from the beginning, or from a run that it continues. @param {Run} [run] */
  begin(run) {
    this.run = run ?? new Run();
    if (run) this.#view.show(run);
    else this.#view.clear();
    this.#lost?.remove();
    this.element.dataset.state = "streaming";
  }

  /** @param {import("./rxllm.js").Message} message */
  take(message) {
    this.run.take(message);
    this.#view.show(this.run);
  }

  /** Show the whole text, unless all of it was received. @param {string} text */
  replace(text) {
    if (this.run.text !== text) {
      this.begin();
      this.run.add({ type: "token", text });
    }
    this.#lost?.remove();
    this.end();
  }

  end() {
    this.#view.show(this.run);
    this.#view.flush();
    delete this.element.dataset.state;
  }

  /** Show another state of its run. @param {Run} run */
  show(run) {
    this.run = run;
    this.#view.show(run);
  }

  /** Ask no longer for decisions about its calls. */
  dismiss() {
    for (const tool of this.run.pending) tool.state = "open";
    this.#view.show(this.run);
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
  /** The last answer. @type {Said | undefined} */
  let last;

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
    last?.dismiss();
  });

  function answer(said) {
    const options = { ...optionsOf(settings), system: system.value.trim() || undefined };
    const decide = collectDecisions(
      () => bubble.run.pending,
      (approvals) => proceed(bubble, approvals, options),
    );
    const bubble = new Said(model.value || "model", { decide });
    last?.dismiss();
    last = bubble;
    log.add(bubble.element);
    wait();
    stream = connection.chat(said, (message) => take(bubble, message), options);
  }

  /** Continue an answer after decisions about its calls. */
  function proceed(bubble, approvals, options) {
    const before = bubble.run;
    let begun = false;
    bubble.begin(before.continued(approvals));
    wait();
    stream = connection.approve(
      approvals,
      (message) => {
        begun ||= message.type === "chunk";
        take(bubble, message);
        if (message.type === "error" && !begun) bubble.show(before); // to be decided again
      },
      options,
    );
  }

  function wait() {
    stop.hidden = false;
    switchOver({ on: [], off: [send] }, text);
  }

  function take(bubble, message) {
    bubble.take(message);
    if (message.type !== "complete" && message.type !== "error") return;
    bubble.end();
    send.disabled = false;
    switchOver({ on: [], off: [stop], hide: true }, text);
    if (message.type === "error") {
      log.event(`${message.message} (${message.code})`, true);
      announce(`The answer failed: ${message.message}`);
    } else {
      const waiting = bubble.run.pending.map(({ name }) => name).join(", ");
      announce(waiting ? `${waiting}: waits for approval` : `Answer: ${bubble.run.text}`);
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
