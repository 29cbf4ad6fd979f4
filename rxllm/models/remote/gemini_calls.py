"""The calls of Gemini's answers, whole or in pieces.

Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference
(`functionCall`, `partialArgs`, `willContinue`).
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any, Final

from rxllm.chunks import Chunk, ToolCall
from rxllm.models.remote.call_ids import distinct_id
from rxllm.models.remote.coercion import (
    as_arguments,
    as_objects,
    as_optional_text,
    as_text,
    is_json,
)
from rxllm.models.remote.history import Target
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner

__all__ = ["CallReader"]

_STEP: Final = re.compile(r"\.([^.\[]+)|\[([0-9]{1,6})\]|\[(['\"])(.*?)\3\]")
_DEEPEST: Final = 64
_VALUES: Final = ("stringValue", "numberValue", "boolValue")


class _Call(Comparable):
    """One call, whose arguments may come in pieces, each with a JSON path (`partialArgs`).

    Attributes:
        is_open: whether the last piece continues.
    """

    def __init__(self, index: int, id: str) -> None:  # noqa: A002
        self.index = index
        self.id = id
        self.given_id: str | None = None
        self.name = ""
        self.is_open = False
        self._signature: str | None = None
        self._text: str | None = None  # the arguments, if they come as text
        self._root: dict[str, Any] = {}
        self._joiner = TextJoiner()
        self._is_broken = False
        self._begun = ""  # what has been emitted of the arguments

    def add(self, fields: dict[str, Any], signature: str | None) -> None:
        """Add what a part says about the call."""
        self.given_id = self.given_id or as_optional_text(fields.get("id"))
        self.name = self.name or as_optional_text(fields.get("name")) or ""
        self._signature = signature or self._signature
        given = fields.get("args")
        if isinstance(given, dict):
            self._root |= given
        elif given is not None:
            self._text = as_arguments(given)
        for piece in as_objects(fields.get("partialArgs")):
            self._put(piece)

    def _put(self, piece: dict[str, Any]) -> None:
        place = _place(self._root, as_text(piece.get("jsonPath")))
        if place is None:
            self._is_broken = True
            return
        here, key = place
        before = here[key]
        value = next((piece[name] for name in _VALUES if name in piece), "")
        value = None if "nullValue" in piece else value
        self.is_open = bool(piece.get("willContinue"))
        if isinstance(value, str) and isinstance(before, str | None):
            added = self._joiner.feed(value)
            here[key] = (before or "") + added + ("" if self.is_open else self._joiner.flush())
        elif value != "":
            here[key] = value

    def growing(self) -> str:
        """Return the beginning of the arguments, up to where the next piece may continue them."""
        if self._root:
            text = _json(self._root).rstrip("]}")
            text = text.removesuffix('"') if self.is_open else text
            self._begun = text if text.startswith(self._begun) else self._begun
        return self._begun

    def as_chunk(self, target: Target, *, ended: bool, may_be_complete: bool) -> ToolCall:
        known = {"id": self.given_id, "signature": self._signature}
        data = {name: value for name, value in known.items() if value}
        arguments = self._text or _json(self._root) if ended else self.growing()
        self._is_broken = self._is_broken or (ended and bool(self._joiner.flush()))
        is_whole = bool(self.name) and not self._is_broken and is_json(arguments)
        is_complete = may_be_complete and is_whole
        state = target.state(data) if data else None
        return ToolCall(self.id, self.name, arguments, self.index, is_complete, state)


def _json(value: Any) -> str:
    """Return the JSON of a value, without lone surrogates."""
    return as_optional_text(json.dumps(value, ensure_ascii=False)) or ""


def _place(root: dict[str, Any], path: str) -> tuple[Any, Any] | None:
    """Return the object or the list that a JSON path leads to, and the key in it."""
    steps: list[Any] = [
        int(index) if index else name or quoted for name, index, _, quoted in _STEP.findall(path)
    ]
    if not 0 < len(steps) <= _DEEPEST:
        return None
    here: Any = root
    for step, following in pairwise(steps):
        key = _key(here, step)
        if not isinstance(here[key], list if isinstance(following, int) else dict):
            here[key] = [] if isinstance(following, int) else {}
        here = here[key]
    return here, _key(here, steps[-1])


def _key(here: Any, step: str | int) -> str | int:
    """Return the key of a step in an object or a list, where it is made if it is new."""
    if isinstance(here, dict):
        here.setdefault(str(step), None)
        return str(step)
    if isinstance(step, int) and step < len(here):
        return step
    here.append(None)
    return len(here) - 1


class CallReader(Comparable):
    """Reads the calls of an answer. One that continues (`willContinue`) ends with a later part.

    Attributes:
        count: the number of calls so far.
        is_open: whether the last one continues.
    """

    def __init__(self, target: Target) -> None:
        self.count: int = 0
        self._target = target
        self._ids: set[str] = set()
        self._open: _Call | None = None

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def read(self, fields: dict[str, Any], signature: str | None, chunks: list[Chunk]) -> None:
        """Append the call that `fields` opens or continues, so far."""
        given_id, name = as_optional_text(fields.get("id")), as_optional_text(fields.get("name"))
        call = self._open
        if call is not None and (
            (name and call.name and name != call.name)
            or (given_id and call.given_id and given_id != call.given_id)
        ):
            self.finish(chunks, may_be_complete=True)
            call = None
        if call is None:
            call = _Call(self.count, distinct_id(given_id, self._ids))
            self._ids.add(call.id)
            self.count += 1
        call.add(fields, signature)
        self._open = call if fields.get("willContinue") else None
        ended = self._open is None
        chunks.append(call.as_chunk(self._target, ended=ended, may_be_complete=ended))

    def finish(self, chunks: list[Chunk], *, may_be_complete: bool) -> None:
        """Append the open call, if there is one: it ends without its last part."""
        if self._open is not None:
            call, self._open = self._open, None
            is_whole = may_be_complete and not call.is_open
            chunks.append(call.as_chunk(self._target, ended=True, may_be_complete=is_whole))
