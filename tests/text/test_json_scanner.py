"""`ObjectScanner`: the members of an object that arrives in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.text.json_scanner import ObjectScanner
from tests.operators.texts import cut_texts

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(
    value=st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    ensure_ascii=st.booleans(),
    rest=st.sampled_from(["", "}", " {", "\n</tool_call>"]),
    data=st.data(),
)
def test_the_members_are_those_of_the_whole_object(
    value: dict[str, Any], ensure_ascii: bool, rest: str, data: st.DataObject
) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    scanner = ObjectScanner()
    for piece in data.draw(cut_texts(st.just(text + rest)))[1]:
        scanner.feed(piece)
    assert scanner.is_complete
    assert (scanner.text, scanner.rest) == (text, rest)
    assert {key: json.loads(member) for key, member in scanner.members.items()} == value
    assert scanner.open_member is None


def test_a_value_can_be_read_while_it_arrives() -> None:
    scanner = ObjectScanner()
    scanner.feed('{"a": "b", "c": {"d": "\\"}')
    assert scanner.members == {"a": '"b"'}
    assert scanner.open_member == ("c", '{"d": "\\"}')


@pytest.mark.parametrize("text", ["[1]", "x", '"{}"', "1"])
def test_what_is_no_object_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected an object"):
        ObjectScanner().feed(text)
