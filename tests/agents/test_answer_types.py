"""Agents whose answer has a type: the value of the result, and a second chance for the model."""

from __future__ import annotations

import msgspec
import pytest

import rxllm
from rxllm.agents import Agent
from rxllm.chunks import Steering
from rxllm.errors import BadRequestError, InvalidAnswerError
from rxllm.models.scripted import ScriptedModel
from tests.agents.runs import calling, kinds, play


class Cat(msgspec.Struct):
    name: str
    age: int


GOOD = '{"name": "Mia", "age": 3}'
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def look() -> str:
    return "a cat"


def test_the_value_is_that_of_the_last_answer() -> None:
    model = ScriptedModel(calling(("a", "look", "{}"), text=["Let me look."]), GOOD)
    result = rxllm.run(Agent(model, [look]).stream("Which cat?", response_format=Cat))
    assert result.value == Cat("Mia", 3)
    assert all(request.answer_schema is not None for request in model.requests)


@pytest.mark.parametrize("form", [Cat, SCHEMA, "json"])
def test_an_answer_of_another_type_is_told_to_the_model_once(form: object) -> None:
    model = ScriptedModel("Mia is three.", GOOD)
    agent = Agent(model, [look], repairs=1)
    chunks, result = rxllm.run(play(agent.stream("Which cat?", response_format=form)))
    assert kinds(chunks)[2:6] == ["Usage", "End+", "Steering", "Start"]
    assert [message.role for message in model.requests[1].messages] == ["user", "assistant", "user"]
    (told,) = [chunk.text for chunk in chunks if isinstance(chunk, Steering)]
    assert "isn't valid JSON" in told
    assert (result.text, result.steps) == (GOOD, 2)


def test_the_model_is_told_what_is_wrong() -> None:
    model = ScriptedModel('{"name": "Mia", "age": "old"}', GOOD)
    agent = Agent(model, repairs=1)
    assert rxllm.run(agent.stream("Which cat?", response_format=Cat)).value == Cat("Mia", 3)
    assert "$.age" in model.requests[1].messages[-1].text


@pytest.mark.parametrize("repairs", [0, 1, 2])
def test_after_the_last_repair_the_value_is_the_error(repairs: int) -> None:
    model = ScriptedModel("Mia is three.")
    agent = Agent(model, repairs=repairs)
    result = rxllm.run(agent.stream("Which cat?", response_format=Cat))
    assert len(model.requests) == 1 + repairs
    with pytest.raises(InvalidAnswerError):
        result.value  # noqa: B018 - reading it raises


def test_no_repair_takes_a_step_beyond_the_last_or_follows_a_cut_answer() -> None:
    model = ScriptedModel("Mia is three.")
    rxllm.run(Agent(model, max_steps=1, repairs=1).stream("Which cat?", response_format=Cat))
    assert len(model.requests) == 1
    cut = ScriptedModel(['{"name":', rxllm.chunks.End("length")], GOOD)
    rxllm.run(Agent(cut, repairs=1).stream("Which cat?", response_format=Cat))
    assert len(cut.requests) == 1


def test_a_model_that_has_streamed_the_right_type_is_not_asked_again() -> None:
    model = ScriptedModel(GOOD, "never")
    agent = Agent(model, repairs=3)
    assert rxllm.run(agent.stream("Which cat?", response_format=Cat)).value == Cat("Mia", 3)
    assert len(model.requests) == 1


def test_an_invalid_schema_is_an_error_that_no_answer_repairs() -> None:
    schema = {"type": "object", "properties": {"age": {"type": "whole"}}}
    model = ScriptedModel(GOOD, GOOD)
    with pytest.raises(BadRequestError, match="isn't a valid JSON Schema"):
        rxllm.run(Agent(model, repairs=1).stream("Which cat?", response_format=schema)).value  # noqa: B018
    assert len(model.requests) == 1
