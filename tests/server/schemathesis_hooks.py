"""A check for Schemathesis, which loads this module in `test_schemathesis.py`."""

from __future__ import annotations

from typing import Any, Final

import pytest

pytest.importorskip("schemathesis", reason="needs schemathesis (extra dev)")

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

NOT_IN_A_SCHEMA: Final = (
    "must name the stream to resume",  # relates a header to the body
    "tool names must be unique",  # compares items by one of their properties
    "or the name of a tool",  # refers to another value
    "format: pass media_type",  # depends on decoded bytes
    "give only one of",  # excludes seven fields of other servers from each other
    "guided_json must be a JSON Schema",  # JSON in a string
    "doesn't support strategy",  # depends on the model
    "got `float`",  # for JSON Schema, 1.0 is an integer
)
"""Parts of the messages that refuse requests for what JSON Schema can't express."""


@schemathesis.check
def valid_requests_are_accepted(
    context: schemathesis.CheckContext,
    response: schemathesis.Response,
    case: schemathesis.Case[Any],
) -> bool | None:
    """Check that a valid request is refused only for what isn't in a schema."""
    is_excused = response.status_code == 400 and any(
        each in response.text for each in NOT_IN_A_SCHEMA
    )
    return None if is_excused else positive_data_acceptance(context, response, case)
