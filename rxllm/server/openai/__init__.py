"""Endpoints that speak like OpenAI."""
