/**
 * A client for rxllm servers: streams over HTTP (server-sent events, NDJSON) and over a WebSocket.
 * One module without dependencies, for browsers and for Node 20.3 and later.
 *
 * Server-sent events are read over `fetch`, so that a request may have a body and headers, and
 * parsed as specified in https://html.spec.whatwg.org/multipage/server-sent-events.html. The
 * messages are described by `GET /schema.json`.
 *
 * @typedef {{type: string, source?: string, [field: string]: any}} Chunk
 *   A chunk of a stream: `start`, `token`, `reasoning`, `batch`, `progress`, `notice`, `end`, ...
 * @typedef {{type: string, id?: string, position?: number, timestamp?: number, chunk?: Chunk,
 *   [field: string]: any}} Message
 *   A message of the server: `chunk`, `complete`, `error`, `connected`, `room_message`, ...
 * @typedef {{prompt?: string, messages?: object[], approvals?: Approvals, model?: string,
 *   maxTokens?: number, temperature?: number, topP?: number, stop?: string[], seed?: number}}
 *   StreamRequest Exactly one of `prompt` and `messages`.
 * @typedef {Record<string, boolean | string>} Approvals
 *   Decisions about tool calls that wait, by their tokens: `true`, `false`, or the reason for a no.
 * @typedef {{type: "tool", id: string, name: string, arguments: string, state: string,
 *   output?: any, error?: {type: string, message: string}, token?: string, reason?: string,
 *   run?: Run}} Tool
 *   A call of a tool. Its `state` is `calling` (its arguments arrive), `running` (`output` has what
 *   it has reported so far), `done`, `failed`, `denied`, `waiting` (for a decision about `token`;
 *   `reason` is why it is asked for), or `open`: the stream has ended without its result. `run` is
 *   the stream inside the tool.
 */

/**
 * An error of a request or a stream. `code` is the server's (`rate_limit`, `invalid_message`, ...),
 * or one of this module's:
 * - `connection_lost`: the connection was cut and all `retries` failed; or the stream was lost with
 *   its `Connection`;
 * - `disconnected`: `disconnect()` was called; `cancelled`: `stop()` was called before the request
 *   was sent;
 * - `not_connected`: there is no connection, or the stream hasn't started;
 * - `malformed`: invalid JSON, or a line that is too long;
 * - `truncated`: an NDJSON body ended without its last message;
 * - `http`: a failed response, with this `status`, that isn't the server's own.
 */
export class RxllmError extends Error {
  /** The status of the response, for a refused HTTP request. @type {number | undefined} */
  status;
  /** The invalid field of the request. @type {string | undefined} */
  field;
  /** Seconds to wait, from the server. @type {number | undefined} */
  retryAfter;
  /** The text of the stream so far, if it had started. @type {string | undefined} */
  partial;
  /** The id of the stream, if it had started. @type {string | undefined} */
  id;
  /** Whether the same request may succeed later. */
  retryable = false;

  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, field?: string, retryable?: boolean, retryAfter?: number,
   *   partial?: string, id?: string, cause?: unknown}} [details] `retryAfter` is in seconds.
   */
  constructor(code, message, { cause, ...details } = {}) {
    super(message, { cause });
    this.name = "RxllmError";
    this.code = code;
    Object.assign(this, details);
  }
}

/** @param {Message} failed an `error` message of the server */
const errorOf = ({ code, message, type, ...details }) => new RxllmError(code, message, details);

/** The text that a chunk adds to the answer; "" for all but `token` and `batch`.
 * @param {Chunk} chunk @returns {string} */
export const textOf = (chunk) =>
  chunk.type === "token" || chunk.type === "batch" ? (chunk.text ?? "") : "";

/** True for the notice after which an answer starts over: drop the text before it.
 * @param {Chunk} chunk */
export const isRestart = (chunk) => chunk.type === "notice" && chunk.kind === "restart";

// Runs.

const isText = (type) => type === "token" || type === "reasoning";

/**
 * What a stream has said and done so far: one answer after another, and the calls of tools between
 * them. The stream of a plain model has one answer. A restart takes back the answer under way: what
 * came since the last `end` with `more`, the last final `tool_result` or the last `steering`.
 *
 * The calls of an agent that need an approval are in `pending` at its end. Send the conversation
 * with its `messages` at the end, and `approvals`, and the next stream continues it:
 *
 *     const next = run.continued(approvals);
 *     const messages = [...conversation, ...run.messages];
 *     for await (const message of client.stream({ messages, approvals })) next.take(message);
 */
export class Run {
  /** The text of the answer under way, or of the last one. */
  text = "";
  /** How many pieces of text all answers have. */
  tokens = 0;
  /** The number of the answer under way, or of the last one, from 1. */
  step = 0;
  /** All of it, in order: texts, reasoning, tools, messages of the user, citations and files.
   * @type {({type: string, step: number, source?: string, text?: string, state?: any} | Tool)[]} */
  parts = [];
  #earlier;
  /** Where the answer begins in `parts`. */
  #begin = 0;
  #isClosed = false;
  #hasEnded = false;
  /** How many parts no restart of a source takes back. */
  #lasting = new Map();
  /** The text or reasoning of each source that grows. */
  #passages = new Map();

  /** @param {{parts: object[]}} [earlier] the run that this one continues, as JSON */
  constructor(earlier) {
    this.#earlier = JSON.stringify(earlier?.parts ?? []);
    this.clear();
  }

