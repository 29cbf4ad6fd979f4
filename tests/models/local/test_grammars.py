"""Grammars of llama.cpp (GBNF), and the thread that compiles for all."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest

import rxllm
from rxllm.errors import BadRequestError, ModelError, PoolFullError, UnsupportedError
from rxllm.models.local import compiler
from rxllm.models.local.compiler import COMPILE_SECONDS, compile_later
from rxllm.models.local.guidance import Mask
from tests.models.local.byte_vocabulary import BYTES, accepts, compiled, random_answer


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"),
    [
        ('root ::= "yes" | "no"', ["yes", "no"], ["", "maybe"]),
        (r'root ::= "\u00e9" [\U0001F600-\U0001F64F]', ["é😀"], ["e😀", "é"]),
        ('root ::= [/a]+ "/"  # %json {"a": 1}', ["/a//", "a/"], ["b/"]),
        ('root ::= [/ %json {"type":"integer"} /]', ["/", "%"], ["5"]),
        (r'root ::= "\"" [^"\\\x7F\x00-\x1F]* "\""', ['"abc"', '"/"'], ['"a\nb"']),
        ('root ::= x{2,3} "\\u0022\\u005c"\nx ::= "a" | "b"', ['ab"\\', 'aba"\\'], ['a"\\']),
        ('root ::= sum\nsum ::= sum "+" [0-9] | [0-9]', ["1", "1+2+3"], ["1+", "+"]),
    ],
)
def test_a_grammar_is_kept_to(grammar: str, right: list[str], wrong: list[str]) -> None:
    matcher = compiled(grammar=grammar)
    assert [text for text in right if not accepts(matcher, text)] == []
    assert [text for text in wrong if accepts(matcher, text)] == []
    answer = random_answer(matcher, 1)
    assert answer is None or accepts(matcher, answer)


@pytest.mark.parametrize(
    ("grammar", "kind", "words"),
    [
        ("root ::= (", BadRequestError, "Expected"),
        ('root ::= "a', BadRequestError, "unterminated"),
        ('x ::= "a"', BadRequestError, "root"),
        ("root ::= missing", BadRequestError, "missing"),
        ('root ::= %json {"type":"integer"}', BadRequestError, "unexpected '%'"),
        (r'root ::= "\U00110000"', BadRequestError, "can't be read"),
        ("root ::= " + "(" * 3000 + '"a"' + ")" * 3000, BadRequestError, "recursion"),
        (5, BadRequestError, "must be a str, got int"),
        ('root ::= "' + "a" * 16_384 + '"', UnsupportedError, "at most 16384 bytes"),
        ("\n".join(f'r{each} ::= "a"' for each in range(201)), UnsupportedError, "200 rules"),
    ],
)
def test_what_is_no_grammar_is_refused(grammar: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        compiled(grammar=grammar)
    assert type(caught.value) is kind


def test_a_grammar_and_a_schema_exclude_each_other() -> None:
    with pytest.raises(BadRequestError, match="not both"):
        compiled("json", grammar='root ::= "a"')


def test_a_grammar_that_takes_too_many_steps_fails_the_answer() -> None:
    matcher = compiled({"type": "string", "pattern": "^((.?){60}){60}$"})
    with pytest.raises(ModelError, match="can't be held to its form any further"):
        random_answer(matcher, 1)


def test_answers_do_not_share_their_place_in_a_grammar() -> None:
    matcher = compiled({"const": "ab"})
    first, second = Mask(matcher, BYTES.size), Mask(matcher, BYTES.size)
    for token in b'"a':
        first.take(token)
    second.take(ord('"'))
    with pytest.raises(ModelError):
        second.take(ord("b"))


class TestTheThread:
    def test_it_is_one_with_a_large_stack_and_the_usual_size_remains(self) -> None:
        usual = threading.stack_size()
        names = {compile_later(lambda: threading.current_thread().name).result() for _ in range(3)}
        assert names == {"rxllm grammars"}
        assert threading.stack_size() == usual

    def test_an_exception_of_any_kind_is_that_of_the_future(self) -> None:
        def fail() -> None:
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            compile_later(fail).result()
        assert compile_later(lambda: 5).result() == 5

    def test_its_queue_is_bounded(self) -> None:
        gate = threading.Event()
        futures = [compile_later(gate.wait) for _ in range(70)]
        refused = [each for each in futures if each.done()]
        gate.set()
        assert len(refused) in {5, 6}  # it may have begun with the first one
        assert all(isinstance(each.exception(), PoolFullError) for each in refused)
        assert all(each.result() for each in futures if each not in refused)

    def test_what_has_waited_too_long_is_not_begun(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begun, gate = threading.Event(), threading.Event()

        def block() -> bool:
            begun.set()
            return gate.wait()

        blocked = compile_later(block)
        late: Future[int] = compile_later(lambda: 5)
        assert begun.wait(10)
        monkeypatch.setattr(compiler, "COMPILE_SECONDS", -1.0)
        gate.set()
        assert blocked.result()
        with pytest.raises(PoolFullError, match="too many grammars are being compiled"):
            late.result()

    async def test_a_stream_waits_for_its_grammar_and_others_do_not(self) -> None:
        gate = threading.Event()
        model = rxllm.model("tiny", slots=2)
        await model.stream("Hi", max_tokens=1)
        blocked = compile_later(gate.wait)
        held = asyncio.ensure_future(
            rxllm.sinks.collect(model.stream("Hi", response_format={"const": 5}))
        )
        free = await model.stream("Hi", max_tokens=3)
        assert free.usage is not None
        assert not held.done()
        gate.set()
        assert (await held).text == "5"
        assert blocked.result()

    async def test_it_waits_only_so_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gate = threading.Event()
        model = rxllm.model("tiny", slots=1)
        await model.stream("Hi", max_tokens=1)
        blocked = compile_later(gate.wait)
        monkeypatch.setattr("rxllm.models.local.job.COMPILE_SECONDS", 0.05)
        with pytest.raises(PoolFullError, match=r"not compiled within 0\.05 s"):
            await model.stream("Hi", response_format={"const": 6})
        gate.set()
        assert blocked.result()
        assert COMPILE_SECONDS == 10.0
