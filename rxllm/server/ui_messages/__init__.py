"""Endpoints for the AI SDK's `useChat`."""
