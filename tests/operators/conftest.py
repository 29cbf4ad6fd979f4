"""What the tests of all operators share."""

import pytest

from rxllm.testing import Marbles


@pytest.fixture
def marbles() -> Marbles:
    """A bench of its own for each test: virtual time from 0, and an open valve."""
    return Marbles()
