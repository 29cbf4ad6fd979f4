"""Streams and responses in the format of OpenAI's Responses API."""
