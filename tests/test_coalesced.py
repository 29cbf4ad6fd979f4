"""The queue that joins text: no text is lost, and its length doesn't grow with the text."""

from __future__ import annotations

from collections.abc import Iterable

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
    Token,
    ToolCall,
    Usage,
)
from rxllm.coalesced import Coalesced

SOURCES = st.sampled_from([None, "left", "right"])
TEXTS = st.builds(Token, st.text(max_size=2), source=SOURCES) | st.builds(
    Reasoning, st.text(max_size=2), source=SOURCES
)
STATES = st.one_of(
    st.builds(Progress, st.integers(0, 9), st.just(0.0), source=SOURCES),
    st.builds(Json, st.integers(0, 9), source=SOURCES),
    st.builds(ToolCall, st.sampled_from("12"), st.just("f"), source=SOURCES),
)
OTHERS = st.builds(End, st.just("stop"), source=SOURCES)
BATCHES = st.builds(
    lambda parts, source: Batch(
        tuple(Token(text, source=source) for text in parts), "".join(parts), source=source
    ),
    st.lists(st.text(max_size=2), max_size=3),
    SOURCES,
)


def queued(chunks: Iterable[Chunk]) -> Coalesced:
    """Return a queue with `chunks` in it."""
    queue = Coalesced()
    for chunk in chunks:
        queue.append(chunk)
    return queue


def emptied(queue: Coalesced) -> list[Chunk]:
    """Return everything that comes out."""
    return [queue.popleft() for _ in range(len(queue))]


def parts(chunks: Iterable[Chunk], source: str | None) -> list[Chunk]:
    """Return the text and ends of `source`, with batches replaced by their chunks."""
    own = [chunk for chunk in chunks if chunk.source == source]
    flat = [part for chunk in own for part in (chunk.chunks if type(chunk) is Batch else [chunk])]
    return [part for part in flat if type(part) in (Token, Reasoning, End)]


@given(st.lists(TEXTS | STATES | OTHERS | BATCHES), SOURCES)
def test_the_chunks_of_each_source_come_out_in_order(
    chunks: list[Chunk], source: str | None
) -> None:
    assert parts(emptied(queued(chunks)), source) == parts(chunks, source)


@given(st.lists(TEXTS | STATES | OTHERS | BATCHES))
def test_inspecting_and_emptying_the_queue_give_the_same_chunks(chunks: list[Chunk]) -> None:
    queue = queued(chunks)
    seen = queue.chunks()
    assert queue.chunks() == seen == emptied(queue)
    assert (queue.lag, len(queue)) == (0, 0)


@given(st.lists(STATES, max_size=60))
def test_only_the_newest_chunk_of_each_state_is_kept(chunks: list[Chunk]) -> None:
    newest = {
        (type(chunk), chunk.source, chunk.id if type(chunk) is ToolCall else ""): chunk
        for chunk in chunks
    }
    assert emptied(queued(chunks)) == list(newest.values())


@given(st.lists(TEXTS | STATES | BATCHES, max_size=200))
def test_its_length_does_not_grow_with_the_text(chunks: list[Chunk]) -> None:
    # 3 sources with 4 states each, and a run of text per source before and after each state.
    assert len(queued(chunks)) <= 12 + 3 * 13


@given(st.lists(TEXTS | OTHERS | BATCHES), SOURCES)
def test_forgetting_a_source_leaves_the_others_unchanged(
    chunks: list[Chunk], source: str | None
) -> None:
    queue = queued(chunks)
    queue.forget(source)
    rest = [] if source is None else [chunk for chunk in chunks if chunk.source != source]
    for each in (None, "left", "right"):
        assert parts(queue.chunks(), each) == parts(rest, each)
    assert queue.lag == sum(len(c.chunks) if type(c) is Batch else 1 for c in rest)


@given(st.lists(TEXTS | STATES | OTHERS | BATCHES), SOURCES)
def test_a_restart_drops_content_and_keeps_usage_and_progress(
    chunks: list[Chunk], source: str | None
) -> None:
    usage, end = Usage(1, 2, source=source), Progress(7, 7.0, source=source)
    queue = queued([*chunks, usage])
    queue.take_back(source)
    queue.append(end)
    left = emptied(queue)
    matching_sources = [each for each in left if source is None or each.source == source]
    assert {type(each) for each in matching_sources} <= {Progress, Usage}
    assert (matching_sources[-2:], queue.lag) == ([usage, end], 0)
    for each in {None, "left", "right"} - {source}:
        assert source is None or parts(left, each) == parts(chunks, each)


def test_forgetting_one_source_keeps_the_batch_of_another() -> None:
    left, right = Token("a", source="left"), Token("x", source="right")
    queue = queued([left, left, right])
    [batch, _] = queue.chunks()
    queue.forget("right")
    assert queue.chunks()[0] is batch
    queue.append(right)
    assert queue.chunks() == [batch, right]


def test_text_stays_before_a_chunk_without_a_source() -> None:
    left, right = Token("a", source="left"), Token("x", source="right")
    notice = Notice("retry")
    assert emptied(queued([left, right, notice, left, right])) == [left, right, notice, left, right]


def test_interleaved_sources_are_joined_separately() -> None:
    left, right = Token("a", source="left"), Token("x", source="right")
    assert emptied(queued([left, right, left, right])) == [
        Batch((left, left), "aa", source="left"),
        Batch((right, right), "xx", source="right"),
    ]


def test_the_state_of_a_text_keeps_its_place() -> None:
    state = ProviderState("provider", "model", "signature")
    thoughts: list[Chunk] = [Reasoning("a"), Reasoning("b"), Reasoning("", state), Token("c")]
    batch = Batch((Reasoning("a"), Reasoning("b")), "")
    assert queued(thoughts).chunks() == [batch, Reasoning("", state), Token("c")]


def test_a_state_after_a_complete_one_is_queued_separately() -> None:
    whole, following = Json([1], complete=True), Json([2])
    assert emptied(queued([Json([]), whole, following])) == [whole, following]
    assert emptied(queued([whole, following])) == [whole, following]


def test_a_state_is_queued_separately_once_its_last_chunk_was_taken() -> None:
    queue = queued([Json([1]), Token("a")])
    assert queue.popleft() == Json([1])
    for chunk in (Json([2]), Token("b")):
        queue.append(chunk)
    assert queue.lag == 3
    assert emptied(queue) == [Token("a"), Json([2]), Token("b")]


def test_text_after_a_batch_that_was_taken_is_not_lost() -> None:
    queue = queued([Token("a"), Token("b")])
    assert queue.popleft() == Batch((Token("a"), Token("b")), "ab")
    queue.append(Token("c"))
    assert (queue.lag, emptied(queue)) == (1, [Token("c")])


def test_forgetting_one_source_keeps_the_state_of_another() -> None:
    left, right = Json([1], source="left"), Json([2], source="right")
    queue = queued([left, right])
    queue.forget("left")
    for chunk in (Json([3], source="right"), left):
        queue.append(chunk)
    assert queue.lag == 2
    assert emptied(queue) == [Json([3], source="right"), left]
