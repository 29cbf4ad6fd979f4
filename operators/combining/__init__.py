"""Operators and functions that make one stream of several."""

__all__: list[str] = []
