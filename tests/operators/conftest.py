"""Fixtures for the tests of all operators."""

import pytest

from rxllm.testing import Marbles


@pytest.fixture
def marbles() -> Marbles:
    """A fresh test bench: virtual time at 0 and an open valve."""
    return Marbles()
