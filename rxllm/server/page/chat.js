/** A conversation with a model over the WebSocket. The server keeps its history. */

import {
  announce,
  optionsOf,
  showFailure,
  stopWithEscape,
  submitWithEnter,
  switchOver,
} from "./dom.js";
import { Log, Said } from "./log.js";
import { collectDecisions } from "./tool_card.js";

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
