"""`replay`: which recording is played, and when."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, Token, text_of
from rxllm.errors import (
    BadRequestError,
    TruncatedStreamError,
    UnsupportedError,
)
from rxllm.models.journal import ReplayEndedError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Loadable, Model
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that doesn't exist yet."""
    return tmp_path / "run.jsonl"


def record(path: Path, *scripts: Any, prompt: str = "Hi", **options: Any) -> None:
    model = rxllm.recorded(ScriptedModel(*scripts, **options), path)
    for _ in scripts:
        Marbles().run(model.stream(prompt))


def text_in(stream: rxllm.Stream[Chunk]) -> str:
    return "".join(text_of(event) for _, event in Marbles().run(stream))


def tokens_in(events: list[tuple[float, Any]]) -> list[tuple[float, str]]:
    return [(time, event.text) for time, event in events if isinstance(event, Token)]


# Which recording.


def test_equal_requests_get_their_recordings_in_order_and_the_last_one_is_repeated(
    path: Path,
) -> None:
    record(path, "one", "two")
    record(path, "other", prompt="Another")
    replay = rxllm.replay(path)
    prompts = ["Hi", "Another", "Hi", "Hi", "Another"]
    texts = [text_in(replay.stream(prompt)) for prompt in prompts]
    assert texts == ["one", "other", "two", "two", "other"]


def test_the_same_stream_subscribed_to_again_plays_the_next_recording(path: Path) -> None:
    record(path, "one", "two")
    stream = rxllm.replay(path).stream("Hi")
    assert [text_in(stream) for _ in range(3)] == ["one", "two", "two"]


def test_a_new_replay_starts_again(path: Path) -> None:
    record(path, "one", "two")
    assert [text_in(rxllm.replay(path).stream("Hi")) for _ in range(2)] == ["one", "one"]


def test_a_request_matches_however_it_is_written(path: Path) -> None:
    record(path, "a")
    messages = [{"role": "user", "content": "Hi"}]
    assert text_in(rxllm.replay(path).stream(messages, stop=[], temperature=None)) == "a"


def test_in_order_each_stream_plays_the_next_recording_whatever_is_asked(path: Path) -> None:
    record(path, "one", "two")
    replay = rxllm.replay(path, match="order")
    assert [text_in(replay.stream(prompt)) for prompt in ("x", "y")] == ["one", "two"]
    ((_, error),) = Marbles().run(replay.stream("z"))
    assert type(error) is UnsupportedError
    assert str(error) == f"all 2 streams recorded in {path} have been played"


def test_an_empty_journal_has_no_streams(path: Path) -> None:
    path.write_bytes(b"")
    ((_, error),) = Marbles().run(rxllm.replay(path).stream("Hi"))
    assert str(error) == f"no stream is recorded in {path}"


def test_a_running_stream_is_played_as_far_as_it_is_recorded(path: Path) -> None:
    marbles = Marbles()
    stream = rxllm.recorded(ScriptedModel("a b c", by="word", delay=1), path).stream("Hi")
    recording = marbles.subscribe(stream)
    marbles.advance_to(2.5)
    events = Marbles().run(rxllm.replay(path).stream("Hi"))
    assert tokens_in(events) == [(0.0, "a"), (0.0, " b")]
    assert type(events[-1][1]) is TruncatedStreamError
    recording.dispose()
    events = Marbles().run(rxllm.replay(path).stream("Hi"))
    assert str(events[-1][1]) == "the recorded stream was cancelled here"


def test_what_stopped_the_recorded_stream_stops_its_replay(path: Path) -> None:
    """The recording was cancelled, and the same pipe never reads beyond that."""
    model = rxllm.recorded(ScriptedModel("a\nb", "never", by="character"), path)
    heard = Marbles().run(model.stream("Hi").pipe(ops.stop_on("\n")))
    assert Marbles().run(rxllm.replay(path).stream("Hi").pipe(ops.stop_on("\n"))) == heard
    assert heard[-1] == (0.0, COMPLETED)


# When.


def test_at_once(path: Path) -> None:
    record(path, ["a", 3.0, "b"], delay=1)
    events = Marbles().run(rxllm.replay(path).stream("Hi"))
    assert tokens_in(events) == [(0.0, "a"), (0.0, "b")]
    assert events[-1] == (0.0, COMPLETED)


