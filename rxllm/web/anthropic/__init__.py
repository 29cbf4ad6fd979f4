"""Streams and responses in the format of Anthropic's messages."""
