"""Operators that give one stream to many subscribers."""

__all__: list[str] = []