def test_with_the_recorded_times(path: Path) -> None:
    record(path, ["a", 3.0, "b", 0.5], delay=1)
    marbles = Marbles()
    marbles.advance_to(10)
    events = marbles.run(rxllm.replay(path, timing=True).stream("Hi"))
    assert tokens_in(events) == [(11.0, "a"), (15.0, "b")]
    assert events[-1] == (15.5, COMPLETED)


def test_the_time_of_an_error_is_kept(path: Path) -> None:
    record(path, ["a", 3.0, ConnectionResetError("cut")])
    time, error = Marbles().run(rxllm.replay(path, timing=True).stream("Hi"))[-1]
    assert (time, type(error)) == (3.0, ConnectionResetError)


def test_with_the_recorded_times_on_an_event_loop(path: Path) -> None:
    record(path, ["a", 600.0, "b"])

    async def main() -> list[tuple[float, str]]:
        loop, heard = asyncio.get_running_loop(), []
        async with no_leaks():
            async for chunk in rxllm.replay(path, timing=True).stream("Hi"):
                heard.append((loop.time(), text_of(chunk)))
        return [(time, text) for time, text in heard if text]

    assert run_virtual(main()) == [(0.0, "a"), (600.0, "b")]


# Demand and disposal.


def test_a_closed_valve_holds_the_replay_and_delays_what_follows(path: Path) -> None:
    record(path, ["a", 1.0, "b", 1.0, "c"])
    marbles = Marbles()
    recording = marbles.subscribe(rxllm.replay(path, timing=True).stream("Hi"))
    marbles.advance_to(0.5)
    marbles.valve.close()
    marbles.advance_to(10)
    assert tokens_in(recording.events) == [(0.0, "a")]
    marbles.valve.open()
    marbles.advance_to(20)
    assert tokens_in(recording.events) == [(0.0, "a"), (10.0, "b"), (11.0, "c")]


def test_a_pause_between_two_chunks_delays_nothing(path: Path) -> None:
    record(path, ["a", 3.0, "b"])
    marbles = Marbles()
    recording = marbles.subscribe(rxllm.replay(path, timing=True).stream("Hi"))
    for time, act in ((1, marbles.valve.close), (2, marbles.valve.open)):
        marbles.advance_to(time)
        act()
    marbles.advance_to(9)
    assert tokens_in(recording.events) == [(0.0, "a"), (3.0, "b")]


def test_a_subscriber_that_closes_its_valve_gets_one_chunk(path: Path) -> None:
    record(path, "a b c", by="word")
    valve = Valve()

    async def main() -> list[Any]:
        heard: list[Any] = []

        def take(chunk: Chunk) -> None:
            heard.append(chunk)
            valve.close()

        scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
        async with no_leaks(valve):
            subscription = rxllm.replay(path).stream("Hi").subscribe(take, scheduler=scheduler)
            counts = []
            for _ in range(3):
                await asyncio.sleep(1)
                counts.append(len(heard))
                valve.open()
            subscription.dispose()
        return counts

    assert run_virtual(main()) == [1, 2, 3]


def test_disposal_cancels_the_timer(path: Path) -> None:
    record(path, ["a", 9.0, "b"])
    marbles = Marbles()
    recording = marbles.subscribe(rxllm.replay(path, timing=True).stream("Hi"))
    marbles.advance_to(1)
    recording.dispose()
    assert marbles.timers == []
    marbles.advance_to(20)
    assert tokens_in(recording.events) == [(0.0, "a")]


# The model.


def test_a_model_by_name(path: Path) -> None:
    record(path, ["a", 2.0, "b"])
    model = rxllm.model(f"replay/{path}", timing=True)
    assert isinstance(model, Model)
    assert isinstance(model, Loadable)
    assert Marbles().run(model.stream("Hi"))[-1] == (2.0, COMPLETED)
    assert "replay/<path>" in [info.id for info in rxllm.list_models()]


def test_a_replay_can_do_what_the_recorded_model_could(path: Path) -> None:
    record(path, "a", capabilities=["text", "tools"])
    info = rxllm.replay(path).info
    assert (info.id, info.provider) == (f"replay/{path}", "replay")
    assert info.capabilities == ("text", "tools")