  /** Drop all but what it continues. */
  clear() {
    this.parts = JSON.parse(this.#earlier);
    for (const part of this.parts) if (part.run) part.run = new Run(part.run);
    this.text = "";
    this.step = this.parts.at(-1)?.step ?? 0;
    this.#begin = this.parts.length;
    this.#isClosed = this.#hasEnded = this.#begin > 0;
    this.#lasting = new Map([[undefined, this.#begin]]);
    this.#passages.clear();
    this.#count();
  }

  /** The calls of tools. @returns {Tool[]} */
  get tools() {
    return /** @type {Tool[]} */ (this.parts.filter(({ type }) => type === "tool"));
  }

  /** The calls that wait for an approval. */
  get pending() {
    return this.tools.filter(({ state }) => state === "waiting");
  }

  /** What it adds to a conversation, as the `messages` of a request. */
  get messages() {
    const answers = [];
    for (const part of this.parts) {
      const last = answers.at(-1);
      const isNext = last?.[0].step !== part.step || part.type === "user" || last[0].type === "user";
      if (isNext) answers.push([part]);
      else last.push(part);
    }
    return answers.flatMap((parts) =>
      messagesOf(parts, parts[0].step < this.step || this.#hasEnded),
    );
  }

  /** The run that continues this one after these decisions. @param {Approvals} approvals */
  continued(approvals) {
    const parts = this.parts.map((part) => {
      if (!Object.hasOwn(approvals, part.token ?? "")) return part;
      const { token, reason, ...tool } = part;
      return { ...tool, state: "running" };
    });
    return new Run({ parts });
  }

  toJSON() {
    return { parts: this.parts };
  }

  /** @param {Message} message of the stream */
  take({ type, chunk, position }) {
    // Without a position, the stream itself begins again, with all of its answers.
    if (type === "chunk" && isRestart(chunk) && !position) this.clear();
    else if (type === "chunk") this.add(chunk);
    else if (type === "complete" || type === "error") this.#settle("open");
  }

  /** @param {Chunk} chunk */
  add(chunk) {
    const { type, source } = chunk;
    if (isText(type) && source === undefined) {
      this.#write(chunk);
      return;
    }
    const outer = this.#callAround(source);
    if (outer) {
      outer.run ??= new Run();
      outer.run.add({ ...chunk, source: source.slice(outer.id.length + 1) || undefined });
    } else if (isText(type)) this.#write(chunk);
    else if (type === "batch") chunk.chunks.forEach((each) => this.#write({ ...each, source }));
    else if (type === "start") this.#beginAnswer();
    else if (type === "tool_call") this.#call(chunk);
    else if (type === "tool_result") this.#receive(chunk);
    else if (type === "approval_request") this.#ask(chunk);
    else if (type === "steering") this.#steer(chunk);
    else if (type === "citation" || type === "file") this.#add({ ...chunk });
    else if (type === "end") this.#end(chunk);
    else if (isRestart(chunk)) this.#restart(source);
  }

  /** The call whose tool runs the stream of this source. */
  #callAround(source) {
    if (source === undefined) return undefined;
    return this.tools.findLast(({ id }) => source === id || source.startsWith(`${id}/`));
  }

  #beginAnswer() {
    if (this.step && !this.#isClosed) return;
    this.step += 1;
    this.text = "";
    this.#begin = this.parts.length;
    this.#isClosed = this.#hasEnded = false;
    this.#passages.clear();
  }

  #add(part) {
    this.#beginAnswer();
    this.parts.push({ ...part, step: this.step });
    return this.parts.at(-1);
  }

  #write({ type, text = "", state, source }) {
    if (!text && state === undefined) return;
    this.#beginAnswer();
    const kind = type === "token" ? "text" : type;
    let part = this.#passages.get(source);
    if (part?.type !== kind) {
      part = this.#add({ type: kind, text: "", tokens: 0, ...(source !== undefined && { source }) });
      this.#passages.set(source, part);
    }
    part.text += text;
    if (kind === "text" && text) {
      part.tokens += 1;
      this.tokens += 1;
      this.text += text;
    }
    if (state !== undefined) {
      part.state = state;
      this.#passages.delete(source);
    }
  }

  #call({ id, name, arguments: text = "", index = 0, complete = false, state, source }) {
    const isIt = (part) =>
      part.type === "tool" && part.id === id && part.index === index && part.source === source;
    let tool = this.parts.slice(this.#begin).find(isIt);
    if (!tool || this.#isClosed) {
      const from = source === undefined ? {} : { source };
      tool = this.#add({ type: "tool", id, name, index, state: "calling", ...from });
      this.#passages.delete(source);
    }
    Object.assign(tool, { name, arguments: text, complete });
    if (state !== undefined) tool.provider = state;
  }

  #receive({ id, name, output, error, preliminary = false, source }) {
    const tool = this.#tool(id) ?? this.#addUnknown(id, name);
    Object.assign(tool, { output, error });
    tool.state = preliminary ? "running" : !error ? "done" : stateOf(error);
    if (!preliminary) this.#keep(source);
  }

  #ask({ id, token, reason }) {
    const tool = this.#tool(id) ?? this.#addUnknown(id, id);
    Object.assign(tool, { state: "waiting", token, reason });
  }

  #steer({ text, source }) {
    this.parts.push({ type: "user", text, step: this.step });
    this.#keep(source);
  }

  #end({ more, source }) {
    this.#hasEnded = true;
    if (more) {
      this.#isClosed = true;
      this.#keep(source);
    }
    this.#settle(more ? "running" : "open");
  }

  #tool(id) {
    return this.tools.findLast((tool) => tool.id === id);
  }

  /** A call of a run that this one continues, but that isn't known here. */
  #addUnknown(id, name) {
    this.parts.push({ type: "tool", id, name, arguments: "", state: "running", step: this.step });
    return this.#tool(id);
  }

  #settle(state) {
    for (const tool of this.tools) {
      if (tool.state === "calling" || (state === "open" && tool.state === "running")) {
        tool.state = state;
      }
      if (state === "open") tool.run?.take({ type: "complete" });
    }
  }

  #keep(source) {
    this.#lasting.set(source, this.parts.length);
  }

  #restart(source) {
    if (this.#isClosed) return; // the next answer hasn't begun
    const kept = this.#lasting.get(source) ?? 0;
    const lasts = (part, index) => index < kept || (source !== undefined && part.source !== source);
    this.parts = this.parts.filter(lasts);
    this.#passages.clear();
    this.#hasEnded = false;
    this.#count();
  }

  #count() {
    const texts = this.parts.filter(({ type }) => type === "text");
    this.tokens = texts.reduce((sum, { tokens }) => sum + tokens, 0);
    if (this.#isClosed) return;
    const answer = texts.filter(({ step }) => step === this.step);
    this.text = answer.map(({ text }) => text).join("");
  }
}

const stateOf = ({ type }) => (type === "DeniedError" ? "denied" : "failed");

/** The messages of an answer and of the results of its calls, or of a message of the user. */
function messagesOf(parts, isComplete) {
  const [first] = parts;
  if (first.type === "user") return [{ role: "user", content: first.text }];
  const calls = parts.filter(({ type, complete }) => type === "tool" && complete);
  const said = parts.filter(
    (part) => part.type === "text" || (part.type === "reasoning" && part.state !== undefined),
  );
  const content = parts.filter(
    (part) => said.includes(part) || (isComplete && calls.includes(part)),
  );
  const behind = [];
  while (content.at(-1)?.type === "tool") behind.unshift(content.pop());
  const isPlain = content.every(({ type, state }) => type === "text" && state === undefined);
  const results = calls.filter(({ state }) => FINAL.has(state));
  const answer = {
    role: "assistant",
    content: isPlain ? content.map(({ text }) => text).join("") : content.map(partOfMessage),
    ...(behind.length && { tool_calls: behind.map(partOfMessage) }),
  };
  const hasAnswer = content.length || behind.length;
  return [...(hasAnswer ? [answer] : []), ...results.map(resultOf)];
}

