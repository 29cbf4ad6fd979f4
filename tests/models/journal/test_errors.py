"""A recorded error is replayed as the same class, with its fields."""

from __future__ import annotations

import errno
import inspect
from pathlib import Path
from typing import Any

import pytest

import rxllm
from rxllm import errors
from rxllm.errors import RxLLMError, StreamError, classify_error
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import Marbles


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that doesn't exist yet."""
    return tmp_path / "run.jsonl"


def replayed(error: Exception, path: Path) -> Any:
    Marbles().run(rxllm.recorded(ScriptedModel(["a", error]), path).stream("Hi"))
    return Marbles().run(rxllm.replay(path).stream("Hi"))[-1][1]


CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, RxLLMError) and kind is not errors.AllModelsFailedError
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_class_is_replayed(kind: type[RxLLMError], path: Path) -> None:
    error = kind("why")
    again = replayed(error, path)
    assert again is not error
    assert (type(again), str(again), again.args) == (kind, "why", ("why",))
    assert vars(again) == vars(error)


def test_the_fields_of_a_provider_are_replayed(path: Path) -> None:
    error = errors.RateLimitError("slow", status=429, request_id="r1", retry_after=2.5)
    error.body = '{"error": "slow"}'
    again = replayed(error, path)
    assert (again.status, again.request_id, again.retry_after) == (429, "r1", 2.5)
    assert again.body == '{"error": "slow"}'


def test_the_field_of_a_bad_request_is_replayed(path: Path) -> None:
    assert replayed(errors.UnsupportedError("no seed", "seed"), path).field == "seed"


def test_the_text_received_before_is_not_written_twice(path: Path) -> None:
    error = errors.StreamError("cut")
    error.partial = "what has been said"
    assert replayed(error, path).partial == ""
    assert b"said" not in path.read_bytes()


def test_the_errors_of_all_models_are_replayed(path: Path) -> None:
    several = [errors.ServerError("down", status=500), ConnectionResetError(104, "reset")]
    again = replayed(errors.AllModelsFailedError("all 2 models failed", several), path)
    assert str(again) == "all 2 models failed"
    assert [(type(each), str(each)) for each in again.errors] == [
        (errors.ServerError, "down"),
        (ConnectionResetError, "[Errno 104] reset"),
    ]
    assert again.errors[0].status == 500


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        ConnectionRefusedError("refused"),
        TimeoutError(),
        OSError(errno.ETIMEDOUT, "Connection timed out"),
        FileNotFoundError(2, "no such file", "x.gguf"),
        KeyError("x"),
        ValueError("wrong", 5),
        RuntimeError(),
    ],
)
def test_exceptions_of_python_are_replayed(error: Exception, path: Path) -> None:
    again = replayed(error, path)
    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert classify_error(again) == classify_error(error)


class OwnError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class OwnValueError(ValueError):
    """Not Python's."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OwnError(code=3), "OwnError: code 3"),
        (OwnValueError(), "OwnValueError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "UnicodeDecodeError: 'utf-8' "),
        (ExceptionGroup("several", [OSError()]), "ExceptionGroup: several (1 sub-exception)"),
        (ValueError(object), "ValueError: <class 'object'>"),
    ],
)
def test_any_other_exception_is_a_stream_error_that_names_it(
    error: Exception, message: str, path: Path
) -> None:
    again = replayed(error, path)
    assert type(again) is StreamError
    assert str(again).startswith(message)


def test_each_replay_has_an_error_of_its_own(path: Path) -> None:
    first = replayed(errors.ServerError("down"), path)
    replay = rxllm.replay(path)
    second, third = [Marbles().run(replay.stream("Hi"))[-1][1] for _ in range(2)]
    assert len({id(first), id(second), id(third)}) == 3


def test_recovery_acts_on_a_replayed_error_as_it_did(path: Path) -> None:
    """The retry honours the recorded Retry-After, and gets the second recording."""
    model = ScriptedModel([errors.RateLimitError("slow", retry_after=7.0)], "Hello")
    retry = rxllm.operators.retry_with_backoff(initial=1, jitter=False)
    heard = Marbles().run(rxllm.recorded(model, path).stream("Hi").pipe(retry))
    assert heard[-1][0] == 7.0
    assert Marbles().run(rxllm.replay(path).stream("Hi").pipe(retry)) == heard
