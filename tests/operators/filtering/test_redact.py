"""`redact`: masks words and patterns, whole words only, across chunks."""

import re
import sys
from typing import Any

import pytest
import reactivex as rx
import regex
from hypothesis import given
from hypothesis import strategies as st
from reactivex.disposable import Disposable

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    Progress,
    Reasoning,
    Token,
    TokenLogprob,
    Usage,
    text_of,
)
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators.filtering._redact_state import RedactState
from rxllm.operators.filtering._targets import PatternTarget, WordTarget
from rxllm.operators.filtering._word_search import Words, WordSearch, folded
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.texts import cut_texts, events_of, text_after

PATTERNS = [
    r"\bbad\b",
    r"category|cat",
    r"\d{3,5}",
    r"aXXXb|XX",
    r"bad(?! g)",
    r"(?<=a )b.d",
    r"(?<!\d)\d{2}(?!\d)",
    r"a+b",
    r"(?i:BAD|cat )c?",
    r"[bd]+(?=a)",
    r"(a|b)\1",
    r"^bad",
    r"(?m)^\w+$",
    r"d$",
    r"(?:ab?){2,3}?c",
    r"a(?>b*)b?",
]
WORDS = ["bad", "cat", "category", "cat b", "$b", "ab", "b", "d!", "ate"]


def plain(text: str, targets: list[str | regex.Pattern[str]], *, whole: bool = True) -> str:
    """The expected result of `redact` for a complete text."""

    def length(target: str | regex.Pattern[str], place: int) -> int:
        if not isinstance(target, str):
            match = target.match(text, place)
            return match.end() - place if match else 0
        before, behind = text[:place][-1:], text[place + len(target) :][:1]
        if not text.startswith(target, place) or (
            whole
            and (
                (regex.match(r"\w", target[0]) and regex.match(r"\w", before))
                or (regex.match(r"\w", target[-1]) and regex.match(r"\w", behind))
            )
        ):
            return 0
        return len(target)

    masked, place = "", 0
    while place < len(text):
        longest = max(length(target, place) for target in targets)
        masked += "***" if longest else text[place]
        place += longest or 1
    return masked


def texts_of(*letters: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(letters), max_size=40).map("".join)


def test_a_word_cut_into_chunks_is_masked() -> None:
    assert text_after(["so ", "b", "ad", " day"], ops.redact("bad")) == "so *** day"


def test_a_word_inside_another_is_not_masked() -> None:
    text = "a badge, forbad it; bad_ and ba"
    assert text_after(list(text), ops.redact("bad")) == text
    assert text_after([text], ops.redact("bad", whole_words=False)).count("***") == 3


def test_the_mask_is_sent_when_the_next_character_arrives(marbles: Marbles) -> None:
    stream = marbles.cold("a-b--ad---x-E|", lookup={"a": Token("a "), "x": Token("!")})
    assert marbles.run(stream.pipe(ops.redact("bad"))) == [
        (0.0, Token("a ")),
        (10.0, Token("***", masked=True)),
        (10.0, Token("!")),
        (12.0, End("stop")),
        (13.0, COMPLETED),
    ]


def test_text_without_a_word_passes_unchanged(marbles: Marbles) -> None:
    diagram = "S-x-y--(E,|)"
    assert marbles.run(marbles.cold(diagram).pipe(ops.redact("bad"))) == marbles.expect(diagram)


def test_text_is_held_only_while_it_may_become_a_word(marbles: Marbles) -> None:
    stream = marbles.cold("b-a---t-|").pipe(ops.redact("bad"))
    assert marbles.run(stream) == [
        (6.0, Token("b")),
        (6.0, Token("a")),
        (6.0, Token("t")),
        (8.0, COMPLETED),
    ]


def test_part_of_a_word_is_masked_at_once_if_no_border_is_needed(marbles: Marbles) -> None:
    stream = marbles.cold("b-a-d---x|").pipe(ops.redact("bad", whole_words=False))
    assert marbles.run(stream)[0] == (4.0, Token("***", masked=True))


def test_a_word_ends_with_the_text(marbles: Marbles) -> None:
    assert text_after(["b", "ad"], ops.redact("bad")) == "***"
    assert marbles.run(marbles.cold("b-ad-|").pipe(ops.redact("bad"))) == [
        (5.0, Token("***", masked=True)),
        (5.0, COMPLETED),
    ]


