r"""`markdown_to_html`: safe HTML of streaming Markdown, block by block."""

import re
from typing import Any

import msgspec
import pytest
import reactivex as rx
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Token, Usage, encode
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Html
from rxllm.operators.transforming import _markdown_to_html
from rxllm.operators.transforming._markdown import Markdown
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import with_valve
from tests.operators.texts import cut_texts, events_of
from tests.profiles import draws

ATOMS = [
    *(
        "a",
        "b",
        " ",
        "  ",
        "    ",
        "\t",
        "\n",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\\",
        "é",
        "字",
        "\u2028",
    ),
    *("# ", "#", "- ", "-", "* ", "+ ", "1. ", "1)", "> ", "---", "===", "***", ":", "|", "\0"),
    *("```", "```py\n", "~~~", "`", "**", "*", "_", "~~", "| a |\n", "|---|", "|---|\n"),
    *("[a]", "[a]: http://x", "[a](http://x)", "![a](http://x)", "[a](javascript:x)"),
    *("<script>", "<b>", "&amp;", "&", "<http://x.y>"),
]
MARKDOWN = st.lists(st.sampled_from(ATOMS), max_size=24).map("".join)
ANSWER = """# Title

Some **bold** and *soft* text,
with `code`.

- one
- two

  still two

```python
if a < b:

    print("no")
```

| a | b |
|---|---|
| 1 | 2 |

> quoted
> twice

Last line
"""
PIECES = {
    "a": Token("one"),
    "b": Token(" two"),
    "c": Token(" three"),
    "n": Token("\n\n"),
    "m": Token("\nx"),
}


def updates(pieces: list[Any]) -> list[Any]:
    """The output for `pieces` sent one second apart, without structure and usage."""
    events = events_of(pieces, ops.markdown_to_html())
    return [event for event in events[1:] if type(event) not in (Usage, End)]


def page_after(chunks: list[Any]) -> list[str]:
    """The HTML of each block of a page that applies all updates."""
    page: list[str] = []
    finished = 0
    for chunk in chunks:
        if type(chunk) is Html:
            assert chunk.block in (finished, len(page), len(page) - 1)
            assert chunk.block >= finished
            page[chunk.block : chunk.block + 1] = [chunk.html]
            finished += chunk.final
    assert finished == len(page)
    return page


def html_of(*pieces: str) -> str:
    """The HTML of the page at the end."""
    return "".join(page_after(updates(list(pieces))))


def test_the_open_block_is_replaced_and_then_final() -> None:
    assert updates(["# T", "itle\n", "\nso **bo", "ld**\n", "\n", "end", "."]) == [
        Html(0, "<h1>T</h1>\n"),
        Html(0, "<h1>Title</h1>\n"),
        Html(0, "<h1>Title</h1>\n<p>so **bo</p>\n"),
        Html(0, "<h1>Title</h1>\n", final=True),
        Html(1, "<p>so <strong>bold</strong></p>\n"),
        Html(1, "<p>so <strong>bold</strong></p>\n<p>end</p>\n"),
        Html(1, "<p>so <strong>bold</strong></p>\n<p>end.</p>\n"),
        Html(1, "<p>so <strong>bold</strong></p>\n", final=True),
        Html(2, "<p>end.</p>\n", final=True),
        COMPLETED,
    ]


def test_the_blocks_of_an_answer_are_its_top_level_elements() -> None:
    page = page_after(updates(list(ANSWER)))
    assert [re.match(r"<(\w+)", html)[1] for html in page if html] == [  # type: ignore[index]
        *("h1", "p", "ul", "pre", "table", "blockquote", "p")
    ]
    assert page[2] == (
        "<ul>\n<li>\n<p>one</p>\n</li>\n<li>\n<p>two</p>\n<p>still two</p>\n</li>\n</ul>\n"
    )
    assert page[3] == (
        '<pre><code class="language-python">if a &lt; b:\n\n    print(&quot;no&quot;)\n'
        "</code></pre>\n"
    )


