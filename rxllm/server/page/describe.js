/** The events of a stream in words. */

import { duration, noticeText } from "./dom.js";

const BRIEF = 300; // characters

/** A JSON value or a text, cut off after a while. */
function brief(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value ?? null);
  return text.length > BRIEF ? `${text.slice(0, BRIEF)} …` : text;
}

const inside = ({ source }) => source && `inside ${source}`;

const TOOL_EVENTS = {
  tool_call: (call) => ["call", `${call.name} ${brief(call.arguments)}`, inside(call)],
  tool_result: ({ name, output, error, preliminary, source }) => [
    error ? "error" : preliminary ? "interim" : "result",
    `${name} ${error ? brief(`${error.type}: ${error.message}`) : brief(output)}`,
    inside({ source }),
  ],
  approval_request: (request) => ["asks for approval", request.id, request.reason],
  steering: (message) => ["the user", brief(message.text), inside(message)],
};

/** Describe a chunk without text in one line. @param {import("./rxllm.js").Chunk} chunk */
export function describe(chunk) {
  if (chunk.type === "notice") return `${chunk.kind} · ${noticeText(chunk)}`;
  if (chunk.type === "start") {
    return ["start", chunk.model, chunk.provider].filter(Boolean).join(" · ");
  }
  if (chunk.type === "batch") return `${chunk.chunks.length} parts · ${chunk.text}`;
  if (chunk.type === "end") {
    return ["end", chunk.finishReason, chunk.more && "a step follows", inside(chunk)]
      .filter(Boolean)
      .join(" · ");
  }
  if (chunk.type === "progress") return progressText(chunk);
  if (chunk.type in TOOL_EVENTS) return TOOL_EVENTS[chunk.type](chunk).filter(Boolean).join(" · ");
  const { type, ...rest } = chunk;
  const parts = Object.entries(rest).map(([name, value]) =>
    `${name} ${typeof value === "number" ? Math.round(value * 100) / 100 : JSON.stringify(value)}`,
  );
  return [type, ...parts].join(" · ");
}

function progressText({ tokens, tokensPerSecond, percentage, remaining, stage, place }) {
  if (stage === "queue") return place ? `number ${place} in the queue` : "has a slot";
  const parts = [stage === "prompt" ? "reading the prompt" : `${tokens} tokens`];
  if (tokensPerSecond !== undefined) parts.push(`${tokensPerSecond.toFixed(1)} tokens/s`);
  if (percentage !== undefined) parts.push(`${Math.round(percentage)} %`);
  if (remaining) parts.push(`at most ${duration(remaining)} left`);
  return parts.join(" · ");
}