def test_the_longest_word_at_one_place_wins() -> None:
    operator = ops.redact("cat", "category", "cat five")
    assert (
        text_after(list("cat, category, cat five, cat four"), operator) == "***, ***, ***, *** four"
    )
    inside = ops.redact("cat", "category", whole_words=False)
    assert text_after(list("categorical"), inside) == "***egorical"


def test_the_leftmost_match_wins() -> None:
    operator = ops.redact("abcd", "bc", "bce", whole_words=False)
    assert text_after(list("abcd abce abc"), operator) == "*** a*** a***"


def test_a_word_of_symbols_needs_no_border() -> None:
    assert text_after(list("what the $%!er"), ops.redact("$%!")) == "what the ***er"


def test_a_combining_mark_continues_the_word() -> None:
    assert text_after(["ba", "d\u0301"], ops.redact("bad")) == "bad\u0301"


def test_case_is_respected_or_ignored() -> None:
    text = "Bad BAD bad STRASSE straße İ"
    assert text_after(list(text), ops.redact("bad", "STRAßE")) == "Bad BAD *** STRASSE straße İ"
    ignoring = ops.redact("baD", "STRAẞE", "İ", ignore_case=True)
    assert text_after(list(text), ignoring) == "*** *** *** STRASSE *** ***"


def test_first_letters_are_case_folded_like_the_words() -> None:
    cased = [chr(code) for code in range(sys.maxunicode) if folded(chr(code)) != chr(code)]
    for character in cased:
        search = WordSearch(Words([folded(character)], whole=False, ignore_case=True))
        search.read(character)
        assert (search.first(character, 0), search.at(character, 0, False)[0]) == (0, 1)


def test_a_mask_can_be_anything_or_nothing() -> None:
    assert text_after(["bad", " luck"], ops.redact("bad", mask="good")) == "good luck"
    assert events_of(["bad", " luck"], ops.redact("bad", mask=""))[1:2] == [Token(" luck")]


def test_words_and_patterns_are_masked_together() -> None:
    operator = ops.redact("Ada", re.compile(r"[\w.]+@[\w.]+\.\w+"), re.compile(r"\d{3}-\d{4}"))
    text = "Ask Ada: ada.l@example.org or 555-0199, Adam."
    assert text_after(list(text), operator) == "Ask ***: *** or ***, Adam."


def test_a_pattern_of_either_library() -> None:
    for pattern in (re.compile("bad", re.IGNORECASE), regex.compile("bad", regex.IGNORECASE)):
        assert text_after(list("a BaDge"), ops.redact(pattern)) == "a ***ge"


NO_FLAGS_OF_A_TEXT = ("LOCALE", "DEBUG", "TEMPLATE")  # for bytes, for printing, and deprecated


@pytest.mark.parametrize("name", [*re.RegexFlag.__members__])
def test_a_pattern_of_re_keeps_its_flags(name: str) -> None:
    flag = re.RegexFlag[name]
    if flag.name in NO_FLAGS_OF_A_TEXT:
        return
    text = "Xbad\nxbadé BÁD\nbad é"
    pattern = re.compile(r"^x? bad | ^bad\b | .b\wd", flag)
    expected = pattern.sub(lambda match: "***" if match[0] else "", text)
    assert text_after(list(text), ops.redact(pattern)) == expected


def test_a_pattern_may_have_inline_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for pattern in (re.compile(r"(?a)\bbad\b"), re.compile(r"\bbad\b", re.ASCII | re.DEBUG)):
        capsys.readouterr()
        assert text_after(["a ba", "d x ébad"], ops.redact(pattern)) == "a *** x é***"
        assert capsys.readouterr().out == ""


def test_an_empty_match_is_ignored() -> None:
    operator = ops.redact(re.compile(r"\b"), re.compile(r"(?=a)|b"))
    assert text_after(list("a b ab"), operator) == "a *** a***"


def test_a_pattern_is_decided_when_longest_characters_are_known(marbles: Marbles) -> None:
    stream = marbles.cold("1-2-3-x-y-z|").pipe(ops.redact(re.compile(r"\d{3,4}"), longest=5))
    assert marbles.run(stream)[:2] == [(8.0, Token("***", masked=True)), (8.0, Token("x"))]


