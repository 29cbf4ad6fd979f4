"""Streams as the events of AG-UI."""
