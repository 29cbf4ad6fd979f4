"""`analyze_text`: word and sentence statistics."""

from typing import Any

import pytest
import reactivex as rx
import regex
from hypothesis import example, given

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Reasoning, Token, ToolResult
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import TextFigures
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of

TEXT = "The cat sat. The dog didn't! A well-known cat..."


def reports(pieces: list[Any], every: int | None = None) -> list[TextFigures]:
    got: list[TextFigures] = []
    events_of(pieces, ops.analyze_text(got.append, every=every))
    return got


def test_tokens_unique_words_sentences_and_words_per_sentence() -> None:
    assert reports([TEXT]) == [
        TextFigures(
            tokens=1,
            words=10,
            unique_words=8,
            sentences=3,
            mean_word_length=34 / 10,
            words_per_sentence=10 / 3,
        )
    ]


def test_the_mean_word_length_is_over_all_words_not_distinct_ones() -> None:
    """The characters of all words must not be divided by the number of distinct ones."""
    (figures,) = reports(["ox ox ox ox lion"])
    assert (figures.unique_words, figures.mean_word_length) == (2, 12 / 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't can\u2019t dogs' 'quoted'", 4),
        ("e.g. 42 snake_case x-ray", 7),
        ("\u0928\u092e\u0938\u094d\u0924\u0947 \u05e9\u05dc\u05d5\u05dd cafe\u0301", 3),
        ("\U0001f469\u200d\U0001f680 \u2764\ufe0f --- ... '", 0),
        ("x" * 64, 1),
        ("x" * 65, 2),
        ("x" * 640, 10),
    ],
)
def test_words_are_counted(text: str, words: int) -> None:
    assert reports([text])[0].words == words


def test_case_apostrophes_and_normalization_make_no_distinct_word() -> None:
    (figures,) = reports(["Caf\u00e9 cafe\u0301 CAF\u00c9 don't Don\u2019t"])
    assert figures.unique_words == 2


def test_words_span_chunks_and_count_once_complete() -> None:
    got = reports(["pa", "int", "er", " sat", "."], every=1)
    assert [figures.words for figures in got] == [0, 0, 0, 1, 2, 2]


def test_reports_precede_the_chunk_that_triggers_them(marbles: Marbles) -> None:
    seen: list[Any] = []
    stream = marbles.cold("S-a-b-c-d-E|").pipe(ops.analyze_text(seen.append, every=2))
    stream.subscribe(seen.append, scheduler=marbles.scheduler)
    marbles.advance_to(99)
    kinds = [type(each).__name__[0] for each in seen]
    assert "".join(kinds) == "STTTTTTTE"
    figures = [(index, each.tokens) for index, each in enumerate(seen) if type(each) is TextFigures]
    assert figures == [(2, 2), (5, 4), (7, 4)]


def test_a_batch_counts_its_tokens_and_reasoning_is_ignored() -> None:
    batch = Batch((Token("a b"), Reasoning("xxx"), Token(" c ")), "a b c ")
    got = reports([batch, Reasoning("hidden words")], every=2)
    assert [(figures.tokens, figures.words) for figures in got] == [(2, 3), (2, 3)]


def test_an_empty_text_is_reported() -> None:
    nothing = TextFigures(tokens=0, words=0, unique_words=0, sentences=0)
    assert reports([]) == [nothing]
    assert reports(["?!"])[0].mean_word_length is None
    got: list[TextFigures] = []
    Marbles().run(Marbles().cold("|").pipe(ops.analyze_text(got.append)), until=1)
    assert got == []
    marbles = Marbles()
    marbles.run(marbles.cold("|").pipe(ops.analyze_text(got.append)))
    assert got == [nothing]