def test_longest_is_64_characters_by_default() -> None:
    marbles = Marbles()
    stream = marbles.cold("1-2-3-" + "x-" * 70 + "|").pipe(ops.redact(re.compile(r"\d{3}")))
    assert marbles.run(stream)[0] == (2.0 * 63, Token("***", masked=True))


def test_a_pattern_that_can_no_longer_match_is_not_awaited() -> None:
    operator = ops.redact(re.compile('"[^"]*"'), longest=8)
    marbles = Marbles()
    recording = marbles.subscribe(marbles.cold('"' + "-x" * 20 + "-").pipe(operator))
    marbles.advance_to(18)
    assert recording.events[0] == (14.0, Token('"'))


def test_a_look_behind_sees_text_that_was_already_sent() -> None:
    operator = ops.redact(re.compile(r"(?<=password: )\w+"), re.compile(r"(?m)^>.*$"))
    text = "The password: secret\n> quoted\nnot > quoted"
    assert text_after(list(text), operator) == "The password: ***\n***\nnot > quoted"
    assert text_after(list("x" * 300 + "x"), ops.redact(re.compile(r"\Ax"))) == "***" + "x" * 300


def test_a_token_keeps_its_confidence_even_when_split() -> None:
    tokens = [Token("fine ", 0.9), Token("very b", 0.8, 7), Token("ad luck", 0.7)]
    assert events_of(tokens, ops.redact("bad"))[1:5] == [
        Token("fine ", 0.9),
        Token("very ", 0.8, 7),
        Token("***", None, 7, masked=True),
        Token(" luck", 0.7),
    ]


def test_log_probabilities_do_not_tell_what_a_mask_hides() -> None:
    token = Token("bad", logprobs=(TokenLogprob("bad", -0.1),))
    masked = events_of([token], ops.redact("bad"))[1]
    assert masked == Token("***", masked=True)


def test_other_chunks_wait_behind_held_text_in_order() -> None:
    progress, usage, hidden = Progress(1, 0.5), Usage(1, 2), Reasoning("bad")
    script: list[str | Chunk] = [
        "b",
        progress,
        "a",
        usage,
        "d",
        hidden,
        " b",
        progress,
        "x",
        hidden,
    ]
    assert events_of(script, ops.redact("bad"))[1:10] == [
        Token("***", masked=True),
        progress,
        usage,
        hidden,
        Token(" "),
        Token("b"),
        progress,
        Token("x"),
        hidden,
    ]


def test_text_in_a_batch_is_text() -> None:
    whole = Batch((Token("a "), Reasoning("bad"), Token("b ")), "a b ")
    cut = Batch((Token("c b"), Reasoning("so"), Token("ad!")), "c bad!")
    assert events_of([whole, cut], ops.redact("bad"))[1:6] == [
        whole,
        Batch((Token("c "),), "c "),
        Token("***", masked=True),
        Reasoning("so"),
        Batch((Token("!"),), "!"),
    ]


def test_an_empty_token_passes() -> None:
    assert events_of(["", "b", "", "ad"], ops.redact("bad"))[1:3] == [
        Token(""),
        Token("***", masked=True),
    ]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.redact("bad")), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.redact("bad"))) == [(1.0, COMPLETED)]


def test_held_text_is_decided_before_an_error() -> None:
    marbles, error = Marbles(), ValueError("broken")
    assert marbles.run(marbles.cold("bad-#", error=error).pipe(ops.redact("bad"))) == [
        (4.0, Token("***", masked=True)),
        (4.0, error),
    ]


def test_a_restart_drops_held_text_and_starts_over(marbles: Marbles) -> None:
    found: list[ops.Redaction] = []
    operator = ops.redact("bad", re.compile("^x"), on_result=found.append)
    lookup = {"a": Token("bad bad ")}
    events = marbles.run(marbles.cold("a-ba-R-d-x-E|", lookup=lookup).pipe(operator))
    assert [event for _, event in events[4:]] == [
        Notice("restart"),
        Token("d"),
        Token("x"),
        End("stop"),
        COMPLETED,
    ]
    assert found == [ops.Redaction(0, {})]


