"""Endpoints for clients of Anthropic's API."""
