"""`replay(path, until=k).then(model)`: another model goes on with a recorded answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rxllm
from rxllm.chunks import (
    Chunk,
    End,
    Notice,
    Reasoning,
    Start,
    Token,
    ToolCall,
    ToolResult,
    text_of,
)
from rxllm.errors import BadRequestError, ModelLoadError, ServerError, UnsupportedError
from rxllm.models.journal import ReplayEndedError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Loadable, Model
from rxllm.testing import COMPLETED, Marbles


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that doesn't exist yet."""
    return tmp_path / "run.jsonl"


def record(path: Path, *script: Any) -> None:
    Marbles().run(rxllm.recorded(ScriptedModel(list(script)), path).stream("A tale"))


def play(model: rxllm.Model, prompt: str = "A tale", **options: Any) -> list[Any]:
    return [event for _, event in Marbles().run(model.stream(prompt, **options))]


def text_in(events: list[Chunk]) -> str:
    return "".join(map(text_of, events))


def test_the_model_continues_the_partial_answer(path: Path) -> None:
    record(path, "Once", " upon", " a wrong word", ServerError("down"))
    model = ScriptedModel(" a time", name="live")
    events = play(rxllm.replay(path, until=3).then(model))
    assert text_in(events) == "Once upon a time"
    assert [message.text for message in model.requests[0].messages] == ["A tale", "Once upon"]
    assert [type(event) for event in events[:6]] == [Start, Token, Token, Notice, Start, Token]
    notice = events[3]
    assert (notice.kind, notice.error.message) == ("resume", "the replay ended after 3 chunks")
    assert (events[4].model, events[-1]) == ("live", COMPLETED)


def test_words_that_the_model_repeats_are_removed(path: Path) -> None:
    record(path, "Once upon", " a time")
    model = ScriptedModel("Once upon a hill", capabilities=["text"])
    events = play(rxllm.replay(path, until=2).then(model))
    assert text_in(events) == "Once upon a hill"
    assert [message.role for message in model.requests[0].messages] == ["user", "assistant", "user"]


def test_the_way_to_continue_can_be_chosen(path: Path) -> None:
    record(path, "Once upon", " a time")
    model = ScriptedModel(" a hill")
    play(rxllm.replay(path, until=2).then(model, by="prompt"))
    assert model.requests[0].messages[-1].role == "user"


def test_the_options_of_the_request_hold_for_the_model(path: Path) -> None:
    recorded = rxllm.recorded(ScriptedModel(["Once", " upon"]), path)
    Marbles().run(recorded.stream("A tale", seed=7, max_tokens=9))
    model = ScriptedModel(" more")
    play(rxllm.replay(path, until=2).then(model), seed=7, max_tokens=9)
    assert (model.requests[0].seed, model.requests[0].max_tokens) == (7, 9)


@pytest.mark.parametrize("until", [0, 1])
def test_before_any_output_the_model_gets_the_request_as_it_is(path: Path, until: int) -> None:
    record(path, "Once")
    model = ScriptedModel("Another tale")
    events = play(rxllm.replay(path, until=until).then(model))
    assert text_in(events) == "Another tale"
    assert [message.text for message in model.requests[0].messages] == ["A tale"]
    assert [event.kind for event in events if isinstance(event, Notice)] == ["fallback"]


def test_a_recording_that_completes_needs_no_model(path: Path) -> None:
    record(path, "Once")
    model = ScriptedModel("never")
    assert play(rxllm.replay(path, until=9).then(model)) == play(rxllm.replay(path))
    assert model.requests == []


def test_a_recorded_error_before_the_last_chunk_is_passed_on(path: Path) -> None:
    record(path, "Once", ServerError("down"))
    model = ScriptedModel("never")
    assert type(play(rxllm.replay(path, until=9).then(model))[-1]) is ServerError
    assert model.requests == []


def test_an_error_of_the_model_is_passed_on_with_the_whole_text(path: Path) -> None:
    record(path, "Once", " upon")
    model = ScriptedModel([" a time, long ago", ServerError("down")])
    error = play(rxllm.replay(path, until=2).then(model))[-1]
    assert (type(error), error.partial) == (ServerError, "Once a time, long ago")


@pytest.mark.parametrize(
    "script",
    [
        [Token("Once"), ToolCall("c1", "look", "{}", complete=True)],
        [Token("Once"), End("tool_calls", more=True)],
        [ToolCall("c1", "look", "{}", complete=True), ToolResult("c1", "look", 1)],
        [Reasoning("hm"), Reasoning(" so")],
    ],
)
def test_where_an_answer_cannot_be_continued_the_replay_fails(path: Path, script: Any) -> None:
    record(path, *script, "more")
    model = ScriptedModel("never")
    events = play(rxllm.replay(path, until=3).then(model))
    assert type(events[-1]) is ReplayEndedError
    assert events[1:-1] == script
    assert model.requests == []


def test_a_request_that_was_not_recorded_is_an_error(path: Path) -> None:
    record(path, "Once")
    error = play(rxllm.replay(path, until=1).then("scripted/never"), "Another tale")[-1]
    assert type(error) is UnsupportedError


def test_disposal_stops_the_model(path: Path) -> None:
    record(path, "Once", " upon")
    model, marbles = ScriptedModel([5.0, " a time"]), Marbles()
    recording = marbles.subscribe(rxllm.replay(path, until=2).then(model).stream("A tale"))
    marbles.advance_to(1)
    assert model.active == 1
    recording.dispose()
    assert (model.active, marbles.timers) == (0, [])


def test_demand_reaches_the_replay_and_the_model(path: Path) -> None:
    record(path, "Once", 1.0, " upon", 1.0, " a")
    model, marbles = ScriptedModel([" a", 1.0, " time"]), Marbles()
    replay = rxllm.replay(path, until=3, timing=True)
    marbles.valve.close()
    recording = marbles.subscribe(replay.then(model).stream("A tale"))
    marbles.advance_to(9)
    assert recording.events == []
    marbles.valve.open()
    marbles.at(10.5, marbles.valve.close)
    marbles.at(20, marbles.valve.open)
    marbles.advance_to(30)
    assert text_in(recording.chunks) == "Once upon a time"
    assert recording.events[-1] == (20.0, COMPLETED)


async def test_it_is_a_model_that_loads_both(path: Path) -> None:
    class Loaded(ScriptedModel):
        is_loaded = False

        async def load(self) -> None:
            self.is_loaded = True

    model = Loaded("a", name="live")
    both = rxllm.replay(path, until=1).then(model)
    assert isinstance(both, Model)
    assert isinstance(both, Loadable)
    assert (both.info.id, both.info.provider) == (f"replay/{path} then live", "replay")
    with pytest.raises(ModelLoadError):
        await both.load()
    record(path, "a")
    await both.load()
    assert model.is_loaded


def test_arguments_are_checked_at_the_call(path: Path) -> None:
    with pytest.raises(ValueError, match="say how many, as in replay"):
        rxllm.replay(path).then("tiny")
    with pytest.raises(TypeError, match="model must be a model"):
        rxllm.replay(path, until=1).then(5)  # type: ignore[arg-type]
    with pytest.raises(BadRequestError, match="did you mean 'tiny'"):
        rxllm.replay(path, until=1).then("tinny")
    with pytest.raises(ValueError, match="by must be 'prefill', 'prompt' or None"):
        rxllm.replay(path, until=1).then("tiny", by="magic")  # type: ignore[arg-type]