def test_waiting_non_text_chunks_are_sent_before_a_restart() -> None:
    usage, thought = Usage(1, 2), Reasoning("hm")
    script: list[str | Chunk] = ["ba", usage, thought, Notice("restart"), "x"]
    assert events_of(script, ops.redact("bad"))[1:4] == [usage, Notice("restart"), Token("x")]


def test_on_result_is_not_called_again_after_it_fails() -> None:
    called: list[ops.Redaction] = []

    def report(redaction: ops.Redaction) -> None:
        called.append(redaction)
        raise LookupError("no log")

    def push(observer: Any, _: Any) -> Disposable:
        for chunk in (Token("a"), End("stop"), Token("b"), End("stop")):
            observer.on_next(chunk)
        return Disposable()

    events = Marbles().run(rx.create(push).pipe(ops.redact("bad", on_result=report)), until=1)
    assert ([type(event) for _, event in events], len(called)) == ([Token, LookupError], 1)


def test_early_disposal_disposes_the_source(marbles: Marbles) -> None:
    found: list[ops.Redaction] = []
    source = marbles.cold("bad--x|")
    recording = marbles.subscribe(source.pipe(ops.redact("bad", on_result=found.append)))
    marbles.advance_to(4)
    recording.dispose()
    assert (recording.events, source.subscriptions, marbles.timers) == ([], [(0.0, 4.0)], [])
    assert found == []


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("ba--d-|").pipe(ops.redact("bad"))
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks == [Token("***", masked=True)]


