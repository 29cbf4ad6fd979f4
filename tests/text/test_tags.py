"""`TagSplitter`: the same pieces, however the text is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rxllm.text.tags import TagSplitter, Where
from tests.operators.texts import cut_texts

ATOMS = ["<think>", "</think>", "<", "</", "think>", "a", " ", "<<think>"]
TEXTS = st.lists(st.sampled_from(ATOMS), max_size=12).map("".join)


def split(pieces: list[str], *, inside: bool = False) -> list[tuple[Where, str]]:
    """The pieces, with neighbours of one kind joined; tags stay alone."""
    tags = TagSplitter("<think>", "</think>", inside=inside)
    joined: list[tuple[Where, str]] = []
    for where, text in [*(each for piece in pieces for each in tags.feed(piece)), *tags.flush()]:
        assert text
        if joined and joined[-1][0] is where is not Where.TAG:
            text = joined.pop()[1] + text
        joined.append((where, text))
    return joined


@given(text=TEXTS, data=st.data(), inside=st.booleans())
def test_the_pieces_are_the_same_however_the_text_is_cut(
    text: str, data: st.DataObject, inside: bool
) -> None:
    pieces = data.draw(cut_texts(st.just(text)))[1]
    assert split(pieces, inside=inside) == split([text], inside=inside)
    assert "".join(piece for _, piece in split(pieces)) == text


def test_tags_alternate() -> None:
    assert split(["a<think>b<think></think></think>"]) == [
        (Where.OUTSIDE, "a"),
        (Where.TAG, "<think>"),
        (Where.INSIDE, "b<think>"),
        (Where.TAG, "</think>"),
        (Where.OUTSIDE, "</think>"),
    ]