const FINAL = new Set(["done", "failed", "denied"]);

function partOfMessage({ type, text, state, id, name, index, provider, ...part }) {
  if (type !== "tool") return { type, text, ...(state !== undefined && { state }) };
  // Providers refuse arguments that are no object.
  const given = /^\s*\{/.test(part.arguments) && isJson(part.arguments) ? part.arguments : "{}";
  const call = { type: "tool_call", id, name, arguments: given, index, complete: true };
  return provider === undefined ? call : { ...call, state: provider };
}

function resultOf({ id, output, error }) {
  if (error) {
    const content = `${error.type}: ${error.message}`;
    return { role: "tool", tool_call_id: id, content, is_error: true };
  }
  const content = typeof output === "string" ? output : JSON.stringify(output ?? null);
  return { role: "tool", tool_call_id: id, content };
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Completes the tool calls of one stream: the server sends only what is new of their arguments. */
class Calls {
  #arguments = new Map();

  /** @param {Message} message */
  complete(message) {
    const { chunk, offset = 0 } = message;
    const { source } = chunk;
    if (isRestart(chunk)) {
      for (const [key, call] of this.#arguments) {
        if (source === undefined || call.source === source) this.#arguments.delete(key);
      }
    }
    if (chunk.type !== "tool_call") return;
    const key = JSON.stringify([source, chunk.index, chunk.id]);
    const before = this.#arguments.get(key)?.text.slice(0, offset) ?? "";
    chunk.arguments = before + (chunk.arguments ?? "");
    delete message.offset;
    this.#arguments.set(key, { source, text: chunk.arguments });
  }
}

/**
 * Seconds to wait before the next attempt: random between half of a bound and the bound, which
 * doubles with each attempt up to `cap`. The jitter keeps many clients from reconnecting at once.
 * @param {number} attempt counted from 0
 * @param {{base?: number, cap?: number, random?: () => number}} [options] in seconds
 */
export function backoff(attempt, { base = 0.5, cap = 15, random = Math.random } = {}) {
  return Math.min(cap, base * 2 ** Math.min(attempt, 30)) * (0.5 + random() / 2);
}

// Reading.

/**
 * Decodes bytes to lines, however the bytes are split: partial characters and lines are carried
 * over. A line ends with \n, \r\n or \r; a split \r\n counts once. A byte order mark at the
 * beginning is dropped.
 */
export class LineDecoder {
  #decoder = new TextDecoder();
  #carry = "";
  #afterReturn = false;

  /** @param {number} [limit] maximum length of a line, in UTF-16 units */
  constructor(limit = 16 * 2 ** 20) {
    this.limit = limit;
  }

  /** @param {Uint8Array} bytes @returns {string[]} the lines that these bytes complete */
  feed(bytes) {
    return this.#lines(this.#decoder.decode(bytes, { stream: true }));
  }

  /** The text after the last line end. @returns {string} */
  rest() {
    return this.#carry + this.#decoder.decode();
  }

  #lines(text) {
    if (this.#afterReturn && text) {
      if (text[0] === "\n") text = text.slice(1);
      this.#afterReturn = false;
    }
    const lines = text.split(/\r\n|\n|\r/);
    if (text.endsWith("\r")) this.#afterReturn = true;
    lines[0] = this.#carry + lines[0];
    this.#carry = lines.pop() ?? "";
    if (this.#carry.length > this.limit) {
      throw new RxllmError("malformed", `a line exceeds ${this.limit} characters`);
    }
    return lines;
  }
}

/** Decodes lines to server-sent events. Events without data and comments are dropped. */
export class EventDecoder {
  /** The last event id received. */
  lastEventId = "";
  /** The reconnection delay from the server, in seconds. @type {number | undefined} */
  retry = undefined;
  #event = "";
  #id = "";
  /** @type {string[]} */
  #data = [];

  /** @param {string} line @returns {{event: string, data: string, id: string} | undefined} */
  feed(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value) / 1000;
    return undefined;
  }

  #dispatch() {
    this.lastEventId = this.#id;
    const data = this.#data;
    const event = this.#event || "message";
    this.#data = [];
    this.#event = "";
    return data.length ? { event, data: data.join("\n"), id: this.lastEventId } : undefined;
  }
}

/** Calls `lost` once a wait has taken `seconds`. If timers are delayed, as in a hidden tab or after
 * the computer slept, there may be unread data: then the timer waits once more. */
class SilenceTimer {
  #since = Infinity;
  #spared = false;
  #looked = Date.now();
  #timer;

  constructor(seconds, lost) {
    this.limit = seconds * 1000;
    this.lost = lost;
    if (seconds < Infinity) this.#timer = setInterval(() => this.#look(), this.limit / 4);
  }

  /** Only time in here counts: the pauses of a slow reader don't. */
  async wait(promise) {
    this.#since = Date.now();
    try {
      return await promise;
    } finally {
      this.#since = Infinity;
      this.#spared = false;
    }
  }

  #look() {
    const now = Date.now();
    const late = now - this.#looked > 1.5 * (this.limit / 4);
    this.#looked = now;
    if (now - this.#since < this.limit) return;
    if (late && !this.#spared) {
      this.#spared = true;
      this.#since = now;
    } else this.lost();
  }

