"""Streams and answers in the form of OpenAI's chat completions."""
