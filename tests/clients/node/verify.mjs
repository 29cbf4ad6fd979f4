// Reads streams as other people's clients do. Each line of the input is {wire, body}; each line of
// the output is what the client made of it, and the errors that it found.
import { createInterface } from "node:readline";
import { DefaultChatTransport, readUIMessageStream } from "ai";
import { HttpAgent } from "@ag-ui/client";

const responses = { contentType: "text/event-stream" };

function fetchOf(body) {
  return async () =>
    new Response(body, { status: 200, headers: { "content-type": responses.contentType } });
}

async function uiMessages(body) {
  const transport = new DefaultChatTransport({ api: "http://x/", fetch: fetchOf(body) });
  const stream = await transport.sendMessages({
    chatId: "c",
    messages: [],
    trigger: "submit-message",
  });
  const errors = [];
  let message = null;
  const onError = (error) => {
    const text = String(error?.message ?? error);
    if (!errors.includes(text)) errors.push(text);
  };
  try {
    for await (const state of readUIMessageStream({ stream, onError, terminateOnError: true })) {
      message = state;
    }
  } catch (error) {
    onError(error);
  }
  return { message, errors };
}

async function agUi(body) {
  globalThis.fetch = fetchOf(body);
  const agent = new HttpAgent({ url: "http://x/", threadId: "t" });
  const errors = [];
  const events = [];
  try {
    await agent.runAgent(
      { runId: "r" },
      {
        onEvent: ({ event }) => void events.push(event.type),
        onRunErrorEvent: ({ event }) => void errors.push(`RUN_ERROR ${event.message}`),
      },
    );
  } catch (error) {
    errors.push(String(error?.message ?? error));
  }
  return { messages: agent.messages, events, errors };
}

const wires = { ui_messages: uiMessages, ag_ui: agUi };
console.error = () => {};
console.warn = () => {};

for await (const line of createInterface({ input: process.stdin })) {
  const { wire, body } = JSON.parse(line);
  let found;
  try {
    found = await wires[wire](body);
  } catch (error) {
    found = { errors: [`thrown ${error?.stack ?? error}`] };
  }
  process.stdout.write(`${JSON.stringify(found)}\n`);
}
