"""The WebSocket at `/ws`."""
