"""Models behind HTTP: OpenAI, Anthropic, OpenRouter, Groq, and whatever speaks like OpenAI."""
