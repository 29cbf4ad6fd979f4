"""The WebSocket endpoint `/ws`."""