def test_a_marker_that_arrives_in_pieces_is_read_as_one() -> None:
    whole = html_of(ANSWER)
    assert html_of(*ANSWER) == whole
    assert html_of("`", "``", "\nx = 1\n", "``", "`\n") == "<pre><code>x = 1\n</code></pre>\n"
    assert html_of("*", "*bold", "*", "* and ", "**", "open") == (
        "<p><strong>bold</strong> and **open</p>\n"
    )


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a <b onclick='x'>b</b>",
        "<!-- x --> <?php x ?> <![CDATA[x]]>",
        "```<script>\n</code><script>alert(1)</script>\n```",
        "`<script>`",
        "| <script> |\n|---|\n| <img onerror=x> |",
        "[click](javascript:alert(1))",
        "[click](JaVaScRiPt:alert(1))",
        "[click](&#106;avascript:alert(1))",
        "[click](java\tscript:alert(1))",
        "[click](<javascript:alert(1)>)",
        "[click](vbscript:x) [click](data:text/html,x) [click](file:///etc/passwd)",
        "<javascript:alert(1)>",
        "[click](//evil.example) [click](/delete?all) [click](evil)",
        "![x](javascript:alert(1))",
        '[x](http://x "\\" onclick=\\"alert(1)")',
        '![x](http://x/"onerror="alert(1))',
        "[x]: javascript:alert(1)\n\n[x]",
    ],
)
def test_hostile_text_is_shown_as_text(hostile: str) -> None:
    for pieces in ([hostile], list(hostile)):
        for chunk in updates(pieces)[:-1]:
            rest = re.sub(r'<a href="http://x[^"<>]*"( title="[^"<>]*")?>', "", chunk.html)
            rest = re.sub(r'<code class="language-[^"<>]*">', "", rest)
            rest = re.sub(r"</?(p|pre|code|a|table|thead|tbody|tr|th|td|strong)>", "", rest)
            assert not re.search(r"[<>]", rest)


def test_web_and_mail_links_are_links() -> None:
    assert html_of("[a](https://x.y/z?q=1&r) [b](mailto:c@d) <http://e.f>") == (
        '<p><a href="https://x.y/z?q=1&amp;r">a</a> <a href="mailto:c@d">b</a> '
        '<a href="http://e.f">http://e.f</a></p>\n'
    )


def test_an_image_does_not_load_automatically() -> None:
    assert html_of("![a](http://x.y/z?secret)") == ('<p>!<a href="http://x.y/z?secret">a</a></p>\n')


def test_a_reference_definition_is_text() -> None:
    assert html_of("[a]\n\n[a]: http://x") == "<p>[a]</p>\n<p>[a]: http://x</p>\n"


def test_a_heading_may_still_become_part_of_the_paragraph_before_it() -> None:
    assert updates(["a\n", "#", "b\n\n", "c\n"])[:3] == [
        Html(0, "<p>a</p>\n"),
        Html(0, "<p>a</p>\n<h1></h1>\n"),
        Html(0, "<p>a\n#b</p>\n"),
    ]


def test_a_paragraph_may_still_become_a_heading_or_a_table() -> None:
    assert html_of(*"a\n---\n") == "<h2>a</h2>\n"
    assert html_of(*"a\n| b |\n|---|\n").startswith("<p>a</p>\n<table>")


def test_a_list_continues_after_a_blank_line_and_is_one_block() -> None:
    page = page_after(updates(list("- a\n\n- b\n\n  c\n\nd")))
    assert len(page) == 2
    assert page[0].count("<li>") == 2


def test_every_kind_of_line_ending_works() -> None:
    assert html_of(*"# a\r\n\r\nb\rc\r") == html_of("# a\n\nb\nc\n")
    assert html_of("```\r", "\na\r", "b\r", "\n```") == "<pre><code>a\nb\n</code></pre>\n"


def test_html_is_encoded_like_a_chunk() -> None:
    data = encode(Html(1, "<p>a</p>", final=True, source="left"))
    assert data == b'{"type":"html","block":1,"html":"<p>a</p>","final":true,"source":"left"}'
    assert msgspec.json.decode(data, type=Html) == Html(1, "<p>a</p>", True, "left")


def test_never_and_empty_and_a_stream_without_text(marbles: Marbles) -> None:
    operator = ops.markdown_to_html()
    assert marbles.run(marbles.cold("").pipe(operator), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(operator)) == [(1.0, COMPLETED)]
    assert updates(["", Reasoning("# a")]) == [Reasoning("# a"), COMPLETED]
    assert updates(["\n", " \n"]) == [COMPLETED]