def test_everything_is_passed_on(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-R-b-E|").pipe(ops.analyze_text(lambda _: None, every=1))
    assert marbles.run(stream) == marbles.expect("S-a-R-b-E|")


def test_a_stream_without_events_reports_nothing(marbles: Marbles) -> None:
    got: list[TextFigures] = []
    assert marbles.run(marbles.cold("-").pipe(ops.analyze_text(got.append))) == []
    assert got == []


def test_a_restart_resets_the_figures(marbles: Marbles) -> None:
    got: list[TextFigures] = []
    marbles.run(marbles.cold("S-abc-R-de-E|").pipe(ops.analyze_text(got.append)))
    assert [(figures.tokens, figures.mean_word_length) for figures in got] == [(1, 2.0)]


def test_a_failure_is_reported_first(marbles: Marbles) -> None:
    error, seen = ValueError("broken"), list[Any]()
    stream = marbles.cold("ab-#", error=error).pipe(ops.analyze_text(seen.append))
    stream.subscribe(on_error=seen.append, scheduler=marbles.scheduler)
    marbles.advance_to(99)
    assert (seen[0].words, seen[1]) == (1, error)


def test_disposing_early_reports_nothing(marbles: Marbles) -> None:
    got: list[TextFigures] = []
    source = marbles.cold("a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.analyze_text(got.append)))
    marbles.advance_to(1)
    recording.dispose()
    assert (got, source.subscriptions, marbles.timers) == ([], [(0.0, 1.0)], [])


def test_each_source_has_its_own_figures(marbles: Marbles) -> None:
    got: list[TextFigures] = []
    left = marbles.cold("(ab)--(cd)-E|", source="left")
    right = marbles.cold("-xyz-R-x---E|", source="right")
    marbles.run(rx.merge(left, right).pipe(ops.analyze_text(got.append)))
    assert [(figures.source, figures.words, figures.mean_word_length) for figures in got] == [
        ("left", 1, 4.0),
        ("right", 1, 1.0),
    ]


def test_a_merge_of_silent_streams_reports_each_once(marbles: Marbles) -> None:
    got: list[TextFigures] = []
    streams = [marbles.cold("S-E|", source=name) for name in ("left", "right")]
    marbles.run(rx.merge(*streams).pipe(ops.analyze_text(got.append)))
    assert [figures.source for figures in got] == ["left", "right"]


def test_a_restart_without_a_source_resets_all(marbles: Marbles) -> None:
    got: list[TextFigures] = []
    chunks = {"x": Token("one two", source="left"), "r": Notice("restart")}
    marbles.run(marbles.cold("x-r-|", lookup=chunks).pipe(ops.analyze_text(got.append)))
    assert [figures.words for figures in got] == [0]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    got: list[TextFigures] = []
    stream = marbles.cold("a-b|").pipe(ops.analyze_text(got.append))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events
    assert got[0] == got[1]
    assert got[0].tokens == 2


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.valve.close()
    source = marbles.cold("a-b|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.analyze_text(lambda _: None)))
    marbles.at(5, marbles.valve.open)
    marbles.advance_to(9)
    assert recording.events == [(5.0, Token("a")), (5.0, Token("b")), (5.0, COMPLETED)]


def test_an_on_result_that_raises_fails_the_stream(marbles: Marbles) -> None:
    def report(_: object) -> None:
        raise OSError("disk full")

    source = marbles.cold("a-b-c|")
    events = marbles.run(source.pipe(ops.analyze_text(report, every=2)))
    assert [repr(event) for _, event in events[1:]] == ["OSError('disk full')"]
    assert source.subscriptions == [(0.0, 2.0)]
    error = ValueError("broken")
    failing = marbles.cold("a#", error=error).pipe(ops.analyze_text(report))
    assert marbles.run(failing, until=2000)[-1][1] is error
    assert "disk full" in error.__notes__[0]


def test_an_on_result_that_raises_is_not_called_again(marbles: Marbles) -> None:
    """Neither for the error that it caused, nor for chunks that a source still pushes."""
    got: list[int] = []

    def report(text: TextFigures) -> None:
        got.append(text.tokens)
        raise OSError("disk full")

    tokens = [Token("a"), Token("b"), Token("c")]
    for stream in (marbles.cold("a-b-c|"), rx.from_iterable(tokens)):
        events = marbles.run(stream.pipe(ops.analyze_text(report, every=1)))
        assert [repr(event) for _, event in events] == ["OSError('disk full')"]
        assert not hasattr(events[0][1], "__notes__")
    assert got == [1, 1]


async def asynchronous(_: object) -> None:
    pass


@pytest.mark.parametrize("report", ["report", None, asynchronous])
def test_an_invalid_on_result_raises_at_the_call(report: Any) -> None:
    with pytest.raises(TypeError, match="on_result must be a function"):
        ops.analyze_text(report)


@pytest.mark.parametrize("every", [0, True, 2.5, float("nan"), "3"])
def test_an_invalid_every_raises_at_the_call(every: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="every"):
        ops.analyze_text(print, every=every)


@given(cut_texts())
@example(("x" * 70 + "'", ["x" * 63, "x", "x" * 5, "x'"]))
@example(("x" * 64 + "'y", ["x" * 64, "'", "y"]))
def test_the_figures_do_not_depend_on_how_the_text_is_split(cut: tuple[str, list[str]]) -> None:
    text, pieces = cut
    whole, cut_up = reports([text])[0], reports(pieces)[0]
    assert (whole.words, whole.unique_words, whole.sentences, whole.mean_word_length) == (
        cut_up.words,
        cut_up.unique_words,
        cut_up.sentences,
        cut_up.mean_word_length,
    )
    words = regex.findall(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}'\u2019\u200c\u200d]{0,63}", text)
    assert whole.words == len(words)


def test_a_long_answer_in_virtual_time() -> None:
    """A story of 2,000 words at 50 words per second: a report per second, and one at the end."""
    got: list[TextFigures] = []
    model = ScriptedModel("Once upon a time. " * 500, by="word", delay=0.02)
    Marbles().run(model.stream("Hi").pipe(ops.analyze_text(got.append, every=50)), until=60)
    assert len(got) == 41
    assert (got[-1].words, got[-1].unique_words, got[-1].sentences) == (2000, 4, 500)
    assert got[-1].words_per_sentence == 4.0


def test_each_answer_of_a_run_is_reported_at_its_end() -> None:
    pieces = [
        "One two.",
        End("stop", more=True),
        ToolResult("1", "look", "three four"),
        "Five.",
        Notice("restart"),
    ]
    figures = reports([*pieces, "Six seven eight.", End("stop")])
    assert [each.words for each in figures] == [2, 3]
