"""`recorded`: the stream of the model, unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Unpack

import pytest

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, Start, Token
from rxllm.errors import BadRequestError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Loadable, Model
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that doesn't exist yet."""
    return tmp_path / "run.jsonl"


def end_of(path: Path) -> dict[str, Any]:
    ended: dict[str, Any] = json.loads(path.read_bytes().splitlines()[-1])["ended"]
    return ended


def test_it_is_the_model_with_a_journal(path: Path) -> None:
    model = ScriptedModel("Hi", name="fake")
    recorded = rxllm.recorded(model, path)
    assert isinstance(recorded, Model)
    assert isinstance(recorded, Loadable)
    assert recorded.info == model.info
    assert recorded.active == 0  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="nothing"):
        recorded.nothing  # type: ignore[attr-defined]  # noqa: B018


async def test_it_loads_the_model_and_counts_its_tokens(path: Path) -> None:
    recorded: Any = rxllm.recorded("scripted/Hi", str(path))
    await recorded.load()
    assert (await recorded.count_tokens("two words")).tokens == 2


def test_chunks_times_and_the_error_pass_through(path: Path) -> None:
    failure = ConnectionResetError("cut")
    script: list[Any] = ["a", 1.0, "b", failure]
    events = Marbles().run(rxllm.recorded(ScriptedModel(script), path).stream("Hi"))
    assert events[1:] == [(0.0, Token("a")), (1.0, Token("b")), (1.0, failure)]
    assert end_of(path)["outcome"] == "failed"


def test_never_and_empty(path: Path) -> None:
    marbles = Marbles()

    class Silent(ScriptedModel):
        diagram = ""

        def stream(self, prompt: Any, **options: Any) -> rxllm.Stream[Chunk]:
            return marbles.cold(self.diagram).pipe(ops.map_text(str))

    model = Silent("")
    recorded = rxllm.recorded(model, path)
    never = marbles.subscribe(recorded.stream("Hi"))
    marbles.advance_to(5)
    never.dispose()
    assert never.events == []
    model.diagram = "|"
    assert marbles.run(recorded.stream("Hi"), until=9) == [(5.0, COMPLETED)]


def test_disposal_stops_the_model_and_is_recorded(path: Path) -> None:
    marbles, model = Marbles(), ScriptedModel("a b c", by="word", delay=1)
    recording = marbles.subscribe(rxllm.recorded(model, path).stream("Hi"))
    marbles.advance_to(1.5)
    recording.dispose()
    assert (model.active, model.cancelled, marbles.timers) == (0, 1, [])
    assert end_of(path) == {"outcome": "cancelled"}
    recording.dispose()
    assert path.read_bytes().count(b"ended") == 1


def test_a_closed_valve_holds_the_model(path: Path) -> None:
    marbles, model = Marbles(), ScriptedModel("a b c", by="word", delay=1)
    recording = marbles.subscribe(rxllm.recorded(model, path).stream("Hi"))
    marbles.advance_to(1.5)
    marbles.valve.close()
    marbles.advance_to(50)
    assert len(recording.chunks) == len(path.read_bytes().splitlines()) - 1 == 2
    marbles.valve.open()
    marbles.advance_to(60)
    assert recording.events[-1] == (51.0, COMPLETED)


def test_a_subscriber_that_raises_stops_the_model_and_is_recorded(path: Path) -> None:
    model = ScriptedModel("a b c", by="word")

    def fail(_: Token, context: object) -> None:
        raise LookupError("mine")

    async def main() -> None:
        async with no_leaks():
            with pytest.raises(LookupError, match="mine"):
                await rxllm.sinks.dispatch(
                    rxllm.recorded(model, path).stream("Hi"), {rxllm.Token: fail}
                )

    run_virtual(main())
    assert (model.active, model.cancelled) == (0, 1)
    assert end_of(path) == {"outcome": "cancelled"}


def test_two_subscriptions_are_two_recordings(path: Path) -> None:
    stream = rxllm.recorded(ScriptedModel("one", "two"), path).stream("Hi")
    for text in ("one", "two"):
        assert Token(text) in [event for _, event in Marbles().run(stream)]
    assert path.read_bytes().count(b'"begun"') == 2


def test_it_works_in_synchronous_and_in_asynchronous_code(path: Path) -> None:
    model = rxllm.recorded(ScriptedModel("Hello there", by="word"), path)
    assert "".join(model.stream("Hi").pipe(ops.text())) == "Hello there"
    assert rxllm.run(model.stream("Hi")).text == "Hello there"
    replay = rxllm.replay(path)
    assert "".join(replay.stream("Hi").pipe(ops.text())) == "Hello there"
    assert rxllm.run(replay.stream("Hi")).text == "Hello there"


def test_options_of_the_model_alone_are_passed_to_it(path: Path) -> None:
    class Agent(ScriptedModel):
        approvals: Any = None

        def stream(
            self, prompt: Any, *, approvals: Any = None, **options: Unpack[rxllm.RequestOptions]
        ) -> rxllm.Stream[Chunk]:
            self.approvals = approvals
            return super().stream(prompt, **options)

    agent = Agent("a")
    stream: Any = rxllm.recorded(agent, path).stream
    Marbles().run(stream("Hi", approvals={"c1": True}, seed=7))
    assert (agent.approvals, agent.requests[0].seed) == ({"c1": True}, 7)


def test_an_option_that_the_model_does_not_know_is_refused(path: Path) -> None:
    with pytest.raises(BadRequestError, match="did you mean 'temperature'"):
        rxllm.recorded(ScriptedModel("a"), path).stream("Hi", temprature=0)  # type: ignore[call-arg]


def test_a_router_is_recorded_with_its_notices(path: Path) -> None:
    failing = ScriptedModel([ConnectionRefusedError()], name="large")
    router = rxllm.Router(
        [failing, ScriptedModel("Hello", name="small")], settings=rxllm.Settings(attempts=1)
    )
    heard = [event for _, event in Marbles().run(rxllm.recorded(router, path).stream("Hi"))]
    assert [event for _, event in Marbles().run(rxllm.replay(path).stream("Hi"))] == heard
    assert [event.model for event in heard if isinstance(event, Start)] == ["large", "small"]


@pytest.mark.parametrize(
    ("model", "file", "reason"),
    [
        (5, "run.jsonl", "model must be a model, such as rxllm.model"),
        (ScriptedModel, "run.jsonl", "model must be a model, such as rxllm.model"),
        (ScriptedModel("a"), 5, "path must be the path of a journal"),
        (ScriptedModel("a"), "", "path must be the path of a journal"),
        (ScriptedModel("a"), None, "path must be the path of a journal"),
    ],
)
def test_arguments_are_checked_at_the_call(model: Any, file: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        rxllm.recorded(model, file)
