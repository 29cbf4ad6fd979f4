import { useId, useState } from "react";

import { useStream } from "./useStream.js";

/** A chat that keeps its own history. React escapes the text: it is never HTML. */
export function Chat({ model, client }) {
  const [messages, setMessages] = useState([]);
  const [draft, setDraft] = useState("");
  const { text, status, error, start, stop } = useStream({ client });
  const field = useId();
  const busy = status === "waiting" || status === "streaming";

  async function send(event) {
    event.preventDefault();
    const content = draft.trim();
    if (!content || busy) return;
    const asked = [...messages, { role: "user", content }];
    setDraft("");
    setMessages(asked);
    const answer = await start({ messages: asked, model });
    if (answer) setMessages([...asked, { role: "assistant", content: answer }]);
  }

  return (
    <section aria-label="Chat">
      <ol>
        {messages.map(({ role, content }, index) => (
          <li key={index} className={role}>{content}</li>
        ))}
        {busy && <li className="assistant" aria-busy="true">{text}</li>}
      </ol>
      {status === "failed" && <p role="alert">{error.message}</p>}
      <form onSubmit={send}>
        <label htmlFor={field}>Message</label>
        <input id={field} value={draft} onChange={({ target }) => setDraft(target.value)} />
        {busy ? <button type="button" onClick={stop}>Stop</button> : <button>Send</button>}
      </form>
    </section>
  );
}
