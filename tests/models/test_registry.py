"""The registry: models by name."""

from __future__ import annotations

import re
from pathlib import Path
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


def test_tiny_runs_on_onnx() -> None:
    assert rxllm.model("tiny").info.id == "tiny/onnx"
    assert rxllm.model("tiny/llama").info.id == "tiny/llama"


def test_rxllm_models_is_a_package() -> None:
    import rxllm.models.scripted

    assert rxllm.models.scripted.ScriptedModel is ScriptedModel


def test_a_name_returns_a_shared_model_and_options_a_separate_one() -> None:
    assert rxllm.model("tiny") is rxllm.model("tiny/onnx")
    assert rxllm.model("tiny", slots=2) is not rxllm.model("tiny")


def test_a_closed_model_is_replaced() -> None:
    model = rxllm.model("onnx/nowhere")
    assert isinstance(model, LocalModel)
    model.close()
    assert rxllm.model("onnx/nowhere") is not model


def test_listed_models_have_a_context_length_and_capabilities_and_can_be_made() -> None:
    listed = {info.id: info for info in rxllm.list_models()}
    for name in ("tiny/onnx", "tiny/llama"):
        assert rxllm.model(name).info == listed[name]
        assert listed[name].context_length == 1024
        assert "text" in listed[name].capabilities
    assert "json_schema" in listed["tiny/llama"].capabilities
    assert {"llama/<path>", "onnx/<directory>"} <= listed.keys()


async def test_the_listing_agrees_with_the_model_files() -> None:
    model = rxllm.model("tiny/onnx")
    assert isinstance(model, LocalModel)
    await rxllm.sinks.collect(model.stream("Hello!", max_tokens=1))
    engine = model._runner.engine  # type: ignore[union-attr]
    assert engine is not None
    assert engine.context_length == model.info.context_length


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tinny", "did you mean 'tiny'?"),
        ("nobody/has-this", "no model 'nobody/has-this'"),
        ("tiny/tpu", "tiny/onnx or tiny/llama"),
        ("llama/", "must include a path"),
        ("onnx", "must include a path"),
        ("", "a model name must be"),
        (None, "a model name must be"),
    ],
)
def test_an_invalid_name_is_rejected_at_the_call(name: Any, reason: str) -> None:
    with pytest.raises(BadRequestError, match=re.escape(reason)):
        rxllm.model(name)


@pytest.mark.parametrize("options", [{"slots": 0}, {"threads": "two"}, {"colour": "red"}])
def test_invalid_options_are_rejected_at_the_call(options: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match="invalid options for tiny/onnx"):
        rxllm.model("tiny", **options)


async def test_a_missing_file_is_an_error_of_the_stream_so_that_a_fallback_can_handle_it() -> None:
    stream = rxllm.model("onnx/no/such/directory").stream("Hi")
    with pytest.raises(ModelLoadError, match="no/such/directory"):
        await rxllm.sinks.collect(stream)


@pytest.mark.usefixtures("registered")
def test_users_can_register_providers() -> None:
    rxllm.register("mine", lambda rest, **_: ScriptedModel(rest))
    assert isinstance(rxllm.model("mine/hello"), ScriptedModel)
    assert "mine" in {info.id for info in rxllm.list_models()}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["tiny", "a/b", ""])
def test_an_invalid_or_built_in_provider_name_is_rejected(name: str) -> None:
    with pytest.raises(BadRequestError, match="provider name must have no slash"):
        rxllm.register(name, lambda rest, **_: ScriptedModel(rest))


@pytest.mark.parametrize("name", ["tiny/onnx", "tiny/llama"])
async def test_a_context_length_beyond_the_models_own_is_rejected(name: str) -> None:
    if name == "tiny/llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model = rxllm.model(name, context_length=5000)
    with pytest.raises(ModelLoadError, match="context_length must be at most 1024"):
        await rxllm.sinks.collect(model.stream("Hi"))


def test_the_info_has_the_requested_context_length() -> None:
    assert rxllm.model("tiny", context_length=512).info.context_length == 512


def test_a_scripted_model_by_name_plays_the_text() -> None:
    with pytest.raises(BadRequestError, match="takes no options"):
        rxllm.model("scripted/x", delay=1)
    assert isinstance(rxllm.model("scripted/Hello there"), ScriptedModel)


def test_a_local_model_has_its_size_its_type_and_its_most_tokens(tmp_path: Path) -> None:
    listed = {info.id: info for info in rxllm.list_models()}
    for name, kind in (("tiny/onnx", "onnx"), ("tiny/llama", "gguf")):
        info = listed[name]
        assert info == rxllm.model(name).info
        assert (info.type, info.max_output_tokens) == (kind, 1024)
        assert info.size is not None
        assert 4_000_000 < info.size < 5_000_000
    (tmp_path / "model.gguf").write_bytes(b"x" * 70)
    info = rxllm.model(f"llama/{tmp_path / 'model.gguf'}", context_length=50).info
    assert (info.size, info.type, info.max_output_tokens) == (70, "gguf", 50)
    missing = rxllm.model(f"onnx/{tmp_path / 'nowhere'}").info
    assert (missing.size, missing.type, missing.max_output_tokens) == (None, "onnx", None)
    assert rxllm.model("openai/gpt-5").info.size is None
