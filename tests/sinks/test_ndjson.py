"""`ndjson`: a stream as lines of JSON. Behaviour shared with `sse` is tested there."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from rxllm import End, RxLLMError, Token, sinks
from rxllm.testing import no_leaks
from rxllm.web.stream_messages import Complete, StreamFailed
from tests.sinks.web import fetch, read_message, serving


async def _lines(stream: Any) -> tuple[str, list[str]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await sinks.ndjson(request, stream, stream_id="story")

    async with no_leaks(), serving(handler) as url:
        response, body = await fetch(url)
    assert body.endswith("\n")
    return response.headers["Content-Type"], body[:-1].split("\n")


async def test_each_line_is_an_object_and_the_last_has_the_whole_text(source: Any) -> None:
    kind, lines = await _lines(source.stream(Token("Once\n"), Token(" upon"), End("stop")))
    assert kind == "application/x-ndjson"
    assert [json.loads(line)["type"] for line in lines] == ["chunk"] * 3 + ["complete"]
    last = read_message(lines[-1])
    assert isinstance(last, Complete)
    assert (last.id, last.text, last.tokens, last.position) == ("story", "Once\n upon", 2, 4)


async def test_no_line_before_the_last_contains_the_whole_text(source: Any) -> None:
    _, lines = await _lines(source.stream(*(Token(f"word{n} ") for n in range(50)), End("stop")))
    assert [sum(f"word{n} " in line for line in lines) for n in range(50)] == [2] * 50
    assert len({len(line) for line in lines[10:50]}) <= 6, "lines grow with the text"


async def test_a_failure_is_the_last_line(source: Any) -> None:
    _, lines = await _lines(source.stream(Token("so far"), RxLLMError("broken")))
    last = read_message(lines[-1])
    assert isinstance(last, StreamFailed)
    assert (last.code, last.message, last.partial) == ("failed", "broken", "so far")


async def test_unicode_line_separators_stay_within_their_line(source: Any) -> None:
    _, lines = await _lines(source.stream(Token("a\u2028b\x85c\r"), End("stop")))
    assert len(lines) == 3
