"""Requests: what may be asked, and what is refused at the call."""

from __future__ import annotations

from typing import Any

import pytest

from rxllm.errors import BadRequestError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Message, Model, Request, as_request, streaming_pays


def test_a_text_is_one_user_message() -> None:
    assert as_request("Hi").messages == (Message("user", "Hi"),)


def test_messages_may_be_mappings_or_values() -> None:
    system = {"role": "system", "content": "Be brief."}
    request = as_request([system, Message("user", "Hi")])
    assert request.messages == (Message("system", "Be brief."), Message("user", "Hi"))


def test_options_override_those_of_a_request() -> None:
    base = as_request("Hi", seed=3, temperature=0.7)
    request = as_request(base, temperature=0)
    assert (request.seed, request.temperature) == (3, 0.0)
    assert base.temperature == 0.7


@pytest.mark.parametrize("name", ["temperature", "top_k", "min_p", "seed"])
def test_zero_is_a_value_and_none_is_the_models_choice(name: str) -> None:
    assert getattr(as_request("Hi", **{name: 0}), name) == 0
    assert getattr(as_request("Hi"), name) is None


def test_one_stop_sequence_may_be_a_text() -> None:
    assert as_request("Hi", stop="\n").stop == ("\n",)
    assert as_request("Hi", stop=["a", "b"]).stop == ("a", "b")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature": 2.1}, "temperature is 0 to 2"),
        ({"temperature": -0.1}, "temperature is 0 to 2"),
        ({"temperature": float("nan")}, "temperature is 0 to 2"),
        ({"temperature": "warm"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens is 1 or more"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"top_p": 0}, "top_p is above 0"),
        ({"top_p": 1.1}, "top_p is above 0"),
        ({"top_k": -1}, "top_k is 0 or more"),
        ({"min_p": 2}, "min_p is 0 to 1"),
        ({"repeat_penalty": 0}, "repeat_penalty is above 0"),
        ({"seed": -1}, "seed is 0 or more"),
        ({"stop": [""]}, "stop sequence is empty"),
        ({"strategy": "best"}, "strategy"),
        ({"response_format": 3}, "response_format"),
        ({"max_token": 3}, "did you mean 'max_tokens'"),
        ({"colour": "red"}, "unknown option 'colour'"),
    ],
)
def test_a_bad_option_is_told_by_name(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        as_request("Hi", **options)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "prompt is empty"),
        (" \n", "prompt is empty"),
        ([], "no message"),
        (None, "not NoneType"),
        (b"Hi", "not bytes"),
        ("half \ud83d", "surrogate"),
        ([{"role": "robot", "content": "x"}], "'robot'"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": "x", "image": "y"}], "image"),
    ],
)
def test_a_bad_prompt_is_told(prompt: Any, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        as_request(prompt)


def test_continuing_puts_the_partial_text_at_the_end() -> None:
    request = as_request("Hi", seed=1)
    begun = request.continuing("Hel")
    assert begun.messages[-1] == Message("assistant", "Hel")
    assert begun.continuing("lo").messages == (Message("user", "Hi"), Message("assistant", "Hello"))
    assert begun.seed == 1
    assert request.continuing("") is request


def test_the_fake_is_a_model() -> None:
    assert isinstance(ScriptedModel("Hi"), Model)
    assert isinstance(as_request("Hi"), Request)


def test_advice_whether_streaming_pays() -> None:  # row A10
    assert not streaming_pays(100)
    assert streaming_pays(101)
    assert streaming_pays(50, threshold=10)
    with pytest.raises(BadRequestError):
        streaming_pays(-1)