def test_sources_are_read_separately(marbles: Marbles) -> None:
    found: list[ops.Redaction] = []
    left = marbles.cold("ba---d--E|", source="left")
    right = marbles.cold("--ba-ge--E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.redact("bad", on_result=found.append)))
    assert [event for _, event in events] == [
        Token("ba", source="right"),
        Token("ge", source="right"),
        Token("***", source="left", masked=True),
        End("stop", source="left"),
        End("stop", source="right"),
        COMPLETED,
    ]
    assert found == [ops.Redaction(1, {"bad": 1}, "left"), ops.Redaction(0, {}, "right")]


def test_the_result_says_whether_anything_changed() -> None:
    found: list[ops.Redaction] = []
    operator = ops.redact(
        "bad", "Luck", re.compile(r"\d+"), ignore_case=True, on_result=found.append
    )
    events_of(["a BAD bad l", "uck of 17"], operator)
    events_of(["all is fine"], operator)
    assert found == [ops.Redaction(4, {"bad": 2, "Luck": 1, r"\d+": 1}), ops.Redaction(0, {})]


def test_on_result_is_called_once_without_an_end_and_on_error(marbles: Marbles) -> None:
    found: list[int] = []
    operator = ops.redact("bad", on_result=lambda redaction: found.append(redaction.count))
    marbles.run(marbles.cold("bad-|").pipe(operator))
    marbles.run(marbles.cold("bad-#").pipe(operator))
    marbles.run(marbles.cold("bad-E-|").pipe(operator))
    assert found == [1, 1, 1]


def test_an_exception_in_on_result_is_the_stream_error(marbles: Marbles) -> None:
    def report(_: ops.Redaction) -> None:
        raise LookupError("no log")

    source = marbles.cold("x-E--|")
    events = marbles.run(source.pipe(ops.redact("bad", on_result=report)))
    assert (events[0], type(events[1][1])) == ((0.0, Token("x")), LookupError)
    assert source.subscriptions == [(0.0, 2.0)]


def test_demand_passes_through_and_no_more_than_longest_is_held(marbles: Marbles) -> None:
    marbles.at(5, marbles.valve.close)
    source = marbles.cold("1-" * 20, demand=True)
    recording = marbles.subscribe(source.pipe(ops.redact(re.compile(r"\d{30}x"), longest=4)))
    marbles.advance_to(60)
    assert recording.events == []
    marbles.valve.open()
    marbles.advance_to(61)
    assert sum(len(text_of(chunk)) for chunk in recording.chunks) == 20 - 3


def test_kept_text_does_not_grow() -> None:
    target = PatternTarget(re.compile(r"\d{3}-\d{4}"), 64, "***")
    reading = RedactState(None, [target], 64, None)
    kept = []
    for _ in range(2000):
        for piece in ("word ", "55", "5-"):
            reading.text(Token(piece))
            kept.append(len(reading._text))
    assert max(kept) <= 64 + 64


def test_the_cost_per_character_does_not_depend_on_word_length() -> None:
    class Counted(dict[str, int]):
        asked = 0

        def get(self, *key: Any) -> Any:
            Counted.asked += 1
            return super().get(*key)

    words = Words(["a" * 500 + "b"], whole=False, ignore_case=False)
    words.steps = [Counted(steps) for steps in words.steps]
    reading = RedactState(None, [WordTarget(words, "***")], 1, None)
    for _ in range(3000):
        reading.text(Token("a"))
    assert Counted.asked < 2 * 3000
    assert len(reading._text) <= 501


@given(
    cut_texts(texts_of("a", "b", " ", "a a b", "é", "A")),
    st.lists(st.text("ab éA", min_size=1, max_size=6), min_size=1, max_size=8),
    st.booleans(),
    st.lists(st.sampled_from(["a+b", "b ", r"a\b"]), max_size=1),
)
def test_nested_words_are_found_as_in_the_whole_text(
    cut: tuple[str, list[str]], words: list[str], whole: bool, patterns: list[str]
) -> None:
    text, pieces = cut
    targets: list[str | regex.Pattern[str]] = [*words, *map(regex.compile, patterns)]
    expected = plain(text, targets, whole=whole)
    assert text_after(pieces, ops.redact(*targets, whole_words=whole)) == expected
    assert text_after(list(text), ops.redact(*targets, whole_words=whole)) == expected


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        model = ScriptedModel("a bad day for a cat", by="character", delay=0.07)
        async with no_leaks():
            stream = model.stream("Hi").pipe(ops.redact("bad", re.compile("c.t")))
            return [chunk async for chunk in to_async(stream)]

    assert "".join(map(text_of, run_virtual(main()))) == "a *** day for a ***"


@pytest.mark.parametrize("pattern", PATTERNS)
@given(cut_texts(texts_of(*"abcdX139 g\n", "bad", "cat", "category", "bad g", " ")))
def test_a_pattern_matches_as_in_the_whole_text(pattern: str, cut: tuple[str, list[str]]) -> None:
    text, pieces = cut
    compiled = regex.compile(pattern)
    expected = plain(text, [compiled])
    assert text_after(pieces, ops.redact(compiled)) == expected
    assert text_after(list(text), ops.redact(compiled)) == expected


@given(
    cut_texts(texts_of(*"abcdet$! _", "bad", "category", "cat b")),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=5),
    st.booleans(),
)
def test_words_are_found_as_in_the_whole_text(
    cut: tuple[str, list[str]], words: list[str], whole: bool
) -> None:
    text, pieces = cut
    expected = plain(text, [*words], whole=whole)
    assert text_after(pieces, ops.redact(*words, whole_words=whole)) == expected


@given(cut_texts(), st.lists(st.sampled_from(["bad", "a", "e\u0301", "字", "END"]), min_size=1))
def test_hard_texts_are_masked_as_in_the_whole_text(
    cut: tuple[str, list[str]], words: list[str]
) -> None:
    text, pieces = cut
    assert text_after(pieces, ops.redact(*words)) == plain(text, [*words])
    patterns: list[str | regex.Pattern[str]] = [regex.compile(r"\bbad\b"), regex.compile(r"\s+")]
    assert text_after(pieces, ops.redact(*words, *patterns)) == plain(text, [*words, *patterns])


@given(cut_texts(), cut_texts())
def test_the_finish_reason_is_the_same(
    one: tuple[str, list[str]], other: tuple[str, list[str]]
) -> None:
    for _, pieces in (one, other):
        assert events_of(pieces, ops.redact("bad", re.compile("END")))[-2:] == [
            End("stop"),
            COMPLETED,
        ]


async def _asynchronous(_: ops.Redaction) -> None: ...