  end() {
    clearInterval(this.#timer);
  }
}

/** The lines of a body. Leaving the loop early closes the connection, as do `silence` seconds
 * without a byte, after which the body ends.
 * @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<string>} */
async function* readLines(body, { withRest = false, silence = Infinity } = {}) {
  const reader = body.getReader();
  const decoder = new LineDecoder();
  const timer = new SilenceTimer(silence, () => reader.cancel().catch(() => {}));
  try {
    for (;;) {
      const { done, value } = await timer.wait(reader.read());
      if (done) break;
      yield* decoder.feed(value);
    }
    const rest = decoder.rest();
    if (withRest && rest) yield rest;
  } finally {
    timer.end();
    await reader.cancel().catch(() => {}); // if it failed, that was already reported
  }
}

/** The events of a body of server-sent events. An incomplete last event is dropped.
 * @param {ReadableStream<Uint8Array>} body
 * @param {EventDecoder} [decoder] a new decoder for each body, whose `retry` the caller can read
 * @param {{silence?: number}} [options] `silence`: seconds without a byte (comments count) after
 *   which the body counts as cut; unlimited by default */
export async function* readEvents(body, decoder = new EventDecoder(), { silence } = {}) {
  for await (const line of readLines(body, { silence })) {
    const event = decoder.feed(line);
    if (event) yield event;
  }
}

/** The objects of an NDJSON body.
 * @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<any>}
 * @throws {RxllmError} `malformed`: a line is invalid JSON */
export async function* readNdjson(body) {
  for await (const line of readLines(body, { withRest: true })) {
    if (line.trim()) yield parse(line);
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RxllmError("malformed", `invalid JSON: ${text.slice(0, 80)}`, { cause });
  }
}

/** Encode as JSON. Servers reject lone UTF-16 surrogates, so these are replaced with U+FFFD.
 * @param {unknown} message */
const encoded = (message) =>
  JSON.stringify(message, (_, value) =>
    typeof value === "string" ? (value.toWellFormed?.() ?? value) : value,
  );

/** @param {number} seconds @param {AbortSignal} [signal] */
function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve(undefined);
    }, seconds * 1000);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

// HTTP.

/**
 * An HTTP client of a server.
 *
 *     for await (const chunk of new Client().stream({ prompt: "Hello" }).chunks()) {
 *       console.log(textOf(chunk));
 *     }
 *
 * All methods reject with an `RxllmError` if the server refuses the request, with a `TypeError` of
 * `fetch` if it can't be reached, and with the reason of the signal if that is aborted. A request
 * has no time limit by default: set one with `{ signal: AbortSignal.timeout(5000) }`.
 */
export class Client {
  /**
   * @param {{base?: string, key?: string, fetch?: typeof globalThis.fetch,
   *   retries?: number, silence?: number,
   *   backoff?: {base?: number, cap?: number, random?: () => number}}} [options]
   *   `base` is the URL of the server (by default that of this page), `key` its API key. A stream
   *   that was cut is resumed, with up to `retries` attempts in a row without new messages, and
   *   pauses between them set by `backoff`, in seconds. A connection counts as cut after `silence`
   *   seconds without a byte (the server sends a comment every 15 seconds), and an attempt to
   *   resume fails after the same time without a response; Infinity turns both off.
   */
  constructor({ base = "", key, fetch, retries = 8, silence = 40, backoff = {} } = {}) {
    this.base = base.replace(/\/$/, "");
    this.key = key;
    this.retries = retries;
    this.silence = silence;
    this.backoff = backoff;
    this.fetch = fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /** Send a request, and return a successful response.
   * @param {string} path @param {RequestInit & {json?: unknown}} [init]
   * @returns {Promise<Response>}
   * @throws {RxllmError} with the status, and the code of the response if it has one */
  async request(path, { json, ...init } = {}) {
    const headers = new Headers(init.headers);
    if (this.key) headers.set("Authorization", `Bearer ${this.key}`);
    if (json !== undefined) headers.set("Content-Type", "application/json");
    const body = json === undefined ? init.body : encoded(json);
    const response = await this.fetch(this.base + path, { ...init, headers, body });
    if (!response.ok) throw await failure(response);
    return response;
  }

  /** @returns {Promise<any>} */
  async #json(path, init) {
    return parse(await (await this.request(path, init)).text());
  }

  /** List the models: `{models, defaultModel}`. @param {{signal?: AbortSignal}} [options] */
  models({ signal } = {}) {
    return this.#json("/models", { signal });
  }

  /** List the streams. @param {{signal?: AbortSignal}} [options] */
  async streams({ signal } = {}) {
    const listed = await this.#json("/streams", { signal });
    return Array.isArray(listed) ? listed : listed.streams;
  }

  /** Generate a whole answer: `{text, tokens, seconds, ...}`.
   * @param {StreamRequest} request @param {{signal?: AbortSignal}} [options] */
  generate(request, { signal } = {}) {
    return this.#json("/generate", { method: "POST", json: request, signal });
  }

  /** Start a stream. It outlives its connection for a while, and is resumed if that is cut.
   * @param {StreamRequest} request @param {{signal?: AbortSignal}} [options] */
  stream(request, { signal } = {}) {
    return new HttpStream(this, { request, signal });
  }

  /** Read a stream that was started elsewhere, from its beginning or after a position.
   * @param {string} id
   * @param {{after?: number, signal?: AbortSignal}} [options] `after`: the last position seen */
  watch(id, { after, signal } = {}) {
    return new HttpStream(this, { id, after, signal });
  }

  /** Stream messages as NDJSON, the last one with the whole text. The stream can't be resumed.
   * @param {StreamRequest} request @param {{signal?: AbortSignal}} [options]
   * @returns {AsyncGenerator<Message>} */
  async *ndjson(request, { signal } = {}) {
    const init = { method: "POST", json: request, signal };
    const { body } = await this.request("/api/stream", init);
    const calls = new Calls();
    const run = new Run();
    let cause;
    try {
      for await (const line of readLines(body)) {
        if (!line.trim()) continue;
        const message = parse(line);
        if (message.type === "error") throw errorOf(message);
        if (message.type === "chunk") {
          calls.complete(message);
          run.take(message);
        }
        yield message;
        if (message.type === "complete") return;
      }
    } catch (error) {
      if (signal?.aborted || error instanceof RxllmError) throw error;
      cause = error; // the connection was cut
    }
    const message = "the stream ended without its last message";
    throw new RxllmError("truncated", message, { partial: run.text, cause });
  }

  /** @param {string} id @param {{signal?: AbortSignal}} [options] */
  async cancel(id, { signal } = {}) {
    await this.request(`/streams/${encodeURIComponent(id)}`, { method: "DELETE", signal });
  }

  /** @param {string} id @param {{signal?: AbortSignal}} [options] */
  async pause(id, { signal } = {}) {
    await this.request(`/streams/${encodeURIComponent(id)}/pause`, { method: "POST", signal });
  }

  /** @param {string} id @param {{signal?: AbortSignal}} [options] */
  async resume(id, { signal } = {}) {
    await this.request(`/streams/${encodeURIComponent(id)}/resume`, { method: "POST", signal });
  }
}

/** @param {Response} response */
async function failure(response) {
  const details = { status: response.status, retryable: response.status >= 500 };
  const after = Number(response.headers.get("Retry-After") ?? NaN);
  if (Number.isFinite(after)) Object.assign(details, { retryAfter: after });
  const text = await response.text().catch(() => "");
  try {
    const failed = JSON.parse(text);
    if (failed.code) return errorOf({ ...details, ...failed });
  } catch {} // the response isn't the server's own
  return new RxllmError("http", `${response.status} ${response.statusText}`.trim(), details);
}

