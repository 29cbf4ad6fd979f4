"""What a model needs back with the next request; the servers refuse bad histories."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

import rxllm
from rxllm.chunks import ProviderState, Reasoning, Token, ToolCall
from rxllm.errors import BadRequestError
from rxllm.messages import Message, ReasoningPart, TextPart
from rxllm.testing.provider_streams import anthropic_event, openai_event
from tests import strict_providers
from tests.strict_providers import StrictServer

LOOK = rxllm.Tool("look", "Look at a place.", {"type": "object", "properties": {}})
DONE = b"data: [DONE]\n\n"
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def claude_answer(*blocks: dict[str, Any], reason: str = "tool_use") -> list[bytes]:
    """An answer of Anthropic; thinking and text come in pieces of three characters."""
    message = {"id": "m", "model": "claude", "usage": {"input_tokens": 5, "output_tokens": 1}}
    events = [anthropic_event("message_start", message=message)]
    for index, block in enumerate(blocks):
        start, deltas = dict(block), list[dict[str, Any]]()
        name = {"thinking": "thinking", "text": "text"}.get(block["type"])
        if name is not None:
            whole = block[name]
            start[name] = ""
            pieces = [whole[at : at + 3] for at in range(0, len(whole), 3)]
            deltas += [{"type": f"{name}_delta", name: piece} for piece in pieces]
        if signature := start.get("signature"):
            start["signature"] = ""
            deltas.append({"type": "signature_delta", "signature": signature})
        if block["type"] == "tool_use":
            start["input"] = {}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        events += [
            anthropic_event("content_block_start", index=index, content_block=start),
            *(anthropic_event("content_block_delta", index=index, delta=each) for each in deltas),
            anthropic_event("content_block_stop", index=index),
        ]
    delta = {"stop_reason": reason, "stop_sequence": None}
    end = anthropic_event("message_delta", delta=delta, usage={"output_tokens": 7})
    return [*events, end, anthropic_event("message_stop")]


def thought(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": f"signed {text}"}


def written(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def used(call_id: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "look", "input": given}


def delta(reason: str | None = None, **fields: Any) -> bytes:
    return openai_event(choices=[{"index": 0, "delta": fields, "finish_reason": reason}])


def called(call_id: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    function = {"name": "look", "arguments": '{"at": 1}'}
    return {"index": index, "id": call_id, "type": "function", "function": function, **fields}


def claude(server: StrictServer, name: str = "claude") -> rxllm.Model:
    return rxllm.model(f"anthropic/{name}", api_key="k", base_url=server.url)


def gpt(server: StrictServer, provider: str = "openai_compatible") -> rxllm.Model:
    return rxllm.model(f"{provider}/some-model", api_key="k", base_url=server.url)


def stored(messages: list[Message]) -> list[Message]:
    """The messages after a trip through JSON, as from a database."""
    return msgspec.json.decode(msgspec.json.encode(messages), type=list[Message])


async def two_steps(model: rxllm.Model, **options: Any) -> list[Message]:
    """Ask, answer the calls, ask again, and return the history."""
    history = [Message("user", "Go")]
    for _ in range(2):
        result = await model.stream(stored(history), tools=[LOOK], **options)
        history.append(result.message)
        history += [Message("tool", "snow", tool_call_id=call.id) for call in result.message.calls]
    return history


async def test_anthropic_gets_its_thinking_back_in_its_place() -> None:
    blocks = [
        thought("I must look."), {"type": "redacted_thinking", "data": "encrypted 1"},
        written("One moment."), used("a", place="Oslo"), used("b", place="Rome"),
    ]  # fmt: skip
    answers = claude_answer(*blocks), claude_answer(written("It snows."), reason="end_turn")
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        history = await two_steps(claude(server), extra=THINKING)
    assert server.refused == []
    assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": blocks}
    assert history[-1] == Message("assistant", "It snows.")


async def test_anthropic_may_think_between_calls_and_text() -> None:
    blocks = [thought("One."), written("a"), thought("Two."), written("b"), used("a")]
    answers = claude_answer(*blocks), claude_answer(written("Done."), reason="end_turn")
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        await two_steps(claude(server), extra=THINKING)
    assert server.bodies[1]["messages"][1]["content"] == blocks


async def test_thinking_whose_text_is_omitted_is_sent_back() -> None:
    blocks = [thought(""), used("a")]
    answers = claude_answer(*blocks), claude_answer(written("Done."), reason="end_turn")
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        await two_steps(claude(server), extra=THINKING)
    assert (server.refused, server.bodies[1]["messages"][1]["content"]) == ([], blocks)


async def test_texts_of_anthropic_keep_their_borders() -> None:
    blocks = [written("One."), written("Two.")]
    answers = claude_answer(*blocks, reason="end_turn"), claude_answer(written("."))
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        first = await claude(server).stream("Go")
        await claude(server).stream([Message("user", "Go"), first.message, Message("user", "On")])
    assert first.text == "One.Two."
    assert server.bodies[1]["messages"][1]["content"] == blocks


@pytest.mark.parametrize("between", ["server_tool_use", "web_search_tool_result", "image", "poem"])
async def test_texts_of_anthropic_keep_their_borders_across_other_blocks(between: str) -> None:
    blocks = [written("a"), {"type": between}, {"type": between}, written("b"), written("c")]
    answers = claude_answer(*blocks, reason="end_turn"), claude_answer(written("."))
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        first = await claude(server).stream("Go")
        await claude(server).stream([Message("user", "Go"), first.message, Message("user", "On")])
    assert server.bodies[1]["messages"][1]["content"] == [written(each) for each in "abc"]


async def test_texts_without_anything_between_them_have_one_border() -> None:
    blocks = [written("a"), thought(""), written(""), written("b"), used("c"), written("d")]
    del blocks[1]["signature"]
    async with StrictServer(strict_providers.anthropic, claude_answer(*blocks)) as server:
        chunks = [chunk async for chunk in claude(server).stream("Go")]
    border = Token("", state=ProviderState("anthropic", "claude", {"type": "text"}))
    texts = [chunk for chunk in chunks if isinstance(chunk, Token)]
    assert texts == [Token("a"), border, Token("b"), Token("d")]


@pytest.mark.parametrize(
    "data",
    [
        {"field": "reasoning"}, {"x": 1}, {"type": "thinking"},
        {"type": "thinking", "signature": ""}, {"type": "thinking", "signature": 3},
        {"type": "redacted_thinking"}, {"type": "redacted_thinking", "data": 3},
        {"type": "redacted_thinking", "data": None, "signature": "signed hm"},
    ],
)  # fmt: skip
async def test_a_state_of_another_form_is_not_sent(data: Any) -> None:
    thinking = ReasoningPart("hm", ProviderState("anthropic", "claude", data))
    history = [Message("user", "Go"), Message("assistant", (thinking, TextPart("a")))]
    async with StrictServer(strict_providers.anthropic, claude_answer(written("a"))) as server:
        await claude(server).stream([*history, Message("user", "On")])
    assert server.bodies[0]["messages"][1]["content"] == [written("a")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("[1]", "aren't a JSON object"), ("null", "aren't a JSON object"),
        ("{", "aren't valid JSON"), ('{"a": NaN}', "aren't valid JSON"),
    ],
)  # fmt: skip
async def test_arguments_must_be_an_object(arguments: str, message: str) -> None:
    call = ToolCall("c", "look", arguments, complete=True)
    history = [Message("user", "Go"), Message("assistant", "", tool_calls=(call,))]
    model = rxllm.model("anthropic/claude", api_key="k", base_url="http://127.0.0.1:9")
    with pytest.raises(BadRequestError, match=f"tool call c {message}"):
        await model.stream([*history, Message("tool", "snow", tool_call_id="c")])


@pytest.mark.parametrize(
    ("arguments", "given"),
    [("", {}), (" ", {}), (r'{"a": "\ud83e"}', {"a": "\ufffd"}), ('{"a": 1}', {"a": 1})],
)
async def test_arguments_are_sent_as_an_object(arguments: str, given: Any) -> None:
    call = ToolCall("c", "look", arguments, complete=True)
    history = [Message("user", "Go"), Message("assistant", "", tool_calls=(call,))]
    async with StrictServer(strict_providers.anthropic, claude_answer(written("a"))) as server:
        await claude(server).stream([*history, Message("tool", "snow", tool_call_id="c")])
    assert server.bodies[0]["messages"][1]["content"] == [used("c", **given)]


async def test_without_its_thinking_anthropic_would_refuse() -> None:
    answers = claude_answer(thought("hm"), used("a")), claude_answer(written("Done."))
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        first = await claude(server).stream("Go", extra=THINKING)
        bare = Message("assistant", first.text, tool_calls=first.tool_calls)
        history = [Message("user", "Go"), bare, Message("tool", "snow", tool_call_id="a")]
        with pytest.raises(BadRequestError, match="Expected `thinking`"):
            await claude(server).stream(history, extra=THINKING)


async def test_another_model_gets_no_thinking() -> None:
    answer = claude_answer(thought("secret"), written("One moment."), used("a"))
    async with StrictServer(strict_providers.anthropic, answer) as server:
        first = await claude(server).stream("Go")
    history = [Message("user", "Go"), first.message, Message("tool", "", tool_call_id="a")]
    done = claude_answer(written("Done."), reason="end_turn")
    async with StrictServer(strict_providers.anthropic, done) as server:
        await claude(server, "claude-2").stream(history)
        assert [block["type"] for block in server.bodies[0]["messages"][1]["content"]] == [
            "text", "tool_use",
        ]  # fmt: skip
    answer = [delta(content="Done."), delta("stop"), DONE]
    async with StrictServer(strict_providers.openai, answer) as server:
        await gpt(server, "openai").stream(history)
        assert "secret" not in json.dumps(server.bodies)


async def test_a_cut_answer_that_only_thinks_is_left_out() -> None:
    cut = claude_answer(thought("hm"), reason="max_tokens")
    async with StrictServer(strict_providers.anthropic, cut, claude_answer(written("a"))) as server:
        first = await claude(server).stream("Go")
        await claude(server).stream([Message("user", "Go"), first.message, Message("user", "On")])
    assert [turn["role"] for turn in server.bodies[1]["messages"]] == ["user", "user"]


async def test_deepseek_gets_its_reasoning_back() -> None:
    first = [
        delta(reasoning_content="I must"), delta(reasoning_content=" look."),
        delta(content="Wait."), delta(tool_calls=[called("a"), called("b", 1)]),
        delta("tool_calls"), DONE,
    ]  # fmt: skip
    answers = first, [delta(content="It snows."), delta("stop"), DONE]
    async with StrictServer(strict_providers.deepseek, *answers) as server:
        await two_steps(gpt(server))
    assert server.refused == []
    sent = server.bodies[1]["messages"][1]
    assert (sent["reasoning_content"], sent["content"]) == ("I must look.", "Wait.")


async def test_openrouter_gets_its_reasoning_details_back() -> None:
    details = [
        {"type": "reasoning.text", "text": "I must look.", "index": 0, "signature": "s"},
        {"type": "reasoning.text", "text": "Again.", "index": 0},
        {"type": "reasoning.encrypted", "data": "AAAA", "index": 1},
    ]
    pieces = [
        {"type": "reasoning.text", "text": "I must", "index": 0},
        {"type": "reasoning.text", "text": " look.", "index": 0},
        {"type": "reasoning.text", "signature": "s", "index": 0},
        {"type": "reasoning.text", "text": "Again.", "index": 0},
    ]
    first = [
        *(delta(reasoning=each.get("text"), reasoning_details=[each]) for each in pieces),
        delta(content="Wait."),
        delta(tool_calls=[called("a")]),
        delta("tool_calls", reasoning_details=[details[2]]),
        DONE,
    ]
    answers = first, [delta(content="It snows."), delta("stop"), DONE]
    async with StrictServer(strict_providers.openrouter(details), *answers) as server:
        await two_steps(gpt(server, "openrouter"))
    assert server.refused == []


async def test_gemini_gets_the_signatures_of_its_calls_back() -> None:
    signed = {"google": {"thought_signature": "signed a"}}
    first = [
        delta(tool_calls=[called("a", extra_content=signed)]), delta(tool_calls=[called("b", 1)]),
        delta("tool_calls"), DONE,
    ]  # fmt: skip
    on_text = {"google": {"thought_signature": "of the text"}}
    second = [delta(content="It snows."), delta("stop", extra_content=on_text), DONE]
    async with StrictServer(strict_providers.gemini, first, second) as server:
        history = await two_steps(gpt(server))
    assert server.refused == []
    assert [call.state is not None for call in history[1].calls] == [True, False]
    state = ProviderState("openai_compatible", "some-model", {"extra_content": on_text})
    assert history[-1] == Message("assistant", (TextPart("It snows.", state),))


async def test_the_signature_of_a_text_of_gemini_is_sent_back() -> None:
    on_text = {"google": {"thought_signature": "of the text"}}
    first = [delta(content="Yes.", extra_content=on_text), delta("stop"), DONE]
    async with StrictServer(strict_providers.gemini, first, first) as server:
        said = (await gpt(server).stream("Go")).message
        await gpt(server).stream([Message("user", "Go"), said, Message("user", "Sure?")])
    assert server.bodies[1]["messages"][1] == {
        "role": "assistant", "content": "Yes.", "extra_content": on_text,
    }  # fmt: skip


async def test_mistral_gets_its_thinking_back_as_a_part() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    first = [
        delta(content=parts), delta(content="Wait."), delta(tool_calls=[called("a")]),
        delta("tool_calls"), DONE,
    ]  # fmt: skip
    answers = first, [delta(content="It snows."), delta("stop"), DONE]
    async with StrictServer(strict_providers.mistral, *answers) as server:
        await two_steps(gpt(server))
    assert server.refused == []
    assert server.bodies[1]["messages"][1]["content"] == [*parts, written("Wait.")]


BLANK = ["", " ", "\n\t", (), (TextPart(""), TextPart(" "))]


@pytest.mark.parametrize("content", BLANK)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
async def test_blank_messages_are_left_out(role: Any, content: Any) -> None:
    history = [Message("user", "Hi"), Message(role, content), Message("user", "Go")]
    if role == "system":
        history.insert(0, history.pop(1))
    async with StrictServer(strict_providers.anthropic, claude_answer(written("a"))) as server:
        await claude(server).stream(history)
        assert [turn["content"] for turn in server.bodies[0]["messages"]] == ["Hi", "Go"]
        assert "system" not in server.bodies[0]
    async with StrictServer(strict_providers.mistral, [delta("stop"), DONE]) as server:
        await gpt(server).stream(history)
        assert [each["content"] for each in server.bodies[0]["messages"]] == ["Hi", "Go"]


async def test_blank_parts_are_left_out_and_blank_results_are_not() -> None:
    parts = (TextPart(" "), TextPart("Look:"), rxllm.ImagePart(url="https://a.example/b.png"))
    call = ToolCall("a", "look", "{}", complete=True)
    history = [
        Message("user", parts), Message("assistant", "", tool_calls=(call,)),
        Message("tool", "", tool_call_id="a", is_error=True),
    ]  # fmt: skip
    async with StrictServer(strict_providers.anthropic, claude_answer(written("a"))) as server:
        await claude(server).stream(history)
    question, _, answer = server.bodies[0]["messages"]
    assert [part["type"] for part in question["content"]] == ["text", "image"]
    assert answer["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [], "is_error": True}
    ]
    async with StrictServer(strict_providers.openai, [delta("stop"), DONE]) as server:
        await gpt(server, "openai").stream(history)
    assert server.bodies[0]["messages"][2] == {"role": "tool", "content": "", "tool_call_id": "a"}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_only_blank_messages_are_an_error(provider: str) -> None:
    model = rxllm.model(f"{provider}/some-model", api_key="k", base_url="http://127.0.0.1:9")
    with pytest.raises(BadRequestError, match="every message is blank"):
        await model.stream([Message("user", " ")])


@pytest.mark.parametrize(
    ("partial", "pieces", "text"),
    [
        ("Once ", ["upon"], "upon"),
        ("Once ", [" upon"], "upon"),
        ("Once ", [" ", "upon"], "upon"),
        ("Once\n\n", ["\nupon"], "upon"),
        ("Once\n\n", ["\n", "\n", "\n", "upon"], "\nupon"),
        ("Once\n", [" upon"], " upon"),
        ("Once", [" upon"], " upon"),
    ],
)
async def test_the_space_after_a_partial_answer_is_not_repeated(
    partial: str, pieces: list[str], text: str
) -> None:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    start, *_, stop, end, last = claude_answer(written(""), reason="end_turn")
    opened = anthropic_event("content_block_start", index=0, content_block=written(""))
    body = [anthropic_event("content_block_delta", index=0, delta=each) for each in deltas]
    answer = [start, opened, *body, stop, end, last]
    async with StrictServer(strict_providers.anthropic, answer) as server:
        history = [Message("user", "Go"), Message("assistant", partial)]
        result = await claude(server).stream(history)
    assert server.bodies[0]["messages"][1]["content"] == "Once"
    assert result.text == text


async def test_a_partial_answer_may_have_parts() -> None:
    state = ProviderState("anthropic", "claude", {"type": "text"})
    parts = (TextPart("One.", state), TextPart("Two. "))
    async with StrictServer(strict_providers.anthropic, claude_answer(written("a"))) as server:
        await claude(server).stream([Message("user", "Go"), Message("assistant", parts)])
    assert server.bodies[0]["messages"][1]["content"] == [written("One."), written("Two.")]


SIGNED = ReasoningPart("hm", ProviderState("anthropic", "claude", thought("hm")))
BORDER = ProviderState("anthropic", "claude", {"type": "text"})


@pytest.mark.parametrize(
    "parts",
    [
        (TextPart("a "), SIGNED),
        (TextPart("a ", BORDER), TextPart("", BORDER)),
        (TextPart("a "), TextPart("\n", BORDER), SIGNED, TextPart(" "), ReasoningPart("hm")),
    ],
)
async def test_the_space_of_a_partial_answer_is_left_out_wherever_its_text_ends(
    parts: Any,
) -> None:
    space = "".join(part.text for part in parts if isinstance(part, TextPart)).removeprefix("a")
    answer = claude_answer(written(f"{space}b"), reason="end_turn")
    async with StrictServer(strict_providers.anthropic, answer) as server:
        result = await claude(server).stream([Message("user", "Go"), Message("assistant", parts)])
    assert server.bodies[0]["messages"][1]["content"] == [written("a")]
    assert result.text == "b"


async def test_a_partial_answer_that_is_not_sent_leaves_the_answer_its_space() -> None:
    answer = claude_answer(written("  b"), reason="end_turn")
    for content in ("  ", (TextPart("  "), SIGNED)):
        async with StrictServer(strict_providers.anthropic, answer) as server:
            history = [Message("user", "Go"), Message("assistant", content)]
            result = await claude(server).stream(history)
        assert [turn["role"] for turn in server.bodies[0]["messages"]] == ["user"]
        assert result.text == "  b"


async def test_calls_at_the_end_of_a_history_keep_what_is_before_them() -> None:
    call = ToolCall("c", "look", "{}", complete=True)
    parts = (TextPart("a "), SIGNED)
    history = [Message("user", "Go"), Message("assistant", parts, tool_calls=(call,))]
    async with StrictServer(strict_providers.anthropic) as server:
        with pytest.raises(BadRequestError, match="without `tool_result` blocks"):
            await claude(server).stream(history)
    sent = [written("a "), thought("hm"), used("c")]
    assert server.bodies[0]["messages"][1]["content"] == sent


async def test_the_cache_of_a_prompt() -> None:
    history = [Message("system", "Be brief."), Message("user", "Hi")]
    mark = {"type": "ephemeral"}
    async with StrictServer(strict_providers.anthropic, claude_answer(written("a"))) as server:
        await claude(server).stream(history, cache=True)
    assert server.bodies[0]["cache_control"] == mark
    assert server.bodies[0]["system"] == [{**written("Be brief."), "cache_control": mark}]
    answer = [delta("stop"), DONE]
    async with StrictServer(strict_providers.openai, answer, answer, answer) as server:
        await gpt(server, "openai").stream(history, cache="brief")
        await gpt(server, "openai").stream(history, cache=True)
        await gpt(server).stream(history, cache="brief")
    keys = [body.get("prompt_cache_key") for body in server.bodies]
    assert keys == ["brief", None, None]


@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_only_an_answer_has_reasoning_and_calls(role: Any) -> None:
    model = rxllm.model("openai/gpt", api_key="k")
    for part in (ReasoningPart("hm"), ToolCall("c", "f")):
        with pytest.raises(BadRequestError, match="only an assistant message"):
            model.stream([Message(role, (part,))])


async def test_states_are_chunks_of_their_own() -> None:
    answer = claude_answer(thought("hm"), written("Yes."), reason="end_turn")
    async with StrictServer(strict_providers.anthropic, answer) as server:
        chunks = [chunk async for chunk in claude(server).stream("Go")]
    data = {"type": "thinking", "signature": "signed hm"}
    assert chunks[2:6] == [
        Reasoning("hm"), Reasoning("", ProviderState("anthropic", "claude", data)),
        Token("Yes"), Token("."),
    ]  # fmt: skip


async def test_details_with_nulls_and_cut_characters_are_joined() -> None:
    pieces = [
        {"type": "reasoning.text", "text": None, "index": 0, "signature": None},
        {"type": "reasoning.text", "text": "I \ud83e", "index": 0, "signature": None},
        {"type": "reasoning.text", "text": "\udd8a", "index": 0, "signature": "s"},
    ]
    details = [{"type": "reasoning.text", "text": "I 🦊", "index": 0, "signature": "s"}]
    lines = [json.dumps({"choices": [{"delta": {"reasoning_details": [each]}}]}) for each in pieces]
    first = [
        *(f"data: {line}\n\n".encode() for line in lines),
        delta(tool_calls=[called("a")]), delta("tool_calls"), DONE,
    ]  # fmt: skip
    answers = first, [delta(content="It snows."), delta("stop"), DONE]
    async with StrictServer(strict_providers.openrouter(details), *answers) as server:
        await two_steps(gpt(server, "openrouter"))
    assert server.refused == []


async def test_thinking_that_is_not_closed_keeps_its_signature() -> None:
    blocks = [thought("Hm."), used("a")]
    first = [
        each for each in claude_answer(*blocks) if b'"content_block_stop","index":0' not in each
    ]
    answers = first, claude_answer(written("Done."), reason="end_turn")
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        await two_steps(claude(server), extra=THINKING)
    assert server.bodies[1]["messages"][1]["content"] == blocks
