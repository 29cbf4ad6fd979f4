"""Endpoints for clients of OpenAI's Responses API."""
