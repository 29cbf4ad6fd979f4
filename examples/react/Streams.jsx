import { useId, useState } from "react";

import { useStreams } from "./useStreams.js";

/** Several prompts at once. React escapes the text: it is never HTML. */
export function Streams({ model, connection }) {
  const [draft, setDraft] = useState("");
  const { streams, isConnected, start, stop } = useStreams({ connection });
  const field = useId();

  function send(event) {
    event.preventDefault();
    const prompt = draft.trim();
    if (!prompt || !isConnected) return;
    start({ prompt, model, maxTokens: 500, temperature: 0.7 });
    setDraft("");
  }

  return (
    <section aria-label="Streams">
      <ul>
        {streams.map(({ id, prompt, text, tokens, isLive, duration, progress, error }) => (
          <li key={id}>
            <p className="prompt">{prompt}</p>
            <p className="answer" aria-busy={isLive}>
              {text}
              {isLive && <span className="cursor" aria-hidden="true">|</span>}
            </p>
            {progress?.percentage !== undefined && (
              <progress max="100" value={progress.percentage} />
            )}
            {duration !== undefined && (
              <p className="figures">
                {tokens} tokens in {duration.toFixed(1)} s
              </p>
            )}
            {error && <p role="alert">{error.message}</p>}
            {isLive && <button onClick={() => stop(id)}>Stop</button>}
          </li>
        ))}
      </ul>
      <form onSubmit={send}>
        <label htmlFor={field}>Prompt</label>
        <input id={field} value={draft} onChange={({ target }) => setDraft(target.value)} />
        <button disabled={!isConnected || !draft.trim()}>Send</button>
      </form>
      <p role="status">{isConnected ? "Connected" : "Connecting …"}</p>
    </section>
  );
}
