"""One error object belongs to one stream, so that no client receives another's text."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rxllm import errors
from rxllm.errors import RxLLMError, separate_error
from rxllm.models.scripted import ScriptedModel


@pytest.mark.parametrize(
    "error",
    [
        errors.StreamError("cut"),
        errors.BadRequestError("no", "stop"),
        errors.RateLimitError("slow down"),
        errors.AllModelsFailedError("all", [errors.ServerError("down")]),
        ConnectionResetError(104, "reset"),
        FileNotFoundError(2, "no such file", "x.gguf"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        KeyError("x"),
    ],
)
def test_a_copy_is_the_same_error_without_the_partial_text(error: Exception) -> None:
    error.add_note("a note")
    error.__cause__ = LookupError("the cause")
    if isinstance(error, RxLLMError):
        error.partial = "secret"
    copied = separate_error(error)
    assert copied is not error
    assert (type(copied), str(copied), copied.args) == (type(error), str(error), error.args)
    assert copied.__cause__ is error.__cause__
    assert copied.__notes__ == ["a note"]
    copied.add_note("another")
    assert error.__notes__ == ["a note"]
    assert getattr(copied, "partial", "") == ""
    for name in ("field", "errno", "filename", "errors", "retry_after"):
        assert getattr(copied, name, None) == getattr(error, name, None)


def test_a_class_with_its_own_init_is_copied() -> None:
    class OwnError(Exception):
        def __init__(self, *, code: int) -> None:
            super().__init__(f"code {code}")
            self.code = code

    copied = separate_error(OwnError(code=3))
    assert (str(copied), copied.code) == ("code 3", 3)


def test_init_is_not_called_again() -> None:
    class NamedError(Exception):
        def __init__(self, name: str) -> None:
            super().__init__(f"bad {name}")

    assert str(separate_error(NamedError("x"))) == "bad x"


def test_partial_is_cleared_on_foreign_errors_too() -> None:
    error = ValueError("x")
    error.partial = "secret"  # type: ignore[attr-defined]
    assert separate_error(error).partial == ""  # type: ignore[attr-defined]


async def test_a_scripted_model_raises_a_separate_error_each_time() -> None:
    model = ScriptedModel(["one", errors.StreamError("cut")], ["two", errors.StreamError("cut")])
    raised: list[Any] = await asyncio.gather(
        *(model.stream("Hi") for _ in range(4)), return_exceptions=True
    )
    assert [error.partial for error in raised] == ["one", "two", "two", "two"]
    assert len({id(error) for error in raised}) == 4
