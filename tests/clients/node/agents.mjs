// Asks an agent as the AI SDK and AG-UI do, approves the calls that wait, and prints what the client
// made of it as JSON: node agents.mjs CLIENT URL APPROVED
import { setTimeout as sleep } from "node:timers/promises";
import { Chat } from "@ai-sdk/react";
import {
  DefaultChatTransport,
  convertToModelMessages,
  lastAssistantMessageIsCompleteWithApprovalResponses,
} from "ai";
import { HttpAgent } from "@ag-ui/client";

const [, , name, url, approved] = process.argv;
const decision = approved === "yes" ? { approved: true } : { approved: false, reason: "too risky" };
const errors = [];
console.error = (...words) => void errors.push(words.map(String).join(" "));
console.warn = () => {};

async function aiSdk() {
  const data = [];
  const chat = new Chat({
    transport: new DefaultChatTransport({ api: `${url}/api/chat`, body: { model: "agent" } }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
    onError: (error) => void errors.push(String(error?.message ?? error)),
    onData: (part) => void data.push(part),
  });
  await chat.sendMessage({ text: "Go" });
  const first = structuredClone(chat.lastMessage);
  const waiting = first.parts.filter((part) => part.state === "approval-requested");
  for (const part of waiting) {
    await chat.addToolApprovalResponse({ id: part.approval.id, ...decision });
  }
  await sleep(0);
  while (chat.status === "submitted" || chat.status === "streaming") await sleep(5);
  await chat.sendMessage({ text: "And?" });
  const converted = await convertToModelMessages(chat.messages);
  return {
    first,
    messages: chat.messages,
    nested: data.filter((part) => part.type === "data-nested").map((part) => part.data),
    converted: converted.map((message) => message.role),
    errors,
  };
}

async function agUi() {
  const agent = new HttpAgent({ url: `${url}/agui`, threadId: "t" });
  const events = [];
  const seen = {
    onEvent: ({ event }) => void events.push(event),
    onRunErrorEvent: ({ event }) => void errors.push(`RUN_ERROR ${event.message}`),
  };
  const forwardedProps = { model: "agent" };
  agent.addMessage({ id: "u1", role: "user", content: "Go" });
  await agent.runAgent({ forwardedProps }, seen);
  const first = structuredClone(agent.messages);
  const resume = agent.pendingInterrupts.map(({ id }) => ({
    interruptId: id,
    status: "resolved",
    payload: decision,
  }));
  const interrupts = structuredClone(agent.pendingInterrupts);
  await agent.runAgent({ forwardedProps, resume }, seen);
  agent.addMessage({ id: "u2", role: "user", content: "And?" });
  await agent.runAgent({ forwardedProps }, seen);
  return { first, interrupts, messages: agent.messages, events, errors };
}

const clients = { aiSdk, agUi };
let found;
try {
  found = await clients[name]();
} catch (error) {
  found = { errors: [...errors, `thrown ${error?.stack ?? error}`] };
}
process.stdout.write(`${JSON.stringify(found)}\n`);
process.exit(0);
