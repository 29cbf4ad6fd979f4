"""The number of examples that a property draws; `conftest.py` selects the profile."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["draws"]


def draws(count: int) -> int:
    """Return `count` under the profile `full`, scaled down under `quick`."""
    return count * settings().max_examples // settings.get_profile("full").max_examples
