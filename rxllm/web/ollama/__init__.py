"""Streams in the format of Ollama's own API."""
