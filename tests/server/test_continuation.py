"""The rest of a stream that a server which has died had begun."""

from __future__ import annotations

from typing import Any

import pytest

from rxllm.chunks import Chunk, End, Notice, Progress, Start, Token, ToolCall
from rxllm.errors import NodeLostError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import as_request
from rxllm.server.continuation import continued, progress_after
from rxllm.stream import Stream
from rxllm.testing import Marbles

BEGUN: list[Chunk] = [
    Start("r", "m"),
    Token("one "),
    Progress(tokens=1, elapsed=1.0),
    Token("two "),
]


def rest(said: list[Chunk], *scripts: Any) -> tuple[list[Any], ScriptedModel]:
    """Return what follows, without times."""
    model = ScriptedModel(*scripts)
    stream: Stream[Chunk] = continued(model, as_request("count"), said)
    return [event for _, event in Marbles().run(stream)], model


def texts(events: list[Any]) -> str:
    return "".join([each.text for each in events if isinstance(each, Token)])


def test_the_answer_is_continued_after_what_was_said() -> None:
    events, model = rest(BEGUN, ["three ", "four"])
    assert texts(events) == "three four"
    assert isinstance(events[0], Notice)
    assert (events[0].kind, events[0].attempt) == ("resume", 2)
    (asked,) = model.requests
    assert (asked.messages[-1].role, asked.messages[-1].text) == ("assistant", "one two ")


def test_an_answer_that_had_not_begun_is_asked_again() -> None:
    events, model = rest([Start("r", "m")], ["one ", "two"])
    assert texts(events) == "one two"
    assert [each.role for each in model.requests[0].messages] == ["user"]


def test_of_an_answer_that_had_ended_nothing_follows() -> None:
    events, model = rest([*BEGUN, End("stop")], ["more"])
    assert texts(events) == ""
    assert not model.requests
    events, _ = rest([*BEGUN, End("stop"), Notice("restart"), Start("r", "m")], ["again"])
    assert texts(events) == "again"


def test_an_answer_that_was_continued_before_is_continued_again() -> None:
    before: list[Chunk] = [*BEGUN, Notice("resume", attempt=2), Start("r2", "m"), Token("three ")]
    events, model = rest(before, ["four"])
    assert texts(events) == "four"
    assert model.requests[0].messages[-1].text == "one two three "


def test_a_call_cant_be_continued() -> None:
    events, model = rest([*BEGUN, ToolCall("c", "f", '{"a')], ["never"])
    assert not model.requests
    assert isinstance(events[-1], NodeLostError) or "NodeLostError" in repr(events[-1])


def test_progress_counts_what_was_said_before() -> None:
    model = ScriptedModel([f"{number} " for number in range(20)])
    stream = model.stream("count").pipe(progress_after([*BEGUN, *map(Token, "abcdefgh")], 100))
    found = [each for _, each in Marbles().run(stream) if isinstance(each, Progress)]
    assert [each.tokens for each in found] == [20, 30, 30]
    assert found[0].percentage == pytest.approx(20)
