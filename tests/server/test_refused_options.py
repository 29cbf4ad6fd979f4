"""Options that would change the answer are used or refused, on every wire."""

from __future__ import annotations

from typing import Any

import pytest

from rxllm.messages import FilePart, ImagePart
from rxllm.server.data_urls import file_part, source_of
from rxllm.web.failures import InvalidMessageError
from tests.server.serving import scripted, serving

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
MESSAGE: dict[str, Any] = {**CHAT, "max_tokens": 9}
RESPONSE: dict[str, Any] = {"input": "Hi"}
FUNCTION = {"type": "function", "name": "f", "parameters": {}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**CHAT, "top_logprobs": 2}),
        ("/v1/chat/completions", {**CHAT, "grammar": "a", "guided_grammar": "b"}),
        ("/v1/chat/completions", {**CHAT, "structured_outputs": {"choice": ["a"]}}),
        ("/v1/responses", {**RESPONSE, "tools": [FUNCTION], "tool_choice": {"type": "web_search"}}),
        (
            "/v1/responses",
            {**RESPONSE, "tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}},
        ),
        ("/v1/responses", {**RESPONSE, "tool_choice": "required"}),
        ("/v1/responses", {**RESPONSE, "max_tool_calls": 2}),
        ("/v1/responses", {**RESPONSE, "stop": ["x"]}),
        ("/v1/responses", {"input": [{"type": "web_search_call", "role": "assistant"}]}),
        ("/v1/messages", {**MESSAGE, "tool_choice": {"type": "any"}}),
        (
            "/v1/messages",
            {**MESSAGE, "tools": [{"name": "f"}], "tool_choice": {"type": "tool"}},
        ),
        (
            "/v1/messages",
            {
                **MESSAGE,
                "tools": [{"name": "none"}],
                "tool_choice": {"type": "tool", "name": "none"},
            },
        ),
        ("/v1/messages", {**MESSAGE, "output_config": {"format": {"type": "json_schema"}}}),
        ("/api/chat", {**CHAT, "options": {"num_predict": 0}}),
        ("/api/generate", {"prompt": "Hi", "context": [1, 2]}),
    ],
)
async def test_what_is_not_used_is_refused(path: str, body: dict[str, Any]) -> None:
    async with serving(scripted()) as client, client.post(path, json=body) as response:
        assert response.status == 400, await response.text()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {**MESSAGE, "tool_choice": {"type": "auto"}}),
        ("/v1/responses", {**RESPONSE, "tool_choice": "auto", "truncation": "disabled"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant"}]}),
        ("/agui", {**CHAT, "tools": None, "context": None, "resume": None}),
    ],
)
async def test_what_says_nothing_is_not(path: str, body: dict[str, Any]) -> None:
    async with serving(scripted()) as client, client.post(path, json=body) as response:
        assert response.status == 200, await response.text()


def test_the_data_of_a_url() -> None:
    assert source_of("data:text/plain,a%20b", "f") == (None, b"a b", "text/plain")
    assert source_of("DATA:image/png;base64,aGk%3D", "f") == (None, b"hi", "image/png")
    assert source_of("https://a.example/x,y", "f").url == "https://a.example/x,y"
    assert isinstance(file_part("data:application/pdf;base64,aGk=", "f"), FilePart)
    assert isinstance(file_part("https://a.example/b", "f"), ImagePart)
    for wrong in ("data:image/png;base64", "data:image/png;base64,***"):
        with pytest.raises(InvalidMessageError):
            source_of(wrong, "f")
