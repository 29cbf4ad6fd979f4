/** A room of several people and a model, which answers questions. */

import { announce, remembered, showFailure, submitWithEnter, switchOver } from "./dom.js";
import { showConnection } from "./chat.js";
import { Log, Said } from "./log.js";

const TYPING_SECONDS = 3;
const KNOWN = 200; // messages, more than a history holds

/** @param {import("./rxllm.js").Connection} connection */
export function setUpRoom(connection) {
  const panel = document.getElementById("room");
  const entry = panel.querySelector(".join");
  const form = panel.querySelector(".composer");
  const { text, send } = form.elements;
  const room = new Room(new Log(panel.querySelector(".log")), panel);
  let typing = 0;

  const within = (inside) => {
    const { name, room: place, join, leave } = entry.elements;
    const swap = (inner, outer) => (inside ? { on: inner, off: outer } : { on: outer, off: inner });
    switchOver(swap([text, send], [name, place]));
    switchOver({ ...swap([leave], [join]), hide: true }, inside ? text : name);
    rooms.hidden ||= inside;
    text.readOnly = false;
  };

  function stopTyping() {
    if (!typing) return;
    clearTimeout(typing);
    typing = 0;
    connection.typing(room.name, false);
  }

  function left() {
    clearTimeout(typing);
    typing = 0;
    room.close();
    within(false);
    list();
  }

  entry.elements.name.value = remembered.get("rxllm-name") ?? "";
  const rooms = panel.querySelector(".rooms");
  const list = () => {
    if (connection.connected && !room.name) connection.rooms();
  };
  connection.addEventListener("rooms", ({ detail }) => showRooms(rooms, detail.rooms, choose));
  connection.addEventListener("connected", list);
  panel.addEventListener("shown", () => {
    connection.connect();
    list();
  });

  function choose(name) {
    entry.elements.room.value = name;
    const { name: me, join } = entry.elements;
    (me.value ? join : me).focus();
  }

  showConnection(connection, panel.querySelector(".connection"));

  entry.addEventListener("submit", (event) => {
    event.preventDefault();
    const [name, me] = [entry.elements.room.value.trim(), entry.elements.name.value.trim()];
    if (room.name) {
      if (room.name === name && room.me === me) return; // already joining
      connection.leave(room.name);
      left();
    }
    room.open(name, me);
    remembered.set("rxllm-name", room.me);
    connection.join(room.name, room.me);
  });
  entry.elements.leave.addEventListener("click", () => {
    connection.leave(room.name);
    room.log.event("You left.");
    left();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (!said || !room.inside) return;
    try {
      connection.say(room.name, said);
    } catch (error) {
      showFailure(`Not sent: ${error.message}`);
      return;
    }
    text.value = "";
    room.log.following = true;
    stopTyping();
  });
  submitWithEnter(form);
  text.addEventListener("input", () => {
    if (typing) clearTimeout(typing);
    else connection.typing(room.name, true);
    typing = setTimeout(stopTyping, TYPING_SECONDS * 1000);
  });

  const on = (type, take) =>
    connection.addEventListener(type, ({ detail }) => {
      if (room.name && detail.room === room.name) take(detail);
    });
  on("joined", (message) => {
    if (room.joined(message)) within(true);
  });
  on("left", (message) => {
    const isOut = room.inside && message.name === room.me; // the server has closed the room
    room.left(message);
    if (isOut) left();
  });
  on("typing", (message) => room.typing(message));
  on("chunk", (message) => room.chunk(message));
  on("room_message", (message) => room.said(message));
  connection.addEventListener("status", ({ detail }) => {
    if (detail.status !== "waiting" || !room.inside) return;
    room.lost();
    text.readOnly = true; // keeps the draft and the focus
    switchOver({ on: [], off: [send] }, text);
  });
  on("rejoining", () => room.rejoins());
  connection.addEventListener("complete", ({ detail }) => room.replyEnded(detail));
  connection.addEventListener("error", ({ detail }) => {
    if (room.replyEnded(detail)) return;
    if (!room.name || (detail.room ?? room.name) !== room.name) return;
    if (detail.id && !detail.room) return;
    room.log.event(detail.message, true);
    if (!room.inside) {
      connection.leave(room.name);
      left();
    }
  });
}

