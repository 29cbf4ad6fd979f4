"""Request bodies, mapped faithfully to each API."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rxllm.chunks import ProviderState, ToolCall
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import FilePart, ImagePart, Message, ReasoningPart, TextPart, Tool
from rxllm.model_table import model_table
from rxllm.models.remote.anthropic_request import anthropic_body
from rxllm.models.remote.gemini_request import gemini_body
from rxllm.models.remote.ollama_request import ollama_body
from rxllm.models.remote.openai_request import openai_body
from rxllm.models.remote.providers import PROVIDERS
from rxllm.models.remote.responses_request import responses_body
from rxllm.requests import as_request

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
PNG = b"\x89PNG.."


def openai(prompt: Any = "Hi", provider: str = "openai", **options: Any) -> dict[str, Any]:
    return openai_body(as_request(prompt, **options), "gpt", PROVIDERS[provider])


def anthropic(prompt: Any = "Hi", **options: Any) -> dict[str, Any]:
    return anthropic_body(as_request(prompt, **options), "claude", PROVIDERS["anthropic"])


def test_the_minimal_body() -> None:
    assert openai() == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert anthropic() == {
        "model": "claude",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }


def test_options_are_sent_even_if_they_are_0() -> None:
    options: dict[str, Any] = {"max_tokens": 5, "temperature": 0, "top_p": 0.5, "stop": ["a", "b"]}
    body = openai(**options, seed=0)
    assert (body["temperature"], body["top_p"], body["stop"]) == (0, 0.5, ("a", "b"))
    assert (body["seed"], body["max_completion_tokens"]) == (0, 5)
    body = anthropic(**options, top_k=0)
    assert (body["temperature"], body["top_p"], body["stop_sequences"]) == (0, 0.5, ("a", "b"))
    assert (body["top_k"], body["max_tokens"]) == (0, 5)


def test_providers_use_their_own_names_for_options() -> None:
    body = openai(provider="openrouter", max_tokens=5, repeat_penalty=1.1, min_p=0.1, top_k=3)
    assert (body["max_tokens"], body["repetition_penalty"], body["usage"]) == (
        5,
        1.1,
        {"include": True},
    )
    assert openai(provider="groq", max_tokens=5)["max_completion_tokens"] == 5
    assert openai(provider="openai_compatible", min_p=0.1)["min_p"] == 0.1


@pytest.mark.parametrize(
    ("provider", "options", "reason"),
    [
        ("openai", {"top_k": 3}, "openai doesn't support top_k"),
        ("openai", {"min_p": 0.0}, "min_p"),
        ("openai", {"repeat_penalty": 1.1}, "repeat_penalty"),
        ("openai_compatible", {"repeat_penalty": 1.1}, "repeat_penalty"),
        ("groq", {"confidence": True}, "groq doesn't report token probabilities"),
        ("groq", {"extra": {"stream": False}}, "extra must not contain `stream`"),
    ],
)
def test_unsupported_options_are_an_error(
    provider: str, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadRequestError, match=reason):
        openai(provider=provider, **options)


@pytest.mark.parametrize(
    ("prompt", "options", "reason"),
    [
        ("Hi", {"seed": 1}, "anthropic doesn't support seed"),
        ("Hi", {"confidence": True}, "probabilities"),
        ("Hi", {"response_format": "json"}, "only with a schema"),
        ([Message("user", "a", name="Ann")], {}, "the name of a message"),
        ([Message("user", "a"), Message("system", "b")], {}, "only at the beginning"),
        ([Message("system", "b")], {}, "a message besides the system messages"),
        ([Message("tool", "3")], {}, "must have a tool_call_id"),
        (
            [Message("assistant", "", tool_calls=(ToolCall("1", "f", "{"),))],
            {},
            "aren't valid JSON",
        ),
    ],
)
def test_so_is_anything_that_anthropic_does_not_support(
    prompt: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadRequestError, match=reason):
        anthropic(prompt, **options)


def test_only_some_providers_continue_a_partial_answer() -> None:
    begun = as_request("Hi").continuing("Hel")
    assert anthropic(begun)["messages"][-1] == {"role": "assistant", "content": "Hel"}
    assert openai(begun, "groq")["messages"][-1] == {"role": "assistant", "content": "Hel"}
    with pytest.raises(UnsupportedError, match="continuing a last assistant message"):
        openai(begun)
    asked = openai(as_request("Hi").continuing("Once upon\na time", by="prompt"))["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert asked[1]["content"] == "Once upon\na time"
    assert asked[2]["content"].endswith("Its last words are:\n\na time")


def test_system_messages() -> None:
    prompt = [Message("system", "Be brief."), Message("user", "Hi")]
    assert openai(prompt)["messages"][0] == {"role": "system", "content": "Be brief."}
    body = anthropic(prompt)
    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


def test_images_by_url_and_by_bytes() -> None:
    image, bytes_ = ImagePart(url="https://host/a.png"), ImagePart(data=PNG)
    prompt = [Message("user", (TextPart("What?"), image, bytes_))]
    assert openai(prompt)["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORy4u"}},
    ]
    base64 = {"type": "base64", "media_type": "image/png", "data": "iVBORy4u"}
    assert anthropic(prompt)["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
        {"type": "image", "source": base64},
    ]


def test_tools() -> None:
    tools = [Tool("add", "adds", SCHEMA), Tool("now")]
    body = openai(tools=tools)
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "add", "description": "adds", "parameters": SCHEMA},
        },
        {"type": "function", "function": {"name": "now"}},
    ]
    assert "tool_choice" not in body
    empty = {"type": "object", "properties": {}}
    assert anthropic(tools=tools)["tools"] == [
        {"name": "add", "description": "adds", "input_schema": SCHEMA},
        {"name": "now", "input_schema": empty},
    ]


@pytest.mark.parametrize(
    ("choice", "for_openai", "for_anthropic"),
    [
        ("auto", "auto", {"type": "auto"}),
        ("none", "none", {"type": "none"}),
        ("required", "required", {"type": "any"}),
        ("f", {"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_tool_choice(choice: str, for_openai: Any, for_anthropic: Any) -> None:
    options: dict[str, Any] = {"tools": [Tool("f")], "tool_choice": choice}
    assert openai(**options)["tool_choice"] == for_openai
    assert anthropic(**options)["tool_choice"] == for_anthropic


def test_a_conversation_with_tool_calls() -> None:
    prompt = [
        Message("user", "1 + 1, and when?"),
        Message(
            "assistant", "", tool_calls=(ToolCall("a", "add", '{"x":1}'), ToolCall("b", "now"))
        ),
        Message("tool", "2", tool_call_id="a"),
        Message("tool", "noon", tool_call_id="b"),
        Message("user", "Thanks"),
    ]
    _, asked, *answers, _ = openai(prompt)["messages"]
    assert asked["content"] is None
    assert [call["id"] for call in asked["tool_calls"]] == ["a", "b"]
    assert asked["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"x":1}'}
    assert answers[0] == {"role": "tool", "content": "2", "tool_call_id": "a"}
    _, asked, answer, thanks = anthropic(prompt)["messages"]
    assert asked["content"] == [
        {"type": "tool_use", "id": "a", "name": "add", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "now", "input": {}},
    ]
    assert answer["role"] == "user"
    assert [result["tool_use_id"] for result in answer["content"]] == ["a", "b"]
    assert answer["content"][0]["content"] == [{"type": "text", "text": "2"}]
    assert thanks == {"role": "user", "content": "Thanks"}


def test_response_format() -> None:
    assert openai(response_format="json")["response_format"] == {"type": "json_object"}
    asked = openai(response_format=SCHEMA)["response_format"]["json_schema"]
    assert (asked["schema"], asked["strict"]) == (SCHEMA, True)
    asked = anthropic(response_format=SCHEMA)["output_config"]
    assert asked == {"format": {"type": "json_schema", "schema": SCHEMA}}


def test_confidence_and_names() -> None:
    body = openai([Message("user", "Hi", name="Ann")], confidence=True)
    assert body["logprobs"] is True
    assert body["messages"][0]["name"] == "Ann"


def test_extra_overrides_all_other_fields() -> None:
    extra = {"service_tier": "flex", "max_completion_tokens": 7}
    body = openai(max_tokens=5, extra=extra)
    assert (body["service_tier"], body["max_completion_tokens"]) == ("flex", 7)
    assert anthropic(extra={"thinking": {"type": "enabled"}})["thinking"] == {"type": "enabled"}


PENALTIES: dict[str, Any] = {
    "frequency_penalty": 0.5, "presence_penalty": -0.5, "logit_bias": {"50256": -100.0},
    "parallel_tool_calls": False, "top_logprobs": 0, "reasoning": "low",
}  # fmt: skip


def test_an_answer_to_be_continued_is_not_begun_again_by_vllm() -> None:
    history = [Message("user", "Hi"), Message("assistant", "Once")]
    body = openai(history, provider="vllm")
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert "continue_final_message" not in openai(provider="vllm")


def test_arguments_are_json_and_answers_have_no_files() -> None:
    history = [Message("user", "Hi"), Message("assistant", "", tool_calls=(ToolCall("c", "f"),))]
    (call,) = openai([*history, Message("tool", "a", tool_call_id="c")])["messages"][1][
        "tool_calls"
    ]
    assert call["function"]["arguments"] == "{}"
    broken = Message("assistant", "", tool_calls=(ToolCall("c", "f", "{"),))
    with pytest.raises(BadRequestError, match="aren't valid JSON"):
        openai([Message("user", "Hi"), broken, Message("tool", "a", tool_call_id="c")])
    seen = Message("assistant", (ImagePart(url="https://a.example/b.png"),))
    with pytest.raises(BadRequestError, match="can't have images or files"):
        openai([Message("user", "Hi"), seen, Message("user", "On")])


@pytest.mark.parametrize("provider", ["mistral", "deepseek"])
def test_no_reasoning_need_not_be_asked_of_a_model_that_does_not_reason(provider: str) -> None:
    plain = msgspec.structs.replace(PROVIDERS[provider], reasoning=False)
    assert "reasoning" not in str(openai_body(as_request("Hi", reasoning="none"), "m", plain))
    with pytest.raises(UnsupportedError):
        openai(provider=provider, reasoning="none")


def test_the_options_of_chat_completions() -> None:
    body = openai(**PENALTIES, tools=[Tool("look")])
    assert "parallel_tool_calls" not in openai(**PENALTIES)
    assert {name: body[name] for name in PENALTIES if name in body} == {
        name: value for name, value in PENALTIES.items() if name != "reasoning"
    }
    assert (body["reasoning_effort"], body["logprobs"]) == ("low", True)
    assert openai(provider="mistral", seed=3)["random_seed"] == 3


@pytest.mark.parametrize("option", sorted(PENALTIES))
def test_an_option_that_a_provider_does_not_have_is_unsupported(option: str) -> None:
    without = {
        "frequency_penalty": "anthropic", "presence_penalty": "groq", "logit_bias": "anthropic",
        "parallel_tool_calls": "deepseek", "top_logprobs": "groq", "reasoning": "deepseek",
    }  # fmt: skip
    given = {option: PENALTIES[option]}
    body_of = anthropic if without[option] == "anthropic" else openai
    with pytest.raises(UnsupportedError) as caught:
        body_of(**given) if body_of is anthropic else openai(provider=without[option], **given)
    assert caught.value.field == option


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("frequency_penalty", 2.5), ("presence_penalty", -3), ("top_logprobs", 21),
        ("top_logprobs", -1), ("reasoning", "hard"), ("logit_bias", {"a": 1}),
        ("logit_bias", {"1": 101}), ("parallel_tool_calls", "yes"),
    ],
)  # fmt: skip
def test_an_invalid_option_is_an_error_at_the_call(option: str, value: Any) -> None:
    with pytest.raises(BadRequestError, match=option):
        as_request("Hi", **{option: value})


@pytest.mark.parametrize(
    ("effort", "max_tokens", "thinking", "limit"),
    [
        ("none", None, {"type": "disabled"}, 4096),
        ("minimal", None, {"type": "enabled", "budget_tokens": 1024}, 5120),
        ("low", None, {"type": "enabled", "budget_tokens": 2048}, 6144),
        ("high", 100_000, {"type": "enabled", "budget_tokens": 16384}, 100_000),
        ("high", 8_000, {"type": "enabled", "budget_tokens": 4_000}, 8_000),
        ("high", 1_500, {"type": "enabled", "budget_tokens": 1024}, 1_500),
    ],
)
def test_older_models_of_anthropic_think_within_a_budget(
    effort: str, max_tokens: int | None, thinking: Any, limit: int
) -> None:
    body = anthropic(reasoning=effort, max_tokens=max_tokens)
    assert (body["thinking"], body["max_tokens"]) == (thinking, limit)


def test_newer_models_of_anthropic_think_with_an_effort() -> None:
    newer = PROVIDERS["anthropic"].for_model(model_table().facts_of("anthropic/claude-opus-5"))
    body = anthropic_body(as_request("Hi", reasoning="minimal"), "claude-opus-5", newer)
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})
    request = as_request("Hi", reasoning="high", response_format=SCHEMA)
    config = anthropic_body(request, "claude-opus-5", newer)["output_config"]
    assert config == {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}}
    with pytest.raises(UnsupportedError, match="max_tokens above 1024, got 1000"):
        anthropic(reasoning="low", max_tokens=1000)


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (None, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", {"type": "any", "disable_parallel_tool_use": True}),
        ("look", {"type": "tool", "name": "look", "disable_parallel_tool_use": True}),
        ("none", {"type": "none"}),
    ],
)
def test_anthropic_calls_one_tool_at_a_time(choice: Any, written: Any) -> None:
    body = anthropic(tools=[Tool("look")], tool_choice=choice, parallel_tool_calls=False)
    assert body["tool_choice"] == written


PDF = b"%PDF-1.7 ..."
PDF_URL = "data:application/pdf;base64,JVBERi0xLjcgLi4u"
FILES = [
    (FilePart(data=PDF, name="a.pdf"),
     {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}}),
    (FilePart(data=b"RIFF....WAVEfmt"),
     {"type": "input_audio", "input_audio": {"data": "UklGRi4uLi5XQVZFZm10", "format": "wav"}}),
    (FilePart(data=b"ID3..."),
     {"type": "input_audio", "input_audio": {"data": "SUQzLi4u", "format": "mp3"}}),
]  # fmt: skip


@pytest.mark.parametrize(("part", "written"), FILES)
def test_files_in_chat_completions(part: FilePart, written: Any) -> None:
    assert openai([Message("user", (part,))])["messages"][0]["content"] == [written]


def test_files_of_anthropic() -> None:
    parts = (FilePart(data=PDF), FilePart(url="https://a.example/b.pdf"))
    documents = anthropic([Message("user", parts)])["messages"][0]["content"]
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjcgLi4u"}
    assert documents == [
        {"type": "document", "source": source},
        {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
    ]
    with pytest.raises(UnsupportedError, match="files of type audio/wav"):
        anthropic([Message("user", (FilePart(data=b"RIFF....WAVE"),))])
    with pytest.raises(UnsupportedError, match="not its URL"):
        openai([Message("user", (FilePart(url="https://a.example/b.pdf"),))])


def test_a_file_is_a_url_or_bytes_of_a_known_kind() -> None:
    assert FilePart(data=b"OggS..").media_type == "audio/ogg"
    assert FilePart(data=b"fLaC..").media_type == "audio/flac"
    assert FilePart(data=b"\xff\xfb\x90").media_type == "audio/mpeg"
    assert FilePart(data=b"x", media_type="text/csv").media_type == "text/csv"
    with pytest.raises(BadRequestError, match="exactly one of url and data"):
        FilePart()
    with pytest.raises(BadRequestError, match="unknown file format: pass media_type"):
        FilePart(data=b"x")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"top_k": 3}, "top_k"),
        ({"tools": [Tool("f")], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [Tool("f")], "tool_choice": "f"}, "tool_choice"),
    ],
)
def test_what_anthropic_refuses_while_it_thinks(options: Any, field: str) -> None:
    with pytest.raises(UnsupportedError, match="with reasoning") as caught:
        anthropic(reasoning="high", **options)
    assert caught.value.field == field
    with pytest.raises(UnsupportedError, match="a partial answer with reasoning"):
        anthropic(as_request("Hi", reasoning="high").continuing("Once"))
    assert "tool_choice" not in anthropic(parallel_tool_calls=False)


def test_a_model_that_does_not_reason_is_not_told_not_to() -> None:
    for name in ("openai", "anthropic"):
        plain = msgspec.structs.replace(PROVIDERS[name], reasoning=False)
        body_of = openai_body if name == "openai" else anthropic_body
        body = body_of(as_request("Hi", reasoning="none"), "m", plain)
        assert not {"reasoning_effort", "thinking"} & set(body)


BAD_STATES = [5, None, "x", ["a"], {"item": {"role": "user"}}, {"field": "role"}, {"part": 3}]


@pytest.mark.parametrize("data", BAD_STATES)
@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "ollama", "responses"])
def test_a_state_of_another_shape_does_no_harm(name: str, data: Any) -> None:
    provider = PROVIDERS["openai" if name == "responses" else name]
    state = ProviderState(provider.name, "m", data)
    call = ToolCall("c", "f", "{}", complete=True, state=state)
    parts = (ReasoningPart("hm", state), TextPart("Yes", state))
    history = [
        Message("user", "Hi"), Message("assistant", parts, tool_calls=(call,)),
        Message("tool", "a", tool_call_id="c"),
    ]  # fmt: skip
    body = BODIES[name](as_request(history), "m", provider)
    assert "user" not in msgspec.json.encode(body.get("input", [])[1:]).decode()
    for message in body.get("messages", []):
        assert message["role"] in ("user", "assistant", "tool")


BODIES: dict[str, Any] = {
    "openai": openai_body, "anthropic": anthropic_body, "gemini": gemini_body,
    "ollama": ollama_body, "responses": responses_body,
}  # fmt: skip