def test_of_a_missing_journal_nothing_is_known(path: Path) -> None:
    assert rxllm.replay(path).info.capabilities == ()


def test_a_replay_continues_as_the_recorded_model_did(path: Path) -> None:
    """Without the capability `prefill`, a continuation asks to repeat the last words."""

    def text_of_resumed(model: rxllm.Model) -> str:
        resumed = ops.resume(model, "A tale", initial=0, jitter=False)
        return text_in(model.stream("A tale").pipe(resumed))

    live = ScriptedModel(
        ["Once upon a", ConnectionResetError()], "upon a time", capabilities=["text"]
    )
    assert text_of_resumed(rxllm.recorded(live, path)) == "Once upon a time"
    assert text_of_resumed(rxllm.replay(path)) == "Once upon a time"


def test_streams_in_several_threads_share_one_replay(path: Path) -> None:
    texts = [str(number) for number in range(40)]
    record(path, *texts)
    replay = rxllm.replay(path, match="order")

    async def main() -> list[str]:
        def read() -> str:
            return "".join(replay.stream("Hi").pipe(ops.text()))

        return list(await asyncio.gather(*[asyncio.to_thread(read) for _ in texts]))

    assert sorted(rxllm.run(main()), key=int) == texts


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"timing": 1}, TypeError, "timing must be True or False, got 1"),
        ({"match": "any"}, ValueError, "match must be one of ('request', 'order'), got 'any'"),
        ({"until": -1}, ValueError, "until must be 0 or more (the number of chunks to play)"),
        ({"until": 1.5}, TypeError, "until must be an integer (the number of chunks to play)"),
    ],
)
def test_arguments_are_checked_at_the_call(
    path: Path, options: Any, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=re.escape(reason)):
        rxllm.replay(path, **options)
    with pytest.raises(BadRequestError, match="invalid options for replay"):
        rxllm.model(f"replay/{path}", **options)


def test_a_name_needs_a_path_and_options_are_checked() -> None:
    with pytest.raises(BadRequestError, match="the model name must include a path"):
        rxllm.model("replay/")
    with pytest.raises(BadRequestError, match="unknown field `speed`"):
        rxllm.model("replay/run.jsonl", speed=2)
    with pytest.raises(TypeError, match="path must be the path of a journal"):
        rxllm.replay(7)  # type: ignore[arg-type]
    with pytest.raises(BadRequestError, match="did you mean 'temperature'"):
        rxllm.replay("run.jsonl").stream("Hi", temprature=0)  # type: ignore[call-arg]


# The first chunks, and another model.


def test_until_ends_the_replay_after_some_chunks(path: Path) -> None:
    record(path, ["a", 1.0, "b", 1.0, "c"])
    events = Marbles().run(rxllm.replay(path, until=3, timing=True).stream("Hi"))
    assert tokens_in(events) == [(0.0, "a"), (1.0, "b")]
    time, error = events[-1]
    assert (time, type(error)) == (1.0, ReplayEndedError)
    assert str(error) == "the replay ended after 3 chunks"


def test_a_recording_that_completes_in_time_is_played_as_it_is(path: Path) -> None:
    record(path, "a")
    whole = Marbles().run(rxllm.replay(path).stream("Hi"))
    for until in (4, 99):  # it has a Start, a Token, a Usage and an End
        assert Marbles().run(rxllm.replay(path, until=until).stream("Hi")) == whole


def test_a_recorded_error_comes_only_if_until_is_beyond_it(path: Path) -> None:
    record(path, ["a", ConnectionResetError()])
    ends = [
        type(Marbles().run(rxllm.replay(path, until=until).stream("Hi"))[-1][1])
        for until in (1, 2, 3)
    ]
    assert ends == [ReplayEndedError, ReplayEndedError, ConnectionResetError]


def test_the_value_of_an_answer_is_kept(path: Path) -> None:
    schema = {"type": "object", "required": ["age"]}
    model = rxllm.recorded(ScriptedModel('{"age": 3}'), path)
    recorded = rxllm.run(model.stream("Hi", response_format=schema))
    replayed = rxllm.run(rxllm.replay(path).stream("Hi", response_format=schema))
    assert recorded.value == replayed.value == {"age": 3}
