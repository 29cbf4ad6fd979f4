"""`sentiment_and_keywords`: sentiment, keywords and reading time of a text."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import End
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import ContentFigures, Lexicon, read_lexicon
from rxllm.operators.analytics._sentiment_and_keywords import _MostFrequent
from rxllm.testing import Marbles
from tests.operators.texts import cut_texts, events_of


def reports(pieces: list[Any], *arguments: Any, **options: Any) -> list[ContentFigures]:
    got: list[ContentFigures] = []
    events_of(pieces, ops.sentiment_and_keywords(got.append, *arguments, **options))
    return got


def of(text: str, **options: Any) -> ContentFigures:
    (figures,) = reports([text], None, **options)
    return figures


@pytest.mark.parametrize(
    ("text", "positive", "negative"),
    [
        ("A happy, wonderful day.", 2, 0),
        ("A terrible day, and a sad one.", 0, 2),
        ("It was not good.", 0, 1),
        ("It wasn't very good.", 0, 1),
        ("It wasn\u2019t bad!", 1, 0),
        ("Never a dull moment", 1, 0),
        ("It is not. Good morning!", 1, 0),
        ("If not, good!", 1, 0),
        ("Not at all of it was good", 1, 0),
        ("not bad but wonderful", 2, 0),
        ("GOOD Good good", 3, 0),
        ("goodness", 0, 0),
        ("", 0, 0),
    ],
)
def test_sentiment_counts_words_and_negations_invert_them(
    text: str, positive: int, negative: int
) -> None:
    figures = of(text)
    assert (figures.positive, figures.negative) == (positive, negative)


def test_polarity_and_sentiment() -> None:
    assert (of("").polarity, of("").sentiment) == (0.0, "neutral")
    assert (of("good good bad").polarity, of("good good bad").sentiment) == (1 / 3, "positive")
    assert of("sad").sentiment == "negative"
    assert of("good bad").sentiment == "neutral"


def test_keywords_are_the_five_most_frequent_words_of_five_letters_or_more() -> None:
    text = (
        "robot robot robot paint paint about about about tiny tiny tiny canvas brush colour light"
    )
    assert of(text).keywords == {"robot": 3, "paint": 2, "canvas": 1, "brush": 1, "colour": 1}


def test_numbers_and_stop_words_are_not_keywords() -> None:
    assert of("123456 because wouldn't 4th-place").keywords == {"place": 1}


def test_reading_time_assumes_200_words_per_minute() -> None:
    assert of("word " * 200).reading_time == 60.0
    assert of("").reading_time == 0.0


def test_the_figures_can_be_encoded() -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(of("A good story")))
    assert (decoded["sentiment"], decoded["readingTime"], decoded["keywords"]) == (
        "positive",
        0.9,
        {"story": 1},
    )


def test_reports_come_every_10_tokens_and_at_the_end() -> None:
    got = reports([f"good{number} " for number in range(25)])
    assert [figures.tokens for figures in got] == [10, 20, 25]


def test_a_word_across_chunks_is_one() -> None:
    figures = reports(["hor", "rib", "le ", "rob", "ot"], None)[0]
    assert (figures.negative, figures.keywords, figures.words) == (
        1,
        {"horrible": 1, "robot": 1},
        2,
    )


def test_a_custom_lexicon(tmp_path: Path) -> None:
    own = Lexicon(positive=frozenset({"tasty"}), negative=frozenset({"burnt"}))
    figures = of("Tasty, good, not burnt", lexicon=own)
    assert (figures.positive, figures.negative) == (1, 1)
    path = tmp_path / "german.toml"
    path.write_text('positive = "gut schön"\nnegative = "schlecht"\nnegations = "nicht"', "utf-8")
    figures = of("Nicht gut aber SCHÖN", lexicon=path)
    assert (figures.positive, figures.negative) == (1, 1)
    assert of("gut", lexicon=str(path)).sentiment == "positive"


def test_the_bundled_lists_do_not_contradict_each_other() -> None:
    bundled = ops.read_lexicon()
    assert not bundled.positive & bundled.negative
    assert not (bundled.positive | bundled.negative) & (bundled.negations | bundled.stop_words)
    assert min(len(bundled.positive), len(bundled.negative)) > 200


def test_a_restart_resets_the_figures(marbles: Marbles) -> None:
    got: list[ContentFigures] = []
    stream = marbles.cold("S-awful-R-lovely-E|").pipe(ops.sentiment_and_keywords(got.append))
    marbles.run(stream)
    assert [(figures.sentiment, figures.keywords) for figures in got] == [
        ("positive", {"lovely": 1})
    ]


def test_each_source_has_its_own_figures(marbles: Marbles) -> None:
    got: list[ContentFigures] = []
    left, right = (
        marbles.cold("lov-ely-E|", source="left"),
        marbles.cold("-aw-ful-|", source="right"),
    )
    marbles.run(rx.merge(left, right).pipe(ops.sentiment_and_keywords(got.append)))
    assert {figures.source: figures.sentiment for figures in got} == {
        "left": "positive",
        "right": "negative",
    }


def test_everything_is_passed_on_and_an_error_is_reported_first(marbles: Marbles) -> None:
    got: list[ContentFigures] = []
    error = ValueError("broken")
    stream = marbles.cold("S-good-#", error=error).pipe(ops.sentiment_and_keywords(got.append))
    assert marbles.run(stream) == marbles.expect("S-good-#", error=error)
    assert [figures.positive for figures in got] == [1]


def test_early_disposal_and_demand(marbles: Marbles) -> None:
    got: list[ContentFigures] = []
    source = marbles.cold("a-b-c|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.sentiment_and_keywords(got.append)))
    marbles.at(1, marbles.valve.close)
    marbles.advance_to(9)
    recording.dispose()
    assert (len(recording.events), got) == (1, [])
    assert (source.subscriptions, marbles.timers) == ([(0.0, 9.0)], [])


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    got: list[ContentFigures] = []
    stream = marbles.cold("good-fine|").pipe(ops.sentiment_and_keywords(got.append))
    marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(20)
    assert [figures.tokens for figures in got] == [2, 2]


def test_an_on_result_that_raises_fails_the_stream(marbles: Marbles) -> None:
    def report(_: object) -> None:
        raise OSError("disk full")

    source = marbles.cold("a-b|")
    events = marbles.run(source.pipe(ops.sentiment_and_keywords(report, 1)))
    assert [repr(event) for _, event in events] == ["OSError('disk full')"]
    assert source.subscriptions == [(0.0, 0.0)]


def test_invalid_arguments_raise_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="function"):
        ops.sentiment_and_keywords(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every"):
        ops.sentiment_and_keywords(print, 0)
    with pytest.raises(FileNotFoundError):
        ops.sentiment_and_keywords(print, lexicon=tmp_path / "none.toml")
    for wrong in ("", 3, {"positive": ["good"]}):
        with pytest.raises(TypeError, match="lexicon must be a Lexicon or the path"):
            ops.sentiment_and_keywords(print, lexicon=wrong)  # type: ignore[arg-type]
    (tmp_path / "bad.toml").write_text("positive = 3")
    with pytest.raises(ValueError, match=r"bad\.toml is not a valid lexicon"):
        ops.sentiment_and_keywords(print, lexicon=tmp_path / "bad.toml")


def test_the_words_of_a_lexicon_are_normalized() -> None:
    lexicon = Lexicon(
        positive=frozenset({"GOOD", "Cafe\u0301"}),
        negative=frozenset({"bad"}),
        negations=frozenset({"Ain\u2019t"}),
    )
    (figures,) = reports(["good caf\u00e9, it ain't good"], None, lexicon=lexicon)
    assert (figures.positive, figures.negative) == (2, 1)


@pytest.mark.parametrize("words", ["good gone", 3, None])
def test_a_lexicon_takes_sets_of_words(words: Any) -> None:
    with pytest.raises(TypeError, match="positive must be a set of words"):
        Lexicon(positive=words, negative=frozenset())


@pytest.mark.parametrize("word", ["user-friendly", "not bad", "", "!"])
def test_an_entry_that_is_not_exactly_one_word_raises(word: str) -> None:
    with pytest.raises(ValueError, match="negative must contain single words"):
        Lexicon(positive=frozenset(), negative=frozenset({word}))


def test_an_invalid_entry_in_a_file_raises_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('positive = "good user-friendly"\nnegative = "Bad"')
    with pytest.raises(ValueError, match=r"own\.toml: positive must .* 'user-friendly'"):
        read_lexicon(path)


FEELINGS = st.lists(
    st.sampled_from(["not", "good", "bad", "robot", "Robots", *".,' \n"]), max_size=30
)


@given(cut_texts(FEELINGS.map("".join)))
def test_the_figures_do_not_depend_on_how_the_text_is_split(cut: tuple[str, list[str]]) -> None:
    text, pieces = cut
    whole, cut_up = of(text), reports(pieces, None)[0]
    assert (whole.words, whole.positive, whole.negative, whole.keywords) == (
        cut_up.words,
        cut_up.positive,
        cut_up.negative,
        cut_up.keywords,
    )


@given(st.lists(st.sampled_from("abcdefgh")))
def test_the_most_frequent_words_are_known_at_any_time(words: list[str]) -> None:
    most = _MostFrequent(3)
    for index, word in enumerate(words):
        most.add(word)
        counts = Counter(words[: index + 1])
        assert list(most.top.values()) == sorted(counts.values(), reverse=True)[:3]
        assert all(counts[each] == count for each, count in most.top.items())


def test_an_answer_in_virtual_time() -> None:
    """600 words at 10 words per second: a report per second, three minutes to read."""
    got: list[ContentFigures] = []
    model = ScriptedModel("The happy robot paints. " * 150, by="word", delay=0.1)
    Marbles().run(model.stream("Hi").pipe(ops.sentiment_and_keywords(got.append)), until=100)
    assert len(got) == 61
    assert (got[-1].reading_time, got[-1].sentiment) == (180.0, "positive")
    assert got[-1].keywords == {"happy": 150, "robot": 150, "paints": 150}


def test_each_answer_of_a_run_is_reported_by_itself() -> None:
    figures = reports(["A sad day.", End("stop", more=True), "A happy one.", End("stop")], None)
    assert [(each.positive, each.negative) for each in figures] == [(0, 1), (1, 0)]
