"""What the tests of these operators share."""

import pytest

from rxllm.operators import Control


@pytest.fixture
def control() -> Control:
    """A control that serves nothing yet."""
    return Control()
