"""What is recorded is what is replayed: chunks of any class, times, and ends."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import rxllm
from rxllm.chunks import Chunk, End, Json, Start, Token, ToolCall, ToolResult
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles
from tests.models.journal.any_chunks import ANY_CHUNK, exact

STEPS = st.lists(ANY_CHUNK | st.sampled_from([0.25, 0.5, 3.0]), max_size=12)


def events_of(stream: rxllm.Stream[Chunk]) -> list[tuple[float, Any]]:
    return [(round(time, 6), exact(event)) for time, event in Marbles().run(stream)]


@given(STEPS)
def test_chunks_and_times_are_replayed_as_they_were_recorded(steps: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        model = ScriptedModel(steps, finish_reason=None)
        heard = events_of(rxllm.recorded(model, path).stream("Hi"))
        assert heard == events_of(ScriptedModel(steps, finish_reason=None).stream("Hi"))
        assert events_of(rxllm.replay(path, timing=True).stream("Hi")) == heard
        at_once = [(0.0, event) for _, event in heard]
        assert events_of(rxllm.replay(path).stream("Hi")) == at_once


def test_a_run_of_several_answers_is_replayed(tmp_path: Path) -> None:
    run: list[Any] = [
        *("Let me look.", ToolCall("c1", "weather", '{"place":"Rome"}', complete=True)),
        *(End("tool_calls", more=True), ToolResult("c1", "weather", {"sky": "clear"})),
        *(Start("r2", "scripted"), "It is clear.", End("stop")),
    ]
    path = tmp_path / "run.jsonl"
    heard = events_of(rxllm.recorded(ScriptedModel(run), path).stream("The weather in Rome?"))
    assert heard[-1] == (0.0, COMPLETED)
    assert events_of(rxllm.replay(path).stream("The weather in Rome?")) == heard


def test_values_that_json_has_in_another_form_are_replayed_in_that_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    model = ScriptedModel([Json((1, 2)), Json({1: None}), Json([float("nan")])])
    Marbles().run(rxllm.recorded(model, path).stream("Hi"))
    chunks = [event for _, event in Marbles().run(rxllm.replay(path).stream("Hi"))]
    pair, numbered, nan = [chunk.value for chunk in chunks if isinstance(chunk, Json)]
    assert (pair, numbered) == ([1, 2], {"1": None})
    assert nan[0] != nan[0]


def test_seven_tokens_stay_seven_tokens(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Marbles().run(rxllm.recorded(ScriptedModel([Token("all", tokens=7)]), path).stream("Hi"))
    replayed = [event for _, event in Marbles().run(rxllm.replay(path).stream("Hi"))]
    assert replayed[1].tokens == 7
