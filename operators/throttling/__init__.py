"""Operators that decide when chunks leave."""

__all__: list[str] = []
