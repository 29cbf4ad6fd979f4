"""`Transcript`: the fold of chunks into output, whenever it is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Progress,
    ProviderState,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    is_restart,
)
from rxllm.errors import StreamError
from rxllm.messages import Message, ReasoningPart, TextPart
from rxllm.transcript import Transcript

STATE = ProviderState("provider", "model", "signature")
SOURCES = st.sampled_from([None, "a", "b"])
CHUNKS: st.SearchStrategy[Chunk] = st.one_of(
    st.builds(Token, st.text(max_size=2), source=SOURCES),
    st.builds(Reasoning, st.text(max_size=2), source=SOURCES),
    st.builds(
        lambda text, thought, source: Batch((Token(text), Reasoning(thought)), text, source=source),
        st.text(max_size=2),
        st.text(max_size=2),
        SOURCES,
    ),
    st.builds(ToolCall, st.just("c"), st.just("f"), st.text(max_size=1), source=SOURCES),
    st.builds(Token, st.just(""), state=st.just(STATE), source=SOURCES),
    st.builds(Reasoning, st.just(""), state=st.just(STATE), source=SOURCES),
    st.builds(Usage, st.integers(0, 9), st.integers(0, 9), source=SOURCES),
    st.builds(Notice, st.sampled_from(["restart", "retry"]), source=SOURCES),
    st.builds(End, st.just("stop"), source=SOURCES),
)


def transcript(*chunks: Chunk) -> Transcript:
    said = Transcript()
    for chunk in chunks:
        said.add(chunk)
    return said


def test_an_empty_transcript() -> None:
    said = Transcript()
    assert (said.text, said.reasoning, said.tokens, said.tool_calls) == ("", "", 0, ())
    assert (said.json, said.usage, said.start, said.end) == (None, None, None, None)
    assert said.message == Message("assistant", "")
    assert not said.has_begun
    assert said.is_plain


def test_text_reasoning_and_their_pieces() -> None:
    said = transcript(
        Reasoning("hm"), Token("Once"), Token(""), Batch((Token(" upon"), Reasoning("!")), " upon")
    )
    assert (said.text, said.reasoning, said.tokens) == ("Once upon", "hm!", 4)


def test_the_newest_state_of_calls_and_values_counts() -> None:
    said = transcript(
        ToolCall("c1", "f", "{"),
        ToolCall("c2", "g", "{}", index=1, complete=True),
        ToolCall("c1", "f", '{"a":1}', complete=True),
        Json([1]),
        Json([1, 2], complete=True),
    )
    assert [(call.name, call.arguments) for call in said.tool_calls] == [
        ("f", '{"a":1}'),
        ("g", "{}"),
    ]
    assert said.json == [1, 2]


def test_the_message_contains_only_complete_calls() -> None:
    whole = ToolCall("c1", "f", "{}", complete=True)
    said = transcript(Token("Let me see"), whole, ToolCall("c2", "g", "{", index=1))
    assert said.message == Message("assistant", "Let me see", tool_calls=(whole,))


def test_the_message_has_states_and_what_they_belong_to_in_its_place() -> None:
    whole = ToolCall("c1", "f", "{}", complete=True)
    said = transcript(
        Reasoning("I "),
        Reasoning("think"),
        Reasoning("", STATE),
        Reasoning("", STATE),
        Token("Let "),
        Token("me"),
        Token("", state=STATE),
        Token(" see"),
        whole,
        Token("ok"),
        ToolCall("c2", "f", "{}", index=1, complete=True),
    )
    assert said.states == 3
    assert said.message == Message(
        "assistant",
        (
            ReasoningPart("I think", STATE),
            ReasoningPart("", STATE),
            TextPart("Let me", STATE),
            TextPart(" see"),
            whole,
            TextPart("ok"),
        ),
        tool_calls=(ToolCall("c2", "f", "{}", index=1, complete=True),),
    )
    assert [call.id for call in said.message.calls] == ["c1", "c2"]


def test_reasoning_without_a_state_is_left_out_of_the_message() -> None:
    assert transcript(Reasoning("hm"), Token("Yes")).message == Message("assistant", "Yes")


def test_the_newest_usage_of_each_source_is_added_up() -> None:
    assert transcript(Usage(1, 1), Usage(1, 5)).usage == Usage(1, 5)
    said = transcript(Usage(1, 1, source="a"), Usage(2, 2, cost=0.5, source="b"))
    assert said.usage == Usage(3, 3, cost=0.5)


def test_usage_before_a_restart_is_included() -> None:
    first = (Token("wrong"), Usage(9, 1), Usage(9, 5, cost=0.5), Notice("restart"))
    assert transcript(*first).usage == Usage(9, 5, cost=0.5)
    assert transcript(*first, Token("right"), Usage(9, 2, cost=0.25)).usage == Usage(
        18, 7, cost=0.75
    )
    said = transcript(
        Usage(1, 1, source="a"),
        Usage(2, 2, source="b"),
        Notice("restart", source="a"),
        Usage(4, 4, source="a"),
    )
    assert said.usage == Usage(7, 7)


def test_sources_are_separated_in_the_order_in_which_they_began() -> None:
    said = transcript(Start("1", "m", source="b"), Token("x", source="a"), Token("y", source="b"))
    assert {source: answer.text for source, answer in said.answers.items()} == {"b": "y", "a": "x"}
    assert said.answers["b"].start == Start("1", "m", source="b")
    assert said.text == "yx"
    assert not said.is_plain


def test_a_restart_drops_output_and_keeps_notices_and_usage() -> None:
    said = transcript(
        Start("1", "m"),
        Token("wrong"),
        ToolCall("c", "f"),
        Json(1),
        Usage(1, 1),
        End("length"),
        Notice("restart"),
        Token("right"),
    )
    assert (said.text, said.tool_calls, said.json, said.usage, said.end) == (
        "right",
        (),
        None,
        Usage(1, 1),
        None,
    )
    assert said.notices == (Notice("restart"),)
    assert said.start == Start("1", "m")


def test_a_restart_of_one_source_keeps_the_others_and_their_end() -> None:
    said = transcript(
        Token("a", source="a"),
        Token("b", source="b"),
        End("stop", source="a"),
        Notice("restart", source="b"),
    )
    assert (said.text, said.end) == ("a", End("stop", source="a"))
    said.add(Notice("restart", source="a"))
    assert (said.text, said.end) == ("", None)


@pytest.mark.parametrize(
    ("chunk", "has_begun", "is_plain"),
    [
        (Start("1", "m"), False, True),
        (Token(""), False, True),
        (Progress(1, 0.5), False, True),
        (Usage(1, 1), False, True),
        (Notice("retry"), False, True),
        (Token("a"), True, True),
        (Reasoning("a"), True, True),
        (Token("a", source="a"), True, False),
        (ToolCall("c", "f"), True, False),
        (Json(1), True, False),
        (End("stop"), True, False),
    ],
)
def test_has_begun_and_is_plain(chunk: Chunk, has_begun: bool, is_plain: bool) -> None:
    said = transcript(chunk)
    assert (said.has_begun, said.is_plain) == (has_begun, is_plain)


def test_partial_text_is_stored_if_possible() -> None:
    said, error = transcript(Token("Once")), StreamError("cut")
    said.write_partial(error)
    assert error.partial == "Once"
    incomplete = EOFError()
    incomplete.partial = b"bytes"  # type: ignore[attr-defined]
    said.write_partial(incomplete)
    assert incomplete.partial == b"bytes"  # type: ignore[attr-defined]


@given(st.lists(CHUNKS, max_size=12), st.data())
def test_reading_early_does_not_change_the_result(chunks: list[Chunk], data: st.DataObject) -> None:
    asked, late = Transcript(), transcript(*chunks)
    for chunk in chunks:
        asked.add(chunk)
        if data.draw(st.booleans()):
            assert asked.text is not None
    for name in ("text", "reasoning", "tokens", "tool_calls", "usage", "notices", "end", "parts"):
        assert getattr(asked, name) == getattr(late, name)
    parts = late.parts
    assert "".join([part.text for part in parts if isinstance(part, TextPart)]) == late.text
    thoughts = [part.text for part in parts if isinstance(part, ReasoningPart)]
    assert "".join(thoughts) == late.reasoning
    said = [part for part in parts if isinstance(part, TextPart | ReasoningPart)]
    assert sum(part.state is not None for part in said) == late.states


@given(st.lists(CHUNKS, max_size=12))
def test_it_equals_a_plain_loop(chunks: list[Chunk]) -> None:
    texts: dict[str | None, list[str]] = {}
    for chunk in chunks:
        if is_restart(chunk):
            for source in list(texts) if chunk.source is None else [chunk.source]:
                texts.pop(source, None)
        elif type(chunk) is not Notice:
            said = texts.setdefault(chunk.source, [])
            if isinstance(chunk, Token | Batch):
                said.append(chunk.text)
    joined = {source: "".join(pieces) for source, pieces in texts.items()}
    actual = transcript(*chunks)
    assert {source: answer.text for source, answer in actual.answers.items()} == joined
    assert actual.text == "".join(joined.values())
