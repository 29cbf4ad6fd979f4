"""The endpoint for clients of AG-UI."""
