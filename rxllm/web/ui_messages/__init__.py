"""Streams in the format of the AI SDK's UI messages."""
