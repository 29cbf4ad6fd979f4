"""Models behind HTTP: OpenAI, Anthropic, OpenRouter, Groq, and servers compatible with OpenAI."""
