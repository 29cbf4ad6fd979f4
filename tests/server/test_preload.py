"""`preload`: local models are loaded before the server accepts requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

import rxllm
from rxllm.errors import ModelLoadError
from rxllm.models.local.model import LocalModel
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Model
from rxllm.server import create_app
from tests.server.serving import serving


async def test_local_models_are_loaded_also_those_of_a_router() -> None:
    first, second = rxllm.model("tiny", slots=1), rxllm.model("tiny", slots=2)
    assert isinstance(first, LocalModel)
    assert isinstance(second, LocalModel)
    router = rxllm.Router([second, ScriptedModel("Hi")])
    models: dict[str, Model] = {"tiny": first, "router": router, "scripted": ScriptedModel("Hi")}
    async with serving(create_app(models)):
        assert not first._runner.is_loaded
    async with serving(create_app(models, preload=True)):
        assert first._runner.is_loaded
        assert second._runner.is_loaded


async def test_without_one_of_them_the_server_does_not_start(tmp_path: Path) -> None:
    server = TestServer(create_app([f"onnx/{tmp_path / 'missing'}"], preload=True))
    with pytest.raises(ModelLoadError, match="does not exist"):
        await server.start_server()
    await server.close()