/**
 * A stream over HTTP, read once: `for await (const message of stream) ...`
 *
 * The loop ends after `complete`, and throws on `error`. If the connection is cut, the stream is
 * resumed by `GET /stream/{id}` with `Last-Event-ID`, without gaps or repeats. The first request is
 * never repeated, since that could call the model twice. Leaving the loop or aborting the signal
 * closes the connection; the server ends the stream once nobody has read it for a while. `stop()`
 * ends it at once.
 */
export class HttpStream {
  /** The position of the last message, counted from 1; 0 before the first one. */
  position = 0;
  /** What it has said and done so far. */
  run = new Run();
  /** How often it was resumed. */
  resumed = 0;
  /** Called when the connection was cut, before each attempt to resume. */
  onResume = () => {};
  #calls = new Calls();
  #client;
  #request;
  #signal;
  /** Aborts the current connection. @type {AbortController | undefined} */
  #connection;
  /** The last control request. @type {Promise<void> | undefined} */
  #control;
  #isInterrupted = false;

  /** @param {Client} client
   * @param {{request?: StreamRequest, id?: string, after?: number, signal?: AbortSignal}} what */
  constructor(client, { request, id, after, signal }) {
    this.#client = client;
    this.#request = request;
    this.#signal = signal;
    /** Known once the server has responded. @type {string | undefined} */
    this.id = id;
    if (after) this.position = after;
  }

  /** The text of the answer so far; see `Run`. */
  get text() {
    return this.run.text;
  }

  stop() {
    return this.#send((id) => this.#client.cancel(id));
  }

  pause() {
    return this.#send((id) => this.#client.pause(id));
  }

  resume() {
    return this.#send((id) => this.#client.resume(id));
  }

  /** Send a control request, in place of the connection that the stream is read from: a browser
   * opens at most six to a server, and if all of them read streams, the request would wait for
   * their ends. The stream is then read on from its position. */
  #send(control) {
    const sent = control(this.#known());
    this.#control = sent.catch(() => {});
    this.#isInterrupted = this.#connection !== undefined;
    this.#connection?.abort();
    return sent;
  }

