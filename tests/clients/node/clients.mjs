// Asks a server as one of other people's clients does, and prints what it got as JSON:
// node clients.mjs CLIENT URL
import OpenAI from "openai";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const [, , name, url] = process.argv;
const messages = [{ role: "user", content: "Hi" }];

async function openai() {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  const whole = await client.chat.completions.create({ model: "tiny", messages });
  let streamed = "";
  const stream = await client.chat.completions.create({ model: "tiny", messages, stream: true });
  for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";
  const runner = client.chat.completions.runTools({
    model: "caller",
    messages,
    tools: [
      {
        type: "function",
        function: {
          name: "weather",
          parse: JSON.parse,
          function: ({ city }) => `snow in ${city}`,
          parameters: { type: "object", properties: { city: { type: "string" } } },
        },
      },
    ],
  });
  const response = await client.responses.create({ model: "tiny", input: "Hi" });
  let deltas = "";
  for await (const event of client.responses.stream({ model: "tiny", input: "Hi" })) {
    if (event.type === "response.output_text.delta") deltas += event.delta;
  }
  return {
    whole: whole.choices[0].message.content,
    streamed,
    tools: await runner.finalContent(),
    responses: response.output_text,
    deltas,
  };
}

// An EventSource that reconnects after the server has cut it off, and stops at 204.
function eventSource() {
  return new Promise((resolve) => {
    const source = new EventSource(`${url}/stream?prompt=Hi&id=es`);
    let text = "";
    let opened = 0;
    source.onopen = () => (opened += 1);
    source.addEventListener("chunk", ({ data }) => (text += JSON.parse(data).chunk.text ?? ""));
    source.onerror = ({ code }) => {
      if (code === 204) resolve({ text, opened });
    };
  });
}

async function websocket() {
  const { Connection } = await import("./rxllm.mjs");
  const connection = new Connection({ url: `${url}/ws`, WebSocket });
  const stream = connection.start({ prompt: "Hi" });
  const { tokens } = await stream.done;
  connection.disconnect();
  return { text: stream.text, tokens };
}

const clients = { openai, eventSource, websocket };
console.log(JSON.stringify(await clients[name]()));
process.exit(0);
