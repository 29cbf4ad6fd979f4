"""Endpoints for clients of Ollama's API."""