def test_completion_and_an_error_make_all_blocks_final(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("a-n-b#", lookup=PIECES, error=error)
    assert marbles.run(stream.pipe(ops.markdown_to_html(seconds=60))) == [
        (0.0, Html(0, "<p>one</p>\n")),
        (5.0, Html(0, "<p>one</p>\n", final=True)),
        (5.0, Html(1, "<p>two</p>\n", final=True)),
        (5.0, error),
    ]
    bench = Marbles()
    assert bench.run(bench.cold("a-|", lookup=PIECES).pipe(ops.markdown_to_html()))[1:] == [
        (2.0, Html(0, "<p>one</p>\n", final=True)),
        (2.0, COMPLETED),
    ]


def test_a_restart_starts_at_block_0_and_cancels_the_timer(marbles: Marbles) -> None:
    stream = marbles.cold("a-n-m-b-R-a-E|", lookup=PIECES)
    assert marbles.run(stream.pipe(ops.markdown_to_html(seconds=60))) == [
        (0.0, Html(0, "<p>one</p>\n")),
        (8.0, Notice("restart")),
        (10.0, Html(0, "<p>one</p>\n")),
        (12.0, Html(0, "<p>one</p>\n", final=True)),
        (12.0, End("stop")),
        (13.0, COMPLETED),
    ]
    got = updates(["a\n\nb\n", Notice("restart"), "c"])
    assert [(e.block, e.html) for e in got if type(e) is Html][-1] == (0, "<p>c</p>\n")


def test_other_chunks_pass_at_once_in_order() -> None:
    other = [Progress(1, 0.5), Reasoning("# no"), Notice("retry")]
    assert updates(["a", *other, "b"]) == [
        Html(0, "<p>a</p>\n"),
        *other,
        Html(0, "<p>ab</p>\n"),
        Html(0, "<p>ab</p>\n", final=True),
        COMPLETED,
    ]


def test_text_in_a_batch_is_text() -> None:
    batch = Batch((Token("*a"), Reasoning("hm"), Token("*")), "*a*")
    events = events_of([batch, Batch((Reasoning("so"),), "")], ops.markdown_to_html())
    assert events[1:4] == [Reasoning("hm"), Html(0, "<p><em>a</em></p>\n"), Reasoning("so")]


def test_the_blocks_of_a_failed_stream_of_a_merge_are_final() -> None:
    failed = Notice("failed", source="left")
    stream: rx.Observable[Chunk] = rx.of(Token("a", source="left"), failed)
    assert [event for _, event in Marbles().run(stream.pipe(ops.markdown_to_html()))] == [
        Html(0, "<p>a</p>\n", source="left"),
        Html(0, "<p>a</p>\n", final=True, source="left"),
        failed,
        COMPLETED,
    ]


def test_each_source_has_its_own_page(marbles: Marbles) -> None:
    left = marbles.cold("**a--**-E|", source="left")
    right = marbles.cold("-b-------E|", source="right")
    assert marbles.run(rx.merge(left, right).pipe(ops.markdown_to_html())) == [
        (0.0, Html(0, "<p>**a</p>\n", source="left")),
        (1.0, Html(0, "<p>b</p>\n", source="right")),
        (5.0, Html(0, "<p><strong>a</strong></p>\n", source="left")),
        (8.0, Html(0, "<p><strong>a</strong></p>\n", final=True, source="left")),
        (8.0, End("stop", source="left")),
        (9.0, Html(0, "<p>b</p>\n", final=True, source="right")),
        (9.0, End("stop", source="right")),
        (10.0, COMPLETED),
    ]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("*a--*|").pipe(ops.markdown_to_html())
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks
    assert len(first.chunks) == 3


def test_early_disposal_disposes_the_source_and_the_timer(marbles: Marbles) -> None:
    source = marbles.cold("a-b----c|", lookup=PIECES)
    recording = marbles.subscribe(source.pipe(ops.markdown_to_html(seconds=60)))
    marbles.advance_to(4)
    recording.dispose()
    assert (len(recording.events), source.subscriptions) == (1, [(0.0, 4.0)])
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


def test_one_rendering_per_interval_and_the_timer_shows_the_last(
    marbles: Marbles,
) -> None:
    stream = marbles.cold("a-b-c------b", lookup=PIECES)
    assert marbles.run(stream.pipe(ops.markdown_to_html(seconds=8))) == [
        (0.0, Html(0, "<p>one</p>\n")),
        (8.0, Html(0, "<p>one two three</p>\n")),
        (16.0, Html(0, "<p>one two three two</p>\n")),
    ]


def test_by_default_the_page_is_at_most_50_milliseconds_old() -> None:
    bench, model = Marbles(), ScriptedModel("a" * 30, by="character", delay=0.01)
    events = bench.run(model.stream("Hi").pipe(ops.markdown_to_html()))
    times = [round(time, 3) for time, event in events if type(event) is Html]
    assert times == [0.01, 0.06, 0.11, 0.16, 0.21, 0.26, 0.3]


def rendered(pieces: list[str], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the texts parsed while `pieces` arrive, 0.01 s apart."""
    lengths: list[int] = []
    parse = Markdown.parse

    def counted(self: Markdown, src: str, env: Any = None) -> Any:
        lengths.append(len(src))
        return parse(self, src, env)

    monkeypatch.setattr(Markdown, "parse", counted)
    stream = ScriptedModel(list(pieces), delay=0.01).stream("Hi")
    Marbles().run(stream.pipe(ops.markdown_to_html()))
    return lengths


def test_a_long_open_block_is_rendered_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    prose = rendered(["word " * 4] * 1000, monkeypatch)
    assert sum(prose) < 15 * 20_000  # one rendering every 0.05 s would parse 100 times as much
    code = rendered(["```\n", *["x = 1\n" * 10] * 1000], monkeypatch)
    assert sum(code) < 150 * 60_000


def test_settled_blocks_are_never_rendered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = rendered(["word\n", "\n"] * 500, monkeypatch)
    assert max(lengths) < 100


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "*a _b ",
        "a*",
        "a `",
        "&",
        ">",
        "- ",
        "- a\n",
        "> a\n",
        "|",
        "a\n",
        "\n",
        "```\n",
        "# a\n",
    ],
)
def test_no_text_makes_a_rendering_long(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any speed, each rendering is bounded and all together are linear."""
    text = piece * (20_000 // len(piece))
    lengths = rendered([text[at : at + 200] for at in range(0, len(text), 200)], monkeypatch)
    markdown, most = Markdown(), _markdown_to_html._MOST
    assert max(lengths) <= markdown.fitting(text * 9, most) + 200
    assert sum(lengths) < 30 * len(text)


def test_a_long_paragraph_becomes_several_blocks() -> None:
    text = "many words " * 10_000
    page = page_after(updates([text]))
    assert len(page) > 2
    assert "".join(re.findall("<p>(.*)</p>", "".join(page))).replace(" ", "") == text.replace(
        " ", ""
    )


def test_a_long_list_is_cut_between_two_items() -> None:
    page = page_after(updates(["".join(f"{n}. item\n" for n in range(1, 1001))]))
    assert len(page) > 2
    assert re.findall(r"<li>(\w+)</li>", "".join(page)) == ["item"] * 1000
    starts = [int(number) for number in re.findall(r'<ol start="(\d+)">', "".join(page))]
    counts = [html.count("<li>") for html in page]
    assert starts == [1 + sum(counts[:n]) for n in range(1, len(page))]


def test_the_rest_of_long_code_is_code_in_the_same_language() -> None:
    code = "".join(f"x = {n}\n" for n in range(12_000))
    page = page_after(updates([f"```py\n{code}```\nend"]))
    assert len(page) > 2
    assert page[-1] == "<p>end</p>\n"
    pattern = r'<pre><code class="language-py">([^<]*)</code></pre>\n'
    assert "".join(re.fullmatch(pattern, html)[1] for html in page[:-1]) == code  # type: ignore[index]


def test_the_rest_of_a_long_table_repeats_the_header() -> None:
    page = page_after(updates(["| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 1000 + "\nend"]))
    assert len(page) > 3
    header = "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n"
    assert all(html.startswith(header) for html in page[:-1])
    assert "".join(page).count("<td>1</td>\n<td>2</td>") == 1000


def test_blank_lines_after_code_do_not_continue_it() -> None:
    page = page_after(updates(["```\n" + "x\n" * 400 + "```" + "\n" * 20_000 + "end"]))
    assert len(page) == 2
    assert page[1] == "<p>end</p>\n"


def test_the_rest_of_a_very_long_line_of_code_is_code() -> None:
    page = page_after(updates(["```\n" + "&" * 100_000]))
    assert 1 < len(page) < 5
    code = "".join(re.findall(r"<pre><code>([^<]*)</code></pre>", "".join(page)))
    assert code.replace("\n", "") == "&amp;" * 100_000


@pytest.mark.parametrize("header", ["`" * 10_000 + "\n", "|a" * 2000 + "\n" + "|-" * 2000 + "\n"])
def test_a_long_header_is_not_repeated(header: str) -> None:
    assert len(page_after(updates([header + "|b\n" * 5000]))) < 40


def test_short_rows_do_not_fill_a_wide_table_up() -> None:
    wide = "|a" * 100 + "|\n" + "|-" * 100 + "|\n" + "a\n" * 200
    assert html_of(wide).count("<td>") == 0
    assert html_of("|a|b|c|d|\n|-|-|-|-|\na\n").count("<td>") == 4
    six = "|a|b|c|d|e|f|\n|-|-|-|-|-|-|\n"
    assert html_of(six + "|1|2|3|\n1|2|3\n|1|2|\n").count("<td>") == 12
    assert html_of(six + "end") == html_of(six) + "<p>end</p>\n"


@pytest.mark.parametrize(("marker", "deepest"), [("> ", 12), ("- ", 6)])
def test_text_is_not_lost_beyond_the_deepest_nesting(marker: str, deepest: int) -> None:
    html = html_of(marker * 40 + "text")
    assert len(re.findall("<blockquote>|<ul>", html)) == deepest
    shown = marker.replace(">", "&gt;") * (40 - deepest) + "text"
    assert f"{shown}</" in html


def test_nothing_is_rendered_while_the_valve_is_closed(marbles: Marbles) -> None:
    marbles.at(2, marbles.valve.close)
    marbles.at(20, marbles.valve.open)
    stream = marbles.hot("a---b---c------------------b-", lookup=PIECES)
    assert marbles.run(stream.pipe(ops.markdown_to_html(seconds=1))) == [
        (0.0, Html(0, "<p>one</p>\n")),
        (20.0, Html(0, "<p>one two three</p>\n")),
        (27.0, Html(0, "<p>one two three two</p>\n")),
    ]


def test_chunks_that_arrive_during_on_next_are_sent_after_it(marbles: Marbles) -> None:
    """The timer sends two updates; at the first one the subscriber resumes the source."""
    source = marbles.cold("a-n-m-n-(c,E,|)", lookup=PIECES, demand=True)
    stream = source.pipe(ops.markdown_to_html(seconds=7))
    got: list[Any] = []

    def on_next(chunk: Any) -> None:
        got.append(chunk)
        marbles.valve.close()
        marbles.valve.open()

    scheduler = with_valve(marbles.scheduler, marbles.valve)
    marbles.at(7.5, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    stream.subscribe(on_next, scheduler=scheduler)
    marbles.advance_to(20)
    assert got[-1] == End("stop")
    page_after(got)


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-c|", lookup=PIECES, demand=True)
    recording = marbles.subscribe(source.pipe(ops.markdown_to_html()))
    marbles.advance_to(9)
    assert recording.chunks == [Html(0, "<p>one</p>\n")]


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b c", by="word", delay=0.03).stream("Hi")
        async with no_leaks():
            html = stream.pipe(ops.markdown_to_html())
            return [chunk async for chunk in to_async(html)]

    chunks = [chunk for chunk in run_virtual(main()) if type(chunk) is Html]
    assert [chunk.html for chunk in chunks] == [
        "<p>a</p>\n",
        "<p>a b</p>\n",
        "<p>a b c</p>\n",
    ]


@settings(max_examples=draws(300))
@given(cut_texts(MARKDOWN))
def test_the_page_does_not_depend_on_the_cuts(
    cut: tuple[str, list[str]],
) -> None:
    text, pieces = cut
    page = page_after(updates(list(pieces)))
    assert "".join(page) == Markdown().render(text)
    assert page == page_after(updates([text]))


@settings(max_examples=draws(100))
@given(cut_texts(MARKDOWN), st.integers(20, 200))
def test_where_a_long_block_is_cut_does_not_depend_on_the_cuts(
    cut: tuple[str, list[str]], most: int
) -> None:
    text, pieces = cut
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_markdown_to_html, "_MOST", most)
        page = page_after(updates([text]))
        assert page_after(updates(list(pieces))) == page
        assert page_after(updates(list(text))) == page


@given(MARKDOWN.filter(lambda text: "]" not in text and "<" not in text))
def test_apart_from_the_differences_it_is_commonmark(text: str) -> None:
    plain = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    assert html_of(text) == plain.render(text)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_an_invalid_time_is_rejected_at_the_call(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be a finite number above 0 "):
        ops.markdown_to_html(seconds=seconds)


@pytest.mark.parametrize("seconds", [True, "1", None])
def test_a_time_that_is_not_a_number_is_rejected(seconds: Any) -> None:
    with pytest.raises(TypeError, match="seconds must be "):
        ops.markdown_to_html(seconds=seconds)
