// What people write in their pages: a chat with useChat, and streams over fetch-event-source and a
// polyfill of EventSource. Bundled for the browser by the test.
import React, { useEffect } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSourcePolyfill } from "event-source-polyfill";

function Chat({ resume }) {
  const { messages, sendMessage, status, error, resumeStream } = useChat({ id: "chat-1" });
  useEffect(() => {
    if (resume) resumeStream();
  }, []);
  window.chat = { sendMessage, status, messages };
  return (
    <main>
      <output id="status">{status}</output>
      <output id="error">{error?.message ?? ""}</output>
      {messages.map((message) => (
        <p key={message.id} className={message.role}>
          {message.parts.map((part) => (part.type === "text" ? part.text : "")).join("")}
        </p>
      ))}
    </main>
  );
}

window.mount = (resume = false) => {
  createRoot(document.getElementById("root")).render(<Chat resume={resume} />);
};

// The page is hidden and shown again after some events, as when the user switches tabs.
window.fetchEventSource = async (body, hideAfter) => {
  const seen = { text: "", events: 0, opened: 0, statuses: [] };
  const hide = (hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  };
  const end = new AbortController();
  await fetchEventSource("/stream", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: end.signal,
    onopen: async (response) => {
      seen.opened += 1;
      seen.statuses.push(response.status);
      if (response.status === 204) end.abort();
    },
    onmessage: ({ data, event }) => {
      if (!data) return;
      seen.events += 1;
      const { chunk } = JSON.parse(data);
      seen.text += chunk?.type === "token" || chunk?.type === "batch" ? chunk.text : "";
      if (seen.events === hideAfter) {
        hide(true);
        setTimeout(() => hide(false), 50);
      }
      if (event === "complete") seen.complete = true;
    },
  });
  return seen;
};

window.polyfill = (query) =>
  new Promise((resolve) => {
    const source = new EventSourcePolyfill(`/stream?${query}`, { heartbeatTimeout: 60_000 });
    const seen = { text: "", opened: 0 };
    source.onopen = () => (seen.opened += 1);
    source.addEventListener("chunk", ({ data }) => (seen.text += JSON.parse(data).chunk.text ?? ""));
    source.addEventListener("complete", () => {
      source.close();
      resolve(seen);
    });
    source.onerror = ({ status }) => {
      if (status === 204) resolve({ ...seen, status });
    };
  });
