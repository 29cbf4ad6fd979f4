"""Fixtures for the tests of these operators."""

import pytest

from rxllm.operators import Control


@pytest.fixture
def control() -> Control:
    """A control without a subscription."""
    return Control()
