"""How many examples a property draws: `conftest.py` chooses the profile."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["draws"]


def draws(count: int) -> int:
    """`count` under the profile `full`, and the same part of it as of all others under `quick`."""
    return count * settings().max_examples // settings.get_profile("full").max_examples