  #known() {
    if (!this.id) throw new RxllmError("not_connected", "the stream hasn't started yet");
    return this.id;
  }

  /** Iterate over the chunks instead of the messages.
   * @returns {AsyncGenerator<Chunk>} */
  async *chunks() {
    for await (const { type, chunk } of this) if (type === "chunk") yield chunk;
  }

  /** @returns {AsyncGenerator<Message>} */
  async *[Symbol.asyncIterator]() {
    const { silence } = this.#client;
    let retry;
    for (let failures = 0; ; ) {
      const before = this.position;
      const decoder = new EventDecoder(); // drops an incomplete event of the last connection
      let cause;
      try {
        await this.#control;
        const response = await this.#open();
        if (response.status === 204) return; // there is nothing after this position
        for await (const event of readEvents(response.body, decoder, { silence })) {
          const message = this.#take(event);
          if (!message) continue;
          yield message;
          if (message.type === "complete") return;
        }
      } catch (error) {
        if (this.#signal?.aborted || !this.#mayResume(error)) throw this.#detailed(error);
        cause = error;
      }
      if (this.#isInterrupted) {
        this.#isInterrupted = false;
        continue;
      }
      retry = decoder.retry ?? retry;
      failures = this.position > before ? 1 : failures + 1;
      if (failures > this.#client.retries) throw this.#lost(cause);
      const asked = retry ? { base: retry } : {};
      const pause = backoff(failures - 1, { ...asked, ...this.#client.backoff });
      this.resumed += 1;
      this.onResume();
      await sleep(Math.max(pause, cause?.retryAfter ?? 0), this.#signal);
    }
  }

  async #open() {
    const headers = { Accept: "text/event-stream" };
    if (this.id) return this.#openAgain(headers);
    const { signal } = this.#connect();
    const init = { method: "POST", json: this.#request, headers, signal };
    const response = await this.#client.request("/stream", init);
    this.id = response.headers.get("X-Stream-Id") ?? undefined;
    return response;
  }

  async #openAgain(headers) {
    if (this.position) headers["Last-Event-ID"] = String(this.position);
    const { signal, abort } = this.#connect();
    const timer = new SilenceTimer(this.#client.silence, () =>
      abort(new DOMException("no answer", "TimeoutError")),
    );
    const path = `/stream/${encodeURIComponent(this.id)}`;
    try {
      return await timer.wait(this.#client.request(path, { headers, signal }));
    } finally {
      timer.end();
    }
  }

  #connect() {
    const connection = new AbortController();
    this.#connection = connection;
    const signals = [connection.signal, ...(this.#signal ? [this.#signal] : [])];
    return {
      signal: AbortSignal.any(signals),
      abort: (reason) => connection.abort(reason),
    };
  }

  /** @param {{data: string, id: string}} event @returns {Message | undefined} */
  #take({ data, id }) {
    const message = parse(data);
    const position = message.position ?? Number(id || NaN);
    // At position 0 a restart: the server has another stream under this id.
    if (position === 0 && isRestart(message.chunk)) this.position = 0;
    else if (position <= this.position) return undefined;
    if (position) this.position = position;
    this.id ??= message.id;
    if (message.type === "chunk") this.#calls.complete(message);
    this.run.take(message);
    if (message.type === "error") throw errorOf(message);
    return message;
  }

  #mayResume(error) {
    if (!this.id) return false;
    if (!(error instanceof RxllmError)) return true; // a network error
    return error.status !== undefined && (error.status >= 500 || error.status === 429);
  }

  /** Add the id and the partial text of a started stream to an error. */
  #detailed(error) {
    if (this.id && error instanceof RxllmError) {
      error.id ??= this.id;
      error.partial ??= this.text;
    }
    return error;
  }

  #lost(cause) {
    return new RxllmError("connection_lost", "the connection was lost and could not be resumed", {
      partial: this.text,
      id: this.id,
      cause,
    });
  }
}

// WebSocket.

const MESSAGE_REFUSED = new Set([1008, 1009]); // RFC 6455, 7.4.1: policy violation, too big
const FRUITLESS_RESTARTS = 5;
const REJOIN_PAUSE = 2; // maximum, in seconds
const SESSIONS_TRIED = 4;
const POSITIONS = 200; // the most that a `reconnect` may name

/** Whether this may be the answer to a `reconnect`: an error about no stream and no room. */
const isRefusal = ({ type, id, room }) => type === "error" && id === undefined && room === undefined;

/** A timer's delay in milliseconds. A timer with a longer delay would fire at once. */
const delayOf = (seconds) => Math.min(seconds * 1000, 2 ** 31 - 1);

/**
 * A connection to `/ws` for many streams, a chat and rooms.
 *
 * Each message of the server is dispatched as an event of its `type` (`detail` is the message):
 * `connected`, `chunk`, `complete`, `error`, `chat_message`, `room_message`, `joined`, ... A
 * `status` event reports the state of the connection: `{status, delay?, attempt?}`, with the values
 * of `status` below; `delay` is the pause before the next attempt, in seconds, `attempt` its
 * number, counted from 1. An exception of a listener or an `onMessage` is reported as an uncaught
 * error, and doesn't affect others.
 *
 * A lost connection is re-established automatically, after a growing, random pause, with at most
 * one pending attempt, until `disconnect()`. Then
 * - rooms are joined again (the server sends their history with `joined`). Until the server notices
 *   the loss, the old connection still holds the name, and of several servers the old one still has
 *   the room (`room_elsewhere`): the client retries for `rejoinFor` seconds, each time with a
 *   `rejoining` event (`{room, name, delay}`) instead of an `error`;
 * - streams and the chat continue (`reconnected`), if the client is back within the server's grace
 *   period. If several servers share them, and their store is away, the client asks again for
 *   `rejoinFor` seconds;
 * - otherwise the server has dropped them (`forgotten`): each stream fails with `connection_lost`
 *   and its partial text, or, with `onLost: "restart"`, is requested again after a `notice` of kind
 *   `restart`. It still fails after five restarts in a row without output, and if the server closed
 *   the connection because of a message (1008, 1009), which isn't sent again.
 *
 * A browser can't set the headers of a WebSocket. If the server required a key for the page, the
 * browser also sends that key here.
 */
export class Connection extends EventTarget {
  /** `waiting` for the next attempt. @type {"connecting" | "open" | "waiting" | "closed"} */
  status = "closed";
  /** The server's first message. @type {Message | undefined} */
  connected = undefined;
  #socket;
  #timer;
  #heartbeat;
  #heard = 0;
  #beaten = 0;
  #pinged = 0;
  #unanswered = 0;
  #openedAt = 0;
  #attempt = 0;
  #number = 0;
  /** The sessions that the server may keep, oldest first. @type {string[]} */
  #sessions = [];
  /** How many of them are left to try. @type {number | undefined} */
  #untried;
  /** How often a session was asked for again, and until when (in ms) it is. */
  #asked = 0;
  #until = 0;
  #streams = new Map();
  /** @type {Map<string, {name: string, joined: boolean, until: number, attempt: number,
   *   timer?: any}>} */
  #rooms = new Map();

  /**
   * @param {{url?: string, heartbeat?: number, stableAfter?: number, rejoinFor?: number,
   *   backoff?: {base?: number, cap?: number, random?: () => number},
   *   WebSocket?: typeof globalThis.WebSocket}} [options] `url`: the URL of the socket, with http
   *   or ws, or relative to this page; `/ws` by default. `heartbeat`: seconds of silence after
   *   which a ping is sent; after as long again without a reply, the connection counts as lost (if
   *   timers are delayed, as in a hidden tab, only after a second ping). A connection also counts
   *   as lost if `connected` isn't received within twice that time. `backoff`: the pause before
   *   reconnecting, in seconds; it restarts from `base` after a connection that lasted for
   *   `stableAfter` seconds. `rejoinFor`: see above, in seconds.
   * @throws {TypeError} `url` is invalid, or there is no WebSocket, as in Node before version 22:
   *   pass the one of the package `ws`
   */
  constructor({ url, heartbeat = 25, stableAfter = 5, rejoinFor = 30, backoff, WebSocket } = {}) {
    super();
    this.url = new URL(url ?? "/ws", globalThis.location?.href).href.replace(/^http/, "ws");
    if (!/^wss?:/.test(this.url)) throw new TypeError(`not the URL of a WebSocket: ${url}`);
    this.heartbeat = heartbeat;
    this.stableAfter = stableAfter;
    this.rejoinFor = rejoinFor;
    this.backoff = backoff ?? {};
    this.WebSocket = WebSocket ?? globalThis.WebSocket;
    if (!this.WebSocket) {
      throw new TypeError("there is no WebSocket here: pass one, such as that of the package ws");
    }
  }

  /** Connect, unless already connected or connecting. */
  connect() {
    if (this.status === "open" || this.status === "connecting") return;
    const socket = new this.WebSocket(this.url); // throws if the browser forbids the URL
    this.#cancelTimer();
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(), delayOf(2 * this.heartbeat));
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(parse(data));
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket === socket) this.#lost(code, reason);
    };
    this.#set("connecting");
  }

  /** Close the connection for good. Its streams are stopped, or end with the server's grace period
   * if there is no connection now; here they fail with `disconnected`. */
  disconnect() {
    if (this.connected) {
      for (const stream of this.#streams.values()) if (stream.begun) stream.stop();
    }
    this.#close();
    this.#sessions = [];
    this.#rooms.clear();
    this.#attempt = 0;
    this.#set("closed");
    for (const stream of [...this.#streams.values()]) {
      stream.fail(new RxllmError("disconnected", "the connection was closed", partOf(stream)));
    }
  }

  /**
   * Start a stream, as soon as there is a connection. `onMessage` receives each message of the
   * stream, and an `error` message if it fails here.
   * @param {StreamRequest} request
   * @param {(message: Message) => void} [onMessage]
   * @param {{onLost?: "fail" | "restart"}} [options] `onLost`: see above
   * @returns {SocketStream}
   */
  start(
    { prompt, messages, approvals, ...options },
    onMessage = () => {},
    { onLost = "fail" } = {},
  ) {
    const message = { type: "start", id: this.#newId(), prompt, messages, approvals, options };
    return this.#begin(message, onMessage, onLost);
  }

  /** Send a message to the chat of this connection. The stream is the answer.
   * @param {string} text @param {(message: Message) => void} [onMessage]
   * @param {StreamRequest & {system?: string}} [options] without `prompt` and `messages`; `system`:
   *   the system prompt, in place of the server's */
  chat(text, onMessage = () => {}, { system, ...options } = {}) {
    const message = { type: "chat", id: this.#newId(), text, system, options };
    return this.#begin(message, onMessage, "fail");
  }

  /** Decide about the calls that wait in the last answer of the chat. The stream continues it.
   * @param {Approvals} approvals @param {(message: Message) => void} [onMessage]
   * @param {StreamRequest & {system?: string}} [options] as for `chat` */
  approve(approvals, onMessage = () => {}, { system, ...options } = {}) {
    const message = { type: "chat", id: this.#newId(), approvals, system, options };
    return this.#begin(message, onMessage, "fail");
  }

  #begin(message, onMessage, onLost) {
    const forget = () => this.#streams.delete(message.id);
    const stream = new SocketStream(
      () => this.connected !== undefined && this.#untried === undefined,
      (sent) => this.send(sent),
      message,
      onMessage,
      onLost,
      forget,
    );
    this.#streams.set(message.id, stream);
    if (!this.connected) this.connect();
    else if (this.#untried === undefined) stream.begin();
    return stream;
  }

  /** Join a room, and rejoin it after each loss of the connection. @param {string} room
   * @param {string} name */
  join(room, name) {
    this.#forgetRoom(room);
    this.#rooms.set(room, { name, joined: false, until: 0, attempt: 0 });
    if (this.connected) this.send({ type: "join", room, name });
    else this.connect();
  }

  /** @param {string} room */
  leave(room) {
    this.#forgetRoom(room);
    if (this.connected) this.send({ type: "leave", room });
  }

  #forgetRoom(room) {
    clearTimeout(this.#rooms.get(room)?.timer);
    this.#rooms.delete(room);
  }

  /** @param {string} room @param {string} text
   * @param {StreamRequest & {system?: string}} [options] of the answer, as for `chat` */
  say(room, text, { system, ...options } = {}) {
    this.send({ type: "say", room, text, system, options });
  }

  /** @param {string} room @param {boolean} typing */
  typing(room, typing) {
    if (this.connected) this.send({ type: "typing", room, typing });
  }

  /** Request the models, which arrive as a `models` event. */
  models() {
    this.send({ type: "models" });
  }

  /** Request the rooms, which arrive as a `rooms` event. */
  rooms() {
    this.send({ type: "rooms" });
  }

  /** @param {object} message @throws {RxllmError} `not_connected` */
  send(message) {
    if (!this.connected || !this.#socket) {
      throw new RxllmError("not_connected", "not connected to the server");
    }
    this.#socket.send(encoded(message));
  }

  #newId() {
    this.#number += 1;
    return `${this.#number}-${Math.random().toString(36).slice(2, 8)}`;
  }

  #receive(message) {
    this.#heard = Date.now();
    this.#unanswered = 0;
    if (message.type === "connected" && !this.#greeted(message)) return;
    if (message.type === "joined") this.#joined(message);
    if (message.type === "left") this.#left(message);
    if (message.type === "error" && this.#rejoins(message)) return;
    if (message.type === "reconnected") this.#resolveSession(message.session);
    if (this.#untried !== undefined && isRefusal(message)) {
      const mayPass = message.code === "store_unavailable" && Date.now() < this.#until;
      if (mayPass) this.#reconnectLater();
      else this.#reconnect();
      return;
    }
    const stream = this.#streams.get(message.id);
    if (stream?.begun && message.type === "error" && message.code === "stream_not_found") {
      stream.lost();
      if (!stream.begun) stream.begin();
      return;
    }
    stream?.take(message);
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
  }

  /** @returns {boolean} whether the connection is still open, after the listeners ran */
  #greeted(message) {
    const socket = this.#socket;
    this.#cancelTimer();
    this.connected = message;
    this.#openedAt = this.#beaten = Date.now();
    this.#heartbeat = setInterval(() => this.#beat(), delayOf(this.heartbeat));
    this.#untried = this.#sessions.length || undefined;
    this.#until = Date.now() + this.rejoinFor * 1000;
    this.#asked = 0;
    if (this.#untried) this.#reconnect(); // before a listener can send anything
    this.#set("open");
    if (this.#socket !== socket) return false;
    for (const [room, entry] of this.#rooms) {
      const until = entry.joined ? Date.now() + this.rejoinFor * 1000 : 0;
      Object.assign(entry, { until, attempt: 0 });
      this.send({ type: "join", room, name: entry.name });
    }
    if (this.#untried === undefined) this.#resolveSession();
    return true;
  }

  /** Request the newest session left to try: the server may not have kept the latest ones. */
  #reconnect() {
    this.#cancelTimer();
    if (!this.#untried) {
      for (const stream of [...this.#streams.values()]) stream.lost();
      this.#resolveSession();
      this.dispatchEvent(new CustomEvent("forgotten"));
      return;
    }
    this.#untried -= 1;
    const begun = [...this.#streams.values()].filter((stream) => stream.begun);
    const positions = begun.slice(-POSITIONS).map(({ id, position }) => [id, position]);
    this.send({
      type: "reconnect",
      session: this.#sessions[this.#untried],
      positions: Object.fromEntries(positions),
    });
  }

  /** Request the same session again: the store that several servers share is away for now. */
  #reconnectLater() {
    const delay = this.#pause(this.#asked);
    this.#asked += 1;
    this.#untried += 1;
    this.#timer = setTimeout(() => this.#reconnect(), delay * 1000);
  }

  /** @param {number} attempt @returns {number} the seconds before a server is asked once more */
  #pause(attempt) {
    const { cap = REJOIN_PAUSE } = this.backoff;
    return backoff(attempt, { ...this.backoff, cap: Math.min(cap, REJOIN_PAUSE) });
  }

  /**
   * From now on, the session of this connection is the one to continue, and streams may begin.
   * @param {string} [session] its secret, if it isn't that of `connected`
   */
  #resolveSession(session = this.connected?.session) {
    if (!this.connected) return;
    this.#cancelTimer();
    this.#untried = undefined;
    this.#sessions = session ? [session] : [];
    for (const stream of this.#streams.values()) stream.begin();
  }

  #joined({ room, name }) {
    const entry = this.#rooms.get(room);
    if (entry?.name === name) Object.assign(entry, { joined: true, until: 0 });
  }

  /** The server has closed the room: it isn't joined again. */
  #left({ room, name }) {
    const entry = this.#rooms.get(room);
    if (entry?.name === name && entry.joined) this.#forgetRoom(room);
  }

  /** Whether to retry after this refusal: the name, or the room, may be free in a moment. */
  #rejoins({ room, field, code }) {
    const entry = this.#rooms.get(room);
    const mayPass = field === "name" || code === "room_elsewhere";
    if (!entry || !mayPass || Date.now() >= entry.until) return false;
    const delay = this.#pause(entry.attempt);
    entry.attempt += 1;
    const { name } = entry;
    entry.timer = setTimeout(() => this.send({ type: "join", room, name }), delay * 1000);
    this.dispatchEvent(new CustomEvent("rejoining", { detail: { room, name, delay } }));
    return true;
  }

  #beat() {
    if (!this.#socket) return;
    const now = Date.now();
    const most = 0.9 * this.heartbeat * 1000; // timers may fire a little early
    // After a sleep, the reply may not have been read yet.
    const late = now - this.#beaten > 1.5 * this.heartbeat * 1000;
    this.#beaten = now;
    if (this.#unanswered >= (late ? 2 : 1)) {
      if (now - this.#pinged >= most) this.#lost();
    } else if (late || now - this.#heard >= most) {
      this.#unanswered += 1;
      this.#pinged = now;
      this.send({ type: "ping" });
    }
  }

  #lost(code = 0, reason = "") {
    const held = this.connected && (Date.now() - this.#openedAt) / 1000 >= this.stableAfter;
    if (this.#untried !== undefined && this.connected?.session) {
      const [first, ...later] = [...this.#sessions, this.connected.session];
      this.#sessions = [first, ...later.slice(1 - SESSIONS_TRIED)]; // the first has the streams
    }
    this.#close();
    if (held) this.#attempt = 0;
    const delay = backoff(this.#attempt, this.backoff);
    this.#attempt += 1;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.connect();
    }, delay * 1000);
    this.#set("waiting", { delay, attempt: this.#attempt });
    const refused = MESSAGE_REFUSED.has(code) ? reason || `closed with ${code}` : undefined;
    for (const stream of [...this.#streams.values()]) {
      const isLost = !this.#sessions.length || (refused && !stream.position);
      if (isLost) stream.lost(refused);
    }
  }

  #close() {
    this.#cancelTimer();
    clearInterval(this.#heartbeat);
    this.#unanswered = 0;
    this.#untried = undefined;
    for (const { timer } of this.#rooms.values()) clearTimeout(timer);
    const socket = this.#socket;
    this.#socket = undefined;
    this.connected = undefined;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #cancelTimer() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #set(status, details = {}) {
    this.status = status;
    this.dispatchEvent(new CustomEvent("status", { detail: { status, ...details } }));
  }
}

const partOf = ({ id, text }) => ({ id, partial: text });

/** A stream on a `Connection`. `done` resolves to its `complete` message, or rejects. */
export class SocketStream {
  /** What it has said and done so far. */
  run = new Run();
  /** The position of the last message, 0 before the first one. For the connection. */
  position = 0;
  #calls = new Calls();
  #isOpen;
  /** What to do once there is a connection. @type {"stop" | "pause" | "resume" | undefined} */
  #wanted = undefined;
  #send;
  #message;
  #onMessage;
  #onLost;
  #forget;
  #begun = false;
  #ended = false;
  #fruitless = 0;
  #resolve;
  #reject;

  constructor(isOpen, send, message, onMessage, onLost, forget) {
    this.#isOpen = isOpen;
    this.#send = send;
    this.#message = message;
    this.#onMessage = onMessage;
    this.#onLost = onLost;
    this.#forget = forget;
    this.id = message.id;
    /** @type {Promise<Message>} */
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => {}); // if `done` isn't used, `onMessage` has received the error
  }

  /** The text of the answer so far; see `Run`. */
  get text() {
    return this.run.text;
  }

  /** Stop it: its last `chunk` is `end`, with `cancelled`. Before it was sent, it fails. While there
   * is no connection, it is stopped once there is one again. */
  stop() {
    if (this.#begun) this.#control("stop");
    else this.#cancel("stopped before it started");
  }

  /** Pause it. Without a connection, it is paused as soon as there is one. */
  pause() {
    this.#control("pause");
  }

  /** Resume it, as for `pause`. */
  resume() {
    this.#control("resume");
  }

  /** @param {"stop" | "pause" | "resume"} type */
  #control(type) {
    if (this.#begun && this.#isOpen()) this.#send({ type, id: this.id });
    else if (this.#wanted !== "stop") this.#wanted = type;
  }

  /** Whether it was requested. For the connection. */
  get begun() {
    return this.#begun;
  }

  /** Called by the connection when it is open. */
  begin() {
    if (!this.#begun) {
      this.#begun = true;
      this.#send(this.#message);
    }
    const wanted = this.#wanted;
    this.#wanted = undefined;
    if (wanted) this.#control(wanted);
  }

  /** Called by the connection when it was lost; `refused` is the reason if the server closed it
   * because of a message. @param {string} [refused] */
  lost(refused) {
    if (!this.#begun) return;
    if (this.#wanted === "stop") {
      this.#cancel("stopped while the connection was lost");
      return;
    }
    const mayRestart = this.#fruitless < FRUITLESS_RESTARTS && refused === undefined;
    if (this.#onLost === "restart" && mayRestart) {
      this.#fruitless += 1;
      this.#begun = false;
      this.position = 0;
      const chunk = { type: "notice", kind: "restart" };
      this.take({ type: "chunk", id: this.id, timestamp: Date.now() / 1000, chunk });
    } else {
      const message = `the connection was lost${refused ? `: ${refused}` : ""}`;
      this.fail(new RxllmError("connection_lost", message, partOf(this)));
    }
  }

  /** Called by the connection with each message. @param {Message} message */
  take(message) {
    if (this.#ended) return;
    if (message.position > 0 && message.position <= this.position) return; // sent twice
    this.position = message.position ?? this.position;
    if (message.type === "chunk") this.#calls.complete(message);
    this.run.take(message);
    if (message.type === "chunk") {
      if (textOf(message.chunk) || message.chunk.type === "reasoning") this.#fruitless = 0;
    }
    if (message.type === "error") {
      this.#end(() => this.#reject(errorOf({ partial: this.text, ...message })));
    } else if (message.type === "complete") {
      this.#end(() => this.#resolve(message));
    }
    this.#notify(message);
  }

  /** Called by the connection when the stream can't continue. @param {RxllmError} error */
  fail(error) {
    if (this.#ended) return;
    this.#end(() => this.#reject(error));
    const { code, message, retryable, id, partial } = error;
    this.run.take({ type: "error" });
    this.#notify({ type: "error", code, message, retryable, id, partial });
  }

  /** Call the callback. An exception is reported as uncaught, as for an event listener: the other
   * streams of the connection continue. */
  #notify(message) {
    try {
      this.#onMessage(message);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #cancel(message) {
    this.fail(new RxllmError("cancelled", message, partOf(this)));
  }

  #end(settle) {
    this.#ended = true;
    this.#forget();
    settle();
  }
}
