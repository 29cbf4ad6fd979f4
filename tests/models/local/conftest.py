"""The bundled model on both engines; llama.cpp's is skipped where it is not installed."""

from __future__ import annotations

import importlib.util

import pytest

import rxllm
from rxllm.models.local.model import LocalModel

ENGINES = ["tiny/onnx", "tiny/llama"]


@pytest.fixture(params=ENGINES)
def model(request: pytest.FixtureRequest) -> LocalModel:
    if request.param == "tiny/llama" and importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed (the extra llama)")
    model = rxllm.model(request.param)
    assert isinstance(model, LocalModel)
    return model
