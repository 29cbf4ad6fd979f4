"""Operators that answer a failure."""

__all__: list[str] = []