@pytest.mark.parametrize(
    ("targets", "options", "error", "message"),
    [
        ((), {}, ValueError, "one word or pattern"),
        (("",), {}, ValueError, "empty word"),
        ((re.compile("x*"),), {}, ValueError, "empty text"),
        ((regex.compile("(?r)x"),), {}, ValueError, "backwards"),
        ((["a", "b"],), {}, TypeError, "unpack a list"),
        ((re.compile(b"x"),), {}, TypeError, "of text"),
        (("a",), {"longest": 0}, ValueError, "longest"),
        (("a",), {"longest": 1.5}, TypeError, "longest"),
        (("a",), {"longest": float("nan")}, TypeError, "longest"),
        (("a",), {"context": True}, TypeError, "context"),
        (("a",), {"mask": None}, TypeError, "mask"),
        (("a",), {"mask": 5}, TypeError, "mask"),
        (("a",), {"on_result": 5}, TypeError, "on_result must be"),
        (("a",), {"on_result": _asynchronous}, TypeError, "on_result must be"),
        (("a",), {"context": 0}, ValueError, "context"),
    ],
)
def test_bad_arguments_are_rejected_at_the_call(
    targets: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.redact(*targets, **options)


def test_a_pattern_that_takes_for_ever_fails_the_stream_and_releases_nothing() -> None:
    marbles = Marbles()
    source = marbles.cold("s-E|", lookup={"s": Token("a" * 62 + "!")})
    events = marbles.run(source.pipe(ops.redact(re.compile("(?:a|aa)+b"))))
    ((_, error),) = events
    assert isinstance(error, RuntimeError)
    assert "took more than 1 s" in str(error)


CARD = re.compile(r"(?P<first>\d{4})-(\d{4})")


@pytest.mark.parametrize(
    ("mask", "masked"),
    [
        (r"\1-****", "card 1234-****."),
        (r"\g<first>-****", "card 1234-****."),
        (r"\2", "card 5678."),
        (r"a\\b", "card a\\b."),
        (lambda match: match["first"] + "!" * len(match[2]), "card 1234!!!!."),
    ],
)
@given(cut=cut_texts(st.just("card 1234-5678.")))
def test_a_mask_has_groups_of_the_match_or_is_made_by_a_function(
    mask: Any, masked: str, cut: tuple[str, list[str]]
) -> None:
    _, pieces = cut
    assert text_after(pieces, ops.redact(CARD, mask=mask)) == masked


def test_a_function_makes_the_mask_of_a_word() -> None:
    operator = ops.redact("bad", "worse", mask=lambda match: match[0][0] + "…", ignore_case=True)
    assert text_after(["Bad or wo", "rse."], operator) == "B… or w…."


def test_a_plain_mask_of_a_word_is_literal() -> None:
    assert text_after(["bad"], ops.redact("bad", mask=r"\1")) == r"\1"


def test_a_group_sees_no_more_than_its_match_even_if_context_decides() -> None:
    pattern = re.compile(r"(?<=id )(\d+)(?= end)")
    assert text_after(["id 12 end, id 34 x"], ops.redact(pattern, mask=r"<\1>")) == (
        "id <12> end, id 34 x"
    )


def test_an_exception_of_the_mask_is_the_error_of_the_stream(marbles: Marbles) -> None:
    def fail(match: Any) -> str:
        raise KeyError("mine")

    events = marbles.run(marbles.cold("bad|").pipe(ops.redact("bad", mask=fail)))
    assert isinstance(events[-1][1], KeyError)
    none = ops.redact("bad", mask=lambda match: None)  # type: ignore[arg-type, return-value]
    error = marbles.run(marbles.cold("bad|").pipe(none))[-1][1]
    assert "the mask of redact must return a string, got NoneType" in str(error)


@pytest.mark.parametrize("template", [r"\3", r"\g<last>", "a\\"])
def test_a_template_that_does_not_fit_is_rejected_at_the_call(template: str) -> None:
    with pytest.raises(ValueError, match="doesn't fit the pattern"):
        ops.redact(CARD, mask=template)


def test_masked_text_says_so_on_each_token(marbles: Marbles) -> None:
    lookup = {"a": Token("a bad day")}
    events = marbles.run(marbles.cold("a-E|", lookup=lookup).pipe(ops.redact("bad")))
    tokens = [event for _, event in events if isinstance(event, Token)]
    assert [(token.text, token.masked) for token in tokens] == [
        ("a ", False),
        ("***", True),
        (" day", False),
    ]
