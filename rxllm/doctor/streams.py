"""The verdict about one response."""

from __future__ import annotations

from typing import Final

import msgspec

from rxllm.doctor.dialects import Dialect
from rxllm.doctor.findings import Sheet
from rxllm.doctor.framing import cut_events, cut_lines, json_objects
from rxllm.doctor.judges.judge import Judge
from rxllm.doctor.reading import Reading

__all__ = ["judge_delivery", "judge_error", "judge_response", "judge_stream"]

_OTHER_FORMS: Final = ("application/json", "text/html")
_SLOW_ENOUGH: Final = 0.5  # seconds of an answer whose pieces can be told from one block
_FEWEST_TEXTS: Final = 8
_FEWEST_READS: Final = 3
_AT_ONCE: Final = 0.05  # of the whole time
_FEW_READS: Final = 6  # pieces of text for each piece of the body


def judge_response(reading: Reading, dialect: Dialect, sheet: Sheet) -> bool:
    """Judge the status, the media type, and whether the response is whole.

    Returns:
        Whether the body is a stream to be judged further.
    """
    sheet.ok("response")
    if reading.status == 0:
        sheet.wrong("response", reading.failure or "no response")
        return False
    beginning = reading.body[:200].decode(errors="replace")
    if reading.status != 200:
        where = reading.headers.get("location")
        detail = beginning if where is None else f"redirects to {where}"
        sheet.wrong("response", f"status {reading.status}: {detail}")
        return False
    if reading.media_type in _OTHER_FORMS:
        sheet.wrong("response", f"{reading.media_type} in place of a stream: {beginning}")
        return False
    if reading.media_type not in dialect.media_types:
        expected = dialect.media_types[0]
        sheet.odd("response", f"the media type is {reading.media_type!r}, not {expected!r}")
    if reading.failure is not None:
        sheet.wrong("response", reading.failure)
    return True


def judge_stream(reading: Reading, dialect: Dialect, sheet: Sheet) -> Judge:
    """Judge the events of a body.

    Returns:
        The judge, with the texts and calls that have come.
    """
    judge = dialect.judge(sheet)
    events = (cut_lines if dialect.is_lines else cut_events)(reading.body, sheet)
    for event, value in json_objects(events, sheet):
        judge.judge(event, value)
    judge.finish()
    return judge


def judge_delivery(reading: Reading, judge: Judge, sheet: Sheet) -> None:
    """Judge whether the pieces came one by one, or all at the end, as from a buffering proxy."""
    texts, reads, seconds = judge.texts, len(reading.pieces), reading.seconds
    if texts < _FEWEST_TEXTS:
        sheet.unknown("delivery", f"the answer had only {texts} pieces of text")
    elif 2 * reads >= texts:
        sheet.ok("delivery")
    elif seconds < _SLOW_ENOUGH:
        sheet.unknown("delivery", f"the whole answer took only {seconds:.2f} s")
    elif reads <= _FEWEST_READS and seconds - (reading.first or 0.0) < _AT_ONCE * seconds:
        sheet.wrong("delivery", f"{texts} pieces of text came at once, after {seconds:.1f} s")
    elif _FEW_READS * reads <= texts:
        sheet.odd("delivery", f"{texts} pieces of text came in {reads}, as through a buffer")
    else:
        sheet.ok("delivery")


def judge_error(reading: Reading, dialect: Dialect, sheet: Sheet) -> None:
    """Judge the response to a body that isn't JSON."""
    sheet.ok("errors")
    if reading.status // 100 != 4:
        outcome = f"status {reading.status}" if reading.status else reading.failure
        sheet.wrong("errors", f"a body that isn't JSON: {outcome}, not 400")
        return
    try:
        value = msgspec.json.decode(reading.body)
    except (msgspec.DecodeError, RecursionError):
        value = None
    if not isinstance(value, dict) or not dialect.error(value):
        beginning = reading.body[:120].decode(errors="replace")
        sheet.odd("errors", f"an error in a form that the clients don't read: {beginning}")
