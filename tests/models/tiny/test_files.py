"""The shipped files: sizes, tokenizer, chat template and the interface of the ONNX model."""

import json
from typing import Any

import jinja2.sandbox
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import rxllm
from rxllm.chunks import ToolCall
from rxllm.messages import Tool
from rxllm.models.local.chat_template import ChatTemplate
from rxllm.models.local.template_messages import as_tool
from rxllm.models.tiny import directory
from rxllm.models.tiny.corpus import Message
from rxllm.models.tiny.corpus.tool_dialogues import call_text, system_text
from rxllm.models.tiny.shape import Shape
from rxllm.models.tiny.tokenizer import ASSISTANT, SPECIAL_TOKENS, encode
from rxllm.requests import as_request

SHAPE = Shape()


TOKENIZER = Tokenizer.from_file(str(directory / "tokenizer.json"))


@pytest.fixture
def tokenizer() -> Tokenizer:
    return TOKENIZER


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(directory / "model.onnx"))


def configuration(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((directory / name).read_text(encoding="utf-8"))
    return loaded


def test_both_models_together_are_at_most_12_megabytes() -> None:
    sizes = [(directory / name).stat().st_size for name in ("tiny.gguf", "model.onnx")]
    assert sum(sizes) <= 12_000_000


def test_parameters_are_at_most_two_and_a_half_million() -> None:
    config = configuration("config.json")
    width, inner = config["hidden_size"], config["intermediate_size"]
    layer = 4 * width**2 + 3 * width * inner + 2 * width
    parameters = config["vocab_size"] * width + config["num_hidden_layers"] * layer + width
    assert parameters == SHAPE.parameters <= 2_500_000
    assert (directory / "model.onnx").stat().st_size >= 2 * parameters


def test_the_config_agrees_with_the_shape() -> None:
    config = configuration("config.json")
    assert config["model_type"] == "llama"
    assert config["vocab_size"] == SHAPE.vocabulary
    assert config["max_position_embeddings"] == SHAPE.context == 1024
    assert config["num_hidden_layers"] == SHAPE.layers
    assert config["tie_word_embeddings"] is True


def test_special_tokens_have_the_ids_in_the_configuration(tokenizer: Tokenizer) -> None:
    config, texts = configuration("config.json"), configuration("tokenizer_config.json")
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [*range(7)]
    assert tokenizer.token_to_id(texts["bos_token"]) == config["bos_token_id"]
    assert tokenizer.token_to_id(texts["eos_token"]) == config["eos_token_id"]


@settings(deadline=None)
@given(text=st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_each_byte_is_a_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == SHAPE.vocabulary
    assert len(tokenizer.encode("🦊", add_special_tokens=False).ids) > 1


def test_the_chat_template_marks_the_turns(tokenizer: Tokenizer) -> None:
    conversation = [
        Message("system", "Be brief."),
        Message("user", "Hello 🙂"),
        Message("assistant", "Hi!"),
        Message("user", "A story, please"),
    ]
    source = configuration("tokenizer_config.json")["chat_template"]
    template = jinja2.sandbox.ImmutableSandboxedEnvironment().from_string(source)
    messages = [message._asdict() for message in conversation]
    text = template.render(messages=messages, add_generation_prompt=True)
    assert text == (
        "<|begin|><|system|>Be brief.<|end|><|user|>Hello 🙂<|end|><|assistant|>Hi!<|end|>"
        "<|user|>A story, please<|end|><|assistant|>"
    )
    trained_on = [*encode(tokenizer, conversation)[0], ASSISTANT]
    assert tokenizer.encode(text, add_special_tokens=False).ids == trained_on


def test_the_chat_template_shows_tools_as_in_training(tokenizer: Tokenizer) -> None:
    tools = [Tool("clock", "The time", {"type": "object", "properties": {}}), Tool("weather")]
    calls = (ToolCall("call00001", "clock"), ToolCall("call00002", "weather", '{"where": "Ålm"}'))
    request = as_request(
        [
            rxllm.Message("system", "Be kind."),
            rxllm.Message("user", "What time is it?"),
            rxllm.Message("assistant", "", tool_calls=calls),
            rxllm.Message("tool", "12:30", tool_call_id="call00001"),
            rxllm.Message("tool", '{"sky": "fog"}', tool_call_id="call00002"),
        ],
        tools=tools,
    )
    definitions = [as_tool(tool, str) for tool in tools]
    conversation = [
        Message("system", system_text(definitions, "Be kind.")),
        Message("user", "What time is it?"),
        Message("assistant", f"{call_text('clock', {})}\n{call_text('weather', {'where': 'Ålm'})}"),
        Message("tool", "12:30"),
        Message("tool", '{"sky": "fog"}'),
    ]
    template = ChatTemplate(configuration("tokenizer_config.json")["chat_template"])
    trained_on = [*encode(tokenizer, conversation)[0], ASSISTANT]
    prompt = template.render(request)
    assert tokenizer.encode(prompt, add_special_tokens=False).ids == trained_on
    assert template.calls == "hermes"


def test_numbers_are_read_digit_by_digit(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(" 1234", add_special_tokens=False).tokens == ["Ġ", *"1234"]


def test_inputs_and_outputs_have_optimums_names(
    session: onnxruntime.InferenceSession,
) -> None:
    layers = range(SHAPE.layers)
    past = [f"past_key_values.{layer}.{part}" for layer in layers for part in ("key", "value")]
    present = [f"present.{layer}.{part}" for layer in layers for part in ("key", "value")]
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]
    assert inputs == ["input_ids", "attention_mask", "position_ids", *past]
    assert outputs == ["logits", *present]


def run(
    session: onnxruntime.InferenceSession, tokens: np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the outputs for whole rows of tokens, with an empty cache."""
    empty = np.zeros((len(tokens), SHAPE.heads, 0, SHAPE.head_size), np.float32)
    inputs = {value.name: empty for value in session.get_inputs()[3:]}
    inputs |= {"input_ids": tokens, "attention_mask": mask}
    inputs["position_ids"] = np.maximum(mask.cumsum(axis=1) - 1, 0)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def test_padding_on_the_left_changes_nothing(session: onnxruntime.InferenceSession) -> None:
    tokens = np.arange(10, 30, dtype=np.int64)[None]
    alone = run(session, tokens, np.ones_like(tokens))["logits"]
    padded = np.concatenate((np.zeros((1, 7), np.int64), tokens), axis=1)
    mask = np.concatenate((np.zeros((1, 7), np.int64), np.ones_like(tokens)), axis=1)
    other = np.arange(40, 67, dtype=np.int64)[None]
    both = np.concatenate((other, padded)), np.concatenate((np.ones_like(other), mask))
    batch = run(session, *both)["logits"]
    np.testing.assert_allclose(batch[1, 7:], alone[0], atol=1e-3)


def test_decoding_with_the_cache_gives_the_same_logits(
    session: onnxruntime.InferenceSession,
) -> None:
    tokens = np.arange(10, 30, dtype=np.int64)[None]
    whole = run(session, tokens, np.ones_like(tokens))
    first = run(session, tokens[:, :12], np.ones((1, 12), np.int64))
    cache = {name.replace("present", "past_key_values"): first[name] for name in whole}
    cache.pop("logits")
    inputs = {
        "input_ids": tokens[:, 12:],
        "attention_mask": np.ones((1, 20), np.int64),
        "position_ids": np.arange(12, 20, dtype=np.int64)[None],
    }
    logits = session.run(["logits"], inputs | cache)[0]
    np.testing.assert_allclose(logits, whole["logits"][:, 12:], atol=1e-3)