/** Show a button for each room, which chooses it.
 * @param {HTMLElement} place @param {{name: string, members: number}[]} listed
 * @param {(name: string) => void} choose */
function showRooms(place, listed, choose) {
  const buttons = listed.map(({ name, members }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${name} (${members})`;
    button.addEventListener("click", () => choose(name));
    return button;
  });
  place.replaceChildren("Rooms: ", ...buttons);
  place.hidden = !buttons.length;
}

/** The state of a room. */
class Room {
  name = "";
  me = "";
  inside = false;
  #rejoining = false;
  #writing = new Set();
  /** Replies of the model, by their ids. @type {Map<string, Said>} */
  #replies = new Map();
  #known = new Set();

  constructor(log, panel) {
    this.log = log;
    this.participants = panel.querySelector(".participants");
    this.writing = panel.querySelector(".typing");
  }

  open(name, me) {
    if (name !== this.name) this.#forget();
    this.name = name;
    this.me = me;
  }

  close() {
    for (const reply of this.#replies.values()) reply.end();
    this.#replies.clear();
    this.name = "";
    this.inside = this.#rejoining = false;
    this.participants.textContent = "";
    this.#write(undefined, false);
  }

  /** Show that its name is still taken in the room, by its lost connection. */
  rejoins() {
    if (!this.#rejoining) this.log.event("Rejoining the room …");
    this.#rejoining = true;
  }

  /** The connection was lost; it rejoins by itself. */
  lost() {
    this.inside = this.#rejoining = false;
    this.participants.textContent = "";
    this.#write(undefined, false);
  }

  #forget() {
    this.log.clear();
    this.#known.clear();
  }

  /** @returns {boolean} whether this page is the one that joined */
  joined({ name, participants, history = [] }) {
    this.#present(participants);
    if (name !== this.me) {
      this.log.event(`${name} joined.`);
      return false;
    }
    this.inside = true;
    for (const message of history) this.#show(message);
    for (const reply of this.#replies.values()) if (reply.live) reply.lose();
    this.log.event(`You are in ${this.name}.`);
    return true;
  }

  left({ name, participants }) {
    this.#present(participants);
    this.#write(name, false);
    this.log.event(`${name} left.`);
  }

  typing({ name, typing }) {
    if (name !== this.me) this.#write(name, typing);
  }

  chunk(message) {
    const reply = this.#reply(message.id);
    if (reply && !reply.live) reply.begin(); // it wasn't lost: it is sent again in full
    reply?.take(message);
  }

  said(message) {
    const { name, text } = message;
    this.#show(message);
    if (name !== this.me) announce(`${name}: ${text}`);
  }

  #show({ id, name, text, bot }) {
    if (bot) {
      this.#reply(id, name)?.replace(text);
      this.#replies.delete(id);
    } else if (!this.#known.has(id)) {
      const mine = name === this.me;
      this.log.add(new Said(name, { mine, plain: text }).element);
      this.#write(name, false);
    }
    this.#known.delete(id);
    this.#known.add(id);
    if (this.#known.size > KNOWN) this.#known.delete(this.#known.values().next().value);
  }

  /** @returns {boolean} whether it was a reply of this room */
  replyEnded({ id, type, message }) {
    const reply = this.#replies.get(id);
    if (!reply) return false;
    reply.end();
    if (type === "error") {
      this.#replies.delete(id);
      this.log.event(`The answer failed: ${message}`, true);
    }
    return true;
  }

  /** The reply with this id, created unless it was already shown. */
  #reply(id, name = "assistant") {
    if (this.#known.has(id) && !this.#replies.has(id)) return undefined;
    if (!this.#replies.has(id)) {
      const reply = new Said(name);
      this.#replies.set(id, reply);
      this.log.add(reply.element);
    }
    return this.#replies.get(id);
  }

  #present(names = []) {
    const shown = names.map((name) => (name === this.me ? `${name} (you)` : name));
    this.participants.textContent = shown.length ? `In the room: ${shown.join(", ")}` : "";
  }

  #write(name, writes) {
    if (name === undefined) this.#writing.clear();
    else if (writes) this.#writing.add(name);
    else this.#writing.delete(name);
    const names = [...this.#writing];
    const verb = names.length === 1 ? "is" : "are";
    this.writing.textContent = names.length ? `${names.join(", ")} ${verb} writing …` : "";
  }
}
