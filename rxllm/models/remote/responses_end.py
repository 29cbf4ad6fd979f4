"""How a response ends: its errors, and its finish reason.

Source: https://platform.openai.com/docs/api-reference/responses/object.
"""

from __future__ import annotations

import json
from typing import Any, Final

from rxllm.chunks import End
from rxllm.errors import AbortedStreamError
from rxllm.models.remote.coercion import as_int, as_object, as_text
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of, finish_reason_in
from rxllm.models.remote.reported_error import ErrorObject, error_in_json, error_in_text
from rxllm.models.remote.responses_types import Event

__all__ = ["end_in", "error_in_event", "is_incomplete"]

_WORDS: Final = ("error", "message", "code")
_FAILED: Final = ("failed", "error")


def error_in_event(event: Event, data: str) -> ErrorObject | None:
    """Return the error that an event reports, or `None`.

    Args:
        event: the event.
        data: its JSON, for the words of the provider.
    """
    kind = event.type.lower()
    if kind.endswith(("error", "exception")):
        return error_in_text(data)
    if not kind.startswith("response."):
        return error_in_json(json.loads(data))
    response = as_object(event.response)
    has_failed = kind == "response.failed" or _status_of(response) in _FAILED
    if not (has_failed or event.error or event.code or response.get("error")):
        return None
    fields = as_object(json.loads(data))
    fields |= {name: response[name] for name in _WORDS if response.get(name) is not None}
    if (error := error_in_json(fields, has_answer=not event.code)) is not None or not has_failed:
        return error
    reported = error_in_json({**fields, "error": True}, has_answer=True)
    if reported is not None and reported.message is not None:
        return reported
    return error_in_json({"error": "the response failed"})


def is_incomplete(event: Event) -> bool:
    """Return whether the last event says that the response was cut off."""
    status = _status_of(as_object(event.response))
    return event.type == "response.incomplete" or status == "incomplete"


def end_in(event: Event, provider: str, max_tokens: int | None) -> End | None:
    """Return the `End` that the last event gives a reason for, or `None` if it gives none.

    An incomplete response without a reason has reached its limit if it has that many tokens;
    otherwise its native reason is `"incomplete"`.

    Args:
        event: the last event.
        provider: the provider's name, for messages.
        max_tokens: the limit that was requested; the response may tell another.

    Raises:
        AbortedStreamError: the provider has given up the response.
    """
    response = as_object(event.response)
    if _status_of(response) in ("cancelled", "canceled"):
        raise AbortedStreamError(f"{provider} cancelled the response")
    reason = finish_reason_in(response.get("incomplete_details"))
    if reason is not None:
        check_not_aborted(reason, provider)
        return end_of(reason)
    if not is_incomplete(event):
        return None
    limit = as_int(response.get("max_output_tokens")) or max_tokens
    written = as_int(as_object(response.get("usage")).get("output_tokens"))
    if limit is not None and written is not None and written >= limit:
        return End("length")
    return end_of("incomplete")


def _status_of(response: dict[str, Any]) -> str:
    return as_text(response.get("status")).lower()
