"""The registry: models by name."""

from __future__ import annotations

import re
from typing import Any

import pytest

import rxllm
from rxllm.errors import BadRequestError, ModelLoadError
from rxllm.models import registry
from rxllm.models.local.model import LocalModel
from rxllm.models.scripted import ScriptedModel


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


def test_tiny_is_the_onnx_one() -> None:
    assert rxllm.model("tiny").info.id == "tiny/onnx"
    assert rxllm.model("tiny/llama").info.id == "tiny/llama"


def test_the_package_of_models_can_be_used_as_one() -> None:
    import rxllm.models.scripted

    assert rxllm.models.scripted.ScriptedModel is ScriptedModel


def test_a_name_gives_the_same_model_each_time_and_options_one_of_its_own() -> None:
    assert rxllm.model("tiny") is rxllm.model("tiny/onnx")
    assert rxllm.model("tiny", slots=2) is not rxllm.model("tiny")


def test_a_closed_model_is_replaced() -> None:
    model = rxllm.model("onnx/nowhere")
    assert isinstance(model, LocalModel)
    model.close()
    assert rxllm.model("onnx/nowhere") is not model


def test_what_is_listed_can_be_asked_for() -> None:
    listed = {info.id: info for info in rxllm.list_models()}
    for name in ("tiny/onnx", "tiny/llama"):
        assert rxllm.model(name).info == listed[name]
        assert listed[name].context_length == 1024
        assert "text" in listed[name].capabilities
    assert "json_schema" in listed["tiny/llama"].capabilities
    assert {"llama/<path>", "onnx/<directory>"} <= listed.keys()


async def test_the_listing_says_what_the_model_files_say() -> None:
    model = rxllm.model("tiny/onnx")
    assert isinstance(model, LocalModel)
    await rxllm.sinks.collect(model.stream("Hello!", max_tokens=1))
    engine = model._runner.engine
    assert engine is not None
    assert engine.context_length == model.info.context_length


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tinny", "did you mean 'tiny'?"),
        ("nobody/has-this", "no model 'nobody/has-this'"),
        ("tiny/tpu", "tiny/onnx and tiny/llama"),
        ("llama/", "lacks the path"),
        ("onnx", "lacks the path"),
        ("", "a model's name"),
        (None, "a model's name"),
    ],
)
def test_a_name_that_can_not_be_right_is_refused_at_the_call(name: Any, reason: str) -> None:
    with pytest.raises(BadRequestError, match=re.escape(reason)):
        rxllm.model(name)


@pytest.mark.parametrize("options", [{"slots": 0}, {"threads": "two"}, {"colour": "red"}])
def test_options_that_can_not_be_right_are_refused_at_the_call(options: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match="options of tiny/onnx"):
        rxllm.model("tiny", **options)


async def test_a_missing_file_is_an_error_of_the_stream_so_that_fallback_can_answer_it() -> None:
    stream = rxllm.model("onnx/no/such/directory").stream("Hi")
    with pytest.raises(ModelLoadError, match="no/such/directory"):
        await rxllm.sinks.collect(stream)


@pytest.mark.usefixtures("registered")
def test_users_add_their_own_providers() -> None:
    rxllm.register("mine", lambda rest, **_: ScriptedModel(rest))
    assert isinstance(rxllm.model("mine/hello"), ScriptedModel)
    assert "mine" in {info.id for info in rxllm.list_models()}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["tiny", "a/b", ""])
def test_a_provider_can_not_take_a_name_that_is_taken_or_has_a_slash(name: str) -> None:
    with pytest.raises(BadRequestError, match="provider can't be named"):
        rxllm.register(name, lambda rest, **_: ScriptedModel(rest))


@pytest.mark.parametrize("name", ["tiny/onnx", "tiny/llama"])
async def test_context_length_beyond_the_models_own_is_refused(name: str) -> None:
    if name == "tiny/llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model = rxllm.model(name, context_length=5000)
    with pytest.raises(ModelLoadError, match="context of 1024 tokens"):
        await rxllm.sinks.collect(model.stream("Hi"))


def test_the_info_tells_the_context_length_that_was_asked_for() -> None:
    assert rxllm.model("tiny", context_length=512).info.context_length == 512


def test_scripted_by_name_says_the_text() -> None:
    with pytest.raises(BadRequestError, match="no options"):
        rxllm.model("scripted/x", delay=1)
    assert isinstance(rxllm.model("scripted/Hello there"), ScriptedModel)
